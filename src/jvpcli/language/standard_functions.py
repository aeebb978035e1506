"""What Python's own library computes of plain lists and functions, in the language's own words: it reaches nothing else.

A program gets those that it names, in front, under their paths, which no text can give to a value.  Loads no torch.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Mapping

from jvpcli.language.names import assigned, dotted, imported_paths

FUNCTIONS: Mapping[str, str] = {
    "functools.reduce": """
        def reduce(function, items, *first):
            items = [*first, *items]
            found = items[0]
            for item in items[1:]:
                found = function(found, item)
            return found
        """,
    "itertools.accumulate": """
        def accumulate(items, func=None, *, initial=None):
            items = list(items) if initial is None else [initial, *items]
            found = items[:1]
            for item in items[1:]:
                found = [*found, found[-1] + item if func is None else func(found[-1], item)]
            return found
        """,
    "itertools.chain": "def chain(*parts): return [item for part in parts for item in part]",
    "itertools.chain.from_iterable": "def chain(parts): return [item for part in parts for item in part]",
    "itertools.product": """
        def product(*parts, repeat=1):
            found = [()]
            for part in [list(part) for part in parts] * repeat:
                found = [(*head, item) for head in found for item in part]
            return found
        """,
    "itertools.combinations": """
        def combinations(iterable, r):
            items, found = list(iterable), [((), 0)]
            for _ in range(r):
                found = [((*head, items[k]), k + 1) for head, at in found for k in range(at, len(items))]
            return [head for head, _ in found]
        """,
    "itertools.combinations_with_replacement": """
        def combinations(iterable, r):
            items, found = list(iterable), [((), 0)]
            for _ in range(r):
                found = [((*head, items[k]), k) for head, at in found for k in range(at, len(items))]
            return [head for head, _ in found]
        """,
    "itertools.permutations": """
        def permutations(iterable, r=None):
            items = list(iterable)
            found = [((), list(range(len(items))))]
            for _ in range(len(items) if r is None else r):
                found = [((*head, items[k]), [j for j in left if j != k]) for head, left in found for k in left]
            return [head for head, _ in found]
        """,
    "itertools.pairwise": """
        def pairwise(iterable):
            items = list(iterable)
            return list(zip(items[:-1], items[1:]))
        """,
    "itertools.islice": """
        def islice(iterable, *bounds):
            items = list(iterable)
            return items[:bounds[0]] if len(bounds) == 1 else items[bounds[0]:bounds[1]:bounds[2] if len(bounds) > 2 else 1]
        """,
    "itertools.starmap": "def starmap(function, items): return [function(*item) for item in items]",
    "itertools.repeat": "def repeat(object, times): return [object] * times",
    "itertools.zip_longest": """
        def zip_longest(*parts, fillvalue=None):
            lists = [list(part) for part in parts]
            longest = max([len(each) for each in lists])
            return list(zip(*[[*each, *[fillvalue] * (longest - len(each))] for each in lists]))
        """,
    "sorted": """
        def sorted(items, *, key=None, reverse=False):
            found = []
            for item in items:
                value, at = item if key is None else key(item), len(found)
                while at > 0 and (found[at - 1][0] < value if reverse else value < found[at - 1][0]):
                    at = at - 1
                found = [*found[:at], (value, item), *found[at:]]
            return [item for _, item in found]
        """,
    "filter": "def filter(function, items): return [each for each in items if (each if function is None else function(each))]",
    "any": """
        def any(items):
            for item in items:
                if item:
                    return True
            return False
        """,
    "all": """
        def all(items):
            for item in items:
                if not item:
                    return False
            return True
        """,
    "pow": "def pow(base, exp, /): return base ** exp",
    "divmod": "def divmod(a, b, /): return a // b, a % b",
    **{f"operator.{name}": f"def {name}(a, b, /): return a {sign} b" for name, sign in {
        "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**", "matmul": "@",
        "lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!=",
    }.items()},
    "operator.neg": "def neg(a, /): return -a",
    "operator.itemgetter": "def itemgetter(key, /): return lambda items: items[key]",
}  # fmt: skip
"""The functions, by their paths; what Python gives one by one is a list."""


def with_standard_functions(tree: ast.Module) -> ast.Module:
    """The tree with the functions of Python's library that it names, each in front, in the language's own words."""
    paths, own, used = imported_paths(tree), _own_names(tree), dict[str, ast.AST]()
    for parent in ast.walk(tree):  # whose chains may be longer than Python would go down
        for field, value in ast.iter_fields(parent):
            for place, part in enumerate(value if isinstance(value, list) else [value]):
                root, dot, rest = dotted(part).partition(".") if isinstance(part, (ast.Name, ast.Attribute)) else ("", "", "")
                path = f"{paths.get(root, root)}{dot}{rest}"
                if path not in FUNCTIONS or root in own or not isinstance(getattr(part, "ctx", None), ast.Load):
                    continue
                used.setdefault(path, part)
                name = ast.copy_location(ast.Name(path, ast.Load()), part)
                if isinstance(value, list):
                    value[place] = name
                else:
                    setattr(parent, field, name)
    return ast.Module([*(_placed(path, node) for path, node in used.items()), *tree.body], []) if used else tree


def _placed(path: str, node: ast.AST) -> ast.stmt:
    """A function of the library; what fails in it stands where it is named first."""
    (found,) = ast.parse(textwrap.dedent(FUNCTIONS[path])).body
    assert isinstance(found, ast.FunctionDef)
    found.name = path
    for part in ast.walk(found):
        ast.copy_location(part, node)
    return found


def _own_names(tree: ast.Module) -> set[str]:
    """The names that a text gives to anything, in any of its functions."""
    functions = [part for part in ast.walk(tree) if isinstance(part, ast.FunctionDef)]
    inside = {name for part in functions for name in (part.name, *assigned(part.body))}
    return {*assigned(tree.body), *inside, *(part.arg for part in ast.walk(tree) if isinstance(part, ast.arg))}
