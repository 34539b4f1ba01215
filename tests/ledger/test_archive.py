"""`archive`: a ledger as one file, which `merge` reads; the same bytes again, and none that was cut short."""

import io
import lzma
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from experiments.terminal.cli import main
from ledger.audit import audit
from ledger.checksums import LEFT_OUT, WEIGHTS
from ledger.ledger import Ledger
from ledger.sweep_lock import only_sweep_of
from tests.support.command_line import contents
from tests.support.split_ledger import NUM_RUNS, STUDY, cut, only_seed, whole_ledger
from tests.support.tiny_study import HereAndNow, sweep_here


def archive(root: Path, out: Path, *options: str) -> int:
    return main(["archive", str(root), "--out", str(out), *options])


@pytest.fixture
def whole(here: Path, tmp_path: Path) -> Path:
    return whole_ledger(tmp_path / "whole")


@pytest.fixture
def packed(whole: Path, tmp_path: Path) -> Path:
    assert archive(whole, tmp_path / "a.tar.xz") == 0
    return tmp_path / "a.tar.xz"


def test_what_was_archived_is_there_again(whole: Path, tmp_path: Path, capsys) -> None:
    packed = tmp_path / "a.tar.xz"
    assert archive(whole, packed) == 0
    assert f"{packed}: {NUM_RUNS} runs, 0." in capsys.readouterr().out
    assert main(["merge", str(packed), "--into", str(tmp_path / "again")]) == 0
    assert contents(tmp_path / "again") == {**contents(whole), "sweep.lock": b""}
    assert audit(tmp_path / "again").findings == []


@pytest.mark.skipif(not shutil.which("tar") or not shutil.which("xz"), reason="no tar, or no xz, here")
def test_other_programs_unpack_it_to_a_ledger(whole: Path, packed: Path, tmp_path: Path) -> None:
    (tmp_path / "unpacked").mkdir()
    subprocess.run(["tar", "xf", packed], cwd=tmp_path / "unpacked", check=True)
    assert contents(tmp_path / "unpacked/runs") == contents(whole)


def test_the_same_results_are_the_same_bytes(whole: Path, packed: Path, tmp_path: Path) -> None:
    """Whenever and in whatever order they were made, whatever lies beside them."""
    other = tmp_path / "other"
    for folder in sorted(whole.glob("*/*"), reverse=True):
        shutil.copytree(folder, other / folder.relative_to(whole))
    for path in other.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    Ledger(other).mark_sweep({"epoch": 1})
    (other / "studies" / STUDY / "optuna.log").write_text("")
    (other / "wandb/offline-run-1").mkdir(parents=True)
    assert archive(other, tmp_path / "b.tar.xz") == 0
    assert (tmp_path / "b.tar.xz").read_bytes() == packed.read_bytes()


@pytest.mark.long
def test_weights_are_left_out_on_request_and_that_is_said(here: Path, tmp_path: Path, capsys) -> None:
    sweep_here(tmp_path, HereAndNow(), final_seeds=1, search={"trials": 1})
    root, light = tmp_path / "runs", tmp_path / "light"
    assert archive(root, tmp_path / "light.tar.xz", "--no-weights") == 0
    assert archive(root, tmp_path / "whole.tar.xz") == 0
    assert (tmp_path / "light.tar.xz").stat().st_size < (tmp_path / "whole.tar.xz").stat().st_size / 2
    assert main(["merge", str(tmp_path / "light.tar.xz"), "--into", str(light)]) == 0
    left_out = {str(path.relative_to(root)): path for path in root.rglob(WEIGHTS)}
    assert len(left_out) == 2
    was = {name: text for name, text in contents(root).items() if name not in left_out and "optuna" not in name}
    marks = {name.replace(WEIGHTS, LEFT_OUT): b"" for name in left_out}
    assert contents(light) == {**was, **marks, "sweep.lock": b""}
    found = audit(light)
    assert found.findings == [] and any("2 runs without weights, which an archive left out" in n for n in found.notes)
    capsys.readouterr()
    key = next(iter(left_out.values())).parent.name
    assert main(["export", key, "--runs", str(light)]) == 2
    assert f"the weights of {key} were left out of the archive" in capsys.readouterr().err
    for path in light.rglob(LEFT_OUT):
        path.unlink()
    assert {finding.kind for finding in audit(light).findings} == {
        "missing"
    }  # weights that were lost are no such thing


def test_what_a_killed_one_has_unpacked_is_no_hindrance(whole: Path, packed: Path, tmp_path: Path) -> None:
    """Into a new ledger, and under a number that no process has."""
    into, dead = tmp_path / "into", 2**22 + 1
    (into / f".archive.0.{dead}/runs/runs").mkdir(parents=True)
    for name in ("sweep.lock", "sweep.holder", f".sweep.holder.{dead}"):
        (into / name).touch()
    assert main(["merge", str(packed), "--into", str(into)]) == 0
    assert not list(into.glob(".archive.*"))
    assert contents(into).items() >= contents(whole).items()


@pytest.mark.long
def test_one_that_was_cut_short_is_refused_wherever(packed: Path, tmp_path: Path, capsys) -> None:
    content = packed.read_bytes()
    for length in {*range(0, len(content), len(content) // 40), *range(len(content) - 40, len(content))}:
        packed.write_bytes(content[:length])
        assert main(["merge", str(packed), "--into", str(tmp_path / "into")]) == 2
        said = capsys.readouterr().err
        assert said == f"error: {packed}: was cut short; copy it again\n", length
        assert not (tmp_path / "into").exists()


def pack(members: dict[str, bytes], *, link: str = "", time: str = "0") -> bytes:
    stream = io.BytesIO()
    with lzma.LZMAFile(stream, "w") as file, tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.linkname = len(content), link
            member.pax_headers = {"mtime": time}
            member.type = tarfile.SYMTYPE if link else tarfile.REGTYPE
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


OTHERS = {
    "no archive": b"a thesis",
    "a tar": lzma.decompress(pack({"runs/runs/a/run.json": b"{}"})),
    "no tar": lzma.compress(b"a thesis"),
    "another's": pack({"thesis/main.tex": b""}),
    "outside": pack({"runs/runs/../../../../outside": b""}),
    "a link": pack({"runs/runs/a": b""}, link="/etc/passwd"),
    "a time that is none": pack({"runs/runs/a/run.json": b"{}"}, time="1e400"),
    "a file where a folder is": pack({"runs/runs/a/b": b"", "runs/runs/a": b""}),
    "a folder where a file is": pack({"runs/runs/a": b"", "runs/runs/a/b": b""}),
    "a folder below one": pack({"runs/runs/a": b"", "runs/runs/a/b/c": b""}),
    "a long name": pack({f"runs/runs/{'a' * 300}": b""}),
    "absolute": pack({"/outside": b""}),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_archive_is_refused(kind: str, here: Path, tmp_path: Path, capsys) -> None:
    file = tmp_path / "some/other.tar.xz"
    file.parent.mkdir()
    file.write_bytes(OTHERS[kind])
    assert main(["merge", str(file), "--into", str(tmp_path / "into")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {file}: is not an archive of a ledger") and said.count("\n") == 1
    assert {path.name for path in tmp_path.rglob("*")} == {"here", "some", "other.tar.xz"}


def test_one_that_was_damaged_is_refused(packed: Path, whole: Path, tmp_path: Path, capsys) -> None:
    """On the way, or before it was packed."""
    content = bytearray(packed.read_bytes())
    content[len(content) // 2] ^= 1
    packed.write_bytes(content)
    assert main(["merge", str(packed), "--into", str(tmp_path / "into")]) == 2
    assert f"{packed}: is not an archive" in capsys.readouterr().err
    members = {f"runs/{name}": text for name, text in contents(whole).items()}
    name = next(name for name in members if name.endswith("history.json"))
    packed.write_bytes(pack({**members, name: b"[]"}))
    assert main(["merge", str(packed), "--into", str(tmp_path / "into")]) == 2
    said = capsys.readouterr().err
    assert f"error: {packed}/{name.removeprefix('runs/')}: edited" in said and ".archive" not in said
    assert not (tmp_path / "into").exists()


def test_what_cannot_be_archived_is_refused(whole: Path, tmp_path: Path, capsys) -> None:
    def refused(root: Path, out: Path) -> str:
        assert archive(root, out) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1
        assert not out.is_file() and not list(tmp_path.glob(".*"))
        return said

    assert "give a file whose name ends in .tar.xz" in refused(whole, tmp_path / "a.zip")
    assert "there is no ledger at" in refused(tmp_path / "nowhere", tmp_path / "a.tar.xz")
    assert "is not a ledger" in refused(tmp_path, tmp_path / "a.tar.xz")
    assert "No such file" in refused(whole, tmp_path / "nowhere/a.tar.xz")
    (tmp_path / "empty/runs").mkdir(parents=True)
    assert "holds no run yet" in refused(tmp_path / "empty", tmp_path / "a.tar.xz")
    with only_sweep_of(whole):
        assert f"another sweep is at work in {whole}" in refused(whole, tmp_path / "a.tar.xz")
    next(whole.rglob("history.json")).write_text("[]")
    assert "history.json: edited" in refused(whole, tmp_path / "a.tar.xz")


def test_archives_and_ledgers_are_merged_together(here: Path, tmp_path: Path) -> None:
    halves = [cut(tmp_path / f"half{seed}", only_seed(seed)) for seed in (1, 2)]
    assert archive(halves[0], tmp_path / "a.tar.xz") == 0
    assert main(["merge", str(tmp_path / "a.tar.xz"), str(halves[1]), "--into", str(tmp_path / "merged")]) == 0
    merged, known = contents(tmp_path / "merged"), contents(whole_ledger(tmp_path / "whole"))
    assert {name for name in merged if name != "sweep.lock"} == set(known)
    assert all(
        merged[name] == known[name] for name in known if name.endswith((".safetensors", "run.json", "study.json"))
    )
