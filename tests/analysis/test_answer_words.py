"""Whatever the claims come to, the words say what their decisions say, and nothing else."""

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.answer import answer, headline, statements
from analysis.claims import ClaimResult, Decision
from analysis.findings import Findings
from analysis.means import Mean
from analysis.verdicts import verdicts
from ledger.study import Claim
from tests.analysis.test_answer import CNN, study_of

PROMISES: dict[Decision, str] = {
    "better": r"(\bgains\b(?!.*(more than both|would matter)))|stands [\d.]+ ± [\d.]+ points? better(?!.*would matter)",
    "worse": r"(\bloses\b|stands [\d.]+ ± [\d.]+ points? worse)(?!.*would matter)",
    "negligible": r"(\bgains\b|\bloses\b|\bstands\b).*less than the 1 point that would matter here",
    "equivalent": r"\bas good as\b|changes what .* by less than",
    "behind": r"\bgains\b.*, more than both\.",
    "undecided": r"^Cannot tell yet",
    "untested": r"^Nothing can be said",
    "idle": r"^Whether .* is untested",
    "unripe": r"^Trained too short to tell whether",
}
"""What marks a sentence of each decision, and no other."""


@st.composite
def results(draw: st.DrawFn) -> ClaimResult:
    """Any result whose parts fit together."""
    decision: Decision = draw(st.sampled_from(list(PROMISES)))
    size = draw(st.floats(1e-6, 0.9))
    mean = {"better": size, "behind": size, "worse": -size}.get(
        decision, draw(st.sampled_from((-1, 1) if decision == "negligible" else (-1, 0, 1))) * size
    )
    num = draw(st.integers(0, 1)) if decision == "untested" else draw(st.integers(2, 1000))
    value = math.nan if num == 0 else mean
    half_width = math.nan if num < 2 else draw(st.floats(0, 0.5))
    small, large = draw(st.floats(0, 0.05)), draw(st.floats(0.0501, 1))
    p_holm = small if decision in ("better", "worse", "behind", "negligible") else large
    p_equivalent = small if decision in ("equivalent", "negligible") else draw(st.sampled_from((small, large)))
    if decision == "undecided":
        p_equivalent = large
    needed = draw(st.none() | st.integers(num + 1, 5000)) if decision == "undecided" else None
    variant, baseline = draw(
        st.sampled_from([("stn_affine", "cnn"), ("cnn+affine", "cnn"), ("stn_affine+affine", "cnn+affine")])
    )
    interaction = decision != "behind" and draw(st.booleans())
    return ClaimResult(
        claim=Claim("upright", variant, baseline, interaction),
        difference=Mean(value, half_width, num),
        bca=(math.nan, math.nan),
        images=(math.nan, math.nan),
        p=p_holm,
        p_holm=p_holm,
        p_equivalent=p_equivalent,
        improvement=0.5,
        decision=decision,
        seeds_needed=needed,
        keys=(),
        why={"unripe": "trained too short to tell: x is y", "behind": "cnn by itself is z"}.get(decision, ""),
        lost=(0, max(num, 1)),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    """A study of all variants that results() is about."""
    ledger = tmp_path_factory.mktemp("whole")
    return study_of(ledger, dict.fromkeys(("cnn", "cnn+affine", "stn_affine", "stn_affine+affine"), CNN))


def with_claims(whole: Findings, found: list[ClaimResult]) -> Findings:
    """The study as if its claims had come to this."""
    findings = Findings(whole.study)
    vars(findings).update(claims=tuple(found), rows=whole.rows, looks=whole.looks)
    return findings


@given(result=results())
def test_words_agree_with_numbers(whole: Findings, result: ClaimResult) -> None:
    findings = with_claims(whole, [result])
    said = statements(findings)[0]
    assert said.decision == result.decision
    marks = {decision for decision, pattern in PROMISES.items() if re.search(pattern, said.text)}
    assert marks == {result.decision}
    assert result.claim.variant in said.text
    assert result.claim.baseline in said.text
    assert "nan" not in (said.text + headline(findings)).replace("unknown", "")
    if result.decision != "untested":
        plural = "" if result.difference.num == 1 else "s"
        assert f"({result.difference.num:,} seed{plural}, " in said.text
    if result.decision in ("better", "worse", "behind", "negligible"):
        (points,) = re.findall(r"(?:gains|loses|stands) ([\d.]+) ± ", said.text)
        assert float(points) > 0
        assert float(points) == pytest.approx(100 * abs(result.difference.value), abs=0.0501, rel=0.06)
    if result.decision == "undecided" and not result.claim.interaction:
        above, below = "above it" in said.text, "below it" in said.text
        assert above == (result.difference.value >= 0.0005)
        assert below == (result.difference.value <= -0.0005)
    if result.seeds_needed:
        assert f"{result.seeds_needed} could" in said.text
    cannot = "cannot decide" in said.text
    assert cannot == (result.decision == "undecided" and 2 / 2**result.difference.num > 0.05)  # the only claim


@pytest.mark.parametrize(("num", "verb"), [(2, "cannot"), (5, "cannot"), (6, "do not"), (7, "do not")])
def test_how_few_seeds_cannot_decide(whole: Findings, num: int, verb: str) -> None:
    """Published: no exact two-sided paired p is below .0625 with 5 pairs, and .031 with 6."""
    result = replace(whole.claims[0], difference=Mean(0.01, 0.02, num), decision="undecided", seeds_needed=None)
    (said, *_) = answer(with_claims(whole, [result]))
    assert f"; {num} seeds {verb} decide this." in said


@given(found=st.lists(results(), min_size=1, max_size=6))
def test_the_headline_promises_no_more_than_the_claims(whole: Findings, found: list[ClaimResult]) -> None:
    findings = with_claims(whole, found)
    text = headline(findings)
    assert (" helps (" in text) == any(verdict.verb == "helps" for verdict in verdicts(findings))
    for verdict in verdicts(findings):
        of = {result.decision for result in verdict.results}
        assert (verdict.verb == "helps") == ("better" in of)
        assert (verdict.verb == "hurts") == (of == {"worse"})
        assert (verdict.verb == "adds nothing that matters") == (of == {"equivalent"})
        assert (verdict.verb == "cannot tell yet") == (of in ({"undecided"}, {"untested"}))
        assert (verdict.verb == "trained too short to tell") == (of == {"unripe"})
        assert (verdict.verb == "differs, by less than matters") == (of == {"negligible"})
        no_help = len(of) > 1 and of <= {"worse", "equivalent", "negligible"}
        assert (verdict.verb == "does not help") == no_help
    assert "\n" not in text
    assert text.endswith(".")
