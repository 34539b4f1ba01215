"""The files of a folder of images: those that are read, which are not opened, and those that are not."""

import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from experiments.images.tasks.image_files.contents import image_format
from ledger.errors import UserError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"})
UNREAD_EXTENSIONS = frozenset({
    ".3fr", ".arw", ".avif", ".cr2", ".cr3", ".czi", ".dcm", ".dib", ".dicom", ".dng", ".exr", ".fit", ".fits", ".hdr",
    ".heic", ".heif", ".ico", ".j2k", ".jfif", ".jif", ".jp2", ".jpe", ".jxl", ".lif", ".lsm", ".mha", ".nd2", ".ndpi",
    ".nef", ".nii", ".npy", ".npz", ".nrrd", ".orf", ".pbm", ".pcx", ".pgm", ".pnm", ".ppm", ".psd", ".raf", ".raw",
    ".rw2", ".sgi", ".svg", ".svs", ".tga", ".xcf",
})  # fmt: skip
"""Those of other images, and of arrays of them, which are not decoded."""
IMAGE_EXTENSIONS = EXTENSIONS | UNREAD_EXTENSIONS

NO_EXTENSION = "without an extension"

SYSTEM_NAMES = frozenset(
    {"@eadir", "@recently-snapshot", "@recycle", "@tmp", "#recycle", "#snapshot", "$recycle.bin", "__macosx"}
    | {"__pycache__", "found.000", "lost+found", "recycler", "system volume information", "thumbs.db", "desktop.ini"}
)
"""What file servers and systems make beside people's own folders, often with small copies in it; in small letters."""

MAX_DEPTH = 100
"""Of folders in folders, in a class."""
MAX_VISITS = 20
"""How often one folder is walked in a class, by different links: links to each other lead on in endless ways."""


class ImageFile(NamedTuple):
    """One image of the folder.

    path: relative to the folder, with slashes. stamp: size in bytes, time of the last change of the content and of the
    file in ns; the same stamp means the same content. is_outside: whether a link leads out of the folder to it.
    """

    path: str
    class_name: str
    stamp: tuple[int, int, int]
    is_outside: bool


@dataclass
class Unread:
    """What a walk came by and left out.

    num: how many files, by class and extension. largest: of these, size and path. folders: those that were passed by,
    as the system's and hidden ones are.
    """

    num: Counter[tuple[str, str]] = field(default_factory=Counter)
    largest: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    folders: set[Path] = field(default_factory=set)

    def passes_by(self, entry: os.DirEntry[str]) -> bool:
        """Whether it is hidden or the system's; of folders that is kept in mind."""
        is_passed_by = _is_passed_by(entry.name)
        if is_passed_by and entry.is_dir(follow_symlinks=False):
            self.folders.add(Path(entry.path))
        return is_passed_by

    def leave_out(self, class_name: str, path: str, num_bytes: int) -> None:
        of = (class_name, extension(path))
        self.num[of] += 1
        self.largest[of] = max(self.largest.get(of, (0, "")), (num_bytes, path))

    def sorted_out(self, root: Path) -> tuple[dict[str, Counter[str]], Counter[str]]:
        """What would be images of each class if they were converted or renamed; and all else. By kind, in words.

        Files whose extension says nothing are what the largest of them in their class is: that one is opened.
        """
        images: dict[str, Counter[str]] = {}
        others: Counter[str] = Counter()
        for (name, kind), num in sorted(self.num.items()):
            if kind in UNREAD_EXTENSIONS:
                images.setdefault(name, Counter())[kind] += num
            elif content := image_format(root / self.largest[name, kind][1]):
                images.setdefault(name, Counter())[f"{_shown(kind)} ({content})"] += num
            else:
                others[kind] += num
        return images, others


def _shown(kind: str) -> str:
    return (kind if kind.strip() == kind else repr(kind)) or NO_EXTENSION


def is_image(name: str) -> bool:
    return extension(name) in EXTENSIONS


def may_be_image(path: Path) -> bool:
    """Whether it is one by its extension, decoded or not, or by its first bytes. For plain files."""
    return extension(path.name) in IMAGE_EXTENSIONS or bool(image_format(path))


def extension(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def same_name(name: str) -> str:
    """The name in Unicode's one form: systems write the same accents as a letter of their own, or as a mark on one."""
    return unicodedata.normalize("NFC", name)


def folders_in(folder: Path, unread: Unread) -> list[str]:
    """The names of the folders in it that may be people's own, sorted."""
    return sorted(entry.name for entry in os.scandir(folder) if not unread.passes_by(entry) and entry.is_dir())


def loose_files(folder: Path) -> list[str]:
    """The names of the files that lie in it, those of the system left out."""
    return [entry.name for entry in os.scandir(folder) if not _is_passed_by(entry.name) and entry.is_file()]


def images_of(root: Path, part: str, class_of: Mapping[str, str], unread: Unread) -> list[ImageFile]:
    """The images of a part's classes, in order. part: such as `train/`, or "" for the folder itself.

    class_of: the class of each folder in it.
    """
    files: list[ImageFile] = []
    inside = os.path.join(os.path.realpath(root), "")
    for folder, name in class_of.items():
        for path, status, real in _walk(root / part / folder, f"{part}{folder}/", (), Counter(), unread):
            if is_image(path):
                stamp = (status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                files.append(ImageFile(path, name, stamp, is_outside=not real.startswith(inside)))
            else:
                unread.leave_out(name, path, status.st_size)
    return in_order(files)


def in_order(files: Iterable[ImageFile]) -> list[ImageFile]:
    """Sorted by path, in the same way wherever they were copied from."""
    return sorted(files, key=lambda file: (same_name(file.path), file.path))


def num_images_in(folder: Path) -> int:
    """How many images there are below, read or not by their extension; links to folders are not followed."""
    num, below = 0, [os.fspath(folder)]
    while below:  # not os.walk: in Python 3.11 it fails where folders are a thousand deep
        with suppress(OSError), os.scandir(below.pop()) as entries:  # nothing depends on it
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.path)
                else:
                    num += extension(entry.name) in IMAGE_EXTENSIONS
    return num


def _is_passed_by(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def _walk(
    directory: Path, prefix: str, above: tuple[tuple[int, int], ...], visits: Counter[tuple[int, int]], unread: Unread
) -> Iterator[tuple[str, os.stat_result, str]]:
    """Every plain file below a folder that is not hidden, and where it really is. Links are followed, not in circles.

    above: device and inode of the folders that lead here. visits: how often each was walked so far.
    Raises OSError for a link to nothing, UserError for folders without end.
    """
    status = directory.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    visits[here] += 1
    if len(above) > MAX_DEPTH or visits[here] > MAX_VISITS:
        raise UserError(f"folder {prefix!r}: links or folders in it lead on without end; make it simpler")
    real = os.path.realpath(directory)
    with os.scandir(directory) as entries:
        for entry in entries:
            path = f"{prefix}{entry.name}"
            if unread.passes_by(entry):
                continue
            if entry.is_dir():
                yield from _walk(Path(entry.path), f"{path}/", (*above, here), visits, unread)
            elif stat.S_ISREG((file := entry.stat()).st_mode):  # to open a pipe is to wait for its other end
                yield path, file, os.path.realpath(entry.path) if entry.is_symlink() else f"{real}/"
