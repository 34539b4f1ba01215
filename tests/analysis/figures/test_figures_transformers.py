"""Figures of what transformers do: the same numbers as the diagnosis has, and pictures that say so."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors.numpy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from PIL import Image

from analysis.figures import style, thetas
from analysis.figures.registry import figure_files
from analysis.figures.selection import selected
from analysis.findings import Findings, find
from analysis.records import read_study
from experiments.runs.diagnostics import recover, turn
from ledger.errors import UserError
from stn.transformer import tile_maps
from tests.support.drawn_figures import HOSTILE, built, drawn, texts
from tests.support.synthetic_ledger import SEEDS, STUDY, key_of, write_arm, write_maps, write_study

FIGURES = ("transformations", "pose_scatter", "look", "gallery")
IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])


def random_maps(seed: int, num: int = 61) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).normal(0, 0.6, (num, 2, 3)) + IDENTITY


def save_maps(ledger: Path, key: str, theta_HN23: npt.ArrayLike, true_theta_N23: npt.ArrayLike) -> None:
    # What is not contiguous would be saved in another order, without a word.
    theta, true = (np.ascontiguousarray(each, dtype=np.float32) for each in (theta_HN23, true_theta_N23))
    arrays = {"theta": theta, "true_theta": true}
    safetensors.numpy.save_file(arrays, ledger / "runs" / key / "maps.safetensors")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A variant that follows turned images, one that leaves all as they are, and one without a transformer."""
    ledger = tmp_path / "runs"
    arms = [
        write_arm(ledger, "cnn", "cnn", [0.5, 0.52], pose="R"),
        write_arm(ledger, "stn_rotation", "cnn", [0.6, 0.61], pose="R"),
        write_arm(ledger, "stn_frozen", "cnn", [0.5, None], pose="R"),
    ]
    for seed, follow in zip(SEEDS, (0.8, 0.6), strict=False):
        write_maps(ledger, key_of("R", "stn_rotation", seed), seed=seed, num_images=80, follow=follow)
    true_N23 = safetensors.numpy.load_file(ledger / "runs" / key_of("R", "stn_rotation", 11) / "maps.safetensors")
    frozen = np.broadcast_to(IDENTITY, (1, 80, 2, 3))
    save_maps(ledger, key_of("R", "stn_frozen", 11), frozen, true_N23["true_theta"])
    write_study(ledger, arms)
    return ledger


@pytest.fixture
def findings(ledger: Path) -> Findings:
    return find(ledger, STUDY)


def test_maps_are_measured_as_in_the_diagnosis() -> None:
    theta_N23 = random_maps(0)
    linear_N22 = torch.from_numpy(theta_N23[:, :, :2])
    np.testing.assert_allclose(thetas.angle_rad(theta_N23), turn(linear_N22).numpy(), atol=1e-12)
    singular_N2 = torch.linalg.svdvals(linear_N22).numpy()
    np.testing.assert_allclose(thetas.condition(theta_N23), singular_N2[:, 0] / singular_N2[:, 1], rtol=1e-6)
    np.testing.assert_allclose(thetas.zoom(theta_N23), np.sqrt(singular_N2.prod(axis=1)), rtol=1e-6)
    # Where the centre is looked for, in half widths.
    np.testing.assert_allclose(2 * thetas.shift(theta_N23), np.linalg.norm(theta_N23[:, :, 2], axis=1))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), noise=st.floats(0, 0.5))
def test_recovery_is_that_of_the_diagnosis(seed: int, noise: float) -> None:
    true_N23 = random_maps(seed)
    theta_N23 = true_N23 + noise * (random_maps(seed + 1) - IDENTITY)
    expected = recover(torch.from_numpy(theta_N23), torch.from_numpy(true_N23), 32)
    assert expected is not None
    found = [f(theta_N23, true_N23) for f in (thetas.recover_angle, thetas.recover_scale, thetas.recover_shift)]
    for recovered, r2 in zip(found, (expected.angle_r2, expected.log_scale_r2, expected.shift_r2), strict=True):
        assert recovered is not None
        assert r2 is not None
        assert recovered.r2 == pytest.approx(r2, abs=2e-5, rel=2e-5)
    angle, _, shift = found
    assert angle is not None
    assert shift is not None
    distance_N = (angle.predicted_PN - angle.true_PN + 180) % 360 - 180
    assert np.median(np.abs(distance_N)) == pytest.approx(expected.angle_error_deg, abs=1e-3)
    error_px_N = 32 * np.linalg.norm(shift.predicted_PN - shift.true_PN, axis=0)
    assert np.median(error_px_N) == pytest.approx(expected.shift_error_px, rel=1e-4, abs=1e-5)


def test_a_pose_that_does_not_vary_is_not_recovered() -> None:
    still_N23 = np.broadcast_to(IDENTITY, (20, 2, 3))
    for recover_part in (thetas.recover_angle, thetas.recover_scale, thetas.recover_shift):
        assert recover_part(random_maps(1, 20), still_N23) is None


def test_transformations_have_a_row_a_variant_and_one_for_the_pose(findings: Findings) -> None:
    figure = drawn("transformations", findings)
    turns, *_ = figure.axes
    labels = [label.get_text() for label in turns.get_yticklabels()]
    assert labels == ["pose R\nasks for", "stn_rotation", "stn_frozen"]
    # A line a run: the two that follow the pose are spread over many angles, the one that does nothing stands at zero.
    spread = [np.asarray(line.get_ydata()) for line in turns.lines if len(np.asarray(line.get_xdata())) > 2]
    assert len(spread) == 3
    x = np.asarray(next(line.get_xdata() for line in turns.lines if len(np.asarray(line.get_xdata())) > 2))
    heights = [row - curve for row, curve in zip((1, 1, 2), spread, strict=True)]
    assert abs(x[heights[2].argmax()]) < 3
    assert [(height > 0.1).mean() > 0.4 for height in heights] == [True, True, False]


def test_pose_scatter_shows_the_diagnosis(findings: Findings, ledger: Path) -> None:
    figure = drawn("pose_scatter", findings)
    r2s = []
    for seed in SEEDS[:2]:
        maps = safetensors.numpy.load_file(ledger / "runs" / key_of("R", "stn_rotation", seed) / "maps.safetensors")
        theta, true = (torch.from_numpy(maps[name]).double() for name in ("theta", "true_theta"))
        found = recover(theta[0], true, 32)
        assert found is not None
        assert found.angle_r2 is not None
        r2s.append(found.angle_r2)
    shown = texts(figure)
    low, high = sorted(r2s)
    assert f"R² {np.mean(r2s):.2f} ({low:.2f} to {high:.2f})" in shown
    assert "R² 0.00" in shown
    following, frozen = figure.axes[:2]
    dots = following.lines[0]
    x, y = (np.asarray(data, dtype=float) for data in dots.get_data())
    assert len(x) == 160
    slopes = [np.polyfit(x[part], y[part], 1)[0] for part in (slice(80), slice(80, None))]
    assert slopes == pytest.approx([0.8, 0.6], abs=0.05)
    assert np.ptp(np.asarray(frozen.lines[0].get_ydata())) == pytest.approx(0, abs=1e-6)


def test_pose_scatter_has_a_column_for_each_part_that_varies(tmp_path: Path) -> None:
    ledger = tmp_path / "runs"
    write_study(ledger, [write_arm(ledger, "stn_affine", "stn_affine", [0.5], pose="RTS")])
    key = key_of("RTS", "stn_affine", 11)
    draw = np.random.default_rng(0)
    factor_N = np.exp(draw.uniform(-0.4, 0.4, 60))
    true_N23 = np.zeros((60, 2, 3))
    true_N23[:, 0, 0] = true_N23[:, 1, 1] = factor_N
    true_N23[:, :, 2] = draw.uniform(-0.5, 0.5, (60, 2))
    save_maps(ledger, key, true_N23[None], true_N23)
    figure = drawn("pose_scatter", find(ledger, STUDY))
    scale, shift = figure.axes
    assert (scale.get_xlabel(), shift.get_xlabel()) == ("true scale, factor", "true shift, % of the width")
    x, y = (np.asarray(data, dtype=float) for data in scale.lines[0].get_data())
    np.testing.assert_allclose(y, x, atol=1e-5)
    factors = [label.get_text() for label in scale.get_xticklabels()]
    assert len(factors) > 2 and "1" in factors
    assert scale.get_xticks().tolist() == pytest.approx(np.log2([float(factor) for factor in factors]).tolist())
    right, down = shift.lines[:2]
    assert right.get_marker() != down.get_marker()
    np.testing.assert_allclose(np.sort(np.asarray(down.get_xdata())), np.sort(50 * true_N23[:, 1, 2]), atol=1e-4)
    assert texts(figure).count("R² 1.00") == 2


def test_pose_scatter_shows_the_angles_that_there_are(tmp_path: Path) -> None:
    ledger, draw = tmp_path / "runs", np.random.default_rng(0)
    write_study(ledger, [write_arm(ledger, "stn_rotation", "stn_rotation", [0.5], pose="R:max_deg=35")])
    angle_N = np.deg2rad(draw.uniform(-35, 35, 80))
    true_N23 = np.zeros((80, 2, 3))
    true_N23[:, 0, 0] = true_N23[:, 1, 1] = np.cos(angle_N)
    true_N23[:, 1, 0], true_N23[:, 0, 1] = np.sin(angle_N), -np.sin(angle_N)
    save_maps(ledger, key_of("R:max_deg=35", "stn_rotation", 11), true_N23[None], true_N23)
    (ax,) = drawn("pose_scatter", find(ledger, STUDY)).axes
    for low, high, ticks in ((*ax.get_xlim(), ax.get_xticks()), (*ax.get_ylim(), ax.get_yticks())):
        assert -75 < low < -34 and 34 < high < 75
        assert sum(low <= tick <= high for tick in ticks) >= 3


@given(st.floats(-6, 0), st.floats(0.05, 6))
def test_ticks_of_factors_are_apart(low: float, size: float) -> None:
    places, labels = style.factor_ticks(low, low + size)
    assert len(labels) >= 2
    assert np.diff(places).min() >= 0.2 * size
    assert [float(label) for label in labels] == pytest.approx([2**place for place in places], rel=0.01)


def test_a_part_of_the_pose_that_no_chosen_variant_has_gets_no_column(tmp_path: Path) -> None:
    ledger = tmp_path / "runs"
    poses = [f"R:max_deg={i}" for i in range(8)]
    write_study(
        ledger, [write_arm(ledger, "stn", "stn", [0.5], pose=pose, trial_statuses=()) for pose in [*poses, "S"]]
    )
    for pose in poses:
        write_maps(ledger, key_of(pose, "stn", 11), seed=1, num_images=9)
    factor_N11 = np.linspace(0.5, 2, 9)[:, None, None]
    save_maps(ledger, key_of("S", "stn", 11), factor_N11 * IDENTITY[None, None], factor_N11 * IDENTITY)
    figure = drawn("pose_scatter", find(ledger, STUDY))
    assert {ax.get_xlabel() for ax in figure.axes} == {"", "true angle, degrees clockwise"}
    assert any("the 7 most accurate of 9" in text for text in texts(figure))


def test_look_is_where_the_outputs_points_fall(findings: Findings) -> None:
    figure = drawn("look", findings)
    turned, frozen = figure.axes[:2]
    density = np.asarray(frozen.images[0].get_array())
    inside = np.abs((np.arange(48) + 0.5) / 48 * 3.2 - 1.6) < 1
    np.testing.assert_allclose(density[np.ix_(inside, inside)], 1)
    assert density.sum() == pytest.approx(density[np.ix_(inside, inside)].sum())
    turned_density = np.asarray(turned.images[0].get_array())
    assert turned_density[24, 24] == pytest.approx(1, abs=0.05)
    assert turned_density[9, 9] < turned_density[24, 9]  # corners of the image are cut off, not the middle of its sides


def rounded(point_M2: npt.ArrayLike) -> list[tuple[float, ...]]:
    return [tuple(round(float(x), 5) + 0.0 for x in point) for point in np.asarray(point_M2)]


@pytest.mark.parametrize("heads", [2, 4, 6])
def test_heads_look_at_their_tiles(tmp_path: Path, heads: int) -> None:
    ledger = tmp_path / "runs"
    write_study(ledger, [write_arm(ledger, "stn_affine:heads=4", "stn_affine:heads=4", [0.5])])
    smaller = np.broadcast_to(IDENTITY * [[0.5], [0.5]], (heads, 5, 2, 3))
    save_maps(ledger, key_of("upright", "stn_affine:heads=4", 11), smaller, np.broadcast_to(IDENTITY, (5, 2, 3)))
    figure = drawn("look", find(ledger, STUDY))
    outlines = [patch.get_xy() for patch in figure.axes[0].patches if isinstance(patch, Polygon)]
    corners = {corner for outline in outlines for corner in rounded(outline)}
    square_M2 = 0.5 * torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    tiles = tile_maps(heads, 1, torch.device("cpu"))
    expected = {corner for tile in tiles for corner in rounded(tile.apply(square_M2)[0].numpy())}
    assert corners == expected
    assert built("pose_scatter", find(ledger, STUDY)) is None


def picture(before: int, after: int) -> Image.Image:
    """Two grey images side by side above two others, framed as in the ledger."""
    pixels = np.full((2 * 10 + 6, 2 * 10 + 6), 255, dtype=np.uint8)
    for row, value in ((2, before), (14, after)):
        for column in (2, 14):
            pixels[row : row + 10, column : column + 10] = value
    return Image.fromarray(pixels).convert("RGB").resize((78, 78), Image.Resampling.NEAREST)


def greys(figure: Figure) -> list[float]:
    """Of the first image of each row."""
    return [float(np.round(255 * np.asarray(ax.images[0].get_array())[15, 15, 0])) for ax in figure.axes]


def test_gallery_shows_the_images_once_and_each_variant(ledger: Path) -> None:
    pictures = ("stn_rotation", 11, 40, 80), ("stn_rotation", 12, 9, 9), ("stn_frozen", 11, 40, 120)
    for variant, seed, before, after in pictures:
        picture(before, after).save(ledger / "runs" / key_of("R", variant, seed) / "transformer.png")
    figure = drawn("gallery", find(ledger, STUDY))
    assert greys(figure) == [40, 80, 120]
    assert [text.get_text() for text in figure.texts[:3]] == ["the images", "stn_rotation", "stn_frozen"]
    # Another validation image: it is shown above what became of it.
    picture(41, 120).save(ledger / "runs" / key_of("R", "stn_frozen", 11) / "transformer.png")
    figure = drawn("gallery", find(ledger, STUDY))
    assert greys(figure) == [40, 80, 41, 120]


def test_a_broken_picture_is_one_line(ledger: Path) -> None:
    file = ledger / "runs" / key_of("R", "stn_frozen", 11) / "transformer.png"
    file.write_bytes(b"not a picture")
    with pytest.raises(UserError, match=r"transformer\.png: is not a picture") as caught:
        built("gallery", find(ledger, STUDY))
    assert "\n" not in str(caught.value)


def test_there_is_nothing_to_show_without_maps(tmp_path: Path) -> None:
    ledger = tmp_path / "runs"
    write_study(ledger, [write_arm(ledger, "cnn", "cnn", [0.5, "failed"])])
    nothing = find(ledger, STUDY)
    assert [built(name, nothing) for name in FIGURES] == [None] * 4


def test_the_most_accurate_of_each_pose_are_chosen(tmp_path: Path) -> None:
    ledger = tmp_path / "runs"
    arms = [
        write_arm(ledger, variant, "a", [accuracy], pose=pose)
        for pose, level in (("upright", 0.5), ("R", 0.1))
        for variant, accuracy in (("a", level), ("b", level + 0.2), ("c", level + 0.1))
    ]
    write_study(ledger, arms)
    study = read_study(ledger, STUDY)
    assert selected(study, range(6), 6) == (list(range(6)), "")
    assert selected(study, range(6), 3) == ([1, 2, 4], "the 3 most accurate of 6 variants at their poses")
    assert selected(study, [0, 1, 2], 2) == ([1, 2], "the 2 most accurate of 3 variants")


def test_hostile_names_and_lost_maps_are_drawn(tmp_path: Path, recwarn: Any) -> None:
    ledger = tmp_path / "runs"
    write_study(ledger, [write_arm(ledger, HOSTILE, HOSTILE, [0.5, 0.6], pose="R")])
    for i, seed in enumerate(SEEDS[:2]):
        key = key_of("R", HOSTILE, seed)
        write_maps(ledger, key, seed=seed)
        theta = safetensors.numpy.load_file(ledger / "runs" / key / "maps.safetensors")
        lost = theta["theta"] * (0 if i else 1e6)
        save_maps(ledger, key, lost, theta["true_theta"])
        picture(1, 2).save(ledger / "runs" / key / "transformer.png")
    findings = find(ledger, STUDY)
    for name in FIGURES:
        assert any("$a_1$&%|" in text for text in texts(drawn(name, findings)))
    assert [text for text in map(str, (w.message for w in recwarn)) if not text.startswith("Glyph")] == []


def test_the_same_bytes_twice(findings: Findings) -> None:
    one, two = (figure_files(drawn("pose_scatter", findings)) for _ in range(2))
    assert one == two
