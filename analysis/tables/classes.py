"""Which classes a variant gets right, and how far its confidence can be trusted."""

import numpy as np

from analysis.findings import Findings
from analysis.formats import ABSENT, Cell, Section, Table, one_line, text_table
from analysis.scores import SHOWN, FinalScores
from analysis.statistics import Estimate, Floats, mean_interval
from analysis.tables import table
from analysis.tables.ranking import arms_by_pose, pose_heading, ranked, ranking_note
from analysis.tables.score_grid import measured_rows

MAX_COLUMNS = 20
"""Classes that have a column each; of more, the worst and the best are named."""

NUM_NAMED = 5


@table("classes")
def classes(findings: Findings) -> Table | None:
    """A section a pose; None where no run has accuracies by class."""
    study, scores = findings.study, findings.scores
    class_KAS = class_scores(scores)
    if np.isnan(class_KAS).all():
        return None
    overall = [score for score in SHOWN[:3] if not np.isnan(scores.array(score.name)).all()]
    few, alpha = len(study.classes) <= MAX_COLUMNS, study.claims.alpha
    headings = ["Variant", *(score.heading for score in overall)]
    headings += map(one_line, study.classes) if few else [f"{end} {NUM_NAMED} classes %" for end in ("Worst", "Best")]
    align = "l" + "r" * (len(overall) + few * len(study.classes)) + ("" if few else "ll")
    sections = []
    for pose, places in arms_by_pose(study.arms).items():
        arms = [study.arms[i] for i in places]
        ranks = [ranked(scores.array(score.name)[places], arms, alpha, score, intervals=False) for score in overall]
        if few:
            ranks += [ranked(score_AS[places], arms, alpha, intervals=False) for score_AS in class_KAS]
        cells = [
            (study.arms[i].variant, *(column[j].cell for column in ranks),
             *(() if few else _extremes(mean_interval(class_KAS[:, i]), study.classes)))
            for j, i in enumerate(places)
        ]  # fmt: skip
        text = text_table(headings, align, cells)
        sections.append(Section(pose_heading(pose, study.arms), text, tuple(scores.keys[i] for i in places)))
    notes = (
        ranking_note(study.claims.alpha, study.arms),
        "Numbers are means over the completed final runs; intervals, and every class, are in the CSV file. "
        + ("A column a class: the share of its test images, in per cent, that are right." if few else ""),
        *(f"{score.heading}: {score.meaning}." for score in overall[1:]),
    )
    columns = ("study", "pose", "variant", "class", "accuracy", "accuracy_half_width", "accuracy_num_seeds", "run_keys")
    by_class = zip(study.classes, class_KAS, strict=True)
    rows = measured_rows(scores, scores.keys, (((name,), [mean_interval(score_AS)]) for name, score_AS in by_class))
    title = f"Classes and calibration on {study.task_label}"
    return Table(study.name, "classes", title, tuple(sections), notes, columns, rows)


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
