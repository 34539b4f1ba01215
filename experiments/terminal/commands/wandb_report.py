"""`wandb-report`: save a workspace and a report of a study to W&B; with --out, write both as JSON, offline."""

import contextlib
import dataclasses
import io
import json
import os
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from experiments.terminal.commands.ledgers import existing_ledger, named_study
from experiments.terminal.commands.options import find_study
from experiments.tracking.settings import upload_environment
from experiments.tracking.tracker import check_may_upload
from experiments.tracking.upload import FEW_RETRIES
from ledger.errors import UserError, remedy
from ledger.files import write_atomically
from ledger.ledger import Ledger
from ledger.markers import is_uploaded, read_marker

if TYPE_CHECKING:
    from analysis.findings import Findings
    from experiments.tracking.report import Shown


def main(options: Namespace) -> int:
    with contextlib.redirect_stderr(io.StringIO()):  # for W&B, which is not silent about its settings files
        return save_or_write(options)


def save_or_write(options: Namespace) -> int:
    ledger = existing_ledger(options)
    study = named_study(ledger, options.study)
    os.environ.update({"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"})
    if options.out:
        os.environ["WANDB_MODE"] = "offline"
    else:
        check_may_upload()
        os.environ.update(FEW_RETRIES)
    try:
        from experiments.tracking import report
    except ModuleNotFoundError as missing:
        if not (missing.name or "").startswith("wandb_workspaces"):
            raise
        message = "wandb-report needs wandb-workspaces, the extra `wandb-report`: pip install 'stn-bench[wandb-report]'"
        raise UserError(message) from None

    findings = find_study(ledger, study)
    shown = what_to_show(ledger, findings)
    if options.out:
        for path in report.write(shown, options.out):
            print(path)
        return 0
    num_missing = sum(not is_uploaded(ledger.root, key) for key in findings.study.runs["key"])
    if num_missing:
        of_all = f"{num_missing} of the study's {len(findings.study.runs)} runs"
        print(f"{of_all} are not on W&B yet; `make sync` uploads those that are done")
    for what, url in zip(("Workspace", "Report"), save(ledger, shown, options.entity), strict=True):
        print(f"{what:12}{url}")
    return 0


def what_to_show(ledger: Ledger, findings: "Findings") -> "Shown":
    """What the ledger has of the study for W&B. Names are taken from one completed run of each arm and stage."""
    from analysis.answer import answer, headline
    from analysis.run_records import HYPER_PARAMETERS
    from experiments.tracking.report import Shown, logged_names

    study = findings.study
    trials = study.runs[study.runs["stage"] == "trial"]
    settings = [name for name in study.runs.columns if name.split(".")[0] in HYPER_PARAMETERS]
    tuned = trials.groupby("arm")[settings].nunique().max() > 1  # an option of a variant's name is the same in its arm
    completed = study.runs[study.runs["status"] == "completed"]
    markers = {key: read_marker(ledger.root, key) for key in study.runs["key"]}
    return Shown(
        study=study.name,
        project=ledger.read_study(study.name)["wandb_project"],
        entity="",
        task=study.task_label,
        answer=(headline(findings), *answer(findings)),
        poses=tuple(dict.fromkeys(arm.pose for arm in study.arms)),
        hyperparameters=tuple(name for name in settings if tuned[name]),
        logged=logged_names(ledger.root, completed.groupby(["arm", "stage"])["key"].first()),
        strays=tuple(key for key, marker in markers.items() if marker and marker["group"] != study.name),
    )


def save(ledger: Ledger, shown: "Shown", entity: str) -> tuple[str, str]:
    """Save both to W&B, in place of those saved before; their addresses. Raises UserError for any fault of W&B."""
    from experiments.tracking import report

    memory = ledger.root / "wandb" / "reports" / f"{shown.study}.json"
    try:
        entity = entity or upload_environment(os.environ).get("WANDB_ENTITY", "") or report.default_entity()
        shown = dataclasses.replace(shown, entity=entity)
        saved = new = report.Saved(entity, shown.project)
        with contextlib.suppress(OSError, ValueError, TypeError):
            old = report.Saved(**json.loads(memory.read_text(encoding="utf-8")))
            saved = old if (old.entity, old.project) == (entity, shown.project) else new
        try:
            urls = report.save(shown, saved)
        except Exception:
            if saved is new:
                raise
            saved = new  # what was saved before may have been deleted there
            urls = report.save(shown, saved)
    except Exception as fault:
        hint = "; `make sync` makes it" if "not found" in str(fault) else ""
        raise UserError(f"W&B: {fault or type(fault).__name__}{hint}") from None
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(memory, json.dumps(dataclasses.asdict(saved)).encode())
    except OSError as error:  # both are there, all the same
        message = f"{memory}: cannot be written ({error.strerror}){remedy(error)}"
        raise UserError(f"{message}; until then, the next call will not replace {' and '.join(urls)}") from None
    return urls
