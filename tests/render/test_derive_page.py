"""The page of `derive` in a real Chromium: which entries a term lights up, against the deltas of the formula in numpy."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pytest
from selenium.webdriver.common.keys import Keys

from jvpcli.answers.derive import explore
from jvpcli.render.html import page
from jvpcli.render.html.formulas import Kinds, math
from jvpcli.request import Request

OUTER = Request("torch.outer(x,x)", {"x": "1,2,3,4"}, command="derive")
OUT_J, OUT_K, IN_I = np.meshgrid(range(4), range(4), range(4), indexing="ij")  # the axes of ∂y_jk/∂x_i
PIECES = {
    "δ_ij·x_k": OUT_J == IN_I,
    "+ δ_ik·x_j": OUT_K == IN_I,
    "x_k, if i = j ≠ k": (OUT_J == IN_I) & (OUT_K != IN_I),
    "x_j, if i = k ≠ j": (OUT_K == IN_I) & (OUT_J != IN_I),
    "2·x_i, if i = j = k": (OUT_J == IN_I) & (OUT_K == IN_I),
    "0, otherwise": (OUT_J != IN_I) & (OUT_K != IN_I),
}


def lit(browser) -> np.ndarray:
    return np.array(browser.js("[...document.querySelectorAll('.jvp-entry')].map(e => e.classList.contains('jvp-on'))"))


def said(browser) -> str:
    return browser.js("document.querySelector('.jvp-sum').textContent")


def names(browser) -> list[str]:
    return browser.js("[...document.querySelectorAll('[data-light]')].map(e => e.ariaLabel)")


def test_a_term_lights_up_the_entries_that_it_is_about(show):
    browser = show(page(explore(OUTER)))
    assert names(browser) == list(PIECES)
    for piece, (name, table) in zip(browser.all("[data-light]"), PIECES.items(), strict=True):
        browser.hover(piece)
        assert (lit(browser) == table.reshape(-1)).all(), name
        assert said(browser) == f"{name}It is about {table.sum()} of 64 entries of ∂y/∂x."
    browser.hover(browser.find(".jvp-title"))
    assert said(browser).startswith("∂L/∂x[0] = ")


def test_an_entry_lights_up_its_terms(show):
    browser = show(page(explore(OUTER)))
    cells = browser.all(".jvp-entry")
    for at in ((0, 0, 0), (0, 1, 0), (1, 0, 0), (2, 1, 0)):
        browser.hover(cells[np.ravel_multi_index(at, (4, 4, 4))])
        shown = browser.js("[...document.querySelectorAll('[data-light].jvp-on')].map(e => e.ariaLabel)")
        assert shown == [name for name, table in PIECES.items() if table[at]]


def test_the_keyboard_reaches_every_term(show):
    browser = show(page(explore(OUTER)))
    for name, table in PIECES.items():
        browser.press(Keys.TAB)
        assert browser.js("document.activeElement.ariaLabel") == name
        assert (lit(browser) == table.reshape(-1)).all()
    browser.hover(browser.all(".jvp-entry")[0])
    browser.hover(browser.find(".jvp-title"))  # what has the focus stays
    assert said(browser).startswith("0, otherwise")


@pytest.mark.parametrize(
    ("expression", "x", "tables"),
    [
        ("x.cumsum(0)*x.flip(0)", "1,2,3", [np.tri(3), np.eye(3)[::-1]]),
        ("x.sum()*torch.ones(2)", "1,2,3", [np.ones((2, 3))]),
        ("torch.softmax(x, 0)", "0,0", [np.eye(2), np.ones((2, 2)), np.eye(2), 1 - np.eye(2)]),
        ("x[1:]*2", "1,2,3", [np.eye(3)[1:]]),
        ("x*0", "1,2", None),
        ("x.sum()", "3", [np.ones(1)]),
    ],
)
def test_where_the_terms_of_other_functions_apply(expression, x, tables):
    found = explore(Request(expression, {"x": x}, command="derive"))
    applying = found.applying["y"]["x"]
    if tables is None:
        assert found.report.jacobian["y"]["x"].formula == "0"
        assert applying.terms == ()
        assert "data-light" not in page(found).partition("<script>")[0]
        return
    mine = (*applying.terms, *applying.cases)
    for table, want in zip(mine, tables, strict=False):
        np.testing.assert_array_equal(table, want.astype(bool))
    jacobian = found.numbers.jacobian["y"]["x"].value
    assert not jacobian[~np.logical_or.reduce(applying.terms)].any()  # where no term applies there is nothing


def test_a_picture_of_many_entries_is_lit_too(show):
    browser = show(page(explore(Request("x*x.flip(0)", {"x": "torch.arange(50.)"}, command="derive"))))
    canvas = "return document.querySelector('canvas').toDataURL()"
    settled = "return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    browser.js(settled)
    before = browser.js(canvas)
    browser.all("[data-light]")[0].click()
    browser.js(settled)
    assert browser.js(canvas) != before
    assert "It is about 50 of 2,500 entries" in said(browser)


def test_what_has_no_form_says_why(show):
    browser = show(page(explore(Request("torch.linalg.qr(x)[1]", {"x": "1,2;3,4"}, command="derive"))))
    assert names(browser) == []
    assert "qr has no index form" in browser.find(".jvp-words").text
    assert "There is no form to verify." in browser.find("[aria-label=Verified]").text


def test_everything_that_is_printed_stands_there(show):
    request = Request(
        "torch.tanh(W @ x)", shape={"W": "m,n", "x": "n"}, tangent=((None, "ones"),), hessian=True, command="derive"
    )
    found = explore(request)
    browser = show(page(found))
    code = browser.js("[...document.querySelectorAll('.jvp-code')].map(e => e.textContent)")
    products = [*found.report.vjp.values(), *found.report.jvp.values()]
    products += [p for others in found.report.hessian.values() for p in others.values()]
    assert set(code) == {p.torch for p in products} | {p.given.torch for p in products} | {found.report.code}
    titles = browser.js("[...document.querySelectorAll('section.jvp-section > h2')].map(e => e.textContent)")
    assert titles == [
        "The function", "The vector-Jacobian product, for any v", "For v = ones", "The Jacobian-vector product, for any u_W, u_x",
        "For u_W = ones, u_x = zeros", "The second derivative, for any v", "The second derivative, for v = ones", "The result",
        "The product with the tangent (JVP)", "How", "Verified", "As a torch.autograd.Function",
    ]  # fmt: skip
    assert "m = 3, n = 4" in browser.find("[aria-label=Verified]").text
    letters = found.report.indices
    assert f"{letters['W'][0]}=3" in browser.find(".jvp-hero svg").get_attribute("textContent")


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_all_of_it(show, dark):
    inputs = {"W": "1,2;3,4", "x": "1,2", "b": "1,1"}
    request = Request("torch.tanh(W @ x + b)*x.sum()", inputs, hessian=True, command="derive")
    browser = show(page(explore(request)), width=380, height=700, dark=dark)
    assert browser.js("document.documentElement.scrollWidth") == 380


def test_nothing_of_the_user_s_becomes_markup():
    evil = "x['<img src=q onerror=1>' != ''] * 1"
    assert "<img" not in page(explore(Request(evil, {"x": "1,2"}, command="derive")))


class Texts(HTMLParser):
    """The text of MathML, with a stroke for a fraction."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_data(self, data: str) -> None:
        self.found.append(data)


RAISED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹ᐟᵀ", "−0123456789/T")


@pytest.mark.parametrize(
    "text",
    [
        "∂L/∂x_i = Σ_k v_ik·x_k + Σ_j v_ji·x_j",
        "−1/2·Σ_ij one_hot(torch.tensor([0,2])_i)_j·log_softmax(z_i•)_j",
        "cumsum[0]ᵀ(v_•·flip[0](x)_•)_i + pad[(1, 1)](x)_i",
        "(v + vᵀ)·x",
        "2·sum(x)·𝟏 − ‖x‖",
        "i = j ≠ k, l = m",
        "√(Σ_i x_i²)·x_j⁻¹ᐟ²/(1 + |x_j|)",
        "({x_i} if [x_i > 0] else −1)".replace("{", "").replace("}", ""),
        "∂²L/∂x_i∂x_j = v·[not [x_i < 2]]",
        "∂L/∂x_i = Re v_i · ∂(Re y_i)/∂x_i",
        "x^(y_i − 1)·ψ′(x_i)·2.5e-05",
        "(H[x,w] u)_i = Σ_j ∂²L/∂x_i∂w_j · u_j",
    ],
)
def test_a_formula_keeps_all_that_it_says(text):
    reader = Texts()
    reader.feed(math(text, Kinds({"x": "jvp-in", "v": "jvp-out", "v_y": "jvp-out"})))
    shown = re.sub(r"[\s\xa0()/_^]", "", "".join(reader.found))  # brackets around a fraction's parts go
    assert shown == re.sub(r"[\s()/_^]", "", text.translate(RAISED).replace("Σ", "∑").replace("√", ""))


@pytest.mark.parametrize("text", ["x_i +", "a ] b", "f(x", "", "x_i = = y", "<b>", "torch.tensor([1"])
def test_what_is_no_formula_stands_as_it_is(text):
    shown = math(text, Kinds())
    assert shown.startswith("<code>")
    assert "<b>" not in shown
