"""The page of `inspect` in a real Chromium: what is pointed at, typed and shown, against torch's own numbers."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from selenium.webdriver.common.keys import Keys

from jvpcli.answers.inspect import inspect
from jvpcli.render.html import page
from jvpcli.render.numbers import index_text, number_text
from jvpcli.request import Request

OUTER = Request("torch.outer(x,x)", {"x": "1,2,3,4"})
PROBLEMS = {
    "outer": OUTER,
    "wide": Request(
        "w @ x - x[0]", {"x": "1,-2,0.5", "w": "1,0,-2;0,1,1e-6"}, wrt=("x",), grad_outputs=((None, "3,-0.25"),)
    ),
    "matrix": Request("x.T @ x", {"x": "1,2;3,-4;0,5"}, grad_outputs=((None, "1,2;3,4"),)),
    "scalar": Request("(x**2).sum()", {"x": "1,2,3"}, grad_outputs=((None, "2"),)),
    "from a number": Request("x * torch.tensor([1., 0., -2.])", {"x": "3"}),
}


def factor(number: float) -> str:
    text = number_text(number)
    return f"({text})" if text.startswith("-") else text


def sums(report, y: str = "y", x: str = "x") -> list[str]:
    """Every entry of the result written out, from the report's arrays by numpy."""
    jacobian, v = report.jacobian[y][x].value, report.grad_outputs[y].value
    in_shape = report.inputs[x].shape
    matrix = jacobian.reshape(v.size, -1)
    lines = []
    for i, column in enumerate(matrix.T):
        pairs = [(w, d) for w, d in zip(v.reshape(-1), column, strict=True) if w * d != 0]
        total = number_text(sum(float(w) * float(d) for w, d in pairs))
        terms = " + ".join(f"{factor(w)}·{factor(d)}" for w, d in pairs)
        lines.append(f"∂L/∂{x}{index_text(i, in_shape)} = " + (f"{terms} = {total}" if pairs else "0"))
    return lines


def said(browser) -> str:
    return browser.js("document.querySelector('.jvp-sum').firstElementChild.textContent")


def lit(browser, kind: str) -> list[str]:
    return browser.js("[...document.querySelectorAll(arguments[0])].map(e => e.textContent)", f".jvp-on.jvp-{kind}")


@pytest.mark.parametrize("name", PROBLEMS)
def test_hovering_a_result_writes_its_sum_out(show, name):
    report = inspect(PROBLEMS[name])
    browser = show(page(report))
    results = browser.all(".jvp-result")
    expected = sums(report)
    assert len(results) == len(expected)
    for cell, line in zip(results, expected, strict=True):
        browser.hover(cell)
        assert said(browser) == line


def test_what_makes_an_entry_lights_up(show):
    report = inspect(OUTER)
    browser = show(page(report))
    matrix = report.jacobian["y"]["x"].value.reshape(16, 4)
    for i, cell in enumerate(browser.all(".jvp-result")):
        browser.hover(cell)
        column = matrix[:, i]
        assert lit(browser, "entry") == [number_text(d) for d in column if d]
        assert len(browser.all(".jvp-weight.jvp-on")) == np.count_nonzero(column)
        assert lit(browser, "result") == ["20"]
        assert [text.partition("=")[0] for text in lit(browser, "label-in")] == [f"x[{i}]"]


def test_hovering_an_output_lights_its_row(show):
    browser = show(page(inspect(OUTER)))
    browser.hover(browser.all(".jvp-label-out")[6])  # y[1,2] = x_1 x_2
    assert said(browser) == "y[1,2] = 6, weight v[1,2] = 1"
    assert lit(browser, "entry") == ["3", "2"]
    assert "∂/∂x[1] = 3, ∂/∂x[2] = 2" in browser.find(".jvp-sum").text


def test_hovering_an_entry_names_the_derivative(show):
    browser = show(page(inspect(OUTER)))
    cells = browser.all(".jvp-entry")
    browser.hover(cells[6 * 4 + 1])
    assert said(browser) == "∂y[1,2]/∂x[1] = 3"
    assert "v[1,2]·∂y[1,2]/∂x[1] = 1·3 = 3" in browser.find(".jvp-sum").text
    browser.hover(cells[6 * 4 + 0])
    assert said(browser) == "∂y[1,2]/∂x[0] = 0"


def test_leaving_returns_to_what_has_the_focus(show):
    browser = show(page(inspect(OUTER)))
    browser.all(".jvp-result")[2].click()
    browser.hover(browser.all(".jvp-entry")[0])
    assert said(browser).startswith("∂y[0,0]/∂x[0]")
    browser.hover(browser.find(".jvp-title"))
    assert said(browser).startswith("∂L/∂x[2] = ")


def test_the_keyboard_goes_where_the_pointer_goes(show):
    report = inspect(OUTER)
    browser = show(page(report))
    expected = sums(report)
    browser.js("document.querySelector('.jvp-result').focus()")
    for line in expected:
        assert said(browser) == line
        browser.press(Keys.ARROW_RIGHT)
    browser.press(Keys.PAGE_UP, Keys.HOME, Keys.ARROW_DOWN)
    assert said(browser) == "y[0,0] = 1, weight v[0,0] = 1"
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    assert said(browser) == "∂y[0,1]/∂x[0] = 2"
    assert browser.js("document.activeElement.getAttribute('aria-label')") == "∂y[0,1]/∂x[0] = 2"
    assert browser.js("document.querySelectorAll('[role=grid] [tabindex=\"0\"]').length") == 1


def test_tab_reaches_the_grid_once_and_leaves_it(show):
    browser = show(page(inspect(OUTER)))
    stops = []
    for _ in range(8):
        browser.press(Keys.TAB)
        stops.append(browser.js("document.activeElement.closest('[role=grid]') !== null"))
    first = stops.index(True)
    assert not any(stops[first + 1 : first + 3])


def type_weights(browser, weights: np.ndarray) -> None:
    for number, weight in enumerate(weights.reshape(-1)):
        field = browser.all(".jvp-weight input")[number]
        field.click()
        browser.press(str(weight))


@pytest.mark.parametrize("name", ["outer", "wide", "matrix", "scalar"])
def test_editing_v_gives_what_jvp_gives(show, name):
    request = PROBLEMS[name]
    report = inspect(request)
    browser = show(page(report))
    shape = report.outputs["y"].shape
    weights = np.round(np.random.default_rng(3).normal(size=shape), 2)
    type_weights(browser, weights)
    edited = inspect(replace(request, grad_outputs=((None, weights.tolist()),)))
    wanted = edited.vjp["x"].value.reshape(-1)
    shown = [float(cell.text) for cell in browser.all(".jvp-result")]
    np.testing.assert_allclose(shown, wanted, rtol=1e-4, atol=1e-5)
    total = eval(browser.find("[data-total=x]").text)
    np.testing.assert_allclose(np.ravel(total), wanted, rtol=1e-4, atol=1e-5)
    loss = float((edited.outputs["y"].value * weights).sum())
    assert f"L = ⟨v, y⟩ = {number_text(loss)}" in browser.find("[data-loss]").text


def test_what_is_no_number_is_marked_and_changes_nothing(show):
    browser = show(page(inspect(OUTER)))
    field = browser.all(".jvp-weight input")[0]
    field.click()
    browser.press("1x")
    assert field.get_attribute("aria-invalid") == "true"
    assert [cell.text for cell in browser.all(".jvp-result")] == ["20"] * 4
    browser.press(Keys.ENTER)
    assert field.get_attribute("value") == "1"
    assert field.get_attribute("aria-invalid") is None


def test_arrows_leave_a_field_only_at_its_ends(show):
    browser = show(page(inspect(OUTER)))
    field = browser.all(".jvp-weight input")[3]
    field.click()
    browser.press("12", Keys.ARROW_LEFT, "3")
    assert field.get_attribute("value") == "132"
    browser.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert said(browser).startswith("y[0,3]")
    assert browser.js("document.activeElement.tagName") == "DIV"


def test_buttons_set_v(show):
    browser = show(page(inspect(replace(OUTER, grad_outputs=((None, "onehot:0,0"),)))))
    buttons = {button.text: button for button in browser.all(".jvp-toolbar button")}
    assert [cell.text for cell in browser.all(".jvp-result")] == ["2", "0", "0", "0"]
    buttons["ones"].click()
    assert [cell.text for cell in browser.all(".jvp-result")] == ["20"] * 4
    browser.hover(browser.all(".jvp-label-out")[6])
    onehot = browser.find(".jvp-toolbar button:last-child")
    assert onehot.text == "one-hot at y[1,2]"
    onehot.click()
    assert [cell.text for cell in browser.all(".jvp-result")] == ["0", "3", "2", "0"]
    buttons["as given"].click()
    assert [cell.text for cell in browser.all(".jvp-result")] == ["2", "0", "0", "0"]


@pytest.mark.parametrize("view", [1, 2])
def test_slices_hold_the_same_entries(show, view):
    report = inspect(PROBLEMS["matrix"])
    browser = show(page(report))
    before = sorted(cell.get_attribute("aria-label") for cell in browser.all(".jvp-entry"))
    browser.all(".jvp-tab")[view].click()
    assert sorted(cell.get_attribute("aria-label") for cell in browser.all(".jvp-entry")) == before
    slices = [card for card in browser.all(".jvp-card") if card.find_elements("css selector", ".jvp-entry")]
    first = slices[0].find_elements("css selector", ".jvp-entry")
    jacobian = report.jacobian["y"]["x"].value
    expected = jacobian[:, :, 0, 0] if view == 1 else jacobian[0, 0]
    assert [cell.text for cell in first] == [number_text(d) for d in expected.reshape(-1)]
    expected_sums = sums(report)
    for cell, line in zip(browser.all(".jvp-result"), expected_sums, strict=True):
        browser.hover(cell)
        assert said(browser) == line


def test_several_outputs_share_their_v_and_add_up(show):
    request = Request(
        "(x.sum(), torch.outer(x,w))", {"x": "1,2", "w": "3,4,5"}, grad_outputs=((None, "2"), (None, "ones"))
    )
    browser = show(page(inspect(request)))
    assert browser.find("[data-total=x]").text == "[14., 14.]"
    fields = browser.all("[aria-label='∂y1/∂x'] .jvp-weight input")
    fields[0].click()
    browser.press("10")
    weights = [[10.0, 1, 1], [1, 1, 1]]
    edited = inspect(replace(request, grad_outputs=((None, "2"), (None, weights))))
    for name in ("x", "w"):
        np.testing.assert_allclose(eval(browser.find(f"[data-total={name}]").text), edited.vjp[name].value)
    assert browser.find("[aria-label='∂y1/∂w'] .jvp-weight input").get_attribute("value") == "10"


def test_infinite_and_undefined_numbers_are_shown(show):
    report = inspect(
        Request("torch.log(x)", {"x": "0,4"}, grad_outputs=((None, "0,nan"),))
    )
    browser = show(page(report))
    entries = [number_text(d) for d in report.jacobian["y"]["x"].value.reshape(-1)]
    assert "inf" in entries
    assert [cell.text for cell in browser.all(".jvp-entry")] == entries
    assert [field.get_attribute("value") for field in browser.all(".jvp-weight input")] == ["0", "nan"]


@pytest.mark.parametrize(
    "request_",
    [
        Request("x * (1+2j)", {"x": "1+1j,2"}, dtype="complex64"),
        Request("x.abs()", {"x": "3+4j,1"}, dtype="complex64"),
        Request("torch.fft.rfft(x)", {"x": "1,2,3"}),
        Request("x[:0] * 2", {"x": "1,2"}),
        Request("x * 2", {"x": "torch.zeros(0)"}),
        Request("torch.sin(x)", {"x": "3"}),
        Request("(x, x*2)", {"x": "1,2"}, grad_outputs=(("y0", "none"), ("y1", "ones"))),
        Request("torch.stack([x, -x, x*x, x+1, x-1]).reshape(5, 1, 3)", {"x": "1,2,3"}),
    ],
    ids=lambda r: r.expression,
)
def test_every_kind_of_report_opens_without_complaint(show, request_):
    browser = show(page(inspect(request_)))
    for tab in browser.all(".jvp-tab"):
        tab.click()
    for cell in browser.all(".jvp-result, .jvp-entry")[:6]:
        browser.hover(cell)


def test_a_complex_sum_is_written_out(show):
    browser = show(page(inspect(Request("x.abs()", {"x": "3+4j,1"}, dtype="complex64"))))
    browser.hover(browser.all(".jvp-result")[0])
    assert said(browser) == "∂L/∂x[0] = 1·(0.6+0.8j) = 0.6+0.8j"


NASTY = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>&amp;\u2028"


def test_what_comes_from_the_user_stays_text(show):
    report = inspect(Request("torch.outer(x,x)", {"x": "1,2"}))
    evil = replace(
        report,
        expression=NASTY,
        inputs={NASTY: report.inputs["x"]},
        vjp={NASTY: report.vjp["x"]},
        jacobian={"y": {NASTY: report.jacobian["y"]["x"]}},
        contraction={"y": {NASTY: report.contraction["y"]["x"]}},
        grad_outputs={"y": replace(report.grad_outputs["y"], source=NASTY)},
    )
    browser = show(page(evil))
    assert browser.js("window.hacked") is None
    assert browser.find(".jvp-title").get_attribute("textContent") == NASTY
    browser.hover(browser.all(".jvp-entry")[0])
    assert said(browser) == f"∂y[0,0]/∂{NASTY}[0] = 2"
    assert browser.js("window.hacked") is None
    assert browser.js("document.querySelectorAll('img').length") == 0


ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=30) | st.text("<>&\"'`/!-{}%#=\\ script\u2028", max_size=30)


@settings(max_examples=60, deadline=None)
@given(ANY_TEXT, ANY_TEXT)
def test_no_text_becomes_markup(expression, name):
    """The page has the same elements and attributes whatever is written in it."""
    report = inspect(Request("torch.outer(x,x)", {"x": "1,2"}))
    other = replace(
        report,
        expression=expression,
        inputs={name: report.inputs["x"]},
        vjp={name: report.vjp["x"]},
        jacobian={"y": {name: report.jacobian["y"]["x"]}},
        contraction={"y": {name: report.contraction["y"]["x"]}},
    )

    def markup(html: str) -> list[tuple[str, tuple[str, ...]]]:
        found = []
        parser = HTMLParser()
        parser.handle_starttag = lambda tag, attributes: found.append((tag, tuple(key for key, _ in attributes)))
        parser.feed(html)
        return [element for element in found if element[0] not in MATH]

    assert markup(page(other)) == markup(page(report))


MATH = {"msub", "msup", "mi", "mo", "mn", "mrow", "mfrac", "munder", "mtext", "mspace", "msqrt", "math", "code"}
"""A formula whose name is none stands there as code instead."""


def test_a_name_from_right_to_left_turns_nothing_round(show):
    browser = show(page(inspect(Request("שלום * w", {"שלום": "1,2", "w": "3,4"}))))
    line = browser.find(".jvp-total")
    assert line.get_attribute("textContent") == "∂L/∂\u2068שלום\u2069[0]"
    places = browser.js(
        """const text = document.querySelector(".jvp-total").firstChild, range = document.createRange();
        return [...text.data].map((c, at) => { range.setStart(text, at); range.setEnd(text, at + 1);
          return [c, range.getBoundingClientRect().left]; })"""
    )
    shown = "".join(c for c, _ in sorted(places, key=lambda place: place[1]) if c not in "\u2068\u2069")
    assert shown == "∂L/∂" + "שלום"[::-1] + "[0]"


def test_the_policy_lets_no_other_script_run(show, tmp_path):
    html = page(inspect(OUTER)).replace("</article>", "<script>window.hacked = 1</script></article>")
    browser = show(html)
    assert browser.js("window.hacked") is None
    assert "Content Security Policy" in " ".join(browser.complaints())


def luminance(colour: str) -> float:
    channels = [float(c) / 255 for c in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    bright, dim = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def test_both_colour_schemes_read_well(show):
    browser = show(page(inspect(OUTER)))
    grounds = []
    for dark in (False, True):
        browser.scheme(dark)
        ground = browser.js("getComputedStyle(document.querySelector('.jvp')).backgroundColor")
        grounds.append(luminance(ground))
        for selector in (".jvp-title", ".jvp-quiet", ".jvp-label-out", ".jvp-label-in", ".jvp-kicker", "math .jvp-out"):
            ink = browser.js("getComputedStyle(document.querySelector(arguments[0])).color", selector)
            assert contrast(ink, ground) >= 4.5, (selector, dark)
    assert grounds[0] > 0.8
    assert grounds[1] < 0.05


def test_a_phone_shows_all_of_it(show):
    browser = show(page(inspect(OUTER)), width=380, height=700)
    assert browser.js("document.documentElement.scrollWidth") == 380
    assert browser.js("innerWidth") == 380
    sizes = browser.js("[...document.querySelectorAll('.jvp-cell')].map(e => parseFloat(getComputedStyle(e).fontSize))")
    assert min(sizes) >= 12
    cell = browser.all(".jvp-result")[3]
    browser.js("arguments[0].focus()", cell)
    bottom = browser.js("arguments[0].getBoundingClientRect().bottom", cell)
    assert 0 < bottom <= 700
    panel = browser.js("document.querySelector('.jvp-sum').getBoundingClientRect()")
    assert panel["top"] >= bottom - 1 or panel["bottom"] <= bottom  # what is said does not cover what it is about
    assert said(browser) == sums(inspect(OUTER))[3]


def test_on_paper_there_are_no_controls_and_nothing_is_cut(show):
    browser = show(page(inspect(OUTER)), dark=True)
    browser.command("Emulation.setEmulatedMedia", media="print")
    try:
        assert browser.js("getComputedStyle(document.querySelector('.jvp-toolbar')).display") == "none"
        assert luminance(browser.js("getComputedStyle(document.querySelector('.jvp')).backgroundColor")) > 0.9
        assert luminance(browser.js("getComputedStyle(document.querySelector('.jvp-title')).color")) < 0.1
        assert len(browser.command("Page.printToPDF")["data"]) > 10_000
    finally:
        browser.command("Emulation.setEmulatedMedia", media="")


def test_grids_are_grids_for_assistive_technology(show):
    browser = show(page(inspect(OUTER)))
    assert browser.js("document.querySelectorAll('[role=row]').length") == 18
    assert browser.js("[...document.querySelectorAll('[role=grid] > *')].every(e => e.role === 'row')")
    kinds = ["gridcell", "columnheader", "rowheader"]
    assert browser.js(
        "[...document.querySelectorAll('[role=row] > *')].every(e => arguments[0].includes(e.role))", kinds
    )
    assert browser.js("[...document.querySelectorAll('input')].every(e => e.ariaLabel || e.labels.length)")
    live = browser.find(".jvp-sum")
    assert live.get_attribute("aria-live") == "polite"
    ids = browser.js("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_without_javascript_the_rest_is_there():
    html = page(inspect(OUTER))
    before = html[: html.index('<script type="application/json"')]
    for text in ("torch.outer(x,x)", "[20., 20., 20., 20.]", "<svg", "<math", "einsum("):
        assert text in before


def test_the_sum_says_how_many_terms_it_leaves_out(show):
    x = torch.arange(1.0, 31.0)
    browser = show(page(inspect(Request("x.expand(30)", {"x": x[:1]}))))
    browser.hover(browser.all(".jvp-result")[0])
    assert said(browser).endswith("+ … (10 more terms) = 30")
