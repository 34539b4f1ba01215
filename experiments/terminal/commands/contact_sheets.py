"""The contact sheet of a study's images, beside its report."""

import io
from collections.abc import Sequence
from pathlib import Path

from analysis.reports import CONTACT_SHEET
from experiments.images.tasks import Task
from experiments.study.arms import ArmPlan
from experiments.study.look import contact_sheet
from experiments.study.study import Study
from ledger.files import write_atomically


def write_contact_sheet(
    study: Study, task: Task, arms: Sequence[ArmPlan], reports: Path, *, whole_files: bool
) -> tuple[Path, list[str]]:
    """Draw and write it; its path, and what is not shown, in sentences. Where it fails, no earlier one stays."""
    out = reports / study.full_name(task.label) / CONTACT_SHEET
    out.parent.mkdir(parents=True, exist_ok=True)
    out.unlink(missing_ok=True)
    sheet, notes = contact_sheet(study, task, arms, whole_files=whole_files)
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    write_atomically(out, stream.getvalue())
    return out, notes
