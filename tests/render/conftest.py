"""One Chromium for all tests that need one; without it they are skipped with a sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import browser as chromium_browser
import pytest


@pytest.fixture(scope="session")
def chromium() -> Iterator[chromium_browser.Browser]:
    why = chromium_browser.missing()
    if why:
        pytest.skip(why)
    with ExitStack() as stack:
        try:
            started = stack.enter_context(chromium_browser.chromium())
        except chromium_browser.start_errors() as error:
            pytest.skip(f"Chromium does not start on this machine: {str(error).splitlines()[0]}")
        yield started


@pytest.fixture
def show(chromium, tmp_path):
    """Opens an HTML text in the browser; at the end of the test nothing may have complained or asked the network."""

    def open_page(html: str, **settings):
        path = tmp_path / "page.html"
        path.write_text(html, encoding="utf-8")
        chromium.open(path, **settings)
        return chromium

    yield open_page
    assert chromium.complaints() == []
    assert [url for url in chromium.requests() if not url.startswith(tmp_path.as_uri())] == []
