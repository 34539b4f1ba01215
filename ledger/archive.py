"""A ledger as one file, `.tar.xz`: the same bytes from the same results; one that was cut short is refused.

It unpacks to a folder `runs` with runs and studies. What is made from these is left out: Optuna's and W&B's files.
"""

import errno
import io
import lzma
import os
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.audit import sound
from ledger.checksums import LEFT_OUT, WEIGHTS
from ledger.committed import read_run
from ledger.errors import UserError
from ledger.sweep_lock import no_sweep_of

SUFFIX = ".tar.xz"
TOP = "runs"
PIECE = 2**20
NO_SUCH_NAMES = (errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG)
"""What comes of names in an archive that cannot be files of one folder."""


def write_archive(root: Path, out: Path, *, weights: bool) -> int:
    """Write the ledger at root, and say how many runs it has. weights: whether those of final runs are in it.

    Raises UserError for a ledger that is not as it was written, or holds no run, and for a name that is no archive's.
    """
    if not out.name.endswith(SUFFIX) or out.is_dir():
        raise UserError(f"out: {out} is not what an archive is called: give a file whose name ends in {SUFFIX}")
    runs = sound(root, root).runs
    if not runs:
        raise UserError(f"runs: {root} holds no run yet; `make sweep` makes some")
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            with lzma.LZMAFile(file, "w") as packed, tarfile.open(fileobj=packed, mode="w", encoding="utf-8") as tar:
                for name, content in _files(root, sorted(runs), weights):
                    member = tarfile.TarInfo(f"{TOP}/{name}")  # no owner, no time
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(out)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(out)) from error
    finally:
        temporary.unlink(missing_ok=True)
    return len(runs)


def _files(root: Path, keys: list[str], weights: bool) -> Iterator[tuple[str, bytes]]:
    """What goes into an archive, by name, in its order."""
    for key in keys:
        files = read_run(root / "runs" / key)
        if not weights and files.pop(WEIGHTS, None) is not None:
            files[LEFT_OUT] = b""
        yield from ((f"runs/{key}/{name}", content) for name, content in sorted(files.items()))
    for path in sorted((root / "studies").glob("*/study.json")):
        yield str(path.relative_to(root)), path.read_bytes()


def unpack_archive(file: Path, folder: Path) -> Path:
    """The ledger that the archive holds, unpacked into the folder. Raises UserError for what is not a whole archive."""
    try:
        with lzma.LZMAFile(file) as packed:
            with tarfile.open(fileobj=packed, mode="r|") as tar:
                for member in tar:
                    if not member.isfile() or not member.name.startswith((f"{TOP}/runs/", f"{TOP}/studies/")):
                        raise tarfile.ReadError(f"it holds {member.name!r:.80}")
                    tar.extract(member, folder, filter="data")
            while packed.read(PIECE):  # to the end, where the checksum is
                pass
    except EOFError:
        raise UserError(f"{file}: was cut short; copy it again") from None
    except (lzma.LZMAError, tarfile.TarError, ValueError, OverflowError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in NO_SUCH_NAMES:
            raise
        what = getattr(error, "strerror", None) or error  # without the path, which is of a folder that goes
        raise UserError(f"{file}: is not an archive of a ledger, or was damaged ({what})") from None
    return folder / TOP


@contextmanager
def opened(source: Path, scratch: Path) -> Iterator[Path]:
    """The ledger at the source, which may be an archive; scratch: the folder to unpack one into.

    Raises UserError for what is not a whole archive, and where a sweep is at work in a ledger.
    """
    if not source.is_file():
        with no_sweep_of(source):
            yield source
        return
    try:
        yield unpack_archive(source, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
