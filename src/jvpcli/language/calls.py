"""A call for a derivative, as it stands in Python: what it means as a request.

`torch.autograd.grad(torch.outer(x, x), x, grad_outputs=v)` is the expression `torch.outer(x, x)` with the weights v,
differentiated with respect to x.  Only the text is read; nothing of it is run here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from jvpcli.language import catalog
from jvpcli.report import Call, PassedOver


@dataclass(frozen=True)
class Pasted:
    """A request in a program's own words.

    Attributes:
        expression: what is differentiated.
        inputs: name to the text of its value, where the program makes it.
        wrt: names of what it is differentiated to; empty: not said.
        grad_outputs, tangent: texts of the weights, in order; empty: not said.  A weight that the call leaves to PyTorch is
            `implicit`; of torch.autograd.functional.vjp `implicit:vjp`, and of torch.func.grad `implicit:grad`, or
            `implicit:grad_1` where vmap has added one axis to its number.
        is_grads_batched: whether each weight has an axis in front.
        unused: names of what it is differentiated to, though nothing reads them: the call allows that.
        all_used: whether PyTorch refuses what it is differentiated to where no gradient reaches it.
        seed: where random numbers begin, if the program says so.
        notes: what is to be said of further options of the call.
        calls: the derivative calls of the program, in their order, and which are explained.
        passed_over: the statements that are not carried out.
    """

    expression: str
    inputs: Mapping[str, str] = field(default_factory=dict)
    wrt: tuple[str, ...] = ()
    grad_outputs: tuple[str, ...] = ()
    tangent: tuple[str, ...] = ()
    is_grads_batched: bool = False
    unused: tuple[str, ...] = ()
    all_used: bool = False
    seed: int | None = None
    notes: tuple[str, ...] = ()
    calls: tuple[Call, ...] = ()
    passed_over: tuple[PassedOver, ...] = ()


T = TypeVar("T", bound=ast.AST)

BACKWARD = "torch.autograd.backward"
TRANSFORMS = ("jacrev", "jacfwd", "grad", "hessian", "grad_and_value", "vjp")
FUNCTIONAL = ("jacobian", "vjp", "jvp", "hessian", "hvp", "vhp", "gradcheck", "gradgradcheck")
COMPOSED = ("jacrev", "jacfwd", "grad", "grad_and_value")
"""Functions of torch.func that give the derivative as a function."""


def asked(call: ast.expr | None, source: str) -> Pasted | None:
    """What a call asks for; its `inputs` are the arguments that have no name of their own.  None for any other expression."""
    if not isinstance(call, ast.Call):
        return None
    if isinstance(call.func, ast.Attribute) and call.func.attr == "backward" and path(call.func) != BACKWARD:
        weights, wrt = _weights(argument(call, 0, "gradient"), 1, source), _leaves(argument(call, 3, "inputs"))
        return None if wrt is None else Pasted(
            text_of(call.func.value, source), wrt=wrt, grad_outputs=weights, notes=_about_graph(call, 1)
        )
    if (made := pulled(call.func)) is not None:  # vjp(f, x)[1](v)
        found, v = _pullback(made, source), call.args[0] if call.args else None
        return found and replace(found, grad_outputs=_texts(v, source), is_grads_batched=isinstance(call.func, ast.Call))
    if isinstance(call.func, ast.Call):
        return _transform(call.func, call.args, source)
    reader = _READERS.get(name_of(call))
    return reader(call, source) if reader else None


def asked_twice(call: ast.expr | None, source: str) -> Pasted | None:
    """What a call for a second derivative means where that is asked for anyway: its function, by a product's v as direction.

    None for any other call.
    """
    if not isinstance(call, ast.Call):
        return None
    made, name = maker(call), name_of(maker(call))
    functions = _function(made)
    if name in ("hessian", "hvp", "vhp") and made is call:  # of torch.autograd.functional
        found = _of_function(functions, items(argument(call, 1, "inputs")), source)
        return found and replace(found, tangent=_texts(argument(call, 2, "v"), source))
    if name == "hessian":
        chosen = picked(argument(made, 1, "argnums"), len(call.args))
        return None if chosen is None else _of_function(functions, call.args, source, chosen)
    inner = _outward(functions[0]) if functions and isinstance(functions[0], ast.Call) else None
    if inner is None or name_of(inner) not in COMPOSED or len(inner.args) + len(inner.keywords) != 1:
        return None
    if name in COMPOSED and made is not call and len(made.args) == 1 and not made.keywords:
        return _of_function(_function(inner), call.args, source, (0,))
    if name == "jvp" and made is call:
        found = _of_function(_function(inner), items(argument(call, 1, "primals")), source)
        return found and replace(found, tangent=_texts(argument(call, 2, "tangents"), source))
    return None


def maker(call: ast.Call) -> ast.Call:
    """`jacrev(f)` of `jacrev(f)(x)`, `vjp(f, x)` of `vjp(f, x)[1](v)`, maybe under vmap; any other call itself."""
    inner = pulled(call.func) or call.func
    return _outward(inner) if isinstance(inner, ast.Call) else call


def pulled(function: ast.expr) -> ast.Call | None:
    """`vjp(f, x)` of `vjp(f, x)[1]`, and of `vmap(vjp(f, x)[1])`, which takes several v; None for any other function."""
    if isinstance(function, ast.Call) and name_of(function) == "vmap" and len(function.args) == 1 and not function.keywords:
        (function,) = function.args
    made = function.value if isinstance(function, ast.Subscript) else None
    return made if isinstance(made, ast.Call) and is_vjp(made) else None


def _outward(function: ast.Call) -> ast.Call:
    """`jacrev(vmap(f))` of `vmap(jacrev(f))`: the derivative of all samples, which holds that of each; any other itself."""
    inner = argument(function, 0, "func") if name_of(function) == "vmap" else None
    if not isinstance(inner, ast.Call):
        return function
    inner = _outward(inner)
    if name_of(inner) == "hessian" and _function(inner):
        inner = _with_function(inner, _with_function(inner, _function(inner)[0], "jacrev"), "jacrev")
    if name_of(inner) not in COMPOSED or not _function(inner):
        return function
    mapped = _with_function(function, _function(inner)[0])
    mapped.args[2:3] = [ast.Constant(0)] * len(mapped.args[2:3])  # where the samples stand in the derivative, not in what f gives
    mapped.keywords = [keyword for keyword in mapped.keywords if keyword.arg != "out_dims"]
    return _with_function(inner, mapped)


def _with_function(call: ast.Call, function: ast.expr, name: str = "") -> ast.Call:
    """A call of torch.func with another function, and maybe under another name."""
    keywords = [keyword for keyword in call.keywords if keyword.arg != "func"]
    called = parsed(f"torch.func.{name}") if name else call.func
    return ast.Call(called, [function, *call.args[1:]], keywords)


def transformed(call: ast.expr | None) -> ast.expr | None:
    """The function that a call of torch.func or torch.autograd.functional differentiates; None for any other call."""
    if not isinstance(call, ast.Call):
        return None
    made = maker(call)
    found = _function(made)
    return found[0] if found and name_of(made) in (TRANSFORMS if made is not call else FUNCTIONAL) else None


def is_functional(call: ast.Call) -> bool:
    """Whether a call is one of torch.autograd.functional, on some inputs."""
    name, where = name_of(call), path(call.func)
    own = name in FUNCTIONAL and ("functional." in where or (name in ("jacobian", "hvp", "vhp") or where == "hessian"))
    return own and argument(call, 1, "inputs") is not None


def is_constant(call: ast.expr | None) -> bool:
    """Whether what a call gives has no graph in PyTorch: there nothing that is made of it has a derivative."""
    if not isinstance(call, ast.Call) or has_graph(call):
        return False
    return is_backward(call) or is_functional(call) or (name_of(call) == "grad" and not isinstance(call.func, ast.Call))


def is_vjp(value: ast.expr) -> bool:
    """`vjp(f, x)`, of any module."""
    return isinstance(value, ast.Call) and name_of(value) == "vjp"


def is_backward(call: ast.expr | None) -> bool:
    """`y.backward()`, `torch.autograd.backward(y)`."""
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "backward"


def has_graph(call: ast.expr | None) -> bool:
    """Whether a call asks for a result that can be differentiated."""
    keywords = call.keywords if isinstance(call, ast.Call) else []
    return any(keyword.arg == "create_graph" and is_true(keyword.value) for keyword in keywords)


def layers(value: ast.expr | None) -> Iterator[ast.expr]:
    """An expression, and by turns what it prints, takes a part or an attribute of, calls a method of, or turns the sign of."""
    while value is not None:
        yield value
        if isinstance(value, ast.UnaryOp):
            value = value.operand
        elif isinstance(value, (ast.Subscript, ast.Attribute)):
            value = value.value
        elif isinstance(value, ast.Call) and (
            path(value.func) in LOOKING  # torch.sum(g, dim=0), g.sum(dim=0)
            or (path(value.func) == f"torch.{name_of(value)}" and catalog.is_method(name_of(value)))
        ) and len(given := [part for part in value.args if not isinstance(part, ast.Constant)]) == 1:
            (value,) = given
        elif isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
            value = value.func.value
        else:
            return


LOOKING = ("print", "list", "tuple", "len", "float", "abs", "bool", "torch.all", "torch.any", "torch.isnan", "torch.isfinite")
"""Functions that people look at a result by."""


def picked(argnums: ast.expr | None, count: int) -> list[int] | None:
    """Which of so many arguments `argnums` picks: the first, where it is not given.  None where it can't be read."""
    try:
        chosen = 0 if argnums is None else ast.literal_eval(argnums)
        numbers = [range(count)[number] for number in ([chosen] if isinstance(chosen, int) else list(chosen))]
    except (ValueError, TypeError, IndexError):
        return None
    return numbers if len({*numbers}) == len(numbers) else None


def _grad(call: ast.Call, source: str) -> Pasted | None:
    """torch.autograd.grad(outputs, inputs, grad_outputs)."""
    outputs, inputs = items(argument(call, 0, "outputs")), argument(call, 1, "inputs")
    names = _leaves(inputs)
    if not outputs or not names:
        return None
    weights = _weights(argument(call, 2, "grad_outputs"), len(outputs), source)
    batched = is_true(argument(call, 7, "is_grads_batched"))
    notes = (*_about_graph(call, 3), *_about_unused(call))
    allowed = [argument(call, position, name) for name, (position, _) in UNUSED_OPTIONS.items()]
    return Pasted(
        _tuple(outputs, source), wrt=names, grad_outputs=weights, is_grads_batched=batched, notes=notes,
        all_used=all(flag is None or (isinstance(flag, ast.Constant) and not flag.value) for flag in allowed),
    )  # fmt: skip


def _tuple(outputs: Sequence[ast.expr], source: str) -> str:
    """One output as it stands, several as a tuple."""
    texts = [text_of(item, source) for item in outputs]
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"


OF_TENSORS = frozenset({"T", "mT", "H", "mH", "data", "grad", "real", "imag"})
"""What a tensor has that is another tensor, and no parameter of a module."""


def _leaves(inputs: ast.expr | None) -> tuple[str, ...] | None:
    """The names of what is differentiated to; none where that is not said, None where it is said by no name."""
    names = tuple(parameters_of(item) or _part_of_module(item) for item in _joined(inputs))
    paths = [name.removesuffix(".parameters()").split(".") for name in names]
    known = (each[0].isidentifier() and "" not in each and (len(each) == 1 or each[-1] not in OF_TENSORS) for each in paths)
    return names if all(known) else None


def _joined(node: ast.expr | None) -> list[ast.expr]:
    """What a tuple or a list holds, those joined by `*` and `+` too; any other expression alone."""
    lists = (ast.List, ast.Tuple, ast.ListComp, ast.BinOp)
    sides = [node.left, node.right] if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) else []
    if sides and all(isinstance(part, lists) or _inside(part, "list", "tuple") for part in sides):
        return [item for part in sides for item in _joined(part)]
    return [item.value if isinstance(item, ast.Starred) else item for item in items(node)]


def _inside(node: ast.expr, *names: str) -> ast.expr | None:
    """`x` of `list(x)`, of a call of one of some names; None of anything else."""
    is_call = isinstance(node, ast.Call) and path(node.func) in names and len(node.args) == 1
    return node.args[0] if is_call and isinstance(node, ast.Call) else None


def parameters_of(node: ast.expr, named: bool = False) -> str:
    """`net.parameters()` of that, and of a list or dictionary of these, or of those that require a gradient; else nothing.

    Those of `net.named_parameters()` are `named`.
    """
    if (inner := _inside(node, "list", "tuple")) is not None:
        return parameters_of(inner, named)
    if (inner := _inside(node, "dict")) is not None:
        return parameters_of(inner, True)
    if isinstance(node, (ast.ListComp, ast.GeneratorExp)) and len(node.generators) == 1:
        (loop,) = node.generators
        own = path(items(loop.target)[-1])
        if path(node.elt) != own or any(path(part) != f"{own}.requires_grad" for part in loop.ifs):
            return ""
        return parameters_of(loop.iter, isinstance(loop.target, ast.Tuple))
    called = _part_of_module(node.func) if isinstance(node, ast.Call) else ""
    owner, _, method = called.rpartition(".")
    return f"{owner}.parameters()" if owner and method == ("named_parameters" if named else "parameters") else ""


def _part_of_module(node: ast.expr) -> str:
    """`net.0.weight` of `net[0].weight`; a name is itself, and anything else has an empty part."""
    if isinstance(node, ast.Attribute):
        whole = node.value
        place = whole.slice.value if isinstance(whole, ast.Subscript) and isinstance(whole.slice, ast.Constant) else None
        inner = f"{_part_of_module(whole.value)}.{place}" if isinstance(whole, ast.Subscript) and type(place) is int else ""
        return f"{inner or _part_of_module(whole)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _backward(call: ast.Call, source: str) -> Pasted | None:
    """torch.autograd.backward(tensors, grad_tensors)."""
    if path(call.func) != BACKWARD or not call.args:
        return None
    outputs = items(call.args[0])
    weights, wrt = _weights(argument(call, 1, "grad_tensors"), len(outputs), source), _leaves(argument(call, 5, "inputs"))
    return None if wrt is None else Pasted(
        _tuple(outputs, source), wrt=wrt, grad_outputs=weights, notes=_about_graph(call, 2)
    )


def _jacobian(call: ast.Call, source: str) -> Pasted | None:
    """jacobian(f, inputs)."""
    found = _of_function(_function(call), items(argument(call, 1, "inputs")), source)
    return found and replace(found, notes=(*found.notes, *_about_strategy(call, "strategy")))


def _about_strategy(call: ast.Call, word: str) -> tuple[str, ...]:
    """Of forward mode in torch.autograd.functional, which has it vectorized alone."""
    chosen, vectorized = argument(call, 5, word), argument(call, 4, "vectorize")
    alone = getattr(chosen, "value", None) == "forward-mode" and not is_true(vectorized)
    return (f'PyTorch raises, since {word}="forward-mode" needs vectorize=True; the derivative is the same',) if alone else ()


def _vjp(call: ast.Call, source: str) -> Pasted | None:
    """autograd.functional.vjp(f, inputs, v); torch.func.vjp(f, *inputs)."""
    if ".func." in path(call.func):
        return _pullback(call, source)
    found = _of_function(_function(call), items(argument(call, 1, "inputs")), source)
    weights = argument(call, 2, "v")
    return found and replace(found, grad_outputs=_texts(weights, source) if weights else ("implicit:vjp",))


def _pullback(call: ast.Call, source: str) -> Pasted | None:
    """torch.func.vjp(f, *inputs), whose second part is called with v."""
    has_aux = is_true(next((keyword.value for keyword in call.keywords if keyword.arg == "has_aux"), None))
    found = _of_function(call.args[:1], call.args[1:], source, has_aux=has_aux)
    return found and replace(found, notes=(HAS_AUX,) if has_aux else ())


def _jvp(call: ast.Call, source: str) -> Pasted | None:
    """autograd.functional.jvp(f, inputs, v); torch.func.jvp(f, primals, tangents)."""
    found = _of_function(_function(call), items(argument(call, 1, "primals") or argument(call, 1, "inputs")), source)
    return found and replace(found, tangent=_texts(argument(call, 2, "tangents") or argument(call, 2, "v"), source))


def _hessian(call: ast.Call, source: str) -> Pasted | None:
    """hessian(f, x), hvp(f, x, v): the Jacobian of the gradient, and its product with v, which is the same from both sides."""
    functions, inputs = _function(call), items(argument(call, 1, "inputs"))
    if not functions:
        return None
    argnums = f", argnums={(*range(len(inputs)),)}" if len(inputs) > 1 else ""
    gradient = parsed(f"torch.func.grad({text_of(functions[0], source)}{argnums})")
    note = f"the Hessian is the Jacobian of the gradient, which stands here as {'y0, y1 and so on' if argnums else 'y'}"
    found = _of_function([gradient], inputs, source)
    notes = (note, *_about_strategy(call, "outer_jacobian_strategy"))
    return found and replace(found, grad_outputs=_texts(argument(call, 2, "v"), source), notes=notes)


CHECKS = ("gradcheck", "gradgradcheck")
"""Calls that compare a derivative with finite differences, and are told whether it is right."""


def _gradcheck(call: ast.Call, source: str) -> Pasted | None:
    """gradcheck(f, inputs): the derivative that it compares with finite differences; gradgradcheck that of the gradient."""
    name, functions, inputs = name_of(call), _function(call), items(argument(call, 1, "inputs"))
    note = f"{name} compares this derivative with finite differences, as jvp check does"
    if name == "gradgradcheck" and functions:
        argnums = f", argnums={(*range(len(inputs)),)}" if len(inputs) > 1 else ""
        total = parsed(f"lambda *values: ({text_of(functions[0], source)})(*values).sum()")
        functions = [parsed(f"torch.func.grad({ast.unparse(total)}{argnums})")]
        note = f"{note}, for the gradient of the sum of all entries"
    found = _of_function(functions, inputs, source)
    return found and replace(found, notes=(note,))


def _transform(function: ast.Call, arguments: Sequence[ast.expr], source: str) -> Pasted | None:
    """jacrev(f)(x), grad(f)(x), hessian(f)(x), where f may be another transform of a function, and vmap of these."""
    made = _outward(function)
    name, argnums, functions = name_of(made), argument(made, 1, "argnums"), _function(made)
    chosen = picked(argnums, len(arguments))
    if name not in (*COMPOSED, "hessian") or not functions or chosen is None:
        return None
    notes: list[str] = []
    if name == "hessian":
        functions = [_with_function(made, functions[0], "jacrev")]
    if _innermost(function) == "hessian":
        notes.append("the Hessian is the Jacobian of the first derivative, which stands here as what is differentiated")
    has_aux = is_true(argument(made, 2, "has_aux"))
    if has_aux:
        notes.append(HAS_AUX)
    found = _of_function(functions, arguments, source, chosen, has_aux)
    mapped = _mapped(function, chosen, len(arguments)) if made is not function else (0, [])
    if found is None or mapped is None:
        return None
    (depth, shared), is_gradient = mapped, name in ("grad", "grad_and_value")
    for kind in sorted({*shared}):
        names = ", ".join(each for each, own in zip(found.wrt, shared, strict=True) if own is kind)
        notes.append(f"vmap{f', by {names}' if len({*shared}) > 1 else ''}: {OF_SAMPLES[is_gradient, kind]}")
    weight = f"implicit:grad_{depth}" if depth else "implicit:grad"
    return replace(found, grad_outputs=(weight,) if is_gradient else (), notes=tuple(notes))


HAS_AUX = "has_aux: what else the function gives is left out"

OF_SAMPLES = {
    (True, False): "no sample sees another, so the result by ones holds the gradient of each sample, where the sample stands "
    "in the input",
    (True, True): "the gradient of each sample is the part of the Jacobian with its index in the output, which counts the "
    "samples first; the result by ones is their sum",
    (False, False): "no sample sees another: the Jacobian of each is the block of the one here with its index in the "
    "output, which counts the samples first, and in the input, and all other blocks are zero",
    (False, True): "the Jacobian of each sample is the part of the one here with its index in the output, which counts the "
    "samples first",
}
"""How what is asked of each sample stands in the answer, of a gradient or not, by an input that the samples share or not."""


def _innermost(function: ast.expr) -> str:
    """The name of the transform that stands in any vmap."""
    name = name_of(function) if isinstance(function, ast.Call) else ""
    return _innermost(_function(function)[0]) if isinstance(function, ast.Call) and name == "vmap" else name


def _mapped(function: ast.expr, chosen: Sequence[int], count: int) -> tuple[int, list[bool]] | None:
    """How many times vmap stands around a function of so many arguments, and whether the samples share each that is chosen.

    None where one is shared by some vmap only, or where that can't be read.
    """
    if not isinstance(function, ast.Call) or name_of(function) != "vmap":
        return 0, []
    inner = _mapped(_function(function)[0], chosen, count)
    given = argument(function, 1, "in_dims")
    try:
        dims = 0 if given is None else ast.literal_eval(given)
        axes = [dims] * count if isinstance(dims, int) else list(dims)
        shared = [axes[place] is None for place in chosen]
    except (ValueError, TypeError, IndexError):
        return None
    return None if inner is None or inner[1] not in ([], shared) else (inner[0] + 1, shared)


_READERS: Mapping[str, Callable[[ast.Call, str], Pasted | None]] = {
    "grad": _grad, "backward": _backward, "jacobian": _jacobian, "vjp": _vjp, "jvp": _jvp,
    "hessian": _hessian, "hvp": _hessian, "vhp": _hessian, "gradcheck": _gradcheck, "gradgradcheck": _gradcheck,
}  # fmt: skip


def _function(call: ast.Call) -> list[ast.expr]:
    """The first argument, or `func=`; none where it is missing."""
    found = argument(call, 0, "func")
    return [] if found is None else [found]


def _of_function(
    function: Sequence[ast.expr], arguments: Sequence[ast.expr], source: str, chosen: Sequence[int] | None = None,
    has_aux: bool = False,
) -> Pasted | None:
    """A function at some arguments: a lambda's body with its parameters named, or a call of any other function.

    Differentiated are the arguments that are `chosen` by their places, or all.  Of these one that is no name gets one, and
    is an input; of the others it stands as it is.  With `has_aux` the first of two things that the function gives is meant.
    """
    if not function or not arguments or any(isinstance(each, ast.Starred) for each in arguments):
        return None
    (what,) = function
    parameters = _parameters(what)
    if parameters is None or (isinstance(what, ast.Lambda) and len(parameters) != len(arguments)):
        return None
    given: dict[str, str] = {}
    texts = [text_of(each, source) for each in arguments]
    places = range(len(arguments)) if chosen is None else chosen
    for place in places:
        if "." in path(arguments[place]):  # of a module
            return None
        if not path(arguments[place]):
            name = _new_name(parameters[place : place + 1], source, text_of(what, source), given)
            given[name], texts[place] = texts[place], name
    wrt = tuple(texts[place] for place in places)
    if len({*texts}) != len(texts):
        return None
    if not isinstance(what, ast.Lambda):
        called = path(what) or (text_of(what, source) if makes_function(what) else "")
        return Pasted(f"{called}({', '.join(texts)}){'[0]' * has_aux}", given, wrt) if called else None
    read = {word for text in texts for word in re.findall(r"[^\W\d]\w*", text)}
    renamed = [(own, text) for own, text in zip(parameters, texts, strict=True) if own != text]
    if any(own in read for own, _ in renamed):
        return None  # they would have to be named all at once
    body = f"({text_of(what.body, source)})[0]" if has_aux else text_of(what.body, source)
    return Pasted("; ".join([*(f"{own} = {text}" for own, text in renamed), body]), given, wrt)


def _parameters(function: ast.expr) -> list[str] | None:
    """The names of a lambda's parameters, none of any other function; None for a lambda that takes them in another way."""
    if not isinstance(function, ast.Lambda):
        return []
    taken = function.args
    if taken.posonlyargs or taken.kwonlyargs or taken.vararg or taken.kwarg:
        return None
    return [parameter.arg for parameter in taken.args]


def makes_function(node: ast.expr) -> bool:
    """Whether a call gives a function: one of torch.func that gives the derivative as one, or vmap."""
    if not isinstance(node, ast.Call):
        return False
    given = argument(node, 1, "inputs")  # of torch.autograd.grad and torch.autograd.functional.hessian tensors, else argnums
    derives = name_of(node) in (*COMPOSED, "hessian") and all(isinstance(part, ast.Constant) for part in items(given))
    return derives or name_of(node) == "vmap"


def _new_name(parameter: Sequence[str], source: str, function: str, given: Mapping[str, str]) -> str:
    """A name for an argument that has none: its parameter's, if nothing else in the program is called so."""
    taken = {*re.findall(r"\w+", source.replace(function, " ", 1)), *given}
    names = (*parameter, *(f"input_{number}" for number in range(1, len(taken) + 2)))
    return next(name for name in names if name not in taken)


def argument(call: ast.Call, position: int, name: str) -> ast.expr | None:
    """An argument by its position or keyword; None where it is not given, or None."""
    named = next((keyword.value for keyword in call.keywords if keyword.arg == name), None)
    found = call.args[position] if len(call.args) > position else named
    return None if found is None or _is_none(found) else found


def items(node: ast.expr | None) -> list[ast.expr]:
    """What a tuple or a list holds; any other expression alone, and none where there is none."""
    if node is None:
        return []
    return list(node.elts) if isinstance(node, ast.Tuple | ast.List) else [node]


def _texts(node: ast.expr | None, source: str) -> tuple[str, ...]:
    return tuple(text_of(item, source) for item in items(node))


def _weights(node: ast.expr | None, outputs: int, source: str) -> tuple[str, ...]:
    """The texts of the weights of some outputs; those that are None, or not given, are left to PyTorch."""
    each: list[ast.expr | None] = [*items(node)] or [None] * outputs
    return tuple("implicit" if item is None or _is_none(item) else text_of(item, source) for item in each)


GRAPH_OPTIONS = ("retain_graph", "create_graph")


def _about_graph(call: ast.Call, position: int) -> tuple[str, ...]:
    """Of the options that keep the graph, where they are given: they stand from `position` on, or by name."""
    given = [(name, argument(call, position + k, name)) for k, name in enumerate(GRAPH_OPTIONS)]
    return tuple(
        f"{name}={ast.unparse(value)} changes no number here: it is about the graph, which is kept for this answer alone"
        for name, value in given
        if value is not None
    )


UNUSED_OPTIONS = {"allow_unused": (6, "None"), "materialize_grads": (8, "zeros, as here")}


def _about_unused(call: ast.Call) -> tuple[str, ...]:
    """Of the options of torch.autograd.grad that say what becomes of an input that no gradient reaches."""
    return tuple(
        f"{name}=True: of an input that no gradient reaches PyTorch gives {gives}"
        for name, (position, gives) in UNUSED_OPTIONS.items()
        if is_true(argument(call, position, name))
    )


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def is_true(node: ast.expr | None) -> bool:
    """`True`, or another constant that counts so."""
    return isinstance(node, ast.Constant) and bool(node.value)


def is_block(statement: ast.AST) -> bool:
    """Whether a statement holds others."""
    return isinstance(statement, (ast.For, ast.While, ast.If, ast.With, ast.FunctionDef, ast.Try))


def text_of(node: ast.AST, source: str) -> str:
    """The text of a part of a program as it stands there; of one that was made, as Python writes it."""
    in_block = getattr(node, "col_offset", None)  # its lines have the margin of what it stands in
    if isinstance(node, ast.stmt) and is_block(node) and in_block:
        return ast.unparse(node)
    segment = ast.get_source_segment(source, node)
    marks = [f"@{text_of(mark, source)}\n" for mark in getattr(node, "decorator_list", ())]  # which stand above it
    return ast.unparse(node) if segment is None else "".join([*marks, segment])


def parsed(text: str) -> ast.expr:
    """An expression of its own, whose text, which may have line breaks, stands nowhere in a program."""
    return without_places(ast.parse(f"({text}\n)", mode="eval").body)


def without_places(node: T) -> T:
    """A part of a tree that is not taken to stand in a text."""
    for part in ast.walk(node):
        if isinstance(part, (ast.expr, ast.stmt)):
            part.end_lineno = None
    return node


def name_of(call: ast.Call) -> str:
    """The last name of what is called: `grad` of torch.autograd.grad."""
    return path(call.func).rpartition(".")[2]


def path(node: ast.expr) -> str:
    """`torch.autograd.grad` of a dotted name; the last parts alone where it begins with something else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{path(node.value)}.{node.attr}"
    return ""
