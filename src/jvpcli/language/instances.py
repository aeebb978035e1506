"""Objects of a program under their names: their parts, what their `__init__` does, their methods.  Loads no torch."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from jvpcli.errors import EvaluationError, ForbiddenError, LimitError
from jvpcli.language import catalog, refusals
from jvpcli.language.dependence import root_of
from jvpcli.language.hooks import looking_hooks
from jvpcli.language.initialisation import Initialisation
from jvpcli.language.makers import chained
from jvpcli.language.makings import COLLECTIONS, OWN, Values, pairs_of, wrapped
from jvpcli.language.names import (
    class_of,
    copied,
    dotted,
    is_parameter,
    turns_on,
)
from jvpcli.language.objects import (
    DERIVED,
    RESETS,
    Class,
    Module,
    New,
    Object,
    Parts,
    function_at,
    name_at,
    named_inside,
    path_at,
    paths_in,
    placed,
    written,
)
from jvpcli.language.plain import is_literal, plain_or_none
from jvpcli.language.references import OF_ITEMS, OPERATORS, Reading, is_static

MOST_COPIED = 100_000
"""Parts of the text of methods, which each object has anew."""

MOST_LEVELS = 20
"""Objects inside of each other."""

MOST_CALLS = 50
"""Methods that call each other as an object is made."""

SPECIAL = ("__init__", "__post_init__", "__call__", "__repr__", "__str__", *OPERATORS.values(), *OF_ITEMS)
"""Methods with a meaning for Python that a class may have: others would change what is read here."""


class Objects(Values):
    """The objects of a text under their names: what `__init__` makes of them, and their methods as functions."""

    def makes(self, call: ast.Call) -> bool:
        """Whether a call makes an object of a class of the text, or holds one that does."""
        calls = [part for part in ast.walk(call) if isinstance(part, ast.Call)]
        return any(self.class_called(part) or dotted(part.func) in self.factories for part in calls) or (
            class_of(call.func, self.paths) in COLLECTIONS or (class_of(call.func, self.paths) == "Sequential" and not call.args)
        )

    def place(self, path: str, value: Any, node: ast.AST) -> Any:
        """Give what was made a name."""
        self.count(node)
        new = value if isinstance(value, New) else None
        if new is not None and new.inside and new.made is None:
            raise self.refusal(node, "A module that is a part of another one gets no name of its own here")
        value = new.made if new is not None and new.made is not None else value
        inner = waiting_in([*value.arguments, *value.keywords.values()]) if isinstance(value, New) else []
        if isinstance(value, New) and (value.kind is not None or value.chain is not None):
            self.in_turn(value.call, inner)
        if isinstance(value, Parts):
            for item in value.items:
                self.hold(path, item, node)
            names = value.names or map(str, range(len(value.items)))
            items = [self.place(f"{path}.{name}", item, node) for name, item in zip(names, value.items, strict=True)]
            value = Parts(items, value.names, path, value.wraps)
        elif isinstance(value, New) and value.kind is not None:
            value = self.instance(path, value, inner)
        elif isinstance(value, New) and value.chain is not None:
            made, start = Object(path, None, chained=f"{path}.forward"), len(self.made)
            self.fill(made, value.names, value.chain, node)
            self.begin(made, value.call, start)
            self.chain(made, value.call)
            value = made
        elif isinstance(value, New):
            self.in_turn(value.call)
            self.assign(path, value.call, value.call)
            is_sequential = class_of(value.call.func, self.paths) == "Sequential"
            count = len(value.call.args) if is_sequential else None
            named_inside(value, path)
            value = name_at(path, node) if is_parameter(value.call, self.paths) else Module(path, count)
        elif isinstance(value, ast.expr) and not isinstance(value, ast.Constant):
            self.assign(path, value, node)
            value = name_at(path, node)
        if new is not None:
            new.made = value
            for statement, name, scope in new.later:
                self.in_turn(statement)
                self.made.append(Reading(self, {**scope, name: value}).visit(copied(statement)))
            new.later.clear()
        if "." not in path:
            self.objects[path] = value
            self.used.discard(path)
            self.trains = {name: mode for name, mode in self.trains.items() if not f"{name}.".startswith(f"{path}.")}
        return value

    def in_turn(self, call: ast.AST, given: Sequence[ast.AST] = ()) -> None:
        """A module is made where it gets its name: refused where that is another order than Python's.

        What an object is `given` gets its name in it.
        """
        inside = [part for part in ast.walk(call) if part in self.waiting]
        known = [*inside, *given]
        if inside and any(part not in known for part in self.waiting[: 1 + max(map(self.waiting.index, inside))]):
            raise self.refusal(call, "Modules get their names in another order here than they are made in")
        self.waiting = [part for part in self.waiting if part not in inside]

    def fill(self, made: Object, names: Sequence[str] | None, items: Sequence[Any], node: ast.AST) -> None:
        """Give a sequence or list its modules, under their names or numbers."""
        made.names = [*names] if names else [str(k) for k in range(len(items))]
        for name, item in zip(made.names, items, strict=True):
            made.parts[name] = self.place(f"{made.path}.{name}", item, node)

    def chain(self, made: Object, node: ast.AST) -> None:
        """The function of a sequence, as its items are now."""
        self.made = [part for part in self.made if getattr(part, "name", "") != made.chained]
        self.made.append(_chain(made.chained, made.items or [], node))

    def begun(self, made: Object, arguments: Sequence[Any], keywords: Mapping[str, Any], node: ast.AST) -> None:
        """What the `__init__` of a class of torch.nn makes of an object whose class is derived from it."""
        kind = made.kind
        assert kind is not None
        assert kind.torchs is not None
        name = class_of(kind.torchs, self.paths)
        if made.begun:
            raise self.refusal(node, f"The `__init__` of nn.{name} runs a second time here")
        made.begun = True
        if name in ("Sequential", "ModuleList"):
            pairs = pairs_of(arguments[0]) if len(arguments) == 1 else None
            listed = arguments[0].items if name == "ModuleList" and arguments and isinstance(arguments[0], Parts) else arguments
            items = [part for _, part in pairs] if pairs else listed
            if keywords or not all(isinstance(each, (New, Object, Module)) for each in items):
                raise self.refusal(node, f"`nn.{name}` of this can't be read")
            if name == "Sequential":
                made.chained = f"{made.path}.{'super().' if 'forward' in kind.methods else ''}forward"
            self.fill(made, [key for key, _ in pairs] if pairs else None, items, node)
            return
        made.whole = True
        parts = [written(each, node) for each in arguments]
        named = [ast.keyword(key, written(each, node)) for key, each in keywords.items()]
        call = placed(ast.Call(copied(kind.torchs), parts, [*named, self.derived(kind)]), node)
        self.waiting.append(call)
        self.in_turn(call)
        self.assign(made.path, call, node)
        if (reset := kind.methods.get(RESETS)) is not None:  # which torch's `__init__` calls
            self.initialise(made, kind.defining(RESETS), reset, (), {}, node)

    def derived(self, kind: Class) -> ast.keyword:
        """What a constructor is told of the class of the program that its module is of."""
        own = {name for each in kind.line for name in {*each.methods, *each.sets}} - {*SPECIAL, "forward", "extra_repr"}
        told: Any = tuple(each.node.name for each in kind.line), tuple(sorted(own))
        return ast.keyword(DERIVED, ast.Constant(told))

    def begin(self, made: Object, node: ast.Call, start: int) -> None:
        """What holds the parameters of an object itself, in front of those of its parts; nothing where it has none."""
        if made.whole:
            return
        values = [part.value for part in self.made[start:] if isinstance(part, ast.Assign)]
        calls = [value for value in values if isinstance(value, ast.Call)]
        if not any(class_of(call.func, self.paths) or is_parameter(call, self.paths) for call in calls):
            return
        target, holds = name_at(made.path, node, ast.Store()), _holder(node)
        if made.kind is not None:
            holds.keywords.append(self.derived(made.kind))
        self.made.insert(start, placed(ast.Assign([target], holds), node))

    def instance(self, path: str, new: New, given: Sequence[ast.AST]) -> Object:
        """An object of a class: its `__init__` is carried out, and its methods are functions; `given` are modules in it."""
        kind = new.kind
        assert kind is not None
        self.level += 1
        if self.level > MOST_LEVELS:
            raise self.at(new.call, LimitError(f"Objects stand inside of each other more than {MOST_LEVELS} deep."))
        made, start = Object(path, kind), len(self.made)
        made.begun = not kind.is_module or ("__init__" not in kind.methods and kind.torchs is None)
        self.set(made, "training", placed(ast.Constant(True), new.call), new.call)
        for field in kind.fields:
            self.set(made, dotted(field.targets[0]), self.value(field.value, {}, made), field)
        others = [part for part in self.waiting if part not in given]
        self.waiting = [part for part in self.waiting if part in given]
        if "__init__" in kind.methods:
            self.initialise(made, kind, kind.methods["__init__"], new.arguments, new.keywords, new.call)
        elif kind.torchs is not None:
            self.begun(made, new.arguments, new.keywords, new.call)
        elif new.arguments or new.keywords:
            raise self.refusal(new.call, f"`{kind.node.name}` has no `__init__` that takes these")
        self.waiting = [*self.waiting, *others]
        self.begin(made, new.call, start)
        made.names = kind.named or made.names
        if made.chained:
            self.chain(made, new.call)
        for name, method in kind.methods.items():
            if name != "__init__" and name not in made.parts and not is_static(method):
                self.method(made, name, method, kind.defining(name))
        self.level -= 1
        return made

    def initialise(
        self,
        made: Object,
        kind: Class,
        method: ast.FunctionDef,
        arguments: Sequence[Any],
        keywords: Mapping[str, Any],
        call: ast.AST,
    ) -> Initialisation:
        """Carry out `__init__`."""
        taken = method.args
        names = [part.arg for part in (*taken.posonlyargs, *taken.args)]
        if not names or method.decorator_list or (len(arguments) >= len(names) and not taken.vararg):
            raise self.refusal(call, f"`__init__` of `{kind.node.name}` isn't called with what it takes")
        own = names[0]
        scope: dict[str, Any] = dict(zip(names[1:], arguments, strict=False))
        defaults = dict(zip(names[len(names) - len(taken.defaults) :], taken.defaults, strict=True))
        defaults.update({part.arg: value for part, value in zip(taken.kwonlyargs, taken.kw_defaults, strict=True) if value})
        rest = list(arguments[len(names) - 1 :])
        names += [part.arg for part in taken.kwonlyargs]
        others = {name: value for name, value in keywords.items() if name not in names[1:]}
        if (others and not taken.kwarg) or {*keywords} & {*scope}:
            raise self.refusal(call, f"`__init__` of `{kind.node.name}` isn't called with what it takes")
        scope.update({name: value for name, value in keywords.items() if name not in others})
        if taken.vararg:
            plain = all(isinstance(each, ast.expr) for each in rest)
            scope[taken.vararg.arg] = placed(ast.Tuple(rest, ast.Load()), call) if plain else Parts(rest)
        if taken.kwarg:
            scope[taken.kwarg.arg] = Parts([*others.values()], [*others])
        for name in names[1:]:
            if name not in scope and name not in defaults:
                raise self.refusal(call, f"`__init__` of `{kind.node.name}` needs a value for `{name}`")
            if name not in scope:
                if isinstance(defaults[name], (ast.List, ast.Dict)) and name in lists_grown(method):
                    raise self.refusal(call, f"`{name}` is one list for all calls, as a default is, and grows in them")
                scope[name] = self.value(defaults[name], {}, None)
        for name, value in scope.items():
            scope[name] = self.settled(made, name, value, call)
        self.calls += 1
        if self.calls > MOST_CALLS:
            raise self.at(call, LimitError(f"Methods that `__init__` calls call each other more than {MOST_CALLS} deep."))
        done = Initialisation(self, made, kind, own, scope)
        done.run(method.body)
        self.calls -= 1
        return done

    def settled(self, made: Object, name: str, value: Any, node: ast.AST) -> Any:
        """A value of a name inside of `__init__`: what is no plain value, and no module, is computed once."""
        if not isinstance(value, ast.expr) or _is_settled(value):
            return value
        path = f"{made.path}.__init__.{name}.{self.steps}"
        self.count(node)
        self.assign(path, value, node)
        return name_at(path, node)

    def set(self, made: Object, name: str, value: Any, node: ast.AST) -> None:
        """`self.name = value`"""
        if name.startswith("__") and name.endswith("__"):
            raise self.refusal(node, f"`{name}` is one of Python's internals")
        if isinstance(made.parts.get(name), (Object, Module)):
            raise self.refusal(node, f"`{name}` is a module, and is set a second time here")
        if made.kind is not None and name in made.kind.methods and made.kind.methods[name].decorator_list:
            raise self.refusal(node, f"`{name}` is a method with a decorator, and is set here")
        if not made.begun and isinstance(value, (New, Parts, Module, Object)):
            message = "Modules and parameters can be set only behind `super().__init__()`, as in PyTorch."
            raise self.at(node, EvaluationError(message, torch_message="cannot assign module before Module.__init__() call"))
        path = f"{made.path}.{name}"
        made.plain.pop(name, None)
        if isinstance(value, ast.expr):
            if is_literal(value):
                made.plain[name] = value
            if isinstance(value, (ast.Name, ast.Attribute)) and class_of(value, self.paths):
                made.values[name] = value
                return
            self.assign(path, copied(value), node)
            made.parts[name] = name_at(path, node)
        elif isinstance(value, Parts) and not value.wraps and value.names is None and not any(
            isinstance(each, (New, Object, Module)) for each in value.items
        ):
            self.set(made, name, written(value, node), node)
            value.path = path
            if not value.items:
                made.plain.pop(name)
                made.parts[name] = value
        else:
            found = made.parts[name] = self.place(path, value, node)
            if made.names is not None and isinstance(found, (Object, Module)) and name not in made.names:
                made.names.append(name)  # a sequence goes through each module that it is given

    def method(
        self, made: Object, name: str, method: ast.FunctionDef, kind: Class, known: Mapping[str, Any] | None = None
    ) -> None:
        """A method as a function; `kind` is the class that it stands in, `known` what some of its names mean."""
        self.copied += sum(1 for _ in ast.walk(method))
        if self.copied > MOST_COPIED:
            message = f"The methods of all objects of the program have more than {MOST_COPIED:,} parts."
            raise self.at(method, LimitError(message))
        marks = [dotted(mark) for mark in method.decorator_list]
        again = copied(method)
        taken = again.args.posonlyargs or again.args.args
        roots: dict[str, Any] = dict(known or {})
        if "staticmethod" not in marks:
            if not taken:
                return
            roots[taken.pop(0).arg] = made.kind if "classmethod" in marks else made
        own = ("staticmethod", "classmethod", "property")
        again.decorator_list = [mark for mark in again.decorator_list if dotted(mark) not in own]
        again.name, again.returns = f"{made.path}.{name}", None
        again.body = again.body or [ast.Pass()]
        reading = Reading(self, roots, kind)
        found = reading.visit(again)
        if reading.stored:
            found.body.insert(0, placed(ast.Global(sorted(reading.stored)), method.body[0]))
        for path in sorted(reading.stored):
            if path.rpartition(".")[2] not in made.parts:
                self.set(made, path.rpartition(".")[2], placed(ast.Constant(None), method), method)
        self.made.append(found)
        self.methods.append(found)

    def static(self, kind: Class, name: str) -> str:
        """The name of the function that a method without an object is, which is made where it is asked for first."""
        path = f"type({kind.node.name}).{name}"
        if path not in self.inherited:
            self.inherited.add(path)
            self.method(Object(f"type({kind.node.name})", kind), name, kind.methods[name], kind.defining(name))
            self.front.append(self.made.pop())
        return path

    def sliced(self, owner: Any, node: ast.Subscript) -> Object | None:
        """`net[:2]`: a sequence of modules that have their names; None of what is none."""
        items = owner.items if isinstance(owner, Object) and owner.chained else None
        if isinstance(owner, Module) and owner.count is not None:
            items = [Module(f"{owner.path}.{k}") for k in range(owner.count)]
        assert isinstance(node.slice, ast.Slice)
        bounds = [part and self.folded(part, {}, None) for part in (node.slice.lower, node.slice.upper, node.slice.step)]
        plain = [plain_or_none(part) for part in bounds]
        if items is None or plain[2] == 0 or any(part is not None and type(each) is not int for part, each in zip(
            (node.slice.lower, node.slice.upper, node.slice.step), plain, strict=True
        )):  # fmt: skip
            return None
        found = items[slice(*plain)]
        path = f"{owner.path}[{':'.join('' if each is None else str(each) for each in plain)}]"
        parts = {str(k): each for k, each in enumerate(found)}
        made = Object(path, None, parts, names=[*parts], chained=f"{path}.forward")
        if path not in self.inherited:
            self.inherited.add(path)
            self.front.append(_chain(made.chained, found, node))
        return made

    def only_looks(self, call: ast.Call) -> bool:
        """Whether a call registers a hook that changes nothing."""
        nodes = looking_hooks(self.tree)
        return any(call in ast.walk(part) for part in nodes)

    def check_placed(self, call: ast.Call) -> None:
        """Refuse what would change a module.

        Raises:
            ForbiddenError: it would have no gradients, or numbers of another dtype.
        """
        method, given = dotted(call.func).rpartition(".")[2], [*call.args, *(keyword.value for keyword in call.keywords)]
        if method == "requires_grad_" and not turns_on(call):
            raise self.at(call, refusals.frozen())
        values = [self.values_of.get(part.id, part) if isinstance(part, ast.Name) else part for part in given]
        if method == "to" and any(catalog.is_constant(self.path(dotted(part))) for part in values):
            message = "A module can't be given another dtype here: its parameters have that of torch's default."
            hint = "Ask for another dtype: --dtype float64, or begin with torch.set_default_dtype(torch.float64)"
            raise self.at(call, ForbiddenError(message, hints=[hint]))

    def modes(self, name: str, value: Any, node: ast.expr) -> None:
        """`net.eval()`, of all that a value of `net`'s holds, before its first use."""
        calls: list[ast.Call] = []
        while isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            calls.insert(0, node)
            node = node.func.value
        for call in calls:
            assert isinstance(call.func, ast.Attribute)
            method, given = call.func.attr, [*call.args, *(keyword.value for keyword in call.keywords)]
            flag = plain_or_none(given[0]) if given else True
            if method not in ("eval", "train"):
                self.check_placed(call)
                continue
            if not isinstance(flag, bool) or len(given) > (method == "train"):
                raise self.at(call, ForbiddenError("A mode is set by eval(), train(), train(True) or train(False) here."))
            mode = flag and method == "train"
            paths = [*paths_in(value)]
            if name in self.used and any(self.trains.get(path, True) != mode for path, _ in paths):
                message = f"`{name}` has one mode throughout a program here, and this may change it after a use."
                hints = [f"Set the mode in a statement of its own, before `{name}` is used: {name}.{method}()"]
                raise self.at(call, ForbiddenError(message, hints=hints))
            for path, is_object in paths:
                self.trains[path] = mode
                if is_object:
                    self.assign(f"{path}.training", placed(ast.Constant(mode), call), call)
                else:
                    setting = ast.Attribute(name_at(path, call), "train" if mode else "eval", ast.Load())
                    self.made.append(placed(ast.Expr(ast.Call(setting, [], [])), call))

    def given_by(
        self, function: ast.FunctionDef, call: ast.Call, scope: Mapping[str, Any], making: Initialisation | Object | None,
        own: Initialisation | None = None,
    ) -> Any:
        """The module that a function of the text gives, or a method of an object's `own`, carried out as an `__init__` is."""
        self.level += 1
        if self.level > MOST_LEVELS:
            raise self.at(call, LimitError(f"Functions that make modules call each other more than {MOST_LEVELS} deep."))
        known = {*own.made.parts} - {*own.made.plain} if own is not None else set[str]()
        for part in ast.walk(function):
            if isinstance(part, ast.Attribute) and isinstance(part.ctx, ast.Store) and part.attr in known:
                raise self.refusal(part, f"`{part.attr}` is set anew here, and its value is known as the program runs")
        kind = Class(ast.ClassDef(function.name, [], [], [], []), False, {}, [], None, False) if own is None else own.kind
        made = Object(f"given.{self.steps}", kind, begun=True) if own is None else own.made
        taken = copied(function)
        if own is None or is_static(function):
            taken.args.args.insert(0, ast.arg(OWN))
        taken.decorator_list = []
        arguments = [each for part in call.args for each in self.items(part, scope, making)]
        *body, last = taken.body
        taken.body = body
        done = self.initialise(made, kind, taken, arguments, self.keywords(call, scope, making), call)
        assert isinstance(last, ast.Return)
        assert last.value is not None
        found = done.value(chained(last.value))
        self.level -= 1
        return found

    def grow(self, owner: Parts | Object, path: str, method: str, given: Sequence[Any], node: ast.AST) -> bool:
        """`layers.append(nn.Linear(2, 2))` of a list of modules or a sequence of them; whether it can be carried out."""
        if method == "extend" and len(given) == 1 and isinstance(given[0], Parts) and given[0].names is None:
            return all(self.grow(owner, path, "append", [item], node) for item in [*given[0].items])
        if any(each is owner for each in given) or path.partition(".")[0] in self.used:
            return False
        count = len(owner.items or ())
        name = str(count) if method == "append" and len(given) == 1 else given[0] if len(given) == 2 else None
        if not isinstance(name, str) or (isinstance(owner, Parts) and (owner.names is None) is not (method == "append")):
            return False
        item = wrapped(given[-1]) if isinstance(owner, Parts) and owner.wraps else given[-1]
        if isinstance(owner, Parts):
            if owner.names is not None and name in owner.names:
                return False
            if path:
                self.hold(path, item, node)
                item = self.place(f"{path}.{name}", item, node)
            owner.items.append(item)
            if owner.names is not None:
                owner.names.append(name)
            return True
        if owner.names is None or name in owner.parts or not isinstance(item, (New, Object, Module)):
            return False
        owner.parts[name] = self.place(f"{owner.path}.{name}", item, node)
        owner.names.append(name)
        if owner.chained:
            self.chain(owner, node)
        return True

    def hold(self, path: str, item: Any, node: ast.AST) -> None:
        """What holds the parameters of a list, before its first one."""
        is_own = isinstance(item, New) and is_parameter(item.call, self.paths)
        if is_own and not any(isinstance(part, ast.Assign) and dotted(part.targets[0]) == path for part in self.made):
            self.assign(path, _holder(node), node)


def _holder(node: ast.AST) -> ast.Call:
    """An empty module, in the place of a part of the text."""
    return placed(ast.Call(ast.Attribute(ast.Name("nn", ast.Load()), "Module", ast.Load()), [], []), node)


def waiting_in(values: Sequence[Any]) -> list[ast.AST]:
    """The constructors of what has no name yet among some values, and in lists of such."""
    found: list[ast.AST] = []
    for each in values:
        if isinstance(each, Parts):
            found += waiting_in(each.items)
        elif isinstance(each, New) and each.made is None and not each.inside:
            found += [each.call, *waiting_in([*each.arguments, *each.keywords.values(), *(each.chain or ())])]
    return found


def _is_settled(node: ast.expr) -> bool:
    """Whether an expression gives the same wherever it stands: a plain value, a function's name, a value that has a name."""
    return is_literal(node) or isinstance(node, (ast.Name, ast.Attribute, ast.Lambda))


def lists_grown(method: ast.FunctionDef) -> set[str]:
    """The names of what a function puts something into, or may change otherwise."""
    nodes = [part for statement in method.body for part in ast.walk(statement)]
    grown = {root_of(part.func) for part in nodes if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute)}
    return grown | {root_of(part.target) for part in nodes if isinstance(part, ast.AugAssign)}


def _chain(name: str, parts: Sequence[Any], node: ast.AST) -> ast.FunctionDef:
    """The function of a sequence: each part in turn."""
    taken = placed(ast.arg("input"), node)
    value: ast.expr = name_at("input", node)
    for part in parts:
        func = path_at(part.path, node) if isinstance(part, Module) else function_at(part, node)
        value = placed(ast.Call(func, [value], []), node)
    arguments = ast.arguments(posonlyargs=[], args=[taken], kwonlyargs=[], kw_defaults=[], defaults=[])
    body: list[ast.stmt] = [placed(ast.Return(value), node)]
    return placed(ast.FunctionDef(name, arguments, body, []), node)
