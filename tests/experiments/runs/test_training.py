"""The training loop: what it optimises, what it may not depend on, and how it stops."""

import copy
import dataclasses
import math
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from baselines.policies import Warp
from baselines.policies.flip_crop import FlipCrop
from experiments.images.draws import uniform
from experiments.images.poses import affine_pose, parse_pose
from experiments.networks.network import Batch, Network
from experiments.networks.variants import assemble
from experiments.runs import training
from experiments.runs.evaluation import Scores
from experiments.runs.images import DeviceImages
from experiments.runs.schedule import lr_share
from experiments.runs.training import Row, should_prune
from ledger.config import Protocol, RunConfig, num_steps
from stn.affine import from_parts
from tests.support.networks import build, same, some_images, train_on

PROTOCOL = Protocol(epochs=3, batch_size=16, precision="fp32", device="cpu")
SGD = Protocol(
    epochs=3, batch_size=20, optimiser="sgd", momentum=0.9, schedule="constant", averaging=False, label_smoothing=0,
    precision="fp32",
)  # fmt: skip


def carry_out(
    name: str, *, images: DeviceImages | None = None, protocol: Protocol = PROTOCOL, **settings: Any
) -> tuple[str, Network, list[Row]]:
    """Status, trained network and history of a small run."""
    return train_on(images or some_images(), name, protocol, **settings)


def parameters_of(network: Network) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in network.named_parameters()}


def numbered_images() -> DeviceImages:
    """Images whose first pixel says which they are."""
    images = some_images()
    images.pixels_NHWC[:, 0, 0, 0] = torch.arange(40)
    return images


class Spy:
    """Changes nothing, but sees every image's draws; images are told apart by their first pixel."""

    num_draws: ClassVar[int] = 6

    def __init__(self) -> None:
        self.seen: list[tuple[int, tuple[float, ...]]] = []
        self.batches: list[int] = []

    def draw(self, u_BK: Tensor, image_px: int) -> dict[str, Tensor]:
        assert image_px == 32
        return {"u": u_BK}

    def apply(self, x_BCHW: Tensor, params: dict[str, Tensor], warp: Warp) -> Tensor:
        images = (x_BCHW[:, 0, 0, 0] * 255).round().int().tolist()
        self.seen += [(image, tuple(u)) for image, u in zip(images, params["u"].tolist(), strict=True)]
        self.batches.append(len(x_BCHW))
        return x_BCHW


class Poison:
    """Shows images that are not numbers in one step of the run, and keeps the parameters of that moment."""

    num_draws: ClassVar[int] = 0

    def __init__(self, network: Network, bad_step: int, value: float) -> None:
        self.network, self.bad_step, self.value = network, bad_step, value
        self.step = 0
        self.before: dict[str, Tensor] = {}

    def draw(self, u_BK: Tensor, image_px: int) -> dict[str, Tensor]:
        return {}

    def apply(self, x_BCHW: Tensor, params: dict[str, Tensor], warp: Warp) -> Tensor:
        self.step += 1
        if self.step != self.bad_step:
            return x_BCHW
        self.before = parameters_of(self.network)
        return torch.full_like(x_BCHW, self.value)


@given(st.integers(1, 500), st.integers(1, 128), st.integers(1, 20))
def test_steps_are_counted_as_batches_are_cut(num_images, batch_size, epochs):
    assert num_steps(num_images, batch_size, epochs) == epochs * len(torch.arange(num_images).split(batch_size))


def test_every_epoch_shows_every_image_once_in_another_order():
    images = numbered_images()
    spy = Spy()
    assert carry_out("cnn@lenet", images=images, policy=spy)[0] == "completed"
    assert spy.batches == [16, 16, 8] * 3
    epochs = [[image for image, _ in spy.seen[start : start + 40]] for start in (0, 40, 80)]
    assert all(sorted(epoch) == list(range(40)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert len({u for _, u in spy.seen}) == 120  # each image is drawn for anew in each epoch


def test_draws_belong_to_the_image_not_to_its_batch():
    images = numbered_images()
    spies = []
    for batch_size in (7, 40):
        spies.append(Spy())
        protocol = Protocol(epochs=1, batch_size=batch_size, precision="fp32")
        carry_out("cnn@lenet", images=images, policy=spies[-1], protocol=protocol)
    draws = uniform(torch.arange(40), Spy.num_draws, seed=0, epoch=1, purpose="augment")
    assert dict(spies[0].seen) == dict(spies[1].seen) == dict(enumerate(map(tuple, draws.tolist())))


def test_alternating_numbers_are_turned_over_in_every_later_epoch():
    images, spy = numbered_images(), Spy()
    spy.num_alternating = 2  # type: ignore[attr-defined]
    assert carry_out("cnn@lenet", images=images, policy=spy)[0] == "completed"
    epochs = [dict(spy.seen[start : start + 40]) for start in (0, 40, 80)]
    drawn = uniform(torch.arange(40), Spy.num_draws, seed=0, epoch=1, purpose="augment").tolist()
    for image in range(40):
        first, second, third = (epoch[image] for epoch in epochs)
        assert list(first) == drawn[image]
        assert third[-2:] == pytest.approx(first[-2:], abs=1e-6)
        assert second[-2:] == pytest.approx([(u + 0.5) % 1 for u in first[-2:]], abs=1e-6)
        assert not {*first[:-2]} & {*second[:-2]} and not {*first[:-2]} & {*third[:-2]}


def test_flip_crop_mirrors_each_image_in_every_other_epoch():
    """Images of a single bright column, which nothing else moves to the other half."""
    images, policy = some_images(), FlipCrop(padding_px=0, mirror="alternating")
    images.pixels_NHWC[:] = 0
    images.pixels_NHWC[:, :, 3] = torch.arange(40, dtype=torch.uint8)[:, None, None] + 1
    shown: list[dict[int, bool]] = [{}, {}, {}]
    network = build("cnn@lenet")
    forward = network.logits_and_penalty

    def watched(batch: Batch) -> tuple[Tensor, Tensor | None]:
        epoch = shown[round(batch.progress * 9) // 3]
        for x_CHW in batch.raw_BCHW:
            place = int(x_CHW[0, 0].argmax())
            epoch[round(x_CHW.max().item() * 255)] = {3: False, 28: True}[place]
        return forward(batch)

    network.logits_and_penalty = watched  # type: ignore[method-assign]
    assert carry_out("cnn@lenet", images=images, policy=policy, network=network)[0] == "completed"
    first, second, third = shown
    assert first.keys() == set(range(1, 41)) and first == third
    assert second == {image: not mirrored for image, mirrored in first.items()}
    assert 10 < sum(first.values()) < 30


def test_a_network_is_given_the_poses_draws_and_classes_of_its_images_and_how_far_training_is():
    images = numbered_images()
    poses = affine_pose(from_parts(angle_rad_B=torch.zeros(40), shift_B2=torch.arange(80.0).view(40, 2)))
    images = dataclasses.replace(images, true_poses=poses)
    network, batches = build("stn_random@lenet"), []
    forward = network.logits_and_penalty
    network.logits_and_penalty = lambda batch: (batches.append(batch), forward(batch))[1]  # type: ignore[method-assign,func-returns-value]
    assert carry_out("stn_random@lenet", images=images, network=network)[0] == "completed"
    assert [batch.progress for batch in batches] == pytest.approx([step / 9 for step in range(9)])
    for step, batch in enumerate(batches):
        index_B = (batch.raw_BCHW[:, 0, 0, 0] * 255).round().long()
        assert torch.equal(batch.poses.theta_N33, poses.theta_N33[index_B])
        draws = uniform(index_B, 4, seed=0, epoch=step // 3 + 1, purpose="model")
        assert torch.equal(batch.u_BK, draws)
        assert batch.labels_B is not None and torch.equal(batch.labels_B, images.labels_N[index_B])


def test_a_penalty_steers_but_is_no_part_of_the_loss_that_is_told():
    """Over an epoch of one batch: both runs have the same start."""
    poses = parse_pose("R").draw(torch.rand(40, 4), 32)
    images = dataclasses.replace(some_images(), true_poses=poses)
    protocol = Protocol(epochs=1, batch_size=40, precision="fp32")
    (_, plain, plain_rows), (_, told, told_rows) = (
        carry_out(name, images=images, protocol=protocol) for name in ("stn_affine", "stn_affine:supervision=1")
    )
    assert plain_rows == told_rows
    assert same(plain.backbone.state_dict(), told.backbone.state_dict())
    assert not same(plain.state_dict(), told.state_dict())


def test_history_has_a_row_for_each_epoch():
    _, _, rows = carry_out("cnn", val_images=some_images(20, seed=1))
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert all(list(row) == ["epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy"] for row in rows)
    assert all(isinstance(value, float) and math.isfinite(value) for row in rows for value in list(row.values())[1:])
    # Nine steps; the rate is that of each epoch's last one, of the backbone's filters.
    rates = [0.02 * lr_share(PROTOCOL.schedule, step, 9) for step in (2, 5, 8)]
    assert [row["lr"] for row in rows] == pytest.approx(rates)
    without_val = carry_out("cnn")[2]
    assert all(row["val_loss"] is None and row["val_accuracy"] is None for row in without_val)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_the_loss_is_cross_entropy_with_smoothed_labels(smoothing):
    """Over an epoch of one batch: that of the start weights."""
    images = some_images()
    network = build("cnn").train()
    with torch.no_grad():
        logits = network(Batch.of(images.raw(torch.arange(40)))).double()
    log_p = logits - logits.exp().sum(1, keepdim=True).log()
    targets = torch.full_like(log_p, smoothing / 10)
    targets[torch.arange(40), images.labels_N] += 1 - smoothing
    protocol = Protocol(epochs=1, batch_size=40, label_smoothing=smoothing, precision="fp32")
    _, _, rows = carry_out("cnn", images=images, protocol=protocol)
    assert rows[0]["train_loss"] == pytest.approx(-(targets * log_p).sum(1).mean().item(), rel=1e-5)
    assert rows[0]["train_accuracy"] == pytest.approx((logits.argmax(1) == images.labels_N).float().mean().item())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_balanced_weights_make_the_loss_the_mean_of_the_classes_means(smoothing: float) -> None:
    """Over an epoch of one batch: that of the start weights, of 30, 7, 2 and 1 images of four of the classes."""
    images = some_images()
    images.labels_N[:] = torch.tensor([0] * 30 + [3] * 7 + [4] * 2 + [9])
    with torch.no_grad():
        logits = build("cnn").train()(Batch.of(images.raw(torch.arange(40)))).double()
    log_p = logits.log_softmax(1)
    weight_X = torch.zeros(10, dtype=torch.float64)
    weight_X[[0, 3, 4, 9]] = 40 / 4 / torch.tensor([30.0, 7, 2, 1], dtype=torch.float64)
    own_N = (1 - smoothing) * log_p[torch.arange(40), images.labels_N] + smoothing * log_p.mean(1)
    loss_N = -weight_X[images.labels_N] * own_N
    protocol = Protocol(epochs=1, batch_size=40, label_smoothing=smoothing, precision="fp32", class_weights="balanced")
    _, _, rows = carry_out("cnn", images=images, protocol=protocol)
    assert rows[0]["train_loss"] == pytest.approx(loss_N.mean().item(), rel=1e-5)
    means = [-own_N[images.labels_N == k].mean() for k in (0, 3, 4, 9)]
    assert rows[0]["train_loss"] == pytest.approx(sum(means).item() / 4, rel=1e-5)
    assert rows[0]["train_loss"] != pytest.approx(
        carry_out("cnn", images=images, protocol=dataclasses.replace(protocol, class_weights="none"))[2][0][
            "train_loss"
        ]
    )


def test_equal_classes_are_trained_on_alike_with_and_without_weights() -> None:
    images = some_images()
    images.labels_N[:] = torch.arange(40) % 4
    weighted = dataclasses.replace(PROTOCOL, class_weights="balanced", label_smoothing=0.0)
    rows, plain = (
        carry_out("cnn", images=images, protocol=protocol)[2]
        for protocol in (weighted, dataclasses.replace(weighted, class_weights="none"))
    )
    assert [row["train_loss"] for row in rows] == pytest.approx([row["train_loss"] for row in plain], rel=1e-3)


def test_steps_are_those_of_sgd_with_nesterov_momentum():
    """Three steps on the whole set, written out."""
    images = some_images(20)
    start = assemble(RunConfig(variant="cnn@cnn4"), 10, torch.full((3,), 0.5), torch.full((3,), 0.25))
    network = copy.deepcopy(start).train()
    speed = {name: torch.zeros_like(p) for name, p in network.named_parameters()}
    for _ in range(3):
        network.zero_grad()
        F.cross_entropy(network(Batch.of(images.raw(torch.arange(20)))), images.labels_N).backward()
        with torch.no_grad():
            for name, p in network.named_parameters():
                assert p.grad is not None
                slope = p.grad + (5e-4 * p if p.ndim > 1 else 0)
                speed[name] = 0.9 * speed[name] + slope
                p.sub_(0.02 * (slope + 0.9 * speed[name]))
    trained = carry_out("cnn@cnn4", images=images, network=start, protocol=SGD)[1]
    for name, p in trained.named_parameters():
        torch.testing.assert_close(p, dict(network.named_parameters())[name], atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("name", ["stn_affine@lenet+affine", "cnn+flip_crop"])
def test_the_seed_decides_everything(name):
    """Dropout too, whatever was drawn before the run."""
    val_images = some_images(20, seed=1)
    _, first, first_rows = carry_out(name, val_images=val_images, seed=3)
    torch.manual_seed(12345)
    _, again, again_rows = carry_out(name, val_images=val_images, seed=3)
    assert same(first.state_dict(), again.state_dict())
    assert first_rows == again_rows
    _, other, _ = carry_out(name, val_images=val_images, seed=4)
    assert not same(first.state_dict(), other.state_dict())


@pytest.mark.parametrize("name", ["cnn", "stn_affine@lenet+affine"])
def test_validation_has_no_say_in_training(name):
    with_val, without = (carry_out(name, val_images=val)[1] for val in (some_images(20, seed=1), None))
    assert same(with_val.state_dict(), without.state_dict())


def test_the_seed_decides_the_order_even_of_the_same_start():
    start = build("cnn")
    ends = [carry_out("cnn", network=copy.deepcopy(start), seed=seed)[1].state_dict() for seed in (0, 1)]
    assert not same(*ends)


def test_bf16_is_near_to_fp32():
    losses = [
        carry_out("cnn", protocol=Protocol(epochs=2, batch_size=20, precision=precision))[2][0]["train_loss"]
        for precision in ("fp32", "bf16")
    ]
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.parametrize("name", ["cnn", "stn_affine@lenet"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("bad_step", [1, 2, 4, 9])
def test_no_step_is_taken_on_a_loss_that_is_no_number_or_after_it(name, value, bad_step):
    network = build(name)
    poison = Poison(network, bad_step, value)
    protocol = dataclasses.replace(PROTOCOL, averaging=False)
    status, _, rows = carry_out(name, network=network, policy=poison, protocol=protocol)
    assert status == "diverged"
    assert poison.before
    assert same(parameters_of(network), poison.before)
    assert all(p.isfinite().all() for p in network.parameters())
    # Three steps an epoch; whole epochs before the bad one are in the history, none after.
    assert [row["epoch"] for row in rows] == list(range(1, (bad_step - 1) // 3 + 1))
    assert poison.step == 3 * ((bad_step - 1) // 3 + 1)


@pytest.mark.parametrize("name", ["cnn", "stn_affine@lenet"])
def test_averages_of_a_run_that_diverged_are_of_the_weights_before(name):
    """The loss of the fourth of nine steps is no number, and the fifth step is followed by an average."""
    network = build(name)
    start = parameters_of(network)
    poison = Poison(network, 4, math.nan)
    protocol = dataclasses.replace(PROTOCOL, averaging=True)
    assert carry_out(name, network=network, policy=poison, protocol=protocol)[0] == "diverged"
    own_share = 1 - 0.95**5 * (5 / 9) ** 3
    for parameter_name, value in parameters_of(network).items():
        expected = own_share * poison.before[parameter_name] + (1 - own_share) * start[parameter_name]
        torch.testing.assert_close(value, expected)


def test_an_absurd_learning_rate_diverges():
    status, _, rows = carry_out("cnn@lenet", lr=1e30)
    assert status == "diverged"
    assert rows == []


def test_a_validation_loss_that_is_no_number_is_divergence(monkeypatch):
    monkeypatch.setattr(training, "evaluate", lambda *_: Scores(0.1, math.nan, 20, [0.1]))
    status, _, rows = carry_out("cnn@lenet", val_images=some_images(20))
    assert status == "diverged"
    assert rows == []


@pytest.mark.parametrize(
    ("epoch", "accuracy", "prune_below", "pruned"),
    [
        (1, 0.3, (), False),
        (1, 0.3, (0.3,), False),
        (1, 0.3, (0.31,), True),
        (2, 0.3, (0.31,), False),
        (2, 0.3, (0.0, 0.31), True),
        (1, 0.0, (0.0,), False),
        (1, None, (0.1,), True),
    ],
)
def test_a_run_stops_under_the_bar_of_its_epoch(epoch, accuracy, prune_below, pruned):
    row: Row = {"epoch": epoch, "lr": 0.1, "val_accuracy": accuracy}
    assert should_prune(row, prune_below) is pruned


@pytest.mark.parametrize(
    ("prune_below", "status", "epochs"),
    [
        ((1.1,), "pruned", 1),
        ((0.0, 1.1), "pruned", 2),
        ((0.0, 0.0, 1.1), "completed", 3),  # nothing is saved by stopping after the last epoch
        ((0.0, 0.0, 0.0, 1.1), "completed", 3),
    ],
)
def test_a_pruned_run_keeps_the_epochs_it_had(prune_below, status, epochs):
    val_images = some_images(20, seed=1)
    ended, _, rows = carry_out("cnn@lenet", val_images=val_images, prune_below=prune_below)
    assert ended == status
    assert len(rows) == epochs
    # It costs the run nothing to be watched.
    assert rows == carry_out("cnn@lenet", val_images=val_images)[2][:epochs]
