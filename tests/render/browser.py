"""A real Chromium for tests and pictures: found on the machine, started without network, asked through its driver."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--window-size=1200,900",
)

OWN_PAGES = ("chrome://", "chrome-untrusted://", "chrome-search://", "chrome-extension://")
"""Where the pages of the browser itself are, as that of a new tab, which may load at any time."""


def missing() -> str | None:
    """What keeps a browser from starting here, as a sentence; None if nothing does."""
    if not any(map(shutil.which, CHROMIUM)) or not shutil.which("chromedriver"):
        return "no Chromium with its chromedriver on this machine: `make browser` installs them (Debian, as root)"
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed: pip install -e '.[dev]'"
    return None


def start_errors() -> tuple[type[Exception], ...]:
    """What a browser that is there but cannot run raises: a library that is missing, a driver of another version."""
    from selenium.common.exceptions import SessionNotCreatedException, WebDriverException

    return SessionNotCreatedException, WebDriverException


class Browser:
    """One tab of a headless Chromium."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Opens a file in a window of that size, with that colour scheme."""
        from selenium.webdriver.support.ui import WebDriverWait

        self.viewport(width, height)
        self.scheme(dark)
        self.driver.get_log("performance"), self.driver.get_log("browser")
        self.driver.get(path.resolve().as_uri())
        # which may come back while the end of a large page is still read
        WebDriverWait(self.driver, 30, 0.02).until(lambda _: self.js("document.readyState") == "complete")

    def viewport(self, width: int, height: int, scale: float = 1) -> None:
        """The size of the window in CSS pixels; narrow ones count as a phone."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=scale, mobile=width < 600,
        )  # fmt: skip

    def scheme(self, dark: bool) -> None:
        """What prefers-color-scheme says."""
        value = "dark" if dark else "light"
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": value}])

    def command(self, name: str, **parameters: Any) -> Any:
        """A command of Chromium's own protocol."""
        return self.driver.execute_cdp_cmd(name, parameters)

    def js(self, script: str, *arguments: Any) -> Any:
        """The value of a JavaScript expression (a body with `return` if it has several statements)."""
        body = script if "return" in script else f"return ({script})"
        return self.driver.execute_script(body, *arguments)

    def find(self, selector: str) -> Any:
        """The first element that a CSS selector finds."""
        return self.driver.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        """Every element that a CSS selector finds."""
        return self.driver.find_elements("css selector", selector)

    def hover(self, element: Any, dx: int = 0, dy: int = 0) -> None:
        """Moves the pointer over an element."""
        from selenium.webdriver import ActionChains

        self.js("arguments[0].scrollIntoView({block: 'center', inline: 'center'})", element)
        ActionChains(self.driver, duration=0).move_to_element_with_offset(element, dx, dy).perform()

    def press(self, *keys: str) -> None:
        """Presses keys, one after the other, where the focus is."""
        from selenium.webdriver import ActionChains

        ActionChains(self.driver, duration=0).send_keys(*keys).perform()

    def complaints(self) -> list[str]:
        """What the console has said since the page was opened; not what the browser's own pages say there."""
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        return [message for message in said if not message.startswith(OWN_PAGES)]

    def requests(self) -> list[str]:
        """The addresses that the page has asked for since it was opened; not what the browser's own pages ask for."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [each["request"]["url"] for each in sent if not each["documentURL"].startswith(OWN_PAGES)]

    def screenshot(self, path: Path, *, whole: bool = True, scale: float = 1) -> None:
        """A PNG of the whole page (or the window)."""
        import base64

        size = self.command("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": scale}
        picture = self.command(
            "Page.captureScreenshot", **({"captureBeyondViewport": True, "clip": clip} if whole else {})
        )
        path.write_bytes(base64.b64decode(picture["data"]))


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser with a profile of its own, gone afterwards."""
    from selenium import webdriver

    profile = tempfile.mkdtemp(prefix="jvp-chromium-")
    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, CHROMIUM)))
    for switch in (*SWITCHES, f"--user-data-dir={profile}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    try:
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            yield Browser(driver)
        finally:
            driver.quit()
    finally:
        shutil.rmtree(profile, ignore_errors=True)
