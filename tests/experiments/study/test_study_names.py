"""The names of studies on images of any label: files, folders, groups and command lines take them."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.formats.latex import _label
from analysis.formats.table import Table
from experiments.study.slug import MAX_SLUG, slug
from experiments.terminal.cli import main
from ledger.ledger import Ledger
from tests.support.image_folders import make_parts
from tests.support.tiny_study import TINY, HereAndNow, sweep_here

SLUGS = {
    "CIFAR-10 (JPEG)": "cifar-10-jpeg",
    "sprites": "sprites",
    "  My images, v2.1 ": "my-images-v2-1",
    "a_b/../c": "a-b-c",
    "花": "花",
    "Müller’s Blätter": "müller-s-blätter",
    "कुत्ता": "कुत्ता",
    "МНИСТ — 28": "мнист-28",
}


@pytest.mark.parametrize(("label", "expected"), SLUGS.items())
def test_letters_and_digits_of_any_script_stay(label: str, expected: str) -> None:
    assert slug(label) == unicodedata.normalize("NFC", expected)


def test_one_label_in_two_unicode_forms_is_one_name() -> None:
    assert slug(unicodedata.normalize("NFD", "Blätter")) == slug("BLÄTTER") == "blätter"


@pytest.mark.parametrize(
    "labels",
    [("花", "鸟"), ("🐱", "🐶"), ("set 🐱", "set 🐶"), ("!!!", "???"), ("a" * 60, "a" * 61), ("花" * 50, "花" * 51)],
)
def test_labels_that_leave_the_same_letters_have_other_names(labels: tuple[str, str]) -> None:
    assert slug(labels[0]) != slug(labels[1])


@given(st.text(max_size=80))
def test_any_label_makes_a_safe_name(label: str) -> None:
    name = slug(label)
    assert 0 < len(name) <= MAX_SLUG and len(name.encode()) <= 150
    assert name == slug(label) and name.isprintable()
    assert not set(name) & set('/\\.:*?"<>| \t\n\0') and not name.startswith("-")


def test_two_studies_have_two_labels_in_latex() -> None:
    names = [_label(Table(f"tiny-{each}-smoke", "ablation", "", (), (), (), ())) for each in ("花", "鸟")]
    assert names == ["tiny-82b1-smoke-ablation", "tiny-9e1f-smoke-ablation"]


def test_two_folders_with_names_of_another_script_are_two_studies(here, capsys):
    """In one ledger; every command finds them by these names."""
    protocol = TINY["protocol"] | {"image_px": 24, "epochs": 1}
    for extra, name in enumerate(("花", "鸟")):
        root = make_parts(here / name, per_class=12 + extra)
        sweep_here(here, HereAndNow(fails=lambda job: True), task=f"folder:{root}", protocol=protocol)
    studies = ["tiny-鸟-smoke", "tiny-花-smoke"]
    assert sorted(Ledger(here / "runs").studies()) == sorted(studies)
    capsys.readouterr()
    for study in studies:
        assert main(["tables", "--study", study]) == 0
        assert (here / "reports" / study / "ablation.tex").is_file()
    assert main(["status", "--json"]) == main(["verify", "runs"]) == 0
    assert main(["tables", "--study", "tiny-狗-smoke"]) == 2
    assert "is not in runs; did you mean 'tiny-" in capsys.readouterr().err
