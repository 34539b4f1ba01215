"""CIFAR-10 through torchvision: downloaded, checked and decoded once."""

from pathlib import Path

from experiments.tasks import TASKS, Say, Task
from experiments.tasks.downloads import Contents, DataSet, Part, downloaded_task

FOLDER_VARIABLE = "STN_BENCH_CIFAR10"
"""Environment variable: a folder that has the official archive or its unpacked files, taken instead of a download."""


@TASKS.register("cifar10")
def cifar10(argument: str, *, image_px: int, cache: Path, say: Say) -> Task:
    """60,000 photographs of animals and vehicles in ten classes, 32 px; downloaded once.

    Arguments as of BuildTask. Poses are the identity.

    Official files in $STN_BENCH_CIFAR10 or in `downloads` of the cache save the download.
    Raises DownloadError if the images cannot be fetched, UserError if those in $STN_BENCH_CIFAR10 are damaged.
    """
    from torchvision.datasets import CIFAR10  # seconds to import, and only needed here

    data_set = DataSet(
        name="cifar10",
        label="CIFAR-10",
        url=CIFAR10.url,
        folder_variable=FOLDER_VARIABLE,
        files=[CIFAR10.tgz_md5, CIFAR10.train_list, CIFAR10.test_list, CIFAR10.meta],
        expected=f"neither {CIFAR10.base_folder}/ nor {CIFAR10.filename}",
        fetch=lambda folder: CIFAR10(folder, train=True, download=True),
        read=_read,
    )
    return downloaded_task(data_set, argument, image_px=image_px, cache=cache, say=say)


def _read(folder: Path, scratch: Path) -> Contents | None:
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import check_integrity, extract_archive

    archive = folder / CIFAR10.filename
    if not (folder / CIFAR10.base_folder).is_dir():
        if not archive.is_file():
            return None
        if not check_integrity(archive, CIFAR10.tgz_md5):
            raise RuntimeError("checksum differs")
        extract_archive(archive, scratch)
        folder = scratch
    train, test = CIFAR10(folder, train=True), CIFAR10(folder, train=False)  # these check what they read
    return Contents(tuple(train.classes), Part(train.data, train.targets), Part(test.data, test.targets))
