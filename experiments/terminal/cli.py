"""The command line: `stn-bench COMMAND`. What a command does is in experiments/terminal/commands/."""

import argparse
import dataclasses
import importlib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from experiments.machine.home import user_path
from experiments.terminal.arguments import CommandLine
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
TRIED = "tried out if not given"


def option(help: str, default: Any = None, **about: Any) -> dict[str, Any]:
    """What argparse is told of an option; its type is that of its default, unless that is a text."""
    kind = next(({"type": kind} for kind in (int, float, Path) if isinstance(default, kind)), {})
    return {"help": help, "default": default, **kind, **about}


OPTIONS = {
    "--sweep": option("file that describes the study", Path("sweep.yaml")),
    "--budget": option("smoke, cpu, night, gpu or another of the file's; auto goes by the device found", "auto"),
    "--set": option(
        "a key of the study file, whatever it says; as often as needed", action="append", metavar="KEY=VALUE"
    ),
    "--data": option("folder of images to use as the task, in place of the file's task", type=Path),
    "--label": option("what tables call the task; its own name by default", ""),
    "--group": option("which images belong together: folder, csv:FILE:COLUMN or name:PATTERN; no split parts them", ""),
    "--runs": option("the ledger: folder of finished runs", Path("runs")),
    "--reports": option("folder for tables and figures", Path("reports")),
    "--jobs": option("worker processes; 0 takes as many as pay", 0),
    "--executor": option("local: this machine; ray: a Ray cluster, docs/cluster.md", "local"),
    "--workers_per_gpu": option("workers that share a GPU, where --jobs is 0", 1),
    "--retry_failed": {"help": "make runs again that failed or diverged", "action": "store_true"},
    "--stale": option("finished runs that were made by other code than this: keep them, or make them again", "keep"),
    "--stall_s": option("a run counts as hung after so long; 0: never", 900.0),
    "--config": {"help": "YAML file with any of these arguments", "action": "config"},
    "--task": option("cifar10, mnist, sprites or folder:PATH; the study's by default", ""),
    "--json": {"help": "print JSON", "action": "store_true"},
    "--once": {"help": "print what there is now, and end", "action": "store_true"},
    "--html": option("file to write as well, a page that a browser loads again by itself", type=Path),
    "--study": option("name of the study; the latest of the ledger by default", ""),
    "report --study": option(
        "name of a study, the latest of the ledger by default; of two or more, what they have in common side by side",
        action="append",
        metavar="NAME",
    ),
    "path": {"help": "folder of images: train/ and test/, or one folder for each class", "type": Path},
    "--minutes": option("time that the whole may take, roughly", 10.0),
    "--turns": option(f"how things are found turned: any (angle), small, quarter, none; {TRIED}", "", type=str),
    "--mirror": option(f"whether a mirrored image keeps its class: yes, no; {TRIED}", "", type=str),
    "probe --set": option("a key of its protocol, such as protocol.image_px=64", action="append", metavar="KEY=VALUE"),
    "probe --label": option("what to call the images; the folder's name by default", ""),
    "ledger": option("the ledger; runs by default", Path("runs"), nargs="?"),
    "--rerun": option("make so many of its runs again, drawn at random, and compare every byte", 0),
    "verify --seed": option("of the draw; another one each time if not given", type=int),
    "verify --data": option("folder of images that runs were made of, where the cache has them no more", type=Path),
    "from": {"help": "ledgers, or archives of them", "nargs": "+", "type": Path},
    "--into": option("the ledger to put them in", Path("runs")),
    "archive --out": option("file to write, .tar.xz", Path("ledger.tar.xz")),
    "--no-weights": {"help": "leave out the weights of final runs, which are most of it", "action": "store_true"},
    "board path": {"help": "folder that holds a folder, or an archive, of each one's ledger", "type": Path},
    "board --out": option("file to write; board.html in that folder by default", type=Path),
    "--claims": option("file that lists the numbers", Path("docs/claims.yaml")),
    "run": {"help": "the run's key, its beginning, or its folder"},
    "images": {"help": "image files, and folders of them", "nargs": "+", "type": Path},
    "export --out": option("folder to write; exports/KEY by default", type=Path),
    "predict --out": option("PNG to write: the images, and what the transformer makes of them", type=Path),
    "wandb-report --out": option("write both as JSON into this folder instead, offline", type=Path),
    "--entity": option("W&B user or team; your default one if not given", ""),
    "name": option("the name to say all about; without one, all are listed", "", nargs="?"),
    "--variant": option("the variant whose search to print", "cnn"),
}
"""By name, or by the command's and its own where commands have different ones of a name."""

STUDY, WORKERS = "--sweep --budget --set --data --label --group --runs", "--jobs --executor --workers_per_gpu"
COMMANDS = {
    "sweep": (
        "carry out a study: tune every variant, train the winners with fresh seeds, write tables",
        f"{STUDY} --reports {WORKERS} --retry_failed --stale --stall_s",
    ),
    "plan": ("say what a sweep would do and how long it would take, without training", f"{STUDY} {WORKERS}"),
    "look": (
        "draw some images of each class: as they are, as networks see them, and under the study's poses and policies",
        f"{STUDY} --reports",
    ),
    "run": (
        "make one run; its protocol, task and pose are the study's unless said otherwise",
        f"--config {STUDY} --task",
    ),
    "status": ("show the studies of the ledger and the runs in progress", "--runs --json"),
    "watch": (
        "show what is being trained, as it goes: epochs, accuracy, what finished runs had by then, time left",
        "--runs --study --once --html",
    ),
    "tables": (
        "write the tables of a study again, from the ledger; report writes the figures as well",
        "--runs --reports --study",
    ),
    "report": (
        "write a study's report, or one of several: one HTML file that needs no network, with tables and figures",
        "--runs --reports --study",
    ),
    "probe": (
        "say whether augmentation or a spatial transformer would help on a folder of images, in minutes",
        "path --minutes --turns --mirror --set --label --group --runs --reports --jobs",
    ),
    "verify": (
        "read every file of a ledger and name what was damaged or edited; --rerun makes some of its runs again",
        "ledger --rerun --seed --data --group --jobs",
    ),
    "merge": ("put ledgers of several machines into one; same runs must be the same bytes", "from --into"),
    "archive": ("write a ledger as one file, which merge reads", "ledger --out --no-weights"),
    "board": (
        "rank finished studies of several people, where they share task and protocol, on one page; "
        "exit status 1 where a ledger was refused, 2 where nothing is left",
        "path --out",
    ),
    "verify-docs": ("compute the numbers of README and docs again from the committed results", "--claims"),
    "export": ("hand a final run over: weights, a file that torch alone can run, a model card", "run --runs --out"),
    "predict": (
        "ask a final run's network about images: class, confidence, what it looks at; "
        "exit status 1 where some images cannot be read, 2 where none can",
        "run images --runs --out --json",
    ),
    "wandb-report": (
        "build a saved workspace and a report of a study in its W&B project",
        "--runs --study --entity --out",
    ),
    "variants": ("list models, backbones, policies, tasks and poses; with a NAME, its hyper-parameters", "name --json"),
    "dashboard": ("open the dashboard of the newest study's tracker on the ledger's runs", "--runs"),
    "sync": ("upload the ledger's runs to W&B", "--runs"),
    "wandb-sweep": ("print the search of one variant as a W&B sweep file", f"{STUDY} --variant"),
}

OPENING = {
    "Reading the study {sweep} ...": "sweep plan look wandb-sweep",
    "Reading the study and the settings of the run ...": "run",
    "Looking at the images in {path} ...": "probe",
    "Reading the ledger {runs} ...": "tables report wandb-report",
    "Reading the run {run} of {runs} ...": "export predict",
    "Reading all of {ledger} ...": "archive",
    "Reading all that is to be merged into {into} ...": "merge",
    "Reading all of the ledgers in {path} ...": "board",
    "Reading {claims} and the results it names ...": "verify-docs",
    "Reading models, policies and tasks ...": "variants",
}
"""What commands say before they import what takes seconds; the others are quick."""
SLOW = ("torch", "pandas")
"""To import."""
FOR_PROGRAMS = ("wandb-sweep",)
"""Commands whose output is a file, as that of others is with --json."""


def command_line(run_defaults: dict[str, Any] | None = None) -> CommandLine:
    """All commands of `stn-bench`. run_defaults: of `run`, where the sweep file has some."""
    about = "Compare learned with shown spatial invariance: spatial transformers and augmentation."
    line = CommandLine(program(), about)
    for name, (help, options) in COMMANDS.items():
        command = line.add(name, help)
        for each in options.split():
            command.add_argument(each, **(OPTIONS.get(f"{name} {each}") or OPTIONS[each]))
    run = line.commands["run"]
    run.add_class_arguments(RunConfig, None)
    # The test set is for those who ask for it: trying settings out must not read it.
    run.set_defaults({"stage": "trial", **(run_defaults or {})})
    return line


def find_run_defaults(arguments: Sequence[str]) -> dict[str, Any]:
    """What `run` takes from the sweep file: protocol and pose of the study at the budget."""
    from experiments.study.study import load_study
    from experiments.terminal.commands.options import choose_budget

    finder = argparse.ArgumentParser(add_help=False, exit_on_error=False, allow_abbrev=False)
    finder.add_argument("--sweep")
    finder.add_argument("--budget", default="auto")
    finder.add_argument("--set", action="append", default=[])
    try:
        given, _ = finder.parse_known_args(list(arguments))
    except argparse.ArgumentError:
        return {}
    path = user_path(given.sweep or "sweep.yaml", "sweep")
    if given.sweep is None and not path.exists():
        return {}
    study = load_study(path, choose_budget(given.budget), given=given.set)
    return {
        "protocol": dataclasses.asdict(study.protocol),
        "pose": study.poses[0],
        "test_pose": study.test_pose,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the process's exit status. Bad input is one line on stderr and status 2."""
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
        if not (why := next((why for words, why in NOT_LOADED.items() if words in str(error)), "")):
            raise
        return complain(f"a library cannot be loaded: {error}; {why}")
    except KeyboardInterrupt:
        with suppress(OSError):
            print(STOPPED, file=sys.stderr)
        return STATUS_STOPPED


def run_command(arguments: Sequence[str]) -> int:
    """Parse and run a command; returns its exit status. Raises whatever it raises."""
    runs = arguments[:1] == ["run"] and not {"-h", "--help"} & set(arguments)
    if runs and not any(each.startswith("--print_config") for each in arguments):  # which prints a file
        print_opening("run", Namespace())  # its defaults are known to what imports torch
    line = command_line(find_run_defaults(arguments[1:]) if runs else None)
    if runs:  # jsonargparse would take what follows a second dot for an object of its own
        arguments = [re.sub(r"^(--policy\.\w+)\.(?=\w)", r"\1/", each) for each in arguments]
    command, chosen = line.parse(arguments)
    if runs:
        chosen.policy = {key.replace("/", "."): value for key, value in chosen.policy.items()}
    with only_sweep_of(chosen.runs) if command in ONE_AT_A_TIME else nullcontext():
        # After parsing: --help, typing errors and a ledger that is held need no torch.
        if not runs:
            print_opening(command, chosen)
        return int(importlib.import_module(f"experiments.terminal.commands.{command.replace('-', '_')}").main(chosen))


def print_opening(command: str, options: Namespace) -> None:
    """Say at once what the command begins with; where a program reads its output, to a person who waits."""
    if not sys.modules.keys().isdisjoint(SLOW):  # nobody has to wait
        return
    text = next((text for text, commands in OPENING.items() if command in commands.split()), "")
    stream = sys.stderr if command in FOR_PROGRAMS or options.get("json") else sys.stdout
    if text and stream and (stream is sys.stdout or stream.isatty()):
        print(plain(text.format_map(vars(options))), file=stream, flush=True)


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
    with suppress(OSError):  # as where standard error is closed
        print("error:", plain(message), file=sys.stderr)
    return STATUS_BAD_INPUT


def explain(error: ArgumentError, arguments: Sequence[str], commands: Mapping[str, ArgumentParser]) -> str:
    """jsonargparse's message in the words of a command line, with the nearest name where one is unknown."""
    message = " ".join(str(error).split())
    message = re.sub(r'^Parser key "([^"]+)"(?: element \d+)?:', r"--\1:", message)
    message = re.sub(r"<class '(\w+)'>", r"\1", message)
    if lacking := re.match(r"the following arguments are required: (.*)", message):
        helps = {action.dest: action.help for action in commands[arguments[0]]._actions}
        names = [name.rpartition(".")[2] for name in lacking[1].split(", ")]
        return f"{arguments[0]} needs {'; '.join(f'{name}: {helps[name]}' for name in names)}"
    unknown = re.match(
        r"unrecognized arguments: (?:[^-]\S* )*(--?[\w.-]+)|argument COMMAND: invalid choice: '([^']*)'", message
    )
    if unknown and unknown[1]:
        command = commands.get(arguments[0])  # None where an argument stands before the command
        known = re.findall(r"--([\w.-]+)", command.format_help() if command else "")
        hint = nearest(unknown[1], known)
        hint = re.sub(r"'([^']+)'", r"'--\1'", hint) if hint.startswith("did you mean") else "--help lists them"
        return f"unknown argument {unknown[1]}; {hint}"
    if unknown:
        return f"unknown command {unknown[2]!r}; {nearest(unknown[2], commands)}"
    message = re.sub(r"""Unable to load config '(.*)' - .* config "\1"$""", r"Expected a dict. Got value: \1", message)
    expected = r"(tuple|dict|int|float|bool|typing\.Literal\[.*\])"
    if not (refused := re.match(rf"(--\S+): Expected a {expected}\. Got value: (.*)", message)):
        return message
    option, kind, value = refused.groups()
    if kind in ("tuple", "dict"):
        form = f"in the form {option}=[0.1,0.2]" if kind == "tuple" else f"one by one: {option}.NAME=VALUE"
        return f"{option}: {value!r} is not a list of values; write them {form}"
    if words := [words for known, words in CALLED.items() if known.__name__ == kind]:
        return f"{option}: {value!r} is not {words[0]}"
    choices = re.findall(r"'([^']*)'", kind)
    return f"{option}: {value!r} is unknown; {nearest(value, choices)}"
