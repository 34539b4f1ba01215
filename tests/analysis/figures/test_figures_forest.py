"""The forest plot of claims, and what all figures promise: legible text, no colour alone, any label."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.text import Text

from analysis.claims import ClaimResult, Decision
from analysis.figures import style
from analysis.figures.forest import claim_label, decision_text
from analysis.figures.registry import NARROW, narrow_drawings
from analysis.findings import Findings, find
from analysis.means import Mean
from ledger.study import Claim
from tests.support.drawn_figures import Scores, built, drawn, study_of
from tests.support.synthetic_ledger import TASK, write_arm, write_study

ACCURACIES: Scores = {
    "cnn": [0.50, 0.51, 0.52, 0.53, 0.54],
    "cnn+affine": [0.60, 0.62, 0.61, 0.63, 0.65],
    "stn_affine": [0.50, 0.51, 0.52, 0.53, 0.54],
    "stn_tps": [0.53, 0.48, 0.55, 0.51, 0.56],
    "stn_translation": ["failed", "failed", None, None, "diverged"],
}


def claimed(ledger: Path, *, evaluated: bool = False, **changes: Any) -> Findings:
    """The study that claims of each variant that it is better than the first."""
    claim = {"pose": "upright", "baseline": "cnn", "interaction": False}
    family = [claim | {"variant": variant} for variant in ACCURACIES if variant != "cnn"]
    claims = {"alpha": 0.35, "margin": 0.01, "declared": True, "family": family}
    return study_of(ledger, ACCURACIES, evaluated=evaluated, claims=claims, **changes)


def test_claims_are_drawn_as_they_were_judged(tmp_path: Path) -> None:
    findings = claimed(tmp_path)
    assert [result.decision for result in findings.claims] == ["better", "equivalent", "undecided", "untested"]
    (ax,) = drawn("forest", findings).axes
    means = [line for line in ax.lines if line.get_zorder() == 4]
    assert [float(np.asarray(line.get_xdata())[0]) for line in means] == pytest.approx([10.2, 0, 0.6], abs=1e-9)
    assert [line.get_marker() for line in means] == [">", "s", "o"]
    assert [line.get_markerfacecolor() == "white" for line in means] == [False, False, True]
    intervals = [line for line in ax.lines if line.get_linewidth() == 2.2]
    ends = np.asarray(intervals[0].get_xdata())
    assert ends == pytest.approx([10.2 - 1.0388, 10.2 + 1.0388], abs=1e-3)  # t(4) = 2.7764, s = 0.8367
    assert ax.patches[0].get_extents().width > 0
    band = ax.transData.inverted().transform_bbox(ax.patches[0].get_window_extent())
    assert (band.x0, band.x1) == pytest.approx((-1, 1))
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "cnn+affine over cnn", "stn_affine over cnn", "stn_tps over cnn", "stn_translation over cnn"
    ]  # fmt: skip
    words = [text.get_text() for text in ax.texts]
    assert "+10.2 ± 1.0  (5 seeds)\nbetter, Holm p = 0.25" in words
    assert any(text.startswith("0.0 ± 0.0  (5 seeds)\nequivalent within 1 point") for text in words)
    assert any("cannot tell yet" in text for text in words)
    assert "not tested: no pair of completed runs" in words


@pytest.mark.parametrize(("evaluated", "only_t"), [(True, False), (False, False), (False, True)])
def test_intervals_stand_around_their_label(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evaluated: bool, only_t: bool
) -> None:
    findings = claimed(tmp_path, evaluated=evaluated)
    if only_t:
        bare = tuple(replace(result, bca=(np.nan, np.nan)) for result in findings.claims)
        monkeypatch.setattr("analysis.findings.claim_results", lambda study: bare)
        findings = find(tmp_path, "tiny-cpu")
    (ax,) = drawn("forest", findings).axes
    y = [float(np.asarray(line.get_ydata())[0]) for line in ax.lines if line.get_zorder() in (2, 3)]
    for middle in ax.get_yticks()[:3]:
        near = [each for each in y if abs(each - middle) < 1]
        assert (min(near) + max(near)) / 2 == pytest.approx(middle)


def result_of(decision: Decision, **changes: Any) -> ClaimResult:
    values: dict[str, Any] = {
        "claim": Claim("upright", "stn_affine", "cnn"), "difference": Mean(0.018, 0.004, 5), "bca": (0.01, 0.02),
        "images": (np.nan, np.nan), "p": 0.01, "p_holm": 0.03, "p_equivalent": 0.9, "improvement": 0.9,
        "seeds_needed": None, "keys": (),
    }  # fmt: skip
    return ClaimResult(decision=decision, **values | changes)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (result_of("better"), "better, Holm p = 0.03"),
        (result_of("worse", p_holm=0.0001), "worse, Holm p < 0.001"),
        (result_of("equivalent", p_equivalent=0.02), "equivalent within 1 point, p = 0.02"),
        (result_of("undecided", seeds_needed=8), "cannot tell yet; 8 seeds could"),
        (result_of("undecided", p_holm=0.5), "cannot tell yet, Holm p = 0.5"),
        (result_of("untested", difference=Mean(0.1, np.nan, 1)), "not tested: one pair of runs"),
        (result_of("untested", difference=Mean(np.nan, np.nan, 0)), "not tested: no pair of completed runs"),
    ],
)
def test_decisions_in_words(result: ClaimResult, words: str) -> None:
    assert decision_text(result, margin=0.01) == words


def test_interactions_say_so() -> None:
    claim = Claim("upright", "stn_affine+affine", "cnn+affine", interaction=True)
    label = claim_label(result_of("better", claim=claim))
    assert label == "stn_affine+affine\nover cnn+affine,\nminus the same without policies"


def test_no_claims_no_forest(tmp_path: Path) -> None:
    write_study(tmp_path, [write_arm(tmp_path, "cnn", "cnn", [0.5, 0.6])])
    assert built("forest", find(tmp_path, "tiny-cpu")) is None


def test_wide_intervals_do_not_flatten_the_others(tmp_path: Path) -> None:
    arms = [write_arm(tmp_path, "cnn", "cnn", [0.50, 0.51]), write_arm(tmp_path, "stn", "cnn", [0.50, 0.53])]
    write_study(tmp_path, arms)
    low, high = drawn("forest", find(tmp_path, "tiny-cpu")).axes[0].get_xlim()  # 1 point ± 12.7
    assert -8 < low < -1.3 and 1.3 < high < 8


def test_every_figure_is_legible_and_fits_a_page(tmp_path: Path) -> None:
    findings = claimed(tmp_path, evaluated=True, task={**TASK, "label": "_Odd $x^2$ |name| <b> 100% 猫 =cmd"})
    seen = set()
    for name in ("ablation", "corruptions", "cost", "curves", "forest", "rotation"):
        figure = drawn(name, findings)
        assert figure.get_figwidth() <= style.WIDTH_IN
        for text in figure.findobj(Text):
            if isinstance(text, Text) and text.get_text():
                assert float(text.get_fontsize()) >= 7, (name, text)
                seen.add(text.get_text())
    assert any("_Odd $x^2$ |name| <b> 100% ? =cmd" in text for text in seen)  # our font lacks 猫


@given(
    st.lists(
        st.builds("{}{}".format, st.sampled_from("abcdefgh"), st.sampled_from(["", "+p", "+q", "+r"])), unique=True
    )
)
def test_lines_differ_without_colour(variants: list[str]) -> None:
    for styles in (style.variant_styles(variants), style.line_styles(variants)):
        assert len({(line.linestyle, line.marker, line.color) for line in styles.values()}) == len(variants)
    styles = style.variant_styles(variants)
    assert len({(line.linestyle, line.marker) for line in styles.values()}) == len(variants)


def test_a_phone_s_form_says_the_same_in_half_the_width(tmp_path: Path) -> None:
    findings = claimed(tmp_path, evaluated=True)
    wide, narrow = drawn("forest", findings), NARROW["forest"](findings)
    assert narrow is not None and narrow.get_figwidth() == style.COLUMN_IN
    labels = [label.get_text() for label in wide.axes[0].get_yticklabels()]
    words = [f"{label}\n{text.get_text()}" for label, text in zip(labels, wide.axes[0].texts, strict=True)]
    assert [text.get_text() for text in narrow.axes[0].texts] == words
    narrow.draw_without_rendering()
    lines = [line.get_window_extent() for line in narrow.axes[0].lines if line.get_zorder() > 1]
    for text in narrow.axes[0].texts:
        box = text.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= narrow.bbox.x1
        assert not any(line.overlaps(box) for line in lines)
    assert set(narrow_drawings(findings)) == {"forest"}  # a ladder has a narrow form, too


def test_a_legend_has_no_colours_where_all_is_grey(tmp_path: Path) -> None:
    findings = claimed(tmp_path)

    def colors() -> set[str]:
        (legend,) = drawn("forest", findings).legends
        return {to_hex(line.get_color()) for line in legend.get_lines()}

    assert to_hex(style.MUTED) not in colors()
    vars(findings)["claims"] = [replace(result, decision="unripe") for result in findings.claims]
    assert colors() == {to_hex(style.MUTED)}
