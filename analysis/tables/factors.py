"""The ablation by factor: what changing one thing does, wherever two arms differ in nothing else."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from analysis.ablation import STAR
from analysis.chance import chance
from analysis.findings import Findings
from analysis.formats import Cell, Section, Table, Value, text_table
from analysis.means import mean_cell, mean_of
from analysis.names import name_and_options, variant_parts
from analysis.records import Arm
from analysis.ripeness import is_ripe
from analysis.scores import final_scores
from analysis.statistics import CONFIDENCE, mean_interval
from analysis.tables import table

MAX_LEVELS = 6
"""Arms that differ in one factor alone and are compared each with each; of more, each with the first."""


class Pair(NamedTuple):
    """Two arms, by their indices, that differ in one factor. old, before: of the level that the study has first."""

    factor: str
    old: str
    new: str
    before: int
    after: int


@table("factors")
def factors(findings: Findings) -> Table | None:
    """A section a factor, its changes with their mean over pairs; None where no two arms differ in one factor alone."""
    study = findings.study
    scores = final_scores(study)
    test_AS = scores.array("test_accuracy")
    by_factor: dict[str, dict[tuple[str, str, str], list[Pair]]] = {}
    for pair in pairs(study.arms):
        change = study.arms[pair.before].pose, pair.old, pair.new
        by_factor.setdefault(pair.factor, {}).setdefault(change, []).append(pair)
    if not by_factor:
        return None
    several = len({arm.pose for arm in study.arms}) > 1
    sections: list[Section] = []
    rows: list[tuple[Value, ...]] = []
    for factor, changes in by_factor.items():
        cells: list[tuple[Cell, ...]] = []
        keys: list[tuple[str, ...]] = []
        strong: set[tuple[int, int]] = set()
        for (pose, old, new), found in changes.items():
            difference_PS = np.stack([test_AS[pair.after] - test_AS[pair.before] for pair in found])
            # A seed counts in the mean over pairs if all of them have it
            difference_PS = np.concatenate([difference_PS, difference_PS.mean(axis=0, keepdims=True)])
            estimate = mean_interval(difference_PS)
            what = f"{old} → {new}" + (f" at pose {pose}" if several else "")
            every: list[str] = []
            for p in range(len(found) + (len(found) > 1)):
                mean = mean_of(estimate, p)
                if p < len(found):
                    both = found[p].after, found[p].before
                    arms = [study.arms[i].variant for i in both]
                    own = tuple(key for i in both for key in scores.keys[i])
                    every += own
                else:
                    arms, own = [f"mean of {len(found)} pairs", ""], tuple(dict.fromkeys(every))
                    strong |= {(len(cells), column) for column in (1, 3)}
                whole = found if p == len(found) else found[p : p + 1]
                ripe = all(
                    is_ripe(
                        [findings.trained[i] for i in (pair.after, pair.before)],
                        mean.value,
                        chance(study),
                        study.claims.margin,
                    )
                    for pair in whole
                )
                star = " *" if ripe and mean.excludes_zero else ""
                difference = mean_cell(mean, signed=True, mark=star)
                cells.append((Cell(what), Cell(arms[0]), Cell(arms[1]), difference, Cell(str(mean.num), mean.num)))
                keys.append(own)
                rows.append((study.name, pose, factor, old, new, *arms, *mean, " ".join(own)))
        text = text_table(("Change", "Variant", "Compared with", "Difference", "n"), "lllrr", cells, frozenset(strong))
        sections.append(Section(f"Factor: {factor}", text, tuple(keys)))
    notes = (
        "Each row compares two arms of a pose that differ in one factor alone: the model, the backbone, the policy, or "
        "one option of theirs. Differences are in percentage points of test accuracy, the new minus the old, paired by "
        f"the n seeds that both completed, ± the half width of the {100 * CONFIDENCE:g} % Student-t interval. "
        f"{STAR}.",
        "Mean of pairs: the same change made beside different models, backbones or policies, over the seeds that all "
        "of them completed.",
        f"Where more than {MAX_LEVELS} arms differ in the same factor alone, each is compared with the first.",
    )
    columns: tuple[str, ...] = ("study", "pose", "factor", "old", "new", "variant", "compared_with", "difference")
    columns += ("difference_half_width", "num_pairs", "run_keys")
    title = f"Ablation by factor on {study.task_label}"
    return Table(study.name, "factors", title, tuple(sections), notes, columns, tuple(rows))


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
