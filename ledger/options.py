"""Names with options, `NAME:key=value:key=value`, and the dataclasses whose fields the options set."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args, get_origin, get_type_hints

from ledger.errors import UserError, nearest

Value = float | int | bool | str
"""What a hyper-parameter or another option may be."""


def split_name(text: str, what: str) -> tuple[str, dict[str, str]]:
    """The name and its options as they are written.

    Raises UserError for an option that is not key=value or is there twice. what: of the name, for the message.
    """
    name, *parts = text.split(":")
    options: dict[str, str] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not (key and equals and value):
            raise UserError(f"{what}: {text!r}: {part!r} is not of the form key=value")
        if key in options:
            raise UserError(f"{what}: {text!r} sets {key!r} twice")
        options[key] = value
    return name, options


def fields(owner: Callable[..., Any]) -> dict[str, Value]:
    """The options of a registered dataclass and their defaults, as their types have them."""
    hints = get_type_hints(owner)
    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(owner) if field.init}  # type: ignore[arg-type]
    return {name: float(value) if hints[name] is float else value for name, value in defaults.items()}


def plain_values(owner: Callable[..., Any]) -> dict[str, Value]:
    """The values with which a registered dataclass does nothing of its own, of options where it says so."""
    return {field.name: field.metadata["plain"] for field in dataclasses.fields(owner) if "plain" in field.metadata}  # type: ignore[arg-type]


def named_only(owner: Callable[..., Any]) -> set[str]:
    """The options of a registered dataclass that only a name sets: no run's configuration lists them.

    So an option can be added to what there are runs of: their keys stay, and so must its default.
    """
    return {field.name for field in dataclasses.fields(owner) if field.metadata.get("named_only")}  # type: ignore[arg-type]


def typed(owner: Callable[..., Any], name: str, key: str, value: Value) -> Value:
    """The value as the option's type has it; text is read, 1 stands for 1.0. `name` is for messages.

    Raises UserError for an option that the owner does not have, and for a value that is not of its type.
    """
    hints = get_type_hints(owner)
    known = fields(owner)
    if key not in known:
        raise UserError(f"{key}: {name} has no such hyper-parameter; {nearest(key, known)}")
    kind = hints[key]
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        if value not in choices:
            raise UserError(f"{key}: {value!r} is not one of {', '.join(choices)}; {nearest(str(value), choices)}")
        return value
    try:
        return _READERS[kind](value)
    except (ValueError, TypeError, OverflowError):
        raise UserError(f"{key}: {value!r} is not {CALLED[kind]}") from None


def _read_bool(value: Value) -> bool:
    words = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}
    if str(value).lower() not in words:
        raise ValueError
    return words[str(value).lower()]


def _read_float(value: Value) -> float:
    if isinstance(value, bool) or not math.isfinite(number := float(value)):
        raise ValueError
    return number


def _read_int(value: Value) -> int:
    number = _read_float(value)
    if number != int(number):
        raise ValueError
    return int(number)


_READERS: Mapping[Any, Callable[[Any], Value]] = {bool: _read_bool, int: _read_int, float: _read_float, str: str}
CALLED: Mapping[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def option_text(value: Value) -> str:
    """The value as it is written in a name."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        text = f"{value:g}" if float(f"{value:g}") == value else repr(value)
        return text.replace("+", "")  # 1e+06: in a variant's name a plus sign begins the policy
    return str(value)


def spell(name: str, options: Mapping[str, Value], owner: Callable[..., Any]) -> str:
    """The one spelling of a name with options: in the order of the fields, those at their defaults left out."""
    changed = {key: options[key] for key, default in fields(owner).items() if options.get(key, default) != default}
    return ":".join([name, *(f"{key}={option_text(value)}" for key, value in changed.items())])
