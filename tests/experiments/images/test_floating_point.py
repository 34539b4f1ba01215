"""Grey in floating point: one scale for all images of a folder, which is said, kept and used again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from experiments.images.tasks.cache import decoded
from experiments.images.tasks.image_files.decoding import decode
from experiments.images.tasks.reading import USUAL, ToRgb
from tests.support.image_folders import load


def write(root: Path, low: float, high: float) -> list[npt.NDArray[np.float32]]:
    """Ten images of two classes, sorted by path, with values from low to high in all; the last one has both."""
    rng, images = np.random.default_rng(0), []
    for i in range(10):
        values_HW = rng.uniform(low, high, (16, 16)).astype(np.float32)
        if i == 9:
            values_HW[0, :2] = low, high
        path = root / f"{'ab'[i // 5]}/{i}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values_HW).save(path)
        images.append(values_HW)
    return images


@pytest.mark.parametrize(
    ("low", "high", "span"), [(0.25, 0.75, (0, 1)), (0, 1, (0, 1)), (-300.5, 4000.25, (-300.5, 4000.25))]
)
def test_all_images_have_one_scale(low: float, high: float, span: tuple[float, float], tmp_path: Path) -> None:
    images = write(tmp_path / "images", low, high)
    task = load(tmp_path / "images", tmp_path / "cache")
    assert task.num_channels == 1 and task.reading.to_rgb == ToRgb(float_range=span)
    wanted = [np.round((values_HW.astype(float) - span[0]) / (span[1] - span[0]) * 255) for values_HW in images]
    found = {pixels.tobytes() for part in (task.train, task.test) for pixels in part.pixels_NHWC}
    assert found == {values.astype(np.uint8).tobytes() for values in wanted}
    facts = dict(task.reading.facts)
    assert facts["Modes"] == "floating-point grey (F) 10"
    assert facts["Floating point"] == (
        f"10 files with values from {low:g} to {high:g}: {span[0]:g} to {span[1]:g} become 0 to 255"
    )
    assert not task.reading.warnings


def test_the_scale_is_of_the_record_and_comes_back_from_it(tmp_path: Path) -> None:
    write(tmp_path / "images", -1, 3)
    task = load(tmp_path / "images", tmp_path / "cache")
    assert decoded(load(tmp_path / "images", tmp_path / "cache")).reading == task.reading, "from the cache"
    record = task.record()
    assert record["float_range"] == (-1, 3) and ToRgb.of(record) == task.reading.to_rgb
    pixels_HWC, _ = decode(tmp_path / "images/b/9.tif", 16, ToRgb.of({**record, "float_range": [-1, 3]}))
    assert pixels_HWC[0, :2, 0].tolist() == [0, 255]
    other, _ = decode(tmp_path / "images/b/9.tif", 16, replace(USUAL, float_range=(0, 1)))
    assert other[0, :2, 0].tolist() == [0, 255] and (other != pixels_HWC).any(), "brighter values become white"


def test_one_pixel_far_outside_is_a_warning(tmp_path: Path) -> None:
    images = write(tmp_path / "images", 0, 1)
    images[0][3, 3] = 1000
    Image.fromarray(images[0]).save(tmp_path / "images/a/0.tif")
    said, others = load(tmp_path / "images", tmp_path / "cache").reading.warnings
    assert "half of them have 1 or fewer of 256, since one scale is taken for all (0 to 1000)" in said
    assert others.startswith("9 images of 10 are of one colour throughout")


@pytest.mark.parametrize("span", [(1, 0), (0, 0), (0, np.inf), (np.nan, 1)])
def test_what_is_no_scale_is_refused(span: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="not a way"):
        ToRgb(float_range=span)
