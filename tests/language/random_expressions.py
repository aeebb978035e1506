"""Random expressions for the fuzzers: grammatical ones over the whole catalogue, break-out attempts, mutated text."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import torch
from torch import Tensor

import jvpcli.language.catalog as catalog

DATA = json.loads((Path(catalog.__file__).parent / "catalog.json").read_text())
FUNCTIONS = sorted(DATA["functions"])
METHODS = sorted(DATA["methods"])
ATTRIBUTES = sorted({*DATA["properties"], *DATA["fields"], *(n for ns in DATA["object_fields"].values() for n in ns)})
CONSTANTS = sorted(DATA["constants"])
FORBIDDEN = sorted(path for paths in DATA["forbidden"].values() for path in paths)
BUILTINS = sorted(catalog.BUILTINS)

OPERATORS = ["+", "-", "*", "/", "//", "%", "**", "@", "&", "|", "^", "<<", ">>", "==", "!=", "<", "<=", ">", ">=", "in",
             "is", "is not", "not in", "and", "or"]  # fmt: skip
STRINGS = ["mean", "sum", "none", "ij->ji", "reflect", "bilinear", "fro", "cpu", "meta", "cuda", "float64", "/tmp/canary",
           "__class__", "{0.__class__}", "%s", "", "r", "ij", "floor", "os"]  # fmt: skip
NUMBERS = ["0", "1", "2", "3", "-1", "0.5", "1e3", "1e-9", "2j", "7", "True", "10**6", "10**12", "9**9", "2**63", "-2**40",
           "2**31", "2**31-1", "2**62", "2**63-1", "(-2**63)",
           "math.inf", "math.nan", "1e400"]  # fmt: skip
KEYWORDS = ["dim", "keepdim", "dtype", "size", "n", "p", "reduction", "out", "device", "requires_grad", "generator",
            "inplace", "eps", "k", "index", "value", "weight", "bias", "stride", "padding", "key", "mode", "alpha", "base",
            "distance_function", "callable", "memory_format", "_stacklevel", "src", "start", "default"]  # fmt: skip
DUNDERS = ["__class__", "__dict__", "__globals__", "__init__", "__subclasses__", "__reduce__", "__getattribute__", "_C",
           "__array__", "__torch_function__", "grad_fn", "data", "numpy", "tofile", "storage", "apply_", "register_hook",
           "untyped_storage", "set_", "append", "format", "real", "T", "values", "n_fields", "_fields", "count"]  # fmt: skip
ATTEMPTS = ["torch.os.system('touch CANARY')", "torch.load('CANARY')", "torch.save(x, 'CANARY')", "open('CANARY', 'w')",
            "__import__('os')", "eval('1')", "torch.torch.os", "F.torch.os", "x.numpy().tofile('CANARY')",
            "torch.from_file('CANARY', shared=True, size=9)", "torch.jit", "(lambda: x)()", "torch.Tensor.__init__",
            "x.__class__.__mro__", "torch.sum.__self__", "[c for c in ().__class__.__base__.__subclasses__()]",
            "torch.manual_seed(3)", "torch.set_default_dtype(torch.float64)", "torch.set_num_threads(7)"]  # fmt: skip


def inputs() -> dict[str, Tensor]:
    """Small tensors of every kind, fresh each time."""
    return {
        "x": torch.tensor([0.5, -1.0, 2.0, 3.0]),
        "A": torch.tensor([[2.0, 1.0, 0.0], [1.0, 3.0, 1.0], [0.0, 1.0, 4.0]]),
        "m": torch.tensor([True, False, True, True]),
        "i": torch.tensor([0, 2, 1]),
        "c": torch.tensor([1 + 2j, -1j]),
        "s": torch.tensor(2.5),
        "e": torch.zeros(0, 3),
        "B": torch.ones(1, 2, 4, 4),
    }


NAMES = list(inputs())


def program(random: Random) -> str:
    """The text of a program: statements, or one expression; sometimes mutated."""
    parts = [
        f"{random.choice(['y', 'z', 'x', 'l'])} = {expression(random, 3)}"
        for _ in range(random.choice((0, 0, 0, 1, 2)))
    ]
    if parts and random.random() < 0.2:
        parts.append(random.choice(["y[0] = 1", "y += x", "y, z = x", "a, *b = x", "y[:, 0] *= 2", "del y", "x.T = 3"]))
    parts.append(expression(random, 4))
    text = random.choice(["; ", "\n"]).join(parts)
    return mutated(random, text) if random.random() < 0.15 else text


def expression(random: Random, depth: int) -> str:
    """One expression."""
    if depth <= 0 or random.random() < 0.1:
        return atom(random)
    kind = random.random() * random.choice((0.6, 1))
    sub = lambda: expression(random, depth - 1 - random.randrange(2))  # noqa: E731
    if kind < 0.34:
        name = random.choice(FUNCTIONS).replace("torch.nn.functional.", random.choice(("F.", "torch.nn.functional.")))
        return f"{name}({arguments(random, depth)})"
    if kind < 0.54:
        return f"{owner(random, depth)}.{random.choice(METHODS)}({arguments(random, depth)})"
    if kind < 0.62:
        return f"{sub()}.{random.choice(ATTRIBUTES if random.random() < 0.8 else DUNDERS)}"
    if kind < 0.72:
        return f"({sub()} {random.choice(OPERATORS)} {sub()})"
    if kind < 0.76:
        return f"({random.choice(['-', '+', '~', 'not '])}{sub()})"
    if kind < 0.82:
        return f"{owner(random, depth)}[{subscript(random, depth)}]"
    if kind < 0.86:
        return f"{random.choice(BUILTINS)}({arguments(random, depth)})"
    if kind < 0.90:
        return random.choice(["[{}, {}]", "({}, {})", "[*{}, {}]", "({},*{})"]).format(sub(), sub())
    if kind < 0.93:
        return (
            f"[{sub()} for k in {sub()}]" if random.random() < 0.5 else f"sum(k*{sub()} for k in range(3) if {sub()})"
        )
    if kind < 0.95:
        return f"({sub()} if {sub()} else {sub()})"
    if kind < 0.98:
        return random.choice([random.choice(FORBIDDEN), f"{random.choice(FORBIDDEN)}({arguments(random, depth)})",
                              f"{sub()}.{random.choice(DUNDERS)}({sub()})"])  # fmt: skip
    return random.choice(ATTEMPTS)


def owner(random: Random, depth: int) -> str:
    """Mostly an input, sometimes anything."""
    return random.choice(NAMES) if random.random() < 0.7 else f"({expression(random, depth - 2)})"


def arguments(random: Random, depth: int) -> str:
    """What stands between the parentheses of a call."""
    parts = [
        random.choice(NAMES) if random.random() < 0.6 else expression(random, depth - 2)
        for _ in range(random.choice((0, 1, 1, 1, 1, 2, 2, 3, 4)))
    ]
    if parts and random.random() < 0.4:
        parts[1:] = [random.choice(("0", "1", "2", "-1", "1", "(2, 1)", "[2, 2]", "0.5", "None")) for _ in parts[1:]]
    if random.random() < 0.05:
        parts.append(f"*{expression(random, 0)}")
    if random.random() < 0.25:
        parts.append(f"{random.choice(KEYWORDS)}={expression(random, depth - 3)}")
    return ", ".join(parts)


def subscript(random: Random, depth: int) -> str:
    """What stands in brackets."""
    part = lambda: random.choice(  # noqa: E731
        ["0", ":", "1:", "::2", "...", "None", "m", "i", "-1", "10**9", "True", "[0, 1]", expression(random, depth - 2)]
    )
    return ", ".join(part() for _ in range(random.choice((1, 1, 2, 3))))


def atom(random: Random) -> str:
    """A name, number, string or constant."""
    kind = random.random()
    if kind < 0.55:
        return random.choice(NAMES)
    if kind < 0.8:
        return random.choice(NUMBERS)
    if kind < 0.9:
        return repr(random.choice(STRINGS))
    if kind < 0.95:
        return random.choice(CONSTANTS)
    return random.choice(["None", "...", "()", "[]", "k", "y", "zzz", "torch", "é", "b'x'", "f'{x}'", "{}", "{x}"])


def mutated(random: Random, text: str) -> str:
    """The text with characters changed, dropped, doubled or put in."""
    characters = list(text)
    for _ in range(random.randrange(1, 4)):
        at = random.randrange(len(characters) + 1)
        kind = random.randrange(4)
        if kind == 0:
            characters[at : at + 1] = []
        elif kind == 1:
            characters.insert(at, random.choice("()[]{}.,:;=+-*/@%&|^~<>!'\"\\#_ \n\t\0xé中torch0123456789"))
        elif kind == 2:
            characters[at:at] = characters[at : at + random.randrange(8)]
        else:
            characters[at : at + random.randrange(6)] = []
    return "".join(characters)
