"""Completed final runs in pairs: those of a claim's arms that have the same seed."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from analysis.names import variant_parts
from analysis.scores import completed_finals
from ledger.study import Claim


class Run(NamedTuple):
    """A completed final run and its test accuracy, a fraction."""

    key: str
    accuracy: float


Arms = Mapping[tuple[str, str], Mapping[int, Run]]
"""By pose and variant, then by seed."""

_SIGNS = (1, -1, -1, 1)
"""Of the variant, the baseline, and the same two without their policies."""


def runs_by_seed(runs: pd.DataFrame) -> Arms:
    """The completed final runs with a test score among rows as those of Study.runs, or of a rung's."""
    kept = completed_finals(runs).dropna(subset="test_accuracy")
    by_arm: dict[tuple[str, str], dict[int, Run]] = {}
    columns = (kept[name].tolist() for name in ("pose", "variant", "seed", "key", "test_accuracy"))
    for pose, variant, seed, key, accuracy in zip(*columns, strict=True):
        by_arm.setdefault((pose, variant), {})[int(seed)] = Run(key, accuracy)
    return by_arm


def pairs_of(claim: Claim, by_arm: Arms) -> dict[int, tuple[Run, ...]]:
    """For each seed that all arms of the claim completed, their runs, to be summed by `signed`."""
    policies = {variant_parts(variant).policy for variant in (claim.variant, claim.baseline)}
    if claim.interaction and (len(policies) > 1 or policies == {""}):
        return {}
    arms = [by_arm.get((claim.pose, variant), {}) for variant in variants_of(claim)]
    return {seed: tuple(arm[seed] for arm in arms) for seed in sorted(set.intersection(*map(set, arms)))}


def variants_of(claim: Claim) -> tuple[str, ...]:
    """Of the claim's arms, in the order in which `signed` takes them."""
    both = claim.variant, claim.baseline
    return (*both, *(variant.partition("+")[0] for variant in both)) if claim.interaction else both


def signed(values: Iterable[Any]) -> Any:
    """The first less the second, and of four that less the third's excess over the fourth."""
    return sum(sign * value for sign, value in zip(_SIGNS, values, strict=False))
