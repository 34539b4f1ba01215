"""What is said of a board, in sentences."""

import math
from collections.abc import Iterator

from analysis.board.standings import ALPHA, Board, Line
from analysis.formats import one_line
from analysis.lost_runs import lost_text
from analysis.means import MIN_SEEDS
from analysis.statistics import CONFIDENCE
from analysis.statistics.seeds import POWER
from analysis.wording import CHANGED, CHANGED_TEXT, plain_points
from ledger.wording import count, listed

UNRANKED = "§"
"""The sign at a line without a rank."""


def who_text(line: Line) -> str:
    """Whose the line is, and of which study where somebody has several; with the sign of a plan that was changed."""
    entry = line.entry
    sign = "" if entry.findings.study.is_as_planned else f" {CHANGED}"
    return listed(entry.who) + (f" ({entry.study})" if entry.study else "") + sign


def resolution_text(board: Board) -> str:
    """What the board can tell apart."""
    kinds = ("between lines that are compared by seed", "between others")
    sizes = [each for each in zip(board.resolution, kinds, strict=True) if not math.isnan(each[0])]
    if not sizes:
        return "Nothing can be told apart here: no two lines can be compared."
    known = [f"{plain_points(float(f'{size:.2g}'))} {kind}" for size, kind in sizes if size <= 1]
    coarse = [kind for size, kind in sizes if size > 1]
    text = f"With so few seeds, nothing can reliably be told apart {listed(coarse)}." if coarse else ""
    if not known:
        return text
    return (
        f"By its seeds, the smallest difference that this board resolves is {listed(known)}: true means "
        f"so far apart are told apart in {round(10 * POWER)} of 10 boards. Closer lines mostly share a rank. {text}"
    ).strip()


def open_text(board: Board) -> str:
    """How many comparisons are left open whatever the seeds show; "" where none is."""
    if not board.num_open:
        return ""
    number = f"{board.num_open} of {count(board.num_pairs, 'comparison')} {'is' if board.num_open == 1 else 'are'}"
    return f"{number} left open all the same, as ties: a longer training could turn what the seeds show."


def notes(board: Board) -> Iterator[str]:
    """How to read the board."""
    percent = f"{100 * CONFIDENCE:g} %"
    yield (
        "Rank: one more than the number of lines that are shown to be better; lines that are not told apart share it. "
        f"Possible ranks: those that are not excluded. In at least {percent} of all boards every line's true rank is "
        "among its own. "
        "Within a rank the highest mean comes first."
    )
    others = board.num_pairs - board.num_paired
    how = []
    if board.num_paired:
        how.append(
            f"{count(board.num_paired, 'comparison')} seed by seed, as both lines have the same seeds, and with them "
            "the same splits and orders of images (paired t test)"
        )
    if others:
        how.append(
            f"{count(others, 'comparison')} of lines whose seeds differ, or that completed fewer than {MIN_SEEDS} of "
            "the same seeds, as independent samples (Welch's t test)"
        )
    yield (
        f"Shown to be better: {listed(how) or 'no comparison could be made'}. Holm's correction is over all of them, "
        f"at the {100 * ALPHA:g} % level. The tests speak of other seeds, on these test images. Each line is "
        "taken with the settings that its own tuning chose."
    )
    yield (
        f"Test %: mean over the completed final runs, ± the half width of its {percent} Student-t interval; with fewer "
        f"than {MIN_SEEDS} there is neither interval nor rank. Trials: runs of its tuning, of which the protocol says "
        "nothing."
    )
    yield (
        "The smallest difference: the root mean square of the standard errors of such comparisons, times what a t test "
        f"takes to find a true difference with a probability of {100 * POWER:.0f} %, at that level over the number of "
        "comparisons."
    )
    for line in board.lines:
        if lost := lost_text(line.entry.row):
            whose = f"{one_line(line.entry.arm.variant)} of {who_text(line)}"
            yield f"This leaves out {lost} of {whose}: those that are left may be the lucky ones."
        if line.why_not:
            yield f"{UNRANKED} {one_line(line.entry.arm.variant)} of {who_text(line)} has no rank: {line.why_not}."
    if any(not line.entry.findings.study.is_as_planned for line in board.lines):
        yield f"{CHANGED} {CHANGED_TEXT}"


def conflicts(board: Board) -> Iterator[str]:
    """Runs that two people have with other results."""
    known: dict[str, tuple[float, Line]] = {}
    told = set()
    for line in board.lines:
        for key, score in line.entry.score_of_run.items():
            other_score, other = known.setdefault(key, (score, line))
            both = f"{who_text(other)} and {who_text(line)}"
            if other_score != score and both not in told:
                told.add(both)
                yield (
                    f"Warning: {both} have the same run {key} with other results. They made it on other machines or "
                    "with other versions, or one of them is not as it was made."
                )
