"""Output streams that say plainly when they cannot be written, and show every symbol in some way."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from typing import TextIO

from jvpcli.render import visible

ASCII = str.maketrans(
    {
        "∂": "d", "Σ": "sum", "·": "*", "×": "x", "ᵀ": "^T", "…": "...", "⋮": ":", "⟨": "<", "⟩": ">", "∞": "inf",
        "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "→": "->", "←": "<-", "−": "-", "–": "-", "—": "-", "“": '"',
        "”": '"', "‘": "'", "’": "'", "√": "sqrt", "δ": "delta", "ε": "eps", "π": "pi", "∈": "in", "ⁿ": "^n",
        "⁻": "^-", "¹": "^1", "²": "^2", "³": "^3", "∇": "grad ", "▶": ">", "▸": ">", "•": "*", "✓": "ok", "✗": "x",
        "█": "#", "▇": "#", "▆": "#", "▅": "=", "▄": "=", "▃": "-", "▂": "-", "▁": "_", "│": "|", "└": "`",
        "├": "|", "‖": "|", "─": "-",
    }
)  # fmt: skip
"""What stands for the field's symbols where the terminal's encoding cannot show them."""


class ReaderGone(Exception):
    """The reader of our output has seen enough: `| head -1`."""


class OutputFailed(Exception):
    """The output cannot be written: a full disk, a stream that the caller has closed."""


class Output:
    """A stream to print on.

    Symbols that its encoding lacks are replaced: those of the field by what :data:`ASCII` says, others by `?`.  With
    `vital`, what cannot be written raises :class:`ReaderGone` or :class:`OutputFailed`; otherwise it is lost in
    silence, since there is nowhere left to say so.
    """

    def __init__(self, stream: TextIO | None, *, vital: bool) -> None:
        self._stream = stream
        self._vital = vital
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._plain = not self._encoding.lower().replace("-", "").replace("_", "").startswith("utf")
        self.encoding = "ascii" if self._plain else self._encoding
        """What rich draws its boxes by."""

    def say(self, text: str) -> None:
        """Text with no order to a terminal in it, wherever it came from."""
        self.write(visible(text))

    def write(self, text: str) -> int:
        """Text as it is, in the stream's own encoding: for a console, which knows its colours, and for the user's own prints."""
        plain = text.translate(ASCII) if self._plain else text
        shown = plain.encode(self._encoding, "replace").decode(self._encoding)
        self._attempt(lambda stream: stream.write(shown))
        return len(text)

    def write_bytes(self, document: bytes) -> None:
        """Bytes as they are: JSON is UTF-8 whatever the terminal."""

        def put(stream: TextIO) -> None:
            raw = getattr(stream, "buffer", None)
            if raw is None:
                stream.write(document.decode())
            else:
                stream.flush()
                raw.write(document)

        self._attempt(put)

    def flush(self) -> None:
        """Everything written is out."""
        self._attempt(lambda stream: stream.flush())

    def isatty(self) -> bool:
        """Whether a person looks at it."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """The descriptor, from which rich learns the terminal's size."""
        if self._stream is None:
            raise io.UnsupportedOperation("fileno")
        return self._stream.fileno()

    def _attempt(self, action: Callable[[TextIO], object]) -> None:
        try:
            if self._stream is None:
                raise OSError(errno.EBADF, "it is closed")
            action(self._stream)
        except BrokenPipeError:
            if self._vital:
                raise ReaderGone from None
        except OSError as error:
            if self._vital:
                raise OutputFailed(error.strerror or str(error)) from None
