"""Overrides of a study's file that are given on the command line: `protocol.epochs=10 search.trials=4`."""

import re
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from experiments.study.sweep_file import Section, read_value
from ledger.errors import UserError
from ledger.private_text import without_folders

GIVEN = "SET"
"""What messages call them; `--set` on a command line without make."""
MERGED = ("protocol", "claims")
"""What a budget overrides key by key."""
SEARCHED = ("trials", "wave_size", "tuning")
"""Keys of `search` that a budget has without that word."""
_PARAMETER = r"(optim|model|policy)\."
"""How names with a dot begin."""

_TABLE = r"(?s)^(csv:)[/~].*/(?=[^/]*:[^:]*$)"
_WITH_A_FILE = (r"(?s)^(folder:)[/~].*/(?=.)", _TABLE, r"(:weights=)[/~][^:+]*/")
"""How values name a file, from the root or from a home; the last of them anywhere in a variant's name."""


def read_overrides(texts: Iterable[str]) -> dict[str, Any]:
    """Values by dotted key, of texts that each hold one or several KEY=VALUE, in YAML.

    Raises UserError for what has another form, and for a key that is there twice.
    """
    overrides: dict[str, Any] = {}
    for each in (each for text in texts for each in re.split(r"[ \t\n]+(?=[\w.]+=)", text.strip())):
        key, equals, value = each.partition("=")
        if not (equals and re.fullmatch(r"\w+(\.\w+)*", key)):
            raise UserError(f"{GIVEN}: {each!r} is not of the form KEY=VALUE, such as protocol.epochs=10")
        key = f"search.{key}" if key in SEARCHED else key
        if key in overrides:
            raise UserError(f"{GIVEN}: {key} is there twice")
        if key.split(".")[0] == "budgets":
            raise UserError(f"{GIVEN}: {key}: what is set counts at any budget; write the key that the budget has")
        overrides[key] = read_value(value, f"{GIVEN}: {key}")
    return overrides


def with_overrides(top: Section, budget: str, overrides: Mapping[str, Any]) -> tuple[Section, dict[str, Any]]:
    """The file at that budget alone with these values; and what it had in their places, None where it had nothing."""
    values = deepcopy(top.values)
    values.pop("budgets", None)
    for path, value in _paths(top.section("budgets").section(budget)):
        _put(values, path, deepcopy(value))
    was = {path: _put(values, path, value) for path, value in overrides.items()}
    return Section(f"{top.file} with {GIVEN}", "", values), was


def recorded(was: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What study.json says of overrides, by their keys; without the folders of a task, a table or weights."""
    return {path: {when: _private(value) for when, value in (("was", was[path]), ("now", now[path]))} for path in now}


def recorded_group(group: str) -> str:
    """What study.json says of which images belong together; without the folders of a table, a pattern as it is."""
    return re.sub(_TABLE, r"\1.../", group).encode(errors="replace").decode()  # a file's name may be of any bytes


def _private(value: Any) -> Any:
    """The same without folders, in all that it holds."""
    if isinstance(value, dict):
        return {key: _private(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_private(each) for each in value]
    if not isinstance(value, str):
        return value
    for form in _WITH_A_FILE:
        value = re.sub(form, r"\1.../", value)
    return without_folders(value)


def _paths(budget: Section) -> Iterator[tuple[str, Any]]:
    """Where in the file each value of a budget belongs."""
    for key, value in budget.values.items():
        if key in MERGED:
            yield from ((f"{key}.{inner}", each) for inner, each in budget.section(key).values.items())
        else:
            yield f"search.{key}" if key in SEARCHED else key, value


def _put(values: dict[str, Any], path: str, value: Any) -> Any:
    """Put the value where the path leads, and return what was there. A key that is there may have dots of its own."""
    for key in sorted(values, key=len, reverse=True):
        if path == key:
            break
        if path.startswith(f"{key}.") and isinstance(values[key] or {}, dict):
            values[key] = values[key] or {}
            return _put(values[key], path.removeprefix(f"{key}."), value)
    else:
        head, dot, rest = path.partition(".")
        if dot and not re.match(_PARAMETER, path):
            values[head] = {}
            return _put(values[head], rest, value)
    was, values[path] = values.get(path), value
    return was
