"""Which classes a variant gets right, and how far its confidence can be trusted."""

import numpy as np

from analysis.findings import Findings
from analysis.formats import ABSENT, Cell, one_line
from analysis.records import Study
from analysis.scores import SHOWN, FinalScores
from analysis.statistics import Floats, mean_interval
from analysis.tables.building import table
from analysis.tables.columns import VARIANT, Column, Draft, arms_by_pose, pose_heading, section
from analysis.tables.ranking import Place, ScoreColumn, places_of, ranking_note, score_columns
from analysis.tables.score_grid import Measured, measured_columns, measured_rows

MAX_COLUMNS = 20
"""Classes that have a column each; of more, the worst and the best are named."""

NUM_NAMED = 5


@table("classes", "Classes and calibration")
def classes(findings: Findings) -> Draft[Measured] | None:
    """A section a pose; None where no run has accuracies by class."""
    study, scores = findings.study, findings.scores
    class_KAS = class_scores(scores)
    if np.isnan(class_KAS).all():
        return None
    overall = [ScoreColumn(score.heading, scores.array(score.name), score) for score in (*SHOWN[:3], *scores.uneven)]
    overall = [column for column in overall if not np.isnan(column.score_AS).all()]
    few = len(study.classes) <= MAX_COLUMNS
    by_class = list(zip(study.classes, class_KAS, strict=True))
    shown = overall + [ScoreColumn(one_line(name), score_AS) for name, score_AS in by_class if few]
    columns: list[Column[Place]] = [VARIANT, *score_columns(shown)]
    if not few:
        columns += [_extremes(study, class_KAS, end) for end in ("Worst", "Best")]
    sections = [
        section(pose_heading(pose, study.arms), columns, places_of(study, arms, scores.keys, shown))
        for pose, arms in arms_by_pose(study.arms).items()
    ]
    notes = (
        ranking_note(study.claims.alpha, study.arms),
        "Numbers are means over the completed final runs; intervals, and every class, are in the CSV file. "
        + ("A column a class: the share of its test images, in per cent, that are right." if few else ""),
        *(f"{score.heading}: {score.meaning}." for _, _, score, *_ in overall[1:]),
    )
    rows = measured_rows(scores, scores.keys, (((name,), [mean_interval(score_AS)]) for name, score_AS in by_class))
    return Draft(sections, notes, measured_columns("class", ["accuracy"], "seeds"), rows)


def class_scores(scores: FinalScores) -> Floats:
    """KAS: test accuracy by class, arm and seed; NaN where a run has none, or the test set none of the class."""
    num_classes = scores.study.num_classes
    found_RK = np.full((len(scores.finals), num_classes), np.nan)
    for row_K, value in zip(found_RK, scores.finals["test_class_accuracy"], strict=True):
        if isinstance(value, np.ndarray) and len(value) == num_classes:
            row_K[:] = value
    class_KAS = np.full((num_classes, len(scores.study.arms), len(scores.seeds)), np.nan)
    class_KAS[:, *scores.places(scores.finals)] = found_RK.T
    return class_KAS


def _extremes(study: Study, class_KAS: Floats, end: str) -> Column[Place]:
    """The classes that an arm is worst or best at."""

    def cell(place: Place) -> Cell:
        mean_K = mean_interval(class_KAS[:, place.arm]).mean_X
        order = [int(k) for k in np.argsort(mean_K, kind="stable") if not np.isnan(mean_K[k])]
        chosen = (order if end == "Worst" else order[::-1])[:NUM_NAMED]
        text = ", ".join(f"{one_line(study.classes[k])} {100 * mean_K[k]:.1f}" for k in chosen)
        return Cell(text or ABSENT, float(mean_K[chosen[0]]) if chosen else None)

    return Column(f"{end} {NUM_NAMED} classes %", "", "l", cell)
