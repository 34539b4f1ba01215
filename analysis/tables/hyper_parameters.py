"""What every variant was trained with: the hyper-parameters of its winning trial."""

from analysis.ablation import hyper_parameter_names
from analysis.findings import Findings
from analysis.formats import Section, Table
from analysis.tables import table


@table("hyper_parameters")
def hyper_parameters(findings: Findings) -> Table | None:
    """One section, a row an arm; None where no run has a hyper-parameter that says anything."""
    found = findings.ablation
    names = hyper_parameter_names(found.rows)
    if not names:
        return None
    keys = tuple(row.winners for row in found.rows)
    rows = tuple(
        (found.study, row.pose, row.variant, *(row.hyper_parameters.get(name) for name in names), " ".join(own) or None)
        for row, own in zip(found.rows, keys, strict=True)
    )
    notes = (
        "Of the trial that won, or of those that did, where each seed was tuned anew; of the final runs where nothing "
        "was tuned. Settings that are the same in every run are left out, but for those of the optimiser.",
    )
    sections = (Section("", found.hyper_parameters, keys),)
    title = f"Hyper-parameters on {findings.study.task_label}"
    columns = ("study", "pose", "variant", *names, "run_keys")
    return Table(found.study, "hyper_parameters", title, sections, notes, columns, rows)
