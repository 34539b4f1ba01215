"""Figures: written, the same on every repetition, and showing what the table says."""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.ablation import study_ablation
from analysis.errors import AnalysisError
from analysis.figures import ablation_figure, curves_figure, write_figures
from analysis.records import read_study
from tests.synthetic_ledger import TASK, write_arm, write_study

NAMES = ["ablation.png", "ablation.svg", "curves.png", "curves.svg"]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    ledger = tmp_path / "runs"
    arms = [
        write_arm(ledger, "cnn", "cnn", [0.50, 0.51, 0.52]),
        write_arm(ledger, "cnn+affine", "cnn", [0.60, 0.61, 0.63]),
        write_arm(ledger, "stn_affine", "cnn", [0.49, "diverged", 0.54]),
        write_arm(ledger, "stn_affine+affine", "cnn+affine", ["failed", None, "failed"]),
    ]
    write_study(ledger, arms)
    return ledger


def texts(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj() if hasattr(text, "get_text")]


def points(ax: Axes, marker_size: float) -> list[float]:
    """x of all markers of a size, in the order of drawing."""
    return [
        round(x, 6)
        for line in ax.lines
        if line.get_marker() == "o" and line.get_markersize() == marker_size
        for x in np.asarray(line.get_xdata()).tolist()
    ]


def test_write_figures(ledger: Path, tmp_path: Path) -> None:
    paths = write_figures(ledger, "tiny-cpu", tmp_path / "one")
    assert [path.name for path in paths] == NAMES == sorted(path.name for path in (tmp_path / "one").iterdir())
    for path in paths:
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG")
        else:
            assert ElementTree.fromstring(path.read_text()).tag.endswith("svg")
    again = write_figures(ledger, "tiny-cpu", tmp_path / "two")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


def test_dots_are_the_scores(ledger: Path) -> None:
    figure = ablation_figure(study_ablation(read_study(ledger, "tiny-cpu")))
    left, right = figure.axes
    assert points(left, 3) == [50, 51, 52, 60, 61, 63, 49, 54]
    assert points(left, 6) == [51, pytest.approx(61.333333), 51.5]
    assert points(right, 3) == [10, 10, 11, -1, 2]
    shown = texts(figure)
    assert "stn_affine  (2 of 3)" in shown
    assert "no completed final run" in shown
    assert any(text.startswith("Tiny (JPEG)") for text in shown)


def test_curves_are_means_over_completed_runs(ledger: Path) -> None:
    study = read_study(ledger, "tiny-cpu")
    figure = curves_figure(study, study_ablation(study))
    cnn, stn = figure.axes
    figure.draw_without_rendering()
    for ax in (cnn, stn):
        assert 0 < ax.get_xlim()[0] < 1 < 6 < ax.get_xlim()[1] < 7
        assert 0 < ax.get_ylim()[0] < 11 < 61 < ax.get_ylim()[1] < 100
    solid = [line for line in stn.lines if line.get_linewidth() > 1.5]
    dotted = [line for line in stn.lines if line.get_linestyle() == ":"]
    assert [len(np.asarray(line.get_xdata())) for line in solid] == [6, 0]
    assert [len(np.asarray(line.get_xdata())) for line in dotted] == [3]
    end = np.asarray(cnn.lines[1].get_ydata())[-1]
    assert end == pytest.approx(100 * 0.52 * (1 - 0.7 * 2.718281828**-6))


def test_odd_labels_and_several_poses(tmp_path: Path) -> None:
    ledger, label = tmp_path / "runs", "Odd_$x^2$ |name| <b> 100% 猫"
    arms = []
    for pose in ("upright", "R"):
        arms.append(write_arm(ledger, "cnn", "cnn", [0.5], pose=pose))
        arms.append(write_arm(ledger, "cnn+$\\frac", "cnn", [0.5], pose=pose))
    write_study(ledger, arms, task={**TASK, "label": label})
    assert len(write_figures(ledger, "tiny-cpu", tmp_path / "out")) == 4
    figure = ablation_figure(study_ablation(read_study(ledger, "tiny-cpu")))
    assert len(figure.axes) == 4
    assert any(text.startswith(label) for text in texts(figure))


def test_nothing_finished_yet(tmp_path: Path) -> None:
    ledger = tmp_path / "runs"
    write_study(ledger, [write_arm(ledger, "cnn", "cnn", [None, None], trial_statuses=())])
    assert len(write_figures(ledger, "tiny-cpu", tmp_path / "out")) == 4
    study = read_study(ledger, "tiny-cpu")
    assert "no validation scores" in texts(curves_figure(study, study_ablation(study)))


def test_unknown_study_writes_nothing(ledger: Path, tmp_path: Path) -> None:
    with pytest.raises(AnalysisError, match="did you mean 'tiny-cpu'"):
        write_figures(ledger, "tiny-cpi", tmp_path / "out")
    assert not (tmp_path / "out").exists()
