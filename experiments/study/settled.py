"""What a study in the ledger has settled of what the command leaves to the machine, so that it stays settled.

Device and precision are part of every run's key, budget and data set of the study's name: finished runs would not count
where they were found anew.
"""

from experiments.machine.device import Call, available_devices
from experiments.study.study import Study, read_protocol
from experiments.study.sweep_file import Section
from ledger.config import RESULT_FORMAT, Protocol
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.listed import keys_of
from ledger.wording import count

FOUND = ("device", "precision")
"""What of a protocol may be `auto`."""


def settled_protocol(ledger: Ledger, name: str, content_hash: str = "") -> Protocol | None:
    """The protocol of the ledger's study of that name; None where none is there that this version can go on with.

    What `auto` finds is as it was found first, whatever the sweep file has said in the meantime.
    content_hash: of the images that it must be of; empty for any. Raises UserError for a damaged manifest.
    """
    known = ledger.read_study(name) if name in ledger.studies() else {}
    if known.get("format") != RESULT_FORMAT or "protocol" not in known:
        return None
    if content_hash not in ("", known["task"]["content_hash"]):
        return None
    file = str(ledger.root / "studies" / name / "study.json")
    return read_protocol(Protocol(), Section(file, "protocol", known["protocol"] | known.get("found", {})))


def num_finished(ledger: Ledger, name: str) -> int:
    """Runs that the ledger's study of that name lists and has; none where it has no such study, or a damaged one."""
    try:
        arms = ledger.read_study(name)["arms"] if name in ledger.studies() else []
    except UserError:
        return 0
    return len({key for arm in arms for key in keys_of(arm) if key in ledger})


def begun_budget(ledger: Ledger, study: Study, other: Study, label: str, call: Call) -> tuple[Study, str]:
    """The study to go on with, at the budget that this machine suggests or at the other one, and why, in words.

    label: of their images. It is the other one if that alone was begun in the ledger, on a device that is here too.
    """
    this, that = study.full_name(label), other.full_name(label)
    num = num_finished(ledger, that)
    if not num or study.task != other.task:
        return study, ""
    settled = settled_protocol(ledger, that)
    runs = count(num, "finished run")
    if this not in ledger.studies() and settled and settled.device in call(available_devices):
        return other, f"Budget {other.budget}, at which this study was begun: it has {runs} here."
    return study, f"At budget {other.budget} this study has {runs} here, which budget {study.budget} does not use."
