"""What of numpy a program can call and read, by name; the rest of numpy is not there.  Loads neither numpy nor torch."""

from collections.abc import Mapping

ELEMENTWISE = frozenset(
    {"sin", "cos", "tan", "arcsin", "arccos", "arctan", "arctan2", "sinh", "cosh", "tanh", "exp", "expm1", "log", "log2", "log10",
     "log1p", "sqrt", "square", "abs", "absolute", "sign", "power", "maximum", "minimum", "floor", "ceil", "round", "clip",
     "where", "isnan", "isinf", "isfinite", "mod", "add", "subtract", "multiply", "divide", "allclose", "isclose",
     "sum", "mean", "std", "var", "min", "max", "amin", "amax", "prod", "cumsum",
     "argmax", "argmin", "median", "any", "all", "argsort", "sort", "unique", "reshape", "transpose", "expand_dims", "squeeze",
     "ravel", "array_equal", "linalg.norm", "linalg.inv", "linalg.det", "diff", "flip"}
)  # fmt: skip
"""Functions whose results are no larger than their arguments, broadcast."""

JOINING = frozenset({"array", "asarray", "concatenate", "stack", "vstack", "hstack", "column_stack"})
"""Those whose results are as large as all their arguments together."""

MULTIPLYING = frozenset({"dot", "matmul", "outer", "inner", "meshgrid"})
"""Those whose results are at most as large as the product of their arguments."""

SIZES: Mapping[str, tuple[int, int | None, tuple[str, ...]]] = {
    "zeros": (0, 1, ("shape",)), "ones": (0, 1, ("shape",)), "full": (0, 1, ("shape",)),
    "eye": (0, 2, ("N", "M")), "identity": (0, 1, ("n",)), "diag": (1, 2, ("k",)), "arange": (0, 3, ("start", "stop", "step")),
    "linspace": (2, 3, ("num",)), "logspace": (2, 3, ("num",)), "tile": (1, 2, ("reps",)), "repeat": (1, 2, ("repeats",)),
    "zeros_like": (4, 5, ("shape",)), "ones_like": (4, 5, ("shape",)), "full_like": (5, 6, ("shape",)),
    "random.rand": (0, None, ()), "random.randn": (0, None, ()), "random.permutation": (0, 1, ("x",)),
    "random.choice": (0, 2, ("a", "size")), "random.seed": (0, 0, ()),
    **{f"random.{name}": (2, 3, ("size",)) for name in ("normal", "uniform", "randint")},
    **{f"random.{name}": (0, 1, ("size",)) for name in ("random", "random_sample", "standard_normal")},
}  # fmt: skip
"""Those that are told how much they give: where that stands among the arguments, from and up to, and by what name."""

DTYPES = frozenset({"float16", "float32", "float64", "int32", "int64", "complex64", "complex128"})
"""Those that make a number, or an array, of that dtype."""

SIZED = ("reshape", "transpose", "expand_dims", "item")
"""Those that take sizes and places behind an array."""

NAMES = ELEMENTWISE | JOINING | MULTIPLYING | SIZES.keys()
"""All that can be called by a name of numpy's."""

METHODS = frozenset(
    {"reshape", "sum", "mean", "std", "var", "min", "max", "argmin", "argmax", "astype", "copy", "flatten", "ravel", "transpose",
     "dot", "round", "clip", "cumsum", "prod", "squeeze", "item", "tolist", "any", "all", "argsort", "repeat"}
)  # fmt: skip
"""What can be called of an array."""

FIELDS = ("shape", "ndim", "T")
