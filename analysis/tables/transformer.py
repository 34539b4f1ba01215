"""What the variants' transformers do to images."""

from collections.abc import Iterator

from analysis.diagnostics import MEANS, SHOWN, Look
from analysis.findings import Findings
from analysis.formats import ABSENT, Cell, one_line
from analysis.means import mean_cell
from analysis.statistics import CONFIDENCE
from analysis.tables.building import table
from analysis.tables.columns import POSE, RUN_KEYS, VARIANT, Column, Draft, by_pose, mean_names, section
from ledger.scores import Score

IMPORTANCE = (
    "Variant",
    "Verdict",
    "Angle R²",
    "Identity %",
    "Spread px",
    "Angle error °",
    "Zoom",
    "Out of frame %",
    "Shift R²",
    "Scale R²",
    "Condition",
    "n",
)
"""Headings in the order in which a narrow page should keep them."""


@table("transformer", "Transformers")
def transformer(findings: Findings) -> Draft[Look] | None:
    """A section a pose; None where no run has a record of its transformer. Rows are in the ledger's names and units."""
    looks = findings.looks
    if not looks:
        return None
    columns: list[Column[Look]] = [
        POSE,
        VARIANT,
        Column("", "stage", value=lambda look: look.stage),
        Column("Verdict", "verdicts", "l", _verdict_text),
        Column("n", cell=lambda look: len(look.keys)),
        *map(_score_column, SHOWN),
        *map(_mean_column, MEANS),
        RUN_KEYS,
    ]
    sections = [section(f"Pose {pose}", columns, of_pose) for pose, of_pose in by_pose(looks).items()]
    return Draft(sections, _notes(looks[0].stage), columns, looks)


def _verdict_text(look: Look) -> str:
    """`2 working, 1 idle`."""
    return ", ".join(f"{num} {one_line(verdict)}" for verdict, num in look.verdicts.items())


def _mean_column(name: str) -> Column[Look]:
    return Column("", mean_names(name, f"{name}_num_runs"), value=lambda look: look.means[name])


def _score_column(score: Score) -> Column[Look]:
    def cell(look: Look) -> Cell:
        mean = look.means[score.name]
        if mean.num and abs(score.factor * mean.value) >= 1e4:  # the condition of a map that flattens everything
            return Cell(f"{score.factor * mean.value:.0e}", mean.value)
        return mean_cell(mean, score.decimals, factor=score.factor, dash=False)

    return Column(score.heading, cell=cell)


def _notes(stage: str) -> Iterator[str]:
    if stage == "trial":
        yield "No final run has been measured yet: these are the trials, which differ in their hyper-parameters."
    yield (
        f"Verdict: how many of the {stage} runs are working (different images get different maps), idle (hardly "
        "an image is moved, or all by the same map) or collapsed (most of the image is lost); a run that was not "
        "measured counts by how it ended. Only the R² say whether maps that differ follow the pose: those "
        "of stn_random differ, and follow nothing."
    )
    spread = f", ± the half width of their {100 * CONFIDENCE:g} % Student-t interval" if stage == "final" else ""
    yield (
        f"The numbers are means over the completed runs{spread}; n counts those runs. {ABSENT} stands where "
        "nothing can be said, such as the true pose's columns where it is the same for all images."
    )
    for score in SHOWN:
        yield f"{score.heading}: {score.meaning}."
