"""Checksums of what the ledger holds: of a run in SHA256SUMS, as `sha256sum -c` reads it, of a manifest in itself."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from ledger.config import sha256_of

SUMS = "SHA256SUMS"
WEIGHTS, LEFT_OUT = "weights.safetensors", "weights.left_out"
"""A run has the second, an empty file, where an archive has left out the first; SHA256SUMS still has its hash."""


def write_sums(files: Mapping[str, bytes]) -> bytes:
    """What SHA256SUMS says of the files, as `sha256sum` would."""
    lines = (f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in sorted(files.items()))
    return "".join(lines).encode()


def read_sums(content: bytes) -> dict[str, str]:
    """Hashes by name. Raises ValueError for what `write_sums` never writes."""
    text = content.decode()
    if not re.fullmatch(r"(?:[0-9a-f]{64}  [^/\\\n]+\n)+", text):
        raise ValueError("is not a list of checksums")
    return {line[66:]: line[:64] for line in text.splitlines()}


def fits(name: str, content: bytes, sums: bytes) -> bool:
    """Whether the file holds what it held when SHA256SUMS, whose bytes these are, was written."""
    return f"{hashlib.sha256(content).hexdigest()}  {name}\n".encode() in sums


def with_digest(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest with `sha256` over the rest of it: its JSON in the one spelling that decides keys, too."""
    rest = {name: value for name, value in manifest.items() if name != "sha256"}
    return {**rest, "sha256": sha256_of(rest)}


def digest_fits(manifest: Mapping[str, Any]) -> bool:
    """Whether the manifest is as it was when its `sha256` was written, or has none, as in older ledgers."""
    try:
        return "sha256" not in manifest or with_digest(manifest) == manifest
    except (ValueError, RecursionError):  # nothing that was written here
        return False
