"""Weights that networks start from: files, each kept in the cache under the hash of what is in it.

So what a network starts from is part of its variant's name, and of its runs' keys, and where it lay is not.
"""

import hashlib
import os
import re
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

from baselines.backbones.timm_network import SUFFIXES, check_weights, downloaded_weights, known_networks
from experiments.images.tasks.cache import cache_folder
from experiments.machine.home import user_path
from ledger.errors import UserError, nearest, remedy

DIGITS = 16
"""Of the hash by which weights are called."""


def check_network(library: str, network: str) -> None:
    """Raises ValueError, or UserError, for a network that the library does not have, and without the library."""
    if not network or "=" in network:
        raise UserError(f"{library}: name one of its networks, as in {library}:resnet18")
    if network not in (known := known_networks()):
        alike = [each for each in known if ("." in each) == ("." in network)]
        raise UserError(f"{library} has no network {network!r}; {nearest(network, alike)}")


def name_weights(network: str, text: str) -> str:
    """What the variant's one spelling calls these weights: `none`, or the hash of the file's content.

    text: `none`, `cache`, a file's path, or such a hash. Of a file that has not been read before, a copy is kept.
    Raises ValueError, or UserError, for weights that are not there, or are not the network's.
    """
    if text == "none" or re.fullmatch(f"[0-9a-f]{{{DIGITS}}}", text):
        return text
    file = downloaded_weights(network) if text == "cache" else user_path(text, "weights")
    if file is None:
        fetch = f"import timm; timm.create_model({network!r}, pretrained=True)"
        raise UserError(f'weights: timm has none of {network} on this machine; python -c "{fetch}" fetches them')
    if file.suffix not in SUFFIXES:
        raise UserError(f"weights: {text!r} is none of cache, none and a file that ends with {', '.join(SUFFIXES)}")
    try:
        status = file.stat()
        return _kept(network, file, (status.st_size, status.st_mtime_ns))
    except OSError as error:
        raise UserError(f"weights: {str(file)!r} cannot be read ({error.strerror})") from None


@lru_cache(maxsize=64)
def _kept(network: str, file: Path, state: tuple[int, int]) -> str:
    """The hash of the file's content, once a copy of it is in the cache and has been found to be the network's."""
    digest = _digest(file)
    check_weights(network, file, digest)
    if any(_folder().glob(f"{digest}.*")):
        return digest
    try:
        _folder().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".copying-", dir=_folder()) as folder:
            copy = Path(folder, f"{digest}{file.suffix}")
            shutil.copyfile(file, copy)
            os.replace(copy, _folder() / copy.name)
    except OSError as error:
        why = f"cannot be kept in {str(_folder())!r} ({error.strerror}){remedy(error)}"
        raise UserError(f"weights: {str(file)!r} {why}") from None
    return digest


def find_weights(digest: str) -> Path:
    """The file with the content of that hash. Raises UserError if this machine has none, or a damaged one."""
    for file in _folder().glob(f"{digest}.*"):
        if _digest(file) == digest:
            return file
        raise UserError(f"weights: {file} has been damaged; delete it, and name the file that it was copied from")
    raise UserError(f"weights: no file with the hash {digest} is in {_folder()}; name the file itself")


def _folder() -> Path:
    return cache_folder() / "weights"


def _digest(file: Path) -> str:
    status = file.stat()
    return _hashed(file, (status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=64)
def _hashed(file: Path, state: tuple[int, int]) -> str:
    """The hash of the file's content, which is read once for all networks that start from it."""
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:DIGITS]
