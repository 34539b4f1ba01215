"""Names of variants and poses taken apart: NAME[:option=value...], and variants from such parts by @ and +."""

from typing import NamedTuple


class VariantParts(NamedTuple):
    """MODEL[@BACKBONE][+POLICY[+POLICY...]], each with its options; backbone is "" for the default one.

    policy: all of them, such as "flip_crop+affine"; "" for none.
    """

    model: str
    backbone: str
    policy: str

    @property
    def policies(self) -> tuple[str, ...]:
        return tuple(self.policy.split("+")) if self.policy else ()


def variant_parts(variant: str) -> VariantParts:
    """The parts of a variant's name."""
    head, _, policy = variant.partition("+")
    model, _, backbone = head.partition("@")
    return VariantParts(model, backbone, policy)


def name_and_options(name: str) -> tuple[str, dict[str, str]]:
    """`R:max_deg=30` as ("R", {"max_deg": "30"})."""
    name, *options = name.split(":")
    pairs = (option.partition("=") for option in options)
    return name, {key: value for key, _, value in pairs}


def wrapped(text: str, width: int) -> str:
    """A name on as few lines as its parts allow: broken before @ + : where a line would be longer than `width`.

    A part that is longer than a line by itself ends in an ellipsis.
    """
    lines, line = [], ""
    for part in _pieces(text):
        if line and len(line) + len(part) > width:
            lines.append(line)
            line = ""
        line += part
    return "\n".join(line if len(line) <= width else line[: width - 1] + "…" for line in [*lines, line])


def _pieces(text: str) -> list[str]:
    pieces = [""]
    for character in text:
        if character in "@+:" and pieces[-1]:
            pieces.append("")
        pieces[-1] += character
    return pieces
