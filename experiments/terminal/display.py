"""What a person sees in the terminal: the plan, the progress, the tables."""

import dataclasses
import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from experiments.machine.pace import Pace
from ledger.config import RunConfig, kind_of, kind_of_run
from ledger.forms import is_whole
from ledger.ledger import Ledger
from ledger.plain_text import as_markup, plain
from ledger.wording import duration

if TYPE_CHECKING:  # torch is slow to import, and most commands do without it
    from experiments.runs.run import Job
    from experiments.sweep.estimate import Estimate

PARTS = ("optim", "model", "policy")
"""Of a run's configuration, its hyper-parameters."""
NAME_COLUMNS = ("Variant", "Baseline")
MAX_NAME = 48
"""Characters to which lines below each other leave room for a run's name; a longer one pushes the rest aside."""
LOOK_SHARE = 0.05
"""Of the time that it may take to look how far the runs in progress are."""


def say_to(console: Console) -> Callable[[str], None]:
    """A function that prints a line as it is."""
    return lambda line: console.print(as_markup(line), highlight=False, soft_wrap=True)


def folded(name: str, width: int) -> str:
    """The name in lines of so many characters where it has places to break: before `:`, `@` and `+`."""
    lines = [""]
    for part in re.split("(?=[:@+])", name):
        if len(lines[-1]) + len(part) > width and lines[-1].strip():
            lines.append("  ")
        lines[-1] += part
    return "\n".join(lines)


def run_name(variant: str, pose: str) -> str:
    """What a line calls a run's variant; the pose is named where it is not the usual one."""
    return variant if pose == "upright" else f"{variant} {pose}"


def setting_text(config: Mapping[str, Any], tuned: Collection[str]) -> str:
    """A run's values of what is tuned (dotted names), such as `lr 0.0959, max_deg 30`; config: as in run.json."""
    parts = ((part, config.get(part)) for part in PARTS)
    values = {
        f"{part}.{name}": value for part, given in parts if isinstance(given, dict) for name, value in given.items()
    }
    return ", ".join(
        f"{name.partition('.')[2]} {f'{value:.3g}' if isinstance(value, float) else value}"
        for name, value in values.items()
        if name in tuned
    )


def run_line(
    run: RunConfig, record: Mapping[str, Any], cost: Mapping[str, Any], name_width: int = 0, *, sizes: bool = False
) -> str:
    """One finished run in one line, whose columns stand below those of other runs. sizes: whether to say its own."""
    result, status = record.get("result") or {}, record["status"]
    colour = {"completed": "green", "pruned": "yellow"}.get(status, "red")
    scores = {part: result.get(f"{part}_accuracy") for part in ("val", "test")}
    shown = ["" if score is None else f"{part} {score * 100:4.1f} %" for part, score in scores.items()]
    seconds = "" if cost.get("seconds") is None else f"{cost['seconds']:.1f} s"
    size = f"{run.protocol.train_images:>6,} x {run.protocol.epochs:<3} " if sizes else ""
    why = f"  {as_markup(record['error'])}" if record.get("error") else ""
    return (
        f"[{colour}]{as_markup(status):9}[/] {run_name(run.variant, run.pose):{name_width}} "
        f"{run.stage:<5} seed {run.seed:<2} {size}{shown[0]:10} {shown[1]:11} {seconds:>7}{why}"
    )


def epoch_line(row: dict[str, Any], num_epochs: int) -> str:
    """One epoch in one line."""
    scores = "   ".join(
        f"{part} {row[f'{part}_accuracy'] * 100:4.1f} % (loss {row[f'{part}_loss']:.3f})"
        for part in ("train", "val")
        if row[f"{part}_accuracy"] is not None
    )
    return f"epoch {row['epoch']:>{len(str(num_epochs))}}/{num_epochs}   {scores}"


class SweepProgress(Progress):
    """Progress with the time left, and a line for each finished run; where the output is no terminal, lines only.

    study: its name, for those who watch. tuned: by pose and variant, what trials try, by dotted name.
    """

    def __init__(
        self,
        console: Console,
        ledger: Ledger,
        expected: "Estimate",
        *,
        num_runs: int,
        num_workers: int,
        study: str = "",
        tuned: Mapping[tuple[str, str], Collection[str]] | None = None,
    ) -> None:
        columns = (TextColumn("{task.fields[runs]}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
        super().__init__(*columns, TextColumn("{task.fields[left]}"), console=console, disable=not console.is_terminal)
        self.ledger, self.study, self.tuned, self.expected_s = ledger, study, tuned or {}, expected.by_run
        self.total_s, self.done_s = max(expected.kept_s + expected.left_s, 1e-9), 0.0
        self.num_runs, self.num_finished, self.num_workers = num_runs, expected.num_done, num_workers
        self.finished_expected_s = self.finished_actual_s = 0.0
        self._begun_s: dict[str, float] = {}
        """What runs in progress have done of what is expected, by key, as they were looked at last."""
        self._looks = Pace(LOOK_SHARE)
        self.several_sizes = len({kind[3:] for kind in self.expected_s}) > 1
        self.name_width = min(MAX_NAME, max(len(run_name(variant, pose)) for pose, variant, *_ in self.expected_s))
        self._task = self.add_task("sweep", total=self.total_s, runs=f"{self.num_finished}/{num_runs} runs", left="")

    def start(self) -> None:
        super().start()
        self._mark()

    def stop(self) -> None:
        super().stop()
        self.ledger.forget_sweep()

    def _mark(self) -> None:
        """Say to those who watch from elsewhere how far the sweep is."""
        left_s = self.left_s(min(self.done_s + sum(self._begun_s.values()), self.total_s))
        runs = {"num_finished": self.num_finished, "num_runs": self.num_runs, "num_workers": self.num_workers}
        self.ledger.mark_sweep({"study": self.study, **runs, "left_s": round(left_s, 1), "at": round(time.time(), 1)})

    def left_s(self, done_s: float) -> float:
        """Time left: what is expected of the remaining runs, corrected by how long the finished ones took."""
        pace = self.finished_actual_s / self.finished_expected_s if self.finished_expected_s else 1.0
        return (self.total_s - done_s) * pace / self.num_workers

    def finish(self, job: "Job", num_finished: int) -> None:
        """Show a run that is in the ledger now. num_finished: of all; one run may be two trials, if they are alike."""
        record, cost = self.ledger.read(job.key), self.ledger.read(job.key, "cost.json")
        expected_s = self.expected_s[kind_of_run(job.run)]
        self.done_s += expected_s * (num_finished - self.num_finished)
        if record["status"] == "completed":
            self.finished_expected_s += expected_s
            self.finished_actual_s += cost["seconds"]
        self.num_finished = num_finished
        self._begun_s.pop(job.key, None)
        count = f"{self.num_finished:>{len(str(self.num_runs))}}/{self.num_runs}"
        quiet = self.console.is_terminal or num_finished == self.num_runs
        left = "" if quiet else f"  {duration(self.left_s(self.done_s))} left"
        line = run_line(job.run, record, cost, self.name_width, sizes=self.several_sizes)
        self.console.print(f"{count} {line}{self._tried(job.run)}{left}", highlight=False, soft_wrap=True)
        self.tick()
        self._mark()

    def _tried(self, run: RunConfig) -> str:
        """What a trial tries, as the end of its line."""
        tuned = self.tuned.get((run.pose, run.variant)) if run.stage == "trial" else None
        return f"  {as_markup(setting_text(dataclasses.asdict(run), tuned))}" if tuned else ""

    def tick(self) -> None:
        """Count what the runs in progress have done. With many of them, that is what they had done a moment ago."""
        if self.disable:
            return
        if not self._looks.pause_s():
            with self._looks.at_work():
                self._look()
        done_s = min(self.done_s + sum(self._begun_s.values()), self.total_s)
        runs = f"{self.num_finished}/{self.num_runs} runs"
        self.update(self._task, completed=done_s, runs=runs, left=f"· {duration(self.left_s(done_s))} left")

    def _look(self) -> None:
        self._begun_s = {}
        for key, progress in self.ledger.running().items():
            kind = kind_of(*map(progress.get, ("pose", "variant", "stage", "train_images", "epochs")))
            epoch, epochs = progress.get("epoch"), progress.get("epochs")
            if is_whole(epoch) and is_whole(epochs) and 0 <= epoch <= epochs:
                self._begun_s[key] = self.expected_s.get(kind, 0.0) * epoch / (epochs + 1)


def print_ablation(console: Console, ablation: Any) -> None:
    """The ablation table as analysis gives it: as many of its columns as the terminal has room for."""
    hint = "± is half of a 95 % interval over seeds; * marks one that excludes 0. ablation.md has all notes."
    print_tables(console, ablation, _importance, hint)


def _importance(text: Any) -> Sequence[str]:
    """The ablation table's headings by importance: how runs ended matters where one was not completed."""
    ended = ["Final runs", "Trials"]
    bad = any(status in cell for row in text.rows for cell in row for status in ("failed", "diverged", "missing"))
    wanted = ["Variant", "Test %", "n", "Difference", "Gap closed %", *(ended if bad else []), "Validation %"]
    return [*wanted, "Parameters", "Baseline", "Training FLOPs", *([] if bad else ended)]


def print_tables(console: Console, text: Any, importance: Callable[[Any], Sequence[str]], hint: str = "") -> None:
    """A table of analysis: its title, a section a pose, and a hint on how to read it.

    importance: a section's headings, those first that a narrow terminal should keep.
    """
    console.print(f"\n[bold]{as_markup(text.title)}[/]", highlight=False)
    for section in text.sections:
        title = as_markup(section.heading) if len(text.sections) > 1 else None
        console.print(_fitting_table(console, section.table, title, importance(section.table)))
    if hint:
        console.print(as_markup(hint), style="dim", highlight=False)


def _fitting_table(console: Console, text: Any, title: str | None, importance: Sequence[str]) -> Table:
    """The columns that fit the width, the most important ones; names are folded where they would take it all."""
    wanted = list(importance)
    wide = console.options.update_width(10_000)
    name_width = max(24, console.width * 3 // 10)
    while True:
        table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left")
        shown = [index for index, heading in enumerate(text.columns) if heading in wanted]
        for index in shown:
            justify: JustifyMethod = "right" if text.align[index] == "r" else "left"
            table.add_column(text.columns[index], justify=justify, no_wrap=True)
        for row in text.rows:
            cells = {index: as_markup(row[index]) for index in shown}
            named = {i: folded(cell, name_width) for i, cell in cells.items() if text.columns[i] in NAME_COLUMNS}
            table.add_row(*(cells | named).values())
        if len(wanted) == 1 or Measurement.get(console, wide, table).maximum <= console.width:
            return table
        wanted.pop()


def print_answer(console: Console, headline: str, sentences: Sequence[str], unfinished: str | None) -> None:
    """What the study says, in a breath and then claim by claim; and that it is unfinished, if it is."""
    console.print(Text(plain(headline), style="bold"), highlight=False)
    for sentence in sentences:
        console.print(Padding(Text(plain(sentence)), (0, 0, 0, 2)), highlight=False)
    console.print()
    if unfinished:
        print_unfinished(console, unfinished)


def print_unfinished(console: Console, text: str) -> None:
    console.print(f"[yellow]{as_markup(text)}[/]\n", highlight=False)


def print_drawing(console: Console) -> None:
    """That figures come now, which take seconds."""
    console.print("Drawing the figures of the report ...", style="dim", highlight=False)


def print_place(console: Console, what: str, *lines: str) -> None:
    """Where something is, in lines that begin below each other."""
    for number, line in enumerate(lines):
        console.print(f"{'' if number else what:20}{as_markup(line)}", highlight=False, soft_wrap=True)


def print_faults(console: Console, faults: Mapping[str, Any], notes: Iterable[str] = ()) -> None:
    """What analysis could not make of its findings, or not as it should be, a line each."""
    lines = []
    for what, fault in faults.items():
        why = ", by a fault in the program" if fault.of_program else ""
        where = ": ".join(filter(None, (fault.place, fault.said)))
        lines.append(f"{what}: could not be made{why} ({where}); `make report` tries again")
    for line in (*lines, *notes):
        console.print(as_markup(line), style="yellow", highlight=False, soft_wrap=True)


def print_tracking(
    console: Console,
    ledger: Ledger,
    mode: str,
    why: str,
    problem: str | None,
    unlogged: int,
    tracker: str = "wandb",
) -> None:
    """Where the tracker's part is, and why there, and what went wrong with it."""
    name = {"wandb": "W&B", "trackio": "trackio"}.get(tracker, "Tracked")
    then = "`make dashboard` shows them" + (", `make sync` uploads them" if tracker == "wandb" else " in a browser")
    where = {"online": ["online"], "offline": [f"offline in {ledger.root / tracker}", then]}
    first, *more = where.get(mode, ["none: tracking is disabled"])
    print_place(console, f"{name} runs", f"{first}{why and f', {why}'}", *more)
    if problem:
        console.print(as_markup(problem), style="yellow", highlight=False)
    if unlogged:
        then = "`make sync` uploads them" if mode == "online" else "the same command logs them"
        console.print(f"{name}: runs not logged yet: {unlogged}; {then}.", style="yellow", highlight=False)
