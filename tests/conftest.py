"""What all tests share: no W&B account, no deadline for one Hypothesis example, a GPU and real images if there are."""

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import settings

from tests.support.wandb_runs import API_KEY
from tests.support.wandb_server import Server

# Slow is no failure: the machine may have other work.
settings.register_profile("stn-bench", parent=settings.default, deadline=None)
settings.register_profile("repeatable", parent=settings.get_profile("stn-bench"), derandomize=True)
settings.load_profile("stn-bench")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--whole", action="store_true", help="faults and attacks at their whole size: `make faults`")
    parser.addoption("--figures", type=Path, help="JSON file for what tests of faults and attacks measure")


@pytest.fixture(scope="session")
def whole(request: pytest.FixtureRequest) -> bool:
    """Whether faults and attacks are wanted at their whole size, which takes an hour, rather than in short form."""
    return bool(request.config.getoption("--whole"))


@pytest.fixture
def record_figures(request: pytest.FixtureRequest) -> Callable[..., None]:
    """record_figures(name, **numbers): what a test measured, for docs/reliability.md; kept only with --figures."""
    path: Path | None = request.config.getoption("--figures")

    def record(name: str, **numbers: Any) -> None:
        if path is None:
            return
        with FileLock(path.with_suffix(".lock")):
            known = json.loads(path.read_text()) if path.exists() else {}
            path.write_text(json.dumps(dict(sorted({**known, name: numbers}.items())), indent=1) + "\n")

    return record


@pytest.fixture
def dead_pid() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def pytest_configure() -> None:
    """Nobody is logged in to W&B here, whoever runs the tests: nothing may be uploaded by them. Ctrl-C works."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[name]
    nowhere = Path(tempfile.gettempdir(), "stn-bench-tests-have-no-account")
    os.environ |= {"NETRC": str(nowhere / "netrc"), "WANDB_CONFIG_DIR": str(nowhere)}
    # A shell hands down that Ctrl-C is ignored to what it starts in the background, and nohup that SIGHUP is: the
    # commands under test would ignore them.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: with several processes, the last one should not wait for a long file."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("PyTorch sees no CUDA GPU here")


@pytest.fixture(scope="session")
def real_images() -> Path:
    """Folder of CIFAR-10 as JPEG images: train/CLASS/*.jpg and test/CLASS/*.jpg, ten classes."""
    folder = os.environ.get("STN_BENCH_TEST_IMAGES")
    if not folder:
        pytest.skip("STN_BENCH_TEST_IMAGES names no folder of real images")
    return Path(folder)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cache of decoded images, for this process and for those that it starts; sprites are drawn into it once."""
    from experiments.images.tasks import load_task

    folder = tmp_path_factory.mktemp("cache")
    load_task("sprites", image_px=32, cache=folder, say=lambda line: None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STN_BENCH_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """As workers have it; several threads would wait for each other where the machine has other work."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A stand-in for W&B's server, to which this process and those that it starts are logged in."""
    server = Server()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", API_KEY)
    yield server
    server.close()


@pytest.fixture
def here(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory, empty, as a person's own; what main() changes of the process is put back."""
    import torch

    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "100")
    handler, num_threads = signal.getsignal(signal.SIGTERM), torch.get_num_threads()
    yield folder
    signal.signal(signal.SIGTERM, handler)
    torch.set_num_threads(num_threads)
