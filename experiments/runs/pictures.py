"""Pictures of what a transformer does to images."""

import io

import torch
import torch.nn.functional as F
from torch import Tensor

from experiments.networks.network import Batch, Network
from experiments.runs.images import DeviceImages

NUM_IMAGES = 8
ENLARGEMENT = 3


def seen(network: Network, batch: Batch) -> Tensor | None:
    """What the network looks at, as large as the images, (B, C, H, W); None without a transformer."""
    seen_BCHW = network.look(batch)
    if seen_BCHW is None or seen_BCHW.shape == batch.raw_BCHW.shape:
        return seen_BCHW
    return F.interpolate(seen_BCHW, batch.raw_BCHW.shape[2:], mode="nearest")


@torch.inference_mode()
def before_and_after(network: Network, images: DeviceImages) -> bytes | None:
    """A PNG of the first images: above as they are, below as the backbone sees them; None without a transformer."""
    network.eval()
    first = images.subset(torch.arange(min(NUM_IMAGES, len(images)), device=images.labels_N.device))
    _, batch = next(first.batches(network.num_draws, NUM_IMAGES))
    seen_BCHW = seen(network, batch)
    if seen_BCHW is None:
        return None
    from PIL import Image  # only where there is a picture
    from torchvision.utils import make_grid

    both_BCHW = torch.cat([batch.raw_BCHW, seen_BCHW]).float().cpu()
    grid_CHW = make_grid(both_BCHW, nrow=len(batch), padding=2, pad_value=1.0)
    pixels_HWC = (grid_CHW.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels_HWC)
    picture = picture.resize((picture.width * ENLARGEMENT, picture.height * ENLARGEMENT), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
