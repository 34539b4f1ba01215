"""What the benchmark says of each method: everything that is registered is there, and ratios are of its own figures."""

import importlib.util
import math
import re
from io import StringIO
from typing import Any

import pytest
import torch
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from baselines.policies import POLICIES
from benchmarks.counterparts import GIVEN_MAPS, kornia_transforms, torchvision_transforms, turns
from benchmarks.engine import new_network, prediction
from benchmarks.methods import BARE, Method, measure_methods, tables, workload_of
from benchmarks.report import print_methods
from benchmarks.workloads import QUICK, random_images
from experiments.networks.models import MODELS
from experiments.runs.costs import prediction_costs
from experiments.runs.evaluation import ask
from ledger.config import Protocol
from stn.sampler import warp

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def measured() -> tuple[dict[str, Any], str]:
    """The report of a quick look, and what was printed."""
    console = Console(file=StringIO(), width=80)
    report = measure_methods(torch.device("cpu"), Protocol(precision="fp32"), QUICK, console)
    print_methods(console, report)
    return report, console.file.getvalue()  # type: ignore[attr-defined]


def test_every_model_and_policy_is_timed(measured) -> None:
    report, printed = measured
    networks = [entry["variant"] for entry in report["networks"]]
    assert networks[0] == BARE and set(MODELS) <= set(networks)
    assert any(name.startswith("stn_affine:") for name in networks) and "cnn@p4cnn" in networks
    ours = {entry["policy"] for entry in report["policies"] if entry["side"] == "stn-bench"}
    assert ours == {GIVEN_MAPS, *POLICIES} - {"none"}
    assert all(name in printed for name in (*networks, *ours))
    predictions = [{"ms": each["predict_ms"], "rounds": each["predict_rounds"]} for each in report["networks"]]
    for entry in (*report["networks"], *predictions, *report["policies"]):
        assert math.isfinite(entry["ms"]) and entry["ms"] > 0 and len(entry["rounds"]) == report["num_rounds"]
    assert (report["networks"][0]["ratio"], report["networks"][0]["predict_ratio"]) == (1, 1)
    for entry in report["networks"]:
        figures = rf"[\d.]+ \({entry['ratio']:.2f}\) +[\d.]+ \({entry['predict_ratio']:.2f}\)"
        assert re.search(rf"{re.escape(entry['variant'])} +{entry['num_parameters']:,} +{figures}", printed)


def test_libraries_stand_beside_the_policies(measured) -> None:
    report, printed = measured
    beside = {entry["policy"] for entry in report["policies"] if entry["side"] == "torchvision"}
    assert beside == {GIVEN_MAPS, *POLICIES} - {"none", "posed"}  # it knows no poses
    installed = importlib.util.find_spec("kornia") is not None
    assert ("kornia is not installed: left out" in printed) is not installed
    assert bool(kornia_transforms()) is installed is (report["versions"]["kornia"] is not None)
    assert not [what for what in report["left_out"] if what.startswith("torchvision")]


@pytest.mark.parametrize("name", torchvision_transforms())
def test_a_counterpart_keeps_the_batch(name: str) -> None:
    torch.manual_seed(0)
    x_BCHW = torch.rand(4, 3, 32, 32)
    shown_BCHW = torchvision_transforms()[name](x_BCHW)
    assert shown_BCHW.shape == x_BCHW.shape
    assert shown_BCHW.isfinite().all()


def test_given_maps_are_turns() -> None:
    map_B23 = turns(3, torch.device("cpu"))
    x_BCHW = torch.rand(3, 1, 32, 32)
    torch.testing.assert_close(warp(x_BCHW, map_B23)[1], x_BCHW[1])  # the middle one is the identity
    torch.testing.assert_close(map_B23[:, :, :2] @ map_B23[:, :, :2].mT, torch.eye(2).expand(3, 2, 2))


@pytest.mark.parametrize("name", ["cnn", "cnn_tta", "stn_affine", "stn_probabilistic", "ti_pooling"])
def test_what_is_timed_as_a_prediction_is_what_a_run_computes_for_one(name: str) -> None:
    protocol, images = Protocol(precision="fp32", batch_size=4), random_images(4, torch.device("cpu"))
    workload = workload_of(name, protocol)
    network = new_network(workload, torch.device("cpu"))
    predict = prediction(workload, images)
    with FlopCounterMode(display=False) as counter:
        logits_BX = predict()
    assert counter.get_total_flops() == 4 * prediction_costs(network, 32)["predict_flops"]
    assert not logits_BX.requires_grad and torch.equal(predict(), logits_BX)
    answers = ask(network, images, "fp32")
    torch.testing.assert_close(logits_BX.softmax(1), answers.probability_NK)


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    rounds = {
        Method("network", BARE): [0.1, 0.2, 0.4],
        Method("prediction", BARE): [0.05, 0.1, 0.2],
        Method("network", "stn_affine"): [0.2, 0.3, 0.4],
        Method("prediction", "stn_affine"): [0.05, 0.4, 0.6],
        Method("policy", "rotate", "kornia"): [0.01, 0.04, 0.02],
    }
    found = tables(rounds, Protocol())
    assert [(entry["variant"], entry["ms"], entry["ratio"]) for entry in found["networks"]] == [
        (BARE, 200.0, 1.0),
        ("stn_affine", 300.0, 1.5),
    ]
    assert [(entry["predict_ms"], entry["predict_ratio"]) for entry in found["networks"]] == [(100.0, 1), (400.0, 3)]
    assert found["networks"][1]["predict_rounds"] == [50.0, 400.0, 600.0]
    assert found["networks"][1]["num_parameters"] > found["networks"][0]["num_parameters"] > 100_000
    (policy,) = found["policies"]
    assert (policy["policy"], policy["side"], policy["ms"], policy["ratio"]) == ("rotate", "kornia", 20.0, 0.1)
    assert policy["rounds"] == [10.0, 40.0, 20.0]
