"""A real browser for the tests of the report."""

from collections.abc import Iterator

import pytest

from tests.evaluate.browser import Browser, find_chromium


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with Browser(chromium) as opened:
        yield opened
