"""What a user, a notebook or a folder has set for matplotlib reaches no figure, and ends no command."""

from pathlib import Path

import matplotlib
import pytest

from analysis.figures import style
from tests.support.command_line import contents, run
from tests.support.synthetic_ledger import STUDY, write_arm, write_study

RC = b"text.usetex: True\nsavefig.bbox: tight\naxes.formatter.use_locale: True\nno.such: 1\nno colon\n"
NOT_UTF_8 = b"\xff\xfe\n"


def set_all(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend that a Jupyter kernel sets for `!make ...`, and settings in the folder and at home."""
    monkeypatch.setenv("MPLBACKEND", "module://no_such_package.backend_inline")
    (folder / "matplotlibrc").write_bytes(RC + NOT_UTF_8)
    config = folder / "home" / ".config" / "matplotlib"
    (config / "stylelib").mkdir(parents=True)
    (config / "matplotlibrc").write_bytes(RC)
    (config / "stylelib" / "mine.mplstyle").write_bytes(NOT_UTF_8)
    monkeypatch.setenv("HOME", str(folder / "home"))
    for name in ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    (folder / "mine").write_bytes(RC)
    monkeypatch.setenv("MATPLOTLIBRC", str(folder / "mine"))


def set_no_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the settings above, but a backend that does not exist and a place for caches that cannot be made."""
    monkeypatch.setenv("MPLBACKEND", "nonsense")
    (folder / "file").touch()
    monkeypatch.setenv("MPLCONFIGDIR", str(folder / "file" / "cache"))


@pytest.mark.long
def test_the_report_is_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = tmp_path / "runs"
    arms = [write_arm(ledger, name, "cnn", [0.5, 0.51, 0.53], trial_statuses=()) for name in ("cnn", "stn_affine")]
    write_study(ledger, arms)
    found: list[dict[str, bytes]] = []
    for spoil in (set_all, set_no_cache):
        folder = tmp_path / str(len(found))
        folder.mkdir()
        with monkeypatch.context() as patch:
            spoil(folder, patch)
            done = run("report", "--runs", ledger, cwd=folder)
        assert (done.returncode, done.stderr) == (0, "")
        found.append(contents(folder / "reports" / STUDY))
    assert {"forest.png", "ablation.svg", "ablation.pdf", "report.html"} <= set(found[0])
    assert sorted(found[1]) == sorted(found[0])
    assert [name for name in found[1] if found[1][name] != found[0][name]] == []


def test_nor_does_what_is_set_before_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a notebook that has matplotlib already."""
    monkeypatch.setitem(matplotlib.rcParams, "savefig.bbox", "tight")
    monkeypatch.setitem(matplotlib.rcParams, "axes.formatter.use_locale", True)
    with style.applied():
        assert matplotlib.rcParams["savefig.bbox"] is None
        assert matplotlib.rcParams["axes.formatter.use_locale"] is False
        assert matplotlib.rcParams["font.size"] == 8
    assert matplotlib.rcParams["savefig.bbox"] == "tight"
