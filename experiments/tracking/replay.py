"""A run of the ledger as a W&B run: the program that a tracker starts. The only file that imports wandb.

W&B writes the paths it is told into its files and uploads some of them. So the working directory is the ledger, paths
are relative to it, and copies that W&B makes for an upload lie in a temporary folder, which is gone with the process.
"""

import contextlib
import itertools
import json
import os
import queue
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from experiments.machine.parent_death import end_with_parent
from experiments.tracking import record as record
from experiments.tracking.settings import at_home, upload_environment
from experiments.tracking.tracker import offline_env, slow_s
from experiments.tracking.upload import Server, Upload
from ledger.ledger import Ledger
from ledger.markers import Job, Marker, read_marker, write_marker

if TYPE_CHECKING:
    import wandb

UPLOAD_BATCH = 20
"""Runs that one `wandb sync` uploads; starting it costs as much as ten small runs."""

_KEPT = "upload failed, runs are kept here until the next sync"

_SECRET = re.compile(r"[A-Za-z0-9_=+]{32,}|//[^/\s@]*@")
"""What may be an API key, or credentials in an address: a careless server sends back what it was sent."""

# How an agent of a W&B sweep tells the program it starts which run of the sweep to be.
_AGENT = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH", "WANDB_PROJECT", "WANDB_ENTITY")

_WANDB = Path("wandb")

_PYTHON = (sys.executable, "-P", "-m", "experiments.tracking.replay")


def _serve(order: dict[str, Any]) -> None:
    """Replay the runs named on standard input, one line each, until `null`; the first problem to standard output."""
    os.nice(10)  # training comes first
    account = upload_environment(os.environ) if order["online"] else {}
    account |= {"WANDB_ERROR_REPORTING": "false", "WANDB_PROGRAM": "stn-bench"}
    agent = {name: os.environ[name] for name in _AGENT if name in os.environ} if "WANDB_SWEEP_ID" in os.environ else {}
    if "WANDB_SWEEP_PARAM_PATH" in agent:
        agent["WANDB_SWEEP_PARAM_PATH"] = os.path.abspath(agent["WANDB_SWEEP_PARAM_PATH"])
    os.chdir(order["ledger"])
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[name]
    scratch = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    tempfile.tempdir = os.environ["TMPDIR"] = scratch.name
    if at_home("~") is None:  # W&B will have one
        os.environ["HOME"] = account["HOME"] = scratch.name

    # Nothing that W&B prints may end up among the reports.
    commands, reports = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)

    def report(problem: str) -> None:
        if not reports.closed:
            reports.write(json.dumps(_SECRET.sub("...", " ".join(problem.split()))[:400]) + "\n")
            reports.close()  # the first says enough

    upload: Upload | None = None

    def leave(*_: object) -> NoReturn:
        if upload:
            upload.stop()
        scratch.cleanup()
        os._exit(1)

    signal.signal(signal.SIGTERM, leave)
    jobs: queue.Queue[Job | None] = queue.Queue()
    is_last = threading.Event()

    def listen() -> None:
        for line in commands:
            job = json.loads(line)
            if job is None:
                is_last.set()
            jobs.put(job)
            if job is None:
                return
        leave()  # the program has died: what is half written is written again next time

    threading.Thread(target=listen, daemon=True).start()
    try:
        (_WANDB / "logged").mkdir(parents=True, exist_ok=True)
        if order["online"]:
            try:
                server = _find_server(
                    account, scratch.name, lambda: order["hurry_s" if is_last.is_set() else "patience_s"]
                )
                command = [*_PYTHON, "--sync", str(os.getpid())]
                upload = Upload(command, account, Path(scratch.name), server, order["stall_s"])
            except Exception as fault:  # the files are written all the same
                report(f"{_KEPT}: W&B's settings cannot be read: {type(fault).__name__}: {fault}")
        os.environ.update(offline_env(scratch.name) | agent)
        waiting, batch = dict[str, Marker](), dict[Path, str]()
        is_proven, num_failures, away, ask_again_at, num_left = False, 0, "", 0.0, 0

        def arrived(folder: Path) -> None:
            write_marker(Path(), batch[folder], {**waiting.pop(batch[folder]), "uploaded": True})

        def complete(upload: Upload, keys: set[str]) -> str:
            """Send what the server lacks of the runs that it has in part: W&B's client would append all of it."""
            nonlocal batch
            there = {key: waiting[key] for key in batch.values() if key in keys}
            for project in sorted({marker["project"] for marker in there.values()}):
                ids = [agent.get("WANDB_RUN_ID", key) for key in there if there[key]["project"] == project]
                known = upload.ask([*_PYTHON, "--lines", str(os.getpid()), agent.get("WANDB_PROJECT", project), *ids])
                if not isinstance(known, dict):
                    return "the server does not say what it has of runs that are there already"
                for key, marker in there.items():
                    if (num_rows := known.get(agent.get("WANDB_RUN_ID", key))) is not None:
                        group, tags = marker["group"], marker["tags"]
                        job = Job(key=key, project=project, group=group, tags=tags, again=True)
                        waiting[key] = _replay(job, agent, num_rows)
            batch = {_WANDB / waiting[key]["folder"]: key for key in there}
            return upload.run(batch, arrived, slow_s=slow_s(Path(), there), resume=True)

        while True:
            job = jobs.get()
            if job:
                try:
                    with _lock():
                        if read_marker(Path(), job["key"]) is None or (job["again"] and (upload or agent)):
                            waiting[job["key"]] = _replay(job, agent)
                except Exception as fault:
                    report(f"run {job['key']} was not logged: {type(fault).__name__}: {fault}")
            # The first upload is of one run, to see whether it works at all; then as many as have come together. Where
            # a command waits for its end, all files are written first, and what does not work is not tried again.
            hurries = is_last.is_set() and order["hurry_s"] < order["patience_s"]
            while upload and waiting and time.monotonic() >= ask_again_at:
                if job and (hurries or (is_proven and not jobs.empty() and len(waiting) < UPLOAD_BATCH)):
                    break
                batch = {_WANDB / marker["folder"]: key for key, marker in waiting.items()}
                batch = dict(itertools.islice(batch.items(), UPLOAD_BATCH if is_proven else 1))
                with _lock():
                    tried = list(batch.values())
                    error = upload.run(batch, arrived, slow_s=slow_s(Path(), tried))
                    if there := {key for key in tried if agent.get("WANDB_RUN_ID", key) in upload.there}:
                        others = set(waiting) & set(tried) - there
                        error = complete(upload, there) or (error if others else "")
                failed = [key for key in tried if key in waiting]
                is_proven = is_proven or len(failed) < len(tried)
                if failed and upload.is_away:
                    away, ask_again_at = error, time.monotonic() + order["patience_s"]
                    break
                num_failures = num_failures + 1 if len(failed) == len(tried) else 0
                for key in failed:
                    del waiting[key]
                if error:
                    report(f"{_KEPT}: {error}")
                if upload.is_refused or num_failures == (1 if hurries else 2):  # one may be the fault of its runs
                    upload = None
            if job is None:
                if not hurries and upload and len(waiting) not in (0, num_left):  # somebody waits for them
                    num_left = len(waiting)
                    time.sleep(max(0.0, ask_again_at - time.monotonic()))
                    jobs.put(None)
                    continue
                if waiting and away:
                    report(f"{_KEPT}: {away}")
                return
    except Exception as fault:
        report(f"tracking stopped: {type(fault).__name__}: {fault}")


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """Keeps two trackers of one ledger from writing at once."""
    import fcntl

    with open(_WANDB / "lock", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed, also by a kill
        yield


def _replay(job: Job, agent: Mapping[str, str], num_there: int = 0) -> Marker:
    """Write W&B's offline files of one run, in place of any that are there, and its marker.

    num_there: rows of its history that the server has already. Their picture goes into the summary.
    Raises UserError for a run that is not as it was committed.
    """
    key = job["key"]
    Ledger(Path(), read_only=True).check(key)
    import wandb

    folder = Path("runs") / key
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
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
        summary = record.summary(run, cost) | _tables(run, folder, logged)
        for number, row in enumerate(_rows(run, folder, logged)):
            if number >= num_there:
                logged.log(row, step=number)
            else:
                summary |= {name: value for name, value in row.items() if isinstance(value, wandb.Image)}
        logged.summary.update(summary)
        if (folder / "weights.safetensors").exists():
            weights = wandb.Artifact(f"weights-{key}", type="model", metadata=record.summary(run, cost))
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
    # W&B's terminal dashboard lists runs by their folders and reads the id behind "run-", date and time.
    written = written.rename(_WANDB / f"offline-run-{record.file_name(run)}-{written.name.removeprefix('offline-')}")
    marker["folder"] = written.name
    write_marker(Path(), key, marker)
    return marker


def _rows(run: dict[str, Any], folder: Path, logged: "wandb.Run") -> Iterator[dict[str, Any]]:
    """What the run logs, row by row; says first what each number is over.

    The picture comes with the last epoch; the curves over transformed images follow it.
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
    if (folder / "transformer.png").exists():
        caption = "images before and after the transformer"
        epochs[-1]["transformer"] = wandb.Image(str(folder / "transformer.png"), caption=caption)
    yield from (row for row in [*epochs, *curves] if row)


def _tables(run: dict[str, Any], folder: Path, logged: "wandb.Run") -> dict[str, Any]:
    """The run's tables, for its summary: in its history W&B's terminal dashboard draws how many rows each has."""
    import wandb

    found = record.tables(run, _read_json(folder / "robustness.json", {}))
    tables: dict[str, Any] = {name: wandb.Table([*table.columns], [*table.rows]) for name, table in found.items()}
    classes = run["task"]["classes"]
    if (folder / "predictions.safetensors").exists() and len(classes) <= record.MAX_CONFUSION_CLASSES:
        import safetensors.numpy

        said = safetensors.numpy.load_file(folder / "predictions.safetensors")
        tables["confusion"] = wandb.plot.confusion_matrix(
            y_true=said["label"].tolist(),
            preds=said["predicted"].tolist(),
            class_names=classes,
            title="Confusion (test images)",
        )
    return logged._serialize_custom_charts(tables)


def _read_json(file: Path, missing: Any) -> Any:
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else missing


def _find_server(account: Mapping[str, str], folder: str, patience_s: Callable[[], float]) -> Server:
    """The server that `wandb sync` uploads to with this environment: W&B itself works out which."""
    import wandb

    os.environ.update({name: value for name, value in account.items() if name.startswith("WANDB_")})
    os.environ["WANDB_DIR"] = folder
    try:
        settings = wandb.Settings()
        settings.update_from_system_settings()
        settings.update_from_env_vars(dict(os.environ))
    finally:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            del os.environ[name]
    proxies = {"http": settings.http_proxy, "https": settings.https_proxy}
    return Server(settings.base_url, {scheme: proxy for scheme, proxy in proxies.items() if proxy}, patience_s)


def _has_credentials() -> bool:
    """Whether W&B finds an API key or a token for its server, without asking it."""
    os.environ.update({"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"})
    from wandb.sdk import wandb_setup
    from wandb.sdk.lib import wbauth

    host = wandb_setup.singleton().settings.base_url
    return wbauth.authenticate_session(host=host, source="stn-bench", prompt=False, update_session=False) is not None


def _sync(parent: int, arguments: list[str]) -> None:
    """Become `wandb sync`, which ends with its parent."""
    import runpy

    end_with_parent(parent, signal.SIGKILL)
    sys.argv = ["wandb", "sync", *arguments]
    runpy.run_module("wandb", run_name="__main__")


def _count_lines(parent: int, project: str, run_ids: list[str]) -> None:
    """Print how many rows of each run's history the server has; {"id": rows}."""
    end_with_parent(parent, signal.SIGKILL)
    import wandb

    query = """query Rows($project: String, $entity: String, $name: String!) {
        model(name: $project, entityName: $entity) { bucket(name: $name, missingOk: true) { historyLineCount } } }"""
    api = wandb.Api(timeout=10)
    counts = {}
    for run_id in run_ids:
        place = {"project": project, "entity": os.environ.get("WANDB_ENTITY") or None, "name": run_id}
        model: Any = api._service_api.execute_graphql(query, place)["model"]
        counts[run_id] = ((model or {}).get("bucket") or {}).get("historyLineCount") or 0
    print(json.dumps(counts), flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.argv[1] == "--logged-in":
        sys.exit(0 if _has_credentials() else 1)
    if sys.argv[1] == "--sync":
        _sync(int(sys.argv[2]), sys.argv[3:])
    elif sys.argv[1] == "--lines":
        _count_lines(int(sys.argv[2]), sys.argv[3], sys.argv[4:])
    else:
        order = json.loads(sys.argv[1])
        end_with_parent(order["parent"], signal.SIGTERM)
        _serve(order)
