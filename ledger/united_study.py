"""Two manifests of one study as one: each may have variants, final seeds or progress that the other lacks."""

from collections.abc import Mapping, Sequence
from typing import Any

from ledger.config import canonical
from ledger.listed import keys_of

Manifest = Mapping[str, Any]
OF_STUDY = (
    *("format", "budget", "protocol_hash", "protocol", "test_pose", "num_trials", "sampler", "tuning", "rungs"),
    *("tuned_at",),
)
OF_TASK = ("content_hash", "classes")
OF_CLAIMS = ("alpha", "margin", "declared")
OF_ARM = ("baseline", "space")
"""What two manifests of one study have alike, or neither has."""


class Misfit(Exception):
    """Why two manifests are not of one study, in words that follow the name of the second."""


def united(mine: Manifest, theirs: Manifest) -> dict[str, Any]:
    """The study with the arms, the final seeds and the claims of both; mine come first.

    Raises Misfit where they contradict each other, or where some arms would lack seeds that others have.
    """
    _agree("", OF_STUDY, mine, theirs)
    _agree("task ", OF_TASK, mine["task"], theirs["task"])
    seeds, more = _seeds(mine), _seeds(theirs)
    arms, others = ({(arm["pose"], arm["variant"]): arm for arm in each["arms"]} for each in (mine, theirs))
    first, end = min(seeds.start, more.start), max(seeds.stop, more.stop)
    if seeds == more:
        both = {name: _further(arms[name], others[name]) for name in arms if name in others}
    elif arms.keys() != others.keys():
        raise Misfit("has other variants and other final seeds: some variants would lack seeds that others have")
    elif max(seeds.start, more.start) > min(seeds.stop, more.stop):
        raise Misfit(f"has final seeds {_span(more)}, and here are {_span(seeds)}: those between them are missing")
    else:
        per_seed = mine.get("tuning") == "per_seed"
        both = {name: _of_all_seeds(arms[name], others[name], seeds, more, per_seed) for name in arms}
    whole = {**mine, "arms": list({**arms, **others, **both}.values()), "num_finals": end - first}
    if "first_seed" in mine:
        whole["first_seed"] = first
    whole |= {name: {**theirs.get(name, {}), **mine[name]} for name in ("found", "spaces") if name in mine}
    if mine.get("claims"):
        whole["claims"] = _claims(mine["claims"], theirs.get("claims") or {})
    if mine.get("source"):
        of_theirs = theirs.get("source") or {}
        grouped = {"group": group} if (group := mine["source"].get("group") or of_theirs.get("group")) else {}
        whole["source"] = _alike(mine["source"], of_theirs) | grouped  # one task: where both say it, they mean the same
    if factor := _factor(mine.get("factor") or {}, theirs.get("factor") or {}):
        whole["factor"] = factor
    if mine.get("first"):
        changed = [each["first"] for each in (mine, theirs) if not _is_as_planned(each)]
        whole["first"] = changed[0] if changed else {name: whole.get(name) for name in mine["first"]}
    return whole


def _agree(what: str, names: Sequence[str], mine: Manifest, theirs: Manifest) -> None:
    for name in names:
        if mine.get(name) != theirs.get(name):
            there, here = (f"{each.get(name)!r:.80}" for each in (theirs, mine))
            raise Misfit(f"is another study of the same name: its {what}{name} is {there}, and here {here}")


def _seeds(manifest: Manifest) -> range:
    first = manifest.get("first_seed", 1)
    return range(first, first + manifest["num_finals"])


def _span(seeds: range) -> str:
    return f"{seeds[0]} to {seeds[-1]}" if seeds else "none"


def _further(mine: Manifest, theirs: Manifest) -> Manifest:
    """The arm that has come further."""
    _agree(f"{mine['variant']}'s ", OF_ARM, mine, theirs)
    if {*keys_of(theirs)} <= {*keys_of(mine)}:
        return mine
    if {*keys_of(mine)} <= {*keys_of(theirs)}:
        return theirs
    raise Misfit(f"lists runs of {mine['variant']} that the study here has not, and lacks others that it has")


def _of_all_seeds(mine: Manifest, theirs: Manifest, seeds: range, more: range, per_seed: bool) -> Manifest:
    """The arm with the final runs of both, in the order of the seeds. per_seed: it is tuned for each of them."""
    variant = mine["variant"]
    _agree(f"{variant}'s ", OF_ARM if per_seed else (*OF_ARM, "trials", "winner", "winners"), mine, theirs)
    if any(seeds and not arm["finals"] for arm, seeds in ((mine, seeds), (theirs, more))):
        raise Misfit(f"has other final seeds, and the tuning of {variant} is not done in both: finish it first")

    def joined(ours: list[str], others: list[str]) -> list[str]:
        runs: dict[int, list[str]] = {}
        for of, keys in ((seeds, ours), (more, others)):
            for i, seed in enumerate(of):
                part = keys[i * len(keys) // len(of) : (i + 1) * len(keys) // len(of)]
                if runs.setdefault(seed, part) != part:
                    raise Misfit(f"has other runs of {variant} with seed {seed}")
        return [key for seed in sorted(runs) for key in runs[seed]]

    names = ("trials", "winners", "finals") if per_seed else ("finals",)
    arm = {**mine, **{name: joined(mine[name], theirs[name]) for name in names}}
    if "rungs" in mine:
        arm["rungs"] = [joined(*pair) for pair in zip(mine["rungs"], theirs["rungs"], strict=True)]
    return arm


def _claims(mine: Manifest, theirs: Manifest) -> dict[str, Any]:
    _agree("claims' ", OF_CLAIMS, mine, theirs)
    return {**mine, "family": mine["family"] + [claim for claim in theirs["family"] if claim not in mine["family"]]}


def _factor(mine: Manifest, theirs: Manifest) -> Manifest:
    """The values of both, with the study at each; mine come first."""
    if not mine or not theirs:
        return mine or theirs
    _agree("factor's ", ("key",), mine, theirs)
    names = {canonical(value): name for value, name in zip(mine["values"], mine["studies"], strict=True)}
    whole = {**mine, "values": [*mine["values"]], "studies": [*mine["studies"]]}
    for value, name in zip(theirs["values"], theirs["studies"], strict=True):
        if (known := names.get(canonical(value))) is None:
            whole["values"].append(value)
            whole["studies"].append(name)
        elif known != name:
            raise Misfit(f"has the study {name} at {mine['key']} = {value!r:.80}, and here that is {known}")
    return whole


def _alike(mine: Manifest, theirs: Manifest) -> dict[str, Any]:
    """What both say: where the two were asked for differently, neither command makes the whole."""
    alike = {name: value for name, value in mine.items() if theirs.get(name) == value}
    if "overrides" in mine and "overrides" in theirs:
        alike["overrides"] = _alike(mine["overrides"], theirs["overrides"])
    return alike


def _is_as_planned(manifest: Manifest) -> bool:
    return all(manifest.get(name) == value for name, value in (manifest.get("first") or {}).items())
