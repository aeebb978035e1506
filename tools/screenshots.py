"""Makes the pictures of docs/pictures.md and docs/serve.md: real pages in a real Chromium, light and dark.

    python tools/screenshots.py
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests" / "render"), str(ROOT / "tests")]

import browser  # noqa: E402

from jvpcli.answers.inspect import inspect  # noqa: E402
from jvpcli.answers.trace import trace  # noqa: E402
from jvpcli.render.html import page  # noqa: E402
from jvpcli.request import Request  # noqa: E402
from serving import served  # noqa: E402

TARGET = ROOT / "docs" / "images"
WIDTH, HEIGHT = 1180, 1000


def point_at_a_result(tab: browser.Browser) -> None:
    """The pointer stands on an entry of the result."""
    tab.hover(tab.all(".jvp-result")[2])


def go_back_a_step(tab: browser.Browser) -> None:
    """The cotangent has come through the last operations."""
    for _ in range(7):
        tab.find("[data-go=next]").click()


def point_at_a_dot(tab: browser.Browser) -> None:
    """A part of the band is shown large, with an entry of the result held."""
    for field in tab.all(".jvp-picker input[type=number]"):
        field.clear()
        field.send_keys("700")
    for _ in range(6):
        tab.find("[aria-label='Zoom in']").click()


PAGES: dict[str, tuple[Callable[[], str], Callable[[browser.Browser], None]]] = {
    "inspect-page": (lambda: page(inspect(Request("torch.outer(x,x)", {"x": "1,2,3,4"}))), point_at_a_result),
    "trace-page": (
        lambda: page(trace(Request("h = torch.tanh(W @ x); (h**2).sum()", {"W": "1,-1;0.5,2;0,1", "x": "0.5,1"}))),
        go_back_a_step,
    ),
    "banded-page": (
        lambda: page(inspect(Request("p = F.pad(x, (1, 1)); p[2:] - 2*x + p[:-2]**2", {"x": "torch.linspace(-1, 1, 2048)"}))),
        point_at_a_dot,
    ),
}
"""By the name of its picture: how a page is made, and what is done in it before it is taken."""


def take_the_page_of_serve(tab: browser.Browser, folder: Path) -> None:
    """The page as it opens; in the dark, with an error in place and the answer before it."""
    settle = "setTimeout(arguments[0], 3000)"
    with served(folder) as running:
        tab.viewport(WIDTH, HEIGHT)
        tab.scheme(False)
        tab.driver.get(running.address)
        tab.driver.execute_async_script(settle)
        tab.screenshot(TARGET / "serve-page-light.png", whole=False)
        tab.scheme(True)
        tab.find("#expression").send_keys(" + torch.ones(4,3)")
        tab.driver.execute_async_script(settle)
        tab.screenshot(TARGET / "serve-page-dark.png", whole=False)


def main() -> None:
    """Writes every picture in both colour schemes."""
    why = browser.missing()
    if why:
        sys.exit(why)
    with browser.chromium() as tab, tempfile.TemporaryDirectory() as folder:
        for name, (make, act) in PAGES.items():
            path = Path(folder) / f"{name}.html"
            path.write_text(make(), encoding="utf-8")
            for scheme in ("light", "dark"):
                tab.open(path, width=WIDTH, height=HEIGHT, dark=scheme == "dark")
                act(tab)
                tab.driver.execute_async_script("setTimeout(arguments[0], 400)")
                tab.screenshot(TARGET / f"{name}-{scheme}.png")
        take_the_page_of_serve(tab, Path(folder))


if __name__ == "__main__":
    main()
