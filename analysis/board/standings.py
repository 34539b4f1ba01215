"""How the entries on one ground stand: who is shown to be better than whom, and what could be shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from analysis.board.entries import Entry
from analysis.chance import chance
from analysis.means import MIN_SEEDS
from analysis.ripeness import TOO_SHORT, Trained, is_ripe_either_way, nothing_learned
from analysis.statistics import CONFIDENCE
from analysis.statistics.standing import Difference, difference, resolution, standing

ALPHA = 1 - CONFIDENCE


@dataclass(frozen=True)
class Line:
    """An entry on the board. rank, last: what Standing says of it; None where it is not ranked, and why it is not."""

    entry: Entry
    rank: int | None = None
    last: int | None = None
    why_not: str = ""


@dataclass(frozen=True)
class Board:
    """The entries on one ground, in the order of their ranks, then of their accuracies.

    resolution: the smallest true difference of two entries that it probably shows, if they are compared by seed, and if
    they are not; NaN where no two are. num_pairs: comparisons of two entries; num_paired: those by seed; num_open:
    those that nothing is said of, since a longer training could turn them.
    """

    lines: tuple[Line, ...]
    resolution: tuple[float, float]
    num_pairs: int
    num_paired: int
    num_open: int


def board_of(entries: Sequence[Entry]) -> Board:
    """Ranks by all pairs of entries.

    Two with the same planned seeds had the same splits and orders of images: they are compared seed by seed, if both
    completed enough of them. Others are compared as independent samples.
    """
    why_not = [_why_not_ranked(entry) for entry in entries]
    if why_not.count("") == 1:
        why_not[why_not.index("")] = "nothing is there to compare it with"
    ranked = [entry for entry, why in zip(entries, why_not, strict=True) if not why]
    pairs = list(combinations(ranked, 2))
    paired = [_is_paired(*pair) for pair in pairs]
    differences = [
        difference(one.row.test_by_seed, other.row.test_by_seed, paired=by_seed)
        for (one, other), by_seed in zip(pairs, paired, strict=True)
    ]
    ripe = [_is_ripe(*pair, found) for pair, found in zip(pairs, differences, strict=True)]
    found = standing(differences, ripe, ALPHA)
    lines = [Line(entry, int(found.rank_E[i]), int(found.last_E[i])) for i, entry in enumerate(ranked)]
    lines.sort(key=lambda line: (line.rank, -line.entry.row.test_accuracy.value))
    rest = [Line(entry, why_not=why) for entry, why in zip(entries, why_not, strict=True) if why]
    rest.sort(key=lambda line: -np.nan_to_num(line.entry.row.test_accuracy.value))
    kinds = [
        [each for each, by_seed in zip(differences, paired, strict=True) if by_seed is kind] for kind in (True, False)
    ]
    resolved = resolution(kinds[0], len(pairs), ALPHA), resolution(kinds[1], len(pairs), ALPHA)
    return Board((*lines, *rest), resolved, len(pairs), sum(paired), ripe.count(False))


def _is_paired(one: Entry, other: Entry) -> bool:
    both = one.row.test_by_seed.keys() & other.row.test_by_seed.keys()
    return one.seeds == other.seeds and len(both) >= MIN_SEEDS


def _trained(entry: Entry) -> Trained:
    return entry.findings.trained[entry.place]


def _why_not_ranked(entry: Entry) -> str:
    """Why the entry has no rank, in words; "" where it has."""
    if entry.arm.sees_pose:
        return "it is shown the true pose"
    if not entry.row.test_by_seed:
        return "no run was completed"
    if len(entry.row.test_by_seed) < MIN_SEEDS:
        return f"it has fewer than {MIN_SEEDS} completed runs"
    why = nothing_learned([_trained(entry)], chance(entry.findings.study))
    return why if why.startswith(TOO_SHORT) else ""  # all right on all test images is no reason


def _is_ripe(one: Entry, other: Entry, found: Difference) -> bool:
    """Whether no longer training is likely to turn it, by the smaller margin of the two studies."""
    study = min((one.findings.study, other.findings.study), key=lambda study: study.claims.margin)
    return is_ripe_either_way(study, [_trained(one), _trained(other)], found.mean)
