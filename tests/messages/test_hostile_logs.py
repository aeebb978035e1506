"""Texts that no traceback looks like: they are explained, or refused, soon and without a crash."""

from __future__ import annotations

import pytest

from jvpcli.errors import EvaluationError, UsageError
from jvpcli.messages.matcher import clean_lines, explain_message, read_log

PRODUCT = "mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)"
LEAF = "a leaf Variable that requires grad is being used in an in-place operation."
FRAMES = 'Traceback (most recent call last):\n  File "a.py", line 3, in <module>\n    y = x @ w\n'
FAILURE = f"{FRAMES}RuntimeError: {PRODUCT}\n"

KNOWN = {
    "after a long log": "epoch 1 loss 0.5\n" * 100_000 + FAILURE,
    "before a long line": FAILURE[:-1].replace("\n", "\\n") + "\\n" + "x" * 3_000_000,
    "many times": f"RuntimeError: {PRODUCT}\n" * 20_000,
    "zero bytes": f"a\0b\0{PRODUCT}\0",
    "colours": f"\x1b[0;31mRuntimeError\x1b[0m: \x1b[1m{PRODUCT}\x1b[0m",
    "CRLF": FAILURE.replace("\n", "\r\n"),
    "a Windows path": FAILURE.replace('"a.py"', '"C:\\Users\\me\\train.py"').replace("\n", "\r\n"),
    "a notebook": f"{'-' * 75}\nRuntimeError                              Traceback (most recent call last)\n"
                  f"Cell In[3], line 1\n----> 1 x @ w\n\nRuntimeError: {PRODUCT}",
    "a cause": f"{FAILURE}\nThe above exception was the direct cause of the following exception:\n\n{FRAMES}ValueError: no",
    "the last of several": f"{FRAMES}RuntimeError: {LEAF}\nonce more\n{FAILURE}",
    "capitals": PRODUCT.upper(),
}  # fmt: skip

UNKNOWN = {
    "spaces": " " * 1_000_000 + "RuntimeError: " + " " * 1_000_000 + "x",
    "boxes": "│ " * 500_000,
    "margins": "E   " * 500_000 + "(RayTrain pid=1) " * 100_000,
    "numbers": "RuntimeError: tensor([" + "1.0, " * 500_000 + "])",
    "many errors": "RuntimeError: no \n" * 50_000,
    "words": "word " * 500_000 + "Error: x",
    "dots": "a." * 500_000 + "Error: x",
    "brackets": "[" * 2_000_000,
    "escapes": "\x1b]" * 500_000 + "\x1b[" * 500_000 + "\x1b[" + "1;" * 500_000,
    "half of it": "shapes cannot be multiplied " * 50_000,
    "a shape without end": "shape '[" + "4, " * 300_000 + "]' is invalid for input of size 6",
    "cut before the shapes": PRODUCT[:40],
    "cut at both ends": PRODUCT[5:45],
    "noise": bytes(range(256)).decode("latin1") * 2_000,
    "the last error is another": f"{FAILURE}\nDuring handling of the above exception, another exception occurred:\n\n"
                                 f"{FRAMES}ValueError: cannot load",
}  # fmt: skip


@pytest.mark.parametrize("case", KNOWN)
def test_the_message_is_found(case):
    told = explain_message(KNOWN[case])
    assert told.title == "A matrix product of (2, 3) and (2, 3): the inner sizes 3 and 2 differ"
    assert told.shapes == ((2, 3), (2, 3))


@pytest.mark.parametrize("case", UNKNOWN)
def test_what_is_unknown_is_not_guessed(case):
    with pytest.raises(EvaluationError) as caught:
        explain_message(UNKNOWN[case])
    assert caught.value.exit_code == 5
    assert caught.value.message.startswith("unknown message")
    assert len(caught.value.message) < 200
    assert caught.value.message.isprintable()


def test_an_error_that_is_known_before_an_unknown_one_is_offered():
    with pytest.raises(EvaluationError) as caught:
        explain_message(UNKNOWN["the last error is another"])
    assert caught.value.hints == (f"jvp explain '{PRODUCT}'",)


@pytest.mark.parametrize("text", ["", " \n\t ", "\r\n" * 1_000_000])
def test_no_text(text):
    with pytest.raises(UsageError):
        explain_message(text)


@pytest.mark.parametrize(
    "text",
    [
        "index " + "9" * 5000 + " is out of bounds for dimension 0 with size 3",
        "mat1 and mat2 shapes cannot be multiplied (" + "9" * 5000 + "x3 and 2x3)",
        "Mismatch in shape: grad_output[0] has a shape of torch.Size([" + "9" * 70 + "]) and output[0] has a shape of "
        "torch.Size([4, 4])",
        "shape '[0, -1]' is invalid for input of size 0",
        "The size of tensor a (-3) must match the size of tensor b (-4) at non-singleton dimension -9",
    ],
)
def test_sizes_that_no_tensor_has(text):
    assert explain_message(text).title


def test_sizes_that_agree_are_not_said_to_differ():
    told = explain_message("mat1 and mat2 shapes cannot be multiplied (2x3 and 3x2)")
    assert "differ" not in told.title


def test_nothing_that_a_terminal_obeys_is_kept():
    assert clean_lines("\x1b[2Ja\x07b\x9bc\x1bPd") == ["abcd"]


@pytest.mark.parametrize("size", [1, 3, 50])
def test_a_log_in_blocks_is_the_log(size):
    for text in KNOWN.values():
        if "\\n" in text:  # escaped line ends are known from the whole
            continue
        lines = text.split("\n")
        blocks = ["\n".join(lines[k : k + size]) for k in range(0, len(lines), size)]
        assert explain_message(blocks) == explain_message(text)


def test_only_the_last_errors_of_a_long_log_are_kept():
    def blocks():
        for k in range(1000):
            yield f"ValueError: {k}\n" + "a line of output\n" * 20 + "UserWarning: w\n" * 200
        yield "RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x3 and 5x2)\n" + "z" * 90_000
        yield from ["after\n" * 10_000] * 20

    found = read_log(blocks())
    assert len(found) < 300
    assert sum(len(event.text) + len(event.where) for event in found) < 10**6
    assert explain_message(blocks()).shapes == ((2, 3), (5, 2))
