"""What is found in a study: read once, computed once, shared by all tables, figures and the report."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pandas as pd

from analysis.ablation import Row, ablation_rows
from analysis.claims import ClaimResult, claim_results
from analysis.dependence import Dependence, dependences
from analysis.diagnostics import Look, looks
from analysis.evaluations import read_robustness
from analysis.faults import Faults
from analysis.ladder import Climb, climbs
from analysis.records import Study, read_study
from analysis.ripeness import Trained, trained_arms
from analysis.scores import FinalScores, completed_finals, final_scores


@dataclass(frozen=True)
class Importances:
    """How much each hyper-parameter decided the validation accuracy of an arm's trials; the shares sum to 1.

    evaluator: the name of the method. by_arm: by (pose, variant), then by the hyper-parameter's dotted name; an arm
    with too few trials is left out.
    """

    evaluator: str
    by_arm: Mapping[tuple[str, str], Mapping[str, float]]


@dataclass(frozen=True)
class Findings:
    """A study that was read, and what follows from it. importances: None where they were not computed.

    faults: of the tables, figures and words that were wanted and could not be made. notes: what else a
    reader of them should know.
    """

    study: Study
    importances: Importances | None = None
    faults: Faults = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @cached_property
    def scores(self) -> FinalScores:
        return final_scores(self.study)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """What is known of each arm, in the order of the study."""
        return ablation_rows(self.study, self.scores, self.trained)

    def row(self, pose: str, variant: str) -> Row:
        return self.rows[self.study.places[pose, variant]]

    @cached_property
    def claims(self) -> tuple[ClaimResult, ...]:
        return claim_results(self.study)

    @cached_property
    def climbs(self) -> tuple[Climb, ...]:
        return climbs(self.study)

    @cached_property
    def dependences(self) -> tuple[Dependence, ...]:
        return dependences(self.study)

    @cached_property
    def trained(self) -> tuple[Trained, ...]:
        """How the completed final runs of each arm were trained, in the order of the study."""
        return trained_arms(self.scores)

    @cached_property
    def looks(self) -> tuple[Look, ...]:
        """What the transformers of each arm that has any do."""
        return looks(self.study)

    def look(self, pose: str, variant: str) -> Look | None:
        """What the transformers of an arm's final runs do."""
        arm = (pose, variant, "final")
        return next((look for look in self.looks if (look.pose, look.variant, look.stage) == arm), None)

    @cached_property
    def completed(self) -> pd.DataFrame:
        """The rows of study.runs that are completed final runs."""
        return completed_finals(self.study.runs)

    @cached_property
    def robustness(self) -> pd.DataFrame:
        """What read_robustness has of the completed final runs, with the columns `arm` and `seed` of study.runs."""
        found = read_robustness(self.study, self.completed["key"])
        return found.merge(self.completed[["key", "arm", "seed"]], on="key", how="left")


def find(ledger: Path, study: str, importances: Importances | None = None) -> Findings:
    """The findings of a study of a ledger. Raises UserError as read_study does."""
    return Findings(read_study(ledger, study), importances)
