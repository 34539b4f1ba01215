"""Networks of timm as backbones, against timm's own forward pass, its features and its learning rates."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from baselines.backbones import Backbone
from baselines.backbones.timm_network import TimmNetwork, colours, downloaded_weights

timm = pytest.importorskip("timm")
PX = 96


def built(network: str, image_px: int = PX, in_channels: int = 3, num_classes: int = 7, **options: Any) -> Backbone:
    torch.manual_seed(1)
    owner = TimmNetwork(**options)
    return owner.build(network, num_classes=num_classes, image_px=image_px, in_channels=in_channels, width=1.0)


def timm_s(network: str, num_classes: int = 7, **options: Any) -> Any:
    torch.manual_seed(1)
    return timm.create_model(network, num_classes=num_classes, **options)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of test_resnet with 5 classes, whose statistics are those of no fresh network."""
    file, model = tmp_path_factory.mktemp("weights") / "resnet.pth", timm_s("test_resnet", num_classes=5).train()
    model(torch.randn(4, 3, PX, PX))
    torch.save({"state_dict": model.state_dict()}, file)
    return file


@pytest.mark.parametrize("network", ["test_resnet", "test_efficientnet", "test_convnext"])
def test_stages_are_timm_s_features_and_all_of_it_is_timm_s_network(network):
    backbone, model, x_BCHW = built(network).eval(), timm_s(network).eval(), torch.randn(2, 3, PX, PX)
    torch.manual_seed(1)
    listed = timm.create_model(network, features_only=True).eval()
    for mine, theirs in zip(backbone.parameters(), listed.parameters(), strict=False):
        theirs.data = mine.data  # in the same order, up to where the features end
    with torch.inference_mode():
        assert torch.equal(backbone(x_BCHW), model(x_BCHW))
        for number, expected in enumerate(listed(x_BCHW), start=1):
            assert torch.equal(backbone.features(x_BCHW, stop=number), expected)
            assert backbone.map_shape(number, PX) == tuple(expected.shape[1:3])
    assert number == len(backbone.stages)


def test_a_network_whose_maps_do_not_follow_one_another_has_no_stages():
    backbone, model, x_BCHW = (
        built("test_vit").eval(),
        timm_s("test_vit", img_size=PX).eval(),
        torch.randn(2, 3, PX, PX),
    )
    assert len(backbone.stages) == 0
    with torch.inference_mode():
        assert torch.equal(backbone(x_BCHW), model(x_BCHW))


@pytest.mark.parametrize("network", ["test_resnet", "test_vit"])
def test_layers_learn_at_the_rates_that_timm_gives_them(network):
    backbone, size = built(network, lr_decay=0.7), {"img_size": PX} if network == "test_vit" else {}
    groups = pytest.importorskip("timm.optim").param_groups_layer_decay(timm_s(network, **size), layer_decay=0.7)
    scales = sorted(group["lr_scale"] for group in groups for _ in group["params"])
    assert len(set(scales)) > 4
    found = {name: backbone.lr_factors[name] for name, _ in backbone.named_parameters()}
    assert sorted(found.values()) == pytest.approx(scales)
    assert {value for name, value in found.items() if name in dict(backbone.head.named_parameters(prefix="head"))} >= {
        1.0
    }
    assert built(network).lr_factors == {}


@pytest.mark.parametrize("network", ["test_resnet", "test_efficientnet"])
def test_what_is_frozen_stays_and_so_do_its_statistics(network):
    backbone = built(network, frozen=True)
    state = {key: value.clone() for key, value in backbone.state_dict().items()}
    optimiser = torch.optim.SGD([each for each in backbone.parameters() if each.requires_grad], lr=1.0)
    backbone.train()(torch.randn(3, 3, PX, PX)).square().sum().backward()
    optimiser.step()
    changed = {key for key, value in backbone.state_dict().items() if not torch.equal(value, state[key])}
    last = [name for name, module in backbone.named_modules() if isinstance(module, nn.Linear)][-1]
    assert changed == {f"{last}.weight", f"{last}.bias"}


def test_weights_are_the_file_s_and_the_classifier_is_new(weights):
    state, backbone = torch.load(weights, weights_only=True)["state_dict"], built("test_resnet", weights=str(weights))
    model = timm_s("test_resnet").eval()
    model.load_state_dict({key: value for key, value in state.items() if not key.startswith("fc.")}, strict=False)
    x_BCHW = torch.randn(2, 3, PX, PX)
    with torch.inference_mode():
        assert torch.equal(backbone.eval().features(x_BCHW), model.forward_features(x_BCHW))
        assert backbone(x_BCHW).shape == (2, 7)
    again = built("test_resnet", weights=str(weights))
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in backbone.state_dict().items())


def test_grey_images_are_seen_as_coloured_ones_of_equal_channels(weights):
    grey_B1HW = torch.randn(2, 1, PX, PX)
    grey, coloured = (built("test_resnet", in_channels=n, weights=str(weights)).eval() for n in (1, 3))
    with torch.inference_mode():
        expected = coloured.features(grey_B1HW.expand(-1, 3, -1, -1))
        torch.testing.assert_close(grey.features(grey_B1HW), expected, rtol=1e-4, atol=1e-4)
    assert [each.tolist() for each in colours("resnet18", 1)] == [
        pytest.approx([(0.485 + 0.456 + 0.406) / 3]),
        pytest.approx([(0.229 + 0.224 + 0.225) / 3]),
    ]


@pytest.mark.parametrize(
    ("network", "image_px", "message"),
    [
        ("test_vit", 100, r"^backbone timm:test_vit cannot be trained on these \(.*patch size.*\); take another size$"),
        ("test_resnet", 32, "one image, as the last of an epoch may be, comes to one value, which it cannot normalise"),
    ],
)
def test_a_size_that_it_cannot_take_is_refused(network, image_px, message):
    with pytest.raises(ValueError, match=message):
        built(network, image_px=image_px)


def test_another_width_is_refused():
    with pytest.raises(ValueError, match=r"^width: 2 does not go with timm:test_resnet"):
        TimmNetwork().build("test_resnet", num_classes=7, image_px=PX, in_channels=3, width=2.0)


@pytest.mark.parametrize("content", ["other", "pickle", "noise", "half"])
def test_other_files_are_refused_in_one_line(content, weights, tmp_path):
    file = tmp_path / "weights.pth"
    match content:
        case "other":
            torch.save(timm_s("test_vit").state_dict(), file)
        case "pickle":
            torch.save({"state_dict": nn.Linear(1, 1), "path": tmp_path}, file)
        case "noise":
            file.write_bytes(bytes(range(256)))
        case "half":
            file.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"^weights: the file's are not those of timm:test_resnet \([^\n]{1,170}\)$"):
        built("test_resnet", weights=str(file))


def test_what_timm_has_downloaded_is_found_and_nothing_is_fetched(tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("socket.socket", None)  # whoever opens a connection ends here
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch"))
    assert downloaded_weights("test_resnet") is None
    config = timm.get_pretrained_cfg("resnet18")
    by_torch = tmp_path / "torch/checkpoints" / config.url.rpartition("/")[2]
    by_torch.parent.mkdir(parents=True)
    by_torch.touch()
    assert downloaded_weights("resnet18") == by_torch
    repository = tmp_path / "hub" / f"models--{config.hf_hub_id.replace('/', '--')}"
    by_hub = repository / "snapshots" / ("0" * 40) / "model.safetensors"
    by_hub.parent.mkdir(parents=True)
    by_hub.touch()
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0" * 40)
    assert downloaded_weights("resnet18") == by_hub
