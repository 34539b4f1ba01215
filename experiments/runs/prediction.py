"""What a final run's network says of single images, and what its transformer looks at."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from experiments.images.contact_sheet import FONT, shortened
from experiments.images.tasks.image_files.decoding import decode, reason
from experiments.images.tasks.reading import USUAL, ToRgb
from experiments.networks.network import Batch
from experiments.runs.diagnostics import POINTS, fit_affine, turn
from experiments.runs.pictures import seen
from experiments.runs.trained import Classifier, Trained
from ledger.config import Fit
from ledger.errors import UserError
from stn.sampler import base_grid

MAX_COLUMNS = 10
CAPTION_PX = 16


@dataclass(frozen=True)
class Look:
    """What a transformer does to one image, as the closest affine map.

    seen_HWC: the image as the rest of the network sees it, uint8, as large as the image. zoom: how many times larger it
    shows what it looks at. angle_deg: how far it turns the picture, anticlockwise. shift_px: from the middle of the
    image to that of what it looks at, to the right and down. stretch: how many times longer it makes things in one
    direction than across it, as shears and unequal scales do; 1 if it keeps their form.
    """

    seen_HWC: npt.NDArray[np.uint8]
    zoom: float
    angle_deg: float
    shift_px: tuple[float, float]
    stretch: float


@dataclass(frozen=True)
class Prediction:
    """classes: names and probabilities, the most probable first. image_HWC: uint8, as the network was given it.

    look: None without a transformer; that of its first head.
    """

    file: Path
    classes: list[tuple[str, float]]
    image_HWC: npt.NDArray[np.uint8]
    look: Look | None


def read_image(
    file: Path, image_px: int, to_rgb: ToRgb = USUAL, num_channels: int = 3, fit: Fit = "crop"
) -> npt.NDArray[np.uint8]:
    """The image as a task's are read: first frame, upright, square as they are, on their ground and their scale.

    Colours become the grey of the same brightness (ITU-R BT.601) where the task's images have one channel.
    Raises UserError.
    """
    if file.exists() and not file.is_file():  # a pipe would be waited for
        raise UserError(f"image {str(file)!r}: is not a file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow wonders about either stops `decode` or does not matter
            pixels_HWC, _ = decode(file, image_px, to_rgb, fit)
    except Exception as error:  # Pillow raises a dozen kinds for files that are damaged
        raise UserError(f"image {str(file)!r}: cannot be read: {reason(error)}") from None
    return pixels_HWC if num_channels == 3 else np.asarray(Image.fromarray(pixels_HWC).convert("L"))[..., None]


@torch.inference_mode()
def predict(trained: Trained, files: list[Path]) -> list[Prediction]:
    """What the network says of each image file, in their order. Raises UserError for one that cannot be read."""
    how = trained.image_px, trained.to_rgb, trained.num_channels, trained.fit
    images = [read_image(file, *how) for file in files]
    predictions = []
    for file, image_HWC in zip(files, images, strict=True):
        raw_1CHW = torch.tensor(image_HWC).permute(2, 0, 1)[None].float() / 255
        probability_K, place_K = Classifier(trained)(raw_1CHW).softmax(1)[0].sort(descending=True)
        names = [trained.classes[place] for place in place_K.tolist()]
        ranked = list(zip(names, probability_K.tolist(), strict=True))
        predictions.append(Prediction(file, ranked, image_HWC, look_at(trained, raw_1CHW)))
    return predictions


def look_at(trained: Trained, raw_1CHW: Tensor) -> Look | None:
    """What the transformer does to the image; None without one."""
    batch = Batch.of(raw_1CHW, trained.network.num_draws)
    maps, seen_1CHW = trained.network.maps(batch), seen(trained.network, batch)
    if maps is None or seen_1CHW is None:
        return None
    grid_M2 = base_grid(POINTS, POINTS, raw_1CHW.device)
    theta_123 = fit_affine(maps[0].apply(grid_M2).double(), grid_M2.double())
    linear_122 = theta_123[:, :, :2]
    right_px, down_px = (theta_123[0, :, 2] * trained.image_px / 2).tolist()
    return Look(
        seen_HWC=(seen_1CHW[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy(),
        zoom=torch.linalg.det(linear_122).abs().clamp_min(1e-12).rsqrt().item(),
        # A grid that turns clockwise over the image turns the picture the other way.
        angle_deg=turn(linear_122).rad2deg().item(),
        shift_px=(right_px, down_px),
        stretch=min(torch.linalg.cond(linear_122).item(), 1e6),
    )


def picture(predictions: list[Prediction], enlargement: int = 4) -> Image.Image:
    """A column for each image, several rows of them where they are many: its file and its class stand by it.

    Above as it is, below as the rest of the network sees it, if it has a transformer.
    """
    tiles = [_tile(each, enlargement) for each in predictions]
    width, height = tiles[0].size
    columns = min(len(tiles), MAX_COLUMNS)
    whole = Image.new("RGB", (columns * width, -(-len(tiles) // columns) * height), "white")
    for number, tile in enumerate(tiles):
        whole.paste(tile, (number % columns * width, number // columns * height))
    return whole


def _tile(prediction: Prediction, enlargement: int) -> Image.Image:
    parts = [prediction.image_HWC] + ([prediction.look.seen_HWC] if prediction.look else [])
    parts = [np.broadcast_to(part, (*part.shape[:2], 3)) for part in parts]  # grey has one channel
    pixels = np.concatenate([np.pad(part, ((1, 1), (1, 1), (0, 0)), constant_values=255) for part in parts])
    shown = Image.fromarray(pixels)
    shown = shown.resize((shown.width * enlargement, shown.height * enlargement), Image.Resampling.NEAREST)
    tile = Image.new("RGB", (shown.width, shown.height + 2 * CAPTION_PX), "white")
    tile.paste(shown, (0, CAPTION_PX))
    name, probability = prediction.classes[0]
    for top, text in ((0, prediction.file.name), (tile.height - CAPTION_PX, f"{name} {probability:.0%}")):
        caption = shortened(text, shown.width - 2 * enlargement)
        ImageDraw.Draw(tile).text((enlargement, top + 1), caption, "black", FONT)
    return tile
