"""The benchmark: it runs, its report holds every figure, and its two sides train the same thing. Nothing is timed."""

import json
import math
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.cli import main
from benchmarks.engine import new_network
from benchmarks.machine import thread_counts
from benchmarks.remote import Remote
from benchmarks.speed import Side, packed_counts, ratios
from benchmarks.usual_way import AUGMENTATIONS, PLAIN_NETWORKS, PilImages, PlainLeNet
from benchmarks.workloads import NUM_CLASSES, OLD_RECIPE, WORKLOADS, Workload, random_images
from experiments.machine.device import find_device
from experiments.networks.network import Batch, count_parameters
from ledger.config import Protocol

pytestmark = pytest.mark.long

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A quick benchmark's own, from the command line."""
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    assert main(["speed", "--quick", "--out", str(out)]) == 0
    assert [path.name for path in out.parent.iterdir()] == ["bench.json"]
    return json.loads(out.read_text())


def test_the_report_says_on_what_machine(report) -> None:
    machine = report["machine"]
    assert {"cpu", "cpu_capability", "device", "device_name", "cores", "system", "started"} <= set(machine)
    assert machine["versions"]["torch"] == torch.__version__.split("+")[0]
    assert report["quick"] is True
    assert report["load_average_before"] >= 0


def test_the_report_holds_all_matrix_products(report) -> None:
    device = torch.device(find_device("auto"))
    found = [(product["precision"], product["threads"]) for product in report["matrix_products"]]
    assert found == [(precision, threads) for threads in thread_counts(device) for precision in ("fp32", "bf16")]
    assert all(is_rate(product["gflops_per_s"]) for product in report["matrix_products"])


def test_the_report_holds_all_sides(report) -> None:
    device = torch.device(find_device("auto"))
    counts = thread_counts(device)
    expected = [(side, 1, threads) for threads in counts for side in ("bare step", "engine")]
    expected += [("engine, packed", count, counts[0]) for count in packed_counts(device)]
    for network in report["networks"]:
        usual, *others = network["rates"]
        assert (usual["side"], usual["processes"]) == ("usual way", 1)
        assert [(rate["side"], rate["processes"], rate["threads"]) for rate in others] == expected
        assert all(is_rate(rate["images_per_s"]) for rate in network["rates"])
        assert all(len(rate["rounds"]) == report["num_rounds"] for rate in network["rates"])


def test_the_report_holds_both_networks(report) -> None:
    tutorial, default = report["networks"]
    assert (tutorial["variant"], tutorial["batch_size"], tutorial["num_parameters"]) == ("stn_affine@lenet", 64, 39884)
    batch_size = Protocol().batch_size
    found = default["variant"], default["batch_size"], default["num_parameters"]
    assert found == ("cnn+flip_crop", batch_size, 126_520)
    assert {tutorial["precision"], default["precision"]} <= {"fp32", "bf16"}


def test_ratios_are_of_the_figures_beside_them(report) -> None:
    for network in report["networks"]:
        rates = {(r["side"], r["processes"], r["threads"]): r["images_per_s"] for r in network["rates"]}
        usual = network["rates"][0]["images_per_s"]
        for ratio in network["ratios"]:
            side, over = ratio["ratio"].split(" / ")
            shape = ratio["processes"], ratio["threads"]
            if over == "usual way":
                assert ratio["value"] == pytest.approx(rates[side, *shape] / usual, rel=1e-3)
            elif over == "bare step":
                assert ratio["value"] == pytest.approx(rates[side, *shape] / rates[over, *shape], rel=1e-3)
            else:
                assert is_rate(ratio["value"])


def test_every_target_has_its_ratio(report) -> None:
    most = max((1, *packed_counts(torch.device(find_device("auto")))))
    for network, workload in zip(report["networks"], WORKLOADS, strict=True):
        shown = {ratio["ratio"]: ratio["target"] for ratio in network["ratios"] if ratio["target"] is not None}
        assert shown == {name: at for name, at in workload.targets.items() if most > 1 or "packed" not in name}


def is_rate(value: float) -> bool:
    return math.isfinite(value) and value > 0


def test_ratios_compare_rounds_and_like_with_like() -> None:
    rates = {
        Side("usual way", 1, 2): [1e3, 2e3],
        Side("bare step", 1, 1): [4e3, 4e3],
        Side("engine", 1, 1): [2e3, 2e3],
        Side("engine, packed", 3, 1): [5e3, 7e3],
    }
    matrix_rates = {
        (precision, threads): [10.0 * threads, 10.0 * threads] for precision in ("fp32", "bf16") for threads in (1, 2)
    }
    found = {(name, side.processes): values for name, side, values in ratios(rates, matrix_rates, 1e6)}
    assert found == {
        ("engine / usual way", 1): [2.0, 1.0],
        ("engine, packed / usual way", 3): [5.0, 3.5],
        ("engine / bare step", 1): [0.5, 0.5],
        ("engine / fp32 matrix rate", 1): [pytest.approx(0.2)] * 2,
        ("engine, packed / fp32 matrix rate", 3): [pytest.approx(0.25), pytest.approx(0.35)],
        ("engine / bf16 matrix rate", 1): [pytest.approx(0.2)] * 2,
        ("engine, packed / bf16 matrix rate", 3): [pytest.approx(0.25), pytest.approx(0.35)],
    }


def plain_copy(workload: Workload, network: nn.Module) -> nn.Module:
    """The usual way's network with the engine's weights and buffers."""
    plain = PLAIN_NETWORKS[workload.variant](NUM_CLASSES)
    state = {name: value for name, value in network.state_dict().items() if not name.startswith(("gain", "offset"))}
    looks_first = sorted(state, key=lambda name: not name.startswith("localisation."))  # as the plain network does
    plain.load_state_dict(dict(zip(plain.state_dict(), map(state.get, looks_first), strict=True)))
    if isinstance(plain, PlainLeNet):
        with torch.no_grad():  # the engine's localisation network predicts the difference from the identity
            plain.theta.bias.add_(torch.eye(2, 3).flatten())
    return plain


@pytest.mark.parametrize("workload", [*WORKLOADS, OLD_RECIPE], ids=lambda workload: workload.variant)
def test_both_sides_train_the_same_network(workload: Workload) -> None:
    network = new_network(workload, CPU).eval()
    plain = plain_copy(workload, network).eval()
    assert count_parameters(plain) == count_parameters(network)
    images = random_images(8, CPU)
    seen_BCHW = torch.stack([x_CHW for x_CHW, _ in (PilImages(images, [])[i] for i in range(8))])
    torch.testing.assert_close(plain(seen_BCHW), network(Batch.of(images.raw(torch.arange(8)))), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("workload", [*WORKLOADS, OLD_RECIPE], ids=lambda workload: workload.variant)
def test_gradients_reach_every_parameter_of_the_plain_network(workload: Workload) -> None:
    plain = PLAIN_NETWORKS[workload.variant](NUM_CLASSES)
    if isinstance(plain, PlainLeNet):
        nn.init.normal_(plain.theta.weight, std=0.01)  # zeros would stop the gradient on its way back
    plain(torch.rand(4, 3, 32, 32)).square().sum().backward()
    trained = [parameter for parameter in plain.parameters() if parameter.requires_grad]
    assert sum(map(torch.numel, trained)) == count_parameters(new_network(workload, CPU))
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in trained)


@pytest.mark.parametrize("variant", ["cnn+flip_crop", OLD_RECIPE.variant])
def test_the_usual_augmentation_shifts_and_mirrors(variant: str) -> None:
    images = random_images(1, CPU)
    plain, shown = PilImages(images, []), PilImages(images, AUGMENTATIONS[variant])
    torch.manual_seed(0)
    copies = [shown[0][0] for _ in range(16)]
    assert {copy.shape for copy in copies} == {plain[0][0].shape}
    assert sum(not torch.equal(copy, plain[0][0]) for copy in copies) > 8


def test_a_remote_object_keeps_its_state_and_ends_with_its_context() -> None:
    with Remote(list, "ab") as remote:
        assert remote.call("append", "c") is None
        assert [remote.call("pop") for _ in range(3)] == ["c", "b", "a"]
    assert not multiprocessing.active_children()


def test_a_remote_object_can_be_followed() -> None:
    with Remote(Counter) as remote:
        assert list(remote.follow("count", 2, 5)) == [2, 3, 4]
        assert remote.call("last") == 5


class Counter:
    def count(self, start: int, end: int, tell: Callable[[int], None]) -> None:
        for value in range(start, end):
            tell(value)
        self.end = end

    def last(self) -> int:
        return self.end


def test_a_remote_object_that_fails_says_so() -> None:
    with pytest.raises(RuntimeError, match="ended early"), Remote(list) as remote:
        remote.call("pop")
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("name", ["missing/bench.json", "here", "."])
def test_a_file_that_cannot_be_written_is_refused_at_once(here: Path, tmp_path: Path, capsys, name: str) -> None:
    assert main(["speed", "--out", name if name == "." else str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: out: ")
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == [here] and not list(here.iterdir())
