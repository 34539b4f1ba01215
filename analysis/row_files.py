"""What is too long for a table: every epoch and every prediction of a study's runs, as CSV files for programs."""

import gzip

import pandas as pd

from analysis.faults import kept
from analysis.findings import Findings
from analysis.formats.csv import csv_text
from analysis.frames import HISTORY, PREDICTIONS, Frames
from ledger.committed import is_there

NAMES = ("history.csv", "predictions.csv.gz")
ABOUT = ["key", "pose", "variant", "stage", "seed"]
"""The run, in front of each row."""
MAX_BYTES = 12 * 2**20
"""Of predictions in the ledger, about a million: of more, no table of text is made. `analysis.load` has them all."""
LEVEL = 4
"""Of gzip: 9 takes fourteen times as long, for a file that is 6 % smaller."""


def row_files(findings: Findings) -> dict[str, bytes]:
    """Both files' bytes by name, without one whose runs are lacking, and without predictions where they are too many.

    A fault of one is among findings.faults.
    """
    runs = findings.study.runs
    made = runs.loc[runs["status"] != "missing", ABOUT].drop_duplicates("key")
    if made.empty:
        return {}
    made = made.assign(**{name: made[name].map(csv_text) for name in ("pose", "variant")})
    frames = Frames(findings.study.ledger, tuple(made["key"]))
    content: dict[str, bytes] = {}
    with kept(findings.faults, "history.csv"):
        content |= {"history.csv": rows} if (rows := _csv(made, frames.history, HISTORY)) else {}
    files = [findings.study.ledger / "runs" / key / "predictions.safetensors" for key in made["key"]]
    if sum(file.stat().st_size for file in files if is_there(file)) > MAX_BYTES:
        return content
    with kept(findings.faults, "predictions.csv.gz"):
        if rows := _csv(made, frames.predictions, PREDICTIONS):
            content["predictions.csv.gz"] = gzip.compress(rows, LEVEL, mtime=0)  # the same runs, the same bytes
    return content


def _csv(made: pd.DataFrame, rows: pd.DataFrame, columns: list[str]) -> bytes:
    if rows.empty:
        return b""
    ordered = [*ABOUT, *columns[1:], *(name for name in rows if name not in columns)]
    joined = made.merge(rows.astype({"key": object}), on="key")
    return joined[[name for name in ordered if name in joined]].to_csv(index=False, float_format="%.6g").encode()
