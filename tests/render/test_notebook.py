"""Results in a notebook's page: several beside each other, each with its own numbers, none in another's way."""

from __future__ import annotations

import re

import pytest
import torch

import jvpcli

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbconvert = pytest.importorskip("nbconvert", reason="nbconvert is not installed")


def notebook(*results: object) -> str:
    """The page that nbconvert makes of a notebook with these outputs; its own scripts from the network are left out."""
    cells = [
        nbformat.v4.new_code_cell(
            "result",
            outputs=[
                nbformat.v4.new_output(
                    "execute_result",
                    data={"text/html": result._repr_html_(), "text/plain": repr(result)},
                    execution_count=1,
                )
            ],
            execution_count=1,
        )
        for result in results
    ]
    exporter = nbconvert.HTMLExporter(
        template_name="lab", require_js_url="", mathjax_url="", jquery_url="", widget_renderer_url=""
    )
    html, _ = exporter.from_notebook_node(nbformat.v4.new_notebook(cells=cells))
    return html


@pytest.fixture(scope="module")
def outer():
    return jvpcli.inspect("torch.outer(x, x)", x=[1, 2, 3, 4])


def test_several_results_do_not_clash(show, outer):
    small = jvpcli.inspect("(x**2).sum()", x=torch.tensor([1.0, 2.0]))
    traced = jvpcli.trace("torch.sin(x) * x", x=[1, 2])
    browser = show(notebook(outer, outer, small, traced))
    roots = browser.all(".jvp")
    assert len(roots) == 4
    ids = browser.js("[...document.querySelectorAll('.jvp [id], .jvp')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    groups = browser.js("[...document.querySelectorAll('.jvp input[type=radio]')].map(e => e.name)")
    assert len(set(groups)) == 2

    def results(root):
        return [cell.text for cell in root.find_elements("css selector", ".jvp-result")]

    assert [results(root) for root in roots] == [["20"] * 4, ["20"] * 4, ["2", "4"], []]
    field = roots[1].find_element("css selector", ".jvp-weight input")
    field.click()
    browser.press("11")
    assert [results(root) for root in roots] == [["20"] * 4, ["40", "20", "20", "20"], ["2", "4"], []]
    roots[1].find_elements("css selector", ".jvp-tab")[1].click()
    assert roots[0].find_elements("css selector", ".jvp-sheet .jvp-stick")
    assert len(roots[1].find_elements("css selector", ".jvp-card")) == 6
    roots[3].find_element("css selector", "[data-go=next]").click()
    assert roots[3].find_element("css selector", ".jvp-where").text.startswith("Forward 1 of 2")


def test_the_notebooks_own_look_is_left_alone(show, outer):
    browser = show(notebook(outer))
    touched = browser.js(
        "[...document.querySelector('.jvp').parentElement.querySelector('style').sheet.cssRules]"
        ".flatMap(r => r.cssRules?.length ? [...r.cssRules] : [r]).map(r => r.selectorText).filter(Boolean)"
        ".flatMap(s => s.split(',')).map(s => s.trim()).filter(s => !s.includes('.jvp'))"
    )
    assert touched == []


def test_the_notebooks_theme_wins_over_the_systems(show, outer):
    browser = show(notebook(outer), dark=True)
    light = browser.js("document.body.dataset.jpThemeLight === 'true'")
    assert light
    ground = browser.js("getComputedStyle(document.querySelector('.jvp')).backgroundColor")
    assert ground == "rgb(255, 255, 255)"


def test_a_fragment_brings_no_document(outer):
    html = outer._repr_html_()
    for tag in ("html", "head", "body", "meta"):
        assert not re.search(rf"<{tag}[\s>]", html)
    assert outer._repr_html_() != html  # every output has ids of its own
