"""What a person sees in the terminal: the plan, the progress, the tables."""

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, JustifyMethod
from rich.measure import Measurement
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from experiments.machine.pace import Pace
from experiments.study.ladder import size_text
from ledger.config import RunConfig, RunKind, kind_of, kind_of_run
from ledger.forms import is_whole
from ledger.ledger import Ledger
from ledger.plain_text import as_markup, plain
from ledger.started import program
from ledger.wording import count, duration

if TYPE_CHECKING:  # torch is slow to import, and most commands do without it
    from experiments.probe.advice import Answer
    from experiments.runs.run import Job
    from experiments.study.plan import Plan
    from experiments.sweep.estimate import Estimate

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


def print_plan(
    console: Console,
    plan: "Plan",
    expected: "Estimate",
    num_workers: int,
    *,
    images: Sequence[tuple[str, str, str]],
    claims: str,
    prospects: Text,
    disk: str,
) -> None:
    """The plan as a table.

    images: heading, text and colour of what was read.
    claims: what is to be decided.
    prospects: whether that many seeds can.
    disk: what will be written.
    """
    study, protocol = plan.study, plan.protocol
    console.print(
        f"[bold]Study[/] {as_markup(plan.name)}   [bold]budget[/] {study.budget}   "
        f"[bold]protocol[/] {plan.protocol_hash}"
    )
    console.print(
        f"[bold]Task[/]  {as_markup(plan.task.label)}: "
        f"{protocol.train_images:,} training, {protocol.val_images:,} validation, "
        f"{protocol.test_images:,} test images; {len(plan.task.classes)} classes; {protocol.image_px} px"
    )
    for heading, text, colour in images:
        console.print(f"[bold]{as_markup(heading):6}[/] {as_markup(text)}", style=colour, highlight=False)
    search, finals = study.search, count(study.final_seeds, "final run")
    from_seed = f" from seed {study.first_seed}" if study.first_seed > 1 else ""
    console.print(
        f"[bold]Runs[/]  {count(protocol.epochs, 'epoch')}, batch {protocol.batch_size}, width {protocol.width:g}, "
        f"{protocol.precision} on {protocol.device}; each variant {finals}{from_seed}"
    )
    tuned = f"{count(search.trials, 'trial')} a variant by {search.sampler} on validation accuracy"
    if search.tuning == "per_seed":
        tuned = f"anew for each final run: {tuned}, with a seed and a split of its own"
    elif plan.trials_an_arm > search.trials:
        tuned += f", and {plan.trials_an_arm - search.trials} runs of the best settings with other seeds"
    if plan.tuning_protocol != protocol:
        tuned += f", at {size_text(plan.tuning_protocol)}"
    console.print(f"[bold]Tuning[/] {tuned}", highlight=False)
    if plan.rungs:
        sizes = ", ".join(map(size_text, plan.rungs))
        console.print(f"[bold]Ladder[/] the final runs also at {sizes}: does the answer still change?", highlight=False)
    console.print(f"[bold]Claims[/] {as_markup(claims)}", highlight=False)
    if prospects:
        console.print("[bold]Seeds[/] ", prospects, highlight=False)
    name_width = max(24, (console.width - 20) // 3)
    for pose, arms in groupby(zip(plan.arms, expected.runs, strict=True), key=lambda pair: pair[0].pose):
        table = Table(box=box.SIMPLE_HEAD, title=f"Pose {pose}", title_justify="left")
        table.add_column("variant", no_wrap=True)
        table.add_column("compared with", no_wrap=True)
        table.add_column("s a run", justify="right", no_wrap=True)
        for arm, each in arms:
            baseline = "" if arm.baseline == arm.variant else folded(arm.baseline, name_width)
            table.add_row(folded(arm.variant, 2 * name_width), baseline, f"{each[1]:.0f}")
        console.print(table)
    done = f", {expected.num_done} of them in the ledger already" if expected.num_done else ""
    if kept_epochs := expected.kept_epochs:
        epochs = ", ".join(map(str, sorted(kept_epochs)[:8])) + (", ..." if len(kept_epochs) > 8 else "")
        goes = "goes on where it was" if len(kept_epochs) == 1 else "go on where they were"
        done += f", {len(kept_epochs)} {goes} (epoch {epochs} of {protocol.epochs})"
    workers = count(num_workers, "worker")
    left = f"about {duration(expected.wall_s)} with {workers}" if expected.wall_s else "nothing is left to train"
    num_finals = plan.num_finals * (1 + len(plan.rungs))
    console.print(f"{plan.num_trials} trials and {num_finals} final runs{done}; {left}.")
    console.print(f"{as_markup(disk)}\n", highlight=False, soft_wrap=True)


def run_name(variant: str, pose: str) -> str:
    """What a line calls a run's variant; the pose is named where it is not the usual one."""
    return variant if pose == "upright" else f"{variant} {pose}"


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


class SweepProgress:
    """Progress with the time left, and a line for each finished run. Use as a context manager.

    expected_s: seconds that each run is expected to take, as kind_of tells them apart.
    total_s: the same for all that is left. Where the output is no terminal, lines only.
    """

    def __init__(
        self,
        console: Console,
        ledger: Ledger,
        expected_s: Mapping[RunKind, float],
        total_s: float,
        *,
        num_runs: int,
        num_done: int,
        num_workers: int,
    ) -> None:
        self.console, self.ledger, self.expected_s = console, ledger, expected_s
        self.total_s, self.done_s = max(total_s, 1e-9), 0.0
        self.num_runs, self.num_finished = num_runs, num_done
        self.num_workers = num_workers
        self.finished_expected_s = self.finished_actual_s = 0.0
        self._begun_s: dict[str, float] = {}
        """What runs in progress have done of what is expected, by key, as they were looked at last."""
        self._looks = Pace(LOOK_SHARE)
        self.several_sizes = len({kind[3:] for kind in expected_s}) > 1
        self.name_width = min(MAX_NAME, max(len(run_name(variant, pose)) for pose, variant, *_ in expected_s))
        self._bar = Progress(
            TextColumn("{task.fields[runs]}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("sweep", total=self.total_s, runs=f"{num_done}/{num_runs} runs", left="")

    def __enter__(self) -> "SweepProgress":
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def _expected(self, job: "Job") -> float:
        return self.expected_s[kind_of_run(job.run)]

    def left(self, done_s: float) -> str:
        """Time left: what is expected of the remaining runs, corrected by how long the finished ones took."""
        pace = self.finished_actual_s / self.finished_expected_s if self.finished_expected_s else 1.0
        return f"{duration((self.total_s - done_s) * pace / self.num_workers)} left"

    def finish(self, job: "Job", num_finished: int) -> None:
        """Show a run that is in the ledger now. num_finished: of all; one run may be two trials, if they are alike."""
        record, cost = self.ledger.read(job.key), self.ledger.read(job.key, "cost.json")
        expected_s = self._expected(job)
        self.done_s += expected_s * (num_finished - self.num_finished)
        if record["status"] == "completed":
            self.finished_expected_s += expected_s
            self.finished_actual_s += cost["seconds"]
        self.num_finished = num_finished
        self._begun_s.pop(job.key, None)
        count = f"{self.num_finished:>{len(str(self.num_runs))}}/{self.num_runs}"
        quiet = self.console.is_terminal or num_finished == self.num_runs
        left = "" if quiet else f"  {self.left(self.done_s)}"
        line = run_line(job.run, record, cost, self.name_width, sizes=self.several_sizes)
        self.console.print(f"{count} {line}{left}", highlight=False, soft_wrap=True)
        self.tick()

    def tick(self) -> None:
        """Count what the runs in progress have done. With many of them, that is what they had done a moment ago."""
        if self._bar.disable:
            return
        if not self._looks.pause_s():
            with self._looks.at_work():
                self._look()
        done_s = min(self.done_s + sum(self._begun_s.values()), self.total_s)
        runs = f"{self.num_finished}/{self.num_runs} runs"
        self._bar.update(self._task, completed=done_s, runs=runs, left=f"· {self.left(done_s)}")

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


def print_tables(console: Console, found: Any, importance: Callable[[Any], Sequence[str]], hint: str = "") -> None:
    """A table of analysis: its title, a section a pose, and a hint on how to read it.

    importance: a section's headings, those first that a narrow terminal should keep.
    """
    console.print(f"\n[bold]{as_markup(found.title)}[/]", highlight=False)
    for section in found.sections:
        title = as_markup(section.heading) if len(found.sections) > 1 else None
        table = _fitting_table(console, section.table, title, importance(section.table))
        console.print(table)
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


def print_answer(console: Console, headline: str, sentences: Sequence[str]) -> None:
    """What the study says, in a breath and then claim by claim."""
    console.print(Text(plain(headline), style="bold"), highlight=False)
    for sentence in sentences:
        console.print(Padding(Text(plain(sentence)), (0, 0, 0, 2)), highlight=False)
    console.print()


def print_advice(console: Console, said: str, found: Sequence["Answer"], how_sure: str) -> None:
    """What a probe found: in a sentence, to each of its questions, and how sure that is."""
    console.print(Text(f"\n{plain(said)}", style="bold"), highlight=False)
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("does it help?", "difference", "", "from a quarter of the epochs to all"):
        table.add_column(heading)
    for answer in found:
        table.add_row(answer.question, answer.size, answer.verdict, answer.trend)
    console.print(table)
    console.print(Text(plain(how_sure)), highlight=False)


def print_place(console: Console, what: str, *lines: str) -> None:
    """Where something is, in lines that begin below each other."""
    for number, line in enumerate(lines):
        console.print(f"{'' if number else what:20}{as_markup(line)}", highlight=False, soft_wrap=True)


def print_faults(console: Console, findings: Any) -> None:
    """What analysis could not make of its findings, or not as it should be, a line each."""
    lines = []
    for what, fault in findings.faults.items():
        why = ", by a fault in the program" if fault.of_program else ""
        where = f"{fault.place}: {fault.said}" if fault.said else fault.place
        lines.append(f"{what}: could not be made{why} ({where}); `make report` tries again")
    for line in (*lines, *findings.notes):
        console.print(as_markup(line), style="yellow", highlight=False, soft_wrap=True)


def print_tracking(console: Console, ledger: Ledger, mode: str, why: str, problem: str | None, unlogged: int) -> None:
    """Where W&B's part is, and why there, and what went wrong with it."""
    why = why and f", {why}"
    then = "`make dashboard` shows them, `make sync` uploads them"
    where = {
        "online": [f"online{why}"],
        "offline": [f"offline in {ledger.root / 'wandb'}{why}", then],
    }
    print_place(console, "W&B runs", *where.get(mode, [f"none: tracking is disabled{why}"]))
    if problem:
        console.print(as_markup(problem), style="yellow", highlight=False)
    if unlogged:
        then = "`make sync` uploads them" if mode == "online" else "the same command logs them"
        console.print(f"W&B: runs not logged yet: {unlogged}; {then}.", style="yellow", highlight=False)


def print_status(console: Console, report: Mapping[str, Any]) -> None:
    """The ledger's studies and the runs in progress."""
    ledger, num_runs = as_markup(report["ledger"]), count(report["num_runs"], "finished run")
    console.print(f"Ledger {ledger}: {num_runs}", highlight=False, soft_wrap=True)
    for study in report["studies"]:
        table = Table(box=box.SIMPLE_HEAD, title=as_markup(f"{study['study']}: {study['task']}"), title_justify="left")
        for column in ("pose", "variant", "trials", "final runs"):
            table.add_column(column)
        for arm in study["arms"]:
            cells = (
                status_counts(arm["trials"], max(study["num_trials"], sum(arm["trials"].values()))),
                status_counts(arm["finals"], study["num_finals"]),
            )
            table.add_row(as_markup(arm["pose"]), as_markup(arm["variant"]), *map(as_markup, cells))
        console.print(table)
    for key, progress in report["running"].items():
        variant, stage, seed, epoch, epochs = map(progress.get, ("variant", "stage", "seed", "epoch", "epochs"))
        line = f"running {key}  {variant} {stage} seed {seed}  epoch {epoch}/{epochs}"
        console.print(as_markup(line), highlight=False)
    if not report["running"]:
        console.print("No run is in progress.")
    if report["is_damaged"]:
        then = f"`{program()} verify {ledger}` reads everything"
        line = f"Something is damaged or cannot be read. status reads only run.json: {then}"
        console.print(line, highlight=False, soft_wrap=True)


def status_counts(counts: Mapping[str, int], planned: int) -> str:
    """Such as `3/5: 2 completed, 1 failed`."""
    done = {status: number for status, number in counts.items() if status != "missing"}
    told = ", ".join(f"{number} {status}" for status, number in done.items())
    return f"{sum(done.values())}/{planned}{': ' if told else ''}{told}"
