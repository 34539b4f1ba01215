"""TC: images somewhere on a larger canvas, among pieces of others."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from baselines.ranges import Ranged, within
from experiments.images.poses.pose import CANVAS_PX, POSES, Corners
from experiments.images.poses.pose_maps import PoseMaps, affine_pose
from stn.affine import from_parts

PLACE_DRAWS, PIECE_DRAWS = 2, 5


def _whole(u_N: Tensor, num: int) -> Tensor:
    """Uniform whole numbers from 0 to num - 1, (N,) int64."""
    return (u_N.double() * num).long()


@POSES.register("TC")
@dataclass(frozen=True)
class TranslatedCluttered(Ranged):
    """Images somewhere on a large canvas.

    Each is wholly in it, which is black, on top of pieces cut out of other images.
    canvas_px: side of the canvas, from 8 to 1024. num_pieces: up to 256; later ones lie on earlier ones. piece: a
    piece's side as a fraction of the image's, above 0 and up to 1. fresh: as of every pose.
    Places are whole pixels, so that the image is not resampled. Nothing is turned, so corners stay as they are.
    Source: Jaderberg et al. 2015, section 4.1 and appendix A.3: a 28-pixel digit on 60 pixels, 16 pieces of 6 x 6
    pixels. There pieces may lie on the digit; here the image lies on them, so that its label can always be told.
    """

    corners: ClassVar[Corners] = "zeros"
    canvas_px: int = within(*CANVAS_PX, 60)
    num_pieces: int = within(0, 256, 16)
    piece: float = within(0, 1, 6 / 28, ends="(]")
    fresh: bool = False

    @property
    def num_draws(self) -> int:
        return PLACE_DRAWS + self.num_pieces * PIECE_DRAWS

    def draw(self, u_NK: Tensor, image_px: int) -> PoseMaps:
        free_px = self.canvas_px - image_px
        corner_px_N2 = torch.stack([_whole(u_NK[:, axis], free_px + 1) for axis in range(2)], dim=1)
        # From the canvas's centre, in half sides of the image.
        shift_N2 = (2 * corner_px_N2 - free_px) / image_px
        return affine_pose(from_parts(angle_rad_B=torch.zeros_like(shift_N2[:, 0]), shift_B2=shift_N2))

    def background(self, pool_MHWC: Tensor, own_N: Tensor, u_NK: Tensor, size_px: int) -> Tensor:
        """Pieces of other images on black, uint8 (N, size_px, size_px, C)."""
        num_pool, image_px = pool_MHWC.shape[:2]
        piece_px = max(1, round(self.piece * image_px))
        side_P = torch.arange(piece_px, device=u_NK.device)
        row_N = torch.arange(len(u_NK), device=u_NK.device)
        canvas_NHWC = pool_MHWC.new_zeros(len(u_NK), size_px, size_px, pool_MHWC.shape[3])
        for start in range(PLACE_DRAWS, self.num_draws, PIECE_DRAWS):
            piece_N5 = u_NK[:, start : start + PIECE_DRAWS]
            # Any but the image itself, unless it is alone.
            source_N = (own_N + 1 + _whole(piece_N5[:, 0], max(1, num_pool - 1))) % num_pool
            from_y_N, from_x_N = (_whole(piece_N5[:, k], image_px - piece_px + 1) for k in (1, 2))
            to_y_N, to_x_N = (_whole(piece_N5[:, k], size_px - piece_px + 1) for k in (3, 4))
            piece_NPPC = pool_MHWC[
                source_N[:, None, None],
                (from_y_N[:, None] + side_P)[:, :, None],
                (from_x_N[:, None] + side_P)[:, None, :],
            ]
            canvas_NHWC[
                row_N[:, None, None], (to_y_N[:, None] + side_P)[:, :, None], (to_x_N[:, None] + side_P)[:, None, :]
            ] = piece_NPPC
        return canvas_NHWC
