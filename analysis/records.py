"""Reads a study out of the ledger: one row a run, finished or not. docs/ledger.md describes the files."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.earlier_names import model_said, pose_said
from analysis.run_records import MACHINE, SCORES, TRANSFORMER_COLUMNS, Runs
from ledger.committed import get, read_manifest
from ledger.errors import UserError, nearest, remedy
from ledger.roles import CONTROLS, PLAIN, SEES_POSE, Role
from ledger.scores import COSTS
from ledger.study import Claim, Claims, Overlap


@dataclass(frozen=True)
class Arm:
    """One variant at one pose.

    role: of its model. words, pose_words: what the model and the pose are; "" if unknown. policy_words: the same of its
    policies, in order; empty if unknown.
    trials: keys, tuning by tuning, in the order they were proposed; finals: keys in the order of the seeds.
    winners: those of the trials that won, one of each tuning that had any: of the study's only one, or of each seed's.
    rungs: the same as finals, for each of the study's rungs.
    space: what was tuned, by dotted name, in W&B's parameter grammar; empty before format 3.
    """

    pose: str
    variant: str
    baseline: str
    role: Role
    words: str
    pose_words: str
    trials: tuple[str, ...]
    winners: tuple[str, ...]
    finals: tuple[str, ...]
    space: dict[str, Any] = field(default_factory=dict)
    rungs: tuple[tuple[str, ...], ...] = ()
    policy_words: tuple[str, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether it is the network as it is: without a transformer, without augmentation."""
        return self.role in PLAIN and "+" not in self.variant

    @property
    def is_control(self) -> bool:
        """Whether it is there to compare with, and never what to take."""
        return self.role in CONTROLS

    @property
    def sees_pose(self) -> bool:
        """Whether it is shown the true pose, in training or always, so that it takes no part in a ranking."""
        return self.role in SEES_POSE


@dataclass(frozen=True)
class Rung:
    """A size of training at which the study's final runs were made. runs: rows as those of Study.runs, of its own."""

    train_images: int
    epochs: int
    protocol_hash: str
    runs: pd.DataFrame


class Epoch(NamedTuple):
    """An epoch of a run. train_*: on images as the run was shown them, while it learned; val_*: None where nothing was
    held out."""

    epoch: int
    train_accuracy: float | None
    val_accuracy: float | None
    train_loss: float | None
    val_loss: float | None


@dataclass(frozen=True)
class ImagesRead:
    """What was read to make the task. facts: headings and texts; warnings: sentences on what may mislead.

    num_train, num_test: images of each class, in the order of the classes.
    """

    facts: tuple[tuple[str, str], ...]
    warnings: tuple[str, ...]
    num_train: tuple[int, ...]
    num_test: tuple[int, ...]


class Factor(NamedTuple):
    """What a study differs in from others: a key of the protocol, its values, and the name of the study at each."""

    key: str
    values: tuple[Any, ...]
    studies: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """A study and all runs that it lists.

    classes: of the task. images: what was read of them; None before format 4. overlap: of the task's two parts; None
    where it was not looked for, as in older studies.
    protocol: its values by name, as runs have it; empty if no run is in the ledger.
    sampler: how hyper-parameters were proposed, `tpe` or `random`; None before format 3.
    tuning: `once`, for all final runs; or `per_seed`, anew for each of them.
    rungs: smaller sizes of training, in rising order; tuned_at: the number of the one that trials were made at, from 1;
        None: they were made at the study's own size.
    test_pose, test_pose_words: what the test part was put under and what that is, where the others were not; else "".
    factor: what other studies differ in from this one; None where it stands alone.
    source: of the study: `file` and `data` (whether a folder of the user's own images took the task's place).
    is_as_planned: whether claims, seeds, training and search are those that the study began with.
    histories: by key, what epochs_of has read already.
    runs: one row a listed run, arm by arm, trials before finals. Columns: `arm` (index into arms), `pose`,
        `variant`, `stage`, `key`, `seed` (NaN if missing), `status` (that of run.json, or "missing"), `error`,
        every name in SCORES, COSTS, TRANSFORMER_COLUMNS and MACHINE, `transformer.verdict`, `versions`, `code` (text),
        `test_class_accuracy` (an array, in the order of classes), and one column a hyper-parameter (dotted): numbers,
        text or booleans; with a test pose that of UPRIGHT, too. What a run does not have is NaN or None.
    """

    ledger: Path
    name: str
    budget: str
    protocol_hash: str
    task_label: str
    task_hash: str
    classes: tuple[str, ...]
    images: ImagesRead | None
    overlap: Overlap | None
    arms: tuple[Arm, ...]
    claims: Claims
    protocol: dict[str, Any]
    sampler: str | None
    source: dict[str, Any]
    is_as_planned: bool
    tuning: str
    runs: pd.DataFrame
    rungs: tuple[Rung, ...] = ()
    tuned_at: int | None = None
    test_pose: str = ""
    test_pose_words: str = ""
    factor: Factor | None = None
    histories: dict[str, list[Epoch]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def epochs(self) -> int | None:
        """Epochs of the protocol; None if no run is in the ledger."""
        return self.protocol.get("epochs")

    @property
    def sizes(self) -> tuple[Rung, ...]:
        """Its rungs, and its own size as the last."""
        return (
            *self.rungs,
            Rung(self.protocol.get("train_images", 0), self.epochs or 0, self.protocol_hash, self.runs),
        )

    @cached_property
    def places(self) -> dict[tuple[str, str], int]:
        """Indices of the arms, by pose and variant."""
        return {(arm.pose, arm.variant): i for i, arm in enumerate(self.arms)}

    @cached_property
    def roles(self) -> dict[str, Role]:
        """By variant."""
        return {arm.variant: arm.role for arm in self.arms}

    @cached_property
    def pose_words(self) -> dict[str, str]:
        """By pose; "" for one of which nothing is known."""
        return {arm.pose: arm.pose_words for arm in self.arms}


def read_study(ledger: Path, study: str) -> Study:
    """The study of that name with its runs, costs included.

    Raises UserError (a ValueError of one line) for a ledger or study that is not there, a file that is not
    JSON, lacks a value, has a newer format or was edited since it was written, and runs of two protocols or tasks.
    """
    file = study_file(ledger, study)
    record = read_manifest(file)
    arms = tuple(_arms(file, record["arms"]))
    if not arms:
        raise UserError(f"{file}: 'arms' is empty: the study has no variant")
    top, task, rungs = record["protocol_hash"], record["task"], record.get("rungs") or []
    hashes = [get(file, rung, "protocol_hash", str) for rung in rungs]
    tuned_at, tested = record.get("tuned_at") or 0, record.get("test_pose")
    trials_hash = hashes[tuned_at - 1] if 0 < tuned_at <= len(hashes) else top
    read = Runs(file, ledger)
    rows: list[dict[str, Any]] = []
    rung_rows: list[list[dict[str, Any]]] = [[] for _ in hashes]
    for i, arm in enumerate(arms):
        place = {"arm": i, "pose": arm.pose, "variant": arm.variant}
        rows += read.rows(place, "trial", arm.trials, trials_hash)
        finals = read.rows(place, "final", arm.finals, top)
        _check_seeds(file, arm, finals)
        rows += finals
        for of_rung, keys, hashed in zip(rung_rows, arm.rungs, hashes, strict=False):
            of_rung += read.rows(place, "rung", keys, hashed)
    for hashed, found_hashes in read.protocols.items():
        _check_same(file, "protocol", hashed, found_hashes)
    _check_same(file, "task", task["content_hash"], read.tasks)
    classes = get(file, record, "task.classes", list)
    protocol = read.protocol_of.get(top, {})
    numbers = ["seed", *SCORES, *(score.name for score in COSTS), *TRANSFORMER_COLUMNS]
    texts = ["test_class_accuracy", "transformer.verdict", *MACHINE, "versions", "code"]
    fixed = ["arm", "pose", "variant", "stage", "key", "status", "error", *numbers, *texts]

    def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
        found = sorted({name for row in rows for name in row} - set(fixed))
        runs = pd.DataFrame.from_records(rows, columns=[*fixed, *found])
        return runs.astype(dict.fromkeys(numbers, "float64"))

    return Study(
        ledger=ledger,
        name=study,
        budget=record["budget"],
        protocol_hash=top,
        task_label=task["label"],
        task_hash=task["content_hash"],
        classes=tuple(classes),
        images=_images_read(file, record.get("images") or {}, len(classes)),
        overlap=_overlap(file, record.get("overlap") or {}),
        arms=arms,
        claims=_claims(file, record, arms),
        protocol=protocol,
        sampler=record.get("sampler"),
        source=record.get("source") or {},
        is_as_planned=all(record.get(name) == value for name, value in (record.get("first") or {}).items()),
        runs=frame(rows),
        tuning=record.get("tuning") or "once",
        rungs=tuple(
            Rung(get(file, rung, "train_images", int), get(file, rung, "epochs", int), hashed, frame(rows))
            for rung, hashed, rows in zip(rungs, hashes, rung_rows, strict=True)
        ),
        tuned_at=tuned_at or None,
        test_pose=get(file, tested, "name", str) if tested else "",
        test_pose_words=get(file, tested, "words", str) if tested else "",
        factor=_factor(file, record.get("factor") or {}, study),
    )


def study_file(ledger: Path, study: str) -> Path:
    folder, known = ledger / "studies", study_names(ledger)
    if study not in known:
        raise UserError(f"{folder}: unknown study {study!r}; {nearest(study, known)}")
    return folder / study / "study.json"


def study_names(ledger: Path) -> list[str]:
    """Of all studies of the ledger."""
    folder = ledger / "studies"
    if not ledger.is_dir():
        raise UserError(f"{ledger}: there is no ledger here")
    try:
        return [path.parent.name for path in folder.glob("*/study.json")]
    except OSError as error:
        raise UserError(f"{folder}: cannot be read: {error.strerror}{remedy(error)}") from error


def _arms(file: Path, records: list[Any]) -> Iterator[Arm]:
    known: dict[str, list[str]] = {}
    for record in records:
        known.setdefault(record["pose"], []).append(record["variant"])
    for pose, variants in known.items():
        if len(set(variants)) < len(variants):
            twice = next(name for name in variants if variants.count(name) > 1)
            raise UserError(f"{file}: arm {twice!r} at pose {pose!r} is listed twice")
    names = {pose: set(variants) for pose, variants in known.items()}
    for record in records:
        pose, variant = record["pose"], record["variant"]
        baseline = get(file, record, "baseline", str)
        if baseline not in names[pose]:
            hint = nearest(baseline, names[pose])
            raise UserError(f"{file}: baseline {baseline!r} of {variant!r} is not an arm of pose {pose!r}; {hint}")
        trials, finals = (tuple(record[stage]) for stage in ("trials", "finals"))
        winners = record["winners"] if "winners" in record else [record.get("winner")]
        for winner in winners:
            if winner is not None and winner not in trials:
                raise UserError(f"{file}: winner {winner!r} of {variant!r} is none of its trials")
        won = tuple(winner for winner in winners if winner is not None)
        rungs = tuple(map(tuple, record.get("rungs", ())))
        role, words = model_said(variant)
        said = (record.get("role", role), record.get("words", words), record.get("pose_words", pose_said(pose)))
        policies = tuple(record.get("policy_words", ()))
        yield Arm(pose, variant, baseline, *said, trials, won, finals, record.get("space") or {}, rungs, policies)


def _images_read(file: Path, found: dict[str, Any], num_classes: int) -> ImagesRead | None:
    if not found:
        return None
    facts, warnings, train, test = (get(file, found, name, list) for name in ("facts", "warnings", "train", "test"))
    if any(len(fact) != 2 for fact in facts):
        raise UserError(f"{file}: 'images.facts' holds what is not a heading and a text")
    if not len(train) == len(test) == num_classes:
        raise UserError(f"{file}: 'images' counts {len(train)} and {len(test)} classes, and there are {num_classes}")
    return ImagesRead(tuple((heading, text) for heading, text in facts), tuple(warnings), tuple(train), tuple(test))


def _factor(file: Path, found: dict[str, Any], study: str) -> Factor | None:
    if not found:
        return None
    values, studies = tuple(found["values"]), tuple(found["studies"])
    if len(values) != len(studies) or len(values) < 2 or study not in studies:
        raise UserError(f"{file}: 'factor' does not name a study for each value, this one among them")
    return Factor(get(file, found, "key", str), values, studies)


def _overlap(file: Path, found: dict[str, Any]) -> Overlap | None:
    names = ("num_test", "num_other_label")
    return Overlap(*(get(file, found, name, int) for name in names)) if found else None


def _claims(file: Path, record: dict[str, Any], arms: tuple[Arm, ...]) -> Claims:
    """The claims that the study declares; before format 3, each variant against its baseline."""
    found = record.get("claims") or {}
    if not found:
        family = tuple(Claim(arm.pose, arm.variant, arm.baseline) for arm in arms if arm.variant != arm.baseline)
        return Claims(family=family)
    names = {(arm.pose, arm.variant) for arm in arms}
    family = ()
    for entry in get(file, found, "family", list):
        claim = Claim(*(get(file, entry, name, str) for name in ("pose", "variant", "baseline")))
        for variant in (claim.variant, claim.baseline):
            if (claim.pose, variant) not in names:
                raise UserError(f"{file}: a claim is about {variant!r}, which is not an arm of pose {claim.pose!r}")
        family += (replace(claim, interaction=get(file, entry, "interaction", bool)),)
    alpha, margin = (float(get(file, found, name, (int, float))) for name in ("alpha", "margin"))
    return Claims(alpha, margin, declared=get(file, found, "declared", bool), family=family)


def _check_seeds(file: Path, arm: Arm, finals: list[dict[str, Any]]) -> None:
    key_of_seed: dict[int, str] = {}
    for row in finals:
        if (seed := row.get("seed")) in key_of_seed:
            both = f"{key_of_seed[seed]} and {row['key']}"
            raise UserError(f"{file}: final runs {both} of {arm.variant!r} have the same seed {seed}")
        if seed is not None:
            key_of_seed[seed] = row["key"]


def _check_same(file: Path, what: str, expected: str, key_of_hash: dict[str, str]) -> None:
    if len(key_of_hash) > 1:
        (one, key), (other, other_key), *_ = key_of_hash.items()
        raise UserError(f"{file}: two {what}s do not mix in one table: {one} (run {key}) and {other} (run {other_key})")
    for found, key in key_of_hash.items():
        if found != expected:
            raise UserError(f"{file}: its {what} is {expected}, but that of run {key} is {found}")
