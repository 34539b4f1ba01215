"""Reads JSON that may hold anything: what is not as documented is an UserError that names file and value."""

import json
from pathlib import Path
from typing import Any

from analysis.checksums import read_as_it_is, read_bytes
from analysis.shapes import shown
from ledger.errors import UserError


def read_json(file: Path) -> Any:
    """A file of a run; if the run has checksums, only as it was committed."""
    return _parsed(file, read_bytes(file))


def read_object(file: Path) -> dict[str, Any]:
    """The same, of a file that holds an object."""
    return _object(file, read_json(file))


def read_manifest(file: Path) -> dict[str, Any]:
    """A study's manifest, whose checksum is within."""
    return _object(file, _parsed(file, read_as_it_is(file)))


def _parsed(file: Path, content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: is not JSON: {error}") from error


def _object(file: Path, record: Any) -> dict[str, Any]:
    if not isinstance(record, dict):
        raise UserError(f"{file}: holds no JSON object")
    return record


def get(file: Path, record: dict[str, Any], dotted: str, kind: type | tuple[type, ...]) -> Any:
    value: Any = record
    for name in dotted.split("."):
        if not isinstance(value, dict) or name not in value:
            raise UserError(f"{file}: {dotted!r} is missing")
        value = value[name]
    if not isinstance(value, kind):
        raise UserError(f"{file}: {dotted!r} is {shown(value)}, expected {_kind_text(kind)}")
    return value


def _kind_text(kind: type | tuple[type, ...]) -> str:
    return "a number" if isinstance(kind, tuple) else kind.__name__


def number(file: Path, record: dict[str, Any], name: str) -> float | None:
    """A number that may be null or absent."""
    value = record.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise UserError(f"{file}: {name!r} is {shown(value)}, expected a number or null")
    return value


def part(file: Path, record: dict[str, Any], name: str) -> dict[str, Any]:
    """An object that may be null or absent; empty then."""
    part = record.get(name)
    if part is not None and not isinstance(part, dict):
        raise UserError(f"{file}: {name!r} is {shown(part)}, expected an object or null")
    return part or {}
