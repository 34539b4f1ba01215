"""Tables of ten thousand runs: in little memory, and at a cost that grows with the number of runs and no faster."""

import cProfile
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.findings import find
from analysis.tables import write_tables
from tests.support.large_ledger import write_large_study
from tests.support.project import ROOT
from tests.support.synthetic_ledger import STUDY, write_study

pytestmark = pytest.mark.long

PEAK = f"""
import re, sys
from pathlib import Path
from analysis.findings import find
from analysis.tables import write_tables
write_tables(find(Path(sys.argv[1]), {STUDY!r}), Path(sys.argv[2]))
# Not ru_maxrss, which counts what the process was forked from as well.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def count_calls(ledger: Path) -> tuple[int, int]:
    """JSON files that are read, and functions that are called, by what writes the tables."""
    write_tables(find(ledger, STUDY), ledger / "out")  # whatever is imported late is now
    profile = cProfile.Profile()
    profile.enable()
    write_tables(find(ledger, STUDY), ledger / "out")
    profile.disable()
    entries = profile.getstats()
    reads = sum(entry.callcount for entry in entries if getattr(entry.code, "co_name", "") == "parse_json")
    return reads, sum(entry.callcount for entry in entries)


def test_cost_grows_linearly_with_arms(tmp_path: Path) -> None:
    counts = []
    for num_arms in (10, 20, 40):
        ledger = tmp_path / str(num_arms)
        write_large_study(ledger, num_arms, num_trials=1, num_finals=2, num_images=50)
        counts.append(count_calls(ledger))
    (reads_1, calls_1), (reads_2, calls_2), (reads_4, calls_4) = counts
    assert reads_4 - reads_2 == 2 * (reads_2 - reads_1)
    assert 10 * (1 * 2 + 2 * 4) <= reads_2 - reads_1 <= 10 * (1 * 2 + 2 * 6)  # not again for each table
    assert calls_4 - calls_2 < 2.3 * (calls_2 - calls_1)


def test_cost_grows_linearly_with_the_runs_of_an_arm(tmp_path: Path) -> None:
    counts = []
    for num_trials in (50, 100, 200):
        ledger = tmp_path / str(num_trials)
        write_large_study(ledger, 2, num_trials, num_finals=2, num_images=100)
        counts.append(count_calls(ledger))
    (reads_1, calls_1), (reads_2, calls_2), (reads_4, calls_4) = counts
    assert reads_4 - reads_2 == 2 * (reads_2 - reads_1) == 2 * 2 * 50 * 3
    assert calls_4 - calls_2 < 2.3 * (calls_2 - calls_1)


def test_runs_that_are_missing_cost_no_more(tmp_path: Path) -> None:
    """The same keys, of which the ledger has none."""
    calls = []
    for num_arms in (25, 50, 100):
        arms = [
            {"pose": "upright", "variant": f"v{i}", "baseline": "v0", "trials": [f"t{i}x{j}" for j in range(15)],
             "winner": None, "finals": [f"f{i}x{j}" for j in range(5)]}
            for i in range(num_arms)
        ]  # fmt: skip
        ledger = tmp_path / str(num_arms)
        write_study(ledger, arms)
        calls.append(count_calls(ledger)[1])
    assert calls[2] - calls[1] < 2.3 * (calls[1] - calls[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_arms", "num_trials", "num_finals"), [(250, 32, 8), (1, 9992, 8)], ids=["many arms", "one arm"]
)
def test_ten_thousand_runs_fit_into_a_gibibyte(tmp_path: Path, num_arms: int, num_trials: int, num_finals: int) -> None:
    write_large_study(tmp_path, num_arms, num_trials, num_finals, num_images=10_000)
    assert len(list((tmp_path / "runs").iterdir())) == 10_001
    command = [sys.executable, "-c", PEAK, str(tmp_path), str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 1024
