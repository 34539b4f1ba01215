"""Figures of tuning and of confusion: the trials, budgets, importances and changes that a ledger holds."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.numpy
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from analysis.figures import style
from analysis.findings import Findings, Importances, find
from tests.support.drawn_figures import HOSTILE, built, drawn, texts
from tests.support.synthetic_ledger import SEEDS, STUDY, TASK, key_of, write_arm, write_run, write_study

STATUSES = ("completed", "completed", "failed", "pruned", "completed", "diverged", "completed", "missing", "completed")
VAL_PERCENT = (50.0, 55.0, np.nan, 30.0, 52.0, 20.0, 61.0, np.nan, 58.0)
RATES = (0.1, 0.02, 0.5, 0.3, 0.05, 0.4, 0.15, 0.2, 0.25)


def write_tuned_arm(ledger: Path, variant: str, *, pose: str = "upright", add: float = 0.0) -> dict[str, Any]:
    """An arm with a trial of each kind; the seventh won."""
    arm = write_arm(ledger, variant, variant, [0.5], pose=pose, trial_statuses=())
    arm["trials"] = [key_of(pose, variant, "trial", i) for i in range(len(STATUSES))]
    arm["winner"] = arm["trials"][6]
    for i, (key, status) in enumerate(zip(arm["trials"], STATUSES, strict=True)):
        if status == "missing":
            continue
        accuracy = None if np.isnan(VAL_PERCENT[i]) else VAL_PERCENT[i] / 100 - 0.01 + add
        model = {"padding": ("zeros", "border")[i % 2], "steps": i % 3 + 1, "blur": bool(i % 2), "still": 1}
        write_run(
            ledger, key, variant=variant, pose=pose, stage="trial", seed=0, status=status, accuracy=accuracy,
            lr=RATES[i], model=model if variant.startswith("stn") else {},
        )  # fmt: skip
    return arm


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    ledger = tmp_path / "runs"
    arms = [write_tuned_arm(ledger, "cnn"), write_tuned_arm(ledger, "stn_affine", add=0.1)]
    write_study(ledger, arms, sampler="random")
    return ledger


@pytest.fixture
def findings(ledger: Path) -> Findings:
    return find(ledger, STUDY)


def points(line: Line2D) -> list[list[float]]:
    x, y = (np.asarray(data, dtype=float) for data in line.get_data())
    return np.stack([x, y], axis=1).tolist()


def widths(ax: Axes) -> list[float]:
    """Of the bars."""
    return [bar.get_width() for bar in ax.patches if isinstance(bar, Rectangle)]


def marked(ax: Axes, marker: str) -> list[tuple[float, float]]:
    """x and y of the markers of a kind."""
    lines = [line for line in ax.lines if line.get_marker() == marker and line.get_markersize() < 8]
    return [(float(x), round(float(y), 6)) for line in lines for x, y in points(line)]


def test_trials_in_their_order_with_the_best_so_far(findings: Findings) -> None:
    cnn, stn = drawn("tuning", findings).axes
    assert marked(cnn, "o") == [(1, 50), (2, 55), (5, 52), (7, 61), (9, 58)]
    assert marked(cnn, "v") == [(4, 30)]
    assert marked(cnn, "x") == [(6, 20)]
    assert marked(cnn, "P") == [(3, 0.04)]  # at the foot: it has no score
    assert marked(stn, "o")[0] == (1, 60)
    best = next(line for line in cnn.lines if line.get_drawstyle() == "steps-post")
    assert np.asarray(best.get_xdata()).tolist() == [1, 2, 3, 4, 5, 6, 7, 9]
    assert np.asarray(best.get_ydata()).tolist() == pytest.approx([50, 55, 55, 55, 55, 55, 61, 61])
    chosen = next(line for line in cnn.lines if line.get_markersize() == 8)
    assert points(chosen) == [[7, pytest.approx(61)]]


def test_slices_have_a_column_for_what_was_tuned(findings: Findings) -> None:
    figure = drawn("slices", findings)
    rows = np.array(figure.axes).reshape(2, 4)
    assert [ax.get_xlabel() for ax in rows[1]] == ["optim.lr", "model.blur", "model.padding", "model.steps"]
    assert rows[0, 0].get_ylim() == rows[1, 3].get_ylim()  # heights can be compared
    rate, blur, padding, steps = rows[1]
    assert marked(rate, "o") == [(0.1, 60), (0.02, 65), (0.05, 62), (0.15, 71), (0.25, 68)]
    assert rate.get_xscale() == "log"
    assert [label.get_text() for label in blur.get_xticklabels()] == ["false", "true"]
    assert [label.get_text() for label in padding.get_xticklabels()] == ["border", "zeros"]
    assert [x for x, _ in marked(padding, "o")] == [1, 0, 1, 1, 1]
    assert steps.get_xscale() == "linear"
    assert [text.get_text() for ax in rows[0] for text in ax.texts] == ["not tuned"] * 3


def test_a_study_without_tuning_has_no_figures_of_it(tmp_path: Path) -> None:
    ledger = tmp_path / "runs"
    arms = [
        write_arm(ledger, "cnn", "cnn", [0.5], trial_statuses=("completed",)),
        write_arm(ledger, "stn_affine", "cnn", [0.5], trial_statuses=("failed",)),
        {"pose": "upright", "variant": "late", "baseline": "cnn", "trials": ["f" * 16], "winner": None, "finals": []},
    ]
    write_study(ledger, arms, sampler="random")
    nothing = find(ledger, STUDY)
    assert [built(name, nothing) for name in ("slices", "tuning_budget", "importance", "confusion")] == [None] * 4


def test_two_trials_teach_nothing(tmp_path: Path) -> None:
    arm = write_arm(tmp_path, "cnn", "cnn", [0.5], trial_statuses=())
    arm["trials"] = [key_of("upright", "cnn", "trial", i) for i in range(4)]
    for i, key in enumerate(arm["trials"]):
        write_run(
            tmp_path, key, variant="cnn", pose="upright", stage="trial", seed=0, accuracy=0.5,
            status="completed" if i < 3 else "diverged", lr=RATES[i], model={},
        )  # fmt: skip
    write_study(tmp_path, [arm])
    assert [built(name, find(tmp_path, STUDY)) for name in ("tuning", "slices")] == [None, None]


def test_importance_names_its_evaluator(ledger: Path) -> None:
    shares = {("upright", "stn_affine"): {"optim.lr": 0.7, "model.steps": 0.3}, ("upright", "cnn"): {"optim.lr": 1.0}}
    figure = drawn("importance", find(ledger, STUDY, Importances("PED-ANOVA", shares)))
    shown = texts(figure)
    assert any("PED-ANOVA" in text for text in shown)
    rate, steps = figure.axes
    assert widths(rate) == [100, pytest.approx(70)]
    assert widths(steps) == [pytest.approx(30)]
    assert shown.count("not tuned") == 1
    assert {"100", "70", "30"} <= set(shown)


def test_importances_that_have_no_room_are_summed(ledger: Path) -> None:
    shares = {("upright", "cnn"): {f"optim.h{i}": 0.1 for i in range(10)}}
    figure = drawn("importance", find(ledger, STUDY, Importances("a method", shares)))
    assert len(figure.axes) == 8
    assert figure.axes[-1].get_title("left") == "3 others"
    assert widths(figure.axes[-1]) == [pytest.approx(30)]
    assert built("importance", find(ledger, STUDY)) is None
    assert built("importance", find(ledger, STUDY, Importances("a method", {}))) is None


def test_budgets_are_means_of_the_best_over_all_choices(findings: Findings) -> None:
    (ax,) = drawn("tuning_budget", findings).axes
    cnn = next(line for line in ax.lines if line.get_color() == style.COLORS[0])
    # The first trial tries the defaults, and one that failed says nothing: six draws are left.
    scores = [55.0, 30, 52, 20, 61, 58]
    expected = [np.mean([max(best) for best in itertools.combinations(scores, num)]) for num in range(1, 7)]
    assert np.asarray(cnn.get_xdata()).tolist() == [1, 2, 3, 4, 5, 6]
    assert np.asarray(cnn.get_ydata()).tolist() == pytest.approx(expected)


@pytest.mark.parametrize("sampler", ["tpe", None])
def test_there_is_no_budget_where_trials_were_steered(ledger: Path, sampler: str | None) -> None:
    write_study(ledger, [write_tuned_arm(ledger, "cnn")], study="steered", sampler=sampler)
    assert built("tuning_budget", find(ledger, "steered")) is None


def write_predictions(ledger: Path, key: str, label_N: Any, predicted_N: Any) -> pd.DataFrame:
    """Save them; returns pandas' own count of each true class's answers, in per cent."""
    arrays = {"label": np.array(label_N, np.int16), "predicted": np.array(predicted_N, np.int16)}
    ones_N = np.ones(len(label_N), np.float32)
    file = ledger / "runs" / key / "predictions.safetensors"
    safetensors.numpy.save_file(arrays | {"confidence": ones_N, "label_probability": ones_N}, file)
    return 100 * pd.crosstab(arrays["label"], arrays["predicted"], normalize="index")


def write_answers(ledger: Path, num_classes: int, names: tuple[str, str] = ("cnn", "stn_affine")) -> list[pd.DataFrame]:
    """A study of two variants whose answers are drawn; returns the differences by seed, the third without a partner."""
    draw = np.random.default_rng(num_classes)
    baseline, variant = names
    task = TASK | {"classes": [f"c_{i} $x$ <b" for i in range(num_classes)]}
    arms = [
        write_arm(ledger, baseline, baseline, [0.5, 0.5, 0.5], task=task),
        write_arm(ledger, variant, baseline, [0.6, 0.6, "failed"], task=task),
    ]
    write_study(ledger, arms, task=task)
    label_N = np.arange(40 * num_classes) % num_classes
    differences = []
    for seed in SEEDS[:2]:
        answers = [
            np.where(draw.random(len(label_N)) < right, label_N, draw.integers(0, num_classes, len(label_N)))
            for right in (0.3, 0.6)
        ]
        before, after = (
            write_predictions(ledger, key_of("upright", name, seed), label_N, answer)
            for name, answer in zip(names, answers, strict=True)
        )
        differences.append(after.sub(before, fill_value=0).fillna(0))
    return differences


def test_confusion_is_the_mean_difference_of_paired_runs(tmp_path: Path) -> None:
    one, two = write_answers(tmp_path / "runs", 4)
    figure = drawn("confusion", find(tmp_path / "runs", STUDY))
    ax = figure.axes[0]
    np.testing.assert_allclose(np.asarray(ax.images[0].get_array()), (one.to_numpy() + two.to_numpy()) / 2, atol=1e-9)
    assert ax.get_title("left") == "stn_affine\nagainst cnn\n2 seeds"
    assert ax.get_yticklabels()[0].get_text() == "c_0 $x$ <b"
    gain = (one.to_numpy() + two.to_numpy())[0, 0] / 2
    assert float(ax.texts[0].get_text()) == pytest.approx(gain, abs=0.5)


def test_of_many_classes_the_largest_changes_are_listed(tmp_path: Path) -> None:
    one, two = write_answers(tmp_path / "runs", 30)
    mean_KK = (one.to_numpy() + two.to_numpy()) / 2
    ax = drawn("confusion", find(tmp_path / "runs", STUDY)).axes[0]
    assert not ax.images
    bars = widths(ax)
    assert bars == sorted(bars, reverse=True)
    largest = np.sort(np.abs(mean_KK).ravel())[::-1][: len(bars)]
    np.testing.assert_allclose(np.sort(np.abs(bars))[::-1], largest)
    assert ax.get_yticklabels()[0].get_text() == f"c_{mean_KK.diagonal().argmax()} $x$ <b: right"


def test_confusion_of_a_class_without_images_is_left_empty(tmp_path: Path) -> None:
    ledger = tmp_path / "runs"
    write_answers(ledger, 3)
    for name in ("cnn", "stn_affine"):
        for seed in SEEDS[:2]:
            write_predictions(ledger, key_of("upright", name, seed), [0, 0, 2, 2], [0, 1, 2, 2])
    ax = drawn("confusion", find(ledger, STUDY)).axes[0]
    assert [text.get_text() for text in ax.texts] == ["0", "0", "0", "", "", "", "0", "0", "0"]


def test_hostile_names_are_drawn_as_they_are(tmp_path: Path, recwarn: Any) -> None:
    ledger = tmp_path / "runs"
    write_answers(ledger, 2, (HOSTILE, HOSTILE + "b"))
    arms = [write_tuned_arm(ledger, HOSTILE, pose="R:$x$"), write_tuned_arm(ledger, HOSTILE, pose="P")]
    write_study(ledger, arms, study="tuned", sampler="random", task=TASK | {"label": "a_b & $x$ <猫>"})
    shares = {("P", HOSTILE): {"model.$x$_<b>": 0.5, "optim.lr": 0.5}}
    tuned = find(ledger, "tuned", Importances("$a$ method", shares))
    figures = [drawn("confusion", find(ledger, STUDY))]
    figures += [drawn(name, tuned) for name in ("tuning", "slices", "importance", "tuning_budget")]
    assert all(any("$a_1$&%|" in text for text in texts(figure)) for figure in figures)
    assert [text for text in map(str, (w.message for w in recwarn)) if not text.startswith("Glyph")] == []
