"""The folders of images that the probe is judged on. Each is drawn anew from a seed: other images of the same kind.

Legend: N images, H rows, W columns, C channels. Pixels are uint8.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from experiments.images.tasks import load_task, sprites
from experiments.images.tasks.cache import cache_folder

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Draw = np.random.Generator

IMAGE_PX = 32


@dataclass(frozen=True)
class Folder:
    """A kind of images.

    make: pixels (N, H, W) or (N, H, W, C) and labels of so many images of a part (0 training, 1 test) by a seed.
    """

    name: str
    make: Callable[[int, int, int], tuple[Pixels, Labels]]
    num_train: int = 600
    num_test: int = 600

    def write(self, root: Path, seed: int) -> Path:
        """The images as files, in train/ and test/, a folder for each class; unless they are there."""
        folder = root / f"{self.name}-{seed}"
        for part, (name, number) in enumerate((("train", self.num_train), ("test", self.num_test))):
            if not (folder / name).is_dir():
                pixels_N, labels_N = self.make(part, number, seed)
                for index, (pixels, label) in enumerate(zip(pixels_N, labels_N, strict=True)):
                    path = folder / f"{name}-unfinished" / f"class-{label}" / f"{index:05}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).save(path)
                (folder / f"{name}-unfinished").rename(folder / name)
        return folder


Outline = Sequence[tuple[float, float]]

BRACKET = [(-0.8, -0.8), (-0.3, -0.8), (-0.3, 0.4), (0.8, 0.4), (0.8, 0.8), (-0.8, 0.8)]
BOLT = [(-0.8, -0.3), (0.2, -0.3), (0.2, -0.7), (0.8, -0.7), (0.8, 0.7), (0.2, 0.7), (0.2, 0.3), (-0.8, 0.3)]
CLIP = [(-0.8, -0.7), (-0.3, -0.7), (-0.3, -0.2), (0.3, -0.2), (0.3, -0.7), (0.8, -0.7), (0.8, 0.7), (-0.8, 0.7)]
PARTS: Sequence[Outline] = (BRACKET, [(-x, y) for x, y in BRACKET], BOLT, CLIP)
"""Outlines in coordinates from -1 to 1, x to the right and y down."""


def parts(
    part: int, number: int, seed: int, *, max_deg: float, kinds: Sequence[int], contrast: float = 1
) -> tuple[Pixels, Labels]:
    """Grey pictures of machine parts, lit and placed a little differently, each turned by up to max_deg."""
    draw, labels_N = _draw_and_labels("parts", part, number, seed, len(kinds))
    pixels_N = [
        _part(draw, PARTS[kinds[label]], math.radians(draw.uniform(-max_deg, max_deg)), contrast) for label in labels_N
    ]
    return np.stack(pixels_N), labels_N


def _part(draw: Draw, outline: Outline, angle_rad: float, contrast: float) -> Pixels:
    fine, ground, level = 4 * IMAGE_PX, draw.uniform(70, 130), contrast * draw.uniform(30, 60) * draw.choice([-1, 1])
    image = Image.new("F", (fine, fine), ground)
    cos, sin = math.cos(angle_rad), math.sin(angle_rad)
    radius, (x_shift, y_shift) = draw.uniform(0.5, 0.62), draw.uniform(-0.12, 0.12, 2)
    corners = [(radius * (cos * x - sin * y) + x_shift, radius * (sin * x + cos * y) + y_shift) for x, y in outline]
    ImageDraw.Draw(image).polygon([(fine * (x + 1) / 2, fine * (y + 1) / 2) for x, y in corners], ground + level)
    pixels_HW = np.asarray(image.resize((IMAGE_PX, IMAGE_PX), Image.Resampling.BOX), np.float64)
    return _as_pixels(pixels_HW + draw.normal(0, 14, pixels_HW.shape))


def textures(part: int, number: int, seed: int) -> tuple[Pixels, Labels]:
    """Stripes, checks, rings, blobs and speckles, of any direction, fineness and place."""
    draw, labels_N = _draw_and_labels("textures", part, number, seed, 5)
    y_HW, x_HW = np.mgrid[:IMAGE_PX, :IMAGE_PX].astype(np.float64)
    pictures = []
    for label in labels_N:
        angle_rad, period_px, phase = draw.uniform(0, math.pi), draw.uniform(5, 9), draw.uniform(0, 2 * math.pi, 2)
        u_HW = 2 * math.pi * (math.cos(angle_rad) * x_HW + math.sin(angle_rad) * y_HW) / period_px + phase[0]
        v_HW = 2 * math.pi * (math.cos(angle_rad) * y_HW - math.sin(angle_rad) * x_HW) / period_px + phase[1]
        centre_x, centre_y = draw.uniform(8, 24, 2)
        waves_HW = (
            np.sin(u_HW),
            np.sign(np.sin(u_HW) * np.sin(v_HW)),
            np.sin(2 * math.pi * np.hypot(x_HW - centre_x, y_HW - centre_y) / period_px + phase[0]),
            np.sin(u_HW) + np.sin(v_HW),
            draw.choice([-1.0, 1.0], (IMAGE_PX, IMAGE_PX)),
        )[label]
        lit_HW = draw.uniform(90, 160) + draw.uniform(8, 20) * waves_HW
        pictures.append(_as_pixels(lit_HW + draw.normal(0, 22, y_HW.shape)))
    return np.stack(pictures), labels_N


def drawn_sprites(
    part: int, number: int, seed: int, *, kinds: Sequence[int], quarters: bool = False
) -> tuple[Pixels, Labels]:
    """Some kinds of the program's own sprites, as they are, or each by 0 to 3 quarter turns."""
    draw = _draw("sprites", part, number, seed)
    first = 20_000_000 + 1_000_000 * seed  # images that the task `sprites` does not have
    indices = [first + i for i in range(number * 10 // len(kinds) + 10) if (first + i) % 10 in kinds][:number]
    images = sprites.draw(part, indices, IMAGE_PX)
    turns_N = draw.integers(0, 4, number) if quarters else np.zeros(number, np.int64)
    pixels_N = np.stack([np.rot90(pixels, turn) for pixels, turn in zip(images.pixels_NHWC, turns_N, strict=True)])
    return np.ascontiguousarray(pixels_N), np.array([kinds.index(label) for label in images.labels_N])


def nothing(part: int, number: int, seed: int) -> tuple[Pixels, Labels]:
    """Sprites with labels that say nothing of them."""
    pixels_N, _ = drawn_sprites(part, number, seed, kinds=range(10))
    return pixels_N, _draw_and_labels("nothing", part, number, seed, 3)[1]


def one_class(part: int, number: int, seed: int) -> tuple[Pixels, Labels]:
    """Two kinds of sprites, 97 % of one of them."""
    draw = _draw("one class", part, number, seed)
    rare_N = draw.permutation(number) < round(0.03 * number)
    both = [drawn_sprites(part, number, seed, kinds=[kind])[0] for kind in (0, 5)]
    return np.where(rare_N[:, None, None, None], both[1], both[0]), rare_N.astype(np.int64)


def digits(part: int, number: int, seed: int, *, max_deg: float) -> tuple[Pixels, Labels]:
    """The 8 x 8 px digits that scikit-learn ships (1,797 of 43 people), enlarged, each turned by up to max_deg."""
    from sklearn.datasets import load_digits

    images, draw = load_digits(), np.random.default_rng(seed)
    chosen = draw.permutation(len(images.target))[600 * part :][:number]
    pixels_N = []
    for picture in images.images[chosen]:
        image = Image.fromarray(_as_pixels(picture * 15.9)).resize((IMAGE_PX, IMAGE_PX), Image.Resampling.BICUBIC)
        pixels_N.append(np.asarray(image.rotate(draw.uniform(-max_deg, max_deg), Image.Resampling.BICUBIC)))
    return np.stack(pixels_N), images.target[chosen].astype(np.int64)


def photographs(part: int, number: int, seed: int, *, spec: str, classes: Sequence[str] = ()) -> tuple[Pixels, Labels]:
    """Some photographs of a folder with train/ and test/, of all its classes or of those named."""
    task = load_task(spec, image_px=IMAGE_PX, cache=cache_folder(), say=lambda line: None)
    images = (task.train, task.test)[part]
    kinds = [task.classes.index(name) for name in classes or task.classes]
    index_N = np.flatnonzero(np.isin(images.labels_N, kinds))
    index_N = _draw("photographs", part, number, seed).permutation(index_N)[:number]
    return images.pixels_NHWC[index_N], np.array([kinds.index(label) for label in images.labels_N[index_N]])


def folders(photos: str = "") -> tuple[Folder, ...]:
    """All of them. photos: a folder with CIFAR-10's images; without it those made of them are left out."""
    spec = f"folder:{photos}"
    made = (
        Folder("parts-any", partial(parts, max_deg=180, kinds=range(4))),  # two of the kinds are mirror images
        Folder("parts-small", partial(parts, max_deg=10, kinds=range(4), contrast=0.25)),
        # mirroring makes one class the other
        Folder("brackets", partial(parts, max_deg=15, kinds=(0, 1), contrast=0.25), 300),
        Folder("textures", textures),
        Folder("digits", partial(digits, max_deg=0), 600, 1000),
        Folder("digits-any", partial(digits, max_deg=180), 600, 1000),
        Folder("sprites", partial(drawn_sprites, kinds=range(10)), 1000, 1000),  # small affine poses, clutter
        Folder("sprites-quarter", partial(drawn_sprites, kinds=range(10), quarters=True), 1000, 1000),
        Folder("nothing", nothing, 500),
        Folder("one-class", one_class, 1000, 1000),
        Folder("photos", partial(photographs, spec=spec), 5000, 2000),
        Folder("photos-few", partial(photographs, spec=spec, classes=("automobile", "horse", "ship")), 400, 1000),
    )
    return made if photos else made[:-2]


def _draw(name: str, part: int, number: int, seed: int) -> Draw:
    return np.random.default_rng([seed, part, number, *name.encode()])


def _draw_and_labels(name: str, part: int, number: int, seed: int, num_classes: int) -> tuple[Draw, Labels]:
    draw = _draw(name, part, number, seed)
    return draw, draw.permutation(np.arange(number, dtype=np.int64) % num_classes)


def _as_pixels(values: npt.NDArray[np.float64]) -> Pixels:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)
