"""100,000 mutated files (1,500 in short form): only errors of our own, of one line, within a second, memory flat."""

import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

import pytest

from tests.attacks.fuzzing import TARGETS, Found, Target, fuzz

NUM_WHOLE, NUM_SHORT = 100_000, 1_500
CHUNK = 250
MAX_GROWTH_MIB = 100.0


@lru_cache(maxsize=1)
def _target(name: str, folder: Path) -> Target:
    """Of this process."""
    own = folder / str(os.getpid())
    own.mkdir()
    return TARGETS[name][0](own)


def memory_mib() -> float:
    """What this process holds of memory; 0 where the system does not say."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if status.exists() else 0.0


def fuzz_chunk(name: str, folder: Path, numbers: Sequence[int]) -> tuple[Found, int, float]:
    """What the mutations of these numbers led to, in which process, and its memory in MiB afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy wonders about absurd numbers
        found = fuzz(_target(name, folder), [f"{name} {number}" for number in numbers])
    return found, os.getpid(), memory_mib()


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", TARGETS)
def test_only_errors_of_our_own(name: str, whole: bool, tmp_path: Path, record_figures: Callable[..., None]) -> None:
    total = (NUM_WHOLE if whole else NUM_SHORT) * TARGETS[name][1] // 100
    chunks = [range(start, min(start + CHUNK, total)) for start in range(0, total, CHUNK)]
    start = time.monotonic()
    if whole:
        with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
            results = list(pool.map(partial(fuzz_chunk, name, tmp_path), chunks))
    else:
        results = [fuzz_chunk(name, tmp_path, chunk) for chunk in chunks]
    found = Found()
    memory: dict[int, list[float]] = {}
    for part, process, mib in results:
        found.add(part)
        memory.setdefault(process, []).append(mib)
    growth_mib = max(max(each) - each[0] for each in memory.values())
    record_figures(
        f"mutated {name}", number=total, errors=dict(found.errors), slowest_s=round(found.slowest_s, 3),
        memory_growth_mib=round(growth_mib, 1), seconds=round(time.monotonic() - start, 1),
    )  # fmt: skip
    assert not found.failures, f"{len(found.failures)} of {total}:\n" + "\n\n".join(found.failures[:5])
    assert sum(found.errors.values()) == total
    assert 0 < found.errors["none"] < total or name in NEVER_AN_ERROR  # neither everything is refused nor nothing
    assert growth_mib < MAX_GROWTH_MIB


NEVER_AN_ERROR = ("checkpoints", "cache entries")
"""What is wrong with these is made anew, without a word to the caller."""
