"""What a study in the ledger has settled of what the command leaves to the machine, on other machines."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo  # it looks at mps.is_available as it is imported, which must be before a test replaces that

from experiments.machine import device as devices
from experiments.probe.sizes import earlier_sizes
from experiments.study.plan import Loaded, left_for_others, load, make_plan
from experiments.study.study import load_study
from experiments.sweep import estimate
from experiments.sweep.sweep import Sweep, check_same_device
from experiments.terminal.cli import main
from ledger.config import Optim
from ledger.errors import UserError
from ledger.ledger import Ledger
from tests.support.command_line import contents
from tests.support.tiny_study import STUDY, TINY, HereAndNow, sweep_here, write_sweep

AUTO = {name: value for name, value in TINY["protocol"].items() if name not in ("precision", "device")}
SEARCH = {**TINY["search"], "trials": 2, "extras": {}}
SMALL: dict[str, Any] = {
    "variants": [{"variant": "cnn", "baseline": "cnn"}, {"variant": "cnn+affine", "baseline": "cnn"}],
    "search": SEARCH,
    "protocol": AUTO,
    "wandb": {"mode": "disabled"},
}
RUNS = 8
Machine = Callable[..., None]


@pytest.fixture
def machine(here: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes this machine one with a GPU or without, and with a precision that is faster; its cache is its own."""
    shutil.copytree(cache, here / "cache")
    monkeypatch.setenv("STN_BENCH_CACHE", str(here / "cache"))

    def become(*, gpu: bool = False, precision: str = "fp32") -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
        monkeypatch.setattr(torch.cuda, "device_count", lambda: int(gpu))
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        monkeypatch.setattr(estimate, "measure_images_per_s", lambda *arguments: 1000.0)
        monkeypatch.setattr(devices, "faster_precision", lambda device: precision)
        (here / "cache/precision.json").unlink(missing_ok=True)

    return become


def begin(here: Path, **changes: Any) -> dict[str, Any]:
    """A study in the ledger whose runs are all finished, though none was trained; its manifest."""
    changes = SMALL | changes
    sweep_here(here, HereAndNow(fails=lambda job: True), **changes)
    assert len(Ledger(here / "runs")) == RUNS
    return Ledger(here / "runs").read_study(STUDY)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    failed = 1 if arguments[0] == "sweep" else 0  # none of the runs that `begin` makes is completed
    assert main([*arguments]) == failed
    return " ".join(capsys.readouterr().out.split())


def test_the_manifest_has_the_whole_protocol(here: Path, machine: Machine) -> None:
    machine(precision="bf16")
    protocol = begin(here)["protocol"]
    assert (protocol["device"], protocol["precision"], protocol["epochs"]) == ("cpu", "bf16", 2)


@pytest.mark.long
@pytest.mark.parametrize(("first", "then"), [("fp32", "bf16"), ("bf16", "fp32")])
def test_another_precision_found_later_makes_no_other_runs(first, then, here, machine, capsys):
    """As in a new container, whose cache is empty."""
    machine(precision=first)
    before = begin(here)
    machine(precision=then)
    text = printed(capsys, "plan", "--budget", "smoke")
    assert f"{RUNS} of them in the ledger already; nothing is left to train." in text
    assert f"{first} on cpu" in text and "will not count" not in text
    runs = contents(here / "runs/runs")
    assert "4 final runs, 8 of them" in printed(capsys, "sweep", "--budget", "smoke", "--jobs", "1")
    assert contents(here / "runs/runs") == runs
    assert Ledger(here / "runs").read_study(STUDY) == before


def test_what_was_found_first_comes_back_after_another_choice(here, machine, capsys):
    """A sweep that was begun with another precision, and stopped at the note, must not be where the runs are lost."""
    machine(precision="bf16")
    begin(here)
    write_sweep(here, **SMALL | {"protocol": {**AUTO, "precision": "fp32"}})
    text = printed(capsys, "plan", "--budget", "smoke")
    assert (
        f"{RUNS} finished runs of this study will not count in it any more (protocol: precision bf16 -> fp32)" in text
    )
    study = load_study(here / "sweep.yaml", "smoke")
    ledger = Ledger(here / "runs")
    plan = make_plan(study, label="", cache=here / "cache", say=lambda line: None, ledger=ledger)
    before = ledger.read_study(STUDY)
    under_way = Sweep(plan, ledger, store=True)
    under_way.replay()
    assert ledger.read_study(STUDY) == before, "a look must not be what settles it"
    under_way.write_manifest()
    assert ledger.read_study(STUDY)["protocol"]["precision"] == "fp32"
    machine(precision="fp32")
    write_sweep(here, **SMALL)
    assert f"{RUNS} of them in the ledger already" in printed(capsys, "plan", "--budget", "smoke")


def test_a_study_begun_on_a_cpu_goes_on_there_where_a_gpu_is(here, machine, capsys):
    machine()
    begin(here)
    machine(gpu=True)
    text = printed(capsys, "plan", "--budget", "smoke")
    assert f"{RUNS} of them in the ledger already" in text
    assert "This study was begun on cpu and goes on there, although there is cuda here." in text


def test_a_sweep_that_cannot_go_on_for_want_of_a_gpu_is_refused(here, machine, capsys):
    machine(gpu=True)
    begin(here, protocol={**AUTO, "precision": "fp32"})
    machine()
    before = contents(here / "runs") | {"sweep.lock": b""}
    why = (
        f"device: {STUDY} in runs was begun on cuda, which is not here, and 8 of its finished runs would not "
        "count on cpu; go on with it where there is one, or give RUNS= another name"
    )
    assert f"A sweep is refused: {why}" in printed(capsys, "plan", "--budget", "smoke")
    assert main(["sweep", "--budget", "smoke", "--jobs", "1"]) == 2
    assert capsys.readouterr().err == f"error: {why}\n"
    assert contents(here / "runs") == before
    elsewhere = printed(capsys, "plan", "--budget", "smoke", "--runs", "other")
    assert "refused" not in elsewhere and "fp32 on cpu" in elsewhere
    write_sweep(here, **SMALL | {"protocol": {**AUTO, "precision": "fp32", "device": "cpu"}})  # their own choice
    text = printed(capsys, "plan", "--budget", "smoke")
    assert "8 finished runs of this study will not count in it any more (protocol: device cuda -> cpu)." in text


def test_a_device_whose_study_has_no_finished_run_is_not_missed(here, machine, capsys):
    machine(gpu=True)
    begin(here, protocol={**AUTO, "precision": "fp32"})
    shutil.rmtree(here / "runs/runs")
    machine()
    text = printed(capsys, "plan", "--budget", "smoke")
    assert "refused" not in text and "will not count" not in text and "fp32 on cpu" in text


DEFAULT_LR = Optim().lr
ONE_VARIANT = SMALL["variants"][:1]
CHANGES: list[tuple[dict[str, Any], int, str]] = [
    ({}, 0, ""),
    ({"protocol": {**AUTO, "epochs": 1}}, 8, "protocol: epochs 2 -> 1"),
    ({"protocol": {**AUTO, "precision": "bf16"}}, 8, "protocol: precision fp32 -> bf16"),
    ({"variants": ONE_VARIANT}, 4, "its search, variants or seeds are not what they were"),
    ({"final_seeds": 1}, 2, "its search, variants or seeds are not what they were"),
    ({"final_seeds": 3}, 0, ""),
    # The first trial has the default setting still, and so has the winner of trials that all failed.
    (
        {"search": {**SEARCH, "space": {"optim.lr": {"min": 1.2 * DEFAULT_LR, "max": 1.6 * DEFAULT_LR}}}},
        8,
        "its search",
    ),
    ({"search": {**SEARCH, "space": {"optim.lr": {"min": 0.02, "max": 1.1 * DEFAULT_LR}}}}, 6, "its search"),
    ({"search": {**SEARCH, "trials": 1}}, 2, "its search"),
    ({"search": {**SEARCH, "trials": 3}}, 0, ""),  # which setting wins is open
    ({"claims": {"margin": 0.02}}, 0, ""),
]


@pytest.mark.parametrize(("changes", "num", "why"), CHANGES)
def test_runs_that_a_change_leaves_behind_are_counted(changes, num, why, here, machine, capsys):
    machine()
    begin(here)
    write_sweep(here, **SMALL | changes)
    text = printed(capsys, "plan", "--budget", "smoke")
    assert ("will not count" in text) == bool(num)
    if num:
        assert f"{num} finished runs of this study will not count in it any more ({why}" in text


def test_a_run_that_is_to_be_made_again_leaves_none_behind(here: Path, machine: Machine) -> None:
    """What follows from it is the same once it is there again."""
    machine()
    begin(here)
    ledger = Ledger(here / "runs")
    ledger.remove(ledger.read_study(STUDY)["arms"][0]["trials"][0])
    study = load_study(here / "sweep.yaml", "smoke")
    plan = make_plan(study, label="", cache=here / "cache", say=lambda line: None, ledger=ledger)
    under_way = Sweep(plan, ledger, store=False)
    under_way.replay()
    assert not under_way.arms[0].finals and under_way.left_behind() == 0


def test_other_images_are_refused_in_the_plan_already(here, machine, capsys):
    machine()
    manifest = begin(here)
    other = manifest | {"task": manifest["task"] | {"content_hash": "0" * 64}}
    Ledger(here / "runs").write_study(STUDY, other)
    text = printed(capsys, "plan", "--budget", "smoke")
    assert f"A sweep is refused: runs: {STUDY} in runs is of other images; give LABEL= or RUNS= another name" in text
    assert "will not count" not in text


BUDGETS = {"budgets": {"cpu": {"final_seeds": 1}, "gpu": {"final_seeds": 2}}}


def begin_at(here: Path, budget: str) -> None:
    ledger = Ledger(here / "runs")
    study = load_study(write_sweep(here, **SMALL | BUDGETS), budget)
    under_way = Sweep(make_plan(study, label="", cache=here / "cache", say=lambda line: None), ledger, store=True)
    under_way.replay()
    under_way.run(HereAndNow(fails=lambda job: True), on_finish=lambda job: None, on_tick=lambda: None)


@pytest.mark.parametrize(("begun", "num"), [("cpu", 6), ("gpu", 8)])
def test_the_budget_that_a_study_was_begun_at_is_gone_on_with(begun, num, here, machine, capsys):
    """On a CPU, whichever budget; `auto` would find the other one now."""
    machine()
    begin_at(here, begun)
    machine(gpu=begun == "cpu")
    text = printed(capsys, "plan")
    assert f"Budget {begun}, at which this study was begun: it has {num} finished runs here." in text
    assert f"Study tiny-sprites-{begun} " in text and f"{num} of them in the ledger already" in text


def test_runs_at_a_budget_that_cannot_be_gone_on_with_are_mentioned(here, machine, capsys):
    machine(gpu=True)
    begin_at(here, "gpu")
    machine()
    text = printed(capsys, "plan")
    assert "At budget gpu this study has 8 finished runs here, which budget cpu does not use." in text
    assert "Study tiny-sprites-cpu " in text
    begin_at(here, "cpu")
    machine(gpu=True)
    text = printed(capsys, "plan", "--budget", "auto")
    assert "At budget cpu this study has 6 finished runs here, which budget gpu does not use." in text
    assert "At budget" not in printed(capsys, "plan", "--budget", "gpu")  # asked for by name


def test_runs_on_images_that_took_the_place_of_others_are_mentioned(here: Path, machine: Machine) -> None:
    machine()
    begin(here)
    ledger, sprites = Ledger(here / "runs"), load_study(here / "sweep.yaml", "smoke")
    loaded = load(sprites, label="", cache=here / "cache", say=lambda line: None)
    fallback = replace(loaded, wanted="CIFAR-10")
    assert left_for_others(ledger, sprites, loaded) == left_for_others(ledger, sprites, fallback) == ""
    cifar10 = Loaded(replace(loaded.task, name="cifar10", label="CIFAR-10"), loaded.source)
    assert left_for_others(ledger, sprites, cifar10) == (
        "tiny-cifar-10-smoke is another study than tiny-sprites-smoke, whose 8 finished runs are of `sprites`; "
        "`task: sprites` goes on with them."
    )
    (here / "runs/studies" / STUDY).rename(here / "runs/studies/tiny-cifar-10-smoke")
    assert left_for_others(ledger, sprites, cifar10) == ""
    assert left_for_others(ledger, sprites, fallback) == (
        "tiny-sprites-smoke is another study than tiny-cifar-10-smoke, whose 8 finished runs are of CIFAR-10 itself."
    )


@pytest.mark.long
def test_a_run_beside_a_study_has_its_precision(here, machine, capsys):
    machine(precision="bf16")
    begin(here)
    machine(precision="fp32")
    text = printed(capsys, "run", "--budget", "smoke", "--variant", "cnn", "--seed", "9")
    assert "cnn on sprites, bf16 on cpu" in text


def test_a_probe_keeps_its_sizes_but_takes_no_device_that_is_gone(here: Path, machine: Machine) -> None:
    """It is no command's own way: what makes its runs refuses as for any study."""
    machine(gpu=True, precision="bf16")
    begin(here)
    machine(precision="fp32")
    ledger = Ledger(here / "runs")
    study = load_study(write_sweep(here, **SMALL | {"protocol": {**AUTO, "train_images": 64}}), "smoke")
    plan = make_plan(study, label="", cache=here / "cache", say=lambda line: None, ledger=ledger)
    fitted = earlier_sizes(plan, ledger)
    assert fitted is not None
    protocol = fitted.protocol
    assert (protocol.train_images, protocol.device, protocol.precision) == (96, "cpu", "bf16")
    look = Sweep(fitted, ledger, store=False)
    look.replay()
    with pytest.raises(UserError, match="was begun on cuda, which is not here, and 8 of its finished runs"):
        check_same_device(look)


def test_a_protocol_that_says_what_no_protocol_says(here, machine, capsys):
    """Its checksum renewed, as a person does it who edits on purpose."""
    machine()
    manifest = begin(here)
    file = Path("runs/studies", STUDY, "study.json")
    for protocol, error in (
        (
            manifest["protocol"] | {"precision": "fp64"},
            "protocol.precision: 'fp64' is unknown; known: auto, bf16, fp32",
        ),
        (manifest["protocol"] | {"epoch": 2}, "protocol.epoch: unknown key; did you mean 'epochs'?"),
    ):
        Ledger(here / "runs").write_study(STUDY, manifest | {"protocol": protocol, "found": {}})
        for command in ("plan", "sweep"):
            assert main([command, "--budget", "smoke"]) == 2
            assert capsys.readouterr().err == f"error: {file}: {error}\n"
        assert main(["verify", "runs"]) != 0
        assert "its protocol_hash is not that of its protocol" in capsys.readouterr().out
    Ledger(here / "runs").write_study(STUDY, manifest | {"protocol": []})
    assert main(["plan", "--budget", "smoke"]) == 2
    assert "study.json: 'protocol' is [], expected an object" in capsys.readouterr().err
    edited = json.loads(file.read_text())
    assert edited["protocol"] == []
