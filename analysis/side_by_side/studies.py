"""What several studies have in common, and how their variants rank over them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import numpy as np

from analysis.chance import chance, chance_line
from analysis.faults import Faults
from analysis.findings import Findings
from analysis.formats import one_line
from analysis.means import MIN_SEEDS
from analysis.ripeness import is_ripe_either_way, nothing_learned
from analysis.statistics import Floats, paired_difference
from analysis.statistics.ranks import Profile, Ranks, profile, ranks
from analysis.statistics.seeds import seeds_needed_for_significance
from ledger.errors import UserError
from ledger.wording import count, listed

MIN_TASKS = seeds_needed_for_significance(1, 0.05) or 0
"""Tasks without which nothing is said of others: if all of fewer agree, it is chance in one case of twenty or more."""

ABOVE_K = np.linspace(0, 1, 201)
"""The scores at which the profile is computed."""


@dataclass(frozen=True)
class Setting:
    """A study at one of its poses.

    heading: what tells it from the others. ranked: variants that take part in a ranking, in the order of the first
    study.
    """

    findings: Findings
    pose: str
    heading: str
    ranked: tuple[str, ...] = ()

    @cached_property
    def places(self) -> dict[str, int]:
        """Indices of the study's arms at the pose that have a completed final run, by variant."""
        arms = enumerate(self.findings.study.arms)
        return {arm.variant: i for i, arm in arms if arm.pose == self.pose and self.findings.scores.keys[i]}

    @property
    def planned(self) -> tuple[str, ...]:
        """The study's variants at the pose, whether or not a run of them was completed."""
        return tuple(arm.variant for arm in self.findings.study.arms if arm.pose == self.pose)

    @property
    def chance(self) -> float | None:
        """Share of the test images that the commonest class has; None where classes are not known."""
        found = chance_line(self.findings.study)
        return found[1] if found and found[1] < 1 else None

    @cached_property
    def score_VS(self) -> Floats:
        """Test accuracies of the ranked variants by the seeds that all of them completed."""
        score_VS = self.findings.scores.test_AS[[self.places[variant] for variant in self.ranked]]
        return np.asarray(score_VS[:, ~np.isnan(score_VS).any(axis=0)])

    @cached_property
    def why_not_ranked(self) -> str:
        """Why no rank is given, in words; "" where ranks are."""
        study = self.findings.study
        learned = nothing_learned([self.findings.trained[self.places[v]] for v in self.ranked], chance(study))
        num_seeds = self.score_VS.shape[1]
        if learned or num_seeds > 1:
            return learned
        return "one seed tells no order" if num_seeds else "no seed completed all of the variants"

    @cached_property
    def num_unripe(self) -> tuple[int, int]:
        """How many comparisons of two variants a longer training could turn, and of how many."""
        found = self.findings
        unripe = 0
        pairs = list(combinations([self.places[variant] for variant in self.ranked], 2))
        for pair in pairs:
            difference = float(paired_difference(*found.scores.test_AS[list(pair)]).mean_X)
            unripe += not is_ripe_either_way(found.study, [found.trained[i] for i in pair], difference)
        return unripe, len(pairs)

    def keys(self, variant: str) -> tuple[str, ...]:
        return self.findings.scores.keys[self.places[variant]]

    def normalised(self, variant: str) -> Floats:
        """Accuracies of its runs: 0 is as good as always naming the commonest class, 1 is all right."""
        assert self.chance is not None
        accuracy_S = self.findings.scores.test_AS[self.places[variant]]
        return np.asarray((accuracy_S[~np.isnan(accuracy_S)] - self.chance) / (1 - self.chance))


class LeftOut(NamedTuple):
    """A variant that not all have. having, lost: headings of the settings that have a completed run of it, and of those
    that planned it and have none."""

    variant: str
    having: tuple[str, ...]
    lost: tuple[str, ...]


@dataclass(frozen=True)
class SideBySide:
    """Studies beside each other.

    variants: what all of them have at all their poses, with a completed final run, in the order of the first study;
    ranked: those of them that take part in a ranking: none that is shown the true pose.
    """

    settings: tuple[Setting, ...]
    variants: tuple[str, ...]
    ranked: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    faults: Faults = field(default_factory=dict)

    @property
    def studies(self) -> list[str]:
        return list(dict.fromkeys(setting.findings.study.name for setting in self.settings))

    @cached_property
    def in_ranking(self) -> tuple[Setting, ...]:
        """The settings in which variants are ranked; none where there is nothing to rank."""
        return tuple(each for each in self.settings if not each.why_not_ranked) if len(self.ranked) > 1 else ()

    @cached_property
    def tasks(self) -> list[str]:
        """The content of the tasks of the ranking, each once."""
        return list(dict.fromkeys(each.findings.study.task_hash for each in self.in_ranking))

    @cached_property
    def ranks(self) -> Ranks | None:
        """Of the ranked variants over in_ranking; None where these are fewer than two."""
        if len(self.in_ranking) < 2:
            return None
        return ranks(
            [each.score_VS for each in self.in_ranking], [each.findings.study.task_hash for each in self.in_ranking]
        )

    @property
    def has_intervals(self) -> bool:
        """Whether there are seeds enough in every task."""
        return all(each.score_VS.shape[1] >= MIN_SEEDS for each in self.in_ranking)

    @cached_property
    def profile(self) -> Profile | None:
        """Of the ranked variants over in_ranking, of their normalised scores at ABOVE_K."""
        if not self.in_ranking or any(each.chance is None for each in self.in_ranking):
            return None
        return profile([[each.normalised(variant) for variant in self.ranked] for each in self.in_ranking], ABOVE_K)


def side_by_side(found: Sequence[Findings]) -> SideBySide:
    """What the studies have in common.

    Raises UserError for one without a completed final run, for studies that share no variant, or runs.
    """
    for findings in found:
        if findings.completed.empty:
            raise UserError(f"study: {findings.study.name} has no completed final run yet; the same sweep makes them")
    bare = list(_settings(found))
    shared = tuple(variant for variant in bare[0].places if all(variant in each.places for each in bare))
    if not shared:
        have = "; ".join(f"{each.heading} has {_few(list(each.places))}" for each in bare)
        raise UserError(f"study: no variant has final runs in all of them: {have}")
    _check_runs(bare, shared)
    arms = {arm.variant: arm for arm in found[0].study.arms}
    ranked = tuple(variant for variant in shared if not arms[variant].sees_pose)
    others = dict.fromkeys(variant for each in bare for variant in each.planned if variant not in shared)
    left_out = tuple(
        LeftOut(
            name,
            tuple(each.heading for each in bare if name in each.places),
            tuple(each.heading for each in bare if name in each.planned and name not in each.places),
        )
        for name in others
    )
    return SideBySide(tuple(replace(each, ranked=ranked) for each in bare), shared, ranked, left_out)


def _settings(found: Iterable[Findings]) -> Iterator[Setting]:
    """Each study at each of its poses, under the shortest heading that tells them all apart."""
    places = [(each, pose) for each in found for pose in dict.fromkeys(arm.pose for arm in each.study.arms)]
    studies = [findings.study for findings, _ in places]
    several_poses = len({pose for _, pose in places}) > 1
    poses = [f", {one_line(pose)}" if several_poses else "" for _, pose in places]
    for form in ("{0.task_label}", "{0.task_label}, {0.budget}", "{0.name}"):
        headings = [one_line(form.format(study)) + pose for study, pose in zip(studies, poses, strict=True)]
        if len(set(headings)) == len(headings):
            break
    for (findings, pose), heading in zip(places, headings, strict=True):
        yield Setting(findings, pose, heading)


def _few(names: Sequence[str], most: int = 4) -> str:
    """The first names, and how many more there are."""
    more = [count(len(names) - most, "other")] if len(names) > most else []
    return listed([*map(one_line, names[:most]), *more]) if names else "none"


def _check_runs(settings: Iterable[Setting], variants: Iterable[str]) -> None:
    """Raises UserError where two studies are of the same runs, which would count twice."""
    owner: dict[str, str] = {}
    for setting in settings:
        for variant in variants:
            for key in setting.keys(variant):
                if (other := owner.setdefault(key, setting.findings.study.name)) != setting.findings.study.name:
                    both = f"{other} and {setting.findings.study.name}"
                    raise UserError(
                        f"study: {both} have the same runs, such as {key} of {one_line(variant)}: name one of them"
                    )
