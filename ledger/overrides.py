"""What of a study's file was set on the command line instead, in words and as it is typed."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ledger.plain_text import plain


def typed_overrides(overrides: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Such as `protocol.epochs=10`, each without spaces. overrides: as study.json has them, by key."""
    return (f"{key}={_typed(each['now'])}" for key, each in overrides.items())


def overrides_text(overrides: Mapping[str, Mapping[str, Any]]) -> str:
    """Such as `protocol.epochs=10 (3 before), search.trials=4 (2 before)`."""
    pairs = zip(typed_overrides(overrides), overrides.values(), strict=True)
    befores = ((now, "nothing" if each["was"] is None else _typed(each["was"])) for now, each in pairs)
    return plain(", ".join(f"{now} ({was} before)" for now, was in befores))


def _typed(value: Any) -> str:
    """In JSON, which is YAML too; a space may begin another override."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace(" ", "\\u0020")
