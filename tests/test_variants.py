"""The contract of models and backbones, over every combination that is registered, and the names of variants."""

import copy
import itertools
from functools import lru_cache

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from baselines.backbones import BACKBONES
from baselines.policies import POLICIES
from experiments.config import Optim, Protocol, RunConfig
from experiments.errors import UserError
from experiments.evaluation import evaluate
from experiments.images import DeviceImages, channel_statistics
from experiments.models import MODELS
from experiments.models.cnn_matched import count_parameters
from experiments.training import Row, train
from experiments.variants import (
    Network,
    Variant,
    build_model_recipe,
    build_network,
    build_policy,
    hyperparameters,
    parse_variant,
)

NETWORKS = [f"{model}@{backbone}" for model in MODELS for backbone in BACKBONES]
every_network = pytest.mark.parametrize("name", NETWORKS)
every_backbone = pytest.mark.parametrize("backbone", list(BACKBONES))


@pytest.fixture(autouse=True)
def same_numbers_in_one_thread() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


def build(
    name: str, seed: int = 0, num_classes: int = 10, image_px: int = 32, values: dict[str, float] | None = None
) -> Network:
    variant = parse_variant(name)
    return build_network(
        variant,
        build_model_recipe(variant, values or {}),
        num_classes=num_classes,
        image_px=image_px,
        mean_C=torch.tensor([0.4, 0.5, 0.6]),
        std_C=torch.tensor([0.2, 0.25, 0.3]),
        seed=seed,
    )


@lru_cache
def built(name: str, seed: int = 0) -> Network:
    """Shared by the tests; only to look at."""
    return build(name, seed).eval()


def num_parameters(name: str) -> int:
    with torch.device("meta"):
        return count_parameters(build(name))


class TestContract:
    @every_network
    @pytest.mark.parametrize("num", [1, 2, 7])
    def test_images_become_logits(self, name, num):
        with torch.no_grad():
            logits = built(name)(torch.rand(num, 3, 32, 32))
        assert logits.shape == (num, 10)
        assert logits.isfinite().all()

    @every_network
    def test_every_parameter_gets_a_finite_gradient(self, name):
        network = copy.deepcopy(built(name)).train()
        F.cross_entropy(network(torch.rand(7, 3, 32, 32)), torch.arange(7)).backward()
        for parameter_name, parameter in network.named_parameters():
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name
        assert network.parts["backbone"].training

    @every_network
    def test_the_seed_decides_the_start(self, name):
        state_before = torch.get_rng_state()
        start = built(name).state_dict()
        torch.rand(3)
        again = build(name).state_dict()
        assert list(start) == list(again)
        assert all(torch.equal(start[key], again[key]) for key in start)
        torch.set_rng_state(state_before)
        other = built(name, seed=1)
        for part_name, part in other.parts.items():
            same = [torch.equal(value, start[f"parts.{part_name}.{key}"]) for key, value in part.named_parameters()]
            assert not all(same), part_name

    @every_network
    def test_building_leaves_the_global_random_state_alone(self, name):
        state = torch.get_rng_state()
        with torch.device("meta"):
            build(name)
        assert torch.equal(torch.get_rng_state(), state)

    @every_network
    def test_weights_can_be_stored_and_loaded(self, name):
        network, other = built(name), copy.deepcopy(built(name, seed=1))
        x_BCHW = torch.rand(2, 3, 32, 32)
        with torch.no_grad():
            assert not torch.equal(other(x_BCHW), network(x_BCHW))
            other.load_state_dict(network.state_dict())
            assert torch.equal(other(x_BCHW), network(x_BCHW))

    @every_network
    def test_its_learning_rate_factors_name_its_parts(self, name):
        factors = build_model_recipe(parse_variant(name), {}).lr_factors()
        assert set(factors) <= set(built(name).parts)
        assert set(built(name).parts) <= {"transformer", "backbone"}

    @every_backbone
    @pytest.mark.parametrize("model", [model for model in MODELS if model != "cnn_matched"])  # which is wider
    def test_the_backbone_starts_the_same_in_every_model(self, model, backbone):
        plain, other = (built(f"{name}@{backbone}").parts["backbone"].state_dict() for name in ("cnn", model))
        assert all(torch.equal(plain[key], other[key]) for key in plain)

    @every_network
    def test_a_transformer_starts_as_the_identity(self, name):
        network, x_BCHW = built(name), torch.rand(4, 3, 32, 32)
        with torch.no_grad():
            torch.testing.assert_close(network.look(x_BCHW), x_BCHW, atol=1e-6, rtol=0)
            if network.has_transformer:
                plain = built(f"cnn@{parse_variant(name).backbone}")
                torch.testing.assert_close(network(x_BCHW), plain(x_BCHW), atol=1e-6, rtol=1e-6)

    @every_network
    def test_another_size_and_number_of_classes(self, name):
        network = build(name, num_classes=37, image_px=47).eval()
        with torch.no_grad():
            assert network(torch.rand(2, 3, 47, 47)).shape == (2, 37)

    @every_network
    def test_too_small_images_are_refused_and_the_smallest_allowed_ones_train(self, name):
        refused = []
        for image_px in itertools.count(8):
            try:
                with torch.device("meta"):
                    build(name, image_px=image_px)
                break
            except UserError as error:
                refused.append(str(error))
        assert refused
        for size, message in enumerate(refused, start=8):
            assert message.startswith("protocol.image_px: ")
            assert message.endswith(f" needs images of {image_px} px or more, got {size}")
        network = build(name, image_px=image_px).train()
        # One image, as the last batch of an epoch may be.
        assert network(torch.rand(1, 3, image_px, image_px)).shape == (1, 10)


class TestSizes:
    @pytest.mark.parametrize(
        ("name", "num"),
        [
            ("cnn@lenet", 31_340),
            ("stn_affine@lenet", 39_884),
            ("cnn", 243_146),
            ("stn_affine", 243_146 + 8_544),
            ("cnn@resnet18", 11_173_962),
            ("stn_affine@resnet18", 11_173_962 + 8_544),
        ],
    )
    def test_parameters_are_as_many_as_documented(self, name, num):
        assert num_parameters(name) == num

    @every_backbone
    def test_the_matched_cnn_is_as_large_as_the_transformer_s(self, backbone):
        plain, matched, target = (num_parameters(f"{m}@{backbone}") for m in ("cnn", "cnn_matched", "stn_affine"))
        assert abs(matched - target) <= abs(plain - target)
        assert matched == pytest.approx(target, rel=0.02)

    @every_backbone
    def test_no_width_matches_better(self, backbone):
        with torch.device("meta"):
            sizes = [
                count_parameters(BACKBONES[backbone](num_classes=10, image_px=32, in_channels=3, width=1 + step / 256))
                for step in range(0, 257, 1 if backbone != "resnet18" else 32)
            ]
        target, matched = num_parameters(f"stn_affine@{backbone}"), num_parameters(f"cnn_matched@{backbone}")
        assert abs(matched - target) <= min(abs(size - target) for size in sizes)

    @every_backbone
    def test_a_backbone_grows_with_its_width(self, backbone):
        with torch.device("meta"):
            sizes = [
                count_parameters(BACKBONES[backbone](num_classes=10, image_px=32, in_channels=3, width=width))
                for width in (0.01, 0.5, 1.0, 1.5, 2.0)
            ]
        assert sizes == sorted(set(sizes))


class TestNetwork:
    def test_pixels_are_normalised_by_channel(self):
        network, raw_BCHW = built("cnn"), torch.rand(2, 3, 8, 8)
        mean, std = (torch.tensor(v)[:, None, None] for v in ([0.4, 0.5, 0.6], [0.2, 0.25, 0.3]))
        torch.testing.assert_close(network.normalise(raw_BCHW), (raw_BCHW - mean) / std)

    def test_the_transformer_warps_raw_pixels_so_that_padding_is_black(self):
        network = build("stn_affine").eval()
        with torch.no_grad():
            network.get_parameter("parts.transformer.localisation.dense2.bias")[2] = 4.0
            assert not network.look(torch.rand(2, 3, 32, 32)).any()
            black = network.normalise(torch.zeros(2, 3, 32, 32))
            expected = network.parts["backbone"](black)
            torch.testing.assert_close(network(torch.rand(2, 3, 32, 32)), expected)


class TestNames:
    @given(st.sampled_from(list(MODELS)), st.sampled_from(list(BACKBONES)), st.sampled_from(list(POLICIES)))
    def test_a_name_is_read_as_it_is_written(self, model, backbone, policy):
        variant = Variant(model, backbone, policy)
        assert parse_variant(str(variant)) == variant
        assert parse_variant(f"{model}@{backbone}+{policy}") == variant

    def test_defaults_are_not_written(self):
        assert str(parse_variant("cnn@cnn+none")) == "cnn"
        assert str(parse_variant("stn_affine@lenet+affine")) == "stn_affine@lenet+affine"
        assert parse_variant("cnn") == Variant("cnn", "cnn", "none")

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("stn_afine", "variant: 'stn_afine' has the unknown model 'stn_afine'; did you mean 'stn_affine'?"),
            ("cnn@lenett", "variant: 'cnn@lenett' has the unknown backbone 'lenett'; did you mean 'lenet'?"),
            ("cnn+rotat", "variant: 'cnn+rotat' has the unknown policy 'rotat'; did you mean 'rotate'?"),
            ("", "variant: '' has the unknown model ''; known: "),
            ("cnn@", "variant: 'cnn@' has the unknown backbone ''; known: "),
            ("cnn+", "variant: 'cnn+' has the unknown policy ''; known: "),
            ("cnn+rotate@lenet", "has the unknown policy 'rotate@lenet'; did you mean"),
            ("cnn+rotate+affine", "has the unknown policy 'rotate+affine'; did you mean"),
            ("CNN", "has the unknown model 'CNN'; known: cnn, "),
        ],
    )
    def test_unknown_parts_are_named_with_the_nearest_known_one(self, name, message):
        with pytest.raises(UserError) as caught:
            parse_variant(name)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_hyperparameters_are_the_model_s_and_the_policy_s(self):
        assert hyperparameters(parse_variant("cnn")) == {}
        assert hyperparameters(parse_variant("stn_affine+rotate")) == {
            "model.loc_lr_factor": 0.1,
            "policy.max_deg": 15.0,
        }

    @pytest.mark.parametrize(("model", "policy"), list(itertools.product(MODELS, POLICIES)))
    def test_hyperparameters_can_be_given_back(self, model, policy):
        variant = Variant(model, "cnn", policy)
        values: dict[str, dict[str, float]] = {"model": {}, "policy": {}}
        for name, value in hyperparameters(variant).items():
            assert isinstance(value, int | float)
            part, _, field = name.partition(".")
            values[part][field] = value
        assert build_model_recipe(variant, values["model"]) == build_model_recipe(variant, {})
        assert build_policy(variant, values["policy"]) == build_policy(variant, {})

    def test_unknown_hyperparameters_are_refused(self):
        with pytest.raises(UserError) as caught:
            build_model_recipe(parse_variant("stn_affine"), {"loc_lr": 1.0})
        assert str(caught.value) == (
            "model.loc_lr: stn_affine has no such hyper-parameter; did you mean 'loc_lr_factor'?"
        )
        with pytest.raises(UserError, match=r"model\.loc_lr_factor: cnn has no such hyper-parameter; none are known"):
            build_model_recipe(parse_variant("cnn"), {"loc_lr_factor": 1.0})
        with pytest.raises(UserError, match=r"policy\.degrees: rotate has no such hyper-parameter; "):
            build_policy(parse_variant("cnn+rotate"), {"degrees": 1.0})

    def test_absurd_hyperparameters_are_refused(self):
        with pytest.raises(UserError, match=r"^model\.loc_lr_factor: -1\.0 is not a number of 0 or more$"):
            build_model_recipe(parse_variant("stn_affine"), {"loc_lr_factor": -1.0})
        with pytest.raises(UserError, match=r"^policy\.max_scale: 0\.5 is not a number of 1 or more$"):
            build_policy(parse_variant("cnn+affine"), {"max_scale": 0.5})


def easy_images(num: int) -> DeviceImages:
    """Noise over ten patterns of coloured squares."""
    labels_N = torch.arange(num) % 10
    squares_K44C = torch.rand(10, 4, 4, 3).repeat_interleave(8, 1).repeat_interleave(8, 2)
    pixels_NHWC = 0.6 * squares_K44C[labels_N] + 0.4 * torch.rand(num, 32, 32, 3)
    return DeviceImages((pixels_NHWC * 255).to(torch.uint8), labels_N)


class TestLearning:
    @pytest.mark.parametrize(
        ("name", "lr", "epochs"), [("cnn", 0.1, 4), ("stn_affine", 0.1, 4), ("stn_affine@lenet", 0.02, 15)]
    )
    def test_200_images_can_be_learnt(self, name, lr, epochs):
        images = easy_images(200)
        mean_C, std_C = channel_statistics(images)
        variant = parse_variant(name)
        recipe = build_model_recipe(variant, {})
        network = build_network(variant, recipe, num_classes=10, image_px=32, mean_C=mean_C, std_C=std_C, seed=0)
        start: dict[str, Tensor] = copy.deepcopy(network.state_dict())
        protocol = Protocol(epochs=epochs, batch_size=20, label_smoothing=0, precision="fp32", device="cpu")
        rows: list[Row] = []
        run = RunConfig(variant=name, protocol=protocol, optim=Optim(lr=lr))
        assert train(network, build_policy(variant, {}), images, None, run, recipe.lr_factors(), rows.append) == (
            "completed"
        )
        assert evaluate(network, images, "fp32").accuracy > 0.95
        first, last = rows[0]["train_loss"], rows[-1]["train_loss"]
        assert first is not None
        assert last is not None
        assert last < 0.25 * first
        moved = {key for key, value in network.state_dict().items() if not torch.equal(value, start[key])}
        assert {key for key, _ in network.named_parameters()} <= moved

    def test_a_transformer_that_may_not_learn_is_the_plain_backbone(self):
        """Bit for bit, dropout included: what separates the two variants is the transformer and nothing else."""
        images = easy_images(60)
        protocol = Protocol(epochs=2, batch_size=20, precision="fp32", device="cpu")
        states = []
        for name, values in (("cnn@lenet", {}), ("stn_affine@lenet", {"loc_lr_factor": 0.0})):
            variant = parse_variant(name)
            recipe = build_model_recipe(variant, values)
            network = build(name, values=values)
            run = RunConfig(variant=name, protocol=protocol, optim=Optim(lr=0.02))
            train(network, build_policy(variant, {}), images, None, run, recipe.lr_factors(), lambda row: None)
            states.append(network.parts["backbone"].state_dict())
        assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
