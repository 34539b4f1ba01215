"""A browser for the tests of the page."""

from collections.abc import Iterator

import pytest

from tests.support.browser import Browser


@pytest.fixture(scope="module")
def shared_browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(shared_browser: Browser) -> Iterator[Browser]:
    """A browser that found nothing wrong with the page."""
    shared_browser.problems.clear()
    shared_browser.requests.clear()
    yield shared_browser
    assert shared_browser.problems == []
    assert {address.partition(":")[0] for address in shared_browser.requests} <= {"file", "data"}
    assert {address for address in shared_browser.requests if address.endswith(".html")} != set()
