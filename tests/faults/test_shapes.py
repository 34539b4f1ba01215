"""experiments and analysis each judge the ledger's JSON, and import nothing from each other: they judge alike."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from analysis import shapes as read
from analysis.errors import AnalysisError
from ledger import shapes as kept

GOLDEN = Path(__file__).parents[1] / "golden/format-4"
SHAPES = {"run.json": read.RUN, "cost.json": read.COST, "study.json": read.STUDY, "history.json": read.HISTORY}
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, 2, -1e-7, 1 + 1e-7, 1e-300, 1e59, 1e60, 1e61, -1e61, 1e300, 10**400),
    *(math.inf, -math.inf, math.nan, "", "a", "0", "9f" * 8, "a-b_c", "a.b", "a/b", "..", "é", "½", "٣", "a\n", " "),
    *("a" * 64, "a" * 65, "a" * 128, "a" * 129, "a" * read.MAX_TEXT, "a" * (read.MAX_TEXT + 1), "\ud800"),
    *([], {}, ["a"], {"a": 1}, "plain"),
)
PLACES: tuple[tuple[Any, ...], ...] = (
    ("run.json", "error"),
    *(("run.json", "result", name) for name in ("val_accuracy", "test_accuracy")),
    *(("cost.json", name) for name in ("seconds", "images_per_s", "train_seconds", "peak_memory_mib")),
    *(("history.json", 0, name) for name in ("train_accuracy", "val_accuracy")),
    *(("study.json", name) for name in ("budget", "protocol_hash")),
    *(("study.json", "task", name) for name in ("label", "content_hash")),
    *(("study.json", "arms", 0, name) for name in ("pose", "variant", "role", "words", "pose_words")),
    *(("study.json", "images", *way) for way in (("warnings", 0), ("facts", 0, 0), ("train", 0), ("test", 0))),
    *(("study.json", "arms", 0, name, 0) for name in ("trials", "finals")),
)


def fits_kept(name: str, value: Any) -> bool:
    return kept.misfit(name, value) == ""


def fits_read(name: str, value: Any) -> bool:
    try:
        for each in value if name == "history.json" else [value]:
            read.check(Path(name), each, SHAPES[name])
    except AnalysisError:
        return False
    return True


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
def test_both_judge_alike(place: tuple[Any, ...]) -> None:
    name, *way = place
    file = next(GOLDEN.glob(f"runs/*/{name}" if name != "study.json" else f"studies/*/{name}"))
    verdicts = set()
    for new in VALUES:
        value = json.loads(file.read_text())
        if name == "study.json":  # sprites have neither
            value["images"] |= {"facts": [["a", "b"]], "warnings": ["c"]}
        inner = value
        for step in way[:-1]:
            inner = inner[step]
        inner[way[-1]] = new
        judged: list[Callable[[str, Any], bool]] = [fits_kept, fits_read]
        one, other = (judge(name, value) for judge in judged)
        assert one == other, f"{new!r:.50}: {one} in experiments, {other} in analysis"
        verdicts.add(one)
    assert verdicts == {True, False}


def test_limits_are_the_same() -> None:
    assert (kept.MAX_TEXT, kept.MAX_NUMBER) == (read.MAX_TEXT, read.MAX_NUMBER)
