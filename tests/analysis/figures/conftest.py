"""What tests of figures share: the style that all are drawn in."""

from collections.abc import Iterator

import pytest

from analysis.figures import style


@pytest.fixture(autouse=True)
def in_style() -> Iterator[None]:
    with style.applied():
        yield
