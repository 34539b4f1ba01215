"""Making runs of a ledger again: the same code, images and kind of machine give the same bytes, or they are not its.

Which runs are made is drawn, so that whoever forged some of them cannot know which. Nothing is written to the ledger.
"""

import importlib.util
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.images.poses import parse_pose
from experiments.images.tasks import Say, load_task
from experiments.images.tasks.cache import held
from experiments.images.tasks.downloads import DownloadError
from experiments.machine.device import prepare_device
from experiments.networks.variants import LIBRARIES as NETWORK_LIBRARIES
from experiments.networks.variants import build_policy, check_start, parse_variant
from experiments.runs.code import code_of
from experiments.runs.costs import environment
from experiments.runs.run import Job, Source
from experiments.study.study import read_protocol
from experiments.study.sweep_file import Section
from experiments.sweep.executors import Executor
from ledger.comparison import differences
from ledger.config import RESULT_FORMAT, Fit, Optim, Protocol, RunConfig, run_key
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.source_code import changed, files_text, unpacked

DEVICE = "cpu"
"""On others a repetition agrees in distribution only; docs/reliability.md."""
MACHINE = {"device_name": "on {}", "system": "under {}", "threads": "with {} threads"}
"""What else of cost.json bytes may depend on, beside the versions of libraries, and how to say it."""
LIBRARIES = ("torch", "torchvision", "numpy")
LOOK_S = 0.5

Record = dict[str, Any]


@dataclass(frozen=True)
class Candidates:
    """Runs that can be made again here: jobs and expected seconds by key. others: how many cannot be, by the reason."""

    jobs: dict[str, Job]
    seconds: dict[str, float]
    others: Mapping[str, int]

    def draw(self, number: int, seed: int) -> list[Job]:
        """So many of them, or all if there are no more, in the order of the draw."""
        keys = random.Random(seed).sample(sorted(self.jobs), min(number, len(self.jobs)))
        return [self.jobs[key] for key in keys]


@dataclass(frozen=True)
class Compared:
    """A run that was made again. different: files that are others now, and in what. problem: why there is none."""

    job: Job
    different: Sequence[tuple[str, str]] = ()
    problem: str = ""


def find_candidates(
    ledger: Ledger, keys: Iterable[str], scratch: Path, *, data: Path | None, group: str, cache: Path, say: Say
) -> Candidates:
    """Which of the ledger's runs can be made again on this machine, in a ledger at `scratch`.

    keys: of the runs in question. data: folder of images that may be theirs. group: as load_task takes it, for runs
    whose images were grouped.
    Raises UserError for a run that was damaged, and for a folder that cannot be read or grouped so.
    """
    prepare_device(torch.device(DEVICE))  # so that threads are those of a worker
    here, images = environment(torch.device(DEVICE), *NETWORK_LIBRARIES), _Images(data, group, cache, say)
    jobs, seconds, others = dict[str, Job](), dict[str, float](), Counter[str]()
    for key in keys:
        record, cost = ledger.read(key), ledger.read(key, "cost.json")
        run, task = _config(key, record), record["task"]
        code = unpacked(cost.get("code") or {})
        if why := _why_not(record, cost, here) or _lacking(record["config"]["variant"]):
            others[why] += 1
        elif run is None:
            others["have settings that this version does not know"] += 1
        elif code and (files := changed(code, code_of(run, cache))):
            others[f"were made before code changed that they depend on: {files_text(files)}"] += 1
        elif not _can_start(run):
            others["start from weights that are not on this machine"] += 1
        elif why := images.why_not(task, run.protocol.image_px, run.protocol.fit):
            others[why] += 1
        else:
            source = Source(str(task.get("name")), task["label"], run.protocol.image_px, cache, task["content_hash"])
            jobs[key] = Job(run, key, source, scratch)
            seconds[key] = float(cost.get("seconds") or 0)
    return Candidates(jobs, seconds, others)


def _why_not(record: Record, cost: Record, here: Mapping[str, Any]) -> str:
    """Why a run's bytes may be others when it is made again here, to follow `runs`; "" where they may not."""
    if record["format"] < RESULT_FORMAT:
        return f"are of format {record['format']}, and this version makes runs of format {RESULT_FORMAT}"
    if record["status"] == "failed":
        return "failed, which says nothing of their settings"
    if cost.get("device") != DEVICE:
        return f"were made on {cost.get('device')}, where no repetition is the same bytes"
    for name, text in MACHINE.items():
        if cost.get(name) != here[name]:
            return f"were made {text.format(cost.get(name))}, and this is {text.format(here[name])}"
    there = cost.get("versions") or {}
    for library in ("python", *LIBRARIES, *(name for name in NETWORK_LIBRARIES if name in there)):
        was, now = (_version(library, versions.get(library)) for versions in (there, here["versions"]))
        if was != now:
            return f"were made with {library} {was}, and here is {now}"
    return ""


def _version(library: str, version: str | None) -> str:
    """As far as it decides bytes: neither Python's third number nor what a build was for does."""
    if version is None:
        return "none"
    return ".".join(version.split(".")[:2]) if library == "python" else version.split("+")[0]


def _lacking(variant: str) -> str:
    """Which library of networks is not installed here, to follow `runs`; "" where none is needed."""
    needed = (name for name in NETWORK_LIBRARIES if f"@{name}:" in variant and importlib.util.find_spec(name) is None)
    return "".join(f"need {name}, which is not installed here" for name in needed)


def _can_start(run: RunConfig) -> bool:
    try:
        check_start([run.variant])
    except UserError:
        return False
    return True


def _config(key: str, record: Record) -> RunConfig | None:
    """The run's configuration; None where this version makes no such run."""
    config = record["config"]
    try:
        run = RunConfig(
            **{
                **config,
                "protocol": read_protocol(Protocol(), Section(key, "config.protocol", config["protocol"])),
                "optim": Optim(**config["optim"]),
                "prune_below": tuple(config["prune_below"]),
            }
        )
        build_policy(parse_variant(run.variant), run.policy)
        for pose in filter(None, (run.pose, run.test_pose)):
            parse_pose(pose)
    except (UserError, LookupError, TypeError):
        return None
    return run if run_key(run, record["task"]["content_hash"]) == key else None


class _Images:
    """Whether tasks' images are here: in the cache, as a task that has a name, or in the folder that was given."""

    def __init__(self, data: Path | None, group: str, cache: Path, say: Say) -> None:
        self.data, self.group, self.cache, self.say = data, group, cache, say
        self._known: dict[tuple[str, int, Fit], str] = {}

    def why_not(self, task: Mapping[str, Any], image_px: int, fit: Fit) -> str:
        asked = str(task["content_hash"]), image_px, fit
        if asked not in self._known:
            self._known[asked] = self._look(task, *asked)
        return self._known[asked]

    def _look(self, task: Mapping[str, Any], wanted: str, image_px: int, fit: Fit) -> str:
        name, is_grouped = str(task.get("name")), "groups" in task
        if held(wanted, self.cache):
            return ""
        if name == "folder" and self.data is None:
            return "are of a folder of images that is not in the cache here; --data=FOLDER names it"
        if is_grouped and not self.group:
            return "are of images in groups; --group says which belong together"
        spec, group = f"folder:{self.data}" if name == "folder" else name, self.group if is_grouped else ""
        try:
            found = load_task(spec, image_px=image_px, fit=fit, cache=self.cache, say=self.say, group=group)
        except DownloadError:
            return f"are of {name}, which cannot be had here"
        return "" if found.content_hash == wanted else f"are of other images than those of {spec} here"


def make_again(
    executor: Executor, jobs: Sequence[Job], ledger: Ledger, on_tick: Callable[[], None]
) -> Iterator[Compared]:
    """Make the runs in the jobs' own ledger, and compare each with what the ledger has, as they come."""
    pending: dict[Future[str], Job] = {executor.submit(job): job for job in jobs}
    while pending:
        done = wait(pending, timeout=LOOK_S, return_when=FIRST_COMPLETED).done
        for future in done:
            yield _compared(pending.pop(future), future, ledger)
        on_tick()


def _compared(job: Job, future: "Future[str]", ledger: Ledger) -> Compared:
    again = Ledger(job.ledger, read_only=True)
    try:
        key = future.result()
    except Exception as error:  # of this run; what others say is no less true
        return Compared(job, problem=str(error) or type(error).__name__)
    if problem := again.read(key)["error"]:
        return Compared(job, problem=problem)
    return Compared(job, tuple(differences(ledger.folder(key), again.folder(key))))


def chance_of_meeting(num_runs: int, num_forged: int, num_drawn: int) -> float:
    """Probability that a draw without repetition has one of the forged runs, or more."""
    missed = 1.0
    for taken in range(num_drawn):
        missed *= max(0, num_runs - num_forged - taken) / (num_runs - taken)
    return 1 - missed


def draws_needed(num_runs: int, num_forged: int, chance: float) -> int:
    """Runs to draw for such a probability."""
    return next(n for n in range(num_runs + 1) if chance_of_meeting(num_runs, num_forged, n) >= chance)
