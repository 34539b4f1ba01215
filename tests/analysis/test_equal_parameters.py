"""Arms beside others that are as large, against numbers worked out by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from analysis.findings import find
from analysis.tables import builders
from analysis.tables.parameters import ParametersRow, equal_parameters
from tests.support.synthetic_ledger import STUDY, key_of, write_arm, write_study


def by_variant(rows: Sequence[Any]) -> dict[str, Any]:
    return {row.variant: row for row in rows}


def test_equal_parameters(tmp_path: Path) -> None:
    sizes = {
        "cnn": 100_000,
        "cnn@cnn:width=1.2": 140_000,
        "cnn@cnn:width=1.3": 150_000,
        "stn": 146_000,
        "stn+affine": 146_000,
        "cnn+affine": 100_000,
        "stn@vit": 200_000,
    }
    gains = dict(zip(sizes, (0, 0.01, 0.02, 0.05, 0.06, 0.03, 0.04), strict=True))
    arms = [
        write_arm(tmp_path, v, "cnn", [0.5 + gains[v], 0.6 + gains[v]], num_parameters=size, trial_statuses=())
        for v, size in sizes.items()
    ]
    write_study(tmp_path, arms)
    found: dict[str, ParametersRow] = by_variant(equal_parameters(find(tmp_path, STUDY)))
    assert {variant: row.match for variant, row in found.items()} == {
        "cnn": None,
        "cnn@cnn:width=1.2": "stn",  # 6,000 off, and 10,000 is more than 5 %
        "cnn@cnn:width=1.3": "stn",
        "stn": "cnn@cnn:width=1.3",
        "stn+affine": None,  # nothing else of that policy is as large
        "cnn+affine": None,
        "stn@vit": None,
    }
    stn = found["stn"]
    assert (stn.num_parameters, stn.match_parameters) == (146_000, 150_000)
    assert stn.difference is not None
    assert (stn.difference.value, stn.difference.num) == (pytest.approx(0.03), 2)
    assert stn.keys == tuple(key_of("upright", v, seed) for v in ("stn", "cnn@cnn:width=1.3") for seed in (11, 12))


def test_equal_parameters_of_controls(tmp_path: Path) -> None:
    """Controls are as large as what they stand beside, and no other use of the same parameters."""
    sizes = {"cnn": 100_000, "oracle_unwarp": 100_000, "cnn_matched": 147_000}
    sizes |= {"stn_affine": 146_000, "stn_shuffled": 146_000, "stn_affine:padding=border": 146_000}
    arms = [write_arm(tmp_path, v, "cnn", [0.5, 0.6], num_parameters=n, trial_statuses=()) for v, n in sizes.items()]
    write_study(tmp_path, arms)
    found: dict[str, ParametersRow] = by_variant(equal_parameters(find(tmp_path, STUDY)))
    assert {variant: row.match for variant, row in found.items()} == {
        "cnn": None,
        "oracle_unwarp": None,
        "cnn_matched": "stn_affine",
        "stn_affine": "cnn_matched",
        "stn_shuffled": "cnn_matched",
        "stn_affine:padding=border": "cnn_matched",
    }


def test_equal_parameters_of_arms_without_runs(tmp_path: Path) -> None:
    arms = [write_arm(tmp_path, "cnn", "cnn", [None, "failed"]), write_arm(tmp_path, "stn", "cnn", [0.5, 0.6])]
    write_study(tmp_path, arms)
    cnn, stn = equal_parameters(find(tmp_path, STUDY))
    assert (cnn.num_parameters, cnn.match, stn.match) == (None, None, None)


def test_the_table_has_the_arms_that_are_matched(tmp_path: Path) -> None:
    sizes = {"cnn": 100_000, "cnn_matched": 147_000, "stn_affine": 146_000}
    scores = {"cnn": [0.5, 0.6, 0.5], "cnn_matched": [0.5, 0.6, 0.5], "stn_affine": [0.6, 0.7, 0.6]}
    arms = [write_arm(tmp_path, v, "cnn", scores[v], num_parameters=n, trial_statuses=()) for v, n in sizes.items()]
    write_study(tmp_path, arms)
    table = builders()["parameters"](find(tmp_path, STUDY))
    assert table is not None
    assert [row[:1] + row[2:3] + row[4:] for row in table.sections[0].table.rows] == [
        ("cnn_matched", "stn_affine", "−10.0 ± 0.0 *", "3"),
        ("stn_affine", "cnn_matched", "+10.0 ± 0.0 *", "3"),
    ]
    write_study(tmp_path, arms[:1])
    assert builders()["parameters"](find(tmp_path, STUDY)) is None
