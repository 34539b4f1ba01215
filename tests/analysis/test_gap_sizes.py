"""The share of the gap at each size of training, of runs that were made, against ratios worked out here."""

from pathlib import Path

import numpy as np
import pytest

from analysis.figures.ladder import gap_figure
from analysis.findings import Findings, find
from analysis.gap import shares_by_size
from analysis.tables import build_tables
from experiments.sweep.sweep import Sweep
from tests.support.tiny_study import STUDY, TINY, HereAndNow, sweep_here

pytestmark = pytest.mark.long

NAMES = ("cnn", "oracle_unwarp", "cnn+posed")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Sweep:
    variants = [{"variant": name, "baseline": "cnn"} for name in NAMES]
    search = TINY["search"] | {"trials": 1, "extras": {}}
    return sweep_here(
        tmp_path_factory.mktemp("gap"),
        HereAndNow(),
        poses=["R"],
        variants=variants,
        search=search,
        ladder={"rungs": [{"train_images": 48, "epochs": 3}]},
        final_seeds=3,
    )


@pytest.fixture(scope="module")
def findings(made: Sweep) -> Findings:
    return find(made.ledger.root, STUDY)


def test_a_rung_of_fewer_images_has_more_epochs(made: Sweep) -> None:
    assert [(rung.train_images, rung.epochs) for rung in made.plan.rungs] == [(48, 3)]


def test_shares_are_ratios_of_paired_differences(made: Sweep, findings: Findings) -> None:
    (row,) = shares_by_size(findings.study)
    assert (row.pose, row.variant) == ("R", "cnn+posed")
    for number, share in enumerate(row.shares):
        keys = [arm.finals if number == 1 else arm.rungs[0] for arm in made.arms]
        plain, unwarped, posed = (
            np.array([made.ledger.read(key)["result"]["test_accuracy"] for key in of_arm]) for of_arm in keys
        )
        gap = unwarped - plain
        if not np.isnan(share.value):
            assert share.value == pytest.approx((posed - plain).mean() / gap.mean())
        else:  # so small a gap is not told from none
            assert gap.mean() - 4.303 * gap.std(ddof=1) / 3**0.5 <= 0
    assert set(row.keys) == {*made.arms[2].rungs[0], *made.arms[2].finals}


def test_the_table_has_a_column_for_each_size(findings: Findings) -> None:
    table = build_tables(findings)["gap"]
    assert table.sections[0].table.columns == ("Variant", "48 x 3", "96 x 2")
    assert table.columns[3:5] == ("gap_closed_48x3", "gap_closed_48x3_low")
    assert [row[2] for row in table.rows] == ["cnn+posed"]


def test_a_study_without_a_ladder_has_neither(tmp_path: Path, cache: Path) -> None:
    sweep = sweep_here(tmp_path, HereAndNow(), search=TINY["search"] | {"trials": 1}, final_seeds=1)
    found = find(sweep.ledger.root, STUDY)
    assert shares_by_size(found.study) == () and "gap" not in build_tables(found) and gap_figure(found) is None
