"""The tracker's process: has the runs that it is told of written to its sink, and uploads those of W&B."""

import contextlib
import fcntl
import itertools
import json
import os
import queue
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from experiments.machine.parent_death import end_with_parent
from experiments.tracking.live import Live
from experiments.tracking.replay import WANDB, find_server, replay_rest
from experiments.tracking.settings import at_home, upload_environment
from experiments.tracking.sink import Sink, sink_of
from experiments.tracking.tracker import offline_env, slow_s
from experiments.tracking.upload import PLACES, Upload
from ledger.ledger import Ledger
from ledger.markers import Job, Marker, job_of, read_marker, write_marker

UPLOAD_BATCH = 20
"""Runs that one `wandb sync` uploads; starting it costs as much as ten small runs."""
_KEPT = "upload failed, runs are kept here until the next sync"
_SECRET = re.compile(r"[A-Za-z0-9_=+]{32,}|//[^/\s@]*@")
"""What may be an API key, or credentials in an address: a careless server sends back what it was sent."""
# How an agent of a W&B sweep tells the program it starts which run of the sweep to be.
_AGENT = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_PROJECT", "WANDB_ENTITY")
_CLIENT = (sys.executable, "-P", "-m", "experiments.tracking.replay")


def serve(order: dict[str, Any]) -> None:
    """Replay the runs named on standard input, one line each, until `null`; the first problem to standard output.

    A line that says what a run's run.json will be is of one that begins: it is shown while it trains.
    """
    os.nice(10)  # training comes first
    replayer = Replayer(order)
    signal.signal(signal.SIGTERM, replayer.leave)
    threading.Thread(target=replayer.listen, daemon=True).start()
    try:
        replayer.connect()
        replayer.replay_all()
    except Exception as fault:
        replayer.report(f"tracking stopped: {type(fault).__name__}: {fault}")


class Replayer:
    """Writes runs to the sink, and uploads what W&B's files hold of them.

    tracker: the sink's name, which is that of its folder in the ledger. jobs: runs to write; None after the last.
    waiting: runs that are written and not uploaded. live: shows runs while they train. begun: those of them that wait,
    of which the server may have something. is_proven: an upload has worked.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        self.order, self.tracker = order, str(order["tracker"])
        self.account, self.agent = _take_environment(order["online"])
        os.chdir(order["ledger"])
        self.scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        tempfile.tempdir = os.environ["TMPDIR"] = self.scratch.name
        if at_home("~") is None:  # W&B will have one
            os.environ["HOME"] = self.account["HOME"] = self.scratch.name
        # Nothing that W&B prints may end up among the reports.
        self.commands = os.fdopen(os.dup(0), encoding="utf-8")
        self.reports = os.fdopen(os.dup(1), "w", encoding="utf-8")
        null = os.open(os.devnull, os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        self.jobs: queue.Queue[Job | None] = queue.Queue()
        self.is_last = threading.Event()
        online = self.account | dict.fromkeys(PLACES, self.scratch.name)
        offline = os.environ | offline_env(self.scratch.name)
        environment = online if order["online"] else offline
        self.live = Live(environment, Path(self.scratch.name), online=order["online"], tracker=self.tracker)
        self.upload: Upload | None = None
        self.waiting: dict[str, Marker] = {}
        self.begun: set[str] = set()
        self.is_proven, self.num_failures, self.away, self.ask_again_at = False, 0, "", 0.0

    def report(self, problem: str) -> None:
        """Tell of the first problem; that says enough."""
        if not self.reports.closed:
            self.reports.write(json.dumps(_SECRET.sub("...", " ".join(problem.split()))[:400]) + "\n")
            self.reports.close()

    def leave(self, *_: object) -> NoReturn:
        self.live.stop()
        if self.upload:
            self.upload.stop()
        self.scratch.cleanup()
        os._exit(1)

    def listen(self) -> None:
        for line in self.commands:
            job = json.loads(line)
            if job and "run" in job:
                self.live.follow(job)
                continue
            if job is None:
                self.is_last.set()
                self.live.stop()
            self.jobs.put(job)
            if job is None:
                return
        self.leave()  # the program has died: what is half written is written again next time

    def connect(self) -> None:
        """Find the server, if runs are to be uploaded; from here on the environment is that of offline runs."""
        Path(self.tracker, "logged").mkdir(parents=True, exist_ok=True)
        if self.order["online"]:
            try:
                server = find_server(self.account, self.scratch.name, self.patience_s)
                command = [*_CLIENT, "--sync", str(os.getpid())]
                self.upload = Upload(command, self.account, Path(self.scratch.name), server, self.order["stall_s"])
            except Exception as fault:  # the files are written all the same
                self.report(f"{_KEPT}: W&B's settings cannot be read: {type(fault).__name__}: {fault}")
        os.environ.update(offline_env(self.scratch.name) | self.agent)
        self.sink = sink_of(self.tracker, self.agent, online=False)

    def patience_s(self) -> float:
        """For how long the server may be silent now."""
        return float(self.order["hurry_s" if self.is_last.is_set() else "patience_s"])

    def replay_all(self) -> None:
        while job := self.jobs.get():
            self.write(job)
            self.upload_due(more_to_come=True)
        self.upload_due(more_to_come=False)
        num_left = 0
        while not self.hurries and self.upload and len(self.waiting) not in (0, num_left):  # the user waits for them
            num_left = len(self.waiting)
            time.sleep(max(0.0, self.ask_again_at - time.monotonic()))
            self.upload_due(more_to_come=False)
        if self.waiting and self.away:
            self.report(f"{_KEPT}: {self.away}")

    @property
    def hurries(self) -> bool:
        """A command waits for the end: all files are written first, and what does not work is not tried again."""
        return self.is_last.is_set() and bool(self.order["hurry_s"] < self.order["patience_s"])

    def write(self, job: Job) -> None:
        if self.live.let_go(job["key"]) and self.upload:
            self.begun.add(job["key"])
        try:
            with _lock(self.tracker):
                is_there = read_marker(Path(), job["key"], self.tracker) is not None
                if not is_there or (job["again"] and (self.upload or self.agent)):
                    self.waiting[job["key"]] = written(job, self.sink, self.tracker)
        except Exception as fault:
            self.report(f"run {job['key']} was not logged: {type(fault).__name__}: {fault}")

    def upload_due(self, *, more_to_come: bool) -> None:
        """Upload what waits: one run first, to see whether it works at all; then as many as have come together."""
        while self.upload and self.waiting and time.monotonic() >= self.ask_again_at:
            gathers = self.is_proven and not self.jobs.empty() and len(self.waiting) < UPLOAD_BATCH
            if more_to_come and (self.hurries or gathers):
                return
            keys = list(itertools.islice(self.waiting, UPLOAD_BATCH if self.is_proven else 1))
            with _lock(self.tracker):
                fresh = [key for key in keys if not (self.is_proven and key in self.begun)]
                error = self.send(self.upload, fresh)
                left = [key for key in keys if key in self.waiting]
                there = [key for key in left if key not in fresh or self.run_id(key) in self.upload.there]
                if there and not (self.upload.is_away or self.upload.is_refused):
                    others = set(left) - set(there)
                    error = self.send_rest(self.upload, there) or (error if others else "")
            failed = [key for key in keys if key in self.waiting]
            self.is_proven = self.is_proven or len(failed) < len(keys)
            if failed and self.upload.is_away:
                self.away, self.ask_again_at = error, time.monotonic() + self.order["patience_s"]
                return
            self.num_failures = self.num_failures + 1 if len(failed) == len(keys) else 0
            for key in failed:
                del self.waiting[key]
            if error:
                self.report(f"{_KEPT}: {error}")
            if self.upload.is_refused or self.num_failures == (1 if self.hurries else 2):  # one may be its runs' fault
                self.upload = None
                self.live.stop()

    def send(self, upload: Upload, keys: list[str]) -> str:
        return self.send_folders(upload, {WANDB / self.waiting[key]["folder"]: key for key in keys})

    def send_folders(self, upload: Upload, folders: dict[Path, str], *, resume: bool = False) -> str:
        """Send the runs with these keys."""

        def arrived(folder: Path) -> None:
            key = folders[folder]
            marker = self.waiting.pop(key)
            with contextlib.suppress(OSError):  # also where the rest was sent: whoever syncs by hand skips it
                (WANDB / marker["folder"] / f"run-{self.run_id(key)}.wandb.synced").touch()
            write_marker(Path(), key, {**marker, "uploaded": True})

        return upload.run(folders, arrived, slow_s=slow_s(Path(), folders.values()), resume=resume)

    def send_rest(self, upload: Upload, keys: list[str]) -> str:
        """Send what the server lacks of the runs that it has in part: W&B's client would append all of it."""
        rest: dict[Path, str] = {}
        for project in sorted({self.waiting[key]["project"] for key in keys}):
            ids = [self.run_id(key) for key in keys if self.waiting[key]["project"] == project]
            place = self.agent.get("WANDB_PROJECT", project)
            known = upload.ask([*_CLIENT, "--lines", str(os.getpid()), place, *ids])
            if not isinstance(known, dict):
                return "the server does not say what it has of runs that are there already"
            for key in keys:
                if (num_rows := known.get(self.run_id(key))) is not None:
                    job = job_of(key, self.waiting[key])
                    rest[replay_rest(job, self.agent, num_rows, Path(self.scratch.name))] = key
        return self.send_folders(upload, rest, resume=True)

    def run_id(self, key: str) -> str:
        return self.agent.get("WANDB_RUN_ID", key)


def written(job: Job, sink: Sink, tracker: str) -> Marker:
    """Have a run written whole, and then its marker. Raises UserError for a run that is not as it was committed."""
    key = job["key"]
    Ledger(Path(), read_only=True).check(key)
    Path(tracker, "logged", key).unlink(missing_ok=True)
    place = sink.write(job)
    marker = Marker(project=job["project"], group=job["group"], tags=job["tags"], folder=place, uploaded=False)
    write_marker(Path(), key, marker, tracker)
    return marker


def _take_environment(online: bool) -> tuple[dict[str, str], dict[str, str]]:
    """Settings of the account, and what an agent of a sweep has said; no variable of W&B's is left after it."""
    account = upload_environment(os.environ) if online else {}
    account |= {"WANDB_ERROR_REPORTING": "false", "WANDB_PROGRAM": "stn-bench"}
    agent = {name: os.environ[name] for name in _AGENT if name in os.environ} if "WANDB_SWEEP_ID" in os.environ else {}
    if "WANDB_SWEEP_PARAM_PATH" in agent:
        agent["WANDB_SWEEP_PARAM_PATH"] = os.path.abspath(agent["WANDB_SWEEP_PARAM_PATH"])
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[name]
    return account, agent


@contextlib.contextmanager
def _lock(tracker: str) -> Iterator[None]:
    """Keeps two trackers of one ledger from writing at once."""
    with open(Path(tracker, "lock"), "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed, also by a kill
        yield


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    order = json.loads(sys.argv[1])
    end_with_parent(order["parent"], signal.SIGTERM)
    serve(order)
