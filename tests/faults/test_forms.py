"""The ledger's JSON is judged by one description, value by value: what fits it, and nothing else, is read."""

import json
import math
from typing import Any

import pytest

from ledger.forms import FORMS, MAX_TEXT, misfit
from tests.support.project import ROOT

GOLDEN = ROOT / "tests/golden/format-5"
TEXTS = ("", "a", "plain", "0", "9f" * 8, "a-b_c", "a.b", "a/b", "..", "é", "½", "٣", "a\n", " ", "a" * 64, "a" * 65)
LONG_TEXTS = ("a" * 128, "a" * 129, "a" * MAX_TEXT)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 0.5, 2, -1e-7, 1 + 1e-7, 1e-300, 1e59, 1e60, 1e61, -1e61, 1e300, 10**400),
    *(math.inf, -math.inf, math.nan, 10**15, 2**53, *TEXTS, *LONG_TEXTS, "a" * (MAX_TEXT + 1), "\ud800"),
    *([], {}, ["a"], {"a": 1}),
)
SHARES = (None, 0, 1, 0.5, -1e-7, 1 + 1e-7, 1e-300)
AMOUNTS = (None, 0, 1, 0.5, 2, 1 + 1e-7, 1e-300, 1e59, 1e60, 10**15, 2**53)
COUNTS = (0, 1, 2, 10**15)
KEYS = ("a", "plain", "0", "9f" * 8, "a-b_c", "a" * 64)
HASHES = ("a", "plain", "0", "9f" * 8, "a" * 64, "a" * 65, "a" * 128)
FITTING: dict[tuple[Any, ...], tuple[Any, ...]] = {
    ("run.json", "status"): (*TEXTS, *LONG_TEXTS),
    ("run.json", "error"): (None, *TEXTS, *LONG_TEXTS),
    **{("run.json", "result", name): SHARES for name in ("val_accuracy", "test_accuracy", "rotation_accuracy")},
    **{("cost.json", name): AMOUNTS for name in ("seconds", "images_per_s", "train_seconds", "peak_memory_mib")},
    **{("history.json", 0, name): SHARES for name in ("train_accuracy", "val_accuracy")},
    ("robustness.json", "points", 0, "accuracy"): SHARES,
    ("study.json", "budget"): (*TEXTS, *LONG_TEXTS),
    ("study.json", "protocol_hash"): HASHES,
    ("study.json", "num_finals"): (-1, *COUNTS),
    ("study.json", "tuned_at"): (None, *COUNTS),
    ("study.json", "first"): (None, {}, {"a": 1}),
    ("study.json", "found"): ({}, {"a": 1}),
    ("study.json", "task", "label"): (*TEXTS, *LONG_TEXTS),
    ("study.json", "task", "content_hash"): HASHES,
    **{("study.json", "arms", 0, name): (*TEXTS, *LONG_TEXTS) for name in ("pose", "variant", "words", "pose_words")},
    ("study.json", "arms", 0, "role"): ("plain",),
    **{("study.json", "arms", 0, name, 0): KEYS for name in ("trials", "finals")},
    ("study.json", "arms", 0, "winners", 0): (None, *KEYS),
    **{("study.json", "images", *way): (*TEXTS, *LONG_TEXTS) for way in (("warnings", 0), ("facts", 0, 0))},
    **{("study.json", "images", part, 0): COUNTS for part in ("train", "test")},
}


def golden(name: str) -> Any:
    file = next(GOLDEN.glob(f"runs/*/{name}" if name != "study.json" else f"studies/*/{name}"))
    value = json.loads(file.read_text())
    if name == "study.json":  # what is not there, as of sprites
        value["images"] |= {"facts": [["a", "b"]], "warnings": ["c"]}
        value["arms"][0]["winners"] = [value["arms"][0].pop("winner")]  # as `tuning: per_seed` has them
    return value


@pytest.mark.parametrize("place", FITTING, ids=lambda place: ".".join(map(str, place)))
def test_what_fits_is_read_and_nothing_else(place: tuple[Any, ...]) -> None:
    name, *way, last = place
    fitting = []
    for new in VALUES:
        value = inner = golden(name)
        for step in way:
            inner = inner[step]
        inner[last] = new
        if not misfit(name, value):
            fitting.append(new)
    assert sorted(map(repr, fitting)) == sorted(map(repr, FITTING[place]))


@pytest.mark.parametrize("name", FORMS)
def test_what_is_needed_may_not_be_absent(name: str) -> None:
    assert misfit(name, golden(name)) == ""
    study = "format", "study", "wandb_project", "num_trials", "num_finals", "arms"
    needed = {"run.json": ("format", "status"), "study.json": study}
    for lacking in needed.get(name, ()):
        value = {key: part for key, part in golden(name).items() if key != lacking}
        assert misfit(name, value) == f"{lacking!r} is missing"
        assert misfit(name, value, whole=False) == ""


def test_an_arm_says_which_trials_won() -> None:
    value = golden("study.json")
    del value["arms"][0]["winners"]
    assert misfit("study.json", value) == "'winner or winners' is missing"
    value["arms"][0]["winner"] = None
    assert misfit("study.json", value) == ""
