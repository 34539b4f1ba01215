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
    head, _, policy = variant.partition("+")
    model, _, backbone = head.partition("@")
    return VariantParts(model, backbone, policy)


def bare(variant: str) -> str:
    """The variant without its policies: MODEL[@BACKBONE]."""
    return variant.partition("+")[0]


def name_and_options(name: str) -> tuple[str, dict[str, str]]:
    """`R:max_deg=30` as ("R", {"max_deg": "30"}); `timm:resnet18` is a name without options."""
    parts = name.split(":")
    options = [part.partition("=") for part in parts if "=" in part]
    return ":".join(part for part in parts if "=" not in part), {key: value for key, _, value in options}
