"""The factor of a study: a key of its protocol, at each of whose values the whole study is carried out by itself.

Each value makes a study of its own, with a tuning of its own, by overrides as they are given on a command line. (A
ladder repeats the final runs of one study, with the settings that were found for it.)
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, get_type_hints

from experiments.study.sweep_file import Section
from ledger.config import Protocol
from ledger.options import Value, option_text

MAX_VALUES = 8
OF = "protocol"


@dataclass(frozen=True)
class Factor:
    """key: with its dots, such as `protocol.image_px`; "" where a study has none. values: two or more, in the order of
    the file. names: of the study at each of them."""

    key: str = ""
    values: tuple[Value, ...] = ()
    names: tuple[str, ...] = ()

    def overrides(self) -> Iterator[dict[str, Any]]:
        """Of each value: what makes a study of it."""
        for name, value in zip(self.names, self.values, strict=True):
            yield {"name": name, "factor": None, self.key: value}

    def text(self, name: str) -> str:
        """Which value the study of that name has, such as `protocol.image_px=32`; "" where there is no factor."""
        return f"{self.key}={option_text(self.values[self.names.index(name)])}" if self.key else ""


def read_factor(section: Section, study: str, read: Callable[[Section], Protocol]) -> Factor:
    """What a sweep file says of it. study: its name. read: the protocol that the study has with what a section says.

    Raises UserError for what is no key of a protocol, for values that do not fit it, and where there is nothing to
    compare.
    """
    if not section.values:
        return Factor()
    inner = {f"{OF}.{key}": value for key, value in section.section(OF).values.items()}
    section = Section(section.file, section.path, section.part(section.values.keys() - {OF}).values | inner)
    section.only(f"{OF}.{key}" for key in get_type_hints(Protocol))
    (key, *others) = section.values
    if others:
        raise section.error(others[0], f"a study has one factor, and {key} is another")
    given, name = section.items(key).values, key.removeprefix(f"{OF}.")
    if not 2 <= len(given) <= MAX_VALUES:
        raise section.error(key, f"has {len(given)} of the 2 to {MAX_VALUES} values that can be compared")
    values: list[Value] = []
    for each in given.values():
        value = getattr(read(Section(section.file, f"{section.path}: {OF}", {name: each})), name)
        if value in values:
            raise section.error(key, f"{option_text(value)} is there twice")
        values.append(value)
    endings = (re.sub("[^A-Za-z0-9]+", "-", option_text(value)) for value in values)
    return Factor(key, tuple(values), tuple(f"{study}-{name}-{ending}" for ending in endings))
