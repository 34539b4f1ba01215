"""Every model learns, and makes whole runs."""

import copy
import dataclasses
from typing import Any, Literal

import numpy as np
import pytest
import torch

from experiments.images.tasks import Images, Task
from experiments.networks.models import MODELS
from experiments.networks.variants import parse_variant
from experiments.runs.evaluation import evaluate
from experiments.runs.images import to_device
from experiments.runs.run import Outcome, train_and_score, untrained_network
from experiments.runs.training import Row
from ledger.config import Optim, Protocol, RunConfig
from ledger.options import Value
from tests.support.networks import NETWORKS, built, easy_images, same, some_batch, train_on

THE_OTHERS = [
    (model, 0.25 if model == "deformable" else 0.5)  # slow
    for model in MODELS
    if model not in ("cnn", "stn_affine")
]


@pytest.mark.parametrize(
    ("name", "lr", "epochs"),
    [
        ("cnn@cnn:width=0.5", 0.1, 3),
        ("stn_affine@cnn:width=0.5", 0.1, 3),
        *(pytest.param(f"{model}@cnn:width={width}", 0.1, 3, marks=pytest.mark.long) for model, width in THE_OTHERS),
        pytest.param("cnn@p4cnn:width=0.5", 0.1, 3, marks=pytest.mark.long),
        ("cnn@fcn", 0.02, 3),
        ("stn_affine@lenet", 0.02, 10),
    ],
)
def test_200_images_can_be_learnt(name, lr, epochs):
    images, variant = easy_images(200), parse_variant(name)
    # fcn has no filters, and plans refuse Muon for it.
    optimiser: Literal["muon", "sgd"] = "sgd" if variant.backbone == "fcn" else "muon"
    protocol = Protocol(
        epochs=epochs, batch_size=20, label_smoothing=0, optimiser=optimiser, precision="fp32", device="cpu"
    )
    network = untrained_network(RunConfig(variant=name, protocol=protocol), images, 10)
    start = copy.deepcopy(network.state_dict())
    status, _, rows = train_on(images, name, protocol, network=network, lr=lr)
    assert status == "completed"
    # The first two move what they see at random, and so take longer; the third turns what it is asked about by an angle
    # that takes much longer to learn.
    bar, share = {"stn_random": (0.85, 0.5), "ti_cnn": (0.85, 0.5), "amr": (0.3, 0.9)}.get(variant.model, (0.95, 0.25))
    assert evaluate(network, images, "fp32").accuracy > bar
    first, last = rows[0]["train_loss"], rows[-1]["train_loss"]
    assert first is not None and last is not None and last < share * first
    moved = {key for key, value in network.state_dict().items() if not torch.equal(value, start[key])}
    assert {key for key, parameter in network.named_parameters() if parameter.requires_grad} <= moved


@pytest.mark.parametrize("model", ["stn_affine", "stn_tps", "stn_frozen"])
def test_a_transformer_that_may_not_learn_is_the_plain_backbone(model):
    """Bit for bit, dropout included: what separates the two variants is the transformer and nothing else."""
    images = easy_images(60)
    protocol = Protocol(epochs=2, batch_size=20, precision="fp32", device="cpu")
    still: dict[str, Value] = {} if model == "stn_frozen" else {"loc_lr_factor": 0.0}
    plain, transformer = (
        train_on(images, name, protocol, model=values)[1].backbone.state_dict()
        for name, values in (("cnn@lenet", {}), (f"{model}@lenet", still))
    )
    assert same(plain, transformer)


def noise(num: int, seed: int) -> Images:
    generator = np.random.default_rng(seed)
    return Images(
        pixels_NHWC=generator.integers(0, 256, (num, 32, 32, 3), dtype=np.uint8),
        labels_N=np.arange(num) % 3,
        theta_N23=np.tile(np.eye(2, 3, dtype=np.float32), (num, 1, 1)),
    )


PROTOCOL = Protocol(
    train_images=20, val_images=10, epochs=2, batch_size=10, precision="fp32", device="cpu", robustness="none"
)
TASK = Task("folder", "noise", ("a", "b", "c"), noise(40, 0), noise(12, 1), "0" * 64)


@pytest.mark.parametrize("name", [name for name in NETWORKS if "resnet18" not in name])
def test_a_whole_run_under_a_pose(name):
    """Training, scores, diagnosis and picture, as a worker makes them."""
    protocol = dataclasses.replace(PROTOCOL, epochs=1, precision="bf16")
    run = RunConfig(variant=name, stage="final", pose="R", protocol=protocol, optim=Optim(lr=0.01))
    outcome = Outcome()
    rows: list[Row] = []
    pool = to_device(TASK.train, run.pose, torch.device("cpu"), part="train")
    train_and_score(run, TASK, pool, outcome, rows.append)
    assert outcome.status == "completed"
    assert len(rows) == 1
    result: dict[str, Any] = outcome.result
    not_measured = ["rotation_accuracy", "corruption_accuracy", "worst_of_grid_accuracy"]
    nulls = [key for key, value in result.items() if value is None]
    assert nulls in (not_measured, [*not_measured, "transformer"])
    assert result["train_flops"] > 0
    with torch.no_grad():
        maps, seen_BCHW = built(name).maps(some_batch(name, 2)), built(name).look(some_batch(name, 2))
    assert (result["transformer"] is None) == (maps is None)
    assert ("transformer.png" in outcome.files) == (seen_BCHW is not None)
    if name == "oracle_unwarp":
        assert result["transformer"]["pose"]["angle_error_deg"] < 0.1
        assert result["transformer"]["pose"]["angle_r2"] > 0.999


@pytest.mark.parametrize("name", ["stn_random", "stn_rotation:consistency=1"])
def test_draws_of_a_model_are_the_same_in_every_run(name):
    run = RunConfig(variant=name, stage="final", pose="R", protocol=PROTOCOL, optim=Optim(lr=0.05))
    pool = to_device(TASK.train, run.pose, torch.device("cpu"), part="train")
    results: list[tuple[Any, ...]] = []
    for seed in (1, 1, 2):
        outcome = Outcome()
        torch.manual_seed(len(results))
        train_and_score(dataclasses.replace(run, seed=seed), TASK, pool, outcome, lambda row: None)
        results.append((outcome.result, outcome.history, outcome.files))
    assert results[0] == results[1]
    assert results[0][1] != results[2][1]
