"""Poses: how each image of a task is disturbed, once and for all or, in training, anew whenever it is shown.

One file each. A pose is a frozen dataclass whose fields are its options: `R:max_deg=30:corners=zeros`. The first
sentence of its docstring is what reports say of its images.
"""

from experiments.images.poses.pose import POSES, has_background, parse_pose, posed_px, spell_pose
from experiments.images.poses.pose_maps import PoseMaps, affine_pose, no_pose
from experiments.images.poses.posing import disc_mask, put_in_pose

__all__ = ["POSES", "PoseMaps", "affine_pose", "disc_mask", "has_background", "no_pose", "parse_pose"]
__all__ += ["posed_px", "put_in_pose", "spell_pose"]
