"""Trackers: the runs of the ledger, replayed to W&B or another one (sink.py).

A run never talks to a tracker. When it is committed, one other process (replayer.py) replays it from the ledger's
files, so that no fault of a tracker can fail, slow or change a run, and every run of the ledger is one run there, whose
id is its key. A replay to W&B first writes W&B's offline files into `<ledger>/wandb/offline-run-*/`, which needs no
account and no network. Online, `wandb sync` then uploads them; where that fails they stay, and `sync` uploads them
later. While a run trains, a third process (live.py) shows its rows; what came of that does not matter to the replay.
"""

import collections
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self, cast

from experiments.tracking.settings import MODES, Mode, at_home, client_mode, file_settings
from ledger.errors import UserError, nearest
from ledger.markers import Following, Job, Marker, is_uploaded, not_uploaded, read_marker

TRACKING_WAIT_S = 60.0
"""How long a command that is done waits for the next of its runs to be logged, while W&B's server answers."""
WAIT_S = 30.0
"""How long a tracker that is closed normally may go on logging what it was given."""
STALL_S, SYNC_STALL_S = 60.0, 600.0
"""An upload that finishes no run for so long, and the time to send one, has failed: beside a sweep, and in `sync`."""
SLOWEST_LINE = 20e3
"""Bytes per second that a run is allowed to take; several share a line."""
PATIENCE_S, HURRY_S = 15.0, 2.5
"""For how long the server may be silent before it is taken to be away, and from then to when it is asked again; and
the same where a command is done but for its uploads."""


def resolve_mode(mode: str) -> Mode:
    """Where runs are tracked, as `find_mode` says."""
    return find_mode(mode)[0]


def find_mode(mode: str) -> tuple[Mode, str]:
    """Where runs are tracked, and why there, or "" where that is plain; no network is used to find out.

    mode: `auto` is what W&B's client would do here: as the environment or its settings files say, else online where the
        user is logged in and offline where not.
    Raises UserError for an unknown mode, and for `online` where the environment or the files say otherwise, or the
    user is not logged in.
    """
    if mode not in (known := ("online", "offline", "disabled", "auto")):
        raise UserError(f"W&B mode: {mode!r} is not a mode; {nearest(mode, known)}")
    if mode not in ("auto", "online"):
        return MODES[mode], ""
    setting = client_mode()
    if MODES[setting.value] != "online":
        if mode == "online":
            says = f"{setting.source} says {setting.value!r}"
            raise UserError(f"W&B mode: 'online', but {says}, so nothing is uploaded; change one")
        return MODES[setting.value], f"as {setting.source} says"
    if _logged_in():
        return "online", f"as {setting.source} says" if setting.source else ""
    if mode == "online" or setting.source == "WANDB_MODE":
        raise UserError(_NOT_LOGGED_IN)
    return "offline", "as you are not logged in"


def check_may_upload() -> None:
    """Raises UserError where W&B was disabled, or the user is not logged in: also for what was asked for by name.

    That it is offline does not matter: what was written offline may be uploaded when that is asked for.
    """
    setting = client_mode()
    if MODES[setting.value] == "disabled":
        raise UserError(f"W&B: {setting.source} says {setting.value!r}, so nothing is uploaded; change that first")
    if not _logged_in():
        raise UserError(_NOT_LOGGED_IN)


_NOT_LOGGED_IN = "not logged in to W&B: run `python -m wandb login`, or set WANDB_API_KEY"


def _logged_in() -> bool:
    """Whether there are credentials for the server that W&B is set up for; says nothing on whether they are valid.

    Raises UserError for a settings file that cannot be read: it stops a command here or never.
    """
    settings = file_settings()
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    places = [at_home(place) for place in (os.environ.get("NETRC") or "~/.netrc", "~/_netrc")]
    if not any(place and place.exists() for place in places) and "api_key" not in settings:
        return False  # without starting W&B, which costs a second
    try:
        answer = subprocess.run(
            [*_PYTHON, "experiments.tracking.replay", "--logged-in"],
            env=_with_project(),
            timeout=30,
            capture_output=True,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return answer.returncode == 0


class Tracker:
    """Replays runs to a tracker as they are committed, in a process of its own; a context manager.

    Nothing here raises for a fault of the tracker, and `log` returns at once. The process starts with the first run
    that needs it and ends with this one, however that ends; what it had not logged is logged by the next tracker.

    Args:
        ledger: folder of the finished runs.
        project: the tracker's project.
        group: of its runs; the study's name.
        mode: as `find_mode` returns it; other trackers than W&B are offline.
        tracker: name of the sink.
        tags: of each run, besides its task, pose, model, policy and status.
        keys: runs to log at the start if they are in the ledger and were not logged before.

    `problem` is the first thing that went wrong, in one line, or None.
    """

    def __init__(
        self,
        ledger: Path,
        *,
        project: str,
        group: str,
        mode: Mode,
        tags: Iterable[str] = (),
        keys: Iterable[str] = (),
        stall_s: float = STALL_S,
        hurry_s: float = HURRY_S,
        tracker: str = "wandb",
    ) -> None:
        self.ledger, self.mode, self._tracker = ledger, mode, tracker
        # A run that a W&B agent started belongs to the agent's sweep, whatever was logged before, and has another id.
        self._is_agents = tracker == "wandb" and bool(os.environ.get("WANDB_SWEEP_ID"))
        self._project, self._group, self._tags, self._keys = project, group, list(tags), list(keys)
        self._limits = {"stall_s": stall_s, "patience_s": PATIENCE_S, "hurry_s": hurry_s}
        self._given: dict[str, None] = {}  # keys, in order
        self._outbox: collections.deque[bytes] = collections.deque()
        self._process: subprocess.Popen[bytes] | None = None
        self._heard = b""
        self._problem: str | None = None
        self._closed = False

    def __enter__(self) -> Self:
        for key in self._keys:
            if (self.ledger / "runs" / key / "run.json").exists():
                self.log(key)
        return self

    def __exit__(self, kind: object, fault: object, trace: object) -> None:
        self.close(WAIT_S, at_most_s=math.inf if kind is None else 2.0)

    def follow(self, run: Mapping[str, Any]) -> None:
        """Have a run shown while it trains, as far as the ledger's marks tell of it; `log` is called for it later.

        run: what is known of its run.json before it begins, its key among it.
        """
        key = run["key"]
        if self.mode != "disabled" and not (self._closed or self._is_agents or self._marker(key)):
            self._tell(Following(**self._job(key), run=dict(run)))

    def log(self, key: str) -> None:
        """Have the run logged that is in the ledger under `key`; once, however often it is asked for."""
        if self.mode != "disabled" and (self._is_agents or self._marker(key) is None):
            self._put(self._job(key, again=self._is_agents))

    def tick(self) -> None:
        """To be called now and then: hands on what the process could not take at once."""
        self._send()

    def _marker(self, key: str) -> Marker | None:
        return read_marker(self.ledger, key, self._tracker)

    def _job(self, key: str, *, again: bool = False) -> Job:
        return Job(key=key, project=self._project, group=self._group, tags=self._tags, again=again)

    def close(
        self, wait_s: float = WAIT_S, meanwhile: Callable[[], None] | None = None, *, at_most_s: float = math.inf
    ) -> int:
        """Let the process finish its work, then end it; `meanwhile` is called again and again.

        wait_s: for how long no run need be logged, besides the time to send one; the process itself gives up a
            server that does not answer.
        Returns how many of the runs it was given are not logged, which online means uploaded. The next tracker takes
        up those that were not logged at all, and `sync` all of them.
        """
        is_open, self._closed = not self._closed, True
        if self._process and is_open:
            try:
                self._outbox.append(b"null\n")
                self._send()
                self._wait(self._process, wait_s, at_most_s, meanwhile)
            finally:
                self._end(self._process)
        return self._num_missing()

    def _wait(
        self, process: "subprocess.Popen[bytes]", wait_s: float, at_most_s: float, meanwhile: Callable[[], None] | None
    ) -> None:
        started = looked = moved = time.monotonic()
        num_missing = self._num_missing()
        wait_s += slow_s(self.ledger, self._given) if self.mode == "online" else 0.0
        while process.poll() is None and (now := time.monotonic()) < min(moved + wait_s, started + at_most_s):
            time.sleep(0.02)
            self._send()
            if meanwhile:
                meanwhile()
            if now - looked > 2:
                looked = now
                if (now_missing := self._num_missing()) < num_missing:
                    num_missing, moved = now_missing, now

    def _num_missing(self) -> int:
        is_online = self.mode == "online"
        return sum(not (is_uploaded(self.ledger, key) if is_online else self._marker(key)) for key in self._given)

    @property
    def problem(self) -> str | None:
        """The first thing that went wrong, in one line, or None."""
        if self._process and not self._closed:
            self._hear(self._process, status=self._process.poll())
        return self._problem

    def _put(self, job: Job) -> None:
        if self._closed or job["key"] in self._given:
            return
        self._given[job["key"]] = None
        self._tell(job)

    def _tell(self, message: Job | Following) -> None:
        self._outbox.append(json.dumps(message).encode() + b"\n")
        if self._process is None:
            self._start()
        self._send()

    def _start(self) -> None:
        order = {"ledger": str(self.ledger.resolve()), "parent": os.getpid()}
        order |= {"online": self.mode == "online", "tracker": self._tracker}
        try:
            self._process = subprocess.Popen(
                [*_PYTHON, "experiments.tracking.replayer", json.dumps(order | self._limits)],
                env=_with_project(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the program; this process ends with it, after its work
            )
        except OSError as fault:
            self._problem, self._closed = f"the tracker cannot start: {fault}", True
            return
        for pipe in (self._process.stdin, self._process.stdout):
            os.set_blocking(cast(IO[bytes], pipe).fileno(), False)

    def _send(self) -> None:
        """Write what the pipe takes; the rest waits for the next call."""
        while self._process and self._outbox:
            try:
                num_sent = os.write(cast(IO[bytes], self._process.stdin).fileno(), self._outbox[0])
            except BlockingIOError:
                return
            except OSError:  # it has ended; `problem` says how
                self._outbox.clear()
                return
            if num_sent < len(self._outbox[0]):
                self._outbox[0] = self._outbox[0][num_sent:]
            else:
                self._outbox.popleft()

    def _hear(self, process: "subprocess.Popen[bytes]", status: int | None) -> None:
        """Take what it has reported. status: how it ended by itself; None if it has not."""
        with suppress(BlockingIOError):
            while chunk := os.read(cast(IO[bytes], process.stdout).fileno(), 1 << 16):
                self._heard += chunk
        if self._heard.endswith(b"\n"):
            self._problem = self._problem or json.loads(self._heard)
        if status:
            self._problem = self._problem or f"the tracker ended with status {status}"

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        if (status := process.poll()) is None:
            process.terminate()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # with the upload that it started
                process.wait()
        self._hear(process, status)
        for pipe in (process.stdin, process.stdout):
            cast(IO[bytes], pipe).close()


def sync(ledger: Path, say: Callable[[str], None]) -> int:
    """Upload every run of the ledger that is not on the W&B server, each from fresh files.

    say: prints one line for the person who waits.
    Returns how many were uploaded. Raises UserError where the user is not logged in, or the server can't be reached.
    """
    jobs = not_uploaded(ledger)
    if not jobs:
        say(f"W&B: nothing to upload from {ledger}")
        return 0
    check_may_upload()
    say(f"W&B: uploading {len(jobs)} runs")
    num_said, looked_s = 0, time.monotonic()

    def num_uploaded() -> int:
        return sum(is_uploaded(ledger, job["key"]) for job in jobs)

    def progress() -> None:
        nonlocal num_said, looked_s
        if time.monotonic() - looked_s > 2:
            looked_s = time.monotonic()
            if num_said < (num := num_uploaded()) < len(jobs):
                say(f"W&B: {num} of {len(jobs)} runs uploaded")
                num_said = num

    tracker = Tracker(ledger, project="", group="", mode="online", stall_s=SYNC_STALL_S, hurry_s=PATIENCE_S)
    with tracker:
        for job in jobs:
            tracker._put(job)
        tracker.close(math.inf, progress)
    if (num := num_uploaded()) < len(jobs):
        raise UserError(f"W&B: {tracker.problem or 'the upload stopped'} ({num} of {len(jobs)} runs uploaded)")
    say(f"W&B: {num} runs uploaded")
    return num


def slow_s(ledger: Path, keys: Iterable[str]) -> float:
    """Seconds that sending the largest of these runs may take, going by its files in the ledger."""
    sizes = [sum(file.stat().st_size for file in (ledger / "runs" / key).glob("*")) for key in keys]
    return max(sizes, default=0) / SLOWEST_LINE


_PYTHON = (sys.executable, "-P", "-m")
"""Starts a module. -P: the folder it is started in has no say in what is imported."""


def _with_project() -> dict[str, str]:
    """An environment in which Python finds this project from any folder, and W&B's text is UTF-8 in any locale."""
    places = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places)), "PYTHONUTF8": "1"}


def offline_env(folder: str) -> dict[str, str]:
    """W&B without an account, a network or a file outside `folder`; the program's name hides the command line."""
    places = {f"WANDB_{kind}_DIR": f"{folder}/{kind.lower()}" for kind in ("DATA", "CACHE", "CONFIG", "ARTIFACT")}
    quiet = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    return {**quiet, **places, "WANDB_DIR": folder, "WANDB_PROGRAM": "stn-bench"}
