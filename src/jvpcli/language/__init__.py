"""Expressions: parsed to a Program, refused where they may not run, evaluated by one loop."""

import re

DERIVATIVE_WORDS = ("grad", "backward", "jac", "vjp", "jvp", "hessian", "hvp", "vhp", "vmap", "Parameter(")


BLANKS = " \t\f"
"""What may stand before a line of Python."""


def may_construct(text: str) -> bool:
    """Whether a text can construct modules of torch.nn."""
    if "nn." not in text and "torch.nn " not in text:  # which spares most texts the first use of the pattern
        return False
    return re.search(r"\bnn\.[A-Z]|torch\.nn (?:as|import) ", text) is not None


def reads_parameters(text: str) -> bool:
    """Whether a text can take the parameters of a module as values: `net.parameters()`, `net.weight`."""
    return re.search(r"parameters\(\)|\.(?:weight|bias)", text) is not None


def may_pass_over(text: str) -> bool:
    """Whether a text can have statements that are passed over."""
    return "print(" in text or "assert" in text


def may_be_pasted(text: str) -> bool:
    """Whether a text can be a program that is not carried out as it stands, which `pasted` reads."""
    return may_ask_for_derivative(text) or may_pass_over(text)


def is_torchs_own(text: str) -> bool:
    """Whether what asks for a derivative in a text is torch's, and no function of a file's."""
    return re.search(r"torch\.(autograd|func)\b|\.backward\(|requires_grad", text) is not None


def may_ask_for_derivative(text: str) -> bool:
    """Whether a text can be Python that asks for a derivative itself, which `pasted` reads; without these words it is not."""
    return any(word in text for word in DERIVATIVE_WORDS)
