"""The studies that a probe makes: augmentations tried once each, then the best of them beside a spatial transformer."""

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from experiments.probe.advice import MAX_MINUTES
from experiments.study.ladder import Ladder
from experiments.study.overrides import GIVEN
from experiments.study.study import Study, load_study
from ledger.errors import UserError, nearest
from ledger.names import bare
from ledger.study import Claims

FILE = Path(__file__).parents[1] / "studies/advice.yaml"

MIN_MINUTES = 0.5


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
    """The augmentations that a probe tries. turns, mirror: what the user knows; "" where it is to be found out.

    turns: by what angles things are found turned; mirror: whether a mirrored image is still of its class.
    Raises UserError for other values.
    """
    for name, value, known in (("turns", turns, TURNS), ("mirror", mirror, MIRROR)):
        if value and value not in known:
            raise UserError(f"{name}: {value!r} is not one of {', '.join(known)}; {nearest(value, known)}")
    right = [each for each in AUGMENTATIONS if turns in ("", each.turns)]
    return [each for each in right if mirror in ("", "yes" if each.mirror else "no")]


def load_probe(
    path: Path,
    minutes: float,
    budget: str,
    turns: str = "",
    mirror: str = "",
    group: str = "",
    given: Sequence[str] = (),
) -> Study:
    """The probe of a folder. Its name has what was asked, since another question makes other runs.

    group: of which the name has a hash, since it may name a file.
    given: overrides of its protocol, as they are typed.
    Raises UserError for minutes that make no sense, and for overrides of anything else.
    """
    if not MIN_MINUTES <= minutes <= MAX_MINUTES:
        raise UserError(f"minutes: {minutes:g} is not between {MIN_MINUTES:g} and {MAX_MINUTES:g}")
    study = load_study(FILE, budget, task=f"folder:{path}", group=group, given=given)
    for key in study.overrides:
        if not key.startswith("protocol."):
            raise UserError(f"{GIVEN}: {key}: a probe takes keys of its protocol only, such as protocol.image_px=64")
    asked = {name: value for name, value in (("turns", turns), ("mirror", mirror)) if value}
    known = {"group": hashlib.sha256(study.group.encode()).hexdigest()[:6]} if study.group else {}
    parts = asked | known | {key.removeprefix("protocol."): str(each["now"]) for key, each in study.overrides.items()}
    name = "-".join([study.name, f"{minutes:g}min", *itertools.chain(*parts.items())]).replace(".", "-")
    return replace(study, name=name, file=f"experiments/studies/{FILE.name}", asked={"minutes": minutes, **asked})


def with_margin(study: Study, commonest: float) -> Study:
    """The study with a smaller margin where there is less to be gained: a fifth of it, at most.

    commonest: share of the training images that are of the commonest class, of which always naming it is right.
    """
    margin = round(min(study.claims.margin, (1 - commonest) / 5), 4)
    return replace(study, claims=replace(study.claims, margin=max(margin, 0.0001)))


def trying(study: Study, tried: Sequence[Augmentation]) -> Study:
    """A study of one run for each augmentation, judged on validation images; it has no final runs."""
    (model, *_) = study.variants
    variants = {name: name for name in (f"{model}+{augmentation.policy}" for augmentation in tried)}
    search = replace(study.search, trials=1, wave_size=1)
    study = replace(study, name=f"{study.name}-tried", variants=variants, search=search)
    return replace(study, claims=Claims(), final_seeds=0, ladder=Ladder())


def compared(study: Study, policy: str) -> Study:
    """The probe's study with this policy, or several, in place of its file's."""

    def named(variant: str) -> str:
        return f"{bare(variant)}+{policy}" if "+" in variant else variant

    variants = {named(variant): named(baseline) for variant, baseline in study.variants.items()}
    family = tuple(
        replace(claim, variant=named(claim.variant), baseline=named(claim.baseline)) for claim in study.claims.family
    )
    return replace(study, variants=variants, claims=replace(study.claims, family=family))
