"""The check of a GPU, without one: its clock, its file, what it says of missing packages, and its parts in tiny sizes.

The functions at the top are parts, carried out in processes of their own, which import this file: torch is imported
where it is used.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu_check import check, clock
from benchmarks.gpu_check.check import PARTS, Package, Part, main, packages_line
from benchmarks.gpu_check.clock import Asked, LeftOut, carry_out
from ledger.errors import UserError
from ledger.files import process_is_alive
from tests.support.command_line import wait_for
from tests.support.image_folders import make_parts
from tests.support.project import ROOT

pytestmark = pytest.mark.long


def tells(asked: Asked) -> None:
    asked.tell("answer", "it is 42", value=42)


def raises(asked: Asked) -> None:
    asked.tell("answer", "", value=1)
    raise RuntimeError("no\nluck")


def refuses(asked: Asked) -> None:
    raise UserError("data: has no images")


def has_nothing(asked: Asked) -> None:
    raise LeftOut("needs images")


def lacks_time(asked: Asked) -> None:
    asked.leave_out("8 workers")


def hangs(asked: Asked) -> None:
    child = subprocess.Popen(["sleep", "600"])
    asked.tell("child", "", process=child.pid)
    print("waiting", flush=True)
    child.wait()


def crashes(asked: Asked) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def stops_all(asked: Asked) -> None:
    asked.tell("answer", "", value=1)
    os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(600)


def carried_out(name: str, seconds: float = 100.0) -> tuple[tuple[str, str, str], list[tuple[Any, ...]]]:
    messages: list[tuple[Any, ...]] = []
    asked = Asked("cpu", end_s=time.monotonic() + seconds)
    return carry_out(f"{__name__}:{name}", asked, messages.append), messages


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("tells", "done", ""),
        ("raises", "failed", "RuntimeError: no luck"),
        ("refuses", "failed", "data: has no images"),
        ("has_nothing", "left out", "needs images"),
        ("lacks_time", "cut", "no time for all of it"),
        ("crashes", "failed", "its process ended early (SIGSEGV)"),
    ],
)
def test_how_a_part_ends(name, status, reason):
    assert carried_out(name)[0][:2] == (status, reason)


def test_what_a_part_told_before_it_failed_is_kept_and_its_traceback_too():
    (_, _, log), messages = carried_out("raises")
    assert messages == [("found", "answer", "", {"value": 1})]
    assert log.startswith("Traceback") and 'raise RuntimeError("no\\nluck")' in log


def test_a_part_that_hangs_is_ended_with_all_that_it_started(monkeypatch):
    monkeypatch.setattr(clock, "GRACE_S", 1.0)
    start_s = time.monotonic()
    ended, messages = carried_out("hangs", seconds=3.0)
    assert ended == ("cut", "its time was up", "waiting\n")
    assert time.monotonic() - start_s < 30
    ((_, _, _, found),) = messages
    wait_for(lambda: not process_is_alive(found["process"]))  # a signal takes a moment


@pytest.fixture
def own_parts(monkeypatch):
    monkeypatch.setattr(check, "FUNCTIONS", __name__)
    monkeypatch.setattr(clock, "GRACE_S", 0.5)


def made(folder: Path, monkeypatch, parts: list[Part], minutes: float = 8) -> tuple[int, dict[str, Any]]:
    monkeypatch.setattr(check, "PARTS", tuple(parts))
    out = folder / "gpu.json"
    status = main(["--device", "cpu", "--out", str(out), "--minutes", str(minutes)])
    assert [path.name for path in folder.iterdir()] == ["gpu.json"]
    return status, json.loads(out.read_text())


@pytest.mark.usefixtures("own_parts")
def test_a_part_that_raises_costs_nothing_but_itself(tmp_path, monkeypatch, capsys):
    parts = [Part("raises", "luck", 1), Part("tells", "a question", 1), Part("refuses", "images", 1)]
    status, report = made(tmp_path, monkeypatch, parts)
    assert status == 1
    found = report["parts"]
    statuses = {name: part["status"] for name, part in found.items()}
    assert statuses == {"raises": "failed", "tells": "done", "refuses": "failed"}
    assert found["raises"]["findings"] == {"answer": {"value": 1}} and "Traceback" in found["raises"]["log"]
    assert found["tells"]["findings"] == {"answer": {"text": "it is 42", "value": 42}}
    said = capsys.readouterr().out
    assert "tells: a question, up to" in said and "  it is 42\n" in said
    assert "  failed: RuntimeError: no luck\n" in said and "Traceback" not in said


@pytest.mark.usefixtures("own_parts")
def test_the_clock_cuts_a_part_and_leaves_out_what_there_is_no_time_for(tmp_path, monkeypatch, capsys):
    parts = [Part("hangs", "patience", 1000), Part("lacks_time", "workers", 600), Part("tells", "a question", 1)]
    start_s = time.monotonic()
    status, report = made(tmp_path, monkeypatch, parts, minutes=0.2)
    assert time.monotonic() - start_s < 12 + 5
    found = report["parts"]
    assert status == 0
    assert (found["hangs"]["status"], found["hangs"]["reason"]) == ("cut", "its time was up")
    assert "process" in found["hangs"]["findings"]["child"]
    assert (found["lacks_time"]["status"], found["lacks_time"]["left_out"]) == ("cut", ["8 workers"])
    said = capsys.readouterr().out
    assert "  cut: its time was up\n" in said and "  no time for 8 workers\n" in said


@pytest.mark.usefixtures("own_parts")
def test_no_part_is_begun_that_has_less_than_a_second(tmp_path, monkeypatch):
    _, report = made(tmp_path, monkeypatch, [Part("tells", "a question", 1)], minutes=0.02)
    part = report["parts"]["tells"]
    assert (part["status"], part["reason"], part["findings"]) == ("left out", "no time was left", {})


@pytest.mark.usefixtures("own_parts")
def test_what_was_found_is_there_when_the_check_is_stopped(tmp_path, monkeypatch, capsys):
    parts = [Part("tells", "a question", 1), Part("stops_all", "an end", 1), Part("raises", "luck", 1)]
    handler = signal.getsignal(signal.SIGTERM)
    try:
        status, report = made(tmp_path, monkeypatch, parts)
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert status == 130
    found = report["parts"]
    assert [part["status"] for part in found.values()] == ["done", "cut", "not begun"]
    assert found["stops_all"]["reason"] == "stopped" and found["stops_all"]["findings"] == {"answer": {"value": 1}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--parts", "worker"], "error: parts: 'worker' is unknown; did you mean 'workers'?\n"),
        (["--data", "nowhere"], "error: data: 'nowhere' is not a folder\n"),
        (["--minutes", "0"], "error: minutes: 0 is not a number above 0\n"),
        (["--minutes", "nan"], "error: minutes: nan is not a number above 0\n"),
        (["--out", "missing/x"], "error: out: missing/x cannot be written (No such file or directory)\n"),
        (["--out", "."], "error: out: . cannot be written (it is a folder)\n"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(here, capsys, arguments, message):
    assert main(["--device", "cpu", *arguments]) == 2
    assert capsys.readouterr() == ("", message)
    assert not list(here.iterdir())


def test_without_a_gpu_there_is_one_line_and_no_file(here, monkeypatch, capsys):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: device: PyTorch ") and error.endswith("sees no CUDA GPU on this machine\n")
    assert error.count("\n") == 1
    assert not list(here.iterdir())


def test_packages_that_are_missing_or_old_are_named_with_what_to_do() -> None:
    packages = {name: Package(name, "4.2", "3.9") for part in PARTS for name in part.needs}
    packages |= {name: Package(name, "3.10.1+cu130", "3.9") for name in ("torch", "numpy")}
    assert packages_line(packages, PARTS) == ""
    packages["filelock"] = Package("filelock", "3.20.4", "4.2.11")
    packages["safetensors"] = Package("safetensors", "", "0.5")
    assert packages_line(packages, PARTS) == (
        f"filelock is 3.20.4, safetensors is not installed; run {sys.executable} -m pip install 'filelock>=4.2.11' "
        "'safetensors>=0.5'; without a package index, give pip their wheels"
    )
    assert packages_line(packages, [part for part in PARTS if not part.needs]) == ""


BLOCKED = (
    "filelock hypothesis jinja2 jsonargparse matplotlib optuna pandas PIL pytest ray rich safetensors scipy seaborn "
    "statsmodels torchvision wandb yaml"
)


@pytest.mark.long
def test_parts_that_need_only_torch_and_numpy_are_done_without_any_other_package(tmp_path: Path) -> None:
    """Networks are built and trained, by two workers; all other parts say what they need."""
    (tmp_path / "sitecustomize.py").write_text(
        f"""
from importlib.machinery import PathFinder

find = PathFinder.find_spec
PathFinder.find_spec = classmethod(
    lambda cls, name, *others: None if name.split(".")[0] in {BLOCKED.split()} else find(name, *others)
)
"""
    )
    paths = os.pathsep.join(map(str, (tmp_path, ROOT)))
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check", "--device", "cpu", "--quick", "--out", tmp_path / "gpu.json"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("packages: filelock is not installed, hypothesis is not installed, pillow is not")
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert {name: (part["status"], part["reason"]) for name, part in report["parts"].items()} == {
        "machine": ("done", ""),
        "images": ("left out", "needs filelock, pillow"),
        "correctness": ("left out", "needs filelock, pillow, hypothesis, pytest, rich, safetensors, torchvision"),
        "precision": ("left out", "needs filelock, pillow, safetensors"),
        "matrix": ("done", ""),
        "workers": ("done", ""),
        "accuracy": ("left out", "needs filelock, pillow, safetensors"),
    }
    assert report["packages"]["pillow"] is None and report["packages"]["torch"]
    matrix, workers = (report["parts"][name]["findings"] for name in ("matrix", "workers"))
    assert list(workers) == ["1 worker at width 0.25", "2 workers at width 0.25"]
    for number, found in enumerate(workers.values(), 1):
        assert (found["workers"], found["width"]) == (number, 0.25)
        rate = found["images_per_s"] * found["train_flops_per_image"] / 1e9
        assert found["share_of_matrix_rate"] == pytest.approx(rate / matrix["fp32"]["gflops_per_s"], rel=0.02, abs=1e-4)


def found_by(function: Any, **asked: Any) -> dict[str, dict[str, Any]]:
    messages: list[tuple[Any, ...]] = []
    function(Asked("cpu", quick=True, send=messages.append, **asked))
    assert all(message[0] == "found" for message in messages)
    return {name: values for _, name, _, values in messages}


def test_time_to_a_target_is_that_of_the_first_training_that_came_to_it(cache, tmp_path):
    from benchmarks.gpu_check import parts

    found = found_by(parts.accuracy, task=f"folder:{make_parts(tmp_path, 12)}", matrix={"fp32": 100.0})
    first, never = found["1% with 1 epoch"], found["101% with 1 epoch"]
    assert list(found) == ["1% with 1 epoch", "1%", "101% with 1 epoch", "101%"]
    assert first["train_flops"] / first["seconds"] == pytest.approx(1e15 * first["pflop_per_s"], rel=1e-3)
    reached = {"seconds": first["seconds"], "epochs": 1, "accuracy": first["test_accuracy"], "missed_by": 0}
    assert found["1%"]["one_view"] == reached
    assert found["101%"]["two_views"]["missed_by"] == pytest.approx(1.01 - never["mirrored_accuracy"], abs=1e-5)


def test_two_mirrored_views_are_those_of_a_training_with_them(cache):
    import dataclasses

    from benchmarks.gpu_check import parts
    from experiments.runs.run import Outcome, train_and_score

    trainer = parts.Trainer(Asked("cpu", quick=True))
    run, outcome = trainer.train(3, 0.25, "fp32")
    again = Outcome()
    run_again = dataclasses.replace(run, variant=parts.MIRRORED)
    train_and_score(run_again, trainer.task, trainer.pool, again, lambda row: None)
    assert trainer.mirrored_accuracy(run, outcome) == again.result["test_accuracy"]
    assert again.history == outcome.history


def test_both_precisions_are_trained_in_on_sprites_where_there_are_no_images(cache):
    from benchmarks.gpu_check import parts

    found = found_by(parts.precision)
    assert list(found) == ["fp32 at width 0.25", "bf16 at width 0.25", "width 0.25"]
    fp32, bf16, both = found.values()
    assert both["accuracy_difference"] == pytest.approx(bf16["test_accuracy"] - fp32["test_accuracy"], abs=1e-5)
    assert both["speed_ratio"] == pytest.approx(bf16["images_per_s"] / fp32["images_per_s"], rel=0.01)
    assert fp32["task"] == "sprites"


def test_without_real_images_it_is_said_how_to_name_some(monkeypatch):
    from benchmarks.gpu_check import parts
    from experiments.images.tasks.downloads import DownloadError

    def load(*_: Any, **__: Any) -> None:
        raise DownloadError("cifar10: cannot be downloaded")

    monkeypatch.setattr(parts, "load_task", load)
    for part in (parts.images, parts.accuracy):
        with pytest.raises(LeftOut, match="DATA=path/to/images"):
            part(Asked("cpu"))
    with pytest.raises(UserError, match=r"^cifar10: cannot be downloaded$"):
        parts.images(Asked("cpu", data="nowhere"))


def test_the_tests_that_need_a_gpu_are_found():
    asked, messages = Asked("cpu", end_s=time.monotonic() + 200), list[tuple[Any, ...]]()
    assert carry_out("benchmarks.gpu_check.parts:correctness", asked, messages.append)[:2] == ("done", "")
    counts = messages[-1][3]
    assert counts["passed"] + counts["skipped"] > 5 and counts["failed"] == counts["not_run"] == 0


def recorded(folder: Path, text: str, **asked: Any) -> tuple[dict[str, Any], list[str], str]:
    """What was found, left out, and raised at the end."""
    from benchmarks.gpu_check.parts import Recorder

    file = folder / f"test_{folder.name}.py"  # Python remembers modules by their names
    file.write_text(text)
    messages: list[tuple[Any, ...]] = []
    recorder = Recorder(Asked("cpu", send=messages.append, **asked))
    options = ("-p", "no:cacheprovider", f"--rootdir={folder}", "-c", os.devnull)
    pytest.main([*options, str(file)], plugins=[recorder])
    try:
        recorder.finish()
        raised = ""
    except RuntimeError as error:
        raised = str(error)
    found = {message[1]: message[3] for message in messages if message[0] == "found"}
    return found, [message[1] for message in messages if message[0] == "left out"], raised


def test_counts_and_the_first_line_of_each_failure_are_told(tmp_path):
    tests = """
import pytest
def test_a(): pass
def test_b(): raise ValueError("first\\nsecond")
def test_c(): pytest.skip("no")
@pytest.fixture
def broken(): raise OSError("gone")
def test_d(broken): pass
"""
    found, left_out, raised = recorded(tmp_path, tests)
    assert found.pop("tests") == {"passed": 1, "failed": 2, "skipped": 1, "not_run": 0}
    said = {name.partition("::")[2]: values["said"] for name, values in found.items()}
    assert said == {"test_b": "ValueError: first", "test_d": "OSError: gone"}
    assert (left_out, raised) == ([], "2 of 4 tests failed")


def test_a_file_that_cannot_be_imported_is_a_failure(tmp_path):
    found, _, raised = recorded(tmp_path, "import no_such_module")
    assert found["tests"]["failed"] == 1 and len(found) == 2
    assert any("no_such_module" in values.get("said", "") for values in found.values())
    assert "failed" in raised


def test_tests_end_when_their_time_is_up(tmp_path):
    tests = "def test_a(): pass\ndef test_b(): pass\ndef test_c(): pass\n"
    found, left_out, raised = recorded(tmp_path, tests, end_s=time.monotonic())
    assert found["tests"] == {"passed": 1, "failed": 0, "skipped": 0, "not_run": 2}
    assert (left_out, raised) == (["2 of 3 tests"], "")
