"""Which setting of a tuning won, by what its trials came to."""

from collections.abc import Hashable, Sequence
from typing import NamedTuple


class Tried(NamedTuple):
    """A trial: its run's key, what tells its setting from others, and its last validation accuracy.

    accuracy: None where the trial was not completed.
    """

    key: str
    setting: Hashable
    accuracy: float | None


def winner_of(tried: Sequence[Tried]) -> str | None:
    """The key of the first trial of the setting that won; None if no trial was completed.

    The settings that were tried most often compete, by their mean accuracy; of equals the earlier one wins. Where one
    of its repeats was not completed, that counts as 0: a setting that diverges with another seed is a bad one.
    """
    of_setting: dict[Hashable, list[Tried]] = {}
    for each in {trial.key: trial for trial in tried}.values():  # a small space repeats its settings
        of_setting.setdefault(each.setting, []).append(each)
    most = max(map(len, of_setting.values()), default=0)
    competing = [trials for trials in of_setting.values() if len(trials) == most and trials[0].accuracy is not None]
    if not competing:
        return None
    return max(competing, key=lambda trials: sum(each.accuracy or 0.0 for each in trials) / most)[0].key
