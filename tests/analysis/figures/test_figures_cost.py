"""Accuracy over cost: the frontier, and labels that can be read."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Annotation

from analysis.figures.cost import frontier
from analysis.findings import Findings, find
from tests.support.drawn_figures import built, drawn
from tests.support.synthetic_ledger import write_arm, write_study

Arm = tuple[str, list[float | str], float, int]

ARMS: list[Arm] = [
    ("cnn", [0.50, 0.52], 3e11, 31_000),
    ("cnn+affine", [0.55, 0.57], 3e11, 31_000),
    ("stn_affine", [0.54, 0.55], 4e11, 62_000),
    ("stn_affine+affine", [0.57, 0.60], 4e11, 62_000),
    ("stn_tps", ["failed", "failed"], 5e11, 70_000),
]


def study_of(ledger: Path, arms: list[Arm]) -> Findings:
    write_study(
        ledger,
        [
            write_arm(ledger, variant, arms[0][0], scores, train_flops=flops, num_parameters=size)
            for variant, scores, flops, size in arms
        ],
    )
    return find(ledger, "tiny-cpu")


def test_points_and_frontier(tmp_path: Path) -> None:
    figure = drawn("cost", study_of(tmp_path, ARMS))
    for ax, costs in zip(figure.axes, ((3e11, 4e11), (31_000, 62_000)), strict=True):
        step = ax.lines[0]
        assert np.asarray(step.get_xdata()).tolist() == [costs[0], costs[1], costs[1]]
        assert np.asarray(step.get_ydata()).tolist() == pytest.approx([56, 58.5, 58.5])
        markers = [line for line in ax.lines if line.get_marker() in ("o", "s") and line.get_zorder() == 3]
        points = [(float(np.asarray(line.get_ydata())[0]), line.get_markerfacecolor() != "white") for line in markers]
        assert points == [
            (pytest.approx(51), False), (pytest.approx(56), True),
            (pytest.approx(54.5), False), (pytest.approx(58.5), True),
        ]  # fmt: skip
        assert {text.get_text() for text in ax.texts} == {arm[0] for arm in ARMS[:4]}


def test_marks_stand_where_their_numbers_are_and_names_are_tied_to_them(tmp_path: Path) -> None:
    """Though variants that differ in their policy only cost the same, and these two are nearly as accurate."""
    scores = {"cnn": 0.5, "cnn+affine": 0.6, "cnn+rotate": 0.601, "stn_affine": 0.55}
    arms: list[Arm] = [(name, [score], 3e11 + 1e11 * ("stn" in name), 31_000) for name, score in scores.items()]
    figure = drawn("cost", study_of(tmp_path, arms))
    ax = figure.axes[0]
    marks = [line for line in ax.lines if line.get_zorder() == 3]
    assert all(line.get_transform() == ax.transData for line in marks)
    assert [float(np.asarray(line.get_xdata())[0]) for line in marks] == [3e11, 3e11, 3e11, 4e11]
    tied = [line for line in ax.lines if line.get_zorder() == 1.5]
    ends = {round(float(np.asarray(line.get_ydata())[0]), 2) for line in tied}
    assert {60.0, 60.1} <= ends


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=12, unique=True))
def test_frontier_is_what_nothing_beats(points: list[tuple[int, int]]) -> None:
    cost, accuracy = np.array(points, dtype=np.float64).T
    unbeaten = {
        i for i, (c, a) in enumerate(points)
        if not any(other_c <= c and other_a >= a for j, (other_c, other_a) in enumerate(points) if j != i)
    }  # fmt: skip
    found = frontier(cost, accuracy)
    assert set(found) == unbeaten
    assert sorted(cost[found]) == cost[found].tolist()


@pytest.mark.parametrize("num", [7, 30])
def test_labels_hide_nothing(tmp_path: Path, num: int) -> None:
    draws = np.random.default_rng(3)
    arms: list[Arm] = [
        (f"stn_model{i}:loc=deep", [0.5 + 0.2 * draws.random()], float(10 ** draws.uniform(11, 13)), 1000 * (i + 1))
        for i in range(num)
    ]
    figure = drawn("cost", study_of(tmp_path, arms))
    for ax in figure.axes:
        labels = [text for text in ax.texts if isinstance(text, Annotation)]
        assert len(labels) == num
        boxes = [label.get_window_extent() for label in labels]
        markers = [ax.transData.transform(label.xy) for label in labels]
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        assert not any(box.contains(*marker) for box in boxes for marker in markers)
        frame = ax.get_window_extent().padded(1)
        assert all(frame.contains(*corner) for box in boxes for corner in (box.min, box.max))
    key = [text.get_text() for text in figure.legends[0].get_texts()]
    assert ("1  stn_model0:loc=deep" in key) == (num > 8)


@pytest.mark.parametrize(("flops", "scale"), [((1e11, 9e11), "linear"), ((1e11, 1e12), "log")])
def test_a_decade_is_logarithmic(tmp_path: Path, flops: tuple[float, float], scale: str) -> None:
    figure = drawn("cost", study_of(tmp_path, [(f"v{i}", [0.5], cost, 1000) for i, cost in enumerate(flops)]))
    assert [ax.get_xscale() for ax in figure.axes] == [scale, "linear"]


def test_nothing_completed(tmp_path: Path) -> None:
    assert built("cost", study_of(tmp_path, [("cnn", ["failed"], 1e11, 1000)])) is None
