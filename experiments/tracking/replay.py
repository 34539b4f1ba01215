"""W&B as a sink (sink.py), and what W&B's client knows of its server. The only file that imports wandb.

The working directory is the ledger: W&B writes the paths it is told into its files, and uploads some of those.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.machine.parent_death import end_with_parent
from experiments.tracking import logged_values
from experiments.tracking.logged_values import Json
from experiments.tracking.upload import Server
from ledger.markers import Following, Job

if TYPE_CHECKING:
    import wandb

WANDB = Path("wandb")
SETTINGS: dict[str, Any] = {
    "mode": "offline",
    "root_dir": ".",
    "use_dot_wandb": False,
    # Nothing of the machine, the user, the command or the repository.
    "host": "",
    "program": "stn-bench",
    "x_executable": "python",
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
    "disable_git": True,
    "disable_code": True,
    "save_code": False,
    "disable_job_creation": True,
    "label_disable": True,
    "sagemaker_disable": True,
    "console": "off",
    "silent": True,
    "symlink": False,
    "reinit": "finish_previous",
}
"""What W&B does with every run."""
LIVE: dict[str, Any] = {
    "reinit": "create_new",
    "init_timeout": 20.0,
    # Seconds from what is logged to what can be seen of it, in the file and on the server.
    "x_transaction_log_flush_interval": 2.0,
    "x_file_stream_transmit_interval": 4.0,
    "x_update_finish_state": False,  # whether it has finished is for its replay to say
}
"""And what it does with a run that is in progress."""


class InProgress:
    """A run that trains, open for its rows: on the server, or as offline files in place of any that are there."""

    def __init__(self, following: Following, *, online: bool) -> None:
        run = following["run"]
        if not online:
            _remove_leftovers(following["key"])
        self._run = _init(following, run, {}, {}, LIVE | ({"mode": "online", "resume": "allow"} if online else {}))
        if not online:
            _tidied(Path(self._run.dir).parent, run)
        _define_metrics(self._run)
        self._num_rows = self._run.starting_step  # that the server has already

    def log(self, epochs: list[Json]) -> None:
        """Log what is new of the history so far."""
        for row in logged_values.history(epochs[self._num_rows :]):
            self._run.log(row, step=self._num_rows, commit=True)
            self._num_rows += 1

    def close(self) -> None:
        self._run.finish()


class WandbFiles:
    """W&B's offline files, and its server for runs in progress.

    agent: what an agent of a W&B sweep has said of the run that it started; else empty.
    """

    def __init__(self, agent: Mapping[str, str], *, online: bool) -> None:
        self._agent, self._online = agent, online

    def show(self, following: Following) -> InProgress:
        return InProgress(following, online=self._online)

    def write(self, job: Job) -> str:
        _remove_leftovers(self._agent.get("WANDB_RUN_ID", job["key"]))
        return _write(job, self._agent).name


def replay_rest(job: Job, agent: Mapping[str, str], num_there: int, root: Path) -> Path:
    """Write files of a run of whose history the server has some rows, with what it lacks; returns their folder.

    The pictures of those rows go into the summary.
    """
    return _write(job, agent, num_there, str(root))


def _write(job: Job, agent: Mapping[str, str], num_there: int = 0, root: str = ".") -> Path:
    key = job["key"]
    folder = Path("runs") / key
    run, epochs, cost, robustness = logged_values.read_files(folder)
    logged = _init(job, run, cost, agent, {"root_dir": root})
    written = Path(logged.dir).parent
    try:
        import wandb

        summary = logged_values.summary(run, cost) | _tables(run, robustness, folder, logged)
        for number, row in enumerate(_rows(run, epochs, robustness, folder, logged)):
            if number >= num_there:
                logged.log(row, step=number)
            else:
                summary |= {name: value for name, value in row.items() if isinstance(value, wandb.Image)}
        logged.summary.update(summary)
        if (folder / "weights.safetensors").exists():
            weights = wandb.Artifact(f"weights-{key}", type="model", metadata=logged_values.summary(run, cost))
            # The ledger's file never changes, so W&B need not copy it.
            weights.add_file(str(folder / "weights.safetensors"), policy="immutable", skip_cache=True)
            logged.log_artifact(weights)
        logged.finish(exit_code=1 if run["status"] in ("failed", "diverged") else 0)
    except BaseException:
        logged.finish(exit_code=1)
        shutil.rmtree(written, ignore_errors=True)
        raise
    if not next(written.glob("run-*.wandb")).stat().st_size:
        raise OSError(f"{written}: W&B wrote nothing")
    return _tidied(written, run)


def _init(job: Job, run: Json, cost: Json, agent: Mapping[str, str], more: Mapping[str, Any]) -> "wandb.Run":
    """W&B's run for one of ours. more: settings besides SETTINGS, or instead of them."""
    import wandb

    settings = wandb.Settings(
        run_name=logged_values.run_name(run),
        run_group=job["group"],
        run_job_type=run["config"]["stage"],
        run_tags=logged_values.tags(run, job["tags"]),
        **{**SETTINGS, **more},
    )
    if not agent:  # otherwise the agent has named both
        settings.run_id, settings.project = job["key"], job["project"]
    return wandb.init(settings=settings, config=logged_values.config(run, cost))


def _remove_leftovers(run_id: str) -> None:
    """Delete what there is of the run: of an attempt that was killed, or from before it was done."""
    for leftover in [*WANDB.glob(f"offline-run-*-{run_id}"), *WANDB.glob(f"offline-run-*-{run_id}-*")]:
        shutil.rmtree(leftover, ignore_errors=True)


def _tidied(written: Path, run: Json) -> Path:
    """The folder without W&B's logs, which name folders of the machine, under a name that tells runs apart.

    W&B's terminal dashboard lists runs by their folders and reads the id behind "run-", date and time.
    """
    for scraps in ("logs", "tmp"):
        shutil.rmtree(written / scraps, ignore_errors=True)
    return written.rename(
        written.with_name(f"offline-run-{logged_values.file_name(run)}-{written.name.removeprefix('offline-')}")
    )


def _rows(
    run: Json, epochs: list[Json], robustness: Json, folder: Path, logged: "wandb.Run"
) -> Iterator[dict[str, Any]]:
    """What the run logs, row by row; says first what each number is over.

    One row an epoch, as while it trains; then the test scores with the picture, then curves over transformed images.
    """
    import wandb

    curves = list(logged_values.curves(robustness))
    axes = logged_values.curve_axes(curves)
    for axis in dict.fromkeys(axes.values()):
        logged.define_metric(axis, hidden=True, summary="none")
    for name, axis in axes.items():
        logged.define_metric(name, step_metric=axis, summary="none")
    _define_metrics(logged)

    at_end: dict[str, Any] = logged_values.test_row(run)
    if (picture := folder / "transformer.png").exists():
        at_end["transformer"] = wandb.Image(str(picture), caption="images before and after the transformer")
    if at_end and epochs:
        at_end = {"epoch": epochs[-1]["epoch"], **at_end}
    yield from (row for row in [*logged_values.history(epochs), at_end, *curves] if row)


def _define_metrics(logged: "wandb.Run") -> None:
    """What numbers are over that no other rule is for."""
    logged.define_metric("epoch", hidden=True)
    logged.define_metric("lr", step_metric="epoch", summary="none")  # at the end it is nearly 0, whatever it was
    logged.define_metric("*", step_metric="epoch")


def _tables(run: Json, robustness: Json, folder: Path, logged: "wandb.Run") -> dict[str, Any]:
    """The run's tables, for its summary: in its history W&B's terminal dashboard draws how many rows each has."""
    import wandb

    tables: dict[str, Any] = {
        name: wandb.Table([*table.columns], [*table.rows])
        for name, table in logged_values.tables(run, robustness).items()
    }
    classes, predictions = run["task"]["classes"], folder / "predictions.safetensors"
    if predictions.exists() and len(classes) <= logged_values.MAX_CONFUSION_CLASSES:
        import safetensors.numpy

        arrays = safetensors.numpy.load_file(predictions)
        tables["confusion"] = wandb.plot.confusion_matrix(
            y_true=arrays["label"].tolist(),
            preds=arrays["predicted"].tolist(),
            class_names=classes,
            title="Confusion (test images)",
        )
    return logged._serialize_custom_charts(tables)


def find_server(account: Mapping[str, str], folder: str, patience_s: Callable[[], float]) -> Server:
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
    if sys.argv[1] == "--lines":
        _count_lines(int(sys.argv[2]), sys.argv[3], sys.argv[4:])
