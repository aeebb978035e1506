"""What a refused name is told: forbidden with the reason, or unknown with the nearest right ones.  Loads no torch."""

from __future__ import annotations

import ast
import builtins
import difflib
from collections.abc import Collection, Sequence

from jvpcli.errors import EvaluationError, ExpressionSyntaxError, ForbiddenError, JvpError, UnknownNameError
from jvpcli.language import catalog
from jvpcli.program import Equation

NODES: dict[type[ast.AST], str] = {
    ast.JoinedStr: "text can't be formatted inside an expression",
    ast.NamedExpr: "`:=` is not part of the language; give it a name in a statement",
    ast.Await: "`await` is not part of the language",
    ast.Yield: "`yield` is not part of the language",
    ast.YieldFrom: "`yield` is not part of the language",
    ast.Set: "sets are not part of the language; use a list",
    ast.SetComp: "sets are not part of the language; use a list",
    ast.AsyncFunctionDef: "`async` is not part of the language",
    ast.AsyncFor: "`async` is not part of the language",
    ast.AsyncWith: "`async` is not part of the language",
    ast.Try: "`try` is not part of the language",
    ast.Global: "`global` is not part of the language: a function gives back what it makes",
    ast.Nonlocal: "`nonlocal` is not part of the language: a function gives back what it makes",
    ast.Starred: "`*` can't stand here",
    ast.Slice: "a slice can only stand in a subscript, as in x[1:3]",
}
"""Syntax that the language doesn't have; what isn't named here is refused by its name."""

FOREIGN_ROOTS = {
    "np": "torch", "numpy": "torch", "jnp": "torch", "jax": "torch", "tf": "torch", "scipy": "torch",
    "functional": "torch.nn.functional", "linalg": "torch.linalg", "fft": "torch.fft",
}  # fmt: skip
"""Names under which people know what the language has under another."""


def node(kind: type[ast.AST]) -> JvpError:
    """A node type that the language doesn't have."""
    reason = NODES.get(kind, f"`{kind.__name__.lower()}` is not part of the language")
    return ForbiddenError(reason[:1].upper() + reason[1:] + ".")


def of_class(name: str, line: int) -> JvpError:
    """A class of the program's own, with the line of the text that it begins on."""
    return ForbiddenError(
        f"Only Python can run the class `{name}` on line {line}.",
        hints=["Save it in a file, and name that: jvp inspect EXPR --import FILE.py"],
    )


def manager(managers: Collection[str]) -> JvpError:
    """What follows `with`, and isn't one of those that the language has."""
    return ForbiddenError(f"Only {', '.join(sorted(managers))} can follow `with`.")


def decorator(managers: Collection[str]) -> JvpError:
    """What follows `@`, and isn't one of those that the language has."""
    return ForbiddenError(
        f"This decorator can't be carried out: only {', '.join(sorted(managers))} can follow `@` here.",
        hints=["Save it in a file, and name it: jvp inspect EXPR --import FILE.py"],
    )


def module_value() -> JvpError:
    """A constructor of a module that is neither called nor given a name."""
    return ForbiddenError("A module that is constructed gets a name here, or is called at once: only Python can run this.")


def functional_call() -> JvpError:
    """A functional_call that isn't written as the language has it."""
    return ForbiddenError(
        "functional_call takes a module of the program, a dictionary of its parameters and the arguments here.",
        hints=["Write it so: torch.func.functional_call(net, {**dict(net.named_parameters()), 'weight': w}, (x,))"],
    )


def unwritten(path: str, dtype: str) -> JvpError:
    """`torch.Tensor(2, 3)`: memory as it is."""
    hint = f"Write torch.tensor([…], dtype={dtype}), or torch.zeros(…)."
    return ForbiddenError(f"`{path}` of sizes is memory that nobody has written.", hints=[hint])


def late_default() -> JvpError:
    """A dtype for new tensors that is set where there are some."""
    message = "The dtype of new tensors is set once, before anything is computed: torch.set_default_dtype stands first."
    return ForbiddenError(message)


def in_forward(mode: str) -> JvpError:
    """`torch.no_grad()` where PyTorch has forward mode."""
    return ForbiddenError(
        f"`{mode}` stands in a function whose derivative is taken in forward mode, where PyTorch ignores it.",
        hints=["Cut the graph by .detach(), which every mode follows, or take jacrev or vjp, which heed it."],
    )


def optimizer(written: str) -> JvpError:
    """`torch.optim.SGD`, under the name by which it is called."""
    return ForbiddenError(f"The language has no optimizers, which move weights as a program runs: `{written}`.")


def step(written: str) -> JvpError:
    """`opt.step()`, of an optimizer, a schedule, or whatever else a program steps."""
    return ForbiddenError(f"The language steps nothing that changes as a program runs: `{written}`.")


def in_block(written: str, where: str) -> JvpError:
    """A derivative that is asked for somewhere else than at the top level of a program."""
    message = f"`{written}` stands in {where}: the language reads derivative calls of a program at its top level alone."
    return ForbiddenError(message)


def moved(name: str) -> JvpError:
    """Weights that are changed where they are, or whose name is given to another leaf behind a use of them."""
    message = f"`{name}` is changed, or gets another leaf: the language answers at weights that stay as they are."
    return ForbiddenError(message)


def partly_cleared(cleared: str, left: str) -> JvpError:
    """Gradients of which some are cleared between two calls of `backward`, and others are not."""
    message = f"`{cleared}` has its gradient cleared between two calls of backward; `{left}`, which may have one, has not."
    return ForbiddenError(message)


def frozen() -> JvpError:
    """`requires_grad_(False)`."""
    return ForbiddenError(
        "What requires a gradient keeps it here: it can't be frozen.", hints=["Name what is differentiated: --wrt NAME"]
    )


def unseen_change(name: str, explanation: str) -> JvpError:
    """A tensor that the gradient would take for what it was before."""
    return EvaluationError(
        f"`{name}` is changed in place where autograd does not see it.",
        explanation=explanation,
        hints=[f"Work on a copy: {name} = {name}.clone()."] if name.isidentifier() else [],
    )


def switched(name: str) -> JvpError:
    """`y.requires_grad_()` of what may have a graph already."""
    return ForbiddenError(
        f"`{name}` is told to require a gradient, and may have a graph already: PyTorch leaves it as it is then.",
        hints=[f"Leave that out, or cut the graph before: {name} = {name}.detach()"],
    )


def leaf_behind(name: str) -> JvpError:
    """`x.requires_grad_()` where x has been used, or has another name."""
    return ForbiddenError(f"`{name}` becomes a leaf behind a use of it: the language takes it for one from where it is made.")


def made_again(name: str) -> JvpError:
    """What a derivative is taken by that no single statement makes."""
    message = f"`{name}` is made more than once, in a block or with others: the language takes no derivative by it."
    return ForbiddenError(message)


def no_result(node: ast.stmt) -> JvpError:
    """A program whose last statement gives nothing."""
    if isinstance(node, ast.FunctionDef):
        return ExpressionSyntaxError(
            f"The program ends where `{node.name}` is defined, and nothing calls it.",
            hints=[f"End it with a call: {node.name}({', '.join(part.arg for part in node.args.args)})"],
        )
    return ExpressionSyntaxError("The program ends with a statement that gives no value; end it with the value to differentiate.")


def not_called(function: Equation, code: str) -> JvpError:
    """A result that is a function, with the code that makes it."""
    if function.op == "function:lambda":
        made = ast.parse(f"({code})", mode="eval").body
        assert isinstance(made, ast.Lambda)
        hint = f"Give what it computes: {ast.unparse(made.body)}"
    elif function.kind == "function":
        hint = f"Call it: {function.target}({', '.join(name for name, _ in function.bodies[0].params.positional)})"
    else:
        hint = f"Call it: {code}(x)"
    return ExpressionSyntaxError("The result is a function, and nothing calls it.", hints=[hint])


def value_name(name: str, given: Collection[str]) -> JvpError:
    """A bare name that stands for no value."""
    if name in catalog.ROOTS:
        example = {"F": "relu", "nn": "functional.relu"}.get(name, "sqrt")
        hint = f"Call one of its functions, as in {name}.{example}(x)."
        return ForbiddenError(f"`{name}` is a namespace, not a value.", hints=[hint])
    if name in catalog.BUILTINS:
        return ForbiddenError(f"`{name}` is a function: call it, as in {name}(x).")
    if name.startswith("__"):
        return ForbiddenError(f"`{name}` is not part of the language: it is one of Python's internals.")
    near = catalog.suggest(name, sorted(given))
    function = next((path for path in near if path.rpartition(".")[2] == name and "." in path), None)
    if function:
        return UnknownNameError(
            f"`{name}` is not an input; the function is `{function}`.",
            hints=[f"Write {function}, or give a value with --{name}."],
        )
    hints = [f"Did you mean {path}?" for path in near if path in given]
    return UnknownNameError(f"`{name}` has no value.", hints=hints or [f"Give it a value: --{name} VALUE."])


def called_name(name: str, is_value: bool) -> JvpError | None:
    """A called bare name; None where it is a builtin of the language, not hidden by a value."""
    if is_value:
        return ForbiddenError(f"`{name}` is a value here, and can't be called.")
    if name in catalog.BUILTINS:
        return None
    if name.startswith("__"):
        return ForbiddenError(f"`{name}` is not part of the language: it is one of Python's internals.")
    near = catalog.suggest(name)
    if hasattr(builtins, name) and not any(path.rpartition(".")[2] == name for path in near):
        listed = ", ".join(catalog.BUILTINS)
        return ForbiddenError(f"`{name}` can't be called: of Python's own functions an expression has only {listed}.")
    return UnknownNameError(f"There is no function `{name}`.", hints=_did_you_mean(near))


def not_imported(refused: JvpError, name: str, functions: Collection[str]) -> JvpError:
    """The refusal of a called name with what it may be in a file of the user's own."""
    if isinstance(refused, UnknownNameError):
        near = difflib.get_close_matches(name, functions, 2)
        hint = f"If a file of yours defines `{name}`, add --import FILE.py."
        refused.hints = [*_did_you_mean(near), *refused.hints] if functions else [*refused.hints, hint]
    return refused


def path(parts: Sequence[str], called: bool, functions: Collection[str] = ()) -> JvpError:
    """A dotted path that is not what it is used as: a function that isn't called, a constant that is, or nothing.

    `functions` are the names of the user's own, modules and their submodules among them.
    """
    if parts[0] in functions:
        written = ".".join(parts)
        owner, _, name = written.rpartition(".")
        beside = [each.removeprefix(f"{owner}.") for each in functions if each.startswith(f"{owner}.")]
        if called and owner in functions and not name.isdecimal() and not difflib.get_close_matches(name, beside):
            return ForbiddenError(f"`.{name}` of `{owner}` can't be called here: only Python can run it.")
        below = [name for name in functions if name.startswith(f"{parts[0]}.")]
        near = difflib.get_close_matches(written, functions, 3) or below[:3]
        return UnknownNameError(f"There is no `{written}` to call.", hints=_did_you_mean(near))
    for length in range(2, len(parts) + 1):
        written, prefix = ".".join(parts[:length]), catalog.canonical(".".join(parts[:length]))
        if catalog.is_function(prefix):
            if length < len(parts):
                return ForbiddenError(f"Nothing can be read from the function `{written}`.")
            return ExpressionSyntaxError(f"`{written}` is a function: call it, as in {written}(…).")
        if catalog.is_constant(prefix) and called:
            return ForbiddenError(f"`{'.'.join(parts)}` can't be called: `{written}` is a constant.")
    return _no_such_path(parts[0], ".".join(parts))


def _no_such_path(root: str, written: str) -> JvpError:
    whole = catalog.canonical(written)
    if whole in catalog.NAMESPACES:
        return ForbiddenError(f"`{written}` is a namespace, not a value.")
    if root in FOREIGN_ROOTS:
        near = catalog.suggest(FOREIGN_ROOTS[root] + written[len(root) :])
        own = root in ("np", "numpy")  # of which some is there
        message = f"There is no `{written}` here." if own else f"There is no `{root}` here; an expression has torch, math and F."
        return UnknownNameError(message, hints=_did_you_mean(near or catalog.suggest(written.rpartition(".")[2])))
    owner, _, name = whole.rpartition(".")
    if owner == "torch.nn" and catalog.is_function(f"torch.nn.functional.{name}"):
        return UnknownNameError(f"There is no `{written}`: the function is `F.{name}`.", hints=_did_you_mean([f"F.{name}"]))
    if owner == "torch.nn.init":
        message = f"`{written}` can't be used here: only Python can run it."
        return ForbiddenError(message, hints=["Give a tensor its numbers where it is made: w = torch.randn(3, 4)"])
    reason = catalog.why_forbidden(whole)
    if reason:
        return ForbiddenError(f"`{written}` can't be used: {reason}.")
    near = [found.replace("torch.nn.functional.", "F.") if root == "F" else found for found in catalog.suggest(whole)]
    return UnknownNameError(f"There is no `{written}`.", hints=_did_you_mean(near))


def member(name: str, called: bool, owner: str | None = None) -> JvpError:
    """An attribute or method that can't be used, on anything or on `owner` ("a list", "text", …)."""
    if name.startswith("_"):
        return ForbiddenError(f"`.{name}` can't be used: names that begin with an underscore are internals.")
    if owner is not None:
        return ForbiddenError(f"`.{name}` can't be used on {owner}.")
    if called and catalog.is_attribute(name):
        return ExpressionSyntaxError(f"`.{name}` is a property, not a method: leave out the ().")
    if not called and catalog.is_method(name):
        return ExpressionSyntaxError(f"`.{name}` is a method: call it, as in .{name}().")
    reason = catalog.why_forbidden(f"torch.Tensor.{name}")
    if reason is None and any(hasattr(kind, name) for kind in (str, list, dict, set)):
        reason = "it belongs to Python's own types, not to tensors"
    if reason:
        return ForbiddenError(f"`.{name}` can't be used: {reason}.")
    return UnknownNameError(f"A tensor has no `.{name}`.", hints=_did_you_mean(catalog.suggest(f".{name}")))


def hook(written: str) -> JvpError:
    """`y.register_hook`, and the like."""
    return ForbiddenError(f"`{written}` can't be used: only Python can run a hook, which changes or sees gradients.")


def called_flag(flag: str) -> JvpError:
    """`x.requires_grad()`: a flag as if it were a method."""
    return ExpressionSyntaxError(
        f"`{flag}` is True or False, no method: Python ends here.",
        hints=[f"{flag}_() makes it a leaf that requires a gradient."] if flag.endswith("requires_grad") else [],
        torch_message="'bool' object is not callable",
    )


def keyword(name: str | None) -> JvpError | None:
    """A keyword argument; None where it may be used."""
    if name is None:
        return ForbiddenError("`**` can't be used in a call.")
    reason = catalog.keyword_reason(name)
    return ForbiddenError(f"The argument `{name}=` can't be used: {reason}.") if reason else None


def _did_you_mean(near: Sequence[str]) -> list[str]:
    return [f"Did you mean {found}?" for found in near]
