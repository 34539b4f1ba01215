"""What can be seen of a ledger, as a terminal shows it."""

from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from experiments.terminal.watching.view import Finished, Running, View
from ledger.plain_text import plain
from ledger.wording import duration

BLOCKS, ASCII = "▁▂▃▄▅▆▇█", "_.-:=+*#"
WIDE = 110
"""Characters of a line from which a run's numbers stand in columns."""
NARROW = 60
"""Characters of a line below which a finished run takes several lines."""
MAX_CURVE = 24
"""Characters of a sparkline; of more epochs the last."""


def sparkline(curve: Sequence[float], others: Sequence[float], marks: str = BLOCKS) -> str:
    """The curve in characters, from the lowest to the highest of its own values and the others'; a flat one is low."""
    values, shown = [*curve, *others], curve[-MAX_CURVE:]
    if len(set(shown)) < 2:
        return marks[0] * len(shown)
    low, span = min(values), max(values) - min(values)
    return "".join(marks[min(int((value - low) / span * len(marks)), len(marks) - 1)] for value in shown)


class Screen:
    """A view, laid out anew for the width of whatever shows it."""

    def __init__(self, view: View, when: str, hint: str = "") -> None:
        self.view, self.when, self.hint = view, when, hint

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        view = self.view
        yield Text.assemble((plain(view.study) or plain(view.ledger), "bold"), f"  {self.when}")
        yield Text(plain(view.state))
        if view.num_runs:
            yield ProgressBar(total=1.0, completed=view.share, width=min(options.max_width, 60))
        yield Text()
        marks = ASCII if options.ascii_only else BLOCKS
        if view.running and options.max_width >= WIDE:
            yield _table(view.running, marks)
        elif view.running:
            yield from (line for run in view.running for line in _lines(run, marks))
        if view.recent:
            yield Text("\nFinished last", style="bold")
            yield from (_finished_line(run, options.max_width) for run in view.recent)
        if self.hint:
            yield Text(f"\n{self.hint}", style="dim")


def _table(runs: Sequence[Running], marks: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("run", overflow="fold")
    for heading in ("epoch", "loss", "accuracy", "median of finished"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("curve", no_wrap=True)
    table.add_column("last epoch", justify="right", no_wrap=True)
    table.add_column("setting", overflow="fold", style="dim", ratio=1)
    for run in runs:
        name = Text.assemble((plain(run.name), "bold"), (f"\n{plain(run.what)}", "dim"))
        curve = sparkline(run.curve, run.medians, marks)
        ago, setting = f"{duration(run.silent_s)} ago", plain(run.setting)
        table.add_row(name, f"{run.epoch}/{run.epochs}", _loss(run), _accuracy(run), _median(run), curve, ago, setting)
    return table


def _lines(run: Running, marks: str) -> Iterator[Text]:
    """The same below each other, where there is no room for columns."""
    yield Text.assemble((plain(run.name), "bold"), f"  {plain(run.what)}", overflow="fold")
    numbers: list[str | Text] = [f"  epoch {run.epoch}/{run.epochs}"]
    said: tuple[tuple[str, str | Text], ...] = (("loss ", _loss(run)), ("", _accuracy(run)), ("median ", _median(run)))
    for what, value in said:
        numbers += ["  ", what, value] if value else []
    yield Text.assemble(*numbers, f"  {sparkline(run.curve, run.medians, marks)}")
    ago = f"{'last epoch' if run.epoch else 'began'} {duration(run.silent_s)} ago"
    below = filter(None, (ago, plain(run.setting)))
    yield Text(f"  {'  '.join(below)}", style="dim", overflow="fold")


def _loss(run: Running) -> str:
    return "" if run.loss is None else f"{run.loss:.3f}"


def _accuracy(run: Running) -> str:
    return "" if run.accuracy is None else f"{run.part} {100 * run.accuracy:.1f} %"


def _median(run: Running) -> Text:
    if run.median is None or run.accuracy is None:
        return Text("")
    ahead = run.accuracy >= run.median
    return Text(f"{100 * run.median:.1f} % of {run.num_finished}", style="green" if ahead else "yellow")


def _finished_line(run: Finished, width: int) -> Text:
    """What may be cut stands last; the score does not."""
    score = "" if run.accuracy is None else f"{run.part} {100 * run.accuracy:.1f} %"
    seconds = "" if run.seconds is None else duration(run.seconds)
    colour = {"completed": "green", "pruned": "yellow"}.get(run.status, "red")
    rest = "  ".join(plain(part) for part in (run.what, seconds, run.setting) if part)
    status, name = (f"{plain(run.status):9} ", colour), (plain(run.name), "bold")
    wraps = width < NARROW
    return Text.assemble(
        status, f"{score:12}  ", name, f"  {rest}", no_wrap=not wraps, overflow="fold" if wraps else "ellipsis"
    )
