"""The ladder of a study: smaller sizes of training at which its final runs are repeated.

A decision at one size may be another at twice that size. Rungs that come before the study's own size show whether it
still changes. Each is a protocol of its own, with a hash of its own; seeds and settings are the study's.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from experiments.study.sweep_file import Section
from ledger.config import Protocol
from ledger.errors import UserError

MAX_RUNGS = 8


@dataclass(frozen=True)
class Rung:
    """A size of training; what is None is as in the study's protocol."""

    train_images: int | None
    epochs: int | None


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
        item.only(("train_images", "epochs"))
        if not item.values:
            raise items.error(key, "has neither train_images nor epochs")
        train_images, epochs = (
            item.integer(name, low, 10_000_000) if name in item.values else None
            for name, low in (("train_images", 2), ("epochs", 1))
        )
        rungs.append(Rung(train_images, epochs))
    tuned_at = section.integer("tuned_at", 1, len(rungs)) if "tuned_at" in section.values else None
    return Ladder(tuple(rungs), tuned_at)


def rung_protocols(ladder: Ladder, file: str, asked: Protocol, fitted: Protocol) -> tuple[Protocol, ...]:
    """The protocols of the rungs below the study's own size.

    asked: the study's, as its file has it. fitted: the same on images of which there are fewer, perhaps: rungs shrink
    by as much. They measure no robustness, which no claim is about.
    Raises UserError for rungs that do not rise, up to the study's own size.
    """
    share = fitted.train_images / asked.train_images if asked.train_images else 1.0
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
        if not rises(low, high) or low.train_images < 2:
            after = f"rung {number + 1}" if number < len(protocols) else "the study's own size"
            raise UserError(
                f"{file}: ladder: rung {number} ({size_text(low)}) does not rise to {after} ({size_text(high)})"
            )
    return tuple(protocols)


def rises(low: Protocol, high: Protocol) -> bool:
    """Whether the second sees more images in its training, all epochs counted, and draws them from as many at least."""
    seen = [protocol.train_images * protocol.epochs for protocol in (low, high)]
    return low.train_images <= high.train_images and seen[0] < seen[1]


def size_text(protocol: Protocol) -> str:
    """Such as `5,000 images x 3 epochs`."""
    return f"{protocol.train_images:,} images x {protocol.epochs} epoch{'' if protocol.epochs == 1 else 's'}"


def tuning_protocol(ladder: Ladder, rungs: Sequence[Protocol], top: Protocol) -> Protocol:
    """What trials are made under."""
    return top if ladder.tuned_at is None else rungs[ladder.tuned_at - 1]
