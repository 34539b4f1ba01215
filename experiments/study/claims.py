"""Reads the claims that a study is made for, as sweep.yaml declares them before anything runs."""

from collections.abc import Iterable, Mapping

from experiments.study.sweep_file import Section
from ledger.errors import nearest
from ledger.names import bare, variant_parts
from ledger.study import Claim, Claims

MAX_CLAIMS = 5000


def read_claims(
    section: Section, budget: Section, *, poses: Iterable[str], baselines: Mapping[str, str], of: str
) -> Claims:
    """The claims of a study at one budget.

    section: of the whole file. budget: the budget's own, whose keys take the place of the file's.
    poses, baselines: that the study has at this budget, each variant with its baseline. of: says which, in messages.
    Raises UserError for a claim about what does not take part: a family that shrank with the budget would be another.
    """
    keys = ("alpha", "margin", "family")
    section.only(keys)
    budget.only(keys)
    of_alpha, of_margin, of_family = (budget if key in budget.values else section for key in keys)
    poses = list(poses)
    alpha = float(of_alpha.number("alpha", 1e-6, 0.5, Claims.alpha))
    margin = float(of_margin.number("margin", 1e-6, 0.5, Claims.margin))
    if "family" not in of_family.values:
        family = [Claim(pose, *pair) for pose in poses for pair in baselines.items() if pair[0] != pair[1]]
        return Claims(alpha, margin, declared=False, family=tuple(family))
    items = of_family.items("family")
    declared: dict[Claim, None] = {}  # in order
    for key in items.values:
        for claim in _expand(items.section(key), poses, list(baselines), of):
            if claim in declared:
                both = f"{claim.variant!r} over {claim.baseline!r}"
                raise items.error(key, f"{both} at pose {claim.pose!r} is there twice")
            declared[claim] = None
            if len(declared) > MAX_CLAIMS:
                raise items.error(key, f"makes more than {MAX_CLAIMS} claims")
    return Claims(alpha, margin, declared=True, family=tuple(declared))


def _expand(item: Section, poses: list[str], variants: list[str], of: str) -> list[Claim]:
    """The claim at its pose, or at every pose where it names none."""
    item.only(("variant", "over", "pose", "interaction"))
    variant, over = item.text("variant"), item.text("over")
    for key, name in (("variant", variant), ("over", over)):
        if name not in variants:
            raise item.error(key, f"{name!r} is not among the variants{of}; {nearest(name, variants)}")
    if variant == over:
        raise item.error("over", f"{over!r} is the variant itself")
    if "pose" in item.values:
        pose = item.text("pose")
        if pose not in poses:
            raise item.error("pose", f"{pose!r} is not among the poses{of}; {nearest(pose, poses)}")
        poses = [pose]
    interaction = item.boolean("interaction", False)
    if interaction:
        _check_interaction(item, variant, over, variants, of)
    return [Claim(pose, variant, over, interaction) for pose in poses]


def _check_interaction(item: Section, variant: str, over: str, variants: list[str], of: str) -> None:
    """Raises UserError unless both have the same policy, and the same two without it take part."""
    policy = variant_parts(variant).policy
    if not policy or policy != variant_parts(over).policy:
        raise item.error("interaction", f"needs two variants with the same policy, not {variant!r} and {over!r}")
    for name in map(bare, (variant, over)):
        if name not in variants:
            message = f"needs {name!r} as well, which is not among the variants{of}; {nearest(name, variants)}"
            raise item.error("interaction", message)
