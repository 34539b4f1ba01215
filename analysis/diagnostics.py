"""Whether the variants' transformers do anything, and whether it is what the pose asks for."""

import math
from collections import Counter
from dataclasses import dataclass

import pandas as pd

from analysis.means import Mean, mean_of
from analysis.records import Study
from analysis.run_records import TRANSFORMER_COLUMNS
from analysis.statistics import mean_interval
from ledger.scores import TRANSFORMER, TRANSFORMER_POSE

_FIRST = ("identity_fraction", "angle_error_deg", "angle_r2", "log_scale_r2", "shift_r2", "spread_px")
SHOWN = sorted(
    (score for score in (*TRANSFORMER, *TRANSFORMER_POSE) if score.heading),
    key=lambda score: _FIRST.index(score.name) if score.name in _FIRST else len(_FIRST),
)
"""What tables show people of transformers."""

MEANS = tuple(
    name.removeprefix("transformer.")
    for name in TRANSFORMER_COLUMNS
    if name not in ("transformer.num_images", "transformer.angle_deg")  # an angle over seeds has no plain mean
)
"""Names in the ledger of all numbers that have a mean over seeds."""

_VERDICTS = ("working", "idle", "collapsed")
_STILLNESS = {
    frozenset({True}): "leaves images as they are",
    frozenset({False}): "moves all images alike",
    frozenset({True, False}): "leaves images as they are or moves all alike",
    frozenset(): "leaves images as they are or moves all alike",
}
"""What idle transformers do, by whether each of them leaves more than half of the images as they are."""
_UNMEASURED = "unmeasured"
_STATUSES = ("pruned", "diverged", "failed", "missing", _UNMEASURED)


FOLLOWS_R2 = 0.1
"""Of a transformer's angles with the true ones: less is not following them."""


@dataclass(frozen=True)
class Look:
    """What the transformers of one arm do.

    verdicts: counts; a run without a record counts by its status. means: by name in the ledger, over the completed
    runs that have it, in the ledger's units. keys: of those runs. stage: of all, `final` or `trial`.
    stillness: what those that are idle do, each of them: `leaves images as they are`.
    """

    pose: str
    variant: str
    stage: str
    verdicts: dict[str, int]
    means: dict[str, Mean]
    keys: tuple[str, ...]
    stillness: str

    @property
    def follows_turns(self) -> bool | None:
        """Whether its angles go with the true ones, over all classes: within each they still may if they do not.

        None where that is not known, and for transformers that do nothing.
        """
        angle_r2 = self.means["angle_r2"]
        if math.isnan(angle_r2.half_width) or not self.verdicts.get("working"):
            return None
        return angle_r2.value + angle_r2.half_width >= FOLLOWS_R2


def looks(study: Study) -> tuple[Look, ...]:
    """One an arm of which a run has a record of its transformer; of trials where no final run has a record yet."""
    recorded = study.runs[[*TRANSFORMER_COLUMNS, "transformer.verdict"]].notna().any(axis=1)
    stages = study.runs["stage"]
    stage = next((stage for stage in ("final", "trial") if recorded[stages == stage].any()), None)
    found = []
    for i, arm in enumerate(study.arms):
        listed = (study.runs["arm"] == i) & (stages == stage)
        if recorded[listed].any():
            found.append(_look(arm.pose, arm.variant, study.runs[listed], recorded[listed], str(stage)))
    return tuple(found)


def _look(pose: str, variant: str, runs: pd.DataFrame, recorded: "pd.Series[bool]", stage: str) -> Look:
    verdicts = Counter(
        verdict if has and isinstance(verdict, str) else _UNMEASURED if status == "completed" else status
        for verdict, status, has in zip(runs["transformer.verdict"], runs["status"], recorded, strict=True)
    )
    order = [*_VERDICTS, *sorted(set(verdicts) - {*_VERDICTS, *_STATUSES}), *_STATUSES]
    averaged = runs[(runs["status"] == "completed") & recorded]
    estimate = mean_interval(averaged[[f"transformer.{name}" for name in MEANS]].to_numpy().T)
    means = {name: mean_of(estimate, i) for i, name in enumerate(MEANS)}
    if stage == "trial":  # they differ in more than their seeds
        means = {name: mean._replace(half_width=math.nan) for name, mean in means.items()}
    counts = {name: verdicts[name] for name in order if verdicts[name]}
    idle = averaged[averaged["transformer.verdict"] == "idle"]
    still = _STILLNESS[frozenset(idle["transformer.identity_fraction"].dropna() > 0.5)]
    return Look(pose, variant, stage, counts, means, tuple(averaged["key"]), still)
