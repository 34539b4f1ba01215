"""A run of the ledger as a W&B run: the program that a tracker starts. The only file that imports wandb.

W&B writes the paths it is told into its files and uploads some of them. So the working directory is the ledger, paths
are relative to it, and copies that W&B makes for an upload lie in a temporary folder, which is gone with the process.
"""

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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from experiments import wandb_record as record
from experiments.tracking import Job, Marker, offline_env, read_marker, without_wandb

if TYPE_CHECKING:
    import wandb

UPLOAD_BATCH = 20
"""Runs that one `wandb sync` uploads; starting it costs as much as ten small runs."""

# What makes an upload fail in seconds rather than hours: W&B's own defaults retry for as long as the server is away.
FEW_RETRIES = {
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
    """Replay the runs named on standard input, one line each, until `null`; the first problem to standard output."""
    os.nice(10)  # training comes first
    account = {**without_wandb(os.environ), **{name: os.environ[name] for name in _ACCOUNT if name in os.environ}}
    account |= FEW_RETRIES | {"WANDB_ERROR_REPORTING": "false", "WANDB_PROGRAM": "stn-bench"}
    agent = {name: os.environ[name] for name in _AGENT if name in os.environ} if "WANDB_SWEEP_ID" in os.environ else {}
    if "WANDB_SWEEP_PARAM_PATH" in agent:
        agent["WANDB_SWEEP_PARAM_PATH"] = os.path.abspath(agent["WANDB_SWEEP_PARAM_PATH"])
    os.chdir(order["ledger"])
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[name]
    scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    tempfile.tempdir = os.environ["TMPDIR"] = scratch.name
    os.environ.update(offline_env(scratch.name) | agent)

    # Nothing that W&B prints may end up among the reports.
    commands, reports = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)

    def report(problem: str) -> None:
        if not reports.closed:
            reports.write(json.dumps(" ".join(problem.split())[:400]) + "\n")
            reports.close()  # the first says enough

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
                        if read_marker(Path(), job["key"]) is None or (job["again"] and (online or agent)):
                            waiting[job["key"]] = _replay(job, agent)
                except Exception as fault:
                    report(f"run {job['key']} was not logged: {type(fault).__name__}: {fault}")
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
                    report(f"upload failed, runs are kept here until the next sync: {error}")
            if job is None:
                return
    except Exception as fault:
        report(f"tracking stopped: {type(fault).__name__}: {fault}")


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
    cost = _read_json(folder / "cost.json", {})
    run_id = agent.get("WANDB_RUN_ID", key)
    marker = Marker(project=job["project"], group=job["group"], tags=job["tags"], folder="", uploaded=False)

    (_WANDB / "logged" / key).unlink(missing_ok=True)
    for leftover in [*_WANDB.glob(f"offline-run-*-{run_id}"), *_WANDB.glob(f"offline-run-*-{run_id}-*")]:
        shutil.rmtree(leftover, ignore_errors=True)

    settings = wandb.Settings(
        mode="offline",
        root_dir=".",
        use_dot_wandb=False,
        run_name=record.run_name(run),
        run_group=job["group"],
        run_job_type=run["config"]["stage"],
        run_tags=record.tags(run, job["tags"]),
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

    logged = wandb.init(settings=settings, config=record.config(run, cost))
    written = Path(logged.dir).parent
    try:
        for row in _rows(run, folder, logged):
            logged.log(row)
        summary = record.summary(run, cost)
        logged.summary.update(summary)
        if (folder / "weights.safetensors").exists():
            weights = wandb.Artifact(f"weights-{key}", type="model", metadata=summary)
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


def _rows(run: dict[str, Any], folder: Path, logged: "wandb.Run") -> Iterator[dict[str, Any]]:
    """What the run logs, row by row; says first what each number is over.

    Tables and pictures come with the last epoch; the curves over transformed images follow it.
    """
    import wandb

    robustness = _read_json(folder / "robustness.json", {})
    curves = list(record.curves(robustness))
    logged.define_metric("epoch", hidden=True)
    logged.define_metric("lr", step_metric="epoch", summary="none")  # at the end it is nearly 0, whatever it was
    axes = record.curve_axes(curves)
    for axis in dict.fromkeys(axes.values()):
        logged.define_metric(axis, hidden=True, summary="none")
    for name, axis in axes.items():
        logged.define_metric(name, step_metric=axis, summary="none")
    logged.define_metric("*", step_metric="epoch")

    epochs = record.history(run, _read_json(folder / "history.json", [])) or [{}]
    for name, table in record.tables(run, robustness).items():
        epochs[-1][name] = wandb.Table(columns=[*table.columns], data=[*table.rows])
    if (folder / "transformer.png").exists():
        caption = "images before and after the transformer"
        epochs[-1]["transformer"] = wandb.Image(str(folder / "transformer.png"), caption=caption)
    classes = run["task"]["classes"]
    if (folder / "predictions.safetensors").exists() and len(classes) <= record.MAX_CONFUSION_CLASSES:
        import safetensors.numpy

        said = safetensors.numpy.load_file(folder / "predictions.safetensors")
        epochs[-1]["confusion"] = wandb.plot.confusion_matrix(
            y_true=said["label"].tolist(),
            preds=said["predicted"].tolist(),
            class_names=classes,
            title="Confusion (test images)",
        )
    yield from (row for row in [*epochs, *curves] if row)


def _read_json(file: Path, missing: Any) -> Any:
    return json.loads(file.read_text()) if file.exists() else missing


def _write_marker(key: str, marker: Marker) -> None:
    place = _WANDB / "logged" / key
    with open(place.with_name(f".{key}"), "w") as beside:
        json.dump(marker, beside)
        beside.flush()
        os.fsync(beside.fileno())
    os.replace(beside.name, place)


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
