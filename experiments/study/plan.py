"""What a study will do on this machine, worked out and checked before anything trains."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from experiments.images.poses import parse_pose, spell_pose
from experiments.images.tasks import Say, Task, load_task
from experiments.images.tasks.downloads import DownloadError
from experiments.images.tasks.overlap import find_overlap, overlap_text
from experiments.machine.device import Call, find_device, here, resolve
from experiments.networks.variants import parse_variant
from experiments.runs.images import fit_to_task
from experiments.runs.run import Source
from experiments.study.arms import ArmPlan, check_arms, check_networks, posed_in_vain
from experiments.study.ladder import rung_protocols
from experiments.study.settled import num_finished, settled_protocol
from experiments.study.study import Study
from experiments.study.tuning import num_runs
from ledger.config import Optim, Protocol, Stage, protocol_hash
from ledger.errors import UserError
from ledger.ledger import Ledger
from ledger.study import Claim, Claims, Overlap

MAX_ADAMW_LR = 0.01
"""Above it AdamW is no good for any network here."""
MIN_VAL_IMAGES = 50
"""Of a final seed that is tuned by itself: fewer do not tell one setting from another."""


class Kind(NamedTuple):
    """Runs of an arm that take equally long: their stage, what they are made under, and how many there are."""

    stage: Stage
    protocol: Protocol
    number: int


@dataclass(frozen=True)
class Plan:
    """A study with the task, the protocol and the arms that it really has on this machine.

    rungs: smaller sizes of training, in rising order.
    overlap: of the task's two parts; None if not looked for. settled: the protocol that the ledger's study of that
    name has. notes: what keeps the study from being what it may be held for, in sentences.
    """

    name: str
    study: Study
    task: Task
    source: Source
    protocol: Protocol
    arms: tuple[ArmPlan, ...]
    rungs: tuple[Protocol, ...] = ()
    overlap: Overlap | None = None
    settled: Protocol | None = None
    notes: tuple[str, ...] = ()

    @property
    def trials_an_arm(self) -> int:
        """Runs to tune an arm, the repeats of its best settings among them."""
        search = self.study.search
        if search.tuning == "per_seed":
            return search.trials * self.study.final_seeds
        return num_runs(search.trials, repeats=True)

    @property
    def num_trials(self) -> int:
        return len(self.arms) * self.trials_an_arm

    @property
    def num_finals(self) -> int:
        """At the study's own size."""
        return len(self.arms) * self.study.final_seeds

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of an arm's runs: trials, then final runs at the study's own size and at each smaller one."""
        num_seeds = self.study.final_seeds
        rungs = (Kind("rung", protocol, num_seeds) for protocol in self.rungs)
        tuning = Kind("trial", self.tuning_protocol, self.trials_an_arm)
        return (tuning, Kind("final", self.protocol, num_seeds), *rungs)

    @property
    def num_runs(self) -> int:
        return len(self.arms) * sum(kind.number for kind in self.kinds)

    @property
    def tuning_protocol(self) -> Protocol:
        """What trials are made under."""
        tuned_at = self.study.ladder.tuned_at
        return self.protocol if tuned_at is None else self.rungs[tuned_at - 1]

    @property
    def protocol_hash(self) -> str:
        return protocol_hash(self.protocol)

    @property
    def missing_device(self) -> str:
        """The kind of device that the study was begun on, where the machine has none of it; else ""."""
        if self.settled is None or self.study.protocol.device != "auto" or self.settled.device == self.protocol.device:
            return ""
        return self.settled.device

    @property
    def claims(self) -> Claims:
        """The study's, in the one spelling of poses and variants that the arms have."""
        poses = {pose: spell_pose(pose) for pose in self.study.poses}
        names = {variant: str(parse_variant(variant)) for variant in self.study.variants}
        family = tuple(
            Claim(poses[claim.pose], names[claim.variant], names[claim.baseline], claim.interaction)
            for claim in self.study.claims.family
        )
        return replace(self.study.claims, family=family)


@dataclass(frozen=True)
class Loaded:
    """A study's task. wanted: the label of the images that could not be had, where others took their place."""

    task: Task
    source: Source
    wanted: str = ""


def load(study: Study, *, label: str, cache: Path, say: Say, call: Call = here) -> Loaded:
    """The study's task. Arguments as of make_plan.

    Where its images cannot be downloaded, `sprites` takes their place, and `say` hears of it.
    Raises UserError for images that cannot be had, and, before it looks for them, for what is wrong with the study.
    """
    check_arms(study)
    call(find_device, study.protocol.device)
    image_px, fit = study.protocol.image_px, study.protocol.fit

    def load_as(spec: str, label: str, wanted: str) -> Loaded:
        group = study.group if spec == study.task else ""
        task = load_task(spec, image_px=image_px, fit=fit, cache=cache, say=say, label=label, group=group)
        source = Source(task=spec, label=label, image_px=image_px, cache=cache, fit=fit, group=group)
        return Loaded(task, source, wanted)

    try:
        return load_as(study.task, label, wanted="")
    except DownloadError as error:
        say(f"{error}")
        instead = "so this study runs on the built-in task `sprites` instead, and says so."
        say(f"{error.label} cannot be had here, {instead}")
        return load_as("sprites", "", wanted=label or error.label)


def make_plan(
    study: Study,
    *,
    label: str,
    cache: Path,
    say: Say,
    call: Call = here,
    ledger: Ledger | None = None,
    loaded: Loaded | None = None,
) -> Plan:
    """Load the task, fit and resolve the protocol, and check every arm.

    label: what to call the task; empty for its own name. call: calls a function on a machine that is to train.
    ledger: where the study may have been begun; what it has settled there is not found anew. loaded: the study's task.
    `say` hears of what `load` tells, and of test images that are training images too.
    Raises UserError for what cannot go together.
    """
    wanted = study.protocol.image_px, study.protocol.fit
    if loaded is None or (loaded.source.image_px, loaded.source.fit) != wanted:
        loaded = load(study, label=label, cache=cache, say=say, call=call)
    arms, device = check_arms(study), call(find_device, study.protocol.device)
    task, name = loaded.task, study.full_name(loaded.task.label)
    settled = settled_protocol(ledger, name, task.content_hash) if ledger else None
    overlap = find_overlap(task)
    protocol, shrunk = fit_to_task(resolve(study.protocol, cache, call, settled), task)
    for line in filter(None, (overlap_text(task, overlap), shrunk)):
        say(line)
    notes = [left_for_others(ledger, study, loaded) if ledger else "", posed_in_vain(arms), bars_tell_poses(task, arms)]
    notes.append(rates_too_high(study))
    if settled and study.protocol.device == "auto" and protocol.device != device:
        notes.append(f"This study was begun on {protocol.device} and goes on there, although there is {device} here.")
    if study.search.tuning == "per_seed" and protocol.val_images < MIN_VAL_IMAGES:
        raise UserError(
            f"{study.file}: tuning: per_seed needs {MIN_VAL_IMAGES} validation images or more, and there are "
            f"{protocol.val_images}; write tuning: once, or give more images"
        )
    plan = Plan(
        name=name,
        study=study,
        task=task,
        source=loaded.source,
        protocol=protocol,
        arms=arms,
        rungs=rung_protocols(study.ladder, study.file, study.protocol, protocol),
        overlap=overlap,
        settled=settled,
        notes=tuple(filter(None, notes)),
    )
    for arm in arms:
        check_networks(study, arm, protocol, task)
    return plan


def bars_tell_poses(task: Task, arms: Sequence[ArmPlan]) -> str:
    """That poses can be read off the bars of padded pictures, where there are both; else ""."""
    poses = dict.fromkeys(pose for arm in arms for pose in (arm.pose, arm.test_pose) if pose)
    moved = [pose for pose in poses if parse_pose(pose).num_draws]
    if not moved or "Padding" not in dict(task.reading.facts):
        return ""
    return (
        f"protocol.fit: pad gives pictures black bars, which move with the pose ({', '.join(moved)}):"
        " a network can tell the pose by them, as it could not by square pictures."
    )


def rates_too_high(study: Study) -> str:
    """That all learning rates of the study are far above those that AdamW takes; else ""."""
    rates = [float(low) for each in study.search.space if each.name == "optim.lr" for low in each.choices or [each.low]]
    lowest = min(rates, default=Optim.lr)
    if study.protocol.optimiser != "adamw" or lowest <= MAX_ADAMW_LR:
        return ""
    return (
        f"protocol.optimiser: adamw takes learning rates around 0.001, and those of this study begin at {lowest:g}:"
        " say so in search.space, for example optim.lr: {distribution: log_uniform_values, min: 1e-4, max: 1e-2}"
    )


def left_for_others(ledger: Ledger, study: Study, loaded: Loaded) -> str:
    """That the study has runs here on the images it was to have, or on those that had taken their place; else ""."""
    this = study.full_name(loaded.task.label)
    if loaded.wanted:
        name, what = study.full_name(loaded.wanted), f"of {loaded.wanted} itself"
    elif loaded.task.name not in ("sprites", "folder") and this not in ledger.studies():
        name, what = study.full_name("sprites"), "of `sprites`; `task: sprites` goes on with them"
    else:
        return ""
    num = num_finished(ledger, name)
    runs = f"{num:,} finished run{'s are' if num != 1 else ' is'}"
    return f"{this} is another study than {name}, whose {runs} {what}." if num else ""
