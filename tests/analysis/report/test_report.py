"""The report: one file, whole by itself, safe for any text, for any ledger that can be read."""

import base64
import hashlib
import itertools
import json
import os
import re
import shlex
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jsonargparse import Namespace

from analysis.answer import answer, headline
from analysis.earlier_names import model_said
from analysis.figures import registry
from analysis.findings import Findings, find
from analysis.report.method import variant_words
from analysis.report.page import NAME, Picture, picture, report_html, write_report
from analysis.report.reproduce import commands
from analysis.tables import write_tables
from experiments.terminal.commands import report
from experiments.terminal.commands.ledgers import named_study
from experiments.terminal.commands.options import find_study
from ledger.errors import UserError
from ledger.ledger import Ledger
from tests.support.command_line import contents, run
from tests.support.drawn_figures import study_of
from tests.support.synthetic_ledger import (
    SEEDS,
    STUDY,
    TASK,
    edit_json,
    key_of,
    write_arm,
    write_study,
    write_tiny_study,
)

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (160).to_bytes(4) + (80).to_bytes(4) + b"\x08\x02"
HOSTILE = "<script>alert(1)</script> & \"'%_|=cmd {{ 7 * 7 }} </title> Ünï 猫"
VOID = {"meta", "link", "img", "input", "br", "hr", "wbr", "source"}


class Page(HTMLParser):
    """A page read strictly: every element is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"{tag} has an attribute twice"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.elements if name == tag)

    @property
    def text(self) -> str:
        """What can be read."""
        return " ".join(" ".join(text for tag, text in self.texts if tag not in ("script", "style", "title")).split())


def some_picture(name: str = "forest", caption: str = "Intervals & <b>more</b>") -> Picture:
    return picture(name, caption, b"<svg/>", PNG)


def page_of(findings: Findings, *pictures: Picture) -> Page:
    return Page(report_html(findings, pictures))


@pytest.fixture
def tiny(tmp_path: Path) -> Findings:
    write_tiny_study(tmp_path)
    return find(tmp_path, STUDY)


def test_it_needs_nothing_else(tiny: Findings) -> None:
    page = page_of(tiny, some_picture(), some_picture("curves"))
    addresses = [attributes[name] for _, attributes in page.elements for name in ("src", "href") if name in attributes]
    assert len(addresses) > 10
    assert {str(address).partition(":")[0] for address in addresses if not str(address).startswith("#")} == {"data"}
    assert {name for name, _ in page.elements} & {"iframe", "object", "embed", "base", "form"} == set()
    assert [attributes for attributes in page.all("link") if attributes.get("rel") != "icon"] == []
    style = "".join(text for tag, text in page.texts if tag == "style")
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"https?://", report_html(tiny, []))


def test_the_browser_is_told_so(tiny: Findings) -> None:
    """Only the script that is in the page may run: its hash is in the policy."""
    page = page_of(tiny)
    (script,) = (text for tag, text in page.texts if tag == "script")
    policy = next(str(m["content"]) for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_headings_are_in_order(tiny: Findings) -> None:
    levels = [int(name[1]) for name, _ in page_of(tiny, some_picture()).elements if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in itertools.pairwise(levels))


def test_places_are_unique_and_links_lead_somewhere(tiny: Findings) -> None:
    page = page_of(tiny, some_picture(), some_picture("curves"), some_picture("never heard of"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    links = {str(attributes["href"]).removeprefix("#") for attributes in page.all("a")}
    assert links <= set(ids)
    assert "figure-never heard of" in ids


def test_it_says_the_answer(tiny: Findings) -> None:
    html = report_html(tiny, [])
    read = Page(html).text.replace("\u00a0", " ")
    for sentence in answer(tiny):
        assert sentence in read
    (description,) = (m["content"] for m in Page(html).all("meta") if m.get("name") == "description")
    assert description == headline(tiny)


def test_pictures_have_captions_and_sizes(tiny: Findings) -> None:
    page = page_of(tiny, some_picture())
    (image,) = page.all("img")
    assert image["alt"] == "Intervals & <b>more</b>"
    assert "Intervals & <b>more</b>" in page.text
    assert (image["width"], image["height"]) == ("128", "64")
    assert base64.b64decode(str(image["src"]).partition("base64,")[2]) == b"<svg/>"


def test_a_large_drawing_is_shown_as_pixels() -> None:
    assert picture("a", "", b"<" * 500_000, PNG).source.startswith("data:image/png;base64,")
    assert picture("a", "", b"<" * 300_000, PNG).source.startswith("data:image/svg+xml;base64,")


def test_every_table_names_its_runs(tiny: Findings) -> None:
    text = page_of(tiny).text
    for seed in SEEDS:
        assert key_of("upright", "cnn", seed) in text
    assert "7 of 20 final runs are not completed" in text
    assert "out of memory | <8 GiB>" in text


def test_the_same_ledger_gives_the_same_bytes(tiny: Findings) -> None:
    again = find(tiny.study.ledger, STUDY)
    assert report_html(tiny, [some_picture()]) == report_html(again, [some_picture()])


def hostile_study(ledger: Path) -> Findings:
    task = TASK | {"label": HOSTILE, "classes": [HOSTILE, "b"]}
    arms = [
        write_arm(ledger, "cnn", "cnn", [0.5, 0.52], task=task, pose="R"),
        write_arm(ledger, "x<i>&", "cnn", [0.5, "failed"], task=task, pose="R"),
        write_arm(ledger, "cnn", "cnn", [0.5, None], task=task, pose="<b>&"),
    ]
    write_study(ledger, arms, task=task, source={"file": "my sweep $(touch x).yaml", "data": True})
    return find(ledger, STUDY)


def test_hostile_text_is_only_text(tmp_path: Path) -> None:
    findings = hostile_study(tmp_path)
    page = page_of(findings, some_picture("<x>", HOSTILE))
    assert HOSTILE in page.text.replace("\u00a0", " ")
    assert len([None for name, _ in page.elements if name == "script"]) == 1
    assert len([None for name, _ in page.elements if name == "title"]) == 1
    assert "i" not in {name for name, _ in page.elements}
    assert "x<i>&" in page.text


def test_commands_survive_the_shell(tmp_path: Path) -> None:
    findings = hostile_study(tmp_path)
    sweep, _, single = (command.line for command in commands(findings))
    assert shlex.split(sweep)[2:] == [
        "SWEEP=my sweep $$(touch x).yaml",
        "BUDGET=cpu",
        "DATA=path/to/images",
        f"LABEL={HOSTILE}",
    ]
    words = shlex.split(single)
    assert words[words.index("--sweep") + 1] == "my sweep $(touch x).yaml"
    assert words[words.index("--label") + 1] == HOSTILE


def test_the_single_run_is_the_best_variants(tiny: Findings) -> None:
    *_, single = commands(tiny)
    assert key_of("upright", "cnn+affine", 11) in single.does
    words = shlex.split(single.line)
    assert words[:2] == [".venv/bin/stn-bench", "run"]
    from experiments.terminal.cli import command_line

    parser = command_line().parser
    options: Namespace = parser.parse_args(words[1:])["run"]
    assert (options.variant, options.seed, options.stage, options.pose) == ("cnn+affine", 11, "final", "upright")
    assert (options.optim.lr, options.optim.weight_decay) == (0.1, 5e-4)


def test_what_an_old_ledger_does_not_say(tiny: Findings) -> None:
    """Format 2 knows neither the sweep file nor the sampler."""
    text = page_of(tiny).text
    assert "This ledger does not say which sweep file it is of" in text
    assert "make sweep SWEEP=YOUR_SWEEP.yaml BUDGET=cpu" in text
    assert "proposed by" not in text


@pytest.mark.parametrize(
    "accuracies", [[], [None], ["failed"], ["failed"] * 5, [0.5], [0.5] * 5, ["diverged", 0.5]], ids=str
)
def test_poor_ledgers(tmp_path: Path, accuracies: list[Any]) -> None:
    arms = [write_arm(tmp_path, name, "cnn", accuracies, trial_statuses=()) for name in ("cnn", "stn_affine")]
    write_study(tmp_path, arms)
    page = page_of(find(tmp_path, STUDY))
    assert "nan" not in page.text.replace("unknown", "").lower().split()
    assert "Nothing was tuned" in page.text


def test_poses_can_be_told_apart(tmp_path: Path) -> None:
    arms = [
        write_arm(tmp_path, name, "cnn", [0.5, 0.6], pose=pose)
        for pose in ("R", "R:max_deg=30", "R: accuracy")
        for name in ("cnn", "stn_affine")
    ]
    write_study(tmp_path, arms)
    found = [part.get("data-pose") for part in page_of(find(tmp_path, STUDY)).all("div") if part.get("class") == "part"]
    assert {"R", "R:max_deg=30", "R: accuracy"} <= set(found)


def in_words(variant: str) -> str:
    """Of an arm that says no more of itself than its name."""
    return variant_words(variant, *model_said(variant))


def test_variants_in_words() -> None:
    maps = "affine maps: turns, scales, shears and shifts"
    assert in_words("stn_affine:steps=2@lenet+rotate:max_deg=90") == (
        f"a spatial transformer in front of the network; it chooses {maps}; it looks 2 times, each time at what it saw "
        "before; on the network lenet; shown changed copies in training (augmentation rotate, max_deg 90)"
    )
    assert in_words("cnn+flip_crop:padding_px=1+affine").endswith(
        "; shown changed copies in training (augmentation flip_crop, padding_px 1, then affine)"
    )
    assert in_words("stn_affine:place=shared") == (
        f"a spatial transformer in front of the network; it chooses {maps}; it looks through the network's own first "
        "stage"
    )
    assert in_words("stn_affine:place=feature:stage=2:padding=border") == (
        f"a spatial transformer between the stages of the network, after the first 2 stages; it chooses {maps}, with "
        "padding border"
    )
    assert in_words("stn_rotation:localisation=deep:start_sd=0.02:consistency=1:prior=0.3") == (
        "a spatial transformer in front of the network; it chooses turns; its localisation network is a larger one; it "
        "starts with small random moves (weights of standard deviation 0.02), not with none; it is trained to see the "
        "same picture however an image is turned (weight 1); it is trained to move images no more than it must "
        "(weight 0.3)"
    )
    assert in_words("stn_affine:heads=4:size=0.5").endswith("looks at 4 parts of the image side by side, with size 0.5")
    assert in_words("stn_supervised:place=feature").endswith(
        "; it stands between the stages of the network, after the first stage"
    )
    assert in_words("cnn:width=2").endswith(", with width 2")
    assert in_words("stn_affine:steps={x}").count("{x}") == 1
    assert in_words("unheard_of") == "the model unheard_of"


@pytest.mark.long
def test_the_command_in_any_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = tmp_path / "runs"
    study_of(ledger, {"cnn": [0.50, 0.52], "stn_affine": [0.51, 0.50]}, task=TASK | {"label": "Vögel 鳥"})
    with monkeypatch.context() as patch:
        for name, value in {"PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "LC_ALL": "C"}.items():
            patch.setenv(name, value)
        patch.setenv("PYTHONIOENCODING", "utf-8")
        done = run("report", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    out = tmp_path / "reports" / STUDY
    said = " ".join(done.stdout.split())
    assert str(Path("reports", STUDY, NAME)) in said
    findings = find(ledger, STUDY)
    assert headline(findings) in said
    for sentence in answer(findings):
        assert sentence in said
    page = Page((out / NAME).read_text(encoding="utf-8"))
    drawn = {path.stem for path in out.glob("*.png")}
    assert {str(f["id"]).removeprefix("figure-") for f in page.all("figure")} == drawn
    assert "forest" in drawn
    assert {f"table-{path.stem}" for path in out.glob("*.tex")} == {a["id"] for a in page.all("article")}
    assert (out / NAME).stat().st_size < 4_000_000
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    # In this locale the same bytes; all but the drawings for phones are read from the files, which takes less time
    before = contents(out)
    registry.builders()  # registers the drawings for phones
    monkeypatch.setattr("analysis.figures.registry.write_figures", lambda findings, out: [*out.iterdir()])
    findings = find_study(Ledger(ledger, read_only=True), STUDY)
    write_tables(findings, out)
    write_report(findings, out)
    assert contents(out) == before and "Vögel 鳥".encode() in before[NAME]


def test_a_ledger_without_a_study_is_refused(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    with pytest.raises(UserError) as refused:
        named_study(Ledger(runs, read_only=True), "")
    assert str(refused.value) == f"runs: {runs} holds no study yet; `make sweep` makes one"


def test_a_report_says_which_of_several_studies_it_is_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_tiny_study(tmp_path)
    ledger = Ledger(tmp_path, read_only=True)
    assert named_study(ledger, "") == STUDY and capsys.readouterr().out == ""
    for number, name in enumerate(("older", "oldest"), start=1):
        manifest = tmp_path / "studies" / name / "study.json"
        manifest.parent.mkdir()
        manifest.write_bytes((tmp_path / "studies" / STUDY / "study.json").read_bytes())
        os.utime(manifest, (0, 1e9 - number))
    assert named_study(ledger, "") == STUDY
    said = capsys.readouterr().out
    assert said.splitlines()[0] == f"Study {STUDY}, the latest of 3. The others, for --study or `make ... STUDY=`:"
    assert said.splitlines()[1] == "  older, oldest"
    assert named_study(ledger, "older") == "older" and capsys.readouterr().out == ""
    with pytest.raises(UserError, match=r"study: 'x' is not in .*; known: older, oldest, tiny-cpu$"):
        named_study(ledger, "x")


def test_refusals(tmp_path: Path) -> None:
    options = Namespace(runs=tmp_path / "none", reports=tmp_path, study=[])
    with pytest.raises(UserError, match=r"runs: there is no ledger at .*none; `make sweep` makes one"):
        report.main(options)
    write_tiny_study(tmp_path / "runs")
    options = Namespace(runs=tmp_path / "runs", reports=tmp_path, study=["tiny-cpo"])
    with pytest.raises(UserError, match=r"study: 'tiny-cpo' is not in .*; did you mean 'tiny-cpu'\?"):
        report.main(options)


def test_a_mixed_protocol_is_refused(tiny: Findings) -> None:
    file = tiny.study.ledger / "runs" / key_of("upright", "cnn", 11) / "run.json"
    assert json.loads(file.read_text())["protocol_hash"] == "1234abcd"
    edit_json(file, protocol_hash="00000000")
    with pytest.raises(UserError, match="two protocols do not mix"):
        find(tiny.study.ledger, STUDY)


def test_tables_of_an_unfinished_study_say_so_first(tmp_path: Path) -> None:
    write_tiny_study(tmp_path)
    write_tables(find(tmp_path, STUDY), tmp_path / "out")
    for table in (tmp_path / "out").glob("*.md"):
        notes = [line for line in table.read_text().splitlines() if line.startswith("- ")]
        assert notes[0].startswith("- Unfinished: runs are still missing"), table
    done = tmp_path / "done"
    write_study(done, [write_arm(done, "cnn", "cnn", [0.5]), write_arm(done, "stn", "cnn", [0.5])])
    write_tables(find(done, STUDY), tmp_path / "out")
    assert not any("Unfinished" in table.read_text() for table in (tmp_path / "out").iterdir())


def test_an_unfinished_study_says_so_first(tmp_path: Path) -> None:
    write_tiny_study(tmp_path)
    page = Page(report_html(find(tmp_path, STUDY), []))
    assert page.text.index("Unfinished: runs are still missing") < page.text.index("cannot tell yet")
    done = tmp_path / "done"
    write_study(done, [write_arm(done, "cnn", "cnn", [0.5]), write_arm(done, "stn", "cnn", [0.5])])
    assert "Unfinished" not in Page(report_html(find(done, STUDY), [])).text
