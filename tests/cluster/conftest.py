"""Two hosts for each test that asks for them; where they cannot be made, it says that it was skipped and why."""

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from experiments.runs.run import make_run
from ledger.errors import UserError
from tests.cluster.two_hosts import KINDS, Hosts, Unavailable, two_hosts
from tests.support.stopped_runs import CPU, files_of, job_of

with suppress(UserError):  # Ray is not installed
    import experiments.sweep.executors.ray  # noqa: F401  before Ray itself, which reads its settings when it is imported


@pytest.fixture
def made_here(cache: Path, tmp_path: Path) -> Callable[..., dict[str, bytes]]:
    """What a run leaves that is carried out on this machine; but for what differs between repetitions."""

    def make(**changes: Any) -> dict[str, bytes]:
        job = job_of(cache, tmp_path / "here", **changes)
        make_run(job, CPU)
        return files_of(job)

    return make


@pytest.fixture(params=KINDS)
def hosts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Hosts]:
    """Of both kinds; of one with @pytest.mark.parametrize("hosts", ["one machine"], indirect=True)."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'stn-bench[cluster]'")
    try:
        with two_hosts(tmp_path / "hosts", request.param) as hosts:
            yield hosts
    except Unavailable as reason:
        pytest.skip(str(reason))
