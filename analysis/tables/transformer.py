"""What the variants' transformers do to images."""

from analysis.diagnostics import MEANS, verdict_text
from analysis.findings import Findings
from analysis.formats import Section, Table, Value
from analysis.tables import table


@table("transformer")
def transformer(findings: Findings) -> Table | None:
    """A section a pose; None where no run has a record of its transformer. Rows are in the ledger's names and units."""
    found = findings.transformers
    if found is None:
        return None
    sections = tuple(
        Section(f"Pose {section.pose}", section.table, tuple(look.keys for look in section.rows))
        for section in found.sections
    )
    rows: list[tuple[Value, ...]] = []
    for look in (look for section in found.sections for look in section.rows):
        numbers = [number for name in MEANS for number in look.means[name]]
        place = (found.study, look.pose, look.variant, found.stage, verdict_text(look))
        rows.append((*place, *numbers, " ".join(look.keys)))
    names = [f"{name}{end}" for name in MEANS for end in ("", "_half_width", "_num_runs")]
    columns = ("study", "pose", "variant", "stage", "verdicts", *names, "run_keys")
    return Table(found.study, "transformer", found.title, sections, found.notes, columns, tuple(rows))
