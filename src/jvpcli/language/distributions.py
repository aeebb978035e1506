"""Distributions of torch.distributions in a program's text, in the language's own words.  Only the text is read.

A distribution is what it is made of, as a tuple of tensors: `d = Normal(mu, 2.)` is `d = normal(mu, 2.)`, and what is asked of
it is a function of that: `d.log_prob(x)` is `normal_log_prob(d, x)`.  The functions that a program uses stand in front of it;
they compute what torch's do, and draw the same numbers.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence

from jvpcli.language.calls import path, without_places
from jvpcli.language.names import assigned, copied, imported_paths

MODULE = "torch.distributions"

INVALID = 'raise torch.distributions.ValueError("Expected {}, but found invalid values")'
"""An error in torch's words, without its values."""


def _checked(condition: str, what: str, constraint: str) -> str:
    """Lines that raise an error where a parameter is not what it must be, unless the program asks for no such check."""
    said = INVALID.format(f"parameter {what} to satisfy the constraint {constraint}")
    return f"    if validate_args != False and not {condition}:\n        {said}\n"


def _supported(condition: str, support: str) -> str:
    """Lines that raise an error where a value is none that there can be."""
    return f"    if not {condition}:\n        {INVALID.format(f'value argument to be within the support ({support})')}\n"


REALS = "IndependentConstraint(Real(), 1)"

IS_SIMPLEX = "((p >= 0).all(-1) & ((p.sum(-1) - 1).abs() < 1e-6)).all()"

ZERO_TO_ONE = "Interval(lower_bound=0.0, upper_bound=1.0)"

BOTH = (
    "    if (probs is None) == (logits is None):\n"
    '        raise torch.distributions.ValueError("Either `probs` or `logits` must be specified, but not both.")\n'
)

SHAPE = "shape = tuple(sample_shape) + tuple(d[0].shape{})\n"

BINARY = "    eps = torch.finfo(p.dtype).eps\n    c = p.clamp(eps, 1 - eps)\n    return p, torch.log(c) - torch.log1p(-c)"

TEXTS: Mapping[str, Mapping[str, str]] = {
    "Normal": {
        "": "(loc, scale, validate_args=None):\n"
        "    of = (loc if torch.is_tensor(loc) else scale if torch.is_tensor(scale) else torch.zeros(())).dtype\n"
        "    loc = loc if torch.is_tensor(loc) else torch.as_tensor(loc, dtype=of)\n"
        "    scale = scale if torch.is_tensor(scale) else torch.as_tensor(scale, dtype=of)\n"
        "    loc, scale = torch.broadcast_tensors(loc, scale)\n"
        f"{_checked('(loc == loc).all()', 'loc of distribution Normal', 'Real()')}"
        f"{_checked('(scale > 0).all()', 'scale of distribution Normal', 'GreaterThan(lower_bound=0.0)')}    return loc, scale",
        "loc": "(d):\n    return d[0]",
        "mean": "(d):\n    return d[0]",
        "scale": "(d):\n    return d[1]",
        "stddev": "(d):\n    return d[1]",
        "variance": "(d):\n    return d[1] ** 2",
        "log_prob": f"(d, value):\n{_supported('(value == value).all()', 'Real()')}"
        "    return -((value - d[0]) ** 2) / (2 * d[1] ** 2) - d[1].log() - math.log(math.sqrt(2 * math.pi))",
        "entropy": "(d):\n    return 0.5 + 0.5 * math.log(2 * math.pi) + torch.log(d[1])",
        "sample": f"(d, sample_shape=()):\n    {SHAPE.format('')}    with torch.no_grad():\n"
        "        drawn = torch.normal(d[0].expand(shape), d[1].expand(shape))\n    return drawn",
        "rsample": f"(d, sample_shape=()):\n    {SHAPE.format('')}"
        "    return d[0] + torch.zeros(shape, dtype=d[0].dtype).normal_() * d[1]",
    },
    "Bernoulli": {
        "": "(probs=None, logits=None, validate_args=None):\n"
        f"{BOTH}    y = torch.as_tensor(0. if logits is None else logits)\n"
        f"{_checked('(y == y).all()', 'logits of distribution Bernoulli', 'Real()')}    if logits is not None:\n"
        "        return torch.sigmoid(y), y\n    p = torch.as_tensor(probs)\n"
        f"{_checked('((p >= 0) & (p <= 1)).all()', 'probs of distribution Bernoulli', ZERO_TO_ONE)}{BINARY}",
        "probs": "(d):\n    return d[0]",
        "mean": "(d):\n    return d[0]",
        "logits": "(d):\n    return d[1]",
        "log_prob": f"(d, value):\n{_supported('((value == 0) | (value == 1)).all()', 'Boolean()')}"
        "    logits, value = torch.broadcast_tensors(d[1], value)\n"
        "    return -F.binary_cross_entropy_with_logits(logits, value, reduction='none')",
        "entropy": "(d):\n    return F.binary_cross_entropy_with_logits(d[1], d[0], reduction='none')",
        "sample": f"(d, sample_shape=()):\n    {SHAPE.format('')}    with torch.no_grad():\n"
        "        drawn = torch.bernoulli(d[0].expand(shape))\n    return drawn",
    },
    "Categorical": {
        "": "(probs=None, logits=None, validate_args=None):\n"
        f"{BOTH}    y = torch.zeros(1) if logits is None else logits - logits.logsumexp(-1, keepdim=True)\n"
        f"{_checked('(y == y).all()', 'logits of distribution Categorical', REALS)}    if logits is not None:\n"
        "        return torch.softmax(y, -1), y\n    p = probs / probs.sum(-1, keepdim=True)\n"
        f"{_checked(IS_SIMPLEX, 'probs of distribution Categorical', 'Simplex()')}"
        "    eps = torch.finfo(p.dtype).eps\n"
        "    return p, torch.log(p.clamp(eps, 1 - eps))",
        "probs": "(d):\n    return d[0]",
        "logits": "(d):\n    return d[1]",
        "log_prob": "(d, value):\n    value, logits = torch.broadcast_tensors(value.long().unsqueeze(-1), d[1])\n"
        "    return logits.gather(-1, value[..., :1]).squeeze(-1)",
        "entropy": "(d):\n    return -(d[1].clamp(min=torch.finfo(d[1].dtype).min) * d[0]).sum(-1)",
        "sample": f"(d, sample_shape=()):\n    {SHAPE.format('[:-1]')}    rows = d[0].reshape(-1, d[0].shape[-1])\n"
        "    return torch.multinomial(rows, math.prod(sample_shape), True).T.reshape(shape)",
    },
}
"""By class and by what is asked of one, the parameters and body of a function; the first makes one."""

METHODS = frozenset({"log_prob", "entropy", "sample", "rsample"})
"""What no tensor can be asked."""


def with_distributions(statements: Sequence[ast.stmt]) -> list[ast.stmt]:
    """The statements, with functions in front for the distributions in them; the same, where there are none."""
    written = _Written(statements)
    if not written.made:
        return list(statements)
    found = [written.visit(copied(part)) for part in statements]
    if not {*assigned(statements)}.isdisjoint(written.functions):  # the names are the program's own
        return list(statements)
    functions = [ast.parse(f"def {name}{text}").body[0] for name, text in written.functions.items()]
    return [without_places(part) for part in (*functions, *found)]


class _Written(ast.NodeTransformer):
    """Writes functions where distributions are made and asked.

    Attributes:
        made: the names that the program gives to classes of distributions, and which class each is.
        held: the names of distributions.
        functions: those that are used, with their texts.
    """

    def __init__(self, statements: Sequence[ast.stmt]) -> None:
        self.paths = imported_paths(ast.Module([*statements], []))
        nodes = [node for part in statements for node in ast.walk(part)]
        self.made = {kind for node in nodes if isinstance(node, ast.Call) and (kind := self._class(node.func))}
        self.held: dict[str, str] = {}
        self.functions: dict[str, str] = {}

    def _class(self, node: ast.expr) -> str:
        """`Normal` of what stands for that class; empty for any other."""
        root, _, rest = path(node).partition(".")
        module, _, name = ".".join(part for part in (self.paths.get(root, root), rest) if part).rpartition(".")
        return name if module in (MODULE, f"{MODULE}.{name.lower()}") and name in TEXTS else ""

    def _kind(self, node: ast.expr) -> str:
        """The class of the distribution that an expression is known to be; empty for any other."""
        called = path(node.func) if isinstance(node, ast.Call) else ""
        return next((kind for kind in self.made if called == kind.lower()), self.held.get(path(node), ""))

    def _function(self, kind: str, asked: str, given: Sequence[ast.expr], keywords: list[ast.keyword]) -> ast.Call:
        name = f"{kind.lower()}_{asked}" if asked else kind.lower()
        self.functions[name] = TEXTS[kind][asked]
        return ast.Call(ast.Name(name, ast.Load()), [*given], keywords)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """`Normal(mu, 2.)`, `d.log_prob(x)`"""
        self.generic_visit(node)
        if kind := self._class(node.func):
            return self._function(kind, "", node.args, node.keywords)
        if not isinstance(node.func, ast.Attribute):
            return node
        asked, owner = node.func.attr, node.func.value
        only = next(iter(self.made)) if len(self.made) == 1 and asked in METHODS else ""  # whatever is asked that is one of these
        kind = self._kind(owner) or only
        return self._function(kind, asked, [owner, *node.args], node.keywords) if asked in TEXTS.get(kind, ()) else node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        """`d.probs`"""
        self.generic_visit(node)
        kind = self.held.get(path(node.value), "")
        asked = node.attr in TEXTS.get(kind, ()) and node.attr not in METHODS
        return self._function(kind, node.attr, [node.value], []) if asked else node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """`d = Normal(mu, 2.)`"""
        self.generic_visit(node)
        for target in node.targets:
            if (kind := self._kind(node.value)) and isinstance(target, ast.Name):
                self.held[target.id] = kind
            else:
                self.held.pop(path(target), None)
        return node
