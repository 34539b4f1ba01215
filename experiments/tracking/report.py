"""A study as a saved workspace and a report of its W&B project. The only file that imports wandb_workspaces.

Both are built from what the ledger says the study's runs have logged; a server is asked nothing before they are saved.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import wandb_workspaces.reports.v2 as reports
import wandb_workspaces.workspaces as workspaces
from wandb_workspaces import expr

from experiments.tracking import logged_values
from ledger.files import write_atomically

MAX_TITLE = 128
MAX_GROUPS = 50
"""Lines or bars that a panel shows at most; W&B's own choice is ten."""
_SCORES = {
    "test/accuracy": "Test accuracy",
    "test/loss": "Test loss (nats)",
    "test/ece": "Calibration error",
    "test/rotation_accuracy": "Accuracy on turned images",
    "test/corruption_accuracy": "Accuracy on corrupted images",
    "test/worst_of_grid_accuracy": "Accuracy wherever an image is moved",
}
_TRANSFORMER = {
    "transformer/angle_r2": "How much of the true angle the transformer finds (R²)",
    "transformer/shift_r2": "How much of the true shift the transformer finds (R²)",
    "transformer/identity_fraction": "Share of images that it leaves as they are",
    "transformer/zoom": "Its zoom (above 1 it sees more than the image)",
}
_LEARNING = {
    "val/accuracy": ("epoch", "Validation accuracy over epochs"),
    "train/loss": ("epoch", "Training loss over epochs"),
}
_CURVES = {
    "rotation/accuracy": ("rotation/deg", "Accuracy over the angle an image is turned by (degrees anticlockwise)"),
    "scale/accuracy": ("scale/factor", "Accuracy over the factor an image is enlarged by"),
    "shift_x/accuracy": ("shift_x/px", "Accuracy over the shift to the right (pixels)"),
    "shift_y/accuracy": ("shift_y/px", "Accuracy over the shift down (pixels)"),
    "corruption/geometric": ("corruption/severity", "Accuracy over the severity of geometric changes"),
    "corruption/photometric": ("corruption/severity", "Accuracy over the severity of photometric changes"),
}
_TABLES = ("class_accuracy", "robustness")
_HOW_TO_READ = (
    "A line or bar is the mean over a variant's final runs, one run a seed; bands and whiskers are one standard "
    "deviation, not an interval. Differences, intervals and tests, which need the runs paired by seed, are in the "
    "study's own report.",
    "Test scores were read once, after the last epoch, and never chose anything. Trials have none: they were made "
    "while tuning, and are compared by their validation accuracy.",
    "Runs that failed or diverged are in no mean; a set of their own lists them.",
)


@dataclass(frozen=True)
class Shown:
    """What the workspace and the report show.

    entity: "" in a file. answer: a headline, then sentences, as plain text. poses: of the study.
    hyperparameters: that were tuned, by dotted name. logged: names of all that its runs have logged. strays: keys of
    runs that belong to the study but were logged in another group, since they were made for that.
    """

    study: str
    project: str
    entity: str
    task: str
    answer: tuple[str, ...]
    poses: tuple[str, ...]
    hyperparameters: tuple[str, ...]
    logged: frozenset[str]
    strays: tuple[str, ...] = ()


@dataclass
class Saved:
    """Under what ids the two were saved, so that saving them again replaces them; "" before the first time."""

    entity: str
    project: str
    workspace_name: str = ""
    workspace_id: str = ""
    report_id: str = ""


def logged_names(ledger: Path, keys: Iterable[str]) -> frozenset[str]:
    """Names of the history, the summary and the media that replaying these runs logs."""
    names: set[str] = set()
    for key in keys:
        folder = ledger / "runs" / key
        run, epochs, cost, robustness = logged_values.read_files(folder)
        rows = [*logged_values.history(epochs), *logged_values.curves(robustness)]
        names.update(name for row in rows for name in row)
        names.update(logged_values.summary(run, cost), logged_values.tables(run, robustness))
        if (folder / "transformer.png").exists():
            names.add("transformer")
    return frozenset(names)


def build_report(shown: Shown) -> reports.Report:
    """The report: the answer, final runs, where they hold, transformers, tuning, single runs, how to read it."""
    headline, *sentences = shown.answer
    blocks: list[Any] = [reports.H2("The answer"), reports.CalloutBlock(headline), *map(reports.P, sentences)]

    def add(heading: str, runsets: list[reports.Runset], at: str = "") -> None:
        """Append a heading and a grid, two panels a row; nothing if there is no panel."""
        panels = _panels(shown, reports.Config("variant"))[heading]
        height, half = 8, 12  # a report's grid has 24 columns
        for i, panel in enumerate(panels):
            panel.layout = reports.Layout(x=i % 2 * half, y=i // 2 * height, w=half, h=height)
        if panels:
            blocks.extend([reports.H2(heading + at), reports.PanelGrid(runsets=runsets, panels=panels)])

    for pose in shown.poses:
        finals = [_runs(shown, "Final runs", pose, "final", "finished")]
        for heading in ("Final runs", "Where it holds", "What the transformers do"):
            add(heading, finals, f" at pose {pose}" if len(shown.poses) > 1 else "")
    add("Tuning", [_runs(shown, "Trials", None, "trial", "finished")])
    singles = [
        _runs(shown, "Final runs", None, "final", "finished", groupby=()),
        _runs(shown, "Failed or diverged", None, None, "failed", groupby=()),
    ]
    add("Run by run", singles)
    blocks += [reports.H2("How to read this"), reports.UnorderedList([*_HOW_TO_READ])]
    title = f"{shown.task}: shown or learned? ({shown.study})"
    return reports.Report(
        project=shown.project, entity=shown.entity, title=title[:MAX_TITLE], blocks=blocks, width="fluid"
    )


def build_workspace(shown: Shown) -> workspaces.Workspace:
    """The workspace: the study's runs grouped by stage, pose and variant, and the report's panels."""
    poses = [expr.Config("pose")] if len(shown.poses) > 1 else []
    groupby: list[expr.MetricType] = [expr.Metric("JobType"), *poses, expr.Config("variant")]
    scores = [name for name in ("test/accuracy", "val/accuracy") if name in shown.logged]
    return workspaces.Workspace(
        entity=shown.entity,
        project=shown.project,
        name=shown.study,
        sections=[
            workspaces.Section(name=name, panels=panels, is_open=name == "Final runs")
            for name, panels in _panels(shown, None).items()
            if panels
        ],
        settings=workspaces.WorkspaceSettings(x_axis="epoch", max_runs=100),
        runset_settings=workspaces.RunsetSettings(
            filters=_filters(shown),
            groupby=groupby,
            order=[expr.Ordering(expr.Summary(name), ascending=False) for name in scores[:1]],
            pinned_columns=["run:displayName", "run:state", *(f"summary:{name}" for name in scores)],
        ),
    )


def default_entity() -> str:
    """Whose account it is, as the W&B server says."""
    return str(reports.Report(project="any").entity)  # type: ignore[call-arg]  # where none is given, it asks


def write(shown: Shown, out: Path) -> list[Path]:
    """Both specifications as JSON files, without a network: no entity is named, since W&B would be asked for it."""
    assert not shown.entity
    out.mkdir(parents=True, exist_ok=True)
    models = {"workspace": build_workspace(shown)._to_model(), "report": build_report(shown)._to_model()}
    paths = []
    for name, model in models.items():
        paths.append(out / f"{name}.json")
        text = model.model_dump_json(by_alias=True, exclude_none=True, indent=1)
        write_atomically(paths[-1], f"{text}\n".encode())
    return paths


def save(shown: Shown, saved: Saved) -> tuple[str, str]:
    """Save both to the W&B server, in place of the saved ones; says in `saved` what they are now.

    Returns their addresses, the workspace's first. Raises whatever W&B raises.
    """
    report, workspace = build_report(shown), build_workspace(shown)
    report.id = saved.report_id
    report.save()  # first, since it finds out whether the project is there
    saved.report_id = report.id
    workspace._internal_name, workspace._internal_id = saved.workspace_name, saved.workspace_id
    workspace.save()
    saved.workspace_name, saved.workspace_id = workspace._internal_name, workspace._internal_id
    # The package puts the title into the address as it is, whatever it may hold.
    slug = re.sub(r"[^A-Za-z0-9]+", "-", report.title).strip("-")
    return workspace.url, f"{report.url.partition('/reports/')[0]}/reports/{slug}--{report.id}"


def _filters(shown: Shown, **wanted: str | None) -> str:
    """The study's runs, and of those the ones with these attributes, in the package's own language."""
    study = f"Metric('Group') == {shown.study!r}"
    if shown.strays:
        study = f"({study} or Metric('ID') in {[*shown.strays]!r})"
    names = {"stage": "Metric('JobType')", "state": "Metric('State')", "pose": "Config('pose')"}
    return " and ".join([study, *(f"{names[name]} == {value!r}" for name, value in wanted.items() if value)])


def _runs(
    shown: Shown, name: str, pose: str | None, stage: str | None, state: str, groupby: Sequence[str] = ("variant",)
) -> reports.Runset:
    score = "test/accuracy" if stage == "final" else "val/accuracy"
    columns = [f"config:{column}.value" for column in ("variant", "pose")] + ["summary:status"]
    if score in shown.logged:
        columns.append(f"summary:{score}")
    return reports.Runset(
        entity=shown.entity,
        project=shown.project if shown.entity else "",
        name=name,
        filters=_filters(shown, stage=stage, state=state, pose=pose if len(shown.poses) > 1 else None),
        groupby=[f"config.{key}" for key in groupby],
        order=[reports.OrderBy(reports.SummaryMetric(score), ascending=False)],
        pinned_columns=columns,
    )


def _panels(shown: Shown, by: reports.Config | None) -> dict[str, list[Any]]:
    """Panels by their section's heading, of what the runs have logged.

    by: what panels group by themselves; a workspace's panels follow the grouping of its runs.
    """
    means: dict[str, Any] = {"groupby": by, "groupby_aggfunc": "mean", "groupby_rangefunc": "stddev"}

    def bars(titles: Mapping[str, str]) -> list[Any]:
        logged = {name: title for name, title in titles.items() if name in shown.logged}
        return [
            reports.BarPlot(title=title, metrics=[name], max_bars_to_show=MAX_GROUPS, **means)
            for name, title in logged.items()
        ]

    def lines(titles: Mapping[str, tuple[str, str]]) -> list[Any]:
        """titles: by the number's name, what it is over, and the title."""
        style: dict[str, Any] = {"smoothing_type": "none", "max_runs_to_show": MAX_GROUPS, **means}
        logged = {name: place for name, place in titles.items() if name in shown.logged}
        return [reports.LinePlot(title=title, x=x, y=[name], **style) for name, (x, title) in logged.items()]

    flops = reports.ScatterPlot(
        title="Test accuracy over training FLOPs",
        x=reports.SummaryMetric("train_flops"),
        y=reports.SummaryMetric("test/accuracy"),
        log_x=True,
    )
    title = "Images before (above) and after (below) the transformer"
    pictures = reports.MediaBrowser(title=title, media_keys=["transformer"], num_columns=1)
    tables = [reports.WeavePanelSummaryTable(table_name=name) for name in _TABLES if name in shown.logged]
    return {
        "Final runs": [
            *bars(_SCORES),
            *lines(_LEARNING),
            *([flops] if {"train_flops", "test/accuracy"} <= shown.logged else []),
        ],
        "Where it holds": lines(_CURVES),
        "What the transformers do": [*bars(_TRANSFORMER), *([pictures] if "transformer" in shown.logged else [])],
        "Tuning": _tuning_panels(shown),
        "Run by run": [*tables, reports.RunComparer(diff_only="split")],
    }


def _tuning_panels(shown: Shown) -> list[Any]:
    score = "val/accuracy"
    if score not in shown.logged or not shown.hyperparameters:
        return []
    column: Callable[..., Any] = reports.ParallelCoordinatesPlotColumn
    columns = [column(metric=reports.Config(name), display_name=name) for name in shown.hyperparameters]
    columns.append(column(metric=reports.SummaryMetric(score), display_name="validation accuracy"))
    return [
        reports.ParallelCoordinatesPlot(title="Hyper-parameters and validation accuracy", columns=columns),
        reports.ParameterImportancePlot(with_respect_to=score),
    ]
