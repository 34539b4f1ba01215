"""What a probe says at its end: no more than was decided, and what would decide the rest."""

import itertools
import re
import shlex

import pytest

from analysis.verdicts import BADGES
from experiments.probe.advice import NAMES, Answer, advice


def answered(*decisions: str) -> list[Answer]:
    return [Answer(name, decision, "", "", "") for name, decision in zip(NAMES, decisions, strict=True)]


FAILS, OPEN = {"worse", "negligible", "equivalent"}, {"undecided", "untested", "unripe", "idle"}


@pytest.mark.parametrize(("augmentation", "transformer", "both"), [*itertools.product(BADGES, repeat=3)])
def test_the_advice_says_no_more_than_was_decided(augmentation: str, transformer: str, both: str) -> None:
    text = advice(answered(augmentation, transformer, both), "quarter turns", 10)
    decisions = {augmentation, transformer, both}
    assert text[0].isupper() and "  " not in text
    assert text.startswith("Yes") == (augmentation == both == "better")
    enough = augmentation == "better" and both in FAILS and transformer != "better"
    assert text.startswith("Augmentation is enough") == enough
    assert text.startswith("It cannot be told in 10 minutes") == (decisions <= OPEN)
    if not text.startswith(("Yes", "Augmentation is enough", "It cannot")):
        parts = text[:-1].split("; ")
        helping = " ".join(part for part in parts if re.search(r"helps? here$", part) and "not help" not in part)
        assert ("ugmentation (quarter turns)" in helping) == (augmentation == "better")
        assert ("by itself" in helping) == (transformer == "better")
        assert ("added to that" in helping) == (both == "better" == augmentation)
        assert ("is better than that augmentation alone" in text) == (both == "better" != augmentation)
        assert ("not help" in text) == bool(FAILS & decisions)
        assert ("cannot be told yet" in text) == bool({"undecided", "untested", "unripe"} & decisions)


@pytest.mark.parametrize(
    ("decisions", "expected"),
    [
        (
            ("better", "worse", "equivalent"),
            "Augmentation is enough here (quarter turns): a spatial transformer adds nothing to it that matters.",
        ),
        (
            ("better", "better", "worse"),
            "Augmentation (quarter turns) and a spatial transformer by itself help here; a spatial transformer added "
            "to that augmentation does not help here.",
        ),
        (
            ("better", "undecided", "better"),
            "Yes: showing quarter turns helps here, and a spatial transformer on top of it helps further.",
        ),
        (
            ("worse", "undecided", "better"),
            "Augmentation (quarter turns) does not help here; a spatial transformer added to that augmentation is "
            "better than that augmentation alone; whether a spatial transformer by itself helps cannot be told yet.",
        ),
        (
            ("unripe", "idle", "unripe"),
            "It cannot be told in 10 minutes whether augmentation or a spatial transformer helps here, since the "
            "networks learned too little in that time. `make probe DATA=... MINUTES=30` might.",
        ),
        (
            ("untested", "untested", "unripe"),
            "It cannot be told in 10 minutes whether augmentation or a spatial transformer helps here, since too few "
            "runs were completed. `make probe DATA=... MINUTES=30` might.",
        ),
        (
            ("unripe", "equivalent", "behind"),
            "A spatial transformer by itself does not help here; a spatial transformer added to that augmentation "
            "helps only behind the plain network; whether augmentation (quarter turns) helps cannot be told yet.",
        ),
    ],
)
def test_the_advice_in_words(decisions: tuple[str, str, str], expected: str) -> None:
    assert advice(answered(*decisions), "quarter turns", 10) == expected


def test_where_all_is_solved_nothing_is_wanted() -> None:
    why = "nothing to tell apart: every run is right on all test images"
    found = [Answer(name, "unripe", "", "", "", why, is_solved=True) for name in NAMES]
    assert advice(found, "quarter turns", 10) == f"There is {why}."


def test_nothing_longer_than_the_longest_is_advised() -> None:
    assert "MINUTES" not in advice(answered("unripe", "idle", "unripe"), "quarter turns", 1440)


def open_for(*wants_images: bool) -> list[Answer]:
    return [
        Answer(name, "undecided", "", "", "", lacks_images=wants)
        for name, wants in zip(NAMES, wants_images, strict=True)
    ]


@pytest.mark.parametrize(
    ("wants_images", "num_test", "expected"),
    [
        ([True] * 3, 1250, ", since 1,250 test images are too few. More of them might tell; more MINUTES add none."),
        ([True] * 3, 0, ". `make probe DATA=... MINUTES=30` might."),  # it was not tested on all that there are
        ([False] * 3, 90, ". `make probe DATA=... MINUTES=30` might."),
        (
            [True, False, False], 90,
            ". More test images than these 90 might tell, or `make probe DATA=... MINUTES=30`.",
        ),
    ],
)  # fmt: skip
def test_minutes_are_not_advised_where_test_images_are_wanted(
    wants_images: list[bool], num_test: int, expected: str
) -> None:
    said = advice(open_for(*wants_images), "quarter turns", 10, num_test=num_test)
    assert said == f"It cannot be told in 10 minutes whether augmentation or a spatial transformer helps here{expected}"


def test_what_is_advised_has_the_words_that_were_given() -> None:
    asked = {
        "DATA": "my pets",
        "TURNS": "any",
        "MIRROR": "",
        "GROUP": "name:^(a+)$",
        "SET": "protocol.width=2 x=9",
    }
    (line,) = re.findall("`(.*)`", advice(open_for(False, False, False), "quarter turns", 10, asked))
    assert shlex.split(line) == [
        "make", "probe", "DATA=my pets", "MINUTES=30", "TURNS=any", "GROUP=name:^(a+)$$", "SET=protocol.width=2 x=9"
    ]  # fmt: skip


def test_a_command_that_could_not_be_copied_as_it_is_is_not_shown() -> None:
    said = advice(open_for(False, False, False), "quarter turns", 10, {"DATA": "my  pets", "TURNS": "any"})
    assert said.endswith(" `make probe DATA=... MINUTES=30` might.")
