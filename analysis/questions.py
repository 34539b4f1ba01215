"""What a claim asks, by what its two variants are."""

from collections.abc import Mapping
from typing import Literal

from ledger.names import variant_parts
from ledger.roles import CONTROLS, PLAIN, Role
from ledger.study import Claim

Question = Literal[
    "augmentation", "transformer", "both", "together", "instead", "ceiling", "control", "interaction", "other"
]
"""What a claim is about: showing transformed copies; learning where to look; the second on top of the first; the two
beside neither; the second in place of the first; knowing the true pose; a transformer that cannot help, is told the
pose, or knows it but for planted errors; whether the first two add up. Policies of both variants do not count."""


def question_of(claim: Claim, roles: Mapping[str, Role]) -> Question:
    """What a claim asks. roles: of the study's variants."""
    if claim.interaction:
        return "interaction"
    one, other = variant_parts(claim.variant), variant_parts(claim.baseline)
    role = roles[claim.variant]
    if role in CONTROLS:
        return "ceiling" if role == "ceiling" and ":" not in one.model else "control"
    shown, shown_to_other = set(one.policies), set(other.policies)
    if (one.model, one.backbone) == (other.model, other.backbone) and shown > shown_to_other:
        return "augmentation"
    if role != "transformer" or roles[claim.baseline] not in PLAIN:
        return "other"  # to lose against a rival, or against the ceiling, is not to hurt
    if one.policy == other.policy:
        return "both" if one.policy else "transformer"
    if shown > shown_to_other:
        return "together"
    return "instead" if shown < shown_to_other else "other"


def aside(claim: Claim, roles: Mapping[str, Role]) -> str:
    """What a reader must know of the claim's variant, to stand behind its name; "" for most."""
    if claim.interaction:
        return ""
    role = roles[claim.variant]
    words = {"ceiling": "told each image's true pose", "floor": "a control", "told": "told the true poses in training"}
    planted = ", but for planted errors" if role == "ceiling" and ":" in variant_parts(claim.variant).model else ""
    return f" ({words[role]}{planted})" if role in words else ""
