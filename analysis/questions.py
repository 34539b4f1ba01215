"""What a claim asks, by the names of its two variants."""

from typing import Literal

from analysis.names import name_and_options, variant_parts
from ledger.study import Claim

Question = Literal[
    "augmentation", "transformer", "both", "together", "instead", "ceiling", "control", "interaction", "other"
]
"""What a claim is about: showing transformed copies; learning where to look; the second on top of the first; the two
beside neither; the second in place of the first; knowing the true pose; a transformer that cannot help, or is told the
pose; whether the first two add up. Policies that both variants have are no part of the question."""

_PLAIN = {"cnn", "cnn_matched"}
_FLOORS = {"stn_random", "stn_shuffled", "stn_frozen"}


def question_of(claim: Claim) -> Question:
    """What a claim asks, by the names of its two variants."""
    if claim.interaction:
        return "interaction"
    one, other = variant_parts(claim.variant), variant_parts(claim.baseline)
    name, options = name_and_options(one.model)
    if name == "oracle_unwarp":
        return "ceiling"
    if name in {*_FLOORS, "stn_supervised"} or options.get("supervision", "0") != "0":
        return "control"
    shown, shown_to_other = set(one.policies), set(other.policies)
    if (one.model, one.backbone) == (other.model, other.backbone) and shown > shown_to_other:
        return "augmentation"
    if not name.startswith("stn_") or name_and_options(other.model)[0] not in _PLAIN:
        return "other"  # to lose against a rival, or against the ceiling, is not to hurt
    if one.policy == other.policy:
        return "both" if one.policy else "transformer"
    if shown > shown_to_other:
        return "together"
    return "instead" if shown < shown_to_other else "other"


def is_plain(variant: str) -> bool:
    """Whether it is the network as it is: without a transformer, without augmentation."""
    parts = variant_parts(variant)
    return parts.model in _PLAIN and not parts.policy


def is_control(variant: str) -> bool:
    """Whether it is shown the true pose, in training or always, so that it takes no part in a ranking."""
    name, options = name_and_options(variant_parts(variant).model)
    return name in ("oracle_unwarp", "stn_supervised") or options.get("supervision", "0") != "0"


def aside(claim: Claim) -> str:
    """What a reader must know of the claim's variant, to stand behind its name; "" for most."""
    question = question_of(claim)
    if question == "ceiling":
        return " (told each image's true pose)"
    if question != "control":
        return ""
    name, _ = name_and_options(variant_parts(claim.variant).model)
    return " (a control)" if name in _FLOORS else " (told the true poses in training)"
