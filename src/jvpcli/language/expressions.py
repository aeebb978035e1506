"""Expressions lowered to equations: every node type that the language has, by one table (`LEAVES`).

Names resolve through the catalogue by exact path, so nothing can be reached that isn't in it.  Loads no torch.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jvpcli.errors import ExpressionSyntaxError, ForbiddenError, LimitError, Span
from jvpcli.language import catalog, refusals
from jvpcli.language.lowering import Lowering, Scope
from jvpcli.language.names import LIST_METHODS, assigned, dotted, turns_on, without_mode
from jvpcli.program import BACKWARD, GRAD, IMPORTED, READ, Block, Const, Known, Operand, Pack, Parameters, Ref

MAX_DEPTH = 100
"""Expressions may nest this deep (long chains such as x+x+… or x.sin().sin()… don't count)."""

OPERATORS: Mapping[type[ast.AST], str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "truediv", ast.FloorDiv: "floordiv", ast.Mod: "mod",
    ast.Pow: "pow", ast.MatMult: "matmul", ast.BitAnd: "and_", ast.BitOr: "or_", ast.BitXor: "xor",
    ast.LShift: "lshift", ast.RShift: "rshift",
    ast.USub: "neg", ast.UAdd: "pos", ast.Invert: "invert", ast.Not: "not_",
    ast.Eq: "eq", ast.NotEq: "ne", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge",
    ast.Is: "is_", ast.IsNot: "is_not",
}  # fmt: skip
"""Syntax to the name in the module `operator`."""


MANUAL_SEED = "torch.manual_seed"
"""What begins random numbers anew."""

MAX_PARTS = 16
"""Parts of a dotted path that is looked up."""

DERIVATIVES: Mapping[str, str] = {"torch.autograd.grad": GRAD, "torch.autograd.backward": BACKWARD}
"""Derivative calls by their path."""

TYPED: Mapping[str, str] = {
    "torch.Tensor": "torch.float32", "torch.FloatTensor": "torch.float32", "torch.DoubleTensor": "torch.float64",
    "torch.HalfTensor": "torch.float16", "torch.LongTensor": "torch.int64", "torch.IntTensor": "torch.int32",
    "torch.ShortTensor": "torch.int16", "torch.CharTensor": "torch.int8", "torch.ByteTensor": "torch.uint8",
    "torch.BFloat16Tensor": "torch.bfloat16", "torch.BoolTensor": "torch.bool",
}  # fmt: skip
"""Older names for torch.tensor of a list, with the dtype that they give."""

USUAL: Mapping[str, str] = {
    "np": "numpy", "numpy": "numpy", "optim": "torch.optim", "autograd": "torch.autograd",
}  # fmt: skip
"""What names mean that people use without showing their import, where nothing else has them."""

WORDS: Mapping[str, str] = {"float": "float64", "double": "float64", "int": "int64", "bool": "bool", "complex": "complex128"}
"""Python's and numpy's names of dtypes, where torch has another for it."""

NUMBERS = ("pi", "e", "inf", "nan")
"""Numbers that numpy has under the names that math has them by."""

WITHOUT_GRAPH = frozenset({"torch.autograd.Variable", "Variable", "torch.nn.Parameter", "torch.nn.parameter.Parameter"})
"""What gives the numbers of its argument, wherever it makes no leaf."""

ACCELERATORS = frozenset(
    {"torch.cuda.is_available", "torch.accelerator.is_available", "torch.backends.mps.is_available", "torch.xpu.is_available"}
)
TRANSFORMS: Mapping[str, str] = {
    **{f"{root}.{name}": name for root in ("torch.func", "functorch")
       for name in ("grad", "grad_and_value", "jacrev", "jacfwd", "hessian", "vmap", "vjp", "jvp")},
    **{f"torch.autograd.functional.{name}": f"functional.{name}"
       for name in ("jacobian", "hessian", "vjp", "jvp", "hvp", "vhp")},
    "torch.vmap": "vmap",
}  # fmt: skip
"""What makes functions from functions, and derivatives of functions, by its path."""

FUNCTIONAL_CALLS = frozenset({"torch.func.functional_call", "torch.nn.utils.stateless.functional_call"})
"""What calls a module with other values of its parameters."""

CALLS: Mapping[str, Sequence[str]] = {
    GRAD: ("outputs", "inputs", "grad_outputs", "retain_graph", "create_graph", "only_inputs", "allow_unused",
           "is_grads_batched", "materialize_grads"),
    BACKWARD: ("tensors", "grad_tensors", "retain_graph", "create_graph", "grad_variables", "inputs"),
}  # fmt: skip
"""Their parameters, in order."""

OF_METHOD = ("tensors", "gradient", "retain_graph", "create_graph", "inputs")
"""Those of `y.backward`; y is the first."""

NAMES: Mapping[str, str] = {"gradient": "grad_tensors", "grad_variables": "grad_tensors"}
"""Other names for a parameter."""


class Expressions(Lowering):
    """One pass over a syntax tree: its expressions."""

    def expr(self, node: ast.expr, depth: int) -> Operand:
        """An expression; chains to the left (a+b+…, x.f().g()…) are walked without recursion."""
        chain: list[ast.expr] = []
        while True:
            if isinstance(node, ast.BinOp):
                chain.append(node)
                node = node.left
            elif isinstance(node, ast.Subscript) or (isinstance(node, ast.Attribute) and not self.dotted(node)):
                chain.append(node)
                node = node.value
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not self.dotted(node.func):
                chain.append(node)
                node = node.func.value
            elif isinstance(node, ast.Name) and node.id in self.text.pieces:
                node = self.text.pieces[node.id]
            else:
                break
        operand = self.leaf(node, depth + 1)
        for link in reversed(chain):
            operand = self.link(link, operand, depth + 1)
        return operand

    def link(self, node: ast.expr, left: Operand, depth: int) -> Operand:
        """One step of a chain, whose left side is lowered already."""
        if isinstance(node, ast.BinOp):
            return self.binary(node.op, left, self.expr(node.right, depth), node)
        if isinstance(node, ast.Subscript):
            return self.emit("op:getitem", (left, self.subscript(node.slice, depth)), node)
        if isinstance(node, ast.Attribute):
            return self.attribute(node, left)
        assert isinstance(node, ast.Call)
        return self.method(node, left, depth)

    def leaf(self, node: ast.expr, depth: int) -> Operand:
        """What a chain begins with."""
        if depth > MAX_DEPTH:
            hints = ["Give parts a name: y = …; z = f(y)."]
            raise self.at(node, LimitError(f"The expression nests more than {MAX_DEPTH} levels deep.", hints=hints))
        handler = LEAVES.get(type(node))
        if handler is None:
            raise self.at(node, refusals.node(type(node)))
        return handler(self, node, depth)

    def constant(self, node: ast.Constant, depth: int) -> Operand:
        """A number, a string, None, ..., True or False."""
        if isinstance(node.value, bytes):
            raise self.at(node, ForbiddenError("Bytes are not part of the language."))
        return Const(node.value)

    def word(self, node: ast.Name, depth: int) -> Operand:
        """A name, maybe one that was imported."""
        if node.id in self.imported_names and self.value_of(node.id) is None:
            return self.path(node, depth)
        return self.name(node, depth)

    def unary(self, node: ast.UnaryOp, depth: int) -> Operand:
        """-x, +x, ~x, not x; a signed number is a number."""
        operand = self.no_text(self.expr(node.operand, depth), node)
        if isinstance(operand, Const) and type(operand.value) in (int, float, complex):
            if isinstance(node.op, ast.USub):
                return Const(-operand.value)
            if isinstance(node.op, ast.UAdd):
                return operand
        return self.emit(f"op:{OPERATORS[type(node.op)]}", (operand,), node)

    def binary(self, op: ast.operator, left: Operand, right: Operand, node: ast.AST) -> Operand:
        """a + b and its like."""
        operands = (self.no_text(left, node), self.no_text(right, node))
        return self.emit(f"op:{OPERATORS[type(op)]}", operands, node)

    def compare(self, node: ast.Compare, depth: int) -> Operand:
        """a < b, and a < b < c as `a < b and b < c` with b evaluated once."""
        left = self.expr(node.left, depth)
        right = self.expr(node.comparators[0], depth)
        result = self.comparison(node.ops[0], left, right, node)
        for op, comparator in zip(node.ops[1:], node.comparators[1:], strict=True):
            with self.block() as equations:
                left, right = right, self.expr(comparator, depth)
                inner = self.comparison(op, left, right, node)
            result = self.emit("and", (result,), node, bodies=(Block((), tuple(equations), inner),))
        return result

    def comparison(self, op: ast.cmpop, left: Operand, right: Operand, node: ast.expr) -> Operand:
        """One comparison; `a in b` is `operator.contains(b, a)`."""
        if isinstance(op, (ast.In, ast.NotIn)):
            found = self.emit("op:contains", (right, left), node)
            return found if isinstance(op, ast.In) else self.emit("op:not_", (found,), node)
        return self.emit(f"op:{OPERATORS[type(op)]}", (left, right), node)

    def boolean(self, node: ast.BoolOp, depth: int) -> Operand:
        """a and b, a or b."""
        op = "and" if isinstance(node.op, ast.And) else "or"
        result = self.expr(node.values[0], depth)
        for value in node.values[1:]:
            result = self.emit(op, (result,), node, bodies=(self.branch(value, depth),))
        return result

    def conditional(self, node: ast.IfExp, depth: int) -> Operand:
        """a if condition else b."""
        condition = self.expr(node.test, depth)
        if isinstance(condition, Const) and condition.path is None:
            return self.expr(node.body if condition.value else node.orelse, depth)
        bodies = (self.branch(node.body, depth), self.branch(node.orelse, depth))
        return self.emit("if", (condition,), node, bodies=bodies)

    def branch(self, node: ast.expr, depth: int) -> Block:
        """An expression that is evaluated only if it is needed."""
        with self.block() as equations:
            result = self.expr(node, depth)
        return Block((), tuple(equations), result)

    def sequence(self, node: ast.Tuple | ast.List, depth: int) -> Operand:
        """[a, b, *c] and (a, b)."""
        kind = "list" if isinstance(node, ast.List) else "tuple"
        return self.pack(kind, [self.item(element, depth) for element in node.elts], node)

    def item(self, node: ast.expr, depth: int) -> Operand:
        """An argument or list element, maybe starred."""
        if isinstance(node, ast.Starred):
            return self.pack("star", [self.expr(node.value, depth)], node)
        return self.expr(node, depth)

    def subscript(self, node: ast.expr, depth: int) -> Operand:
        """What stands in brackets: slices are allowed only there."""
        if isinstance(node, ast.Slice):
            bounds = (node.lower, node.upper, node.step)
            return Pack("slice", tuple(Const(None) if b is None else self.expr(b, depth) for b in bounds))
        if isinstance(node, ast.Tuple):
            return self.pack("tuple", [self.subscript(element, depth) for element in node.elts], node)
        return self.item(node, depth)

    def comprehension(self, node: ast.ListComp | ast.GeneratorExp, depth: int, level: int = 0) -> Operand:
        """[f(a) for a in items if …]; further `for`s are loops inside, whose results are joined."""
        generator = node.generators[level]
        if generator.is_async:
            raise self.at(node, ForbiddenError("`async` is not part of the language."))
        if level + depth > MAX_DEPTH:
            raise self.at(node, LimitError(f"The expression nests more than {MAX_DEPTH} levels deep."))
        items = self.expr(generator.iter, depth)
        names = self.scope.names
        hidden = {part.id: names.get(part.id) for part in flat_parts(generator.target) if isinstance(part, ast.Name)}
        params = self.loop_target(generator.target, self.hide)
        conditions = tuple(self.branch(test, depth) for test in generator.ifs)
        nested = level + 1 < len(node.generators)
        with self.block() as equations:
            result = self.comprehension(node, depth, level + 1) if nested else self.expr(node.elt, depth)
        for name, value in hidden.items():
            if value is None:
                del names[name]
            else:
                names[name] = value
        body = Block(params, tuple(equations), result, conditions)
        return self.emit("loop:flat" if nested else "loop", (items,), node, bodies=(body,))

    def hide(self, target: ast.Name) -> int:
        """The slot of a comprehension's variable, which hides what else has its name."""
        slot = self.new_slot()
        self.scope.names[self.own_name(target.id, target)] = Ref(slot)
        return slot

    def loop_target(self, target: ast.expr, slot_of: Callable[[ast.Name], int]) -> Any:
        """The slots of a loop's variables, nested as they are."""
        if isinstance(target, ast.Name):
            return slot_of(target)
        if isinstance(target, (ast.Tuple, ast.List)):
            return tuple(self.loop_target(part, slot_of) for part in target.elts)
        message = "A loop's variable must be a name or a tuple of names."
        raise self.at(target, ExpressionSyntaxError(message))

    def function(self, node: ast.Lambda | ast.FunctionDef, depth: int) -> Ref:
        """A function of the program: its defaults are evaluated here, its body where it is called."""
        arguments = node.args
        defaults = tuple(self.expr(default, depth) for default in arguments.defaults)
        named = tuple(
            (parameter.arg, self.expr(default, depth))
            for parameter, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            if default is not None
        )
        parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        parameters += [parameter for parameter in (arguments.vararg, arguments.kwarg) if parameter]
        own = [self.own_name(parameter.arg, parameter) for parameter in parameters]
        body: Sequence[ast.AST] = node.body if isinstance(node, ast.FunctionDef) else [node.body]
        self.around.append(self.scope)
        self.scope = Scope(assigned=frozenset([*own, *assigned(body)]))
        for name in self.scope.assigned:
            self.scope.names[name] = self.variable(name, self.scope)
        with self.block() as equations:
            result = self.function_body(node, depth)
        slots = {name: self.scope.slots[name].slot for name in own}
        self.scope = self.around.pop()
        count = len(arguments.posonlyargs) + len(arguments.args)
        taken = Parameters(
            tuple(slots.items())[:count],
            tuple((parameter.arg, slots[parameter.arg]) for parameter in arguments.kwonlyargs),
            slots[arguments.vararg.arg] if arguments.vararg else None,
            len(arguments.posonlyargs),
            slots[arguments.kwarg.arg] if arguments.kwarg else None,
        )
        block = Block(taken, tuple(equations), result)
        name = node.name if isinstance(node, ast.FunctionDef) else "lambda"
        return self.emit(f"function:{name}", defaults, node, named, (block,))

    def function_body(self, node: ast.Lambda | ast.FunctionDef, depth: int) -> Operand:
        """What a function gives where it doesn't return before its end."""
        assert isinstance(node, ast.Lambda)
        return self.expr(node.body, depth)

    # Attributes and calls

    def dotted(self, node: ast.expr) -> list[str] | None:
        """`torch.linalg.inv` as its parts, if the root is a namespace or import that no value hides; None otherwise."""
        parts: list[str] = []
        indexed = False
        while isinstance(node, (ast.Attribute, ast.Subscript)) and len(parts) < MAX_PARTS:
            part: Any = node.attr if isinstance(node, ast.Attribute) else _plain_key(node.slice)
            if part is None:
                return None
            indexed |= isinstance(node, ast.Subscript)
            parts.append(str(part))
            node = node.value
        if not isinstance(node, ast.Name) or self.value_of(node.id) is not None:
            return None
        if indexed and node.id not in self.function_roots:  # of a module alone: `net.layer1[0]`
            return None
        hidden = self.given is not None and node.id in self.given
        meant = self.imported_names.get(node.id) or (None if hidden else USUAL.get(node.id))
        if meant == "numpy" and not _is_numpys(*reversed(parts)):
            meant = None if node.id not in self.imported_names else meant
        if meant is not None:
            return [*meant.split("."), *reversed(parts)]
        foreign = self.given is not None and node.id in refusals.FOREIGN_ROOTS
        written = ".".join([node.id, *reversed(parts)])
        if any(written.startswith(f"{name}.") for name in self.parameters):  # of a parameter's value
            return None
        if hidden or not (node.id in catalog.ROOTS or node.id in self.function_roots or foreign):
            return None
        return [node.id, *reversed(parts)]

    def path(self, node: ast.Attribute | ast.Name, depth: int) -> Operand:
        """A path used as a value: a named constant, maybe with attributes of its own."""
        parts = self.dotted(node) or []
        if (name := ".".join(parts)) in self.parameters:
            return self.input(name, node)
        if name in self.functions and self.is_program:
            return self.function_value(name, node)
        if parts[0] == "numpy" and len(parts) == 2 and parts[1] not in catalog.ARRAY_FUNCTIONS and _is_numpys(parts[1]):
            parts = ["math" if parts[1] in NUMBERS else "torch", WORDS.get(parts[1], parts[1])]
        for length in range(2 if isinstance(node, ast.Attribute) else len(parts), len(parts) + 1):
            constant = catalog.canonical(".".join(parts[:length]))
            if catalog.is_constant(constant):
                links: list[Any] = [node]
                while len(links) < len(parts) - length:
                    links.append(links[-1].value)
                operand: Operand = Const(None, constant)
                for link in reversed(links[: len(parts) - length]):
                    operand = self.attribute(link, operand)
                return operand
        function = catalog.canonical(".".join(parts))
        if self.is_program and catalog.is_function(function):
            return Const(Known(f"call:{function}"))
        if name.rpartition(".")[0] in self.functions and not parts[-1].startswith("_"):
            return self.emit(f"held:{name}", (), node)  # which the module tells
        raise self.at(node, refusals.path(parts, called=False))

    def attribute(self, node: ast.Attribute, left: Operand) -> Operand:
        """x.T, or a field of a named result."""
        owner = _plain_owner(left)
        if owner is None and node.attr == "grad":
            return self.emit(READ, (left,), node)
        if owner is None and node.attr == "data":  # read, it is the tensor without its graph
            return self.emit("method:detach", (left,), node)
        if owner is None and (catalog.is_attribute(node.attr) or self.may_have(node.attr, left)):
            return self.emit(f"attr:{node.attr}", (left,), node)
        raise self.at(self.dot_name(node), refusals.member(node.attr, False, owner))

    def may_have(self, name: str, operand: Operand) -> bool:
        """Whether an operand may be what a function of the user's own gave, with a part of this name; running tells."""
        own = bool(self.functions) and not name.startswith("_") and not catalog.is_method(name)
        return own and isinstance(operand, Ref) and operand not in self.inputs.values()

    def method(self, node: ast.Call, left: Operand, depth: int) -> Operand:
        """x.sum(0)."""
        func = node.func
        assert isinstance(func, ast.Attribute)
        if func.attr in LIST_METHODS and self.is_program:
            keywords = self.keywords(node, depth, spread=True)
            return self.emit(f"list:{func.attr}", (left, *self.arguments(node, depth)), node, keywords)
        owner = _plain_owner(left)
        held = func.value if isinstance(func.value, ast.Attribute) and func.value.attr == "data" and not self.is_program else None
        if held is not None and func.attr.endswith("_") and not dotted(held).endswith(".grad.data"):  # which has no graph anyway
            raise self.at(self.dot_name(held), refusals.member("data", False))
        if owner is None and func.attr == "requires_grad_" and not turns_on(node):
            raise self.at(node, refusals.frozen())
        if owner is None and func.attr == "requires_grad_" and self.is_program:
            return self.emit("derive:open", (left,), node)
        if owner is None and func.attr == "backward":
            arguments = (left, *self.arguments(node, depth))
            return self.derivative(BACKWARD, node, OF_METHOD, arguments, self.keywords(node, depth))
        if owner is None and func.attr == "numpy" and not node.args:
            return self.emit("numpy:of", (left,), node)
        if owner is None and func.attr == "type" and (dtype := self.typed(node)):
            return self.emit("method:to", (left, Const(None, dtype)), node)
        if owner is None and (catalog.is_method(func.attr) or func.attr in catalog.ARRAY_METHODS):
            keywords = self.keywords(node, depth, spread=True)
            word = self.dtype_word(node.args[0]) if len(node.args) == 1 and func.attr in ("astype", "to", "type") else None
            arguments = self.arguments(node, depth) if word is None else (word,)
            return self.emit(f"method:{func.attr}", (left, *arguments), node, keywords)
        raise self.at(self.dot_name(func), refusals.member(func.attr, True, owner))

    def typed(self, node: ast.Call) -> str | None:
        """The dtype of `x.type(torch.FloatTensor)`; None for any other argument."""
        given = node.args[0] if len(node.args) == 1 and not node.keywords else None
        return TYPED.get(".".join(self.dotted(given) or [])) if isinstance(given, ast.Attribute) else None

    def dot_name(self, node: ast.Attribute) -> Span:
        """The place of `.name` alone, with the dot."""
        return self.text.span(node.value)[1], self.text.span(node)[1]

    def call(self, node: ast.Call, depth: int) -> Operand:
        """torch.f(…), imported functions and builtins; methods are links of a chain."""
        func = node.func
        if id(node) in self.modules:
            raise self.at(node, refusals.module_value())
        parts = self.dotted(func) or [] if isinstance(func, (ast.Attribute, ast.Name, ast.Subscript)) else []
        imported, path = self.imported(func, parts), ".".join(parts)
        if imported is not None:
            arguments, keywords = self.arguments(node, depth), self.keywords(node, depth)
            if self.is_module(func):
                self.constructed(imported, func)
            reads = tuple((name, self.input(name, func)) for name in self.functions[imported])
            return self.emit(f"call:{IMPORTED}{imported}", arguments, node, (*keywords, *reads))
        if isinstance(func, ast.Attribute) and func.attr in ("parameters", "named_parameters") and not node.args:
            owner = self.module_named(func.value)
            if owner:
                own = [name for name in self.parameters if name.startswith(f"{owner}.")]
                inputs = {name[len(owner) + 1 :]: self.input(name, node) for name in own}
                if func.attr == "parameters":
                    return self.pack("list", [*inputs.values()], node)
                return self.pack("list", [self.pack("tuple", [Const(name), x], node) for name, x in inputs.items()], node)
        if path in FUNCTIONAL_CALLS:
            return self.functional_call(node, depth)
        spelled = self.leaf_made(node, path, depth) or self.older(node, path, depth)
        if spelled is not None:
            return spelled
        if self.is_program and not isinstance(func, ast.Attribute) and not self.is_known(func):
            callee = self.expr(func, depth)
            keywords = self.keywords(node, depth, spread=True)
            return self.emit("apply", (callee, *self.arguments(node, depth)), node, keywords)
        op = self.callee(func, parts)
        if op == "random:seed" and (len(node.args) != 1 or node.keywords):
            raise self.at(node, ExpressionSyntaxError("torch.manual_seed takes the seed alone here."))
        if op in CALLS:
            return self.derivative(op, node, CALLS[op], self.arguments(node, depth), self.keywords(node, depth))
        keywords = self.keywords(node, depth, spread=op.startswith(("call:", "dict:")))
        return self.emit(op, self.arguments(node, depth), node, keywords)

    def module_named(self, node: ast.expr) -> str:
        """The name of the module that a path means; empty where it means none."""
        owner = ".".join(self.dotted(node) or []) if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)) else ""
        return owner if owner in self.functions and not self.is_value(owner) else ""

    def functional_call(self, node: ast.Call, depth: int) -> Operand:
        """`functional_call(net, parameters, arguments)`: a call of the module with other values of its parameters."""
        owner = self.module_named(node.args[0]) if len(node.args) == 3 and not node.keywords else ""
        if not owner or not self.is_program:
            raise self.at(node, refusals.functional_call())
        given = tuple(self.expr(part, depth) for part in node.args[1:])
        reads = tuple((name, self.input(name, node)) for name in self.parameters if name.startswith(f"{owner}."))
        return self.emit(f"functional:{owner}", given, node, reads)

    def leaf_made(self, node: ast.Call, path: str, depth: int) -> Operand | None:
        """`torch.zeros(3, requires_grad=True)` and nn.Parameter(…) inside of a program: a leaf of its own; None for others."""
        flags = [keyword for keyword in node.keywords if keyword.arg == "requires_grad"]
        makes = all(isinstance(flag.value, ast.Constant) and flag.value.value is True for flag in flags)
        if not self.is_program or not path or not makes or not (flags or path.endswith(".Parameter")):
            return None
        rest = [keyword for keyword in node.keywords if keyword not in flags]
        plain = ast.copy_location(ast.Call(node.func, node.args, rest), node)
        value = self.call(plain, depth) if flags else self.older(plain, path, depth)
        return None if value is None else self.emit("derive:open", (value,), node)

    def older(self, node: ast.Call, path: str, depth: int) -> Operand | None:
        """`torch.FloatTensor([1, 2])` and other ways to say what has a newer one; None for any other call."""
        if isinstance(node.func, ast.Name) and not path and not self.is_value(node.func.id):
            path = node.func.id
        if path in ACCELERATORS and not node.args:
            return Const(False)  # what is computed here stays where the inputs are
        if path == "torch.from_numpy" and len(node.args) == 1:
            return self.emit("numpy:from_numpy", (self.expr(node.args[0], depth),), node)
        name = path.removeprefix("numpy.")
        if name != path and name in catalog.ARRAY_FUNCTIONS | catalog.ARRAY_DTYPES:
            arguments = tuple(self.dtype_word(part) or self.item(part, depth) for part in node.args)
            return self.emit(f"numpy:{name}", arguments, node, self.keywords(node, depth))
        if path == "torch.device" and len(node.args) == 1:
            return self.expr(node.args[0], depth)
        written = all(isinstance(keyword.value, ast.Constant) for keyword in node.keywords)  # and not known as it runs
        if path in WITHOUT_GRAPH and len(node.args) == 1 and written:
            return self.emit("method:detach", (self.expr(node.args[0], depth),), node)
        if path in TYPED and len(node.args) > 1:
            raise self.at(node, refusals.unwritten(path, TYPED[path]))
        if path not in TYPED or len(node.args) != 1:
            return None
        values = self.expr(node.args[0], depth)
        dtype = TYPED[path]
        if isinstance(values, Ref):
            return self.emit(f"typed:{path}", (values,), node, (("dtype", Const(None, dtype)),))
        if not isinstance(values, Pack):
            raise self.at(node, refusals.unwritten(path, dtype))
        keywords = (("dtype", Const(None, dtype)),)
        return self.emit("call:torch.tensor", (values,), node, (*keywords, *self.keywords(node, depth)))

    def derivative(
        self,
        op: str,
        node: ast.Call,
        parameters: Sequence[str],
        arguments: Sequence[Operand],
        keywords: Sequence[tuple[str, Operand]],
    ) -> Ref:
        """A derivative call, with all arguments by name."""
        given = dict(keywords)
        if len(arguments) > len(parameters) or any(isinstance(part, Pack) and part.kind == "star" for part in arguments):
            raise self.at(node, ExpressionSyntaxError("The arguments of a derivative call are written out, as PyTorch has them."))
        for name, operand in (*zip(parameters, arguments, strict=False), *keywords):
            if name not in parameters or (name in given and (name, operand) not in keywords):
                raise self.at(node, ExpressionSyntaxError(f"`{name}` is no parameter of this call, or is given twice."))
            given[name] = operand
        return self.emit(op, (), node, tuple((NAMES.get(name, name), operand) for name, operand in given.items()))

    def is_known(self, func: ast.expr) -> bool:
        """Whether what is called is a function that the language has, by its name."""
        return isinstance(func, ast.Name) and self.value_of(func.id) is None

    def callee(self, func: ast.expr, parts: Sequence[str]) -> str:
        """The `op` of a call of one of the language's functions; `parts` of its dotted name."""
        if isinstance(func, ast.Attribute) or (isinstance(func, ast.Name) and func.id in self.imported_names):
            function = catalog.canonical(".".join(parts))
            if function in DERIVATIVES:
                return DERIVATIVES[function]
            if function == MANUAL_SEED:
                return "random:seed"
            if self.is_program and function in TRANSFORMS:
                return f"transform:{TRANSFORMS[function]}"
            if not catalog.is_function(function):
                raise self.at(func, refusals.path(parts, called=True, functions=self.functions))
            return f"call:{function}"
        if isinstance(func, ast.Subscript) and parts:
            raise self.at(func, refusals.path(parts, called=True, functions=self.functions))
        if not isinstance(func, ast.Name):
            message = "Only functions of torch, math and F, and methods of tensors can be called."
            raise self.at(func, ForbiddenError(message))
        if func.id == "dict" and self.is_program and not self.is_value("dict"):
            return "dict:of"
        refused = refusals.called_name(func.id, self.is_value(func.id))
        if refused is not None:
            raise self.at(func, refusals.not_imported(refused, func.id, self.functions))
        return "op:pow" if func.id == "pow" else f"builtin:{func.id}"

    def imported(self, func: ast.expr, parts: Sequence[str]) -> str | None:
        """The name of the imported function that is called, if it is one that no value hides; `parts` of its dotted name."""
        if self.is_module(func):
            return self.modules[id(without_mode(func))]
        if isinstance(func, (ast.Attribute, ast.Subscript)):
            name = self.submodule(parts)
        else:
            name = func.id if isinstance(func, ast.Name) else ""
        return name if name in self.functions and not self.is_value(name) else None

    def constructed(self, name: str, node: ast.AST) -> None:
        """Where a module is made: random numbers go on as they do behind it, if any are drawn."""
        if self.draws:
            self.emit("random:construct", (), node, (("module", Const(name)),))

    def submodule(self, parts: Sequence[str]) -> str:
        """The dotted name of a submodule; a number below zero counts from the last of its siblings."""
        name = ""
        for part in parts:
            if part.startswith("-"):
                siblings = {each[len(name) :].partition(".")[0] for each in self.functions if each.startswith(name)}
                part = str(int(part) + sum(map(str.isdecimal, siblings)))
            name += f"{part}."
        return name[:-1]

    def is_module(self, node: ast.expr) -> bool:
        """Whether an expression constructs a module, which is made before the program runs."""
        return id(without_mode(node)) in self.modules

    def arguments(self, node: ast.Call, depth: int) -> tuple[Operand, ...]:
        """The positional arguments."""
        return tuple(self.item(argument, depth) for argument in node.args)

    def keywords(self, node: ast.Call, depth: int, spread: bool = False) -> tuple[tuple[str, Operand], ...]:
        """The keyword arguments; `spread`: `**` may stand among them, whose names are looked at when it runs."""
        lowered = []
        for keyword in node.keywords:
            if keyword.arg is None and spread and self.is_program:
                lowered.append(("**", self.expr(keyword.value, depth)))
                continue
            if keyword.arg == "requires_grad" and isinstance(keyword.value, ast.Constant) and keyword.value.value is False:
                continue
            refused = refusals.keyword(keyword.arg)
            if refused is not None:
                raise self.at(keyword, refused)
            word = self.dtype_word(keyword.value) if keyword.arg == "dtype" else None
            lowered.append((keyword.arg or "", word or self.expr(keyword.value, depth)))
        return tuple(lowered)

    def dtype_word(self, node: ast.expr) -> Operand | None:
        """Python's own names of dtypes, as in `dtype=float` and `.astype(int)`; None for anything else."""
        name = node.id if isinstance(node, ast.Name) else ""
        known = name in ("float", "int", "bool", "complex") and not self.is_value(name)
        return Const(None, f"torch.{WORDS[name]}") if known else None

    # Dictionaries

    def dictionary(self, node: ast.Dict, depth: int) -> Operand:
        """{"a": x, **others}"""
        pairs: list[Operand] = []
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                pairs.append(self.pack("star", [self.expr(value, depth)], value))
            else:
                pairs.append(self.pack("tuple", [self.expr(key, depth), self.expr(value, depth)], value))
        return self.emit("dict", tuple(pairs), node)

    def dictionary_comprehension(self, node: ast.DictComp, depth: int) -> Operand:
        """{key: value for … in …}: a dictionary of the pairs."""
        pair = ast.copy_location(ast.Tuple([node.key, node.value], ast.Load()), node.value)
        pairs = ast.copy_location(ast.ListComp(pair, node.generators), node)
        return self.emit("dict:of", (self.comprehension(pairs, depth),), node)


LEAVES: Mapping[type[ast.AST], Callable[[Expressions, Any, int], Operand]] = {
    ast.Constant: Expressions.constant,
    ast.Name: Expressions.word,
    ast.Attribute: Expressions.path,
    ast.Call: Expressions.call,
    ast.UnaryOp: Expressions.unary,
    ast.Compare: Expressions.compare,
    ast.BoolOp: Expressions.boolean,
    ast.IfExp: Expressions.conditional,
    ast.Tuple: Expressions.sequence,
    ast.List: Expressions.sequence,
    ast.ListComp: Expressions.comprehension,
    ast.GeneratorExp: Expressions.comprehension,
    ast.Lambda: Expressions.function,
    ast.Dict: Expressions.dictionary,
    ast.DictComp: Expressions.dictionary_comprehension,
}
"""The node types of the language that begin a chain; BinOp, Attribute, Subscript and method calls are its links."""


def flat_parts(node: ast.expr) -> Iterator[ast.expr]:
    """The parts of nested tuples and lists."""
    if isinstance(node, (ast.Tuple, ast.List)):
        for part in node.elts:
            yield from flat_parts(part)
    elif isinstance(node, ast.Starred) and isinstance(node.ctx, ast.Store):
        yield from flat_parts(node.value)
    else:
        yield node


def _plain_key(node: ast.expr) -> str | int | None:
    """A text or whole number in brackets; None for anything else."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        key = _plain_key(node.operand)
        return -key if isinstance(key, int) else None
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int)) and not isinstance(node.value, bool):
        return node.value
    return None


def _is_numpys(name: str = "", *rest: str) -> bool:
    """Whether a name of numpy's has a meaning here: its functions, its numbers, its dtypes."""
    known = not rest and (name in NUMBERS or catalog.is_constant(f"torch.{WORDS.get(name, name)}"))
    return known or ".".join((name, *rest)) in catalog.ARRAY_FUNCTIONS


def _plain_owner(operand: Operand) -> str | None:
    """What an operand is, if it is known to be neither a tensor nor anything with attributes."""
    if isinstance(operand, Pack):
        return f"a {operand.kind}"
    if isinstance(operand, Const) and operand.path is None and isinstance(operand.value, (str, type(None), type(...))):
        return "text" if isinstance(operand.value, str) else repr(operand.value)
    return None
