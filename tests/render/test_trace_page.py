"""The page of `trace` in a real Chromium: forwards and backwards through the graph, step by step."""

from __future__ import annotations

from dataclasses import replace

import pytest
from selenium.webdriver.common.keys import Keys

from jvpcli.answers.trace import trace
from jvpcli.render.html import page
from jvpcli.request import Request

SQUARED = Request("y = torch.outer(x, x); z = y**2", {"x": "1,2,3,4"})
NETWORK = Request(
    "h = torch.tanh(x @ W + b); p = torch.softmax(h @ V, -1); -(t * torch.log(p)).sum()",
    {
        "x": "torch.randn(3,4)",
        "W": "torch.randn(4,5)",
        "b": "torch.randn(5)",
        "V": "torch.randn(5,3)",
        "t": "torch.eye(3)",
    },
    wrt=("x", "W", "b", "V"),
)


def where(browser) -> str:
    return browser.find(".jvp-where").text


def panel(browser) -> str:
    [shown] = [p for p in browser.all(".jvp-panel") if p.is_displayed()]
    return shown.text


def press(browser, button: str) -> None:
    browser.find(f"[data-go={button}]").click()


def lit(browser, kind: str) -> list[str]:
    return browser.js(
        "[...document.querySelectorAll(arguments[0])].map(e => e.dataset.node ?? e.dataset.edge)", f".jvp-{kind}.jvp-lit"
    )


def visible(browser, key: str, line: str) -> bool:
    text = browser.js("document.querySelector(arguments[0])", f"[data-node={key}] .jvp-node-{line}")
    return browser.js("getComputedStyle(arguments[0]).opacity === '1'", text)


def test_buttons_go_through_the_chain_rule(show):
    report = trace(SQUARED)
    browser = show(page(report))
    browser.js("(() => { for (const e of document.querySelectorAll('*')) e.style.transition = 'none' })()")
    assert where(browser) == "Inputs"
    assert visible(browser, "input-0", "value")
    assert not visible(browser, "step-0", "value")
    press(browser, "next")
    assert where(browser) == "Forward 1 of 2: torch.outer(x, x)"
    assert lit(browser, "node") == ["step-0"]
    assert lit(browser, "edge") == ["0", "1"]  # both uses of x
    assert visible(browser, "step-0", "value")
    assert not visible(browser, "step-0", "cotangent")
    press(browser, "next")
    press(browser, "next")
    assert where(browser) == "What arrives at the outputs: v"
    press(browser, "next")
    assert where(browser) == "Backward 1 of 2: y**2"
    assert visible(browser, "step-0", "cotangent")  # what y**2 hands on has arrived there
    assert not visible(browser, "input-0", "cotangent")
    press(browser, "next")
    assert where(browser) == "Backward 2 of 2: torch.outer(x, x)"
    text = panel(browser).split()
    for contribution in report.steps[0].contributions:
        numbers = [f"{number:g}" for number in contribution.value]
        assert " ".join(numbers) in " ".join(text)
    assert "60 120 180 240" in " ".join(text)
    press(browser, "next")
    assert where(browser) == "The result"
    assert visible(browser, "input-0", "cotangent")
    assert "120 240 360 480" in " ".join(panel(browser).split())
    assert not browser.find("[data-go=next]").is_enabled()
    press(browser, "first")
    assert where(browser) == "Inputs"
    assert not browser.find("[data-go=back]").is_enabled()


def test_contributions_are_shown_apart_and_added(show):
    browser = show(page(trace(Request("torch.outer(x, x)", {"x": "1,2,3,4"}))))
    press(browser, "last")
    text = " ".join(panel(browser).split())
    assert "position 0 (4,) 10 10 10 10 +" in text
    assert "position 1 (4,) 10 10 10 10 =" in text
    assert text.index("= ∂L/∂x") > text.index("position 1")


def test_keys_and_slider_step_too(show):
    browser = show(page(trace(SQUARED)))
    browser.js("document.querySelector('.jvp-graph').focus()")
    browser.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert where(browser).startswith("Forward 1 of 2")
    browser.press(Keys.END)
    assert where(browser) == "The result"
    browser.js("document.querySelector('.jvp-steps input').focus()")
    browser.press(Keys.ARROW_LEFT)
    assert where(browser).startswith("Backward 2 of 2")
    assert browser.find(".jvp-where").get_attribute("aria-live") == "polite"


def test_a_click_on_a_box_shows_it(show):
    browser = show(page(trace(SQUARED)))
    browser.find("[data-node=step-1]").click()
    assert where(browser).startswith("Forward 2 of 2")
    press(browser, "last")
    browser.find("[data-node=step-0]").click()
    assert where(browser).startswith("Backward 2 of 2")


@pytest.mark.parametrize(
    "request_",
    [
        NETWORK,
        Request("a, b = torch.sort(x).values.chunk(2); torch.sqrt(x).mul(0).sum() + a.sum()", {"x": "0,1"}),
        Request("x", {"x": "1,2"}),
        Request("(x.detach() * x + torch.ones(2)).sum()", {"x": "1,2"}),
        Request("torch.stack([x[i]**i for i in range(4)]).prod()", {"x": "1,2,3,4"}),
        Request("x * (1+2j)", {"x": "1+1j,2"}, dtype="complex64"),
        Request("torch.randn(40, 40) @ x", {"x": "torch.randn(40, 40)"}),
    ],
    ids=lambda r: r.expression[:30],
)
def test_every_trace_can_be_stepped_through(show, request_):
    report = trace(request_)
    browser = show(page(report))
    seen = []
    while True:
        seen.append(where(browser))
        if not browser.find("[data-go=next]").is_enabled():
            break
        press(browser, "next")
    live = [step for step in report.steps if step.cotangent is not None]
    assert len(seen) == 3 + len(report.steps) + len(live)
    assert seen[-1] == "The result"


def test_a_finding_stands_at_its_step(show):
    browser = show(page(trace(Request("torch.sqrt(x).mul(0).sum()", {"x": "0,1"}))))
    assert "nan" in browser.find(".jvp-findings").text
    assert browser.find(".jvp-found").get_attribute("data-node") == "step-0"
    assert browser.find(".jvp-findings code").text == "torch.sqrt(x)"


def test_what_comes_from_the_user_stays_text(show):
    report = trace(SQUARED)
    nasty = "</script><script>window.hacked = 1</script><b onclick='x'>"
    steps = tuple(replace(step, source=nasty, op=nasty, output=nasty) for step in report.steps)
    browser = show(page(replace(report, expression=nasty, steps=steps, output_values={"z": nasty})))
    press(browser, "next")
    assert browser.js("window.hacked") is None
    assert nasty in where(browser)
    assert browser.js("document.querySelectorAll('b[onclick]').length") == 0


def test_on_a_phone_and_in_the_dark(show):
    browser = show(page(trace(NETWORK)), width=380, height=700, dark=True)
    assert browser.js("document.documentElement.scrollWidth") == 380
    for _ in range(4):
        press(browser, "next")
    box = browser.js("document.querySelector('.jvp-node.jvp-lit').getBoundingClientRect()")
    frame = browser.js("document.querySelector('.jvp-graph').getBoundingClientRect()")
    assert frame["left"] <= box["left"] + 1
    assert box["right"] <= frame["right"] + 1
    assert frame["top"] <= box["top"] + 1
    assert box["bottom"] <= frame["bottom"] + 1


def test_on_paper_every_step_is_there(show):
    browser = show(page(trace(NETWORK)))
    browser.command("Emulation.setEmulatedMedia", media="print")
    try:
        assert all(p.is_displayed() for p in browser.all(".jvp-panel"))
    finally:
        browser.command("Emulation.setEmulatedMedia", media="")
