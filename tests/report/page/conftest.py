"""One browser for all tests of a file, whose console stays silent in each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from report.page.browser import Browser

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("downloads"))
    yield browser
    browser.driver.quit()


@pytest.fixture
def browser(session: Browser) -> Iterator[Browser]:
    session.complaints()
    yield session
    assert session.complaints() == []
