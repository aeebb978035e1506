"""Reports as one self-contained page, or as a part of one for notebooks.

    page(report)        a whole document: no network, a content security policy that allows its own script alone
    fragment(report)    the same for a notebook's output; several stand side by side without clashes
    write_html(report, path)

Templates are Jinja's with autoescape: everything that comes from the user is text, nothing of it markup.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from jvpcli.render import escaped
from jvpcli.render.html import derive, hessian, inspect, trace
from jvpcli.render.html.data import script_block
from jvpcli.render.numbers import array_text, kind_text, number_text, shape_text
from jvpcli.report import InspectReport
from jvpcli.report.derive import Explored
from jvpcli.report.hessian import HessianReport
from jvpcli.report.trace import TraceReport
from jvpcli.writer import write_whole

Report = InspectReport | TraceReport | HessianReport | Explored

SCRIPTS = ("numbers", "model", "words", "grid", "tables", "picture", "gestures", "heat", "explorer", "trace", "main")
"""The parts of the script, in the order in which they stand in a page."""


def page(report: Report) -> str:
    """A whole HTML document."""
    return _render(
        "page.html.j2", report, uid="jvp", level=1, style=style(), script=script(),
        style_hash=allowing(style()), script_hash=allowing(script()),
    )  # fmt: skip


def fragment(report: Report, level: int = 3) -> str:
    """A part of a page, for `_repr_html_`: its ids are its own, its styles reach nothing outside it; `level` is its heading's."""
    return _render(
        "fragment.html.j2", report, uid=f"jvp-{secrets.token_hex(6)}", level=level, style=style(), script=script()
    )


def write_html(report: Report, path: str | Path) -> None:
    """Writes the page of a report, whole or not at all.

    Raises:
        FileError: the file cannot be written.
    """
    write_whole(path, page(report).encode())


def _render(template: str, report: Report, **context: Any) -> str:
    return escaped(environment().get_template(template).render(**{"report": report, **_view(report)}, **context))


def _view(report: Report) -> Mapping[str, Any]:
    """What the templates need beside the report."""
    if isinstance(report, HessianReport):
        return hessian.view(report)
    if isinstance(report, Explored):
        return derive.view(report)
    return trace.view(report) if isinstance(report, TraceReport) else inspect.view(report)


@cache
def environment() -> Environment:
    """What the templates are read and filled in by."""
    environment = Environment(
        loader=PackageLoader("jvpcli.render.html"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["shape"] = lambda shape: str(tuple(shape))
    environment.filters["described"] = shape_text
    environment.filters["numbers"] = array_text
    environment.filters["number"] = number_text
    environment.filters["kind"] = kind_text
    environment.filters["prose"] = _prose
    environment.filters["script_block"] = script_block
    return environment


@cache
def style() -> Markup:
    """The styles of every report."""
    return Markup(static("report.css"))


@cache
def script() -> Markup:
    """The script of every report."""
    parts = "\n".join(static(f"{name}.js") for name in SCRIPTS)
    return Markup(f'(() => {{\n"use strict";\n{parts}\n}})();')


def static(name: str) -> str:
    """A file that goes into pages as it is."""
    return (files(__name__) / "static" / name).read_text(encoding="utf-8")


def _prose(text: str) -> Markup:
    """A sentence of a report: what stands in `backticks` is code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup().join(Markup("<code>{}</code>").format(part) if k % 2 else part for k, part in enumerate(parts))


def allowing(content: str) -> str:
    """The source expression of a content security policy that allows exactly this content."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
