"""The ablation by factor: what changing one thing does, wherever two arms differ in nothing else."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from analysis.findings import Findings
from analysis.formats import Cell, Section
from analysis.means import Mean, mean_cell, mean_of
from analysis.records import Arm
from analysis.ripeness import is_ripe
from analysis.statistics import CONFIDENCE, mean_interval
from analysis.tables.ablation import STAR
from analysis.tables.building import table
from analysis.tables.columns import POSE, RUN_KEYS, Column, Draft, mean_names, section, star
from ledger.names import name_and_options, variant_parts

MAX_LEVELS = 6
"""Arms that differ in one factor alone and are compared each with each; of more, each with the first."""


class Pair(NamedTuple):
    """Two arms, by their indices, that differ in one factor. old, before: of the level that the study has first."""

    factor: str
    old: str
    new: str
    before: int
    after: int


class Change(NamedTuple):
    """What going from one level of a factor to another does: in a pair of arms, or in the mean over pairs.

    variant: the arm that has the new level; "mean of 2 pairs". is_ripe: whether all were trained long enough.
    """

    pose: str
    factor: str
    old: str
    new: str
    variant: str
    compared_with: str
    difference: Mean
    is_ripe: bool
    keys: tuple[str, ...]


@table("factors", "Ablation by factor")
def factors(findings: Findings) -> Draft[Change] | None:
    """A section a factor, its changes with their mean over pairs; None where no two arms differ in one factor alone."""
    study = findings.study
    by_factor: dict[str, dict[tuple[str, str, str], list[Pair]]] = {}
    for pair in pairs(study.arms):
        change = study.arms[pair.before].pose, pair.old, pair.new
        by_factor.setdefault(pair.factor, {}).setdefault(change, []).append(pair)
    if not by_factor:
        return None
    several = len({arm.pose for arm in study.arms}) > 1
    columns: list[Column[Change]] = [
        POSE,
        Column("Change", "", "l", lambda row: f"{row.old} → {row.new}" + (f" at pose {row.pose}" if several else "")),
        Column("", "factor old new", value=lambda row: (row.factor, row.old, row.new)),
        Column(
            "Variant", "variant", "l", lambda row: Cell(row.variant, strong=not row.compared_with),
            lambda row: row.variant,
        ),
        Column("Compared with", "compared_with", "l", lambda row: row.compared_with),
        Column("Difference", mean_names("difference", "num_pairs"), "r", _difference, lambda row: row.difference),
        Column("n", cell=lambda row: row.difference.num),
        RUN_KEYS,
    ]  # fmt: skip
    sections: list[Section] = []
    rows: list[Change] = []
    for factor, changes in by_factor.items():
        of_factor = [row for found in changes.values() for row in _changes(findings, found)]
        sections.append(section(f"Factor: {factor}", columns, of_factor))
        rows += of_factor
    notes = (
        "Each row compares two arms of a pose that differ in one factor alone: the model, the backbone, the policy, or "
        "one option of theirs. Differences are in percentage points of test accuracy, the new minus the old, paired by "
        f"the n seeds that both completed, ± the half width of the {100 * CONFIDENCE:g} % Student-t interval. "
        f"{STAR}.",
        "Mean of pairs: the same change made beside different models, backbones or policies, over the seeds that all "
        "of them completed.",
        f"Where more than {MAX_LEVELS} arms differ in the same factor alone, each is compared with the first.",
    )
    return Draft(sections, notes, columns, rows)


def _changes(findings: Findings, found: Sequence[Pair]) -> Iterator[Change]:
    """What one change does in each of these pairs, and the mean over them where there are several."""
    study, scores = findings.study, findings.scores
    test_AS = scores.test_AS
    difference_PS = np.stack([test_AS[pair.after] - test_AS[pair.before] for pair in found])
    # A seed counts in the mean over pairs if all of them have it
    estimate = mean_interval(np.concatenate([difference_PS, difference_PS.mean(axis=0, keepdims=True)]))

    def change(p: int, over: Sequence[Pair], variant: str, compared_with: str) -> Change:
        mean, (factor, old, new, before, _) = mean_of(estimate, p), over[0]
        arms = [(pair.after, pair.before) for pair in over]
        ripe = all(is_ripe(study, [findings.trained[i] for i in both], mean.value) for both in arms)
        keys = dict.fromkeys(key for both in arms for i in both for key in scores.keys[i])
        return Change(study.arms[before].pose, factor, old, new, variant, compared_with, mean, ripe, tuple(keys))

    for p, pair in enumerate(found):
        yield change(p, [pair], study.arms[pair.after].variant, study.arms[pair.before].variant)
    if len(found) > 1:
        yield change(len(found), found, f"mean of {len(found)} pairs", "")


def _difference(row: Change) -> Cell:
    mark = star(row.difference, is_ripe=row.is_ripe)
    return mean_cell(row.difference, signed=True, mark=mark)._replace(strong=not row.compared_with)


def settings(variant: str) -> dict[str, str]:
    """What a variant's name says, by factor: `model`, `backbone`, `policy`, and `model padding` for an option.

    An option that two policies have is `policy affine.max_deg`.
    """
    found: dict[str, str] = {}
    for part, text in variant_parts(variant)._asdict().items():
        named = [name_and_options(each) for each in text.split("+")]
        found[part] = "+".join(name for name, _ in named)
        for name, options in named:
            for option, value in options.items():
                is_unique = sum(option in others for _, others in named) == 1
                found[f"{part} {option}" if is_unique else f"{part} {name}.{option}"] = value
    return found


def pairs(arms: Sequence[Arm]) -> Iterator[Pair]:
    """Every two arms of a pose that differ in one factor alone, in the order of the study.

    None that sees the true pose takes part. An option that only one of them has differs from its default.
    """
    names = {i: settings(arm.variant) for i, arm in enumerate(arms) if not arm.sees_pose}
    factor_names = list(dict.fromkeys(factor for found in names.values() for factor in found))
    for factor in factor_names:
        # Levels in the order of the study, so that a change has one direction; what is not named comes first
        rank = {_absent(factor): -1}
        alike: dict[tuple[str, frozenset[tuple[str, str]]], list[tuple[int, str]]] = {}
        for i, found in names.items():
            # Options belong to a name, so that one without the other means nothing
            if factor not in found and not found[factor.split()[0]]:
                continue
            rest = frozenset((name, value) for name, value in found.items() if name != factor)
            level = found.get(factor) or _absent(factor)
            rank.setdefault(level, len(rank))
            alike.setdefault((arms[i].pose, rest), []).append((i, level))
        for levels in alike.values():
            levels.sort(key=lambda level: rank[level[1]])
            several = len(levels) > MAX_LEVELS
            chosen = ((levels[0], other) for other in levels[1:]) if several else combinations(levels, 2)
            for (before, old), (after, new) in chosen:
                yield Pair(factor, old, new, before, after)


def _absent(factor: str) -> str:
    """What the level of a factor is called that a name does not mention."""
    return {"backbone": "the usual one", "policy": "none"}.get(factor, "default")
