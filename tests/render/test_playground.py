"""The page of `jvp serve` in a real Chromium: what is typed is answered, in place, by keys and pointer, wide and narrow."""

from __future__ import annotations

import json
import time
from urllib.parse import parse_qsl, urlsplit

import pytest
from selenium.webdriver.common.keys import Keys

from jvpcli.render.html.playground import EXAMPLES
from processes import PATIENCE
from serving import served


@pytest.fixture(scope="module")
def running(tmp_path_factory, chromium):
    with served(tmp_path_factory.mktemp("runtime")) as one:
        yield one


@pytest.fixture
def page(running, chromium):
    """Opens the page with its token and something behind it; at the end nothing may have complained or asked elsewhere."""

    def open_page(more: str = "", *, width: int = 1200, height: int = 900, dark: bool = False):
        chromium.viewport(width, height)
        chromium.scheme(dark)
        chromium.driver.get("about:blank")
        chromium.driver.get_log("performance"), chromium.driver.get_log("browser")
        chromium.driver.get(running.address + more)
        answered(chromium)
        return chromium

    yield open_page
    assert chromium.complaints() == []
    here = f"http://127.0.0.1:{running.port}/"
    assert [url for url in chromium.requests() if not url.startswith((here, "data:", "about:", "chrome"))] == []


def until(browser, condition: str, *arguments) -> None:
    deadline = time.monotonic() + PATIENCE
    while not browser.js(f"return {condition}", *arguments):
        assert time.monotonic() < deadline, f"it does not come to that: {condition}"
        time.sleep(0.02)


def answered(browser, command: str = "inspect", title: str | None = None) -> None:
    """Waits for an answer to what is in the form."""
    until(
        browser,
        "document.getElementById('failure').hidden && !document.getElementById('answer').hasAttribute('aria-busy')"
        " && document.getElementById('answer').dataset.command === arguments[0]"
        " && (arguments[1] === null || document.querySelector('#answer .jvp-title')?.textContent === arguments[1])",
        command, title,
    )  # fmt: skip


def failed(browser, text: str) -> None:
    """Waits for a failure that says something."""
    shown = "!document.getElementById('failure').hidden && document.getElementById('failure').textContent.includes(arguments[0])"
    until(browser, shown, text)


def write(browser, selector: str, text: str) -> None:
    field = browser.find(selector)
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(text)


RESULT = "JSON.stringify(document.querySelector('[data-total=x]').textContent.match(/-?[\\d.]+/g).map(Number))"


def result(browser) -> list[float]:
    return json.loads(browser.js(f"return {RESULT}"))


def becomes(browser, numbers: list[float]) -> None:
    """Waits for a result."""
    until(browser, f"{RESULT} === JSON.stringify(arguments[0])", numbers)


def put(browser, text: str) -> None:
    """Puts a text into the field for the expression, as pasting does."""
    browser.js(
        "const e = document.getElementById('expression'); e.value = arguments[0];"
        " return e.dispatchEvent(new Event('input', {bubbles: true}))",
        text,
    )


def test_the_question_first(page):
    browser = page()
    assert browser.js("return document.getElementById('expression').value") == EXAMPLES[0]["expression"] == "torch.outer(x, x)"
    assert result(browser) == [20, 20, 20, 20]  # 2 Σ x, for every entry
    assert "token" not in browser.driver.current_url


def test_typing_is_answered(page):
    browser = page()
    write(browser, "#expression", "x * x * x")
    answered(browser, title="x * x * x")
    write(browser, ".play-value", "1,2")
    becomes(browser, [3, 12])
    write(browser, "#v", "10,-1")
    becomes(browser, [30, -12])


def test_v_is_edited_in_the_answer_too(page):
    browser = page("&e=x**2&x.x=1,2")
    weight = browser.find(".jvp-weight input, .jvp-weight")
    weight.click()
    browser.press("5", Keys.ENTER)
    until(browser, "document.querySelector('[data-agreement]').textContent.startsWith('v was edited')")


def test_commands_are_switched(page):
    browser = page("&e=torch.tanh(x).sum()&x.x=0.5,1")
    for name in ("trace", "hessian", "derive", "check", "inspect"):
        browser.find(f"input[name=command][value={name}]").click()
        answered(browser, name)
        assert browser.find("#answer").text.startswith(f"jvp {name}")
        assert browser.find("#u").is_enabled() is (name != "trace")


def test_a_link_shows_the_question(page):
    browser = page()
    write(browser, "#expression", "W @ x + 1")
    browser.find("#add").click()
    browser.press("W", Keys.TAB, "1,2,3,4;5,6,7,8")
    answered(browser, title="W @ x + 1")
    link = browser.driver.current_url
    words = parse_qsl(urlsplit(link).fragment)
    inputs = [("x.x", "1,2,3,4"), ("x.W", "1,2,3,4;5,6,7,8")]
    assert words == [("c", "inspect"), ("e", "W @ x + 1"), *inputs, ("v", "torch.ones_like(y)")]
    browser.driver.get("about:blank")
    browser.driver.get(link)
    answered(browser, title="W @ x + 1")
    shown = [field.get_attribute("value") for field in browser.all(".play-input input")]
    assert shown == ["x", "1,2,3,4", "W", "1,2,3,4;5,6,7,8"]


def test_an_error_stands_in_place_and_is_recovered_from(page):
    browser = page()
    write(browser, "#expression", "1 + torch.outr(x, x)")
    failed(browser, "There is no `torch.outr`")
    assert browser.js("return document.querySelector('.play-mirror mark').textContent") == "torch.outr"
    assert browser.js("return document.querySelector('#failure mark').textContent") == "torch.outr"
    assert browser.find("#expression").get_attribute("aria-invalid") == "true"
    assert result(browser) == [20, 20, 20, 20]  # the last answer stays
    write(browser, "#expression", "1 + torch.outer(x, x)")
    answered(browser, title="1 + torch.outer(x, x)")
    assert browser.find("#expression").get_attribute("aria-invalid") is None


def test_the_guilty_part_stands_under_its_letters(page):
    """The mark lies exactly where the field shows the same letters, beyond characters of two units too."""
    browser = page()
    put(browser, 'x + len("𝔸") + torch.outr(x)')
    failed(browser, "torch.outr")
    assert browser.js("return document.querySelector('.play-mirror mark').textContent") == "torch.outr"
    fonts = browser.js(
        "return ['.play-mirror', '#expression'].map(s => { const c = getComputedStyle(document.querySelector(s));"
        " return [c.fontFamily, c.fontSize, c.lineHeight, c.paddingLeft, c.paddingTop, c.borderLeftWidth, c.letterSpacing] })"
    )
    assert fonts[0] == fonts[1]


def test_a_name_without_a_value_can_be_added(page):
    browser = page()
    write(browser, "#expression", "x * scale")
    failed(browser, "scale")
    browser.find("#failure button").click()
    browser.press("2")
    answered(browser, title="x * scale")
    assert result(browser) == [2, 2, 2, 2]


def test_inputs_are_removed(page):
    browser = page("&e=x %2B w&x.x=1,2&x.w=3,4")
    browser.find("[aria-label='Remove input 2']").click()
    failed(browser, "w")
    assert len(browser.all(".play-input")) == 1


def test_a_paste_is_read_as_on_the_command_line(page):
    browser = page("&e=x&x.x=1")
    browser.find(".play-remove").click()
    text = ">>> x = torch.tensor([1., 2.], requires_grad=True)\n>>> (x**3).sum().backward()"
    put(browser, text)
    until(browser, "document.querySelector('.play-notes')")
    assert 'read as: jvp inspect' in browser.find(".play-notes").text
    assert result(browser) == [3, 12]


def test_several_outputs_have_a_line_each(page):
    browser = page("&e=(x.sum(), x*x)&x.x=1,2&v=y0%3D3%0Ay1%3D1,10")
    assert result(browser) == [5, 43]  # 3 + 2·x·v


def test_keys_alone(page):
    browser = page()
    browser.find("#examples").send_keys("One row")
    answered(browser)
    until(browser, "document.getElementById('v').value === 'onehot:1,2'")
    browser.find("input[name=command]:checked").send_keys(Keys.ARROW_RIGHT)
    answered(browser, "trace")
    for field in browser.all("#question input:not([type=radio]), #question select, #question textarea, #question button"):
        assert field.accessible_name, field.get_attribute("outerHTML")


def test_what_is_spoken(page):
    browser = page()
    assert browser.find("#status").get_attribute("role") == "status"
    assert browser.find("#failure").get_attribute("aria-live") == "polite"
    assert browser.js("return document.querySelector('main').getAttribute('aria-label')") == "The answer"
    assert browser.js("return [...document.querySelectorAll('h1,h2,h3')].map(h => h.tagName).join('').startsWith('H1H2')")
    assert browser.js("return document.documentElement.lang") == "en"


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone(page, dark):
    browser = page(width=380, height=800, dark=dark)
    for name in ("inspect", "trace", "check", "derive"):
        browser.find(f"input[name=command][value={name}]").click()
        answered(browser, name)
        assert browser.js("return document.documentElement.scrollWidth") == 380
    touched = "#question button, #question input:not([type=radio]), #question select, .play-commands span"
    small = browser.js(
        f"return [...document.querySelectorAll('{touched}')]"
        ".filter(e => e.getBoundingClientRect().height < 36).map(e => e.outerHTML)"
    )
    assert small == []
    paper, ink = browser.js("const c = getComputedStyle(document.body); return [c.backgroundColor, c.color]")
    assert (brightness(paper) < brightness(ink)) is dark


def brightness(colour: str) -> float:
    return sum(float(part) for part in colour.partition("(")[2].rstrip(")").split(",")[:3])


def test_without_the_token(page, running, chromium):
    page()
    chromium.js("localStorage.clear(); return 1")
    chromium.driver.get("about:blank")
    chromium.driver.get(f"http://127.0.0.1:{running.port}/")
    until(chromium, "!document.getElementById('locked').hidden")
    assert chromium.js("return document.querySelector('.jvp') === null")
    chromium.find("#token").send_keys(running.token, Keys.ENTER)
    answered(chromium)
    assert all("401" in message for message in chromium.complaints())  # Chromium's own note of the refusal


def test_nothing_else_runs(page):
    """What the policy does not know is not run, even where it gets into the page."""
    browser = page()
    image = '<img src="data:,x" onerror="window.hacked = 1">'
    browser.js("return document.getElementById('answer').insertAdjacentHTML('beforeend', arguments[0])", image)
    browser.js("const s = document.createElement('script'); s.textContent = 'window.hacked = 2'; return document.body.append(s)")
    assert browser.js("return window.hacked === undefined")
    assert browser.complaints()  # it says so
