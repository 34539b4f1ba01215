"""The augmentations that a probe tries: by how things may be turned in the images, and whether they may be mirrored."""

from collections.abc import Sequence
from typing import NamedTuple

from ledger.errors import UserError, nearest


class Augmentation(NamedTuple):
    """A policy, or several with `+`, as a variant names them, and what it shows, in words.

    turns, mirror: of what kind of images it would be right for.
    """

    policy: str
    words: str
    turns: str
    mirror: bool


AUGMENTATIONS = (
    Augmentation("flip_crop:mirror=none", "small shifts", "none", False),
    Augmentation("flip_crop", "mirror images and small shifts", "none", True),
    Augmentation("affine", "small turns, scalings, shears and shifts", "small", False),
    Augmentation("affine+flip_crop", "small turns, scalings and shears, mirrored and shifted", "small", True),
    Augmentation("d4:mirror=false", "quarter turns", "quarter", False),
    Augmentation("d4", "quarter turns and mirror images", "quarter", True),
    Augmentation("rotate:max_deg=180", "turns by any angle", "any", False),
    Augmentation("rotate:max_deg=180+flip_crop", "turns by any angle, mirrored and shifted", "any", True),
)
"""The weakest first."""

TURNS, MIRROR = tuple(dict.fromkeys(each.turns for each in AUGMENTATIONS)), ("yes", "no")


def augmentations(turns: str, mirror: str) -> Sequence[Augmentation]:
    """Those that a probe tries. turns, mirror: what the user knows; "" where it is to be found out.

    turns: by what angles things are found turned; mirror: whether a mirrored image is still of its class.
    Raises UserError for other values.
    """
    for name, value, known in (("turns", turns, TURNS), ("mirror", mirror, MIRROR)):
        if value and value not in known:
            raise UserError(f"{name}: {value!r} is not one of {', '.join(known)}; {nearest(value, known)}")
    return [
        each for each in AUGMENTATIONS if turns in ("", each.turns) and mirror in ("", "yes" if each.mirror else "no")
    ]
