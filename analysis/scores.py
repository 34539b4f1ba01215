"""Scores of completed final runs as arrays, arms by seeds: what the statistics are over."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from analysis.records import Study
from analysis.statistics import Floats
from ledger.class_scores import is_uneven
from ledger.names import variant_parts
from ledger.scores import RESULT, UPRIGHT, Score
from ledger.study import Claim

SHOWN = tuple(score for score in RESULT if score.heading and not score.for_uneven)
"""What tables show people of final runs; the accuracy that everything is judged by first."""


def completed_finals(runs: pd.DataFrame) -> pd.DataFrame:
    """The completed ones among the final runs, or those of a rung, of rows as those of Study.runs."""
    return runs[(runs["stage"] != "trial") & (runs["status"] == "completed")]


class Pairs(NamedTuple):
    """A claim's completed final runs, paired by seed.

    arms: indices in the study, in the order of Claim.variants; none where it lacks one.
    difference_S: of test accuracies; of an interaction: that with the policy less that without. NaN where an arm has no
        run of the seed.
    key_VP: the keys of each variant's runs, of all pairs.
    """

    arms: list[int]
    difference_S: Floats
    key_VP: npt.NDArray[Any]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.key_VP.ravel())


@dataclass(frozen=True)
class FinalScores:
    """The completed final runs, of a study or of one of its rungs, that have a test accuracy. finals: their rows.

    seeds: of the study at all its sizes, so that all its arrays have the same columns.
    """

    study: Study
    finals: pd.DataFrame

    @cached_property
    def seeds(self) -> list[int]:
        return sorted({int(seed) for size in self.study.sizes for seed in _scored(size.runs)["seed"]})

    @cached_property
    def keys(self) -> tuple[tuple[str, ...], ...]:
        """The keys of each arm's runs, in the order of the study."""
        by_arm = self.finals.groupby("arm")["key"].agg(tuple)
        return tuple(by_arm.get(i, ()) for i in range(len(self.study.arms)))

    @cached_property
    def key_AS(self) -> npt.NDArray[Any]:
        """Keys, arms by seeds; "" where an arm has no such run."""
        key_AS = np.full((len(self.study.arms), len(self.seeds)), "", dtype=object)
        key_AS[self.places(self.finals)] = self.finals["key"]
        return key_AS

    @property
    def shown(self) -> tuple[Score, ...]:
        """What tables show people of them."""
        first, *others = SHOWN
        upright = (UPRIGHT,) if UPRIGHT.name in self.finals else ()
        return (first, *upright, *self.uneven, *others)

    @property
    def uneven(self) -> tuple[Score, ...]:
        """What they also show where some classes have far more images than others; none where no run has it."""
        if not is_uneven(self.study.images.num_test if self.study.images else ()):
            return ()
        return tuple(score for score in RESULT if score.for_uneven and self.finals[score.name].notna().any())

    @cached_property
    def test_AS(self) -> Floats:
        """Test accuracies."""
        return self.array("test_accuracy")

    def array(self, name: str) -> Floats:
        """AS: a column of study.runs, arms by seeds; NaN where an arm has no such run or score."""
        return self.spread(self.finals, self.finals[name])

    def spread(self, rows: pd.DataFrame, score_R: "pd.Series[float]") -> Floats:
        """AS: scores of rows that have the columns `arm` and `seed`; at most one an arm and seed."""
        score_AS = np.full((len(self.study.arms), len(self.seeds)), np.nan)
        score_AS[self.places(rows)] = score_R
        return score_AS

    def places(self, rows: pd.DataFrame) -> tuple[npt.NDArray[np.int_], npt.NDArray[np.int_]]:
        """Where rows belong in arrays of arms by seeds."""
        return rows["arm"].to_numpy(int), np.searchsorted(self.seeds, rows["seed"].to_numpy())

    def pairs(self, claim: Claim) -> Pairs:
        arms = [self.study.places.get((claim.pose, variant), -1) for variant in claim.variants]
        policies = {variant_parts(variant).policy for variant in claim.variants[:2]}
        if -1 in arms or (claim.interaction and (len(policies) > 1 or policies == {""})):
            return Pairs([], np.full(len(self.seeds), np.nan), np.empty((len(arms), 0), dtype=object))
        # Rounded: four fractions that cancel leave a trace, which a test of signs would take for a difference
        difference_S = np.round(signed(self.test_AS[arms]), 12)
        return Pairs(arms, difference_S, self.key_AS[arms][:, ~np.isnan(difference_S)])


def signed(values: Iterable[Any]) -> Any:
    """The first less the second, and of four that less the third's excess over the fourth."""
    return sum(sign * value for sign, value in zip((1, -1, -1, 1), values, strict=False))


def _scored(runs: pd.DataFrame) -> pd.DataFrame:
    return completed_finals(runs).dropna(subset="test_accuracy")


def final_scores(study: Study, runs: pd.DataFrame | None = None) -> FinalScores:
    """The scores that are averaged. runs: those of a rung, in place of the study's own."""
    return FinalScores(study, _scored(study.runs if runs is None else runs))
