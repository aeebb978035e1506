"""Jacobians that are too large for a table: the canvas, its pointer and keys, in a real Chromium."""

from __future__ import annotations

import re

import numpy as np
import pytest
from pictured import banded, report_of, scattered
from selenium.webdriver.common.keys import Keys

from jvpcli.render.html import fragment, page
from jvpcli.render.numbers import number_text

LEFT = 18  # of the picture inside the canvas, beside the strip of v

# What a hover sets in motion is done by the end of the next frame.
IN_NEXT_FRAME = """
const [canvas, x, y] = arguments, done = arguments[arguments.length - 1];
const box = canvas.getBoundingClientRect();
const before = document.querySelector(".jvp-sum").textContent;
requestAnimationFrame(() => {
  canvas.dispatchEvent(new PointerEvent("pointermove", {clientX: box.x + x, clientY: box.y + y, bubbles: true}));
  requestAnimationFrame(() => done(document.querySelector(".jvp-sum").textContent !== before));
});
"""


def said(browser) -> str:
    return browser.js("document.querySelector('.jvp-sum').firstElementChild?.textContent ?? ''")


def point(browser, x: float, y: float) -> None:
    """Moves the pointer to a place of the canvas, in CSS pixels."""
    browser.js(
        """const c = document.querySelector("canvas"), b = c.getBoundingClientRect();
        const at = {clientX: b.x + arguments[0], clientY: b.y + arguments[1], bubbles: true};
        c.dispatchEvent(new PointerEvent("pointermove", at));
        return 0""",
        x,
        y,
    )


def settle(browser) -> None:
    """Waits for two frames."""
    browser.driver.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
    )


def picture_size(browser) -> tuple[float, float]:
    box = browser.js("(({width, height}) => [width, height])(document.querySelector('canvas').getBoundingClientRect())")
    return box[0] - LEFT, box[1] - 4 - 14 - 16


def pixel(browser, x: float, y: float) -> list[int]:
    return browser.js(
        """const copy = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
        copy.drawImage(document.querySelector("canvas"), -Math.round(arguments[0]), -Math.round(arguments[1]));
        return [...copy.getImageData(0, 0, 1, 1).data]""",
        x,
        y,
    )


def test_pointing_at_a_dot_tells_the_entry(show):
    report = banded(500, 5)
    browser = show(page(report))
    settle(browser)
    width, height = picture_size(browser)
    for place in (0.1, 0.37, 0.8):
        point(browser, LEFT + place * width, place * height)
        name, _, number = said(browser).partition(" = ")
        k, i = (int(part.partition("]")[0]) for part in name.split("[")[1:])
        assert abs(k - place * 500) < 6
        assert abs(k - i) <= 2
        indices = report.jacobian["y"]["x"].indices
        [where] = np.flatnonzero((indices[0] == k) & (indices[1] == i))
        assert number == number_text(report.jacobian["y"]["x"].values[where])
    point(browser, LEFT + 0.9 * width, 0.1 * height)
    assert said(browser).endswith(" = 0")


def test_nonzeros_are_coloured_by_sign_and_zeros_are_not(show):
    values = np.zeros((300, 300), np.float32)
    values[:100, :100], values[200:, 200:] = 1.0, -1.0
    browser = show(page(report_of(values)))
    settle(browser)
    width, height = picture_size(browser)
    plus, minus, zero = (
        pixel(browser, LEFT + x * width, y * height) for x, y in ((0.2, 0.2), (0.8, 0.8), (0.2, 0.8))
    )
    assert plus[1] > plus[0]
    assert plus[1] > plus[2]  # green
    assert minus[0] > minus[1]
    assert minus[2] > minus[1]  # purple
    assert max(zero[:3]) - min(zero[:3]) < 12


@pytest.mark.parametrize("dark", [False, True])
def test_the_canvas_follows_the_colour_scheme(show, dark):
    browser = show(page(banded(300)), dark=not dark)
    settle(browser)
    width, _ = picture_size(browser)
    before = pixel(browser, LEFT + 0.9 * width, 20)
    browser.scheme(dark)
    settle(browser)
    after = pixel(browser, LEFT + 0.9 * width, 20)
    assert (sum(after[:3]) < 200) is dark
    assert before != after


def test_edges_are_v_and_the_result(show):
    values = np.random.default_rng(0).normal(size=(120, 80)).astype(np.float32)
    v = np.random.default_rng(1).normal(size=120).astype(np.float32)
    browser = show(page(report_of(values, v=v)))
    settle(browser)
    width, height = picture_size(browser)
    point(browser, LEFT + 40.5 / 80 * width, height + 10)
    assert said(browser).startswith("∂L/∂x[40] = ")
    assert said(browser).endswith(f" = {number_text((v.astype(float) @ values)[40])}")
    point(browser, 5, 30.5 / 120 * height)
    assert said(browser) == f"y[30] = {number_text(values[30].sum())}, weight v[30] = {number_text(v[30])}"


def test_keys_move_and_zoom(show):
    browser = show(page(banded(500, 3)))
    canvas = browser.find("canvas")
    browser.js("document.querySelector('canvas').focus()")
    browser.press(Keys.ARROW_DOWN)
    assert said(browser).startswith("∂y[1]/∂x[0] = ")
    browser.press(Keys.SHIFT + Keys.ARROW_RIGHT)
    assert said(browser).startswith("∂y[1]/∂x[1] = ")
    settle(browser)
    assert "All 500 × 500" in browser.find(".jvp-heat .jvp-quiet").text
    browser.press(Keys.NULL, "+", "+")
    settle(browser)
    note = browser.find(".jvp-heat .jvp-quiet").text
    assert note.startswith("Rows y[1] to y[125], of 500 × 500 entries")  # around y[1], which was pointed at
    assert "a dot an entry" in note
    for _ in range(130):
        browser.press(Keys.ARROW_DOWN)
    settle(browser)
    assert "y[131]" in said(browser)
    assert not browser.find(".jvp-heat .jvp-quiet").text.startswith("Rows y[1] to")  # the window went along
    browser.press("0")
    settle(browser)
    assert "All 500 × 500" in browser.find(".jvp-heat .jvp-quiet").text
    assert canvas.get_attribute("aria-label").startswith("∂y/∂x, 500 by 500 entries.")


def test_fields_do_what_the_pointer_does(show):
    report = banded(400)
    browser = show(page(report))
    row, column = browser.all(".jvp-picker input[type=number]")
    column.clear()
    column.send_keys("7")
    assert said(browser).startswith("∂L/∂x[7] = ")
    row.clear()
    row.send_keys("8")
    assert said(browser).startswith("y[8] = ")
    weight = browser.find(".jvp-picker input[type=text]")
    weight.click()
    browser.press("-3")
    v = np.ones(400)
    v[8] = -3
    jacobian = report.jacobian["y"]["x"]
    expected = np.zeros(400)
    np.add.at(expected, jacobian.indices[1], v[jacobian.indices[0]] * jacobian.values)
    for i in (6, 7, 8, 9):
        column.clear()
        column.send_keys(str(i))
        assert float(said(browser).rpartition(" = ")[2]) == pytest.approx(expected[i], rel=1e-4)
    assert "computed in this page" in browser.find("[data-agreement]").text


def test_dragging_moves_the_window(show):
    browser = show(page(banded(500)))
    settle(browser)
    browser.find("[aria-label='Zoom in']").click()
    browser.find("[aria-label='Zoom in']").click()
    settle(browser)
    from selenium.webdriver import ActionChains

    canvas = browser.find("canvas")
    ActionChains(browser.driver, duration=0).drag_and_drop_by_offset(canvas, -200, -200).perform()
    settle(browser)
    assert not browser.find(".jvp-heat .jvp-quiet").text.startswith("Rows y[0] to y[124]")


def test_a_jacobian_beyond_a_page_is_shown_in_blocks(show):
    values = np.random.default_rng(2).normal(size=(900, 1000)).astype(np.float32)
    values[450:, :500] *= 10
    html = page(report_of(values))
    assert len(html.encode()) < 2_000_000
    browser = show(html)
    settle(browser)
    note = browser.find(".jvp-heat .jvp-quiet").text
    assert "All 900 × 1,000 entries" in note
    assert "3 × 3 entries" in note
    width, height = picture_size(browser)
    point(browser, LEFT + 0.25 * width, 0.75 * height)
    text = browser.find(".jvp-sum").text
    found = re.match(r"Rows y\[(\d+)\] to y\[(\d+)\], columns x\[(\d+)\] to x\[(\d+)\]: the largest entry is (\S+)", text)
    *places, number = found.groups()
    k0, k1, i0, i1 = map(int, places)
    block = values[k0 : k1 + 1, i0 : i1 + 1]
    assert number == number_text(block.flat[np.abs(block).argmax()])
    assert "v is fixed" in browser.find(".jvp-toolbar").text


@pytest.mark.parametrize("report", [banded(4000), scattered(4000, 160_000)], ids=["banded", "scattered"])
def test_four_thousand_squared_stays_small_and_quick(show, report):
    html = page(report)
    assert len(html.encode()) < 2_000_000
    browser = show(html)
    settle(browser)
    canvas = browser.find("canvas")
    for place in (0.2, 0.5, 0.7):
        x, y = LEFT + place * 500, place * 500
        assert browser.driver.execute_async_script(IN_NEXT_FRAME, canvas, x, y)
    assert "All 4,000 × 4,000 entries" in browser.find(".jvp-heat .jvp-quiet").text
    if report.jacobian["y"]["x"].nnz < 20_000:
        facts = browser.find(".jvp-facts").text
        assert "11,998 of 16,000,000 entries not zero" in facts
        assert "bandwidth 3 (1 below, 1 above)" in facts


def test_blocks_are_told_and_outlined(show):
    values = np.kron(np.eye(4), np.ones((60, 50))).astype(np.float32)
    browser = show(page(report_of(values, coo=True)))
    assert "4 diagonal blocks" in browser.find(".jvp-facts").text


def test_a_phone_shows_the_picture_whole(show):
    browser = show(page(banded(500)), width=380, height=700)
    settle(browser)
    assert browser.js("document.documentElement.scrollWidth") == 380
    assert 250 < browser.js("document.querySelector('canvas').getBoundingClientRect().width") <= 380


def test_a_row_and_a_column_are_still_seen(show):
    for values in (np.arange(3000.0).reshape(1, 3000), np.arange(3000.0).reshape(3000, 1)):
        browser = show(page(report_of(values)))
        settle(browser)
        width, height = picture_size(browser)
        assert width > 40
        assert height > 40
        assert "3,000" in browser.find(".jvp-heat .jvp-quiet").text


def test_a_fragment_of_a_large_one_is_as_small(show):
    assert len(fragment(banded(4000))) < 2_000_000
