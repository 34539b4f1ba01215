"""What is said of studies beside each other, in sentences."""

from collections.abc import Iterator

import numpy as np

from analysis.formats import one_line
from analysis.lost_runs import unfinished
from analysis.side_by_side.studies import MIN_TASKS, Setting, SideBySide
from analysis.wording import CHANGED, CHANGED_TEXT
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
    """What is not finished, who ranks highest, for what that holds, what may turn it, and what was left out."""
    for findings in {each.findings.study.name: each.findings for each in shown.settings}.values():
        if text := unfinished(findings):
            yield text.replace("Unfinished", f"The study {one_line(findings.study.name)} is unfinished", 1)
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
        names = [one_line(shown.ranked[v]) for v in first]
        text = f"mean rank {found.mean_V[first[0]]:.2f} of {len(shown.ranked)}"
        verb = "ranks" if len(first) == 1 else "rank"
        yield f"In these {these_text(shown)}, as they were trained, {listed(names)} {verb} highest: {text}."
        yield tasks_text(shown)
    yield from marks(shown)
    if shown.left_out:
        yield f"Left out, since not all have completed runs of them: {'; '.join(left_out_texts(shown))}."


def left_out_texts(shown: SideBySide) -> Iterator[str]:
    """Variants that only some studies have, each with those that have it, and those in which all its runs were lost."""
    for name, having, lost in shown.left_out:
        parts = [f"in {listed(having)}"] if having else []
        parts += [f"no run of it was completed in {listed(lost)}"] if lost else []
        yield f"{one_line(name)} ({'; '.join(parts)})"


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
    if changed := [each.heading for each in shown.settings if not each.findings.study.is_as_planned]:
        yield f"{CHANGED} {listed(changed)}: {CHANGED_TEXT[0].lower()}{CHANGED_TEXT[1:]}"
    for setting in shown.settings:
        if len(shown.ranked) > 1 and setting.why_not_ranked:
            yield f"{NOT_RANKED} {setting.heading} takes no part in ranks and profile: {setting.why_not_ranked}."
        elif setting.num_unripe[0]:
            unripe, pairs = setting.num_unripe
            of = f"{unripe} of {count(pairs, 'comparison')} of two variants"
            yield f"{UNRIPE} {setting.heading}: a longer training could turn {of} there, and ranks with them."


def marked(shown: SideBySide, setting: Setting) -> str:
    """The setting's heading with the signs that belong to it."""
    signs = "" if setting.findings.study.is_as_planned else CHANGED
    if len(shown.ranked) > 1:
        signs += NOT_RANKED if setting.why_not_ranked else UNRIPE if setting.num_unripe[0] else ""
    return f"{setting.heading} {signs}".rstrip()
