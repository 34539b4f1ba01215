"""Sprites: ten shapes drawn over textured backgrounds under known affine poses. Needs no download.

Every shape takes either polarity, so its pixels say nothing about its class by themselves: a linear model fails. Each
image is a function of (seed, part, index) alone.

Shape suffixes: N images, H rows, W columns, C channels; coordinates are normalised (x, y) in [-1, 1], y down,
align_corners=False: the centre of column j is (2 j + 1) / W - 1.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from experiments.images.tasks.cache import Parts, cached
from experiments.images.tasks.progress import Progress
from experiments.images.tasks.reading import Reading
from experiments.images.tasks.task import TASKS, Images, Say, Task
from ledger.config import Fit
from ledger.errors import UserError

VERSION = 1
"""Version of the drawing: a change to anything below that changes a pixel needs a new one."""

SEED = 20150605
NUM_TRAIN = 12_000
NUM_TEST = 4_000
MAX_IMAGE_PX = 256
"""All images are drawn, whatever a study uses of them: larger ones would take gigabytes of memory, and an hour."""

RADIUS = 0.62
"""Radius of the circle around an upright sprite, in normalised coordinates."""
MAX_ROTATION_DEG = 30.0
SCALE = (0.7, 1.2)
MAX_SHEAR = 0.2
MAX_SHIFT = 0.25
"""In normalised coordinates: 4 px of 32."""

Point = tuple[float, float]
Floats = npt.NDArray[np.float64]


def _arc(x: float, y: float, radius: float, start_deg: float, end_deg: float, num_points: int = 9) -> list[Point]:
    angles = (math.radians(a) for a in np.linspace(start_deg, end_deg, num_points))
    return [(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles]


def _upright(outline: Sequence[Point]) -> Floats:
    """Corners of a shape, centred on its bounding box and scaled to RADIUS. Shape (corners, 2)."""
    corners = np.array(outline, np.float64)
    corners -= (corners.min(0) + corners.max(0)) / 2
    return corners * (RADIUS / np.hypot(corners[:, 0], corners[:, 1]).max())


_OUTLINES: dict[str, list[Point]] = {
    "arrow": [(5, 0), (9.5, 5), (6.4, 5), (6.4, 10), (3.6, 10), (3.6, 5), (0.5, 5)],
    "bolt": [(4.6, 0), (8, 0), (6.2, 3.6), (9, 3.6), (2.6, 10), (4.2, 5.6), (1.4, 5.6)],
    "boot": [(1, 0), (4.8, 0), (4.8, 5.4), (8.4, 6.6), (9.4, 8), (9.4, 10), (1, 10)],
    "comb": [(0, 1), (10, 1), (10, 9), (8, 9), (8, 4), (6, 4), (6, 9), (4, 9), (4, 4), (2, 4), (2, 9), (0, 9)],
    "crown": [(0, 1), (2.6, 4.6), (5, 1), (7.4, 4.6), (10, 1), (9, 9), (1, 9)],
    "fish": [(0, 5), (2, 2.8), (4.4, 2), (7.4, 4.2), (10, 1.6), (10, 8.4), (7.4, 5.8), (4.4, 8), (2, 7.2)],
    "flag": [(1, 0), (3, 0), (3, 0.8), (9.4, 3.4), (3, 6), (3, 10), (1, 10)],
    "hammer": [(0, 3.6), (2.4, 0.6), (9, 0.6), (9, 3.8), (6.6, 3.8), (6.6, 10), (4, 10), (4, 3.8), (2.4, 3.4)],
    "hook": [(6.4, 0), (9, 0), *_arc(5.4, 6.2, 3.7, 0, 180), *_arc(5.4, 6.2, 1.2, 180, 0)],
    "house": [(0, 5), (5, 0), (7, 2), (7, 0.5), (8.5, 0.5), (8.5, 3.5), (10, 5), (9, 5), (9, 10), (1, 10), (1, 5)],
}

SHAPES = {name: _upright(outline) for name, outline in _OUTLINES.items()}
"""Outlines of the upright shapes by class name: corners (x, y) in normalised coordinates."""

_TABLE_SIDE = 161
_TABLE_REACH = 0.8
"""Distances are tabulated over [-reach, reach] squared; further out nothing is drawn."""

# Numbers drawn for an image, in this order; its noise follows.
_NUM_GRATINGS = 4
_NUM_FRAGMENTS = 4
_POSE, _COLOUR, _GRATING, _FRAGMENT = 5, 9, 7, 9
_NUM_DRAWS = _POSE + _COLOUR + _NUM_GRATINGS * _GRATING + _NUM_FRAGMENTS * _FRAGMENT


@TASKS.register("sprites")
def sprites(argument: str, *, image_px: int, fit: Fit, cache: Path, say: Say) -> Task:
    """16,000 images of ten shapes in known poses on textured ground, drawn by the program.

    Arguments as of BuildTask.
    """
    if argument:
        raise UserError(f"task 'sprites:{argument}': sprites takes nothing after its name")
    if image_px > MAX_IMAGE_PX:
        raise UserError(f"protocol.image_px: {image_px} is too large for sprites, which are drawn to {MAX_IMAGE_PX}")

    def build(_scratch: Path) -> Parts:
        say(f"sprites: drawing {NUM_TRAIN + NUM_TEST:,} images, once")
        progress = Progress(say)

        def drawn(num: int) -> None:
            progress(f"sprites: {num:,} of {NUM_TRAIN + NUM_TEST:,} images drawn")

        train = draw(0, range(NUM_TRAIN), image_px, drawn)
        test = draw(1, range(NUM_TEST), image_px, lambda num: drawn(NUM_TRAIN + num))
        reading = Reading((("Source", "drawn by this program, each under a known pose"),))
        return tuple(SHAPES), train, test, reading

    source = {"version": VERSION, "seed": SEED, "images": [NUM_TRAIN, NUM_TEST], "image_px": image_px}
    return Task("sprites", "sprites", *cached("sprites", source, cache, build, say))


def draw(
    part: int, indices: Sequence[int], image_px: int = 32, drawn: Callable[[int], None] = lambda num: None
) -> Images:
    """Images `indices` of a part (0 train, 1 test); which others are drawn with them changes nothing.

    drawn: called now and then with the number of images that are drawn.
    """
    block = max(1, 250_000 // image_px**2)  # images whose arrays are held at once
    blocks = []
    for i in range(0, len(indices), block):
        blocks.append(_draw_block(part, indices[i : i + block], image_px))
        drawn(i + len(blocks[-1]))
    fields = ("pixels_NHWC", "labels_N", "theta_N23")
    return Images(**{field: np.concatenate([getattr(images, field) for images in blocks]) for field in fields})


def coverage(labels_N: npt.NDArray[np.int64], theta_N23: npt.NDArray[np.floating], image_px: int) -> Floats:
    """How much of each pixel the shape covers, in [0, 1]; (N, H, W), edges anti-aliased.

    theta_N23: posed image to upright, as in Images; the identity draws the shape upright.
    """
    centre = _pixel_centres(image_px)
    return _covered(labels_N, theta_N23, centre, centre[:, None], image_px)


def _pixel_centres(image_px: int) -> Floats:
    return (2 * np.arange(image_px) + 1) / image_px - 1


def _covered(
    labels_N: npt.NDArray[np.int64], theta_N23: npt.NDArray[np.floating], x: Floats, y: Floats, image_px: int
) -> Floats:
    """Coverage at posed positions, from the distance to the outline measured in pixels of the posed image."""
    theta = np.asarray(theta_N23, np.float64)[..., None, None]
    upright_x, upright_y = (theta[:, row, 0] * x + theta[:, row, 1] * y + theta[:, row, 2] for row in (0, 1))
    upright_per_posed = np.sqrt(np.abs(theta[:, 0, 0] * theta[:, 1, 1] - theta[:, 0, 1] * theta[:, 1, 0]))
    px_per_upright = image_px / 2 / upright_per_posed
    return np.clip(0.5 - _distance(labels_N, upright_x, upright_y) * px_per_upright, 0, 1)


def _distance(labels_N: npt.NDArray[np.int64], x_NHW: Floats, y_NHW: Floats) -> Floats:
    """Signed distance to the outline, negative inside: bilinear interpolation of the table."""
    step = 2 * _TABLE_REACH / (_TABLE_SIDE - 1)
    column = np.clip((x_NHW + _TABLE_REACH) / step, 0, _TABLE_SIDE - 1.001)
    row = np.clip((y_NHW + _TABLE_REACH) / step, 0, _TABLE_SIDE - 1.001)
    left, top = column.astype(np.int32), row.astype(np.int32)
    column -= left
    row -= top
    corner = (labels_N.astype(np.int32)[:, None, None] * _TABLE_SIDE + top) * _TABLE_SIDE + left
    a, b, c, d = (np.take(_TABLE, corner + offset) for offset in (0, 1, _TABLE_SIDE, _TABLE_SIDE + 1))
    upper = a + (b - a) * column
    lower = c + (d - c) * column
    return upper + (lower - upper) * row


def _signed_distance(corners: Floats, x: Floats, y: Floats) -> Floats:
    """Exact signed distance from points to a polygon, negative inside (even-odd rule)."""
    nearest = np.full(x.shape, np.inf)
    inside = np.zeros(x.shape, bool)
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, 0), strict=True):
        along = np.clip(((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0)))
        if y0 != y1:
            inside ^= ((y0 <= y) != (y1 <= y)) & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
    return np.where(inside, -nearest, nearest)


_AXIS = np.linspace(-_TABLE_REACH, _TABLE_REACH, _TABLE_SIDE)
_TABLE: Floats = np.stack([_signed_distance(corners, *np.meshgrid(_AXIS, _AXIS)) for corners in SHAPES.values()])


def _between(low: float, high: float, draw_N: Floats) -> Floats:
    return low + (high - low) * draw_N


def _theta(draws_NK: Floats, scale_N: Floats, shift_x_N: Floats, shift_y_N: Floats) -> Floats:
    """Posed-to-upright maps: the inverse of scale, then shear, then rotation, then shift. draws_NK: K >= 2."""
    angle = np.radians(_between(-MAX_ROTATION_DEG, MAX_ROTATION_DEG, draws_NK[:, 0]))
    shear = _between(-MAX_SHEAR, MAX_SHEAR, draws_NK[:, 1])
    cos, sin = np.cos(angle) * scale_N, np.sin(angle) * scale_N
    a, b, c, d = cos, cos * shear - sin, sin, sin * shear + cos  # upright to posed, row by row
    inverse = np.stack([d, -b, -c, a], 1).reshape(-1, 2, 2) / (a * d - b * c)[:, None, None]
    shift = np.stack([shift_x_N, shift_y_N], 1)[:, :, None]
    return np.concatenate([inverse, -inverse @ shift], 2)


def _draw_block(part: int, indices: Sequence[int], image_px: int) -> Images:
    num_images = len(indices)
    draws_NK = np.empty((num_images, _NUM_DRAWS + 3 * image_px**2))
    for row, index in zip(draws_NK, indices, strict=True):
        np.random.Generator(np.random.Philox(key=[SEED, (part << 32) | index])).random(out=row)
    nums = [_POSE, _COLOUR, _NUM_GRATINGS * _GRATING, _NUM_FRAGMENTS * _FRAGMENT]
    pose, colour, grating, fragment, noise = np.split(draws_NK, np.cumsum(nums), axis=1)
    labels_N = np.asarray(indices, np.int64) % len(SHAPES)
    # float32 is what is stored, so float32 is what is drawn
    scale_N, shift_N2 = _between(*SCALE, pose[:, 2]), _between(-MAX_SHIFT, MAX_SHIFT, pose[:, 3:5])
    theta_N23 = _theta(pose, scale_N, *shift_N2.T).astype(np.float32)

    ground_NC = _between(0.35, 0.65, colour[:, :1]) + _between(-0.12, 0.12, colour[:, 1:4])
    polarity_N1 = np.where(colour[:, 4:5] < 0.5, -1.0, 1.0)
    contrast_N1 = _between(0.18, 0.42, colour[:, 8:9])
    sprite_NC = ground_NC + polarity_N1 * contrast_N1 + _between(-0.12, 0.12, colour[:, 5:8])

    image_NHWC = _texture(grating.reshape(num_images, _NUM_GRATINGS, _GRATING), image_px)
    image_NHWC += ground_NC[:, None, None]
    _scatter_fragments(image_NHWC, ground_NC, fragment.reshape(num_images, _NUM_FRAGMENTS, _FRAGMENT))
    cover_NHW1 = coverage(labels_N, theta_N23, image_px)[..., None]
    image_NHWC += cover_NHW1 * (sprite_NC[:, None, None] - image_NHWC)
    noise -= 0.5
    noise *= 0.22
    image_NHWC += noise.reshape(image_NHWC.shape)
    image_NHWC *= 255
    pixels_NHWC = np.rint(np.clip(image_NHWC, 0, 255, out=image_NHWC), out=image_NHWC).astype(np.uint8)
    return Images(pixels_NHWC, labels_N, theta_N23)


def _texture(draws_NGK: Floats, image_px: int) -> Floats:
    """Sum of coloured gratings of random direction, period and phase; (N, H, W, C), mean about 0."""
    angle = np.pi * draws_NGK[..., 0]
    radians = np.pi * _between(0.8, 4.0, draws_NGK[..., 1])  # per unit of normalised coordinates
    phase = 2 * np.pi * draws_NGK[..., 2]
    gain_NGC = _between(0.03, 0.11, draws_NGK[..., 3, None]) * (1 + _between(-0.6, 0.6, draws_NGK[..., 4:7]))
    centre = _pixel_centres(image_px)
    across = (radians * np.cos(angle))[..., None] * centre + phase[..., None]
    down = (radians * np.sin(angle))[..., None] * centre
    # sin(across + down) = sin across cos down + cos across sin down: a small matrix product instead of a sine a pixel
    rows_NHG = np.concatenate([np.cos(down), np.sin(down)], 1).transpose(0, 2, 1)
    waves_NGW = np.concatenate([np.sin(across), np.cos(across)], 1)
    columns_NGWC = waves_NGW[..., None] * np.tile(gain_NGC, (1, 2, 1))[:, :, None]
    texture = rows_NHG @ columns_NGWC.reshape(*columns_NGWC.shape[:2], -1)
    return texture.reshape(-1, image_px, image_px, 3)


def _scatter_fragments(image_NHWC: Floats, ground_NC: Floats, draws_NFK: Floats) -> None:
    """Draw distractors into the background: round cut-outs from shapes of any class."""
    num_images, image_px = image_NHWC.shape[:2]
    reach = 0.26
    window = min(image_px, math.ceil(reach * image_px) + 2)
    image = np.arange(num_images)[:, None, None]
    for draws_NK in draws_NFK.transpose(1, 0, 2):
        labels_N = (draws_NK[:, 0] * len(SHAPES)).astype(np.int64)
        x_N, y_N = (_between(-0.95, 0.95, draws_NK[:, k]) for k in (1, 2))  # of the cut-out's centre
        turn_N = 2 * np.pi * draws_NK[:, 3]  # where on the shape's rim the cut-out lies
        scale_N = _between(*SCALE, draws_NK[:, 4])
        rim_x_N, rim_y_N = 0.45 * RADIUS * scale_N * np.cos(turn_N), 0.45 * RADIUS * scale_N * np.sin(turn_N)
        theta_N23 = _theta(draws_NK[:, 5:7], scale_N, x_N - rim_x_N, y_N - rim_y_N)
        left, top = (
            np.clip(np.rint((v + 1) / 2 * image_px - window / 2).astype(np.int64), 0, image_px - window)
            for v in (x_N, y_N)
        )
        column = (left[:, None] + np.arange(window))[:, None, :]
        row = (top[:, None] + np.arange(window))[:, :, None]
        centre = _pixel_centres(image_px)
        posed_x, posed_y = centre[column], centre[row]
        cover = _covered(labels_N, theta_N23, posed_x, posed_y, image_px)
        from_rim = np.hypot(posed_x - x_N[:, None, None], posed_y - y_N[:, None, None]) - reach
        cover *= np.clip(0.5 - from_rim * image_px / 2, 0, 1)
        contrast_N1 = np.where(draws_NK[:, 7:8] < 0.5, -1.0, 1.0) * _between(0.14, 0.40, draws_NK[:, 8:9])
        under = image_NHWC[image, row, column]
        paint_NC = ground_NC + contrast_N1
        image_NHWC[image, row, column] = under + cover[..., None] * (paint_NC[:, None, None] - under)
