"""A headless browser that shows pages, and fails on whatever its console says."""

from __future__ import annotations

import base64
import importlib.util
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MISSING = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
MISSING += [] if importlib.util.find_spec("selenium") else ["selenium"]
needs_browser = pytest.mark.skipif(
    bool(MISSING), reason=f"no {' and no '.join(MISSING)}: see scripts/install-browser"
)
SECONDS = 20.0


class Browser:
    """One window of Chromium."""

    def __init__(self, downloads: Path) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(flag)
        options.binary_location = str(shutil.which("chromium"))
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService(str(shutil.which("chromedriver")))
        self.driver = webdriver.Chrome(options, service)
        self.downloads = downloads
        where = {"behavior": "allow", "downloadPath": str(downloads)}
        self._tell("Browser.setDownloadBehavior", where)

    def open(
        self,
        page: Path,
        address: str = "",
        *,
        width: int = 1280,
        height: int = 900,
        scheme: str = "light",
        media: str = "screen",
    ) -> None:
        """Show a page, and wait until its script has done its first work."""
        self.resize(width, height)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._tell("Emulation.setEmulatedMedia", {"media": media, "features": features})
        self.driver.get("about:blank")
        self.driver.get(page.as_uri() + address)
        self.until(lambda: self.run("return document.documentElement.dataset.ready") == "yes")

    def resize(self, width: int, height: int) -> None:
        """Make the window as large as that."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._tell("Emulation.setDeviceMetricsOverride", size)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script in the page and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def text(self, selector: str) -> str:
        """Return the text that an element shows."""
        found = self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
        assert isinstance(found, str)
        return found

    def count(self, selector: str) -> int:
        """Return how many elements there are."""
        found = self.run("return document.querySelectorAll(arguments[0]).length", selector)
        assert isinstance(found, int)
        return found

    def click(self, selector: str) -> None:
        """Click an element as a user does, with the pointer."""
        self.element(selector).click()
        self.settle()

    def double_click(self, selector: str) -> None:
        """Click the middle of an element twice."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).double_click(self.element(selector)).perform()
        self.settle()

    def element(self, selector: str) -> Any:
        """Return an element, scrolled into the middle of the window."""
        found = self.driver.find_element("css selector", selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", found)
        return found

    def choose(self, selector: str, label: str) -> None:
        """Choose an option by its label."""
        from selenium.webdriver.support.ui import Select

        Select(self.element(selector)).select_by_visible_text(label)
        self.settle()

    def write(self, selector: str, text: str) -> None:
        """Replace the text of a field."""
        field = self.element(selector)
        field.clear()
        field.send_keys(text)
        self.settle()

    def press(self, selector: str, *keys: str) -> None:
        """Press keys where an element has the focus."""
        self.element(selector).send_keys(*keys)
        self.settle()

    def settle(self) -> None:
        """Wait until the page has drawn what follows from the last event."""
        self.driver.execute_async_script(
            "const done = arguments[0];"
            "setTimeout(() => requestAnimationFrame(() => requestAnimationFrame(done)), 10)"
        )

    def until(self, is_so: Callable[[], Any]) -> None:
        """Wait until something is so."""
        end = time.monotonic() + SECONDS
        while not is_so():
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.02)

    def downloaded(self, name: str) -> bytes:
        """Return a file that the page offered, and forget it."""
        path = self.downloads / name
        self.until(path.exists)
        content = path.read_bytes()
        path.unlink()
        return content

    def picture(self, path: Path) -> None:
        """Write a picture of the whole page."""
        width, height = self.run(
            "const e = document.documentElement; return [e.scrollWidth, e.scrollHeight]"
        )
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self._tell("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        path.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """Return what the console has said since the last call."""
        log = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in log]

    def _tell(self, command: str, arguments: dict[str, Any]) -> Any:
        return self.driver.execute_cdp_cmd(command, arguments)
