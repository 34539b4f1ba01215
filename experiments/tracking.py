"""W&B: the runs of the ledger, replayed to it.

A run never talks to W&B. When it is committed to the ledger, one other process replays it from the ledger's files, so
that no fault of W&B can fail, slow or change a run, and every run of the ledger is one W&B run, whose id is its key.
A replay first writes W&B's offline files, which needs no account and no network. Online, `wandb sync` then uploads
them; where that fails they stay, and `sync` uploads them later. This module is the only one that imports wandb, and
does so in that process alone.

Inside `<ledger>/wandb/`: `offline-run-*/` are W&B's files, and `logged/<key>` says that a run was replayed and whether
it was uploaded.
"""

import collections
import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, NoReturn, Self, TypedDict, cast

from experiments.errors import UserError, nearest

Mode = Literal["online", "offline", "disabled"]

WAIT_S = 30.0
"""How long a tracker that is closed normally may go on logging what it was given."""

UPLOAD_BATCH = 20
"""Runs that one `wandb sync` uploads; starting it costs as much as ten small runs."""

STALL_S = 60.0
"""An upload in the background that finishes no run for so long has failed."""

SYNC_STALL_S = 600.0
"""The same for an upload that somebody asked for and waits for."""

# What makes an upload fail in seconds rather than hours: W&B's own defaults retry for as long as the server is away.
_FEW_RETRIES = {
    "WANDB_HTTP_TIMEOUT": "20",
    "WANDB__GRAPHQL_RETRY_MAX": "1",
    "WANDB__GRAPHQL_RETRY_WAIT_MIN_SECONDS": "1",
    "WANDB__GRAPHQL_RETRY_WAIT_MAX_SECONDS": "2",
    "WANDB__FILE_STREAM_RETRY_MAX": "2",
    "WANDB__FILE_TRANSFER_RETRY_MAX": "2",
}

# Of the user's W&B variables, those that say where and as whom to upload; the rest describe some other run.
_ACCOUNT = (
    "WANDB_API_KEY",
    "WANDB_APP_URL",
    "WANDB_BASE_URL",
    "WANDB_CONFIG_DIR",
    "WANDB_CREDENTIALS_FILE",
    "WANDB_ENTITY",
    "WANDB_HTTP_PROXY",
    "WANDB_HTTPS_PROXY",
    "WANDB_IDENTITY_TOKEN_FILE",
    "WANDB_INSECURE_DISABLE_SSL",
    "WANDB_X_EXTRA_HTTP_HEADERS",
    "WANDB__EXTRA_HTTP_HEADERS",
)

# How an agent of a W&B sweep tells the program it starts which run of the sweep to be.
_AGENT = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_PROJECT", "WANDB_ENTITY")


class Job(TypedDict):
    """One run to replay. `again`: also where it was replayed before, as an upload starts from fresh files."""

    key: str
    project: str
    group: str
    tags: list[str]
    again: bool


class Marker(TypedDict):
    """That a run was replayed: to what, into which folder of `<ledger>/wandb`, and whether it was uploaded."""

    project: str
    group: str
    tags: list[str]
    folder: str
    uploaded: bool


def resolve_mode(mode: str) -> Mode:
    """Where runs are tracked; no network is used to find out.

    mode: `auto` is online where the user is logged in to W&B, else offline; WANDB_MODE, if set, decides instead.
    Raises UserError for an unknown mode, and for `online` where the user is not logged in.
    """
    known: dict[str, Mode] = {"online": "online", "offline": "offline", "disabled": "disabled"}
    if mode == "auto":
        mode = {"dryrun": "offline", "run": "online"}.get(chosen := os.environ.get("WANDB_MODE", ""), chosen)
        if not mode:
            return "online" if _logged_in() else "offline"
        if mode not in known:
            raise UserError(f"environment: WANDB_MODE: {mode!r} is no mode; {nearest(mode, known)}")
    if mode not in known:
        raise UserError(f"W&B mode: {mode!r} is no mode; {nearest(mode, [*known, 'auto'])}")
    if mode == "online" and not _logged_in():
        raise UserError(_NOT_LOGGED_IN)
    return known[mode]


_NOT_LOGGED_IN = "not logged in to W&B: run `python -m wandb login`, or set WANDB_API_KEY"


def _logged_in() -> bool:
    """Whether there are credentials for the server that W&B is set up for; says nothing on whether they are valid."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    settings = os.environ.get("WANDB_CONFIG_DIR", "~/.config/wandb") + "/settings"
    places = (os.environ.get("NETRC") or "~/.netrc", "~/_netrc", settings)
    if not any(Path(place).expanduser().exists() for place in places):
        return False  # without starting W&B, which costs a second
    try:
        asked = subprocess.run(
            [*_PYTHON, "--logged-in"], env=_with_project(os.environ), timeout=30, capture_output=True
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return asked.returncode == 0


class Tracker:
    """Replays runs to W&B as they are committed, in a process of its own; a context manager.

    Nothing here raises for a fault of W&B, and `log` returns at once. The process starts with the first run that
    needs it and ends with this one, however that ends; what it had not logged is logged by the next tracker.

    Args:
        ledger: folder of the finished runs.
        project: W&B project.
        group: W&B group; the study's name.
        mode: as `resolve_mode` returns it.
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
    ) -> None:
        self.ledger, self.mode = ledger, mode
        self._project, self._group, self._tags, self._keys = project, group, list(tags), list(keys)
        self._stall_s = stall_s
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

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(WAIT_S if kind is None else 2.0)

    def log(self, key: str) -> None:
        """Have the run logged that is in the ledger under `key`; once, however often it is asked for."""
        # A run that a W&B agent started belongs to the agent's sweep, whatever was logged before.
        again = bool(os.environ.get("WANDB_SWEEP_ID"))
        if self.mode != "disabled" and (again or read_marker(self.ledger, key) is None):
            self._put(Job(key=key, project=self._project, group=self._group, tags=self._tags, again=again))

    def close(self, wait_s: float = WAIT_S) -> int:
        """Let the process finish its work, for so long, then end it.

        Returns how many of the runs it was given are not logged, which online means uploaded. The next tracker takes
        up those that were not logged at all, and `sync` all of them.
        """
        if self._process and not self._closed:
            self._closed = True
            self._outbox.append(b"null\n")
            self._send()
            deadline = time.monotonic() + wait_s
            while self._process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.02)
                self._send()
            self._end(self._process)
        self._closed = True
        logged = _is_uploaded if self.mode == "online" else read_marker
        return sum(not logged(self.ledger, key) for key in self._given)

    @property
    def problem(self) -> str | None:
        """The first thing that went wrong, in one line, or None."""
        if self._process and not self._closed:
            self._hear(self._process)
            if self._process.poll():
                self._problem = self._problem or f"W&B: the tracker ended with status {self._process.returncode}"
        return self._problem

    def _put(self, job: Job) -> None:
        if self._closed or job["key"] in self._given:
            return
        self._given[job["key"]] = None
        self._outbox.append(json.dumps(job).encode() + b"\n")
        if self._process is None:
            self._start()
        self._send()

    def _start(self) -> None:
        order = {"ledger": str(self.ledger.resolve()), "online": self.mode == "online", "stall_s": self._stall_s}
        try:
            self._process = subprocess.Popen(
                [*_PYTHON, json.dumps(order)],
                env=_with_project(os.environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the program; this process ends with it, after its work
            )
        except OSError as fault:
            self._problem, self._closed = f"W&B: the tracker cannot start: {fault}", True
            return
        for pipe in (self._process.stdin, self._process.stdout):
            os.set_blocking(cast(IO[bytes], pipe).fileno(), False)

    def _send(self) -> None:
        """Write what the pipe takes; the rest waits for the next call. A line this short is written whole or not."""
        while self._process and self._outbox:
            try:
                os.write(cast(IO[bytes], self._process.stdin).fileno(), self._outbox[0])
            except BlockingIOError:
                return
            except OSError:  # it has ended; `problem` says how
                self._outbox.clear()
                return
            self._outbox.popleft()

    def _hear(self, process: "subprocess.Popen[bytes]") -> None:
        try:
            while chunk := os.read(cast(IO[bytes], process.stdout).fileno(), 1 << 16):
                self._heard += chunk
        except BlockingIOError:
            pass
        *lines, self._heard = self._heard.split(b"\n")
        for line in lines:
            self._problem = self._problem or json.loads(line)

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        elif process.returncode:
            self._hear(process)
            self._problem = self._problem or f"W&B: the tracker ended with status {process.returncode}"
        self._hear(process)
        for pipe in (process.stdin, process.stdout):
            cast(IO[bytes], pipe).close()


def log_run(
    ledger: Path, key: str, *, project: str, group: str, mode: Mode, tags: Iterable[str] = (), wait_s: float = WAIT_S
) -> str | None:
    """Replay one run and wait for it; arguments as of `Tracker`. Returns what went wrong, in one line, or None."""
    with Tracker(ledger, project=project, group=group, mode=mode, tags=tags) as tracker:
        tracker.log(key)
        missing = tracker.close(wait_s)
    return tracker.problem or (f"W&B: run {key} was not logged within {wait_s:g} s" if missing else None)


def sync(ledger: Path, say: Callable[[str], None]) -> int:
    """Upload every run of the ledger that is not on the W&B server, each from fresh files.

    say: prints one line for the person who waits.
    Returns how many were uploaded. Raises UserError where the user is not logged in, or the server can't be reached.
    """
    jobs = _not_uploaded(ledger)
    if not jobs:
        say(f"W&B: nothing to upload from {ledger}")
        return 0
    if not _logged_in():
        raise UserError(_NOT_LOGGED_IN)
    say(f"W&B: uploading {len(jobs)} runs")
    said = done = 0
    with Tracker(ledger, project="", group="", mode="online", stall_s=SYNC_STALL_S) as tracker:
        for job in jobs:
            tracker._put(job)
        tracker._outbox.append(b"null\n")
        while tracker._process and tracker._process.poll() is None and tracker.problem is None:
            tracker._send()
            time.sleep(0.2)
            done = sum(_is_uploaded(ledger, job["key"]) for job in jobs)
            if done > said and done < len(jobs):
                say(f"W&B: {done} of {len(jobs)} runs uploaded")
                said = done
        tracker.close(5.0)
    done = sum(_is_uploaded(ledger, job["key"]) for job in jobs)
    if done < len(jobs):
        raise UserError(f"{tracker.problem or 'W&B: the upload stopped'} ({done} of {len(jobs)} runs uploaded)")
    say(f"W&B: {done} runs uploaded")
    return done


def dashboard(ledger: Path) -> NoReturn:
    """Become `wandb leet`, the terminal dashboard, on the ledger's runs. Raises UserError if none was logged yet."""
    folder = ledger / "wandb"
    if not any(folder.glob("offline-run-*/*.wandb")):
        raise UserError(f"{folder}: no runs to show yet; a sweep or a run writes them")
    command = [sys.executable, "-P", "-m", "wandb", "leet", str(folder)]
    places = _offline_env(str(folder)) | {"WANDB_DIR": tempfile.gettempdir()}  # for its log, named for the user
    os.execve(command[0], command, _without_wandb(os.environ) | places)


def read_marker(ledger: Path, key: str) -> Marker | None:
    """What is known of the run's replay; None if it was not replayed, or not to its end."""
    try:
        return cast(Marker, json.loads((ledger / "wandb" / "logged" / key).read_text()))
    except (OSError, ValueError):
        return None


def _is_uploaded(ledger: Path, key: str) -> bool:
    marker = read_marker(ledger, key)
    return marker is not None and marker["uploaded"]


def _not_uploaded(ledger: Path) -> list[Job]:
    """The ledger's runs that were replayed or belong to a study, and are not on the server."""
    studies: dict[str, Job] = {}
    for file in sorted(ledger.glob("studies/*/study.json")):
        try:
            study = json.loads(file.read_text())
            for arm in study["arms"]:
                for key in (*arm["trials"], *arm["finals"]):
                    tags = [study["budget"]]
                    studies[key] = Job(
                        key=key, project=study["wandb_project"], group=study["study"], tags=tags, again=True
                    )
        except (OSError, ValueError, KeyError, TypeError) as fault:
            raise UserError(f"{file}: not a study: {type(fault).__name__}: {fault}") from None
    jobs = []
    for folder in sorted(ledger.glob("runs/*/run.json")):
        key = folder.parent.name
        marker = read_marker(ledger, key)
        if marker and not marker["uploaded"]:
            jobs.append(Job(key=key, project=marker["project"], group=marker["group"], tags=marker["tags"], again=True))
        elif marker is None and key in studies:
            jobs.append(studies[key])
    return jobs


_PYTHON = (sys.executable, "-P", "-m", "experiments.tracking")
"""This module as a program. -P: the folder it is started in has no say in what is imported."""


def _with_project(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which Python finds this project from any folder."""
    places = [str(Path(__file__).resolve().parents[1]), environment.get("PYTHONPATH", "")]
    return {**environment, "PYTHONPATH": os.pathsep.join(place for place in places if place)}


def _without_wandb(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith("WANDB_")}


def _offline_env(folder: str) -> dict[str, str]:
    """W&B without an account, a network or a file outside `folder`; the program's name hides the command line."""
    places = {f"WANDB_{kind}_DIR": f"{folder}/{kind.lower()}" for kind in ("DATA", "CACHE", "CONFIG", "ARTIFACT")}
    quiet = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}
    return {**quiet, **places, "WANDB_DIR": folder, "WANDB_PROGRAM": "stn-bench"}


# From here on: what runs in the tracker's process, the only one that imports wandb. W&B writes the paths it is told
# into its files and uploads some of them. So the working directory is the ledger, paths are relative to it, and copies
# that W&B makes for an upload lie in a temporary folder; they are gone with the process, as is their use.

_WANDB = Path("wandb")


class _Upload:
    """`wandb sync`, as one process that can be stopped at any time."""

    def __init__(self, account: Mapping[str, str], stall_s: float, scratch: str) -> None:
        self._account, self._stall_s, self._scratch = account, stall_s, scratch
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, folders: list[str]) -> str | None:
        """Upload runs; W&B leaves a `.synced` file by each that is complete. Returns the first error it printed."""
        with tempfile.TemporaryFile() as output:
            command = [sys.executable, "-P", "-m", "wandb", "sync"]
            if entity := self._account.get("WANDB_ENTITY"):  # it does not read this one itself
                command += ["--entity", entity]
            # Its log carries the user's name, so it must not land in the ledger; without this folder, in none at all.
            Path(self._scratch, "wandb").mkdir(exist_ok=True)
            places = {f"WANDB_{kind}DIR": self._scratch for kind in ("", "CACHE_", "DATA_")}
            self._process = subprocess.Popen(
                [*command, *(str(_WANDB / folder) for folder in folders)],
                env={**self._account, **places},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            stalled = False
            done, since = 0, time.monotonic()
            while self._process.poll() is None and not stalled:
                time.sleep(0.05)
                if (now_done := sum(_is_synced(folder) for folder in folders)) > done:
                    done, since = now_done, time.monotonic()
                stalled = time.monotonic() - since > self._stall_s
            self.stop()
            output.seek(0)
            lines = output.read().decode(errors="replace").splitlines()
        if all(_is_synced(folder) for folder in folders):
            return None
        if stalled:
            return f"no run finished within {self._stall_s:g} s"
        errors = [line.partition("ERROR ")[2] or line.partition("Error: ")[2] for line in lines]
        errors = [error for error in errors if error and not error.startswith("Find detailed error logs")]
        return ", ".join(errors[:2]) or f"`wandb sync` ended with status {self._process.returncode}"

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _is_synced(folder: str) -> bool:
    return any((_WANDB / folder).glob("run-*.wandb.synced"))


def _serve(order: dict[str, Any]) -> None:
    """Replay the runs named on standard input, one line each, until `null`; report problems on standard output."""
    os.nice(10)  # training comes first
    account = {**_without_wandb(os.environ), **{name: os.environ[name] for name in _ACCOUNT if name in os.environ}}
    account |= _FEW_RETRIES | {"WANDB_ERROR_REPORTING": "false", "WANDB_PROGRAM": "stn-bench"}
    agent = {name: os.environ[name] for name in _AGENT if name in os.environ} if "WANDB_SWEEP_ID" in os.environ else {}
    if "WANDB_SWEEP_PARAM_PATH" in agent:
        agent["WANDB_SWEEP_PARAM_PATH"] = os.path.abspath(agent["WANDB_SWEEP_PARAM_PATH"])
    os.chdir(order["ledger"])
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[name]
    scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    os.environ.update(_offline_env(scratch.name) | agent)

    # Nothing that W&B prints may end up among the reports.
    commands, reports = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w", buffering=1)
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)

    def report(problem: str) -> None:
        reports.write(json.dumps(" ".join(problem.split())[:400]) + "\n")

    upload = _Upload(account, order["stall_s"], scratch.name)

    def leave(*_: object) -> NoReturn:
        upload.stop()
        scratch.cleanup()
        os._exit(1)

    signal.signal(signal.SIGTERM, leave)
    jobs: queue.Queue[Job | None] = queue.Queue()

    def listen() -> None:
        for line in commands:
            jobs.put(job := json.loads(line))
            if job is None:
                return
        leave()  # the program has died: what is half written is written again next time

    threading.Thread(target=listen, daemon=True).start()
    try:
        (_WANDB / "logged").mkdir(parents=True, exist_ok=True)
        online, proven, failures, waiting = order["online"], False, 0, dict[str, Marker]()
        while True:
            job = jobs.get()
            if job:
                try:
                    with _lock():
                        if not (_WANDB / "logged" / job["key"]).exists() or (job["again"] and (online or agent)):
                            waiting[job["key"]] = _replay(job, agent)
                except Exception as fault:
                    report(f"W&B: run {job['key']} was not logged: {type(fault).__name__}: {fault}")
            # The first upload is of one run, to see whether it works at all; then as many as have come together.
            if online and waiting and (not proven or job is None or jobs.empty() or len(waiting) >= UPLOAD_BATCH):
                with _lock():
                    error = upload.run([marker["folder"] for marker in waiting.values()])
                    uploaded = {key: marker for key, marker in waiting.items() if _is_synced(marker["folder"])}
                    for key, marker in uploaded.items():
                        _write_marker(key, {**marker, "uploaded": True})
                waiting.clear()
                proven, failures = proven or bool(uploaded), 0 if uploaded else failures + 1
                online = failures < 2  # one may be the fault of its runs
                if error:
                    report(f"W&B: upload failed, runs are kept here until the next sync: {error}")
            if job is None:
                return
    except Exception as fault:
        report(f"W&B: tracking stopped: {type(fault).__name__}: {fault}")


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """Keeps two trackers of one ledger from writing at once."""
    import fcntl

    with open(_WANDB / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed, also by a kill
        yield


def _replay(job: Job, agent: Mapping[str, str]) -> Marker:
    """Write W&B's offline files of one run, in place of any that are there, and its marker."""
    import wandb

    key = job["key"]
    folder = Path("runs") / key
    run = json.loads((folder / "run.json").read_text())
    history = _read_json(folder / "history.json", [])
    cost = _read_json(folder / "cost.json", {})
    run_id = agent.get("WANDB_RUN_ID", key)
    marker = Marker(project=job["project"], group=job["group"], tags=job["tags"], folder="", uploaded=False)

    (_WANDB / "logged" / key).unlink(missing_ok=True)
    for leftover in [*_WANDB.glob(f"offline-run-*-{run_id}"), *_WANDB.glob(f"offline-run-*-{run_id}-*")]:
        shutil.rmtree(leftover, ignore_errors=True)

    config = run["config"]
    settings = wandb.Settings(
        mode="offline",
        root_dir=".",
        use_dot_wandb=False,
        run_name=f"{config['variant']} s{config['seed']}",
        run_group=job["group"],
        run_job_type=config["stage"],
        run_tags=_tags(run, job["tags"]),
        # Nothing of the machine, the user, the command or the repository.
        host="",
        program="stn-bench",
        x_executable="python",
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        disable_git=True,
        disable_code=True,
        save_code=False,
        disable_job_creation=True,
        label_disable=True,
        sagemaker_disable=True,
        console="off",
        silent=True,
        symlink=False,
        reinit="finish_previous",
    )
    if not agent:  # otherwise the agent has named both
        settings.run_id, settings.project = key, job["project"]

    logged = wandb.init(settings=settings, config=_config(run, cost))
    written = Path(logged.dir).parent
    try:
        logged.define_metric("epoch")
        logged.define_metric("*", step_metric="epoch")
        rows = [_slashed(row) for row in history] or [{}]
        if scores := _class_scores(run):
            rows[-1]["class_accuracy"] = wandb.Table(columns=scores[0], data=scores[1])
        if (folder / "transformer.png").exists():
            rows[-1]["transformer"] = wandb.Image(
                str(folder / "transformer.png"), caption="images before and after the transformer"
            )
        for row in rows:
            if row:
                logged.log(row)
        logged.summary.update(_summary(run, cost))
        if (folder / "weights.safetensors").exists():
            weights = wandb.Artifact(f"weights-{key}", type="model", metadata=_summary(run, cost))
            # The ledger's file never changes, so W&B need not copy it.
            weights.add_file(str(folder / "weights.safetensors"), policy="immutable", skip_cache=True)
            logged.log_artifact(weights)
        logged.finish(exit_code=1 if run["status"] in ("failed", "diverged") else 0)
    except BaseException:
        logged.finish(exit_code=1)
        shutil.rmtree(written, ignore_errors=True)
        raise
    if not (written / f"run-{run_id}.wandb").stat().st_size:
        raise OSError(f"{written}: W&B wrote nothing")
    for scraps in ("logs", "tmp"):
        shutil.rmtree(written / scraps, ignore_errors=True)
    marker["folder"] = written.name
    _write_marker(key, marker)
    return marker


def _read_json(file: Path, missing: Any) -> Any:
    return json.loads(file.read_text()) if file.exists() else missing


def _write_marker(key: str, marker: Marker) -> None:
    place = _WANDB / "logged" / key
    with open(place.with_name(f".{key}"), "w") as beside:
        json.dump(marker, beside)
        beside.flush()
        os.fsync(beside.fileno())
    os.replace(beside.name, place)


def _split_variant(variant: str) -> tuple[str, str, str]:
    """Model, backbone (empty: the model's own) and augmentation policy of MODEL[@BACKBONE][+POLICY]."""
    network, _, policy = variant.partition("+")
    model, _, backbone = network.partition("@")
    return model, backbone, policy or "none"


def _tags(run: dict[str, Any], more: list[str]) -> tuple[str, ...]:
    model, _, policy = _split_variant(run["config"]["variant"])
    pose = run["config"]["pose"]
    tags = [run["task"]["label"], model, f"pose {pose}", f"policy {policy}", run["status"], *more]
    return tuple(dict.fromkeys(tag[:64] for tag in tags if tag))  # W&B refuses longer ones


def _config(run: dict[str, Any], cost: dict[str, Any]) -> dict[str, Any]:
    """The run's configuration, and what tells its task, protocol and machine apart."""
    model, backbone, policy = _split_variant(run["config"]["variant"])
    task = run["task"]
    return {
        **run["config"],
        "key": run["key"],
        "names": {"model": model, "backbone": backbone, "policy": policy},
        "task": {
            "name": task["name"],
            "label": task["label"],
            "content_hash": task["content_hash"],
            "num_classes": len(task["classes"]),
        },
        "protocol_hash": run["protocol_hash"],
        **{name: cost[name] for name in ("device", "device_name", "threads", "versions", "started") if name in cost},
    }


def _slashed(row: dict[str, Any]) -> dict[str, Any]:
    """One epoch as W&B groups charts: train_loss is train/loss. What was not measured is left out."""
    slashed = {}
    for name, value in row.items():
        part, _, rest = name.partition("_")
        if value is not None:
            slashed[f"{part}/{rest}" if part in ("train", "val", "test") and rest else name] = value
    return slashed


def _class_scores(run: dict[str, Any]) -> tuple[list[str | int], list[Iterable[Any]]] | None:
    """Column names and one row a class; None if nothing was scored."""
    columns = {part: run["result"].get(f"{part}_class_accuracy") for part in ("val", "test")}
    columns = {f"{part}_accuracy": values for part, values in columns.items() if values}
    if not columns:
        return None
    rows = zip(run["task"]["classes"], *columns.values(), strict=True)
    return ["class", *columns], [list(row) for row in rows]


def _summary(run: dict[str, Any], cost: dict[str, Any]) -> dict[str, Any]:
    """The numbers a run is compared by; what it does not have is left out."""
    scores = {name: value for name, value in run["result"].items() if not isinstance(value, list)}
    costs = {name: cost.get(name) for name in ("train_seconds", "seconds", "images_per_s", "peak_memory_mib")}
    summary = {"status": run["status"], "error": run.get("error"), **scores, **costs}
    return {name: value for name, value in summary.items() if value is not None}


def _has_credentials() -> bool:
    """Whether W&B finds an API key or a token for its server, without asking it."""
    os.environ.update({"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"})
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib import wbauth

    host = wandb_setup.singleton().settings.base_url
    return wbauth.authenticate_session(host=host, source="stn-bench", prompt=False, update_session=False) is not None


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.argv[1] == "--logged-in":
        sys.exit(0 if _has_credentials() else 1)
    _serve(json.loads(sys.argv[1]))
