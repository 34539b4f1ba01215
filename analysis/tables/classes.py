"""Which classes a variant gets right, and how far its confidence can be trusted."""

import numpy as np

from analysis.findings import Findings
from analysis.formats import ABSENT, Cell, Section, Table, Value, one_line, text_table
from analysis.means import mean_of
from analysis.scores import SCORES, FinalScores, final_scores
from analysis.statistics import Estimate, Floats, mean_interval
from analysis.tables import table
from analysis.tables.ranking import RankedColumn, arms_by_pose, pose_heading, ranked, ranking_note

MAX_COLUMNS = 20
"""Classes that have a column each; of more, the worst and the best are named."""

NUM_NAMED = 5


@table("classes")
def classes(findings: Findings) -> Table | None:
    """A section a pose; None where no run has accuracies by class."""
    study, scores = findings.study, final_scores(findings.study)
    class_KAS = class_scores(scores)
    if np.isnan(class_KAS).all():
        return None
    overall = [score for score in SCORES[:3] if not np.isnan(scores.array(score.name)).all()]
    few = len(study.classes) <= MAX_COLUMNS
    sections = []
    for pose, places in arms_by_pose(study.arms).items():
        arms = [study.arms[i] for i in places]
        columns: dict[str, RankedColumn] = {
            score.heading: ranked(
                scores.array(score.name)[places], arms, study.claims.alpha,
                factor=score.factor, decimals=score.decimals, smaller_is_better=score.smaller_is_better,
                intervals=False,
            )
            for score in overall
        }  # fmt: skip
        headings = [*columns]
        ranks = list(columns.values())
        named: list[tuple[Cell, ...]] = [()] * len(places)
        if few:
            headings += map(one_line, study.classes)
            ranks += [ranked(score_AS[places], arms, study.claims.alpha, intervals=False) for score_AS in class_KAS]
        else:
            headings += [f"Worst {NUM_NAMED} classes %", f"Best {NUM_NAMED} classes %"]
            named = [_extremes(mean_interval(class_KAS[:, i]), study.classes) for i in places]
        cells = [(Cell(arm.variant), *(column.cells[j] for column in ranks), *named[j]) for j, arm in enumerate(arms)]
        strong = frozenset((j, 1 + k) for k, column in enumerate(ranks) for j in range(len(arms)) if column.first[j])
        align = "l" + "r" * len(ranks) + ("" if few else "ll")
        text = text_table(("Variant", *headings), align, cells, strong)
        sections.append(Section(pose_heading(pose, study.arms), text, tuple(scores.keys[i] for i in places)))
    notes = (
        ranking_note(study.claims.alpha, study.arms),
        "Numbers are means over the completed final runs; intervals, and every class, are in the CSV file. "
        + ("A column a class: the share of its test images, in per cent, that are right." if few else ""),
        *(f"{score.heading}: {score.meaning}." for score in overall[1:]),
    )
    columns_csv = ("study", "pose", "variant", "class", "accuracy", "accuracy_half_width", "accuracy_num_seeds")
    title = f"Classes and calibration on {study.task_label}"
    rows = _rows(findings, scores, class_KAS)
    return Table(study.name, "classes", title, tuple(sections), notes, (*columns_csv, "run_keys"), rows)


def class_scores(scores: FinalScores) -> Floats:
    """KAS: test accuracy by class, arm and seed; NaN where a run has none, or the test set none of the class."""
    num_classes = scores.study.num_classes
    found_RK = np.full((len(scores.finals), num_classes), np.nan)
    for row_K, value in zip(found_RK, scores.finals["test_class_accuracy"], strict=True):
        if isinstance(value, np.ndarray) and len(value) == num_classes:
            row_K[:] = value
    class_KAS = np.full((num_classes, len(scores.study.arms), len(scores.seeds)), np.nan)
    place_R = scores.finals["arm"].to_numpy(int), np.searchsorted(scores.seeds, scores.finals["seed"].to_numpy())
    class_KAS[:, *place_R] = found_RK.T
    return class_KAS


def _extremes(estimate: Estimate, names: tuple[str, ...]) -> tuple[Cell, Cell]:
    order = [int(k) for k in np.argsort(estimate.mean_X, kind="stable") if estimate.num_X[k]]

    def told(chosen: list[int]) -> Cell:
        text = ", ".join(f"{one_line(names[k])} {100 * estimate.mean_X[k]:.1f}" for k in chosen)
        return Cell(text or ABSENT, float(estimate.mean_X[chosen[0]]) if chosen else None)

    return told(order[:NUM_NAMED]), told(order[::-1][:NUM_NAMED])


def _rows(findings: Findings, scores: FinalScores, class_KAS: Floats) -> tuple[tuple[Value, ...], ...]:
    estimate = mean_interval(class_KAS.transpose(1, 0, 2).reshape(-1, len(scores.seeds)))
    study = findings.study
    rows: list[tuple[Value, ...]] = []
    for i, arm in enumerate(study.arms):
        keys = " ".join(scores.keys[i])
        for k, name in enumerate(study.classes):
            mean = mean_of(estimate, i * study.num_classes + k)
            if mean.num:
                rows.append((study.name, arm.pose, arm.variant, name, *mean, keys))
    return tuple(rows)
