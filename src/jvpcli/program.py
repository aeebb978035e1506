"""The flat program that an expression is lowered to: plain data, no torch.

A :class:`Program` is a tuple of :class:`Equation` over numbered slots, each slot assigned once (compare `JaxprEqn`
in JAX's autodidax).  The inputs take the first slots.  Calls, operators, attribute steps and subscripts are all
equations.  Control flow (comprehensions, conditional expressions, `and`/`or`) is an equation with :class:`Block`
bodies; evaluating unrolls it, so that the *tape* of an evaluation is a flat tuple of equations without bodies.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from jvpcli.errors import Span

IMPORTED = "import."
"""What the paths of imported functions begin with; no function of the catalogue can."""


GRAD, BACKWARD, READ, CLEAR = "derive:grad", "derive:backward", "derive:read", "derive:clear"
"""The `op` of derivative calls: torch.autograd.grad; backward; `x.grad`; `x.grad = None` and `zero_grad`."""


@dataclass(frozen=True, slots=True)
class Ref:
    """The value in a slot."""

    slot: int


@dataclass(frozen=True, slots=True)
class Const:
    """A value that the text itself gives: a number, string, None, Ellipsis, bool, or a named constant.

    `value` is the Python value; for a constant of a namespace (`torch.float64`, `math.pi`) it is None and `path`
    names it, so that lowering needs no torch.
    """

    value: Any
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Pack:
    """A list, tuple or slice built from operands.

    `kind` is "list", "tuple" or "slice"; in a program (never on a tape) also "star": the items of its one operand stand
    in its place.  `size` counts what it holds at every level and `depth` the levels, so that a pack that would be huge
    when written out is known without writing it out.
    """

    kind: str
    items: tuple[Operand, ...]
    size: int = field(init=False, compare=False, repr=False, default=0)
    depth: int = field(init=False, compare=False, repr=False, default=0)

    def __post_init__(self) -> None:
        packs = [item for item in self.items if isinstance(item, Pack)]
        object.__setattr__(self, "size", len(self.items) + sum(pack.size for pack in packs))
        object.__setattr__(self, "depth", 1 + max((pack.depth for pack in packs), default=0))


Operand = Ref | Const | Pack


@dataclass(frozen=True, slots=True)
class Known:
    """A function of the language, or an imported one, as a value: the `op` of its calls and the keywords of each."""

    op: str
    keywords: tuple[tuple[str, Operand], ...] = ()


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a function of the program takes: names with their slots.

    `positional` ones may be named too, but for the first `unnamed`; `named` ones must be; `rest` is the slot of `*args`, and
    `others` that of `**kwargs`.
    """

    positional: tuple[tuple[str, int], ...]
    named: tuple[tuple[str, int], ...] = ()
    rest: int | None = None
    unnamed: int = 0
    others: int | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """The body of a control-flow equation, or of a function.

    `params` are the slots that the loop variable(s) fill (nested tuples for `for i, (a, b) in …`), or a function's
    `Parameters`; a comprehension's `conditions` are evaluated before its `result`, each a block of its own.
    """

    params: Any
    equations: tuple[Equation, ...]
    result: Operand
    conditions: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True)
class Equation:
    """`slot = op(*operands, **keywords)`.

    `op` says what kind of step it is before the colon and what is called after it:

    ==================== ========================================================================
    `call:torch.outer`   a function of a namespace, by its path in the catalogue
    `call:import.my_op`  a function of the user's own file (`--import`); keywords with a dot are parameters of modules
    `call:…`, `**`       in a program (never on a tape) the keyword `**` is a dictionary of further keywords
    `builtin:len`        a helper builtin
    `method:sum`         a method of the first operand
    `attr:T`             a property of the first operand, or a field of a named result (`attr:values`)
    `op:mul`             an operator, by its name in the module `operator`; `op:getitem` is a subscript
    `op:setitem`         `y[i] = value`: changes its first operand in place, which is also what it gives
    `op:iadd`            `y += value` and its like: in place for a tensor; what is no tensor gets `op:add` on the tape
    `unpack:3`           item number `keywords["index"]` of a sequence of 3 (tuple assignment; `unpack:3+`: 3 or more)
    `loop`, `loop:flat`  a comprehension over operand 0 with one body (flat: its results are lists, joined)
    `if`, `and`, `or`    control flow: `if` has two bodies; `and`/`or` one, evaluated if operand 0 doesn't decide
    `for`, `while`       loops, with a body for what follows `else` last; a `while` has its condition as its first body
    `with:torch.no_grad` a body that runs inside of what is named
    `return`, `break`, … leave a function, a loop, a turn; `raise` the program
    `random:seed`        random numbers begin anew from operand 0; `random:construct`: they go on as behind the making of a module
    `set`                the slot of a name that is assigned while the program runs stands for operand 0 from here on
    `unset`              `del` of such a name
    `function:NAME`      a function: operands are the defaults of its last parameters, keywords those of named ones
    `apply`              a call of operand 0, which is a function of the program
    `dict`, `dict:of`    a dictionary of pairs (a star: the items of another); of a list of pairs, and keywords
    `list:append`        a method of a list or dictionary
    `delitem`            `del items[i]`
    `numpy:sin`          a function of numpy's; `numpy:of`, `numpy:from_numpy`: between tensors and arrays
    `typed:…`            `torch.LongTensor(values)` and its like: a tensor of that dtype, of operand 0
    `held:net.width`     a number that a module was made with
    `functional:net`     a call of a module: with the values of parameters in operand 0, of the arguments in operand 1
    `cleared:net`        `net.zero_grad()`
    `transform:grad`, …  what torch.func and torch.autograd.functional offer, of functions of the program
    `derive:grad`, …     a derivative call: on a tape a function of all inputs, whose keyword `by` knows what it does
    ==================== ========================================================================

    `name` is the variable that the text assigns the result to.  On a tape, `recorded` says whether torch recorded a graph:
    it does not under `torch.no_grad()`.  `casts` is the autocast that a step noted down in a program ran under: kinds of devices,
    each with the dtype.
    """

    op: str
    operands: tuple[Operand, ...]
    slot: int
    span: Span
    keywords: tuple[tuple[str, Operand], ...] = ()
    name: str | None = None
    bodies: tuple[Block, ...] = ()
    recorded: bool = True
    casts: tuple[tuple[str, Any], ...] = ()

    @property
    def given(self) -> tuple[Operand, ...]:
        """All operands, those by name last."""
        return (*self.operands, *[operand for _, operand in self.keywords])

    def reads(self) -> Iterator[int]:
        """The slots that all operands read, in order."""
        return chain.from_iterable(map(refs, self.given))

    @property
    def kind(self) -> str:
        """What stands before the colon of `op`."""
        return parts_of_op(self.op)[0]

    @property
    def target(self) -> str:
        """What stands after the colon of `op`."""
        return parts_of_op(self.op)[1]

    @property
    def word(self) -> str:
        """The last word of `target`: what is called, without the namespace that it is in."""
        return parts_of_op(self.op)[2]


@lru_cache(maxsize=4096)
def parts_of_op(op: str) -> tuple[str, str, str]:
    """The kind, the target and the word of an `op`: every look at a step asks for one."""
    kind, _, target = op.partition(":")
    return kind, target, target.rpartition(".")[2]


@dataclass(frozen=True, slots=True)
class FailedStep:
    """A step of a tape that could not be carried out, with the values of its operands and keywords."""

    step: Equation
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Site:
    """Where a step of a recorded program was made: its text, file and line, and in which module by its dotted path."""

    text: str
    file: str
    line: int
    module: str


def file_called(file: str) -> str:
    """What sentences call a file of the user's: `train.py`, or `Cell In[5]` where IPython calls a notebook's cell so."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    cell = shell.compile.format_code_name(file) if shell is not None else None
    return " ".join(cell) if cell is not None else Path(file).name


PROGRAM = "<program>"
"""The name of the file that a pasted program's code has as Python runs it."""


def cited_line(file: str, line: int) -> str:
    """A line as sentences name it: `train.py:12`, `Cell In[5], line 12`, or `line 12` of a pasted program."""
    if file == PROGRAM:
        return f"line {line}"
    name = file_called(file)
    return f"{name}:{line}" if name == Path(file).name else f"{name}, line {line}"


@dataclass(frozen=True, slots=True)
class Program:
    """An expression, lowered.

    `inputs[i]` lives in slot i.  `result` is what the last statement gives; `result_names` are the names that the
    last statement gives its parts (None where it gives none), or None if the parts are not known before evaluating.
    `names` are the names that the text assigns, with what each stands for at the end.  `has_statements`: there are blocks,
    functions, lists that change or derivative calls.  `derived` are the inputs that its derivative calls ask for, or may.
    `default` is the dtype that the text sets for new tensors.  `sites` says of a recorded program where in the user's files
    each slot was computed.
    """

    source: str
    inputs: tuple[str, ...]
    equations: tuple[Equation, ...]
    result: Operand
    result_names: tuple[str | None, ...] | None
    slots: int
    input_spans: tuple[Span, ...] = ()
    names: tuple[tuple[str, Operand], ...] = ()
    has_statements: bool = False
    default: str | None = None
    derived: tuple[str, ...] = ()
    sites: Mapping[int, Site] = field(default_factory=dict)

    def text(self, span: Span) -> str:
        """The part of the source that `span` marks."""
        return self.source[span[0] : span[1]]

    def text_of(self, step: Equation) -> str:
        """The text of a step: of a recorded one as it stands in the user's file."""
        site = self.sites.get(step.slot)
        return self.text(step.span) if site is None else site.text

    def step_text(self, step: Equation) -> str:
        """The text of a step, on one line."""
        return self.on_one_line(self.text_of(step))

    def on_one_line(self, text: str) -> str:
        """A part of the program, with single spaces."""
        return text.strip() if not self.sites and _is_single_spaced(self.source) else " ".join(text.split())


@lru_cache(maxsize=4)
def _is_single_spaced(source: str) -> bool:
    """Whether a text is one line with single spaces, so that its parts need not be looked through: sums nest, and are long."""
    return " ".join(source.split()) == source.strip()


def refs(operand: Operand) -> Iterator[int]:
    """The slots that an operand reads, in order, repeated where it reads one twice."""
    if isinstance(operand, Ref):
        yield operand.slot
    elif isinstance(operand, Pack):
        for item in operand.items:
            yield from refs(item)


SHAPES = frozenset(
    {"shape", "size", "len", "dim", "ndim", "numel", "nelement", "stride", "element_size", "itemsize", "nbytes",
     "dtype", "device", "is_floating_point", "is_complex", "requires_grad", "grad_fn", "get_device",
     "zeros_like", "ones_like", "empty_like", "full_like", "new_zeros", "new_ones", "new_empty", "new_full", "new_tensor",
     "rand_like", "randn_like", "randint_like"}
)  # fmt: skip
"""Operations that take the shape (or dtype) of their first operand and none of its numbers."""


def takes_shape(step: Equation) -> bool:
    """Whether a step takes nothing but the shape of its first operand."""
    return step.word in SHAPES


def numbers_read(step: Equation) -> Iterator[int]:
    """The slots whose numbers a step may read: not of what it takes the shape of."""
    return chain.from_iterable(map(refs, step.given[1:] if takes_shape(step) and step.operands else step.given))


def with_inner(equations: Iterable[Equation]) -> Iterator[Equation]:
    """Equations, and behind each those inside of it."""
    for equation in equations:
        yield equation
        for body in equation.bodies:
            yield from with_inner(body.equations)
            for condition in body.conditions:
                yield from with_inner(condition.equations)
