"""What is said of studies beside each other, in sentences."""

from collections.abc import Iterator

import numpy as np

from analysis.formats import one_line
from analysis.side_by_side.studies import MIN_TASKS, Setting, SideBySide
from ledger.wording import count, listed

NOT_RANKED, UNRIPE = "§", "‡"
"""Signs at the name of a study: nothing is said of an order in it; it may turn."""

NORMALISED = (
    "Scores are test accuracies, normalised so that easy and hard tasks can share a scale: 0 is as good as always "
    "naming the commonest class of the test images, 100 % is all right. No variant's score depends on which others are "
    "compared."
)


def headline(shown: SideBySide) -> str:
    """How much of what is compared."""
    tasks = {setting.findings.study.task_hash for setting in shown.settings}
    studies, variants = count(len(shown.studies), "study"), count(len(shown.variants), "variant")
    return f"{studies} of {count(len(tasks), 'task')}, {variants} in all of them"


def these_text(shown: SideBySide) -> str:
    """What ranks and profile are over: `3 studies`."""
    num, studies = len(shown.in_ranking), {setting.findings.study.name for setting in shown.in_ranking}
    return count(num, "study") if len(studies) == num else f"{num} studies and poses"


def statements(shown: SideBySide) -> Iterator[str]:
    """Who ranks highest, for what that holds, what may turn it, and what was left out."""
    if len(shown.ranked) < 2:
        yield (
            "One variant alone has no rank." if shown.ranked else "All that they share is shown the true pose: no rank."
        )
    elif (found := shown.ranks) is None:
        yield "No mean ranks: the order of variants is known in " + (
            f"{these_text(shown)} only." if shown.in_ranking else "no study."
        )
    else:
        first = np.flatnonzero(found.mean_V == found.mean_V.min()).tolist()
        names, (low, high) = [one_line(shown.ranked[v]) for v in first], found.of_seeds
        text = f"mean rank {found.mean_V[first[0]]:.2f} of {len(shown.ranked)}"
        if shown.has_intervals and len(first) == 1:
            text += f", {low[first[0]]:.1f} to {high[first[0]]:.1f} with other seeds"
        verb = "ranks" if len(first) == 1 else "rank"
        yield f"Over {these_text(shown)}, as they were trained, {listed(names)} {verb} highest: {text}."
        yield tasks_text(shown)
    yield from marks(shown)
    if shown.left_out:
        yield f"Left out, since not all have them: {'; '.join(left_out_texts(shown))}."


def left_out_texts(shown: SideBySide) -> Iterator[str]:
    """Variants that only some studies have, each with those that have it."""
    for name, headings in shown.left_out:
        yield f"{one_line(name)} (in {listed(headings)})"


def tasks_text(shown: SideBySide) -> str:
    """What the ranks say of other tasks than these."""
    num = len(shown.tasks)
    if num < MIN_TASKS:
        these = "this task" if num == 1 else f"these {num} tasks"
        return (
            f"This holds for {these} only. What others would show cannot be told from fewer than {MIN_TASKS}: even if "
            "all of them agreed, that would be chance in more than one case of twenty."
        )
    return f"Of other tasks it speaks only as far as these {num} are a fair sample, which nobody has drawn at random."


def marks(shown: SideBySide) -> Iterator[str]:
    """What the signs at a study's name mean, in sentences."""
    for setting in shown.settings:
        if len(shown.ranked) > 1 and setting.why_not_ranked:
            yield f"{NOT_RANKED} {setting.heading} takes no part in ranks and profile: {setting.why_not_ranked}."
        elif setting.num_unripe[0]:
            unripe, pairs = setting.num_unripe
            of = f"{unripe} of {count(pairs, 'comparison')} of two variants"
            yield f"{UNRIPE} {setting.heading}: a longer training could turn {of} there, and ranks with them."


def marked(shown: SideBySide, setting: Setting) -> str:
    """The setting's heading with the sign that belongs to it."""
    if len(shown.ranked) < 2:
        return setting.heading
    sign = NOT_RANKED if setting.why_not_ranked else UNRIPE if setting.num_unripe[0] else ""
    return f"{setting.heading} {sign}".rstrip()
