"""Mutations of files: what an editor, a broken disk or a hostile person may leave. The same for the same seed."""

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any

ODD_TEXTS = (
    "", " ", "\0", "\n", "\t", "\r\nx", "\x1b[31m", "\u202ex", "\u200b", "\ufeff", "\ud800", "é", "e\u0301",
    "猫", "x" * 3000, "..", "../x", "../../../x", "/etc/passwd", "a/b", "a\\b", "C:\\x", "CON", "a.", ".", "~",
    "-", "--help", "%s", "{0}", "1e-3", "1", "nan", "inf", "true", "null", "=1+1", "$x$", "<b>", "[red]", "'",
    '"', "a" * 300, "cnn", "final", "trial", "completed", "failed", "missing", "rotation", "0" * 16,
    "1970-01-01", "R", "a:b=c", "a+b@c", "gpu", "99999999999999999999",
)  # fmt: skip
ODD_NUMBERS = (
    0, -1, 1, 2, 255, 65_536, 2**31, -(2**31), 2**32, 2**53 + 1, 2**63, 2**64, -(2**63) - 1, 10**18, 10**30,
    10**400, -(10**400), 10**4200, 0.0, -0.0, 0.5, 1.5, -0.1, 1e-3, 1e-320, 1e16, 1e30, 1e300, -1e300,
    1.7e308, float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
ODD_TOKENS = (
    b"\0", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc0\x80", b"\r", b"\r\n", b"\t", b"\n", b"---\n",
    b"...\n", b"<<: *a\n", b"&a ", b"*a", b"!!python/object/apply:os.getcwd []", b"!!int ", b"!!float ",
    b"!!binary ", b"!!set ", b"!x ", b"!<x> ", b"%YAML 1.1\n", b"? ", b": ", b"- ", b"[", b"]", b"{", b"}",
    b",", b"#", b"'", b'"', b"|\n", b">-\n", b"\\", b"\\u", b'"\\ud800"', b'"\\U00110000"', b"1e400",
    b"9" * 5000, b"NaN", b"Infinity", b"-Infinity", b"null", b"true", b"{}", b"[]", b"1e-3", b"\xe2\x80\xae",
    b"[" * 600, b"{a: " * 400, b"- " * 600, b"? " * 400, b"&a [*a]", b"\xf0\x9f\x92\xa9",
)  # fmt: skip


def mutated_bytes(data: bytes, draw: Random) -> bytes:
    """A few changes anywhere in the file."""
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        start = draw.randrange(len(data) + 1)
        stop = min(len(data), start + draw.choice((0, 1, 1, 2, 8, 64, 1000)))
        piece = data[start:stop]
        match draw.randrange(7):
            case 0:  # a bit
                new = bytes([piece[0] ^ 1 << draw.randrange(8)]) + piece[1:] if piece else b""
            case 1:  # gone
                new = b""
            case 2:  # twice, or more often
                new = piece * draw.choice((2, 2, 3, 50))
            case 3:  # torn
                data, piece, new, stop = data[:start], b"", b"", start
            case 4:  # from elsewhere
                other = draw.randrange(len(data) + 1)
                new = data[other : other + draw.choice((1, 8, 64, 512))]
            case 5:
                new = draw.randbytes(draw.choice((1, 4, 32)))
            case _:
                new = draw.choice(ODD_TOKENS)
        data = data[:start] + new + data[stop:]
    return data


def odd_value(draw: Random, depth: int = 0) -> Any:
    """Any plain value."""
    match draw.randrange(9 if depth < 3 else 6):
        case 0:
            return None
        case 1:
            return draw.random() < 0.5
        case 2 | 3:
            return draw.choice(ODD_NUMBERS)
        case 4 | 5:
            return draw.choice(ODD_TEXTS)
        case 6:
            return [odd_value(draw, depth + 1) for _ in range(draw.choice((0, 1, 3)))]
        case 7:
            return {str(draw.choice(ODD_TEXTS)): odd_value(draw, depth + 1) for _ in range(draw.choice((0, 1, 3)))}
        case _:
            return nested(draw.choice((15, 30, 90)), draw.random() < 0.5)


def nested(depth: int, in_lists: bool) -> Any:
    """Something that many levels deep."""
    value: Any = 1
    for _ in range(depth):
        value = [value] if in_lists else {"a": value}
    return value


def mutated_value(value: Any, draw: Random) -> Any:
    """A copy with a few values replaced, deleted, doubled, moved or renamed."""
    root = {"": copy.deepcopy(value)}
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        place, key = _somewhere(root, draw)
        match draw.randrange(8):
            case 0 | 1 | 2 | 3:
                place[key] = odd_value(draw)
            case 4:
                del place[key]
                root.setdefault("", None)
            case 5 if isinstance(place, list):
                place[key:key] = [copy.deepcopy(place[key])] * draw.choice((1, 2, 60))
            case 5 if place is not root:
                place[draw.choice(ODD_TEXTS)] = place.pop(key)
            case 6:
                there, name = _somewhere(root, draw)
                place[key] = copy.deepcopy(there[name])
            case _:
                place[key] = _near(place[key], draw)
    return root[""]


def _near(value: Any, draw: Random) -> Any:
    """Another value of the same type, or the same value as another type."""
    wild: list[Callable[[], Any]] = [lambda: [value], lambda: {"a": value}, lambda: str(value)[:100]]
    if isinstance(value, int | float):
        wild += [
            lambda: -value,
            lambda: value * 10**9,
            lambda: value if abs(value) > 1e300 else value + draw.uniform(-1, 1),
            lambda: value * 2,
        ]
    if isinstance(value, str):
        wild += [lambda: value + draw.choice(ODD_TEXTS), lambda: value[:-1], lambda: value.upper()]
    return draw.choice(wild)()


def _somewhere(root: dict[str, Any], draw: Random) -> tuple[Any, Any]:
    place: Any = root
    key: Any = ""
    while isinstance(place[key], dict | list) and place[key] and draw.random() < 0.85:
        place = place[key]
        key = draw.choice(list(place)) if isinstance(place, dict) else draw.randrange(len(place))
    return place, key


def as_json(value: Any) -> bytes:
    """As a hostile person may write it: lone surrogates, NaN and numbers of any length."""
    return json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")
