"""Which setting of a tuning won, by what its trials came to."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple


class Tried(NamedTuple):
    """A trial: its run's key, what tells its setting from others, its seed, how it ended, its last accuracy.

    accuracy: on validation images; None where there is none.
    """

    key: str
    setting: Hashable
    seed: int
    status: str
    accuracy: float | None

    @property
    def score(self) -> float:
        """What it counts for among repeats: a setting that diverges with another seed is a bad one."""
        return (self.accuracy or 0.0) if self.status == "completed" else 0.0


def winner_of(tried: Sequence[Tried]) -> str | None:
    """The key of the first trial of the setting that won; None if no trial was completed.

    The settings that were tried with the most seeds compete, by their mean accuracy over seeds; of equals the earlier
    one wins. A repeat that failed, which is the machine's fault, is left out of the mean.
    """
    of_setting: dict[Hashable, dict[int, Tried]] = {}
    for trial in tried:
        by_seed = of_setting.setdefault(trial.setting, {})
        known = by_seed.get(trial.seed)  # a small space repeats its settings, perhaps under another bar for pruning
        if known is None or (known.status != "completed" and trial.status == "completed"):
            by_seed[trial.seed] = trial
    most = max(map(len, of_setting.values()), default=0)
    competing = [list(trials.values()) for trials in of_setting.values() if len(trials) == most]
    competing = [trials for trials in competing if trials[0].status == "completed"]
    if not competing:
        return None
    return max(competing, key=_mean)[0].key


def _mean(trials: Sequence[Tried]) -> float:
    counted = [trial.score for trial in trials if trial.status != "failed"]
    return sum(counted) / len(counted)
