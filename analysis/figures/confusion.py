"""Which classes a variant takes for which more often, or less often, than its baseline.

Legend: K classes, N images; KK the true class in rows, the predicted one in columns.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from analysis.evaluations import Predictions, read_predictions
from analysis.figures import figure, style
from analysis.figures.fonts import class_names
from analysis.figures.selection import lines
from analysis.findings import Findings
from analysis.records import Study
from analysis.statistics import Floats
from ledger.study import Claim

_MOST_PANELS, _MOST_SEEDS = 4, 20
_MOST_CLASSES = 12
"""Of a matrix whose cells have room for a number; of more classes, the largest changes are listed."""

_MOST_CHANGES = 14
_LABEL = 34


class _Change(NamedTuple):
    """A comparison. points_KK: change in percentage points of the true class's images, over so many pairs of seeds."""

    claim: Claim
    points_KK: Floats
    num_seeds: int


@figure(
    "confusion",
    "How a variant's answers differ from its baseline's, in percentage points of the images of a true class: on the "
    "diagonal (framed) more is better, elsewhere each cell is a kind of mistake and less is better.",
)
def confusion(findings: Findings) -> Figure | None:
    """A panel a comparison: a matrix with a number a cell, or bars of the largest changes where classes are many."""
    study = findings.study
    claims = [claim for claim in study.claims.family if not claim.interaction]
    changes, num = _changes(study, findings.completed, claims)
    if not changes:
        return None
    note = f"the {len(changes)} of {num} comparisons whose accuracies differ most" if num > len(changes) else ""
    is_small = study.num_classes <= _MOST_CLASSES
    columns = min(2, len(changes))
    rows = -(-len(changes) // columns)
    height = min(3.5, 1.2 + 0.28 * study.num_classes) if is_small else 0.19 * _MOST_CHANGES + 0.6
    drawn = Figure(figsize=(style.WIDTH_IN, 0.9 + rows * (height + 0.3)))
    axes = drawn.subplots(rows, columns, squeeze=False)
    for ax in axes.flat[len(changes) :]:
        ax.set_axis_off()
    limit = max(1.0, *(float(np.nanmax(np.abs(change.points_KK))) for change in changes))
    names = [style.shortened(name, 12 if is_small else 16) for name in class_names(study)]
    image: AxesImage | None = None
    for i, (ax, change) in enumerate(zip(axes.flat, changes, strict=False)):
        if is_small:
            image = _draw_matrix(ax, change.points_KK, names, limit)
        else:
            _draw_changes(ax, change.points_KK, names, limit)
        ax.set_title(_panel_title(study, change), fontsize=7.5)
        if is_small and i % columns == 0:
            ax.set_ylabel("true class")
        if i >= len(changes) - columns:
            ax.set_xlabel("predicted class" if is_small else "change, percentage points")
    if image is not None:
        bar = drawn.colorbar(image, ax=axes, location="bottom", shrink=0.6, aspect=40)
        bar.set_label("change in percentage points of the true class's images")
    style.add_title(drawn, study, lines("Which answers change, and how", note))
    return drawn


def _changes(study: Study, runs: pd.DataFrame, claims: list[Claim]) -> tuple[list[_Change], int]:
    """Those that differ most in test accuracy, in the order of the study, and how many there are in all."""
    keys: dict[tuple[str, str], dict[int, str]] = {}
    for pose, variant, seed, key in runs[["pose", "variant", "seed", "key"]].itertuples(index=False):
        keys.setdefault((pose, variant), {})[int(seed)] = key
    accuracy = runs.groupby(["pose", "variant"])["test_accuracy"].mean().to_dict()
    pairs: list[tuple[float, int, Claim, list[tuple[str, str]]]] = []
    for i, claim in enumerate(claims):
        own, others = (keys.get((claim.pose, name), {}) for name in (claim.variant, claim.baseline))
        both = [(own[seed], others[seed]) for seed in sorted(own.keys() & others.keys())]
        if both and _has_predictions(study, both[0]):
            sides = (accuracy[claim.pose, name] for name in (claim.variant, claim.baseline))
            pairs.append((-abs(np.subtract(*sides)), i, claim, both))
    changes = []
    for _, _, claim, both in sorted(sorted(pairs, key=lambda pair: pair[:2])[:_MOST_PANELS], key=lambda pair: pair[1]):
        found = [points for pair in both[:_MOST_SEEDS] if (points := _points(study, *pair)) is not None]
        if found:
            changes.append(_Change(claim, np.mean(found, axis=0), len(found)))
    return changes, len(pairs)


def _has_predictions(study: Study, keys: tuple[str, str]) -> bool:
    return all((study.ledger / "runs" / key / "predictions.safetensors").is_file() for key in keys)


def _points(study: Study, key: str, baseline: str) -> Floats | None:
    """The difference of a pair of runs, (K, K); rows of classes without images are NaN."""
    own, other = read_predictions(study, key), read_predictions(study, baseline)
    if own is None or other is None:
        return None
    return 100 * (_rates(own, study.num_classes) - _rates(other, study.num_classes))


def _rates(predictions: Predictions, num_classes: int) -> Floats:
    """Share of each true class's images by predicted class."""
    label_N, predicted_N = predictions.label_N.astype(np.int64), predictions.predicted_N.astype(np.int64)
    count_KK = np.bincount(label_N * num_classes + predicted_N, minlength=num_classes**2)
    count_KK = count_KK.reshape(num_classes, num_classes).astype(np.float64)
    total_K1 = count_KK.sum(axis=1, keepdims=True)
    return np.divide(count_KK, total_K1, out=np.full_like(count_KK, np.nan), where=total_K1 > 0)


def _draw_matrix(ax: Axes, points_KK: Floats, names: list[str], limit: float) -> AxesImage:
    image = ax.imshow(points_KK, cmap=style.DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
    size = 7.0 if len(names) <= 10 else 6.0
    for row, column in np.ndindex(*points_KK.shape):
        value = float(points_KK[row, column])
        color = "white" if abs(value) > 0.65 * limit else "black"
        ax.text(column, row, _signed(value), ha="center", va="center", fontsize=size, color=color)
    for i in range(len(names)):
        ax.add_patch(Rectangle((i - 0.5, i - 0.5), 1, 1, fill=False, edgecolor="black", linewidth=1))
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), names)
    ax.grid(visible=False)
    return image


def _draw_changes(ax: Axes, points_KK: Floats, names: list[str], limit: float) -> None:
    """The largest changes, from the most gained to the most lost; hatched bars are of mistakes."""
    flat = np.nan_to_num(points_KK).ravel()
    largest = np.argsort(-np.abs(flat), kind="stable")[:_MOST_CHANGES]
    largest = largest[np.argsort(-flat[largest], kind="stable")]
    labels = []
    for y, index in enumerate(largest):
        true, predicted = divmod(int(index), len(names))
        is_right = true == predicted
        about: dict[str, Any] = {"color": style.MAIN} if is_right else {"color": style.COLORS[1], "hatch": "////"}
        ax.barh(y, flat[index], height=0.7, edgecolor="white", linewidth=0, **about)
        labels.append(f"{names[true]}: right" if is_right else f"{names[true]} as {names[predicted]}")
    ax.axvline(0, color=style.REFERENCE, linewidth=1)
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_xlim(-1.05 * limit, 1.05 * limit)
    ax.grid(visible=False, axis="y")


def _signed(value: float) -> str:
    """Without decimals from 10 on, and nothing where nothing changes."""
    if np.isnan(value):
        return ""
    text = f"{value:+.0f}" if abs(value) >= 9.95 else f"{value:+.1f}"
    return "0" if not text.strip("+-0.") else text.replace("-", "−")


def _panel_title(study: Study, change: _Change) -> str:
    claim = change.claim
    variant, baseline = (style.wrapped_name(name, _LABEL) for name in (claim.variant, claim.baseline))
    pose = f"pose {style.shortened(claim.pose, 24)}, " if len({arm.pose for arm in study.arms}) > 1 else ""
    return f"{variant}\nagainst {baseline}\n{pose}{change.num_seeds} seed{'s' if change.num_seeds > 1 else ''}"
