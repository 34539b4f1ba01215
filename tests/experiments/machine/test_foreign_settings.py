"""What is set for other programs changes neither numbers nor words: each row of docs/reliability.md's table."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.machine.foreign_settings import DROPPED, DROPPED_PREFIX
from tests.support.project import ROOT

GOLDEN = ROOT / "tests/golden/format-3"
HOSTILE = {
    "NVIDIA_TF32_OVERRIDE": "1", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1", "ONEDNN_DEFAULT_FPMATH_MODE": "BF16",
    "DNNL_DEFAULT_FPMATH_MODE": "ANY", "OMP_PROC_BIND": "close", "OMP_PLACES": "cores", "GOMP_CPU_AFFINITY": "0",
    "KMP_AFFINITY": "compact", "JSONARGPARSE_DEFAULT_ENV": "true", "JSONARGPARSE_DEBUG": "1", "TORCH_LOGS": "nonsense",
    "PYTHONWARNINGS": "error", "PANDAS_FUTURE": "nonsense", "PANDAS_FUTURE_INFER_STRING": "nonsense",
}  # fmt: skip
CLEAN = {name: value for name, value in os.environ.items() if name not in HOSTILE}


def child(code: str, **settings: str) -> str:
    """What Python prints, from before any library is imported, with these settings in its environment."""
    environment = {**CLEAN, **settings, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


DROP = "from experiments.machine.foreign_settings import drop_foreign_settings as drop; drop(); import os\n"


def test_every_name_is_tried():
    assert {name for name in HOSTILE if not name.startswith(DROPPED_PREFIX)} == DROPPED


def test_no_process_that_is_started_has_them():
    code = f"{DROP}import subprocess; print(subprocess.run(['env'], capture_output=True, text=True).stdout)"
    names = {line.partition("=")[0] for line in child(code, **HOSTILE).splitlines()}
    assert not HOSTILE.keys() & names


@pytest.mark.long
def test_tables_are_the_same(tmp_path):
    def tables(folder: Path, **settings: str) -> tuple[int, str, str]:
        folder.mkdir()
        command = [sys.executable, "-m", "experiments", "tables", "--runs", str(GOLDEN)]
        environment = {**CLEAN, **settings, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, timeout=240)
        return done.returncode, done.stdout, done.stderr

    assert tables(tmp_path / "clean") == tables(tmp_path / "hostile", **HOSTILE)
    written, again = ({path.name: path.read_bytes() for path in tmp_path.glob(f"{name}/reports/*/*")} for name in
                      ("clean", "hostile"))  # fmt: skip
    assert written and written == again


@pytest.mark.parametrize(("value", "kept"), [("0", False), ("1", False), ("x", False), ("", False), ("100", True)])
def test_a_width_that_no_terminal_has_is_not_believed(value, kept):
    """With COLUMNS=0 rich printed nothing of a whole sweep."""
    print_it = f"{DROP}from rich.console import Console; Console().print('word ' * 40)"
    assert child(print_it, COLUMNS=value).count("word") == 40
    assert child(f"{DROP}print('COLUMNS' in os.environ)", COLUMNS=value) == str(kept)


def test_colours_are_the_users_choice():
    print_it = f"{DROP}from rich.console import Console; print(repr(Console(file=None).color_system))"
    assert child(print_it, FORCE_COLOR="1", TERM="xterm-256color", COLORTERM="") == "'256'"
    assert "\x1b[" in child(f"{DROP}from rich.console import Console; Console().print('[red]x')", FORCE_COLOR="1")
    plain = {"FORCE_COLOR": "1", "NO_COLOR": "1"}
    assert child(f"{DROP}from rich.console import Console; Console().print('[red]x')", **plain) == "x"


def test_machines_and_memory_are_the_users_choice():
    names = (
        *("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PYTORCH_ALLOC_CONF"),
        *("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "HTTPS_PROXY", "WANDB_MODE", "TORCH_CPP_LOG_LEVEL"),
    )
    code = f"{DROP}print([os.environ[name] for name in {names}])"
    assert child(code, **dict.fromkeys(names, "mine")) == str(["mine"] * len(names))


ROW = re.compile(r"^\|.*\| (tests/\S+)::(test_\w+) \|$", re.MULTILINE)


def test_each_row_of_the_table_has_its_test():
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    table = text.partition("| setting | what is done with it | test |")[2].partition("\n## ")[0].strip()
    rows = ROW.findall(table)
    assert len(rows) == len(table.splitlines()) - 1 > 15  # but the line below the head
    for file, name in rows:
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file} has no {name}"


def test_single_precision_is_single_precision():
    code = f"{DROP}import torch; print(torch.get_float32_matmul_precision())"
    assert child(code, TORCH_ALLOW_TF32_CUBLAS_OVERRIDE="1") == "highest"


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="cores are asked of Linux")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core is all there is")
def test_workers_are_not_bound_to_one_core():
    binding = {name: HOSTILE[name] for name in ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY")}
    code = "import torch; torch.rand(8, 8) @ torch.rand(8, 8); print(len(os.sched_getaffinity(0)))"
    allowed = len(os.sched_getaffinity(0))
    assert child(f"import os; {code}", **binding) != str(allowed), "the fault that is mended"
    assert child(DROP + code, **binding) == str(allowed)


def test_a_worker_drops_them_too():
    """A cluster's node has an environment of its own."""
    code = """
import multiprocessing, os, sys
from experiments.sweep.executors.worker import begin
from experiments.machine.heartbeat import Counter
ours, theirs = multiprocessing.Pipe()
ours.close()
begin(theirs, "cpu", Counter(0), os.getppid())
import torch
print(torch.get_float32_matmul_precision(), sys.warnoptions)
"""
    assert child(code, TORCH_ALLOW_TF32_CUBLAS_OVERRIDE="1") == "highest ['ignore']"


def test_warnings_of_libraries_stay_off_the_terminal():
    code = f"{DROP}import warnings; warnings.warn('of a library'); print('silent')"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, env=CLEAN | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("silent\n", "")
