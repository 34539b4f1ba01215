"""Reading a sweep file: safe YAML, in sections that give typed values or one line that says what is wrong."""

import math
import re
import reprlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ledger.errors import UserError, nearest

MAX_BYTES = 64 * 1024
MAX_NODES = 10_000
MAX_DEPTH = 20
MAX_ITEMS = 1000
"""Of a list: comparing each with each takes time."""
MAX_TEXT = 1000
"""Characters."""

_show = reprlib.Repr()
_show.maxstring = _show.maxother = 80


def shown(value: object) -> str:
    """The value as a message quotes it: one line, cut if long."""
    return _show.repr(value)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain values: 1e-3 is a number, `no` a word, 2026-11-22 a text."""


_PLAIN = {
    "null": r"~|null|Null|NULL|",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?(0|[1-9][0-9_]{0,17})",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}
_Loader.yaml_implicit_resolvers = {}  # YAML 1.1's are not wanted
for _tag, _pattern in _PLAIN.items():
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), None)


def read_mapping(path: Path) -> "Section":
    """The file as nested dicts, lists, texts, numbers, truth values and None, as one section.

    Raises UserError if the file cannot be read, is not YAML, or is larger or deeper than a study can be.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise UserError(f"{path}: is larger than {MAX_BYTES} bytes")
    value = read_value(data, str(path))
    if not isinstance(value, dict):
        raise UserError(f"{path}: holds no keys")
    return Section(str(path), "", value)


def read_value(data: bytes | str, path: str) -> Any:
    """The value that YAML stands for. path: where it is from, for messages. Raises UserError as read_mapping does."""
    try:
        root = yaml.compose(data.decode() if isinstance(data, bytes) else data, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        what = f"{error.problem or 'no YAML'}{f' ({error.context})' if error.context else ''}"
        raise UserError(f"{path}: {place}{' '.join(what.split())}") from None
    except RecursionError:
        raise UserError(f"{path}: is nested deeper than {MAX_DEPTH} levels") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the last two: text that is not UTF-8, wild escapes
        raise UserError(f"{path}: is not YAML in UTF-8: {' '.join(str(error).split())}") from None
    return None if root is None else _Values(path).of(root, depth=0)


class _Values:
    """Plain values of YAML nodes, counted, since a few nested aliases stand for billions."""

    def __init__(self, file: str) -> None:
        self.file, self.num_nodes = file, 0

    def error(self, node: yaml.Node, message: str) -> UserError:
        return UserError(f"{self.file}: line {node.start_mark.line + 1}: {message}")

    def of(self, node: yaml.Node, depth: int) -> Any:
        self.num_nodes += 1
        if self.num_nodes > MAX_NODES or depth > MAX_DEPTH:
            raise self.error(node, f"more than {MAX_NODES} values or {MAX_DEPTH} levels")
        tag = node.tag.removeprefix("tag:yaml.org,2002:")
        if isinstance(node, yaml.MappingNode) and tag == "map":
            return self.mapping(node, depth)
        if isinstance(node, yaml.SequenceNode) and tag == "seq":
            return [self.of(item, depth + 1) for item in node.value]
        if isinstance(node, yaml.ScalarNode) and tag in ("null", "bool", "int", "float", "str"):
            return self.scalar(node, tag)
        raise self.error(node, f"the tag {shown(node.tag)} has no meaning here")

    def mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if (key_node.tag, key_node.value) == ("tag:yaml.org,2002:str", "<<"):
                raise self.error(key_node, "'<<' does not merge keys here; write out the keys that it would bring")
            key = self.of(key_node, depth + 1)
            if not isinstance(key, str):
                raise self.error(key_node, f"the key {shown(key)} is not a text")
            if key in values:
                raise self.error(key_node, f"the key {shown(key)} is there twice")
            values[key] = self.of(value_node, depth + 1)
        return values

    def scalar(self, node: yaml.ScalarNode, tag: str) -> Any:
        text: str = node.value
        try:
            match tag:
                case "null":
                    return None
                case "bool":
                    return {"true": True, "false": False}[text.lower()]
                case "int" | "float" if not re.fullmatch(_PLAIN[tag], text):
                    raise ValueError
                case "int":
                    return int(text)
                case "float":
                    return float(re.sub(r"\.(?=inf|nan)", "", text.lower()))
            return text
        except (KeyError, ValueError):  # an explicit tag: !!int "ten"
            raise self.error(node, f"{shown(text)} is not a valid {tag}") from None


def unquoted(value: object) -> str:
    """The hint that a text would be a number, or true or false, if it stood without its quotes; "" for other values."""
    kinds = [tag for tag in ("int", "float", "bool") if isinstance(value, str) and re.fullmatch(_PLAIN[tag], value)]
    return f"; write {value} without quotes" if kinds and len(str(value)) < 80 else ""


def _rounded(value: object) -> str:
    """The hint for 1e3, which YAML takes for a number with decimals; "" for other values."""
    is_whole = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return f"; write {value:.0f}" if is_whole else ""


@dataclass(frozen=True)
class Section:
    """One mapping of a sweep file and where it stands, so that every message begins with file and key.

    The getters return the value of `key`, or `default` where the key is absent; without a default it must be there.
    They raise UserError on anything else.
    """

    file: str
    path: str
    values: dict[str, Any]

    def error(self, key: str, message: str) -> UserError:
        """To raise: file, dotted key, message."""
        return UserError(f"{self.file}: {self._dotted(key)}: {message}")

    def _dotted(self, key: str) -> str:
        key = key if re.fullmatch(r"[\w.@+:\[\]-]{0,80}", key) else shown(key)
        return ".".join(part for part in (self.path, key) if part)

    def only(self, known: Iterable[str]) -> None:
        """Refuse every key that is not among `known`."""
        known = set(known)
        for key in self.values:
            if key not in known:
                raise self.error(key, f"unknown key; {nearest(key, known)}")

    def _get(self, key: str, default: Any) -> Any:
        if key not in self.values and default is None:
            raise self.error(key, "is missing")
        return self.values.get(key, default)

    def text(self, key: str, default: str | None = None, *, pattern: str = ".{1,1000}", what: str = "a text") -> str:
        """A printable text that `pattern` matches in full; `what` says in words what is expected."""
        value = self._get(key, default)
        if isinstance(value, str) and not (len(value) <= MAX_TEXT and value.isprintable()):
            what += f", in printable characters, at most {MAX_TEXT}"
        elif isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        raise self.error(key, f"{shown(value)} is not {what}")

    def choice(self, key: str, known: Iterable[str], default: str | None = None) -> str:
        """One of the words `known`."""
        value, known = self._get(key, default), list(known)
        if value not in known:
            raise self.error(key, f"{shown(value)} is unknown; {nearest(str(value), known)}")
        return str(value)

    def boolean(self, key: str, default: bool | None = None) -> bool:
        """true or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"{shown(value)} is neither true nor false{unquoted(value)}")
        return value

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number from `low` to `high`, both included."""
        value = self._get(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            what = f"a whole number between {low} and {high}"
            raise self.error(key, f"{shown(value)} is not {what}{unquoted(value) or _rounded(value)}")
        if not low <= value <= high:
            raise self.error(key, f"{value} is not between {low} and {high}")
        return value

    def number(self, key: str, low: float = -math.inf, high: float = math.inf, default: float | None = None) -> float:
        """A finite number from `low` to `high`, both included; a whole one stays an int."""
        value = self._get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise self.error(key, f"{shown(value)} is not a number{unquoted(value)}")
        if not low <= value <= high:
            raise self.error(key, f"{value} is not between {low} and {high}")
        return value

    def items(self, key: str, default: list[Any] | None = None) -> "Section":
        """A list, not empty, as a section with the keys `key[0]`, `key[1]`, ..."""
        value = self._get(key, default)
        if not isinstance(value, list) or not value:
            raise self.error(key, f"{shown(value)} is not a list of at least one")
        if len(value) > MAX_ITEMS:
            raise self.error(key, f"has {len(value)} entries; {MAX_ITEMS} are the most")
        return Section(self.file, self.path, {f"{key}[{index}]": item for index, item in enumerate(value)})

    def section(self, key: str) -> "Section":
        """The mapping under `key`; an empty one where the key is absent or has nothing under it."""
        value = self.values.get(key)
        if not isinstance(value, dict | None):
            raise self.error(key, f"{shown(value)} is not a set of keys with values")
        return Section(self.file, self._dotted(key), value or {})

    def part(self, keys: Iterable[str]) -> "Section":
        """These keys alone, those of them that it has."""
        return Section(self.file, self.path, {key: value for key, value in self.values.items() if key in keys})
