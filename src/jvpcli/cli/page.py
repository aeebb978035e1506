"""What the page of `jvp serve` gets of a question: its answer as a part of a page, and a failure as one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from jvpcli.answers import report_of
from jvpcli.cli.answers import PRINTED, Form
from jvpcli.errors import JvpError
from jvpcli.render.html.playground import explained, part_of
from jvpcli.render.json import error_document
from jvpcli.request import Request


def _explored(request: Request) -> Any:
    """The answer, of a derivation with the numbers that its formulas light up."""
    if request.command == "derive":
        from jvpcli.answers.derive import explore

        return report_of(request, explore)
    return report_of(request)


def _part(request: Request, report: Any) -> Iterator[bytes]:
    from jvpcli.language.pasted import said_of
    from jvpcli.options import command

    told = report.report if hasattr(report, "report") else report
    is_read = not any(notice.code == "as_python" for notice in told.warnings)
    read_as = [f"read as: `{command(request)}`"] if request.calls and is_read else []
    html = part_of(report, [*read_as, *said_of(request)] if is_read else [])
    yield json.dumps({"schema": 1, "ok": True, "html": html}, ensure_ascii=False).encode()


def _failure(error: JvpError) -> bytes:
    document = {**error_document(error), "source": error.source, "html": explained(error)}
    return json.dumps(document, ensure_ascii=False).encode()


FORMS = {"document": PRINTED._replace(files=False), "part": Form(_explored, _part, _failure, files=False)}
"""By name: what `POST /api/…` answers, and what the page gets."""
