"""Commands that make a study's runs again."""

import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from analysis.ablation import Run
from analysis.findings import Findings
from analysis.formats import one_line
from analysis.formats.table import is_absent
from analysis.records import Study
from analysis.run_records import HYPER_PARAMETERS
from ledger.overrides import typed_overrides

UNKNOWN_SWEEP = "YOUR_SWEEP.yaml"
UNKNOWN_DATA = "path/to/images"
UNKNOWN_TABLE, UNKNOWN_GROUP = "YOUR_FILE.csv", "YOUR_GROUP"


class Command(NamedTuple):
    """A line for a shell, and what it does."""

    does: str
    line: str


def commands(findings: Findings) -> tuple[Command, ...]:
    """What carries the study out again, and what makes one of its runs, the best variant's first, by itself."""
    study = findings.study
    again = "Carry out the whole study again; runs that are in the ledger are not made twice:"
    report = Command("Write these tables, figures and this report again, from the ledger:", "make report")
    whole = Command(again, sweep_line(study)), report
    completed = findings.completed[findings.completed["test_accuracy"].notna()]
    ranked = [not study.arms[arm].sees_pose for arm in completed["arm"]]
    completed = completed[ranked] if any(ranked) else completed
    if completed.empty:
        return whole
    mean = completed.groupby("arm")["test_accuracy"].transform("mean")
    run = completed[mean == mean.max()].to_dict("records")[0]
    does = f"Make one run by itself ({run['key']}, the first of the most accurate variant):"
    return *whole, Command(does, run_line(study, run))


def notes(study: Study) -> Iterator[str]:
    """What the commands leave open."""
    if not study.source.get("file"):
        yield f"This ledger does not say which sweep file it is of: put it in place of {UNKNOWN_SWEEP}."
    if _has_data(study):
        yield f"Put the folder of your images, {one_line(study.task_label)}, in place of {UNKNOWN_DATA}."
    for unknown in (UNKNOWN_TABLE, UNKNOWN_GROUP):
        if unknown in _group(study):
            yield f"Put what says which images belong together in place of {unknown}."


def sweep_line(study: Study) -> str:
    """`make sweep` with this study's file, budget and images, or the probe. Make takes $$ for a dollar sign."""
    if minutes := study.source.get("minutes"):
        words = [".venv/bin/stn-bench", "probe", UNKNOWN_DATA, "--minutes", f"{minutes:g}"]
        for name in ("turns", "mirror"):
            words += [f"--{name}", one_line(value)] if (value := study.source.get(name)) else []
        words += [*_group_option(study), *_set_options(study)]
        return shlex.join([*words, "--label", one_line(study.task_label)])
    variables = {"SWEEP": _file(study), "BUDGET": study.budget}
    if overrides := study.source.get("overrides"):
        variables["SET"] = one_line(" ".join(typed_overrides(overrides)))
    if _has_data(study):
        variables |= {"DATA": UNKNOWN_DATA, "LABEL": one_line(study.task_label)}
    if group := _group(study):
        variables["GROUP"] = group
    return shlex.join(["make", "sweep", *(f"{name}={value}".replace("$", "$$") for name, value in variables.items())])


def run_line(study: Study, run: Run) -> str:
    """`stn-bench run` with the settings of a row of study.runs."""
    options = {"sweep": _file(study), "budget": study.budget}
    if _has_data(study):
        options |= {"data": UNKNOWN_DATA, "label": one_line(study.task_label)}
    options |= {name: str(run[name]) for name in ("variant", "pose", "stage")} | {"seed": f"{run['seed']:.0f}"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    words += [*_group_option(study), *_set_options(study)]
    settings = {str(name): value for name, value in run.items() if str(name).split(".")[0] in HYPER_PARAMETERS}
    words += [f"--{name}={_value(value)}" for name, value in settings.items() if not is_absent(value)]
    if study.source.get("minutes"):  # a probe's sizes are its own, not its file's
        words += [f"--protocol.{name}={_value(value)}" for name, value in study.protocol.items()]
    return shlex.join([".venv/bin/stn-bench", "run", *words])


def _set_options(study: Study) -> list[str]:
    """What was set on the command line, as its options."""
    overrides = typed_overrides(study.source.get("overrides") or {})
    return [word for override in overrides for word in ("--set", one_line(override))]


def _group(study: Study) -> str:
    """Which images belong together, as it was said; "" where nothing was, or in an older ledger."""
    group = re.sub(r"(?s)^csv:\.\.\./.*:", f"csv:{UNKNOWN_TABLE}:", study.source.get("group") or "")
    return group if one_line(group) == group else UNKNOWN_GROUP  # what cannot be shown as it is


def _group_option(study: Study) -> list[str]:
    return ["--group", group] if (group := _group(study)) else []


def _file(study: Study) -> str:
    return str(study.source.get("file") or UNKNOWN_SWEEP)


def _has_data(study: Study) -> bool:
    """Whether the images are the user's own folder; before format 3, a study does not say."""
    return bool(study.source.get("data"))


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):  # a column where some variants have nothing holds whole numbers as floats too
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else repr(value)
    return one_line(str(value))
