"""Scores of a study's completed final runs as arrays: arms by seeds, which is what the statistics are over."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.records import Study
from analysis.statistics import Floats


class Score(NamedTuple):
    """A number of runs: what people call it, its name in the ledger, factor and decimals as printed, what it says."""

    heading: str
    name: str
    factor: float
    decimals: int
    meaning: str
    smaller_is_better: bool = False


SCORES = (
    Score("Test %", "test_accuracy", 100, 1, "accuracy on the test images"),
    Score(
        "NLL", "test_loss", 1, 3,
        "mean negative log-likelihood of the true class in nats: small where the network is sure and right",
        smaller_is_better=True,
    ),
    Score(
        "ECE %", "test_ece", 100, 1,
        "expected calibration error over 15 equal bins: how far its confidence is from how often it is right",
        smaller_is_better=True,
    ),
    Score("Rotated %", "rotation_accuracy", 100, 1, "mean accuracy over the rotations of the test images"),
    Score("Corrupted %", "corruption_accuracy", 100, 1, "mean accuracy over all corruptions and their severities"),
    Score(
        "Worst of grid %", "worst_of_grid_accuracy", 100, 1,
        "share of the test images that are right wherever they are turned and shifted on a grid",
    ),
)  # fmt: skip


def completed_finals(runs: pd.DataFrame) -> pd.DataFrame:
    """The completed ones among the final runs, or those of a rung, of rows as those of Study.runs."""
    return runs[(runs["stage"] != "trial") & (runs["status"] == "completed")]


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


def scored_finals(runs: pd.DataFrame) -> pd.DataFrame:
    """Those of them that are averaged: with a test accuracy."""
    return completed_finals(runs).dropna(subset="test_accuracy")


def final_scores(study: Study) -> FinalScores:
    """The scores of the runs that are averaged."""
    return FinalScores(study, scored_finals(study.runs))
