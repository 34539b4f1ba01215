"""The ladder of a study: smaller sizes of training at which its final runs are repeated, each a protocol of its own.

A decision at one size may be another at twice that size: rungs show whether it still changes.
"""

import itertools
from dataclasses import dataclass, replace

from experiments.study.sweep_file import Section
from ledger.config import Protocol
from ledger.errors import UserError

MAX_RUNGS = 8
LOWEST = {"train_images": 2, "epochs": 1}


@dataclass(frozen=True)
class Rung:
    """A size of training; what is None is as in the study's protocol."""

    train_images: int | None = None
    epochs: int | None = None


@dataclass(frozen=True)
class Ladder:
    """The rungs below the study's own size, in rising order.

    tuned_at: the rung that variants are tuned at, 1 for the first; None: at the study's own size.
    """

    rungs: tuple[Rung, ...] = ()
    tuned_at: int | None = None


def read_ladder(section: Section) -> Ladder:
    """What a sweep file says of it. Raises UserError for keys that a rung may not vary."""
    section.only(("rungs", "tuned_at"))
    if not section.values:
        return Ladder()
    items, rungs = section.items("rungs"), []
    if len(items.values) > MAX_RUNGS:
        raise section.error("rungs", f"has {len(items.values)} entries; {MAX_RUNGS} are the most")
    for key in items.values:
        item = items.section(key)
        item.only(LOWEST)
        if not item.values:
            raise items.error(key, "has neither train_images nor epochs")
        rungs.append(Rung(**{name: item.integer(name, LOWEST[name], 10_000_000) for name in item.values}))
    tuned_at = section.integer("tuned_at", 1, len(rungs)) if "tuned_at" in section.values else None
    return Ladder(tuple(rungs), tuned_at)


def rung_protocols(ladder: Ladder, file: str, written: Protocol, fitted: Protocol) -> tuple[Protocol, ...]:
    """The protocols of the rungs below the study's own size.

    written: as the study's file has it. fitted: on images of which there are fewer, perhaps: rungs shrink by as much.
    They measure no robustness, which no claim is about.
    Raises UserError for rungs that do not rise, up to the study's own size.
    """
    share = fitted.train_images / written.train_images if written.train_images else 1.0
    protocols = [
        replace(
            fitted,
            train_images=fitted.train_images if rung.train_images is None else round(share * rung.train_images),
            epochs=fitted.epochs if rung.epochs is None else rung.epochs,
            robustness="none",
        )
        for rung in ladder.rungs
    ]
    for number, (low, high) in enumerate(itertools.pairwise([*protocols, fitted]), start=1):
        grows = low.train_images * low.epochs < high.train_images * high.epochs  # images seen, all epochs counted
        if not (2 <= low.train_images <= high.train_images and grows):
            after = f"rung {number + 1}" if number < len(protocols) else "the study's own size"
            raise UserError(
                f"{file}: ladder: rung {number} ({size_text(low)}) does not rise to {after} ({size_text(high)})"
            )
    return tuple(protocols)


def size_text(protocol: Protocol) -> str:
    """Such as `5,000 images x 3 epochs`."""
    return f"{protocol.train_images:,} images x {protocol.epochs} epoch{'s' * (protocol.epochs != 1)}"
