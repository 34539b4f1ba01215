"""How well variants stand corrupted images: by corruption and by severity."""

import pandas as pd

from analysis.findings import Findings
from analysis.scores import FinalScores
from analysis.statistics import Floats
from analysis.tables.building import table
from analysis.tables.columns import Draft
from analysis.tables.ranking import ranking_note
from analysis.tables.score_grid import Grid, Measured, points_draft

_KINDS = ("geometric", "photometric")


@table("corruptions", "Corrupted images")
def corruptions(findings: Findings) -> Draft[Measured] | None:
    """Two sections a pose and kind of corruption; None where no run was measured so."""
    study, scores = findings.study, findings.scores
    points = findings.robustness
    points = points[points["kind"].isin(_KINDS) & points["key"].isin(scores.finals["key"])]
    if points.empty:
        return None
    grids = []
    for kind in _KINDS:
        of_kind = points[points["kind"] == kind]
        by_name = {str(name): _means(scores, at) for name, at in of_kind.groupby("name", sort=False)}
        by_severity = {f"severity {value:g}": _means(scores, at) for value, at in of_kind.groupby("value")}
        grids.append(Grid(f"{kind} corruptions, mean over severities", by_name))
        grids.append(Grid(f"{kind} corruptions, mean over corruptions", by_severity))
    notes = (
        ranking_note(study.claims.alpha, study.arms),
        "Numbers are mean test accuracies in per cent over the n completed final runs that were measured; intervals, "
        "and every corruption at every severity, are in the CSV file.",
        "Corruptions and severities 1 to 5 are in the manner of CIFAR-10-C and made anew from this task's images: "
        "numbers of the published files do not compare with these.",
    )
    names = {"kind": "kind", "name": "corruption", "value": "severity"}
    return points_draft(scores, points, grids, notes, names, ["accuracy"], sort=False)


def _means(scores: FinalScores, points: pd.DataFrame) -> Floats:
    """AS: each run's mean accuracy over these points."""
    means = points.groupby(["arm", "seed"])["accuracy"].mean().reset_index()
    return scores.spread(means, means["accuracy"])
