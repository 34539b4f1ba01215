"""The tables of studies beside each other: what they are, accuracies, ranks, shares of runs above a score."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from analysis.formats import Cell, Section, Table, one_line
from analysis.means import Mean, mean_cell, mean_of
from analysis.side_by_side.studies import ABOVE_K, MIN_TASKS, Setting, SideBySide
from analysis.side_by_side.words import NORMALISED, marked, marks, tasks_text
from analysis.statistics import CONFIDENCE, mean_interval
from analysis.statistics.bca import Interval
from analysis.tables.columns import RUN_KEYS, Column, Draft, mean_names, text_of
from analysis.wording import pose_words, size_text

SHOWN_ABOVE = (0.25, 0.5, 0.75, 0.9, 0.95)
"""Scores whose shares stand in the table."""


class Place(NamedTuple):
    """A variant in a setting, or in all of them where that is None. keys: of its runs there."""

    variant: str
    setting: Setting | None
    keys: tuple[str, ...]

    @property
    def pose(self) -> str:
        return self.setting.pose if self.setting else ""


def build(shown: SideBySide) -> dict[str, Table]:
    """The tables by name, in the order of reading."""
    drafts: dict[str, tuple[str, Draft[Place] | Draft[Setting] | None]] = {
        "accuracy": ("Test accuracy of each variant in each study", _accuracy(shown)),
        "ranks": ("Ranks over the studies", _ranks(shown)),
        "profile": ("Share of runs above a score", _profile(shown)),
        "studies": ("The studies", _studies(shown)),
    }
    studies = "+".join(shown.studies)
    return {name: draft.named(studies, name, title) for name, (title, draft) in drafts.items() if draft}


def in_order(shown: SideBySide) -> list[str]:
    """The variants, those with the highest mean rank first; as in the first study where nothing is ranked."""
    if shown.ranks is None:
        return list(shown.variants)
    mean_of_variant = dict(zip(shown.ranked, shown.ranks.mean_V, strict=True))
    return sorted(shown.variants, key=lambda variant: mean_of_variant.get(variant, np.inf))


def _over_all(shown: SideBySide, variants: list[str]) -> list[Place]:
    return [Place(v, None, tuple(key for each in shown.settings for key in each.keys(v))) for v in variants]


def _sections(columns: list[Column[Place]], places: list[Place]) -> list[Section]:
    return [Section("", text_of(columns, places), tuple(place.keys for place in places))]


_VARIANT: Column[Place] = Column("Variant", "variant", "l", lambda place: place.variant)
_STUDY: Column[Place] = Column("", "study", value=lambda place: _setting(place).findings.study.name)
_POSE: Column[Place] = Column("", "pose", value=lambda place: place.pose)


def _setting(place: Place) -> Setting:
    assert place.setting
    return place.setting


def _mean(place: Place) -> Mean:
    setting = _setting(place)
    return mean_of(mean_interval(setting.findings.scores.test_AS), setting.places[place.variant])


def _accuracy(shown: SideBySide) -> Draft[Place]:
    order = in_order(shown)
    seen = [_VARIANT, *(_accuracy_column(marked(shown, each) + ", %", each) for each in shown.settings)]
    rows = [Place(variant, setting, setting.keys(variant)) for setting in shown.settings for variant in order]
    columns: list[Column[Place]] = [
        _STUDY, _POSE, _VARIANT, Column("", mean_names("test_accuracy", "num_seeds"), value=_mean), RUN_KEYS,
    ]  # fmt: skip
    notes = (
        f"Means over the completed final runs, ± the half width of their {100 * CONFIDENCE:g} % Student-t interval.",
        *marks(shown),
    )
    return Draft(_sections(seen, _over_all(shown, order)), notes, columns, rows)


def _accuracy_column(heading: str, setting: Setting) -> Column[Place]:
    def cell(place: Place) -> Cell:
        mean = _mean(Place(place.variant, setting, ()))
        num = len(setting.findings.row(setting.pose, place.variant).finals)
        return mean_cell(mean, mark="" if mean.num == num else f" ({mean.num} of {num})")

    return Column(heading, cell=cell)


def _ranks(shown: SideBySide) -> Draft[Place] | None:
    if (found := shown.ranks) is None:
        return None
    at = shown.ranked.index

    def interval(ends: Interval, place: Place) -> Cell | None:
        low, high = (float(end[at(place.variant)]) for end in ends)
        return Cell(f"{low:.1f} to {high:.1f}", low) if shown.has_intervals else None

    def ends(ends: Interval, place: Place) -> tuple[float | None, ...]:
        return tuple(float(end[at(place.variant)]) if shown.has_intervals else None for end in ends)

    def mean(place: Place) -> Cell:
        value = float(found.mean_V[at(place.variant)])
        return Cell(f"{value:.2f}", value)

    columns: list[Column[Place]] = [
        _VARIANT,
        Column("Mean rank", "mean_rank", cell=mean),
        Column(
            "Seeds drawn again",
            "seeds_low seeds_high",
            "r",
            partial(interval, found.of_seeds),
            partial(ends, found.of_seeds),
        ),
    ]
    if len(shown.tasks) >= MIN_TASKS:
        about = "tasks_low tasks_high"
        columns.append(
            Column("Tasks drawn again", about, "r", partial(interval, found.of_tasks), partial(ends, found.of_tasks))
        )
    for t, setting in enumerate(shown.in_ranking):
        columns.append(_rank_column(shown, setting, found.rank_TV[t].tolist()))
    places = _over_all(shown, [variant for variant in in_order(shown) if variant in shown.ranked])
    told: list[Column[Place]] = [*columns, RUN_KEYS]
    seeds = sorted({each.score_VS.shape[1] for each in shown.in_ranking})
    notes = (
        "Rank 1 has the highest mean test accuracy over the seeds that all these variants completed; equal means share "
        "the mean of their ranks. In the mean rank every study counts the same.",
        f"Seeds drawn again: where {100 * CONFIDENCE:g} % of mean ranks are when each study's seeds, "
        f"{seeds[0] if len(seeds) == 1 else f'{seeds[0]} to {seeds[-1]}'} of them, are drawn again with replacement, "
        "the same for all variants (bootstrap, Agarwal et al. 2021). It shows how much these seeds scatter. It is no "
        "confidence interval for the rank of the true means, and misses it where variants are close.",
        tasks_text(shown),
        *(
            ["Tasks drawn again: the same with tasks drawn as well, each with all studies of it."]
            if len(shown.tasks) >= MIN_TASKS
            else []
        ),
        *marks(shown),
    )
    return Draft(_sections(columns, places), notes, told, places)


def _rank_column(shown: SideBySide, setting: Setting, rank_V: list[float]) -> Column[Place]:
    def cell(place: Place) -> Cell:
        rank = rank_V[shown.ranked.index(place.variant)]
        return Cell(f"{rank:g}", rank)

    name = f"rank {setting.findings.study.name}, {setting.pose}"
    return Column(marked(shown, setting), (name,), "r", cell)


def _profile(shown: SideBySide) -> Draft[Place] | None:
    if (found := shown.profile) is None:
        return None

    def column(above: float) -> Column[Place]:
        k = int(np.abs(ABOVE_K - above).argmin())

        def values(place: Place) -> tuple[float, ...]:
            v = shown.ranked.index(place.variant)
            return tuple(float(each[v, k]) for each in (found.share_VK, found.low_VK, found.high_VK))

        def cell(place: Place) -> Cell:
            share, low, high = values(place)
            return Cell(f"{100 * share:.0f} ({100 * low:.0f} to {100 * high:.0f})", share)

        name = f"above_{100 * above:.0f}"
        return Column(f"Above {100 * above:.0f} %", f"{name} {name}_low {name}_high", "r", cell, values)

    columns: list[Column[Place]] = [_VARIANT, *map(column, SHOWN_ABOVE)]
    places = _over_all(shown, [variant for variant in in_order(shown) if variant in shown.ranked])
    notes = (
        NORMALISED,
        "A share, in per cent, is the mean over studies of that of their completed final runs above the score; in "
        f"brackets, where {100 * CONFIDENCE:g} % of it would be if the runs of each study were drawn again. It tells "
        "how often a variant comes so far, and is no test of one variant against another.",
        *marks(shown),
    )
    return Draft(_sections(columns, places), notes, [*columns, RUN_KEYS], places)


def _studies(shown: SideBySide) -> Draft[Setting]:
    def told(name: str, value: Callable[[Setting], str | int]) -> Column[Setting]:
        return Column("", name, "l", value=value)

    def seeds(setting: Setting) -> str:
        nums = sorted({len(setting.keys(variant)) for variant in shown.variants})
        return str(nums[0]) if len(nums) == 1 else f"{nums[0]} to {nums[-1]}"

    def chance_cell(setting: Setting) -> Cell | None:
        return None if setting.chance is None else Cell(f"{100 * setting.chance:.1f}", setting.chance)

    named = all(one_line(each.findings.study.task_label) in each.heading for each in shown.settings)
    columns: list[Column[Setting]] = [
        Column("In tables", "heading", "l", lambda setting: marked(shown, setting), lambda setting: setting.heading),
        Column("Study", "study", "l", lambda setting: setting.findings.study.name),
        Column("" if named else "Task", "task", "l", lambda setting: setting.findings.study.task_label),
        Column("Pose", "pose", "l", lambda setting: pose_words(setting.findings.study, setting.pose), lambda s: s.pose),
        Column("Size of training", "size", "l", lambda setting: size_text(setting.findings.study)),
        Column("Commonest class, %", "chance", "r", chance_cell),
        Column("Seeds", "seeds", "r", seeds),
        told("protocol_hash", lambda setting: setting.findings.study.protocol_hash),
        told("why_not_ranked", lambda setting: setting.why_not_ranked if len(shown.ranked) > 1 else ""),
        told("num_unripe", lambda setting: setting.num_unripe[0]),
    ]
    table = text_of(columns, shown.settings)
    return Draft([Section("", table, ())], tuple(marks(shown)), columns, shown.settings)
