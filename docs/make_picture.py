"""Makes the README's picture: the real output of the example, as an SVG."""

from __future__ import annotations

import io
from pathlib import Path

from jvpcli.answers.inspect import inspect
from jvpcli.render.inspect import render_inspect
from jvpcli.render.terminal import Terminal
from jvpcli.request import Request

TARGET = Path(__file__).parent / "images" / "inspect.svg"


def main() -> None:
    """Writes the picture."""
    console = Terminal(file=io.StringIO(), record=True, force_terminal=True, width=104)
    render_inspect(inspect(Request("torch.outer(x,x)", {"x": "1,2,3,4"})), console)
    TARGET.parent.mkdir(exist_ok=True)
    console.save_svg(str(TARGET), title='jvp inspect "torch.outer(x,x)" --x 1,2,3,4', unique_id="jvp")


if __name__ == "__main__":
    main()
