"""How pictures that are not square come into the network's square: what is kept of them, and what is said."""

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from experiments.images.tasks.image_files.decoding import decode
from experiments.runs.prediction import read_image
from experiments.runs.run import _load
from experiments.study.plan import load as load_images
from experiments.study.plan import make_plan
from experiments.study.study import load_study
from ledger.config import Fit, Protocol, protocol_hash, protocol_record
from ledger.errors import UserError
from tests.support.image_folders import load, make_classes, pixels_of, save

FITS: tuple[Fit, ...] = get_args(Fit)
PX = 24


@given(width=st.integers(1, 90), height=st.integers(1, 90))
def test_pictures_of_any_shape_become_what_pillow_makes_of_them(
    width: int, height: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "fit.png"
    save(file, pixels_of(1, height, width))
    picture, square, how = Image.open(file), (PX, PX), Image.Resampling.BICUBIC
    ways = {"stretch": picture.resize(square, how), "crop": ImageOps.fit(picture, square, how)}
    if min(width, height) * PX >= max(width, height):  # of thinner ones Pillow's would have no pixel
        ways["pad"] = ImageOps.pad(picture, square, how)
    for fit in FITS:
        pixels_HWC, seen = decode(file, PX, fit=fit)
        assert pixels_HWC.shape == (PX, PX, 3) and seen.size == (width, height)
        # Where Pillow's ways crop, their box has fractions of pixels, ours has not.
        if fit in ways and (fit != "crop" or (width - height) % 2 == 0):
            assert np.array_equal(pixels_HWC, np.asarray(ways[fit]))


def test_bars_are_black_and_count_for_nothing(tmp_path: Path) -> None:
    save(tmp_path / "wide.png", np.full((9, 12, 3), 200, np.uint8))
    pixels_HWC, seen = decode(tmp_path / "wide.png", PX, fit="pad")
    assert (pixels_HWC[3:21] == 200).all() and not pixels_HWC[:3].any() and not pixels_HWC[21:].any()
    assert seen.is_plain and (seen.darkest, seen.brightest) == (200, 200)
    thin, _ = decode(tmp_path / "wide.png", PX, fit="whole")
    assert thin.shape == (18, 24, 3)


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A folder of grey pictures of 120 x 90, such as a camera makes."""
    for name in ("bolt", "nut"):
        for i in range(5):
            save(tmp_path / f"wide/{name}/{i}.png", pixels_of(i, 90, 120)[..., 0])
    return tmp_path / "wide"


def test_little_that_is_lost_is_a_fact_and_no_warning(tmp_path: Path) -> None:
    for name in ("bolt", "nut"):
        for i in range(5):
            save(tmp_path / f"nearly/{name}/{i}.png", pixels_of(i, 76, 80))
    reading = load(tmp_path / "nearly", tmp_path / "cache", 30).reading
    lost = "the middle square is read, without 5 % of each 80 x 76 picture"
    assert dict(reading.facts)["Cropping"] == f"{lost}; protocol.fit: pad keeps all" and not reading.warnings


def test_what_is_lost_is_said_and_what_keeps_it(wide: Path, tmp_path: Path) -> None:
    told = {fit: load(wide, tmp_path / "cache", 30, fit=fit).reading for fit in FITS}
    facts = {fit: dict(reading.facts) for fit, reading in told.items()}
    (warning,) = told["crop"].warnings
    assert warning.startswith("Only the middle square is read, without 25 % of each 120 x 90 picture: what lies at")
    assert facts["crop"]["Cropping"] == "the middle square is read", "what is lost is said once"
    assert facts["pad"]["Padding"] == "all of each picture is read, between black bars: 25 % of each square"
    assert facts["stretch"]["Stretching"].endswith("its longer side shortened against the other one, 1.33 times")
    sizes: dict[Fit, str] = {
        "crop": "3 times smaller; details under 3 px",
        "pad": "4 times smaller; details under 4 px",
    }
    for fit, text in sizes.items():
        assert facts[fit]["Resizing"] == f"to 30 x 30 px: {text} of a file are lost (protocol.image_px)"
    assert "width 4 times smaller" in facts["stretch"]["Resizing"]
    assert "height 3 times smaller" in facts["stretch"]["Resizing"]
    assert [len(told[fit].warnings) for fit in ("crop", "pad", "stretch")] == [1, 0, 1]


def test_square_pictures_are_the_same_whatever_the_fit(tmp_path: Path) -> None:
    make_classes(tmp_path / "images")
    tasks = [load(tmp_path / "images", tmp_path / "cache", 20, fit=fit) for fit in FITS]
    assert len({task.content_hash for task in tasks}) == 1
    assert len({task.reading.facts for task in tasks}) == 1


def test_the_default_is_in_no_record_and_moves_no_hash() -> None:
    assert protocol_record(Protocol(fit="crop")).keys() == protocol_record(Protocol()).keys()
    assert "fit" not in protocol_record(Protocol())
    hashes = {protocol_hash(protocol_record(Protocol(fit=fit))) for fit in FITS}
    assert hashes == {protocol_hash(Protocol(fit=fit)) for fit in FITS} and len(hashes) == 3


def test_workers_and_predictions_see_what_the_plan_saw(wide: Path, tmp_path: Path) -> None:
    study = load_study(Path("sweep.yaml"), "smoke", task=f"folder:{wide}", given=["protocol.fit=pad"])
    loaded = load_images(study, label="", cache=tmp_path / "cache", say=lambda line: None)
    assert (loaded.task.train.pixels_NHWC[:, :4] == 0).all()
    assert _load(loaded.source).content_hash == loaded.task.content_hash
    file = next(wide.glob("bolt/*.png"))
    seen_HWC = read_image(file, 32, num_channels=1, fit="pad")
    parts = (loaded.task.train, loaded.task.test)
    assert any((seen_HWC == pixels_HWC).all() for part in parts for pixels_HWC in part.pixels_NHWC)


def test_another_fit_is_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"protocol\.fit: 'padd' is .*did you mean 'pad'\?"):
        load_study(Path("sweep.yaml"), "smoke", given=["protocol.fit=padd"])


def test_bars_that_give_a_pose_away_are_a_note_of_the_plan(wide: Path, tmp_path: Path) -> None:
    def notes(*given: str) -> tuple[str, ...]:
        sizes = "protocol.image_px=16", "protocol.precision=fp32", "variants=[{variant: cnn, baseline: cnn}]", "claims="
        study = load_study(Path("sweep.yaml"), "smoke", task=f"folder:{wide}", given=[*sizes, *given])
        return make_plan(study, label="", cache=tmp_path / "cache", say=lambda line: None).notes

    assert notes("protocol.fit=pad", "poses=[upright]") == notes("protocol.fit=crop", "poses=[R]") == ()
    (said,) = notes("protocol.fit=pad", "poses=[upright,R]")
    assert "(R): a network can tell the pose by them" in said
    (said,) = notes("protocol.fit=pad", "poses=[upright]", "test_pose=R")
    assert "(R)" in said
