"""Figures of accuracy over angles, scales, shifts, corruptions and confidence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from matplotlib.axes import Axes

from analysis.figures.calibration import ticks_from
from analysis.findings import Findings, find
from tests.support.drawn_figures import Scores, built, drawn, legend_texts, study_of
from tests.support.synthetic_ledger import write_arm, write_study

CHANCE = "a guess among equal classes: 50.0 %"
FIGURES = ("rotation", "rotation_agreement", "scale_shift", "severity")
ACCURACIES: Scores = {"cnn": [0.50, 0.52, 0.54], "cnn+affine": [0.60, 0.61, 0.65], "stn_affine": [0.56, "failed", 0.56]}


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    return study_of(tmp_path, ACCURACIES)


def lines_of(ax: Axes) -> list[tuple[list[float], list[float]]]:
    """x and y of the lines of variants."""
    lines = [line for line in ax.lines if line.get_zorder() == 3]
    return [(np.asarray(line.get_xdata()).tolist(), np.asarray(line.get_ydata()).tolist()) for line in lines]


def test_accuracy_over_angle(findings: Findings) -> None:
    figure = drawn("rotation", findings)
    (ax,) = figure.axes
    means = [52.0, 62.0, 56.0]
    for (x, y), mean in zip(lines_of(ax), means, strict=True):
        assert x == [-90, 0, 90]
        assert y == pytest.approx([0.6 * mean, mean, 0.6 * mean])
    band = np.asarray(ax.collections[0].get_paths()[0].vertices)
    assert np.ptp(band[band[:, 0] == 0, 1]) == pytest.approx(2 * 4.303 * 2 / 3**0.5, rel=1e-3)  # t(2) * s / sqrt(3)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["−90°", "−45°", "0°", "45°", "90°"]
    assert len(ax.collections) == 2  # of two seeds there is no band: each is drawn
    seeds = [np.asarray(line.get_ydata()).tolist() for line in ax.lines if line.get_zorder() == 2]
    assert seeds == [pytest.approx([33.6, 56, 33.6])] * 2
    assert legend_texts(figure) == [*ACCURACIES, "95 % interval over seeds", "one seed, of two", CHANCE]


def test_agreement_is_not_accuracy(findings: Findings) -> None:
    (ax,) = drawn("rotation_agreement", findings).axes
    assert [y for _, y in lines_of(ax)] == [pytest.approx([60, 100, 60])] * 3


def test_scale_and_shifts_have_a_panel_each(tmp_path: Path) -> None:
    figure = drawn("scale_shift", study_of(tmp_path, ACCURACIES, poses=("upright", "R")))
    assert len(figure.axes) == 4  # the synthetic evaluation has no shift_y
    scale, shift = figure.axes[:2]
    assert lines_of(scale)[0] == ([0.5, 1, 2], pytest.approx([31.2, 52, 31.2]))
    assert lines_of(shift)[0][0] == [-4, 0, 4]
    assert scale.get_xscale() == "log" and shift.get_xscale() == "linear"
    assert scale.get_title(loc="left") == "pose upright"


def test_severity_begins_with_images_as_they_are(findings: Findings) -> None:
    for ax in drawn("severity", findings).axes:
        x, y = lines_of(ax)[0]
        assert x == [0, 1, 2, 3, 4, 5]
        assert y == pytest.approx([52 * (1 - 0.1 * severity) for severity in x])


def test_corruptions_in_cells(findings: Findings) -> None:
    (ax,) = drawn("corruptions", findings).axes
    assert [text.get_text() for text in ax.get_xticklabels()] == ["none", "rotate", "gaussian noise"]
    assert [text.get_text() for text in ax.get_yticklabels()] == list(ACCURACIES)
    cells = [text.get_text() for text in ax.texts]
    assert cells[:2] == ["geometric", "photometric"]
    # five severities lose a tenth each: 30 % on average
    assert cells[2:] == [f"{mean * share:.0f}" for mean in (52, 62, 56) for share in (1, 0.7, 0.7)]


def test_many_variants_have_a_panel_a_model(tmp_path: Path) -> None:
    accuracies: Scores = {
        f"{model}{policy}": [0.5, 0.6] for model in ("cnn", "stn_affine", "p4") for policy in ("", "+affine")
    }
    figure = drawn("rotation", study_of(tmp_path, accuracies))
    shown = [ax for ax in figure.axes if ax.axison]
    assert [ax.get_title(loc="left") for ax in shown] == ["cnn", "stn_affine", "p4"]
    assert [len(lines_of(ax)) for ax in shown] == [2] * 3
    assert legend_texts(figure) == ["no policy", "+affine", "one seed, of two", "other variants", CHANCE]


def test_variants_of_one_model_in_one_panel_differ_in_colour(tmp_path: Path) -> None:
    figure = drawn("rotation", study_of(tmp_path, {f"cnn{policy}": [0.5, 0.6] for policy in ("", "+affine", "+flip")}))
    (ax,) = figure.axes
    assert len({str(line.get_color()) for line in ax.lines if line.get_zorder() == 3}) == 3


def test_more_variants_than_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analysis.figures.invariance.MAX_LINES", 8)
    accuracies: Scores = {f"v{i:02}": [0.3 + i / 100] for i in range(12)}
    figure = drawn("rotation", study_of(tmp_path, accuracies))
    shown = [ax.get_title(loc="left") for ax in figure.axes if ax.axison]
    assert shown == [f"v{i:02}" for i in range(4, 12)]
    assert "the 8 most accurate of 12 variants" in str(figure.get_suptitle())


def test_one_seed_has_no_band(tmp_path: Path) -> None:
    figure = drawn("rotation", study_of(tmp_path, {"cnn": [0.5]}))
    (ax,) = figure.axes
    assert not ax.collections
    assert legend_texts(figure) == ["cnn", CHANCE]


@pytest.mark.parametrize("by_seed", [[0.1, 0.9], [0.0, 0.5, 1.0], [1.0, 1.0, 1.0], [0.0]])
@pytest.mark.parametrize("name", [*FIGURES, "ablation", "cost", "curves"])
def test_no_axis_shows_impossible_accuracies(tmp_path: Path, name: str, by_seed: list[float | str]) -> None:
    ax = drawn(name, study_of(tmp_path, {"cnn": by_seed})).axes[0]
    low, high = ax.get_xlim() if name == "ablation" else ax.get_ylim()
    assert 0 <= low < high <= 100


@pytest.mark.parametrize("name", [*FIGURES, "corruptions", "calibration"])
def test_nothing_without_evaluations(tmp_path: Path, name: str) -> None:
    write_study(tmp_path, [write_arm(tmp_path, "cnn", "cnn", [0.5, "failed", None])])
    assert built(name, find(tmp_path, "tiny-cpu")) is None


@pytest.mark.parametrize("lowest", [3.3, 36.7, 63.3, 83.3, 90.0, 96.7])
def test_confidences_have_ticks_in_even_steps_wherever_they_begin(lowest: float) -> None:
    ticks = ticks_from(lowest)
    assert len(ticks) >= 3 and ticks[-1] == 100 and len(set(np.diff(ticks))) == 1
    assert lowest - 5 <= ticks[0] <= lowest + 17


def test_calibration_by_hand(tmp_path: Path) -> None:
    arm = write_arm(tmp_path, "cnn", "cnn", [0.5])
    confidence = np.repeat([0.55, 0.90, 0.99, 0.30], [20, 40, 100, 19]).astype(np.float32)
    correct = np.concatenate([np.arange(num) < right for num, right in ((20, 10), (40, 30), (100, 50), (19, 19))])
    label = np.zeros(len(correct), np.int16)
    arrays: dict[str, Any] = {
        "label": label,
        "predicted": np.where(correct, 0, 1).astype(np.int16),
        "confidence": confidence,
    }
    arrays["label_probability"] = confidence
    safetensors.numpy.save_file(arrays, tmp_path / "runs" / arm["finals"][0] / "predictions.safetensors")
    write_study(tmp_path, [arm])
    (ax,) = drawn("calibration", find(tmp_path, "tiny-cpu")).axes
    ((x, y),) = lines_of(ax)
    assert x == pytest.approx([100 * 8.5 / 15, 100 * 13.5 / 15, 100 * 14.5 / 15])  # 19 images are too few
    assert y == pytest.approx([50, 75, 50])
