"""Output whose encoding is not UTF-8: every text is printed, and tables stay tables."""

import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from experiments.terminal.display import print_tables
from ledger.plain_text import STAND_INS, listed, print_anything
from tests.support.project import ROOT

C_LOCALE = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def stream_of(encoding: str) -> tuple[io.TextIOWrapper, io.BytesIO]:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding=encoding, newline="\n")
    print_anything(stream)
    return stream, written


@pytest.mark.parametrize(
    ("encoding", "text", "printed"),
    [
        ("ascii", "56.4 ± 0.9 − 3 — 1 · 2…", b"56.4 +-0.9 - 3 - 1 | 2..."),
        ("ascii", "± is half", b"+- is half"),
        ("latin-1", "56.4 ± 0.9 − 3 — 1 · 2…", b"56.4 \xb1 0.9 - 3 - 1 \xb7 2..."),
        ("ascii", "turned 12° clockwise, R²", b"turned 12 deg clockwise, R2"),
        ("ascii", "café 花 \U0001f98b", rb"caf\xe9 \u82b1 \U0001f98b"),
        ("latin-1", "café 花", b"caf\xe9 \\u82b1"),
        ("utf-8", "café 花 ± \U0001f98b", "café 花 ± \U0001f98b".encode()),
        ("utf-8", os.fsdecode(b"caf\xe9.png"), rb"caf\xe9.png"),
        ("ascii", os.fsdecode(b"caf\xe9.png"), rb"caf\xe9.png"),
        ("utf-8", "half a pair \ud83e", rb"half a pair \ud83e"),
    ],
)
def test_what_an_encoding_lacks_is_printed_in_other_letters(encoding: str, text: str, printed: bytes) -> None:
    stream, written = stream_of(encoding)
    print(text, file=stream, flush=True)
    assert written.getvalue() == printed + b"\n"


@pytest.mark.parametrize(("num", "text"), [(0, ""), (2, "a, b"), (3, "a, b, c"), (5, "a, b, c, ... (2 more)")])
def test_of_many_names_the_first_are_listed_and_the_others_counted(num: int, text: str) -> None:
    assert listed("abcde"[:num], 3) == text
    assert listed("abcde"[:num], 3, between="; ") == text.replace(",", ";")


def test_stand_ins_are_ascii() -> None:
    assert all(stand_in.isascii() and not character.isascii() for character, stand_in in STAND_INS.items())


def test_a_tables_columns_stay_below_each_other() -> None:
    rows = [("cnn", "50.0 ± 1.0", "—"), ("stn_affine", "9.0 ± 0.1", "−3.0 ± 0.5")]
    table = SimpleNamespace(columns=("Variant", "Test %", "Difference"), align="lrr", rows=rows)
    found = SimpleNamespace(title="Ablation", sections=[SimpleNamespace(heading="Pose R", table=table)])
    stream, written = stream_of("ascii")
    print_tables(Console(file=stream, width=80), found, lambda table: table.columns)
    stream.flush()
    lines = [line for line in written.getvalue().decode("ascii").splitlines() if line.startswith(("|", "+"))]
    assert len(lines) == 6 and len(set(map(len, lines))) == 1
    assert "|        cnn" not in "".join(lines) and "-3.0 +-0.5" in lines[4]


@pytest.mark.parametrize(
    "environment", [{"PYTHONIOENCODING": "latin-1"}, {"PYTHONIOENCODING": "ascii"}, C_LOCALE, {}], ids=str
)
def test_commands_end_well_whatever_the_encodings(environment: dict[str, str], tmp_path: Path) -> None:
    names = ("鳥 ± é".encode(), b"caf\xe9")
    for name in names:
        os.mkdir(os.fsencode(tmp_path) + b"/" + name)
    for name, status, said in (
        *((name, 0, b": 0 finished runs") for name in names),
        (b"\xe9", 2, b"there is no ledger"),
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "experiments", "status", "--runs", name],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            capture_output=True,
        )
        assert (ended.returncode, ended.stderr.count(b"\n")) == (status, int(status > 0)), ended.stderr
        assert said in ended.stdout + ended.stderr
