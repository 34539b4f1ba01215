"""What the answer in words must not promise: more than was decided, and of an interaction what is another claim's."""

import re
from pathlib import Path
from typing import Any

import pytest

from analysis.answer import answer, headline
from analysis.verdicts import verdicts
from tests.analysis.test_answer import shifted, study_of


def test_the_gap_is_no_more_certain_than_the_claim(tmp_path: Path) -> None:
    """Five seeds decide nothing, although the interval of the share, which knows of no other claim, excludes zero."""
    cnn, oracle = shifted([10.1, 9.9, 10.0, 10.2, 9.8])
    _, stn = shifted([2.5, 2.6, 2.4, 2.5, 2.6])
    *_, ours = answer(study_of(tmp_path, {"cnn": cnn, "oracle_unwarp": oracle, "stn_affine": stn}))
    assert ours.startswith("Cannot tell yet")
    assert re.search(r"Whether it closes any of the gap to .* is open: so far 25 % \[2\d, 2\d\]\.", ours)


def declared(*family: tuple[str, str, bool]) -> dict[str, Any]:
    """Claims of a study: variant, baseline, and whether it is of their interaction."""
    keys = ("pose", "variant", "baseline", "interaction")
    claims = [dict(zip(keys, ("upright", *entry), strict=True)) for entry in family]
    return {"alpha": 0.05, "margin": 0.01, "declared": True, "family": claims}


@pytest.mark.usefixtures("seeds")
def test_an_interaction_is_told_as_such(tmp_path: Path) -> None:
    """That a lead grows does not say that the variant is ahead."""
    cnn, stn = shifted([-5.0, -5.1, -4.9, -5.0, -5.1, -4.9, -5.0, -5.0])
    _, both = shifted([-1.0, -1.0, -1.1, -0.9, -1.0, -1.1, -0.9, -1.0])
    findings = study_of(
        tmp_path,
        {"cnn": cnn, "cnn+affine": cnn, "stn_affine": stn, "stn_affine+affine": both},
        claims=declared(("stn_affine+affine", "cnn+affine", True)),
    )
    assert [result.decision for result in findings.claims] == ["better"]
    assert verdicts(findings) == ()
    assert headline(findings).endswith(f"32 px, tuned once. {answer(findings)[0]}")
    assert "With augmentation, stn_affine+affine stands 4.0 ± 0.1 points better beside" in headline(findings)


@pytest.mark.usefixtures("seeds")
def test_an_untested_interaction_leaves_its_arms_told(tmp_path: Path) -> None:
    cnn, both = shifted([1.8, 2.0, 1.9, 1.7, 2.1, 1.8, 2.0, 1.9])
    findings = study_of(
        tmp_path,
        {"cnn": cnn, "cnn+affine": cnn, "stn_affine": ["failed"] * 8, "stn_affine+affine": both},
        claims=declared(("stn_affine+affine", "cnn+affine", False), ("stn_affine+affine", "cnn+affine", True)),
    )
    gain, interaction, _ = answer(findings)
    assert gain.startswith("stn_affine+affine gains 1.9 ± 0.1 points over cnn+affine")
    assert interaction == (
        "Nothing can be said of what augmentation changes yet for stn_affine+affine beside cnn+affine: all 8 runs of "
        "stn_affine failed."
    )


@pytest.mark.usefixtures("seeds")
def test_the_best_of_several_ways_is_told_as_that(tmp_path: Path) -> None:
    cnn, one = shifted([1.8, 2.0, 1.9, 1.7, 2.1, 1.8, 2.0, 1.9])
    _, other = shifted([2.8, 3.0, 2.9, 2.7, 3.1, 2.8, 3.0, 2.9])
    text = headline(study_of(tmp_path, {"cnn": cnn, "stn_affine": one, "stn_tps": other}))
    assert (
        "helps (by up to 2.9 points, the most of 2 ways: stn_tps over cnn at the same training time and computation; 2 "
        "are better)" in text
    )
