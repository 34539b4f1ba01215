"""What models and poses are, by name, for studies from before study.json said it."""

from collections.abc import Mapping

from ledger.names import name_and_options, variant_parts
from ledger.roles import Role

_STN = "a spatial transformer in front of the network; it chooses"
MODELS: Mapping[str, tuple[Role, str]] = {
    "cnn": ("plain", "the plain network: it sees each image as it is"),
    "cnn_matched": ("matched", "the plain network, made as large as the one with a transformer"),
    "cnn_recipe": ("other", "the plain network, with parts of how it is made and trained taken away"),
    "cnn_tta": ("other", "the plain network; when tested, it sees several copies of each image and takes the mean"),
    "oracle_unwarp": (
        "ceiling",
        "the plain network on images turned back by their true pose: what a transformer could reach",
    ),
    "stn_random": ("floor", "a control: a transformer that moves images at random"),
    "stn_shuffled": ("floor", "a control: each image is moved as the transformer would move another one"),
    "stn_frozen": ("floor", "a control: a transformer that never moves anything"),
    "stn_supervised": ("told", "a spatial transformer that is told the true poses in training"),
    "stn_translation": ("transformer", f"{_STN} shifts"),
    "stn_rotation": ("transformer", f"{_STN} turns"),
    "stn_similarity": ("transformer", f"{_STN} turns, scales and shifts"),
    "stn_attention": ("transformer", f"{_STN} crops"),
    "stn_affine": ("transformer", f"{_STN} affine maps: turns, scales, shears and shifts"),
    "stn_projective": ("transformer", f"{_STN} projective maps: changes of perspective"),
    "stn_tps": ("transformer", f"{_STN} smooth bends"),
    "deformable": ("other", "a network whose filters bend to what they see"),
    "polar": ("other", "the plain network on images in polar coordinates, where a turn is a shift"),
    "ti_cnn": ("other", "a network whose inner maps are moved at random in training"),
    "ti_pooling": ("other", "a network that sees several turned copies and keeps the strongest answer"),
}
_POSES = {
    "upright": "upright images",
    "R": "turned images",
    "RTS": "turned, scaled and shifted images",
    "P": "images in perspective",
    "E": "elastically bent images",
    "TC": "images somewhere on a large canvas",
}


def model_said(variant: str) -> tuple[Role, str]:
    """The role of a variant's model and what it is in words, "" if unknown."""
    name, options = name_and_options(variant_parts(variant).model)
    unknown: Role = "transformer" if name.split("_")[0] == "stn" else "other"
    role, words = MODELS.get(name, (unknown, ""))
    return ("told" if role == "transformer" and options.get("supervision", "0") != "0" else role), words


def pose_said(pose: str) -> str:
    """A pose in words, "" if unknown."""
    return _POSES.get(name_and_options(pose)[0], "")
