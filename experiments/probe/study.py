"""The studies that a probe makes: augmentations tried once each, then the best of them beside a spatial transformer."""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.probe.advice import MAX_MINUTES
from experiments.probe.augmentations import Augmentation
from experiments.study.ladder import Ladder
from experiments.study.study import Study, StudyVariant, load_study
from ledger.errors import UserError
from ledger.names import bare
from ledger.study import Claims

FILE = Path(__file__).parents[1] / "studies/advice.yaml"

MIN_MINUTES = 0.5


def load_probe(path: Path, minutes: float, budget: str, turns: str = "", mirror: str = "") -> Study:
    """The probe of a folder. Its name has what was asked, since another question makes other runs.

    Raises UserError for minutes that make no sense.
    """
    if not MIN_MINUTES <= minutes <= MAX_MINUTES:
        raise UserError(f"minutes: {minutes:g} is not between {MIN_MINUTES:g} and {MAX_MINUTES:g}")
    study = load_study(FILE, budget, task=f"folder:{path}")
    asked = {name: value for name, value in (("turns", turns), ("mirror", mirror)) if value}
    name = "-".join([study.name, f"{minutes:g}min", *itertools.chain(*asked.items())])
    return replace(
        study,
        name=name.replace(".", "-"),
        file=str(Path("experiments/studies", FILE.name)),
        asked={"minutes": minutes, **asked},
    )


def with_margin(study: Study, commonest: float) -> Study:
    """The study with a smaller margin where there is less to be gained: a fifth of it, at most.

    commonest: share of the training images that are of the commonest class, of which always naming it is right.
    """
    margin = round(min(study.claims.margin, (1 - commonest) / 5), 4)
    return replace(study, claims=replace(study.claims, margin=max(margin, 0.0001)))


def trying(study: Study, tried: Sequence[Augmentation]) -> Study:
    """A study of one run for each augmentation, judged on validation images; it has no final runs."""
    (model, *_) = (entry.variant for entry in study.variants)
    variants = tuple(StudyVariant(name, name) for name in (f"{model}+{each.policy}" for each in tried))
    search = replace(study.search, trials=1, wave_size=1)
    return replace(
        study,
        name=f"{study.name}-tried",
        variants=variants,
        search=search,
        claims=Claims(),
        final_seeds=0,
        ladder=Ladder(),
    )


def compared(study: Study, policy: str) -> Study:
    """The probe's study with this policy, or several, in place of its file's."""

    def named(variant: str) -> str:
        return f"{bare(variant)}+{policy}" if "+" in variant else variant

    variants = tuple(StudyVariant(named(entry.variant), named(entry.baseline)) for entry in study.variants)
    family = tuple(
        replace(claim, variant=named(claim.variant), baseline=named(claim.baseline)) for claim in study.claims.family
    )
    return replace(study, variants=variants, claims=replace(study.claims, family=family))
