"""Figures: written, the same on every repetition, and showing what the table says."""

import hashlib
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.registry import FORMATS, Builder, builders, figure_files, write_figures
from analysis.findings import Findings, find
from analysis.names import wrapped
from tests.support.drawn_figures import built, drawn, texts
from tests.support.synthetic_ledger import TASK, write_arm, write_study


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    ledger = tmp_path / "runs"
    arms = [
        write_arm(ledger, "cnn", "cnn", [0.50, 0.51, 0.52]),
        write_arm(ledger, "cnn+affine", "cnn", [0.60, 0.61, 0.63]),
        write_arm(ledger, "stn_affine", "cnn", [0.49, "diverged", 0.54]),
        write_arm(ledger, "stn_affine+affine", "cnn+affine", ["failed", None, "failed"]),
    ]
    write_study(ledger, arms)
    return ledger


def points(ax: Axes, marker_size: float) -> list[float]:
    """x of all markers of a size, in the order of drawing."""
    return [
        round(x, 6)
        for line in ax.lines
        if line.get_marker() == "o" and line.get_markersize() == marker_size
        for x in np.asarray(line.get_xdata()).tolist()
    ]


def test_write_figures(ledger: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = {"one", "two"}

    def builder(name: str) -> Builder:
        def build(findings: Findings) -> Figure | None:
            figure = Figure(figsize=(2, 1))
            figure.subplots().set_title(f"{name} of {findings.study.name}")
            return figure if name in shown else None

        return build

    both = {name: ("", builder(name)) for name in ("one", "two")}
    monkeypatch.setattr("analysis.figures.registry.builders", lambda: both)
    findings, out = find(ledger, "tiny-cpu"), tmp_path / "out"
    (out / "mine.png").parent.mkdir()
    (out / "mine.png").write_bytes(b"kept")
    paths = write_figures(findings, out)
    assert [path.name for path in paths] == ["one.png", "one.svg", "one.pdf", "two.png", "two.svg", "two.pdf"]
    for path in paths:
        data = path.read_bytes()
        if path.suffix == ".svg":
            assert ElementTree.fromstring(data).tag.endswith("svg")
        else:
            assert data.startswith({".png": b"\x89PNG", ".pdf": b"%PDF"}[path.suffix])
    shown.remove("one")
    assert [path.name for path in write_figures(findings, out)] == ["two.png", "two.svg", "two.pdf"]
    assert {path.name for path in out.iterdir()} == {"mine.png", "two.png", "two.svg", "two.pdf"}


_BYTES = """
import hashlib, sys
from pathlib import Path
from analysis.figures import style
from analysis.figures.ablation import ablation_figure
from analysis.figures.registry import figure_files
from analysis.findings import find
with style.applied():
    for data in figure_files(ablation_figure(find(Path(sys.argv[1]), "tiny-cpu"))).values():
        print(hashlib.sha256(data).hexdigest())
"""


def test_same_bytes_in_another_process(ledger: Path) -> None:
    figure = built("ablation", find(ledger, "tiny-cpu"))
    assert figure is not None
    files = figure_files(figure)
    other = subprocess.run([sys.executable, "-c", _BYTES, str(ledger)], check=True, capture_output=True, text=True)
    assert other.stdout.split() == [hashlib.sha256(data).hexdigest() for data in files.values()]
    assert b"/Type3" not in files["pdf"] and b"/CIDFontType2" in files["pdf"]  # journals refuse Type 3 fonts


def test_every_figure_has_a_caption() -> None:
    assert {"ablation", "curves", "ranges"} <= set(builders())
    for name, (caption, _) in builders().items():
        longest = 800 if name in ("ablation", "forest", "ladder") else 400
        assert 60 < len(caption) < longest and caption.endswith("."), name


def test_dots_are_the_scores(ledger: Path) -> None:
    figure = drawn("ablation", find(ledger, "tiny-cpu"))
    left, right = figure.axes
    assert points(left, 2.6) == [50, 51, 52, 60, 61, 63, 49, 54]
    assert points(left, 5) == [51, pytest.approx(61.333333), 51.5]
    assert points(right, 2.6) == [10, 10, 11, -1, 2]
    shown = texts(figure)
    assert "stn_affine  (2 of 3)" in shown
    assert "no completed final run" in shown
    assert any("\nTiny (JPEG) · tiny-cpu" in text for text in shown)


def test_curves_are_means_over_completed_runs(ledger: Path) -> None:
    cnn, stn = drawn("curves", find(ledger, "tiny-cpu")).axes
    for ax in (cnn, stn):
        assert 0 < ax.get_xlim()[0] < 1 < 6 < ax.get_xlim()[1] < 7
        assert 0 < ax.get_ylim()[0] < 11 < 61 < ax.get_ylim()[1] < 100
    solid = [line for line in stn.lines if line.get_zorder() == 3]
    dotted = [line for line in stn.lines if line.get_linestyle() == ":" and line.get_zorder() == 2]
    assert [len(np.asarray(line.get_xdata())) for line in solid] == [6, 0]
    assert [len(np.asarray(line.get_xdata())) for line in dotted] == [3]
    end = np.asarray(cnn.lines[1].get_ydata())[-1]
    assert end == pytest.approx(100 * 0.52 * (1 - 0.7 * 2.718281828**-6))


def test_odd_labels_and_several_poses(tmp_path: Path) -> None:
    ledger, label = tmp_path / "runs", "Odd_$x^2$ |name| <b> 100% 猫"
    arms = []
    for pose in ("upright", "R"):
        arms.append(write_arm(ledger, "cnn", "cnn", [0.5], pose=pose))
        arms.append(write_arm(ledger, "cnn+$\\frac", "cnn", [0.5], pose=pose))
    write_study(ledger, arms, task={**TASK, "label": label})
    figure, curves = (drawn(name, find(ledger, "tiny-cpu")) for name in ("ablation", "curves"))
    assert set(figure_files(figure)) == set(figure_files(curves)) == set(FORMATS)
    assert len(figure.axes) == 4
    shown = label.replace("猫", "?")  # which our font lacks
    assert any(f"\n{shown} ·" in text for text in texts(figure))


VARIANTS = {
    "cnn": 0.0,
    "cnn+affine": 0.01,
    "stn_rotation:start_sd=0.02:loc=deep@lenet+rotate:max_deg=45": 0.02,
    "stn_rotation:start_sd=0.02:loc=deep@lenet+rotate:max_deg=90": 0.03,
}


def write_ranges(ledger: Path, poses: dict[str, float]) -> None:
    """A study whose accuracy at each pose is about the one given."""
    arms = [
        write_arm(ledger, variant, "cnn", [mean + plus, mean + plus + 0.02, mean + plus + 0.01], pose=pose)
        for pose, mean in poses.items()
        for variant, plus in VARIANTS.items()
    ]
    write_study(ledger, arms)


def test_ranges(tmp_path: Path) -> None:
    ledger = tmp_path / "runs"
    write_ranges(ledger, {"R": 0.6, "R:max_deg=30": 0.8, "upright": 0.9, "RTS": 0.5, "R:max_deg=60:corners=zeros": 0.4})
    figure = drawn("ranges", find(ledger, "tiny-cpu"))
    (ax,) = figure.axes
    *lines, chance = ax.lines
    assert len(lines) == len(VARIANTS)
    assert set(np.asarray(chance.get_ydata()).tolist()) == {50}  # two classes
    for line, plus in zip(lines, VARIANTS.values(), strict=True):
        assert np.asarray(line.get_xdata()).tolist() == [0, 30, 90]
        np.testing.assert_allclose(np.asarray(line.get_ydata()), [91 + 100 * plus, 81 + 100 * plus, 61 + 100 * plus])
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == len(VARIANTS)
    assert lines[0].get_color() == lines[1].get_color() != lines[2].get_color()
    band = ax.collections[0].get_paths()[0].vertices
    assert np.ptp(np.asarray(band)[:, 1][np.asarray(band)[:, 0] == 30]) == pytest.approx(2 * 2.48414, rel=1e-4)
    shown = "".join(texts(figure)).replace("\n", "")
    assert all(variant in shown for variant in VARIANTS)  # whole, though they are long


@pytest.mark.parametrize("poses", [["upright", "R"], ["R:max_deg=30"], ["R:max_deg=30", "RTS"], ["R:deg=3", "R"]])
def test_no_ranges_without_several(tmp_path: Path, poses: list[str]) -> None:
    write_ranges(tmp_path, dict.fromkeys(poses, 0.5))
    assert built("ranges", find(tmp_path, "tiny-cpu")) is None


def test_ranges_of_nothing(tmp_path: Path) -> None:
    arms = [write_arm(tmp_path, "cnn", "cnn", [None], pose=pose) for pose in ("upright", "R:max_deg=30")]
    write_study(tmp_path, arms)
    assert "cnn  (no completed final run)" in texts(drawn("ranges", find(tmp_path, "tiny-cpu")))


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("cnn", "cnn"),
        ("stn:loc=deep+rotate", "stn:loc=deep\n+rotate"),
        ("a:b=1@c", "a:b=1@c"),
        ("averyverylongname+b", "averyverylo…\n+b"),
        ("", ""),
    ],
)
def test_long_names_are_broken_between_their_parts(name: str, lines: str) -> None:
    assert wrapped(name, 12) == lines


def test_nothing_finished_yet(tmp_path: Path) -> None:
    ledger = tmp_path / "runs"
    write_study(ledger, [write_arm(ledger, "cnn", "cnn", [None, None], trial_statuses=())])
    findings = find(ledger, "tiny-cpu")
    assert "no validation scores" in texts(drawn("curves", findings))
    assert "no completed final run" in texts(drawn("ablation", findings))
