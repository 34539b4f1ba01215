"""The share of the gap that a variant closes: from the plain network (0) to the one shown unwarped images (1)."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from analysis.formats import ABSENT
from analysis.means import MIN_SEEDS, Mean, mean_of, percent, percent_text
from analysis.records import Arm, Study
from analysis.scores import final_scores
from analysis.statistics import CONFIDENCE, Floats, paired_difference
from analysis.statistics.ratio import paired_ratio
from ledger.names import variant_parts

GAP_COLUMN = "Gap closed %"


class Share(NamedTuple):
    """A share of the gap as a fraction, and its 95 % interval.

    value, low, high: NaN where the gap is not significantly above zero or fewer than MIN_SEEDS are left; low and high
        NaN for the two arms that the gap lies between.
    num: seeds that the variant and both ends of the gap have.
    """

    value: float
    low: float
    high: float
    num: int


class Gap(NamedTuple):
    """Two arms at a pose and the difference of their accuracies, paired by seed."""

    pose: str
    floor: str
    ceiling: str
    size: Mean

    @property
    def is_open(self) -> bool:
        """Whether the ceiling is significantly above the floor."""
        return self.size.value > 0 and self.size.excludes_zero


def _ends(arms: Sequence[Arm]) -> list[tuple[int, int]]:
    """For each arm those between which its gap lies, at its pose and on its backbone, without options or policy: the
    plain network and the one that is told the true pose, of several the study's first; -1 where there is none.

    A backbone with options is a backbone of its own.
    """
    first: dict[tuple[str, str, str], int] = {}
    for i, arm in enumerate(arms):
        model, backbone, policy = variant_parts(arm.variant)
        if not policy and ":" not in model:
            first.setdefault((arm.pose, backbone, arm.role), i)
    places = [(arm.pose, variant_parts(arm.variant).backbone) for arm in arms]
    return [(first.get((*place, "plain"), -1), first.get((*place, "ceiling"), -1)) for place in places]


def plain_arms(arms: Sequence[Arm]) -> list[int]:
    """For each arm the index of the plain network at its pose and on its backbone; -1 where there is none."""
    return [floor for floor, _ in _ends(arms)]


def gaps(arms: Sequence[Arm], test_AS: Floats) -> list[Gap]:
    """The gaps that the study has arms for, in its order. test_AS: accuracy, arms by seeds; NaN where there is none."""
    return [
        Gap(
            arms[floor].pose,
            arms[floor].variant,
            arms[ceiling].variant,
            mean_of(paired_difference(test_AS[[ceiling]], test_AS[[floor]]), 0),
        )
        for floor, ceiling in dict.fromkeys(_ends(arms))
        if min(floor, ceiling) >= 0
    ]


def shares(arms: Sequence[Arm], test_AS: Floats) -> list[Share | None]:
    """For each arm its share of the gap, paired by seed; None where its pose lacks an arm at an end of the gap."""
    ends = _ends(arms)
    floor_A, ceiling_A = np.array(ends).T
    ratio = paired_ratio(test_AS - test_AS[floor_A], test_AS[ceiling_A] - test_AS[floor_A])
    few_A, i_A = ratio.num_X < MIN_SEEDS, np.arange(len(arms))
    value_A = np.where(few_A, np.nan, ratio.ratio_X)
    no_ends_A = few_A | (i_A == floor_A) | (i_A == ceiling_A)
    low_A, high_A = (np.where(no_ends_A, np.nan, end_A) for end_A in (ratio.low_X, ratio.high_X))
    found = zip(*(part_A.tolist() for part_A in (value_A, low_A, high_A, ratio.num_X)), strict=True)
    return [Share(*share) if min(pair) >= 0 else None for pair, share in zip(ends, found, strict=True)]


def share_text(share: Share | None, num_seeds: int) -> str:
    """`43 [31, 58]`, in per cent. num_seeds: of the variant; where fewer are paired, the text says how many."""
    if share is None or np.isnan(share.value):
        return ABSENT
    text = percent(share.value)
    if not np.isnan(share.low):
        text += f" [{percent(share.low)}, {percent(share.high)}]"
    return text if share.num == num_seeds else f"{text} ({share.num} pairs)"


def gap_notes(found: Sequence[Gap], *, several_poses: bool) -> Iterator[str]:
    """What the column means, and which gaps are none; nothing for a study without gaps."""
    if not found:
        return
    floor, ceiling = (
        " or ".join(dict.fromkeys(variant_parts(end).model for end in ends))
        for ends in zip(*((gap.floor, gap.ceiling) for gap in found), strict=True)
    )
    yield (
        f"{GAP_COLUMN}: the variant's difference in test accuracy to {floor} as a percentage of that of {ceiling}, "
        "which sees the images turned back by their true pose, both on the variant's backbone and without a policy; "
        f"0 is as good as {floor}, 100 as {ceiling}. Paired by seed, with Fieller's {100 * CONFIDENCE:g} % interval "
        "in brackets, which is not symmetric. A dash: one of the two is not in the study, the second is not "
        "significantly above the first, or fewer than three seeds completed all three."
    )
    for gap in found:
        if gap.is_open:
            continue
        place = f" at pose {gap.pose}" if several_poses else ""
        if gap.size.num < MIN_SEEDS:
            why = f"fewer than three seeds completed both {gap.floor} and {gap.ceiling}"
        else:
            points = percent_text(gap.size, signed=True)
            why = f"{gap.ceiling} is not significantly above {gap.floor} ({points} points)"
        yield f"No share of the gap is given{place}: {why}."


class SizedShares(NamedTuple):
    """An arm's shares of the gap at each size of training, the study's own last. keys: of the runs they are over."""

    pose: str
    variant: str
    keys: tuple[str, ...]
    shares: tuple[Share, ...]


def shares_by_size(study: Study) -> tuple[SizedShares, ...]:
    """The shares of each arm between the ends of a gap; none for a study without a ladder or without a gap."""
    scores = [final_scores(study, size.runs) for size in study.sizes]
    if len(scores) < 2:
        return ()
    found = [shares(study.arms, each.test_AS) for each in scores]
    ends = {place for pair in _ends(study.arms) for place in pair}
    return tuple(
        SizedShares(arm.pose, arm.variant, tuple(key for each in scores for key in each.keys[i]), own)
        for i, arm in enumerate(study.arms)
        if i not in ends and len(own := tuple(filter(None, (of_size[i] for of_size in found)))) == len(found)
    )
