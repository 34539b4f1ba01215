"""Which of a study's finished runs were made by other code than this one is."""

import json
import os
from collections import Counter
from dataclasses import dataclass, field

from experiments.runs.code import code_of
from experiments.study.arms import make_run_config
from experiments.sweep.sweep import Arm, Sweep
from ledger.config import Protocol, Stage
from ledger.source_code import changed, files_text, unpacked
from ledger.wording import count

CHOICES = ("keep", "again")
"""What becomes of them: they count as they are, or are made again."""
BEGIN, END = b'"code": {', b"}"
"""Around what cost.json says of the code, as it was written; there may be ten thousand of them to look at."""
MAX_BYTES = 2**15
"""Of a cost.json; more than one has."""
MAX_NAMED = 8


@dataclass
class Stale:
    """keys: of finished runs whose result depends on code that has changed since. arms: how many an arm has of them.

    files: of that code. num_unknown: of finished runs that do not say what code made them.
    """

    keys: list[str] = field(default_factory=list)
    arms: Counter[str] = field(default_factory=Counter)
    files: set[str] = field(default_factory=set)
    num_unknown: int = 0

    def text(self) -> str:
        """A sentence on the runs; "" where there are none."""
        if not self.keys:
            return ""
        arms = [f"{arm} ({num:,})" for arm, num in self.arms.items()]
        were, them = ("was", "it depends") if len(self.keys) == 1 else ("were", "they depend")
        return (
            f"{count(len(self.keys), 'finished run')} {were} made before code changed that {them} on: "
            f"{files_text(arms, MAX_NAMED)}. Changed: {files_text(sorted(self.files), MAX_NAMED)}."
        )


def find_stale(under_way: Sweep) -> Stale:
    """Looks at each finished run of the study once, and changes nothing."""
    stale, finished, seen = Stale(), set(under_way.finished()), set[str]()
    runs = str(under_way.ledger.root / "runs")
    for arm in under_way.arms:
        for stage, protocol, keys in _stages(under_way, arm):
            run = make_run_config(arm.plan, protocol, arm.plan.defaults, stage=stage, seed=0, prune_below=())
            now = code_of(run, under_way.plan.source.cache)
            known = dict[bytes, list[str]]()
            for key in keys:
                if key not in finished or key in seen:
                    continue
                seen.add(key)
                if not (recorded := _recorded(f"{runs}/{key}/cost.json")):
                    stale.num_unknown += 1
                    continue
                if recorded not in known:
                    known[recorded] = _changed(recorded, now)
                if files := known[recorded]:
                    stale.keys.append(key)
                    stale.arms[arm.plan.name] += 1
                    stale.files.update(files)
    return stale


def remove_stale(under_way: Sweep) -> Stale:
    """Take them out of the ledger, so that they are made again."""
    stale = find_stale(under_way)
    for key in stale.keys:
        under_way.ledger.remove(key)
    return stale


def _stages(under_way: Sweep, arm: Arm) -> list[tuple[Stage, Protocol, list[str]]]:
    plan = under_way.plan
    kinds = zip(plan.kinds[1:], (arm.finals, *arm.rungs), strict=False)
    return [("trial", plan.tuning_protocol, arm.trials), *((kind.stage, kind.protocol, keys) for kind, keys in kinds)]


def _recorded(file: str) -> bytes:
    """What the file says of the code, in its own spelling; nothing where it does not."""
    try:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            content = os.read(descriptor, MAX_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        return b""
    begin = content.find(BEGIN)
    return content[begin + len(BEGIN) - 1 : content.find(END, begin) + 1] if begin >= 0 else b""


def _changed(recorded: bytes, now: dict[str, str]) -> list[str]:
    try:
        was = unpacked(json.loads(recorded))
    except (ValueError, AttributeError):  # an edit, of which who reads the whole file says more
        return []
    return changed(was, now)
