"""Scores of a study's completed final runs as arrays: arms by seeds, which is what the statistics are over."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.records import Study
from analysis.statistics import Floats


class Score(NamedTuple):
    """A column of scores: what people call it, its name in the ledger, factor and decimals as printed."""

    heading: str
    name: str
    factor: float
    decimals: int
    smaller_is_better: bool
    meaning: str


SCORES = (
    Score("Test %", "test_accuracy", 100, 1, False, "accuracy on the test images"),
    Score(
        "NLL", "test_loss", 1, 3, True,
        "mean negative log-likelihood of the true class in nats: small where the network is sure and right",
    ),
    Score(
        "ECE %", "test_ece", 100, 1, True,
        "expected calibration error over 15 equal bins: how far its confidence is from how often it is right",
    ),
    Score("Rotated %", "rotation_accuracy", 100, 1, False, "mean accuracy over the rotations of the test images"),
    Score(
        "Corrupted %", "corruption_accuracy", 100, 1, False, "mean accuracy over all corruptions and their severities"
    ),
    Score(
        "Worst of grid %", "worst_of_grid_accuracy", 100, 1, False,
        "share of the test images that are right wherever they are turned and shifted on a grid",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class FinalScores:
    """The completed final runs of a study with a test accuracy. finals: their rows of study.runs."""

    study: Study
    finals: pd.DataFrame

    @cached_property
    def seeds(self) -> list[int]:
        return sorted({int(seed) for seed in self.finals["seed"]})

    @cached_property
    def keys(self) -> tuple[tuple[str, ...], ...]:
        """Of each arm's runs, in the order of the study."""
        keys: list[list[str]] = [[] for _ in self.study.arms]
        for arm, key in zip(self.finals["arm"], self.finals["key"], strict=True):
            keys[arm].append(key)
        return tuple(map(tuple, keys))

    def array(self, name: str) -> Floats:
        """AS: a column of study.runs, arms by seeds; NaN where an arm has no such run or score."""
        return self.spread(self.finals, self.finals[name])

    def spread(self, rows: pd.DataFrame, score_R: "pd.Series[float]") -> Floats:
        """AS: scores of rows that have the columns `arm` and `seed`; at most one an arm and seed."""
        score_AS = np.full((len(self.study.arms), len(self.seeds)), np.nan)
        score_AS[rows["arm"].to_numpy(int), np.searchsorted(self.seeds, rows["seed"].to_numpy())] = score_R
        return score_AS


def final_scores(study: Study) -> FinalScores:
    """The scores of the runs that are averaged: completed final runs with a test accuracy."""
    runs = study.runs
    averaged = (runs["stage"] == "final") & (runs["status"] == "completed") & runs["test_accuracy"].notna()
    return FinalScores(study, runs[averaged])
