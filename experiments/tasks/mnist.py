"""MNIST through torchvision: downloaded, checked and decoded once."""

from pathlib import Path

from experiments.tasks import TASKS, Say, Task
from experiments.tasks.downloads import Contents, DataSet, Part, downloaded_task

FOLDER_VARIABLE = "STN_BENCH_MNIST"
"""Environment variable: a folder that has the four official files, or MNIST/raw/ with them, packed or unpacked."""

UNPACKED_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""Of the unpacked files, by name; torchvision knows those of the packed ones only, which end in .gz."""


@TASKS.register("mnist")
def mnist(argument: str, *, image_px: int, cache: Path, say: Say) -> Task:
    """70,000 handwritten digits, 28 px, white on black, their grey in all three channels; downloaded once.

    Arguments as of BuildTask. Poses are the identity.

    Official files in $STN_BENCH_MNIST or in `downloads` of the cache save the download.
    Raises DownloadError if the images cannot be fetched, UserError if those in $STN_BENCH_MNIST are damaged.
    """
    from torchvision.datasets import MNIST  # seconds to import, and only needed here

    data_set = DataSet(
        name="mnist",
        label="MNIST",
        url=MNIST.mirrors[0],
        folder_variable=FOLDER_VARIABLE,
        files=UNPACKED_MD5,
        expected=f"neither MNIST/raw/ nor {MNIST.resources[0][0]}",
        fetch=lambda folder: MNIST(folder, download=True),
        read=_read,
    )
    return downloaded_task(data_set, argument, image_px=image_px, cache=cache, say=say)


def _read(folder: Path, scratch: Path) -> Contents | None:
    from torchvision.datasets.mnist import MNIST, read_image_file, read_label_file
    from torchvision.datasets.utils import check_integrity, extract_archive

    raw = folder / "MNIST/raw"
    if not raw.is_dir():
        raw = folder
        if not any((raw / name).is_file() or (raw / f"{name}.gz").is_file() for name in UNPACKED_MD5):
            return None
    paths = []
    for packed_name, packed_md5 in MNIST.resources:
        packed, path = raw / packed_name, raw / packed_name.removesuffix(".gz")
        if not path.is_file():
            if not packed.is_file():
                raise RuntimeError(f"neither {path.name} nor {packed.name} is there")
            if not check_integrity(packed, packed_md5):
                raise RuntimeError(f"{packed.name}: checksum differs")
            extract_archive(packed, scratch)
            path = scratch / path.name
        if not check_integrity(path, UNPACKED_MD5[path.name]):
            raise RuntimeError(f"{path.name}: checksum differs")
        paths.append(path)
    train, test = (
        Part(read_image_file(images).numpy()[..., None].repeat(3, -1), read_label_file(labels).tolist())
        for images, labels in (paths[:2], paths[2:])
    )
    return Contents(tuple("0123456789"), train, test)
