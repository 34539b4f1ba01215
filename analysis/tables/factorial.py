"""Transformers by augmentation policies: what each gains alone, what both gain, and whether that adds up."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from analysis.chance import chance
from analysis.findings import Findings
from analysis.formats import ABSENT, Cell, Section, Table, Value, text_table
from analysis.means import Mean, mean_cell, mean_of
from analysis.names import variant_parts
from analysis.records import Arm
from analysis.ripeness import is_ripe
from analysis.scores import FinalScores, final_scores
from analysis.statistics import CONFIDENCE, Floats, interaction, mean_interval, paired_difference
from analysis.tables import table
from analysis.tables.ranking import arms_by_pose, pose_heading

_HEADINGS = ("Model × policy", "Beside", "Model alone", "Policy alone", "Both", "Interaction", "n", "Reading")


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


@table("factorial")
def factorial(findings: Findings) -> Table | None:
    """Two sections a pose, accuracies and interactions; None where no model is crossed with a policy."""
    study = findings.study
    scores = final_scores(study)
    test_AS = scores.array("test_accuracy")
    sections, rows = [], []
    for pose, places in arms_by_pose(study.arms).items():
        found = list(crossings(study.arms, places))
        if not found:
            continue
        of_pose = pose_heading(pose, study.arms)
        sections.append(_accuracies(f"{of_pose}: accuracy" if of_pose else "Accuracy", found, test_AS, scores))
        cells, keys = [], []
        for crossing in found:
            effects = _effects(crossing, test_AS)
            arms = [
                findings.trained[i]
                for i in (crossing.both, crossing.only_policy, crossing.only_model, crossing.neither)
            ]
            reading = _reading(effects[-1], ripe=is_ripe(arms, effects[-1].value, chance(study), study.claims.margin))
            names = Cell(f"{crossing.model} × {crossing.policy}"), Cell(crossing.reference)
            num = effects[-1].num
            cells.append((*names, *(mean_cell(e, signed=True) for e in effects), Cell(str(num), num), Cell(reading)))
            keys.append(tuple(key for i in crossing[3:] for key in scores.keys[i]))
            numbers: list[Value] = [number for effect in effects for number in effect]
            place = (study.name, pose, crossing.model, crossing.reference, crossing.policy)
            rows.append((*place, *numbers, reading, " ".join(keys[-1])))
        text = text_table(_HEADINGS, "llrrrrrl", cells)
        sections.append(Section(f"{of_pose}: interaction" if of_pose else "Interaction", text, tuple(keys)))
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
        "interactions.",
    )
    ends = ("", "_half_width", "_num_pairs")
    effects_names = ("model_alone", "policy_alone", "both", "interaction")
    columns: tuple[str, ...] = ("study", "pose", "model", "reference", "policy")
    columns += (*(f"{name}{end}" for name in effects_names for end in ends), "reading", "run_keys")
    title = f"Models by policies on {study.task_label}"
    return Table(study.name, "factorial", title, tuple(sections), notes, columns, tuple(rows))


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
            plain.setdefault(parts.backbone, arms[i].variant.partition("+")[0])
    for i in places:
        variant = arms[i].variant
        for model, policy in ((variant[:k], variant[k + 1 :]) for k, mark in enumerate(variant) if mark == "+"):
            if model not in index:
                continue
            network, plus, others = model.partition("+")
            backbone = variant_parts(model).backbone
            beside = arms[index[model]].baseline.partition("+")[0]
            if beside == network:
                beside = plain.get(backbone, network)
            reference = f"{beside}{plus}{others}"
            with_policy = f"{reference}+{policy}"
            if beside != network and reference in index and with_policy in index:
                yield Crossing(model, reference, policy, index[reference], index[model], index[with_policy], i)


def _effects(crossing: Crossing, test_AS: Floats) -> tuple[Mean, ...]:
    neither_S, model_S, policy_S, both_S = (test_AS[[i]] for i in crossing[3:])
    alone = (paired_difference(score_S, neither_S) for score_S in (model_S, policy_S, both_S))
    return tuple(mean_of(estimate, 0) for estimate in (*alone, interaction(both_S, policy_S, model_S, neither_S)))


def _reading(mean: Mean, *, ripe: bool) -> str:
    if mean.num < 2:
        return "not tested"
    if not ripe:
        return "trained too short"
    if not mean.excludes_zero:
        return "cannot tell"
    return "more than the sum" if mean.value > 0 else "less than the sum"


def _accuracies(heading: str, found: list[Crossing], test_AS: Floats, scores: FinalScores) -> Section:
    """A row a model, a column a policy."""
    policies = ["", *dict.fromkeys(crossing.policy for crossing in found)]
    place: dict[tuple[str, str], int] = {}
    for crossing in found:
        place[crossing.reference, ""] = crossing.neither
        place[crossing.reference, crossing.policy] = crossing.only_policy
        place[crossing.model, ""] = crossing.only_model
        place[crossing.model, crossing.policy] = crossing.both
    models = list(dict.fromkeys(model for model, _ in place))
    estimate = mean_interval(test_AS)
    cells, keys, strong = [], [], set()
    for model in models:
        own = [place.get((model, policy)) for policy in policies]
        cells.append((Cell(model), *(Cell(ABSENT) if i is None else mean_cell(mean_of(estimate, i)) for i in own)))
        keys.append(tuple(key for i in own if i is not None for key in scores.keys[i]))
    best = [np.nan if scores.study.arms[i].sees_pose else estimate.mean_X[i] for i in place.values()]
    if not np.isnan(best).all():
        top = list(place)[int(np.nanargmax(best))]
        strong = {(models.index(top[0]), 1 + policies.index(top[1]))}
    headings = ("Model", "no other policy" if any("+" in model for model in models) else "no policy", *policies[1:])
    return Section(heading, text_table(headings, "l" + "r" * len(policies), cells, frozenset(strong)), tuple(keys))
