"""Tuning one arm, once for all its final runs or for one of them alone: trials, the best ones again, and what won."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from experiments.runs.run import Job
from experiments.study.search import ArmSearch, Score, Setting
from ledger.winners import Tried, winner_of

NUM_FINALISTS, NUM_REPEATS = 3, 2
"""Settings that are tried again with further seeds where a tuning is for all final runs, and how often: one seed cannot
tell a setting that is good from one that was lucky, or one that collapses with every fourth seed from a safe one. Never
more than half of the settings."""


@dataclass
class Trial:
    """A setting and the seed of its run."""

    setting: Setting
    seed: int
    key: str = ""
    status: str = ""
    accuracy: float | None = None

    @property
    def tried(self) -> Tried:
        return Tried(self.key, tuple(sorted(self.setting.items())), self.seed, self.status, self.accuracy)


@dataclass
class Tuning:
    """How far the tuning of an arm is.

    seed: of its trials' runs, which final runs do not have. repeats: whether the best settings are tried again, with
    seeds below that one. jobs: the trials that are being made. missing: keys of those that are not in the ledger yet.
    """

    search: ArmSearch
    seed: int
    repeats: bool
    trials: list[Trial] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    missing: set[str] = field(default_factory=set)
    is_done: bool = False
    has_repeated: bool = False

    def next_trials(self) -> list[Trial]:
        """The trials to be made now that all earlier ones were told; none where the tuning is done."""
        trials = [Trial(setting, self.seed) for setting in self.search.next_wave()]
        if not trials and self.repeats and not self.has_repeated:
            self.has_repeated = True
            trials = list(self._again())
        self.is_done = not trials
        self.trials += trials
        return trials

    def tell(self, scores: Sequence[Score]) -> None:
        """The scores of the trials that were asked for last."""
        trials = self.trials[-len(scores) :]
        for trial, score in zip(trials, scores, strict=True):
            trial.status, trial.accuracy = score.status, score.val_accuracies[-1] if score.val_accuracies else None
        if not self.has_repeated:
            self.search.tell(scores, [trial.key for trial in trials])

    def _again(self) -> Iterator[Trial]:
        completed = [trial for trial in self.trials if trial.status == "completed"]
        different = {trial.tried.setting: trial for trial in reversed(completed)}.values()
        ranked = sorted(different, key=lambda trial: (-(trial.accuracy or 0.0), self.trials.index(trial)))
        finalists = ranked[: min(NUM_FINALISTS, len(self.trials) // 2)]
        for number in range(1, NUM_REPEATS + 1) if len(finalists) > 1 else ():
            for trial in finalists:
                yield Trial(trial.setting, self.seed - number)

    @cached_property
    def winner(self) -> str | None:
        """Key of the winner's first trial; None if none was completed. Of a tuning that is done."""
        return winner_of([trial.tried for trial in self.trials])

    @property
    def setting(self) -> Setting:
        """The winner's; the default's, if no trial was completed."""
        winner = self.winner
        return next((trial.setting for trial in self.trials if trial.key == winner), self.trials[0].setting)


def num_runs(trials: int, *, repeats: bool) -> int:
    """Runs that a tuning of so many trials may take."""
    finalists = min(NUM_FINALISTS, trials // 2)
    return trials + (NUM_REPEATS * finalists if repeats and finalists > 1 else 0)
