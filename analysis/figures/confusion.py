"""Which classes a variant takes for which more often, or less often, than its baseline.

Legend: K classes, N images; KK the true class in rows, the predicted one in columns.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.evaluations import Predictions, read_predictions
from analysis.figures import style
from analysis.figures.fonts import class_names
from analysis.figures.grids import panel_grid
from analysis.figures.registry import figure
from analysis.figures.selection import has_poses, has_predictions
from analysis.findings import Findings
from analysis.records import Study
from analysis.statistics import Floats
from ledger.study import Claim
from ledger.wording import count

_MOST_PANELS, _MOST_SEEDS = 4, 20
_MOST_CLASSES = 12
"""More would leave no room for a number in a cell of the matrix: the largest changes are listed instead."""

_MOST_CHANGES = 14


@figure(
    "confusion",
    "How a variant's answers differ from its baseline's, in percentage points of the images of a true class: on the "
    "diagonal (framed) more is better, elsewhere each cell is a kind of mistake and less is better.",
)
def confusion(findings: Findings) -> Figure | None:
    """A panel a comparison: a matrix with a number a cell, or bars of the largest changes where classes are many."""
    study = findings.study
    changes, note = _changes(findings)
    if not changes:
        return None
    is_small = study.num_classes <= _MOST_CLASSES
    height_in = min(3.5, 1.2 + 0.28 * study.num_classes) if is_small else 0.19 * _MOST_CHANGES + 0.6
    drawn, grid = panel_grid(len(changes), 2, height_in + 0.3, rest_in=0.9)
    means = [np.mean(points, axis=0) for _, points in changes]
    limit = max(1.0, *(float(np.nanmax(np.abs(mean_KK))) for mean_KK in means))
    names = [style.shortened(name, 12 if is_small else 16) for name in class_names(study)]
    for ax, mean_KK, (claim, points) in zip(grid.flat, means, changes, strict=False):
        (_draw_matrix if is_small else _draw_changes)(ax, mean_KK, names, limit)
        variant, baseline = (style.wrapped_name(name, 34) for name in (claim.variant, claim.baseline))
        pose = f"pose {style.shortened(claim.pose, 24)}, " if has_poses(study) else ""
        ax.set_title(f"{variant}\nagainst {baseline}\n{pose}{count(len(points), 'seed')}", fontsize=7.5)
    for ax in grid.flat[max(0, len(changes) - grid.shape[1]) : len(changes)]:
        ax.set_xlabel("predicted class" if is_small else "change, percentage points")
    if is_small:
        for row in grid:
            row[0].set_ylabel("true class")
        bar = drawn.colorbar(grid.flat[len(changes) - 1].images[0], ax=grid, location="bottom", shrink=0.6, aspect=40)
        bar.set_label("change in percentage points of the true class's images")
    return style.finished(drawn, study, [], "Which answers change, and how", note)


def _changes(findings: Findings) -> tuple[list[tuple[Claim, list[Floats]]], str]:
    """The comparisons that differ most in test accuracy, in the order of the study, and a line that says so.

    With each comparison the changes of its pairs of runs, (K, K), in percentage points of the true class's images.
    """
    study, runs = findings.study, findings.completed
    accuracy = runs.groupby(["pose", "variant"])["test_accuracy"].mean()
    claims: list[tuple[float, Claim, list[list[str]]]] = []
    for claim in study.claims.family:
        pairs = findings.scores.pairs(claim).key_VP.T.tolist()
        if pairs and not claim.interaction and all(has_predictions(study, key) for key in pairs[0]):
            difference = accuracy[claim.pose, claim.variant] - accuracy[claim.pose, claim.baseline]
            claims.append((abs(difference), claim, pairs))
    largest = sorted(range(len(claims)), key=lambda i: -claims[i][0])[:_MOST_PANELS]
    changes = []
    for _, claim, pairs in (claims[i] for i in sorted(largest)):
        points = [points_KK for pair in pairs[:_MOST_SEEDS] if (points_KK := _points(study, pair)) is not None]
        if points:
            changes.append((claim, points))
    most = f"the {len(changes)} of {len(claims)} comparisons whose accuracies differ most"
    return changes, most if len(claims) > len(changes) else ""


def _points(study: Study, pair: Sequence[str]) -> Floats | None:
    """The change from the second run to the first; rows of classes without images are NaN."""
    both = [predictions for key in pair if (predictions := read_predictions(study, key))]
    rates = [_rates(predictions, study.num_classes) for predictions in both]
    return 100 * (rates[0] - rates[1]) if len(rates) == 2 else None


def _rates(predictions: Predictions, num_classes: int) -> Floats:
    """Share of each true class's images by predicted class."""
    label_N, predicted_N = predictions.label_N.astype(np.int64), predictions.predicted_N.astype(np.int64)
    count_KK = np.bincount(label_N * num_classes + predicted_N, minlength=num_classes**2)
    count_KK = count_KK.reshape(num_classes, num_classes).astype(np.float64)
    total_K1 = count_KK.sum(axis=1, keepdims=True)
    return np.divide(count_KK, total_K1, out=np.full_like(count_KK, np.nan), where=total_K1 > 0)


def _draw_matrix(ax: Axes, points_KK: Floats, names: list[str], limit: float) -> None:
    ax.imshow(points_KK, cmap=style.DIVERGING, vmin=-limit, vmax=limit, aspect="auto")
    size = 7.0 if len(names) <= 10 else 6.0
    for row, column in np.ndindex(*points_KK.shape):
        value = float(points_KK[row, column])
        color = style.ON_DARK if abs(value) > 0.65 * limit else style.ON_LIGHT
        ax.text(column, row, _signed(value), ha="center", va="center", fontsize=size, color=color)
    for i in range(len(names)):
        ax.add_patch(Rectangle((i - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=style.ON_LIGHT, linewidth=1))
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(range(len(names)), names)
    ax.grid(visible=False)


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
