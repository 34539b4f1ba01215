"""What a study in the ledger has settled of what the command leaves to the machine, so that it stays settled.

A device and a precision that were found are part of every run's key, and a budget and a data set that were found are
part of the study's name: found anew on another machine, finished runs would not count.
"""

from collections.abc import Mapping
from typing import Any

from experiments.machine.device import Call, available_devices
from experiments.study.study import Study, read_protocol
from experiments.study.sweep_file import Section
from ledger.config import RESULT_FORMAT, Protocol
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.listed import keys_of

FOUND = ("device", "precision")
"""What of a protocol may be `auto`."""


def settled_protocol(ledger: Ledger, name: str, content_hash: str = "") -> Protocol | None:
    """The protocol of the ledger's study of that name; None where none is there that this version can go on with.

    Of what `auto` may find it has what was found first, whatever the sweep file has said in the meantime.

    content_hash: of the images that it must be of; empty for any. Raises UserError for a damaged manifest.
    """
    if name not in ledger.studies():
        return None
    known = ledger.read_study(name)
    if known["format"] != RESULT_FORMAT or content_hash not in ("", known["task"]["content_hash"]):
        return None
    file = str(ledger.root / "studies" / name / "study.json")
    if "protocol" not in known:
        return None
    return read_protocol(Protocol(), Section(file, "protocol", known["protocol"] | known.get("found", {})))


def num_finished(ledger: Ledger, name: str) -> int:
    """Runs that the ledger's study of that name lists and has; none where it has no such study, or a damaged one."""
    try:
        known: Mapping[str, Any] = ledger.read_study(name) if name in ledger.studies() else {"arms": []}
    except UserError:
        return 0
    return len({key for arm in known["arms"] for key in keys_of(arm) if key in ledger})


def begun_budget(ledger: Ledger, found: Study, other: Study, label: str, call: Call) -> tuple[Study, str]:
    """Of a study at the budget that was found here and at the other, the one to go on with, and what is to be said.

    label: of their images. It is the other one if that alone was begun in the ledger, on a device that is here too.
    """
    this, that = found.full_name(label), other.full_name(label)
    num = num_finished(ledger, that)
    if not num or found.task != other.task:
        return found, ""
    settled = settled_protocol(ledger, that)
    runs = f"{num:,} finished run{'s' if num != 1 else ''}"
    if this not in ledger.studies() and settled and settled.device in call(available_devices):
        return other, f"Budget {other.budget}, at which this study was begun: it has {runs} here."
    return found, f"At budget {other.budget} this study has {runs} here, which budget {found.budget} does not use."
