"""Whose ledgers count, and which of their variants can be compared: those on one task, by one protocol."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from analysis.ablation import Row
from analysis.findings import Findings, find
from analysis.formats import one_line
from analysis.lost_runs import unfinished
from analysis.records import Arm
from ledger.archive import SUFFIX, opened
from ledger.audit import audit, in_short
from ledger.errors import UserError
from ledger.ledger import Ledger

OTHER_ARCHIVES = tuple(end for _, ends, _ in shutil.get_unpack_formats() for end in ends)
"""How names end of what people may take for an archive of a ledger."""


class Ground(NamedTuple):
    """What entries have to share: all that is the same for every variant, the images, and how they were disturbed."""

    protocol_hash: str
    task_hash: str
    pose: str
    test_pose: str


class LeftOut(NamedTuple):
    """Somebody's ledger, or only a study in it, and why it is not on the board."""

    who: str
    why: str
    study: str = ""


@dataclass(frozen=True)
class Entry:
    """A variant of a study.

    who: whose it is, more than one where they have the same runs with the same results. study: its name, where
    somebody has several of the kind; else "".
    """

    who: tuple[str, ...]
    study: str
    findings: Findings
    arm: Arm

    @property
    def row(self) -> Row:
        return self.findings.row(self.arm.pose, self.arm.variant)

    @property
    def place(self) -> int:
        """Index of the arm in its study."""
        return self.findings.study.places[self.arm.pose, self.arm.variant]

    @property
    def score_of_run(self) -> dict[str, float]:
        """Test accuracies of its completed runs, by key."""
        finals = self.findings.scores.finals
        own = finals[finals["arm"] == self.place]
        return dict(zip(own["key"], own["test_accuracy"], strict=True))

    @property
    def seeds(self) -> frozenset[int]:
        """Of all final runs that were planned, however they ended."""
        runs = self.findings.study.runs
        return frozenset(map(int, runs["seed"][(runs["stage"] == "final") & (runs["arm"] == self.place)].dropna()))


@dataclass
class Gathered:
    """ledgers: by whose they are. refused: those that cannot be read or trusted. left_out: what else does not
    count. shared: what at least two people have, with their entries."""

    ledgers: dict[str, Path] = field(default_factory=dict)
    refused: list[LeftOut] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    shared: dict[Ground, list[Entry]] = field(default_factory=dict)


def gather(folder: Path, stack: ExitStack, scratch: Path) -> Gathered:
    """The ledgers in the folder, each checked as `merge` does it, and what they share.

    stack: keeps them as they are until it is closed. scratch: a folder to unpack archives into. Raises UserError where
    no ledger is left, and where no two people share anything.
    """
    gathered = Gathered()
    for number, (who, source) in enumerate(_sources(folder, gathered)):
        try:
            source = _ledger_in(source)
            root = stack.enter_context(opened(source, scratch / str(number)))
            if not (root / "runs").is_dir():
                raise UserError("is not a ledger: it has no folder `runs`")
            if wrong := audit(root).wrong_results:
                raise UserError(in_short(wrong))
        except UserError as error:
            gathered.refused.append(LeftOut(who, str(error).replace(str(source), source.name)))  # the page may travel
        except PermissionError as error:
            gathered.refused.append(LeftOut(who, f"cannot be read: {error.strerror}"))
        else:
            gathered.ledgers[who] = root
    if not gathered.ledgers:
        first = "".join(f": {each.who}: {each.why}" for each in (*gathered.refused, *gathered.left_out)[:1])
        raise UserError(f"path: {folder} holds no ledger, nor an archive of one, that is as it was written{first}")
    _compare(gathered, folder)
    return gathered


def _sources(folder: Path, gathered: Gathered) -> Iterator[tuple[str, Path]]:
    """Ledgers and archives in the folder, with the names of whose they are; what cannot be one is told of."""
    if not folder.is_dir():
        raise UserError(f"path: there is no folder {folder}")
    entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    folders = {path.name for path in entries if path.is_dir()}
    for path in entries:
        if path.is_dir():
            yield path.name, path
        elif path.is_symlink() and not path.exists():
            gathered.left_out.append(LeftOut(path.name, "it is a link to something that is not there"))
        elif path.name.endswith(SUFFIX) and (name := path.name.removesuffix(SUFFIX)) in folders:
            gathered.refused.append(LeftOut(path.name, f"{name} is there twice; keep one"))
        elif path.name.endswith(SUFFIX):
            yield name, path
        elif path.name.lower().endswith(OTHER_ARCHIVES):
            gathered.left_out.append(LeftOut(path.name, f"an archive of a ledger is called NAME{SUFFIX}"))


def _ledger_in(source: Path) -> Path:
    """Where the ledger is: the source, or a folder `runs` in it."""
    return source / "runs" if (source / "runs" / "runs").is_dir() else source


def _compare(gathered: Gathered, folder: Path) -> None:
    """Finds what is shared. Only studies that may be on the board are read whole."""
    grounds: dict[Ground, dict[str, list[str]]] = {}
    have: dict[str, list[str]] = {who: [] for who in gathered.ledgers}
    for who, root in gathered.ledgers.items():
        ledger = Ledger(root, read_only=True)
        for name in sorted(ledger.studies()):
            try:
                study = ledger.read_study(name)
            except UserError as error:
                _refuse(gathered, who, name, error)
                continue
            tested = (study.get("test_pose") or {}).get("name", "")
            have[who].append(f"{one_line(study['task']['label'])} by {study['protocol_hash']}")
            for pose in dict.fromkeys(arm["pose"] for arm in study["arms"]):
                ground = Ground(study["protocol_hash"], study["task"]["content_hash"], pose, tested)
                grounds.setdefault(ground, {}).setdefault(who, []).append(name)
    read: dict[tuple[str, str], Findings | None] = {}
    for ground, people in grounds.items():
        if len(people) > 1:
            _add(gathered, ground, people, read)
    if not gathered.shared:
        told = [f"{who}: {', '.join(dict.fromkeys(studies)) or 'no study'}" for who, studies in have.items()]
        told += [f"{each.who}: {each.why}" for each in (*gathered.refused, *gathered.left_out)]
        raise UserError(f"path: in {folder} no two finished a study of one task by one protocol: {'; '.join(told)}")


def _add(
    gathered: Gathered, ground: Ground, people: dict[str, list[str]], read: dict[tuple[str, str], Findings | None]
) -> None:
    """Adds the entries that are on this ground, if they are of several people. read: what was read already."""
    entries: list[Entry] = []
    for who, names in people.items():
        for name in names:
            if (who, name) not in read:
                read[who, name] = _read(gathered, who, name)
            if (findings := read[who, name]) is None:
                continue
            if unfinished(findings):
                why = LeftOut(who, "it is not finished: runs that it lists are missing", name)
                gathered.left_out += [why] if why not in gathered.left_out else []
                continue
            for arm in findings.study.arms:
                if arm.pose == ground.pose:
                    _join(entries, Entry((who,), name if len(names) > 1 else "", findings, arm))
    if len({who for entry in entries for who in entry.who}) > 1:
        gathered.shared[ground] = entries


def _read(gathered: Gathered, who: str, study: str) -> Findings | None:
    """The study; None, and refused, where its files are as they were written and cannot be understood."""
    try:
        return find(gathered.ledgers[who], study)
    except UserError as error:
        _refuse(gathered, who, study, error)
        return None


def _refuse(gathered: Gathered, who: str, study: str, error: UserError) -> None:
    gathered.refused.append(LeftOut(who, str(error).replace(str(gathered.ledgers[who]), who), study))


def _join(entries: list[Entry], new: Entry) -> None:
    """Adds the entry, or says whose it is, too, at the one of the same runs with the same results.

    Of two studies, the one with the smaller margin stays, whatever the order of people.
    """
    for i, old in enumerate(entries):
        if _runs(old) == _runs(new) and old.row.test_by_seed == new.row.test_by_seed:
            finer = min(old, new, key=lambda entry: entry.findings.study.claims.margin)
            entries[i] = replace(finer, who=tuple(dict.fromkeys((*old.who, *new.who))), study=old.study)
            return
    entries.append(new)


def _runs(entry: Entry) -> list[str]:
    return [run.key for run in entry.row.finals]
