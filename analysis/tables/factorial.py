"""Transformers by augmentation policies: what each gains alone, what both gain, and whether that adds up."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from analysis.claims import is_idle
from analysis.findings import Findings
from analysis.formats import Cell, Section, text_table
from analysis.means import Mean, mean_cell, mean_of
from analysis.records import Arm
from analysis.ripeness import is_ripe
from analysis.scores import FinalScores
from analysis.statistics import CONFIDENCE, mean_interval
from analysis.tables.building import table
from analysis.tables.columns import POSE, RUN_KEYS, Column, Draft, arms_by_pose, mean_column, pose_heading, section
from ledger.names import bare, variant_parts


class Crossing(NamedTuple):
    """Four arms at a pose, by their indices: a model and a reference, each with and without a policy.

    policy: or several, where model and reference may have others already.
    """

    model: str
    reference: str
    policy: str
    neither: int
    only_model: int
    only_policy: int
    both: int


class Interaction(NamedTuple):
    """What a crossing gives. effects: of the model, the policy, both, and what both give beyond the sum of the two."""

    pose: str
    crossing: Crossing
    effects: tuple[Mean, ...]
    reading: str
    keys: tuple[str, ...]


@table("factorial", "Models by policies")
def factorial(findings: Findings) -> Draft[Interaction] | None:
    """Two sections a pose, accuracies and interactions; None where no model is crossed with a policy."""
    study, scores = findings.study, findings.scores
    sections, rows = [], []
    effects = ("Model alone", "Policy alone", "Both", "Interaction")
    columns: list[Column[Interaction]] = [
        POSE,
        Column("Model × policy", "", "l", lambda row: f"{row.crossing.model} × {row.crossing.policy}"),
        Column("Beside", "", "l", lambda row: row.crossing.reference),
        Column("", "model reference policy", value=lambda row: row.crossing[:3]),
        *(_effect_column(number, heading) for number, heading in enumerate(effects)),
        Column("n", cell=lambda row: row.effects[-1].num),
        Column("Reading", "reading", "l", lambda row: row.reading),
        RUN_KEYS,
    ]
    for pose, places in arms_by_pose(study.arms).items():
        found = list(crossings(study.arms, places))
        if not found:
            continue
        of_pose = [_interaction(findings, pose, crossing) for crossing in found]
        sections.append(_accuracies(pose_heading(pose, study.arms, "accuracy"), found, scores))
        sections.append(section(pose_heading(pose, study.arms, "interaction"), columns, of_pose))
        rows += of_pose
    if not rows:
        return None
    notes = (
        "Accuracy: mean test accuracy in per cent over the completed final runs, ± the half width of its "
        f"{100 * CONFIDENCE:g} % Student-t interval, of every model by every policy that is crossed with it.",
        "Model alone, policy alone, both: differences in percentage points to the reference model without the policy, "
        "paired by seed.",
        "Interaction: what the model gains with the policy minus what it gains without, over the n seeds that all four "
        f"arms completed, ± the half width of its {100 * CONFIDENCE:g} % Student-t interval. Below zero: the two do "
        "partly the same work. Reading: by whether the interval excludes zero; it is not corrected for the number of "
        "interactions. Untested: the transformer was idle in every run, with the policy and without.",
    )
    return Draft(sections, notes, columns, rows)


def _effect_column(number: int, heading: str) -> Column[Interaction]:
    return mean_column(heading, heading.lower().replace(" ", "_"), lambda row: row.effects[number], signed=True)


def _interaction(findings: Findings, pose: str, crossing: Crossing) -> Interaction:
    scores = findings.scores
    neither_S, model_S, policy_S, both_S = (scores.test_AS[i] for i in crossing[3:])
    beyond_S = (both_S - policy_S) - (model_S - neither_S)
    estimate = mean_interval((model_S - neither_S, policy_S - neither_S, both_S - neither_S, beyond_S))
    effects = tuple(mean_of(estimate, i) for i in range(4))
    arms = crossing.both, crossing.only_policy, crossing.only_model, crossing.neither
    ripe = is_ripe(findings.study, [findings.trained[i] for i in arms], effects[-1].value)
    keys = tuple(key for i in crossing[3:] for key in scores.keys[i])
    stn = [findings.study.arms[i].variant for i in (crossing.only_model, crossing.both)]
    reading = "untested" if is_idle(findings.study, pose, stn) else _reading(effects[-1], ripe=ripe)
    return Interaction(pose, crossing, effects, reading, keys)


def crossings(arms: Sequence[Arm], places: Sequence[int]) -> Iterator[Crossing]:
    """Every model and policy at a pose for which all four arms are in the study, in its order.

    Of several policies, the last ones are crossed with a model that has the others already. The reference is the model
    of the baseline that the model has without the policy, on its own backbone, with the policies that the model has;
    the plain network where that is the model itself. places: indices of the arms at the pose.
    """
    index = {arms[i].variant: i for i in places}
    plain: dict[str, str] = {}
    for i in places:
        parts = variant_parts(arms[i].variant)
        if arms[i].role == "plain" and ":" not in parts.model:
            plain.setdefault(parts.backbone, bare(arms[i].variant))
    for i in places:
        variant = arms[i].variant
        for model, policy in ((variant[:k], variant[k + 1 :]) for k, mark in enumerate(variant) if mark == "+"):
            if model not in index:
                continue
            network, beside = bare(model), bare(arms[index[model]].baseline)
            if beside == network:
                beside = plain.get(variant_parts(model).backbone, network)
            reference = model.replace(network, beside, 1)
            with_policy = f"{reference}+{policy}"
            if beside != network and reference in index and with_policy in index:
                yield Crossing(model, reference, policy, index[reference], index[model], index[with_policy], i)


def _reading(mean: Mean, *, ripe: bool) -> str:
    if mean.num < 2:
        return "not tested"
    if not ripe:
        return "trained too short"
    if not mean.excludes_zero:
        return "cannot tell"
    return "more than the sum" if mean.value > 0 else "less than the sum"


def _accuracies(heading: str, found: list[Crossing], scores: FinalScores) -> Section:
    """A row a model, a column a policy."""
    policies = ["", *dict.fromkeys(crossing.policy for crossing in found)]
    place: dict[tuple[str, str], int] = {}
    for crossing in found:
        place[crossing.reference, ""] = crossing.neither
        place[crossing.reference, crossing.policy] = crossing.only_policy
        place[crossing.model, ""] = crossing.only_model
        place[crossing.model, crossing.policy] = crossing.both
    models = list(dict.fromkeys(model for model, _ in place))
    estimate = mean_interval(scores.test_AS)
    ranked = [i for i in place.values() if estimate.num_X[i] and not scores.study.arms[i].sees_pose]
    best = max(ranked, key=lambda i: float(estimate.mean_X[i]), default=None)

    def cell(i: int | None) -> Cell | None:
        return None if i is None else mean_cell(mean_of(estimate, i))._replace(strong=i == best)

    own = [[place.get((model, policy)) for policy in policies] for model in models]
    cells = ((model, *map(cell, arms)) for model, arms in zip(models, own, strict=True))
    headings = ("Model", "no other policy" if any("+" in model for model in models) else "no policy", *policies[1:])
    keys = tuple(tuple(key for i in arms if i is not None for key in scores.keys[i]) for arms in own)
    return Section(heading, text_table(headings, "l" + "r" * len(policies), cells), keys)
