"""The workspace and the report for W&B: what they name is what runs log, and the package itself reads them back."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import experiments.tracking
from experiments.terminal.cli import main
from experiments.tracking.tracker import Tracker
from tests.support.project import ROOT
from tests.support.synthetic_ledger import (
    STUDY,
    edit_json,
    transformer_record,
    write_arm,
    write_evaluation,
    write_study,
)
from tests.support.wandb_runs import API_KEY, Offline
from tests.support.wandb_server import Server

pytestmark = pytest.mark.long


@pytest.fixture(autouse=True)
def no_account(tmp_path: Path) -> Iterator[None]:
    """A home of its own, and no W&B variables: what the machine is logged in to has no say; nor do tests on others."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith("WANDB_") or name == "NETRC"]:
        del os.environ[name]
    os.environ["HOME"] = str(tmp_path)
    yield
    os.environ.clear()
    os.environ.update(before)


def report(*arguments: object) -> int:
    """`python -m experiments wandb-report ...`, without the seconds that a process of its own takes to start."""
    return main(["wandb-report", *map(str, arguments)])


def write_ledger(ledger: Path, poses: tuple[str, ...] = ("upright", "R")) -> dict[str, list[str]]:
    """A study of two variants at each pose, evaluated; the keys of its runs by stage."""
    arms = []
    for pose in poses:
        arms.append(write_arm(ledger, "cnn", "cnn", [0.5, 0.52, "diverged"], pose=pose))
        record = transformer_record()
        arms.append(write_arm(ledger, "stn_affine", "cnn", [0.55, 0.54, 0.56], pose=pose, transformers=[record] * 3))
    write_study(ledger, arms)
    for arm in arms:
        for key in arm["finals"]:
            if json.loads((ledger / "runs" / key / "run.json").read_text())["status"] == "completed":
                write_evaluation(ledger, key, accuracy=0.5, seed=1)
                if arm["variant"] == "stn_affine":
                    Image.new("RGB", (64, 32)).save(ledger / "runs" / key / "transformer.png")
    return {stage: [key for arm in arms for key in arm[stage]] for stage in ("trials", "finals")}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ledger, of which one run of each stage was replayed, and what the command makes of it.

    `trace` holds the sockets that the command opened, where strace is there to tell.
    """
    folder = tmp_path_factory.mktemp("wandb-report")
    keys = write_ledger(folder / "runs")
    some = [keys["trials"][-2], keys["finals"][-1]]
    with Tracker(folder / "runs", project="stn-bench", group=STUDY, mode="offline", keys=some) as tracker:
        assert tracker.close(60) == 0, tracker.problem
    command = [sys.executable, "-m", "experiments", "wandb-report", "--out", "specs"]
    strace = shutil.which("strace")
    if strace and not subprocess.run([strace, "-f", "true"], capture_output=True).returncode:
        command = [strace, "-f", "-e", "trace=socket,connect", "-s", "0", "-o", "trace", *command]
    env = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_") and name != "NETRC"}
    env |= {"PYTHONPATH": str(ROOT), "HOME": str(folder)}
    (folder / "wandb").mkdir()
    (folder / "wandb/settings").write_text("[default]\nof_another_version = 1\n")  # of which W&B would say much
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["Reading the ledger runs ...", "specs/workspace.json", "specs/report.json"]
    return folder


def spec(written: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((written / "specs" / f"{name}.json").read_text())
    return found


def objects(found: Any) -> Iterator[dict[str, Any]]:
    if isinstance(found, dict):
        yield found
        found = list(found.values())
    if isinstance(found, list):
        for part in found:
            yield from objects(part)


def panels(found: Any) -> list[dict[str, Any]]:
    return [part for part in objects(found) if "viewType" in part]


def named(found: dict[str, Any]) -> dict[str, set[str]]:
    """What a specification's panels, filters and columns name, by where W&B looks it up."""
    names: dict[str, set[str]] = {"history": set(), "summary": set(), "config": set(), "run": set()}

    def add(accessor: str) -> None:
        section, _, name = accessor.replace("summary_metrics.", "summary:").replace("config.", "config:").partition(":")
        names[section].add(name)

    for panel in panels(found):
        config = panel["config"]
        match panel["viewType"]:
            case "Run History Line Plot":
                names["history"].update([config["xAxis"], *config["metrics"]])
            case "Bar Chart":
                names["summary"].update(config["metrics"])
            case "Scatter Plot":
                add(config["xAxis"])
                add(config["yAxis"])
            case "Parallel Coordinates Plot":
                for column in config["columns"]:
                    add(column["accessor"])
            case "Parameter Importance":
                names["summary"].add(config["targetKey"])
            case "Media Browser":
                names["summary"].update(config["mediaKeys"])
            case "Weave":
                picked = [part for part in objects(config) if part.get("name") == "pick"]
                names["summary"].update(part["inputs"]["key"]["val"] for part in picked if "key" in part["inputs"])
            case "Run Comparer":
                pass
            case other:
                raise AssertionError(f"an unknown kind of panel: {other}")
        if config.get("groupBy"):
            names["config"].add(config["groupBy"])
    for part in objects(found):
        if "section" in part and "name" in part and part["section"] in names:
            names[part["section"]].add(part["name"])
        for column in part.get("columnOrder", []):
            add(column)
    return names


def paths(config: dict[str, Any], above: str = "") -> set[str]:
    """Dotted names of everything in a configuration; W&B keeps each value at the top under `value`."""
    found = set()
    for name, value in config.items():
        found.add(f"{above}{name}")
        if isinstance(value, dict):
            found |= paths(value, f"{above}{name}.")
    return found


@pytest.mark.parametrize("name", ["workspace", "report"])
def test_what_is_named_is_what_runs_log(written: Path, name: str) -> None:
    names = named(spec(written, name))
    history, summary, config = set[str](), set[str](), set[str]()
    for folder in (written / "runs" / "wandb").glob("offline-run-*"):
        logged = Offline(written / "runs", folder.name.rpartition("-")[2])
        history |= {key for row in logged.history for key in row}
        summary |= {key.partition(".")[0] for key in logged.summary}
        config |= paths(logged.config)
    assert len(names["history"]) >= 10 and len(names["summary"]) >= 10
    assert not names["history"] - history
    assert not names["summary"] - summary
    assert not {re.sub(r"\.value\b", "", key) for key in names["config"]} - config
    assert {"variant", "pose"} <= {re.sub(r"\.value\b", "", key) for key in names["config"]}
    known = {"group", "jobType", "state", "displayName", "name"}
    assert not names["run"] - known


def test_what_runs_log_is_shown(written: Path) -> None:
    for name in ("workspace", "report"):
        names = named(spec(written, name))
        assert {"epoch", "val/accuracy", "train/loss", "rotation/deg", "rotation/accuracy"} <= names["history"]
        assert {"corruption/severity", "corruption/geometric", "scale/factor"} <= names["history"]
        assert {"test/accuracy", "test/ece", "test/rotation_accuracy", "train_flops"} <= names["summary"]
        assert {"transformer", "transformer/angle_r2", "class_accuracy", "robustness"} <= names["summary"]
        assert "optim.value.lr" in names["config"]
        assert "optim.value.weight_decay" not in names["config"]  # the same in all trials


def test_runs_are_the_studys_grouped_by_variant(written: Path) -> None:
    whole = spec(written, "report")
    sets = [part for part in objects(whole) if "runFeed" in part]
    assert {one["name"] for one in sets} == {"Final runs", "Trials", "Failed or diverged"}
    for one in sets:
        filters = {part["key"]["name"]: (part["op"], part["value"]) for part in one["filters"]["filters"]}
        assert filters["group"] == ("=", STUDY)
        assert filters["state"] == ("=", "failed" if one["name"] == "Failed or diverged" else "finished")
        if one["grouping"]:
            assert one["grouping"] == [{"section": "config", "name": "variant.value"}]
        (order,) = one["sort"]["keys"]
        assert order["key"]["section"] == "summary"  # of a run: not of its history
    poses = [part["value"] for one in sets for part in one["filters"]["filters"] if part["key"]["name"] == "pose"]
    assert set(poses) == {"upright", "R"}
    (workspace,) = [part for part in objects(spec(written, "workspace")) if "runFeed" in part]
    assert [key["name"] for key in workspace["grouping"]] == ["jobType", "pose.value", "variant.value"]
    lines = [panel["config"] for panel in panels(whole) if panel["viewType"] == "Run History Line Plot"]
    assert {(line["groupBy"], line["groupAgg"], line["groupArea"]) for line in lines} == {
        ("variant.value", "mean", "stddev")
    }


def test_panels_of_a_grid_lie_side_by_side(written: Path) -> None:
    for grid in objects(spec(written, "report")):
        if grid.get("type") != "panel-grid":
            continue
        cells = set[tuple[int, int]]()
        for panel in panels(grid):
            at = panel["layout"]
            own = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            assert not own & cells
            assert max(x for x, _ in own) < 24
            cells |= own


def test_the_report_begins_with_the_studys_answer(written: Path) -> None:
    from analysis.answer import answer, headline
    from analysis.findings import find

    findings = find(written / "runs", STUDY)
    text = json.dumps(spec(written, "report"), ensure_ascii=False)
    for sentence in (headline(findings), *answer(findings)):
        assert json.dumps(sentence, ensure_ascii=False)[1:-1] in text


def test_the_package_reads_both_back(written: Path) -> None:
    from wandb_workspaces.reports.v2 import Report, internal
    from wandb_workspaces.workspaces import Workspace
    from wandb_workspaces.workspaces.internal import View

    def dump(model: Any) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(model.model_dump_json(by_alias=True, exclude_none=True))
        return found

    workspace = (written / "specs" / "workspace.json").read_text()
    assert dump(Workspace._from_model(View.model_validate_json(workspace))._to_model()) == json.loads(workspace)
    report = (written / "specs" / "report.json").read_text()
    again = dump(Report._from_model(internal.ReportViewspec.model_validate_json(report))._to_model())
    # What the package's own reader drops.
    again["spec"]["width"] = "fluid"
    for was, now in zip(panels(json.loads(report)), panels(again), strict=True):
        if was["viewType"] == "Weave":
            now["layout"] = was["layout"]
    assert again == json.loads(report)


def test_nothing_is_asked_of_a_network(written: Path) -> None:
    if not (written / "trace").exists():
        pytest.skip("needs strace")
    assert "AF_INET" not in (written / "trace").read_text()


def test_a_study_without_tests_trials_or_evaluations(tmp_path: Path) -> None:
    arm = write_arm(tmp_path / "runs", "cnn", "cnn", ["failed", None], trial_statuses=())
    write_study(tmp_path / "runs", [arm | {"winner": None}])
    assert report("--runs", tmp_path / "runs", "--out", tmp_path / "specs") == 0
    names = named(spec(tmp_path, "report"))
    assert names["history"] == set()
    assert [panel["viewType"] for panel in panels(spec(tmp_path, "report"))] == ["Run Comparer"]


def test_runs_that_were_logged_in_another_group_are_shown_too(tmp_path: Path) -> None:
    keys = write_ledger(tmp_path / "runs", ("upright",))["finals"]
    for key, group in zip(keys[:2], ("single runs", STUDY), strict=True):
        marker = {"project": "stn-bench", "group": group, "tags": [], "folder": "offline-run-x", "uploaded": False}
        (tmp_path / "runs" / "wandb" / "logged").mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / "wandb" / "logged" / key).write_text(json.dumps(marker))
    assert report("--runs", tmp_path / "runs", "--out", tmp_path / "specs") == 0
    (runset,) = [part for part in objects(spec(tmp_path, "workspace")) if "runFeed" in part]
    group, strays = runset["filters"]["filters"]
    assert (group["key"]["name"], group["value"]) == ("group", STUDY)
    assert (strays["connector"], strays["key"]["name"], strays["value"]) == ("OR", "name", [keys[0]])


def test_refusals_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_ledger(tmp_path / "runs", ("upright",))
    assert report("--runs", tmp_path / "runs") == 2
    assert re.fullmatch(r"error: not logged in to W&B: .*\n", capsys.readouterr().err)
    assert report("--runs", tmp_path / "runs", "--study", "tiny-gpu", "--out", tmp_path / "specs") == 2
    assert "did you mean 'tiny-cpu'?" in capsys.readouterr().err


class Views(Server):
    """The stand-in for W&B's server, with an account and one project, which keeps views by their id."""

    def __init__(self) -> None:
        super().__init__()
        self.views: dict[str, dict[str, Any]] = {}

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        query = json.loads(body)
        operation = re.search(r"(?:query|mutation)\s+(\w+)", query["query"])
        assert operation
        return {"data": getattr(self, operation[1])(**(query.get("variables") or {}))}

    def Viewer(self) -> dict[str, Any]:
        teams = {"edges": list[Any]()}
        return {"viewer": {"id": "u", "entity": "team", "username": "u", "email": "", "flags": "{}", "teams": teams}}

    GetDefaultEntity = Viewer

    def ProjectInternalId(self, projectName: str, **_: Any) -> dict[str, Any]:
        return {"project": {"internalId": "7"} if projectName == "stn-bench" else None}

    def GetProjects(self, **_: Any) -> dict[str, Any]:
        node = {"id": "p", "name": "stn-bench", "entityName": "team", "createdAt": "2026-11-22T10:00:00"}
        edges = [{"cursor": "c", "node": {**node, "isBenchmark": False, "user": None}}]
        return {"models": {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}}

    def UpsertView2(self, **view: Any) -> dict[str, Any]:
        number = view.get("id") or f"view{len(self.views)}"
        self.views[number] = view
        about = {"id": number, **{name: view[name] for name in ("name", "type", "displayName", "description", "spec")}}
        project = {"id": "p", "name": view["projectName"], "entityName": view["entityName"]}
        return {"upsertView": {"view": {**about, "project": project, "updatedAt": None}, "inserted": True}}

    upsertView = UpsertView2


def test_saving_again_replaces_what_was_saved(tmp_path: Path) -> None:
    write_ledger(tmp_path / "runs", ("upright",))
    program = """
from experiments.terminal.cli import main
assert main(["wandb-report"]) == main(["wandb-report"]) == 0
from pathlib import Path
study = next(Path("runs").glob("studies/*/study.json"))
study.write_text(study.read_text().replace('"stn-bench"', '"nobodys"'))
assert main(["wandb-report"]) == 2"""
    server = Views()
    try:
        env = {**os.environ, "WANDB_BASE_URL": server.url, "WANDB_API_KEY": API_KEY, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    finally:
        server.close()
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"error: W&B: .*project 'team/nobodys' not found.*\n", done.stderr)
    assert {view["type"]: view["displayName"] for view in server.views.values()} == {
        "project-view": STUDY,
        "runs": f"Tiny (JPEG): shown or learned? ({STUDY})",
    }
    assert len(server.views) == 2
    opening, waiting, workspace, saved, *again = done.stdout.splitlines()
    assert opening == "Reading the ledger runs ..."
    assert waiting.startswith("12 of the study's 12 runs are not on W&B yet; `make sync`")
    assert workspace.startswith(f"Workspace   {server.url}/team/stn-bench?nw=")
    assert saved == f"Report      {server.url}/team/stn-bench/reports/Tiny-JPEG-shown-or-learned-tiny-cpu--view0"
    assert again[:3] == [waiting, workspace, saved]
    (report_spec,) = [json.loads(view["spec"]) for view in server.views.values() if view["type"] == "runs"]
    sets = [part for part in objects(report_spec) if "runFeed" in part]
    assert {one["project"]["entityName"] for one in sets} == {"team"}


def test_without_the_package_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ledger(tmp_path / "runs", ("upright",))
    for name in [name for name in sys.modules if name.startswith("wandb_workspaces")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "experiments.tracking.report", raising=False)
    monkeypatch.delattr(experiments.tracking, "report", raising=False)
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)  # as if it were not installed
    assert report("--runs", tmp_path / "runs", "--out", tmp_path / "specs") == 2
    assert re.fullmatch(r"error: .* pip install 'stn-bench\[wandb-report\]'\n", capsys.readouterr().err)


def test_a_label_of_any_text_is_kept(tmp_path: Path) -> None:
    write_ledger(tmp_path / "runs", ("upright",))
    file = tmp_path / "runs" / "studies" / STUDY / "study.json"
    label = "50 % | <b>cats</b> & 'dogs' _猫_ " + "x" * 200
    edit_json(file, task=json.loads(file.read_text())["task"] | {"label": label})
    assert report("--runs", tmp_path / "runs", "--out", tmp_path / "specs") == 0
    assert spec(tmp_path, "report")["displayName"] == f"{label}: shown or learned?"[:128]
