"""The command line: `stn-bench COMMAND`. What a command does is in experiments/terminal/commands/."""

import argparse
import dataclasses
import importlib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from experiments.machine.home import user_path
from experiments.terminal.arguments import HelpFormatter
from experiments.terminal.stopping import STATUS_STOPPED, STOPPED
from ledger.config import RunConfig
from ledger.errors import UserError, nearest, remedy
from ledger.options import CALLED
from ledger.plain_text import plain, print_anything
from ledger.started import program
from ledger.sweep_lock import only_sweep_of

STATUS_UNREAD = 1
STATUS_BAD_INPUT = 2
NOT_LOADED = {
    "failed to map segment": "too little memory is allowed (`ulimit -v`), or its folder is mounted noexec",
    "cannot allocate memory": "too little memory is allowed (`ulimit -v`)",
    "cannot open shared object file": "the system lacks it; its package manager has it",
}
"""What the loader of shared libraries says, and what that means."""
ONE_AT_A_TIME = ("sweep", "probe")
"""Commands that hold the ledger from their start to their end."""
POSITIONAL = ("path", "ledger")
"""Paths that are arguments of their own."""


def add_study_arguments(parser: ArgumentParser) -> None:
    """Which study, on what images, at what size, in which ledger."""
    parser.add_argument("--sweep", type=Path, default=Path("sweep.yaml"), help="file that describes the study")
    parser.add_argument("--budget", default="auto", help="smoke, cpu, night or gpu; auto goes by the device found")
    parser.add_argument("--data", type=Path, help="folder of images to use as the task, in place of the file's task")
    parser.add_argument("--label", default="", help="what tables call the task; its own name by default")
    add_ledger_argument(parser)


def add_ledger_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the ledger: folder of finished runs")


def add_reports_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="folder for tables and figures")


class CommandLine:
    """A program's parser, and by its name each command's."""

    def __init__(self, prog: str, description: str) -> None:
        self.parser = ArgumentParser(
            prog=prog, description=description, exit_on_error=False, allow_abbrev=False, formatter_class=HelpFormatter
        )
        self.commands: dict[str, ArgumentParser] = {}
        self._subcommands = self.parser.add_subcommands(dest="command", metavar="COMMAND")

    def add(self, name: str, help: str) -> ArgumentParser:
        command = ArgumentParser(description=help, exit_on_error=False, formatter_class=HelpFormatter)
        self._subcommands.add_subcommand(name, command, help=help)
        self.commands[name] = command
        return command

    def parse(self, arguments: Sequence[str]) -> tuple[str, Namespace]:
        """The command and its options, `~` in paths resolved. Raises ArgumentError, and UserError for a path."""
        options = self.parser.parse_args(arguments)
        chosen = options[options.command]
        for option, value in vars(chosen).items():
            if isinstance(value, Path):
                given = {f"--{option}=", (f"--{option}", "")} & {*arguments, *pairwise(arguments)}
                if given or (option in POSITIONAL and arguments[1:2] == [""]):
                    raise UserError(
                        f"{option}: is empty, as a variable of the shell is that was not set; give it a path"
                    )
                chosen[option] = user_path(value, option)
            elif isinstance(value, list):
                chosen[option] = [user_path(each, option) if isinstance(each, Path) else each for each in value]
        return options.command, chosen


def command_line(run_defaults: dict[str, Any] | None = None) -> CommandLine:
    """All commands of `stn-bench`. run_defaults: of `run`, where the sweep file has some."""
    line = CommandLine(
        program(),
        "Compare learned with shown spatial invariance: spatial transformers and augmentation.",
    )
    add = line.add
    command = add("sweep", "carry out a study: tune every variant, train the winners with fresh seeds, write tables")
    add_study_arguments(command)
    add_reports_argument(command)
    add_worker_arguments(command)
    command.add_argument("--retry_failed", action="store_true", help="make runs again that failed or diverged")
    command.add_argument("--stall_s", type=float, default=900.0, help="a run counts as hung after so long; 0: never")

    command = add("plan", "say what a sweep would do and how long it would take, without training")
    add_study_arguments(command)
    add_worker_arguments(command)

    command = add("run", "make one run; its protocol, task and pose are the study's unless said otherwise")
    command.add_argument("--config", action="config", help="YAML file with any of these arguments")
    add_study_arguments(command)
    command.add_argument("--task", default="", help="cifar10, mnist, sprites or folder:PATH; the study's by default")
    command.add_class_arguments(RunConfig, None)
    # The test set is for those who ask for it: trying settings out must not read it.
    command.set_defaults({"stage": "trial", **(run_defaults or {})})

    command = add("status", "show the studies of the ledger and the runs in progress")
    add_ledger_argument(command)
    command.add_argument("--json", action="store_true", help="print JSON")

    command = add("tables", "write the tables of a study again, from the ledger; report writes the figures as well")
    add_ledger_argument(command)
    add_reports_argument(command)
    command.add_argument("--study", default="", help="name of the study; the latest of the ledger by default")

    command = add("report", "write a study's report: one HTML file that needs no network, with the tables and figures")
    add_ledger_argument(command)
    add_reports_argument(command)
    command.add_argument("--study", default="", help="name of the study; the latest of the ledger by default")

    command = add(
        "probe", "say whether augmentation or a spatial transformer would help on a folder of images, in minutes"
    )
    command.add_argument("path", type=Path, help="folder of images: train/ and test/, or one folder for each class")
    command.add_argument("--minutes", type=float, default=10.0, help="time that the whole may take, roughly")
    command.add_argument(
        "--turns",
        type=str,
        default="",
        help="how things are found turned: any (angle), small, quarter, none; tried out if not given",
    )
    command.add_argument(
        "--mirror",
        type=str,
        default="",
        help="whether a mirrored image keeps its class: yes, no; tried out if not given",
    )
    command.add_argument("--label", default="", help="what to call the images; the folder's name by default")
    add_ledger_argument(command)
    add_reports_argument(command)
    command.add_argument("--jobs", type=int, default=0, help="worker processes; 0 takes as many as pay")

    command = add("verify", "read every file of a ledger and name what was damaged or edited")
    command.add_argument("ledger", nargs="?", type=Path, default=Path("runs"), help="the ledger; runs by default")

    command = add("verify-docs", "compute the numbers of README and docs again from the committed results")
    command.add_argument("--claims", type=Path, default=Path("docs/claims.yaml"), help="file that lists the numbers")

    command = add("export", "hand a final run over: weights, a file that torch alone can run, a model card")
    command.add_argument("run", help="the run's key, or its beginning")
    add_ledger_argument(command)
    command.add_argument("--out", type=Path, help="folder to write; exports/KEY by default")

    command = add(
        "predict",
        "ask a final run's network about images: class, confidence, what it looks at; "
        "exit status 1 where some images cannot be read, 2 where none can",
    )
    command.add_argument("run", help="the run's key, or its beginning")
    command.add_argument("images", nargs="+", type=Path, help="image files, and folders of them")
    add_ledger_argument(command)
    command.add_argument("--out", type=Path, help="PNG to write: the images, and what the transformer makes of them")
    command.add_argument("--json", action="store_true", help="print JSON")

    command = add("wandb-report", "build a saved workspace and a report of a study in its W&B project")
    add_ledger_argument(command)
    command.add_argument("--study", default="", help="name of the study; the latest of the ledger by default")
    command.add_argument("--entity", default="", help="W&B user or team; your default one if not given")
    command.add_argument("--out", type=Path, help="write both as JSON into this folder instead, offline")

    command = add("variants", "list models, backbones, policies, tasks and poses; with a NAME, its hyper-parameters")
    command.add_argument("name", nargs="?", default="", help="the name to say all about; without one, all are listed")
    command.add_argument("--json", action="store_true", help="print JSON")

    for name, help in (
        ("dashboard", "open W&B's terminal dashboard on the ledger's runs"),
        ("sync", "upload the ledger's runs to W&B"),
    ):
        add_ledger_argument(add(name, help))

    command = add("wandb-sweep", "print the search of one variant as a W&B sweep file")
    add_study_arguments(command)
    command.add_argument("--variant", default="cnn", help="the variant whose search to print")
    return line


def add_worker_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=0, help="worker processes; 0 takes as many as pay")
    parser.add_argument("--executor", default="local", help="local: this machine; ray: a Ray cluster, docs/cluster.md")
    parser.add_argument("--workers_per_gpu", type=int, default=1, help="workers that share a GPU, where --jobs is 0")


def find_run_defaults(arguments: Sequence[str]) -> dict[str, Any]:
    """What `run` takes from the sweep file: protocol and pose of the study at the budget."""
    from experiments.study.study import load_study
    from experiments.terminal.commands.options import choose_budget

    finder = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    finder.add_argument("--sweep")
    finder.add_argument("--budget", default="auto")
    try:
        found, _ = finder.parse_known_args(list(arguments))
    except argparse.ArgumentError:
        return {}
    path = user_path(found.sweep or "sweep.yaml", "sweep")
    if found.sweep is None and not path.exists():
        return {}
    study = load_study(path, choose_budget(found.budget))
    return {"protocol": dataclasses.asdict(study.protocol), "pose": study.poses[0]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the process's exit status. Bad input is one line on stderr and status 2.

    Status 1 says that no final run was completed, or that a table or a figure could not be made (STATUS_INCOMPLETE).
    """
    return run_or_complain(run_command, command_line, arguments)


def run_or_complain(
    run: Callable[[Sequence[str]], int], line: Callable[[], CommandLine], arguments: Sequence[str] | None
) -> int:
    """What `run` returns for these arguments (by default the process's), or status 2 and one line for bad input."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # where a stream was closed before the start, a file of ours would take its place
    os.close(descriptor)
    for stream in (sys.stdout, sys.stderr):
        print_anything(stream)
    try:
        os.getcwd()
    except OSError:  # libraries that find themselves from there end the process
        return complain("the folder that this was started in has been deleted; `cd` to it again")
    try:
        try:
            if not arguments:
                line().parser.print_help()
                return 0
            return run(arguments)
        finally:
            if sys.stdout:  # None where it was closed before the start
                sys.stdout.flush()  # while it can still be told that nothing takes it
    except ArgumentError as error:
        return complain(explain(error, arguments, line().commands))
    except UserError as error:
        return complain(str(error))
    except OSError as error:  # such as a full disk
        where = error.filename
        if where is None and output_is_stuck():
            if isinstance(error, BrokenPipeError):  # the reader of a pipe has seen enough
                return STATUS_UNREAD
            where = "standard output"
        return complain(": ".join(str(part) for part in (where, error.strerror or error) if part) + remedy(error))
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        return complain("this machine allows no more threads: raise `ulimit -u`, or ask for fewer workers with JOBS=")
    except ImportError as error:
        why = next((why for words, why in NOT_LOADED.items() if words in str(error)), "")
        if not why:
            raise
        return complain(f"a library cannot be loaded: {error}; {why}")
    except KeyboardInterrupt:
        with suppress(OSError):
            print(STOPPED, file=sys.stderr)
        return STATUS_STOPPED


def run_command(arguments: Sequence[str]) -> int:
    """Parse and run a command; returns its exit status. Raises whatever it raises."""
    runs = arguments[:1] == ["run"] and not {"-h", "--help"} & set(arguments)
    line = command_line(find_run_defaults(arguments[1:]) if runs else None)
    if runs:  # jsonargparse would take what follows a second dot for an object of its own
        arguments = [re.sub(r"^(--policy\.\w+)\.(?=\w)", r"\1/", each) for each in arguments]
    command, chosen = line.parse(arguments)
    if runs:
        chosen.policy = {key.replace("/", "."): value for key, value in chosen.policy.items()}
    with only_sweep_of(chosen.runs) if command in ONE_AT_A_TIME else nullcontext():
        # After parsing: --help, typing errors and a ledger that is held need no torch.
        return int(importlib.import_module(f"experiments.terminal.commands.{command.replace('-', '_')}").main(chosen))


def output_is_stuck() -> bool:
    """Whether standard output takes no more. What it has not taken is dropped then: the end would fail on it again."""
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, ValueError):  # closed, or no file at all
        return False
    try:
        sys.stdout.flush()
        os.write(descriptor, b"\n")  # what is not buffered has been dropped already
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        return True
    return False


def complain(message: str) -> int:
    """Print the message as one line without control characters."""
    with suppress(OSError):  # nobody is left to tell
        print("error:", plain(message), file=sys.stderr)
    return STATUS_BAD_INPUT


def explain(error: ArgumentError, arguments: Sequence[str], commands: Mapping[str, ArgumentParser]) -> str:
    """jsonargparse's message in the words of a command line, with the nearest name where one is unknown."""
    message = " ".join(str(error).split())
    message = re.sub(r'^Parser key "([^"]+)"(?: element \d+)?:', r"--\1:", message)
    message = re.sub(r"<class '(\w+)'>", r"\1", message)
    unknown = re.match(
        r"unrecognized arguments: (?:[^-]\S* )*(--?[\w.-]+)|argument COMMAND: invalid choice: '([^']*)'", message
    )
    if unknown and unknown[1]:
        known = re.findall(r"--([\w.-]+)", commands[arguments[0]].format_help())
        hint = nearest(unknown[1], known)
        hint = re.sub(r"'([^']+)'", r"'--\1'", hint) if hint.startswith("did you mean") else "--help lists them"
        return f"unknown argument {unknown[1]}; {hint}"
    if unknown:
        return f"unknown command {unknown[2]!r}; {nearest(unknown[2], commands)}"
    message = re.sub(r"""Unable to load config '(.*)' - .* config "\1"$""", r"Expected a dict. Got value: \1", message)
    several = re.match(r"(--\S+): Expected a (tuple|dict)\. Got value: (.*)", message)
    if several:
        form = (
            f"in the form {several[1]}=[0.1,0.2]" if several[2] == "tuple" else f"one by one: {several[1]}.NAME=VALUE"
        )
        return f"{several[1]}: {several[3]!r} is not a list of values; write them {form}"
    number = re.match(r"(--\S+): Expected a (int|float|bool)\. Got value: (.*)", message)
    if number:
        (kind,) = (said for kind, said in CALLED.items() if kind.__name__ == number[2])
        return f"{number[1]}: {number[3]!r} is not {kind}"
    choice = re.match(r"(--\S+): Expected a typing\.Literal\[(.*)\]\. Got value: (.*)", message)
    if choice:
        known = re.findall(r"'([^']*)'", choice[2])
        return f"{choice[1]}: {choice[3]!r} is unknown; {nearest(choice[3], known)}"
    return message
