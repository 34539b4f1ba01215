"""What the tests of benchmarks share."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def patient() -> Iterator[None]:
    """Threads that wait for each other sleep: where the machine has other work, those that spin take minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_WAIT_POLICY", "passive")
        yield
