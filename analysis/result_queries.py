"""Numbers of committed results files, as documents print them: the queries of docs/claims.yaml."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from analysis.formats import ABSENT
from ledger.errors import UserError, nearest

SOURCE = {"file": str, "at": str, "where": dict}
"""Keys that say which rows of which file, and their types."""

QUERY = {
    **SOURCE,
    "value": str,
    "of": str,
    "over": dict,
    "plus_minus": str,
    "interval": list,
    "as": str,
    "scale": (int, float),
    "decimals": int,
    "signed": bool,
    "unit": str,
    "star": str,
}
"""Keys of a query, and their types; docs/claims.yaml says what they mean."""

_SEVERAL: dict[str, Callable[[list[Any]], Any]] = {"min": min, "max": max, "sum": sum, "count": len}
_STYLES: dict[str, dict[str, Any]] = {
    "percent": {"scale": 100, "decimals": 1},
    "points": {"scale": 100, "decimals": 1, "signed": True},
}

Row = Mapping[str, Any]
Query = Mapping[str, Any]


class Unanswered(Exception):
    """A query that does not lead to one number; the message says why."""


def check_query(place: str, query: Any) -> None:
    """Raises UserError, which begins with the place, for a query that means nothing."""
    check_keys(place, query, QUERY)
    if "value" not in query:
        raise UserError(f"{place}: 'value' is missing: the name of a column was expected")
    for key, known in (("as", _STYLES), ("of", _SEVERAL)):
        if key in query and query[key] not in known:
            raise UserError(f"{place}.{key}: {query[key]!r} is unknown; {nearest(query[key], known)}")
    if "over" in query:
        check_query(f"{place}.over", {"value": query["value"], **query["over"]})


def check_keys(place: str, found: Any, known: Mapping[str, Any]) -> None:
    """Raises UserError for what is not a mapping, for unknown keys, and for values of another type."""
    if not isinstance(found, dict):
        raise UserError(f"{place}: {found!r} was found where keys and values were expected")
    for key, value in found.items():
        if key not in known:
            raise UserError(f"{place}: {key!r} is unknown; {nearest(str(key), known)}")
        if not isinstance(value, known[key]):
            kinds = known[key] if isinstance(known[key], tuple) else (known[key],)
            expected = " or ".join(kind.__name__ for kind in kinds)
            raise UserError(f"{place}.{key}: {value!r} was found where {expected} was expected")


class Results:
    """Results files, each read once. root: what paths are relative to; files: their short names."""

    def __init__(self, root: Path, files: Mapping[str, str]) -> None:
        self._root, self._files = root, files
        self._read: dict[Path, Any] = {}

    def text(self, query: Query) -> str:
        """The number that the query asks for, as a document prints it. Raises Unanswered if there is no such number."""
        style = {"scale": 1, "decimals": 0, "signed": False, **_STYLES.get(query.get("as", ""), {}), **query}
        rows = self.rows(query)
        value = _number(query, rows, query["value"])
        if value is None:
            return ABSENT
        if "over" in query:
            below = inherit(query, {"value": query["value"], **query["over"]})
            if not (divisor := _number(below, self.rows(below), below["value"])):
                raise Unanswered(f"but what it is divided by is {divisor}")
            value /= divisor

        def printed(number: float, signed: bool = False) -> str:
            text = f"{number * style['scale']:{'+' if signed else ''},.{style['decimals']}f}"
            return (text if text.strip("+-0.") else text.lstrip("+-")).replace("-", "−")

        said = printed(value, style["signed"])
        if "plus_minus" in query and (half := _number(query, rows, query["plus_minus"])) is not None:
            said += f" ± {printed(half).lstrip('−')}"  # the scale may be negative
        if "interval" in query:
            ends = [end for column in query["interval"] if (end := _number(query, rows, column)) is not None]
            if ends:
                said += f" [{', '.join(map(printed, sorted(ends, key=lambda end: end * style['scale'])))}]"
        starred = "star" in query and _plain(_cell(query, rows[0], query["star"])) == "true"
        return said + query.get("unit", "") + (r" \*" if starred else "")

    def values(self, query: Query, column: str) -> Iterator[str]:
        """The different values of a column, in the order of the rows."""
        rows = self.rows(query)
        yield from dict.fromkeys(_plain(_cell(query, row, column)) for row in rows)

    def rows(self, query: Query) -> list[Row]:
        """The rows of the query's file that its `where` leaves. Raises Unanswered if there are none."""
        if (name := query.get("file")) is None:
            raise Unanswered("but the claim names no file")
        rows = self._table(self._root / self._files.get(name, name), query.get("at"))
        for column, wanted in (query.get("where") or {}).items():
            known = {_plain(choice) for choice in (wanted if isinstance(wanted, list) else [wanted])}
            rows = [row for row in rows if _plain(_cell(query, row, column)) in known]
        if not rows:
            raise Unanswered(f"but no row of {name} has {query.get('where')}")
        return rows

    def _table(self, file: Path, at: str | None) -> list[Row]:
        if file not in self._read:
            self._read[file] = _read_results(file)
        found: Any = self._read[file]
        for step in at.split(".") if at else ():
            found = _step(file, found, step)
        rows = found if isinstance(found, list) else [found]
        if not rows or not all(isinstance(row, dict) for row in rows):
            raise Unanswered(f"but {file} holds no rows{f' at {at!r}' if at else ''}")
        return rows


def inherit(shared: Query, query: Query) -> dict[str, Any]:
    """The query, with file, place and conditions of another where it does not say them itself."""
    source = {key: shared[key] for key in ("file", "at") if key in shared}
    return {**source, **query, "where": {**(shared.get("where") or {}), **(query.get("where") or {})}}


def _read_results(file: Path) -> Any:
    try:
        text = file.read_text(encoding="utf-8")
        return json.loads(text) if file.suffix == ".json" else list(csv.DictReader(text.splitlines()))
    except OSError as error:
        raise Unanswered(f"but {file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise Unanswered(f"but {file} is not {file.suffix[1:].upper()}: {error}") from None


def _step(file: Path, found: Any, step: str) -> Any:
    """What is at a name; in a list, the one item for which `name=value` holds."""
    name, equals, value = step.partition("=")
    if isinstance(found, dict) and step in found:
        return found[step]
    if isinstance(found, list) and equals:
        items = [item for item in found if isinstance(item, dict) and str(item.get(name)) == value]
        if len(items) == 1:
            return items[0]
    raise Unanswered(f"but {file} has nothing, or more than one thing, at {step!r}")


def _plain(value: Any) -> str:
    """As a CSV file spells it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(query: Query, row: Row, column: str) -> Any:
    if column not in row:
        raise Unanswered(f"but {query['file']} has no column {column!r}; {nearest(column, map(str, row))}")
    return row[column]


def _number(query: Query, rows: list[Row], column: str) -> float | None:
    """The column's number in the one row, or what `of` makes of several; None where the cell is empty."""
    cells = [_cell(query, row, column) for row in rows]
    if query.get("of") == "count":
        return len(cells)
    if "of" not in query and len(rows) > 1:
        raise Unanswered(f"but {len(rows)} rows of {query['file']} have {query['where']}: which is meant?")
    try:
        known = [float(cell) for cell in cells if cell not in ("", None)]
    except (TypeError, ValueError):
        raise Unanswered(f"but {column!r} of {query['file']} is {cells[0]!r}, which is not a number") from None
    return float(_SEVERAL[query.get("of", "max")](known)) if known else None
