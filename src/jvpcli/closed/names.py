"""What a program finds by its names: torch, numpy and math, each name of a list; `standard_modules.py` has others of Python's."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache, wraps
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd import Function

from jvpcli.closed import integers, reach
from jvpcli.closed.derived import (
    Watch,
    anomalies,
    checks,
    forward,
    functionals,
    make_functional,
    make_functional_with_buffers,
    transforms,
)
from jvpcli.closed.filled import of_sparse
from jvpcli.closed.ragged import ragged
from jvpcli.closed.renamed import renaming
from jvpcli.closed.saved import saving
from jvpcli.closed.savings import autocast, savings
from jvpcli.closed.standard_modules import timer
from jvpcli.closed.streams import Kept
from jvpcli.closed.training import data, optimizers
from jvpcli.closed.words import INERT, Named, Namespace, as_seen
from jvpcli.errors import ForbiddenError
from jvpcli.language import catalog, limits
from jvpcli.language.modules import CLASSES
from jvpcli.program import PROGRAM

WHOLE = ("Transformer", "TransformerEncoder", "TransformerDecoder")
"""Modules that are made of layers, beside those of the language."""

CONTAINERS = ("ModuleList", "ModuleDict", "ParameterList", "ParameterDict", "Module")
"""Modules that hold others."""


def namespaces(watch: Watch, seed: int, keeps_seed: bool, guard: Callable[..., Any]) -> dict[str, Any]:
    """torch, numpy and math by their roots, for one run of a program; with `keeps_seed` it begins no random numbers anew.

    `guard` makes of a function one whose refusals end the program.
    """
    return {**_spaces(), "numpy": _numpy(seed, keeps_seed), **_deriving(watch, seed, keeps_seed, guard)}


def unimported(spaces: Mapping[str, Any]) -> dict[str, Any]:
    """Names that are used without being imported, as people leave imports out of what they show."""
    torch_ = spaces["torch"]
    held = vars(torch_)
    return {
        "torch": torch_, "nn": held["nn"], "F": vars(held["nn"])["functional"], "np": spaces["numpy"], "math": spaces["math"],
        "Variable": vars(held["autograd"])["Variable"], "Tensor": held["Tensor"], "plt": INERT, "Function": Function,
        "optim": held["optim"], "grad": vars(held["autograd"])["grad"],
    }  # fmt: skip


@lru_cache(maxsize=1)
def names_unimported() -> frozenset[str]:
    """The names of `unimported`."""
    return frozenset(unimported({**_spaces(), "numpy": Namespace("numpy", _arrays())}))


@lru_cache(maxsize=1)
def modules() -> Mapping[str, type]:
    """The classes of torch.nn that may be constructed, and derived from."""
    found = {name: getattr(nn, name) for name in (*CLASSES, *WHOLE, *CONTAINERS) if hasattr(nn, name)}
    return {**found, "ParameterDict": ParameterDict}


@lru_cache(maxsize=1)
def named_types() -> Mapping[type, Named]:
    """The types of tensors and arrays, as a program names them."""
    return {Tensor: vars(_spaces()["torch"])["Tensor"], np.ndarray: _arrays()["ndarray"]}


def _checked(path: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of the catalogue, which refuses what no call may use."""
    refused = tuple(catalog.refused_positions(f"call:{path}").items())

    @wraps(function)
    def checked(*arguments: Any, **keywords: Any) -> Any:
        arguments = reach.exacted(arguments)
        keywords = {name: reach.exacted(value) for name, value in keywords.items()}
        reach.check_given((*arguments, *keywords.values()))
        for name in keywords.keys() & REFUSED:
            raise ForbiddenError(f"The argument `{name}` can't be used in a program.")
        if "device" in keywords:
            keywords["device"] = reach.here(keywords["device"])
        limits.check_plain(f"call:{path}", arguments, keywords)
        for place, (name, default) in refused:
            if place < len(arguments) and arguments[place] != default and name in REFUSED:
                raise ForbiddenError(f"The argument `{name}` can't be used in a program.")
        return function(*arguments, **keywords)

    return checked


REFUSED = frozenset({"out", "pin_memory", "distance_function", "names"})


def _of_catalogue(prefix: str) -> dict[str, Any]:
    """The functions and constants of a namespace of the catalogue."""
    data = catalog._data()
    found: dict[str, Any] = {}
    for path in (*data["functions"], *data["constants"]):
        owner, _, name = path.rpartition(".")
        if owner == prefix:
            module: Any = import_module(owner) if owner != "torch" else torch
            if hasattr(module, name):
                value = getattr(module, name)
                found[name] = _checked(path, value) if callable(value) and not isinstance(value, type) else value
    return found


@lru_cache(maxsize=1)
def _spaces() -> dict[str, Any]:
    functional = Namespace("torch.nn.functional", _of_catalogue("torch.nn.functional"))
    fills = [name for name in dir(nn.init) if name[0] != "_" and (name.endswith("_") or f"{name}_" in dir(nn.init))]
    fills.append("calculate_gain")
    init = Namespace("torch.nn.init", {name: getattr(nn.init, name) for name in fills})
    utils = Namespace("torch.nn.utils", {name: getattr(nn.utils, name) for name in (
        "clip_grad_norm_", "clip_grad_value_", "parameters_to_vector", "vector_to_parameters")} | {
            **renaming(), "rnn": ragged(),
            "clip_grad": Namespace("torch.nn.utils.clip_grad", {name: getattr(nn.utils, name) for name in (
                "clip_grad_norm_", "clip_grad_value_")}),
            "stateless": Namespace("torch.nn.utils.stateless", {"functional_call": torch.func.functional_call})})  # fmt: skip
    held = {**modules(), "Parameter": nn.Parameter, "functional": functional, "init": init, "utils": utils}
    held["modules"] = Namespace("torch.nn.modules", dict(held))
    held["parameter"] = Namespace("torch.nn.parameter", {"Parameter": nn.Parameter})
    space = Namespace("torch.nn", held)
    autograd = torch.autograd
    entries: dict[str, Any] = {
        **_of_catalogue("torch"),
        "nn": space,
        "linalg": Namespace("torch.linalg", _of_catalogue("torch.linalg")),
        "fft": Namespace("torch.fft", _of_catalogue("torch.fft")),
        "special": Namespace("torch.special", _of_catalogue("torch.special")),
        **of_sparse(_checked("torch.mm", torch.mm)),
        "optim": optimizers(),
        "autograd": Namespace("torch.autograd", {
            "grad": autograd.grad, "backward": autograd.backward, "Function": Function, "Variable": _variable,
            "set_grad_enabled": torch.set_grad_enabled, "no_grad": torch.no_grad, "profiler": INERT,
            "enable_grad": torch.enable_grad,
            "variable": Namespace("torch.autograd.variable", {"Variable": _variable}),
            "function": Namespace("torch.autograd.function", {"Function": Function, "once_differentiable":
                                                              autograd.function.once_differentiable}),
        }),
        "utils": Namespace("torch.utils", {
            "benchmark": Namespace("torch.utils.benchmark", {"Timer": timer, "Compare": INERT}),
            "tensorboard": INERT, "checkpoint": savings()["checkpoint"], "data": data()}),
        "distributions": Namespace("torch.distributions", {name: getattr(torch.distributions, name) for name in (
            "Normal", "Bernoulli", "Categorical", "Uniform", "Exponential", "Gamma", "Beta", "Laplace", "MultivariateNormal",
            "Independent", "Poisson", "Dirichlet")} | _distributions()),
        "no_grad": torch.no_grad, "enable_grad": torch.enable_grad, "set_grad_enabled": torch.set_grad_enabled,
        "inference_mode": torch.no_grad, "is_grad_enabled": torch.is_grad_enabled, "is_tensor": torch.is_tensor,
        "manual_seed": _seeded, "random": Namespace("torch.random", {"manual_seed": _seeded}),
        "device": Named("torch.device", torch.device, reach.device),
        "set_default_dtype": _default_dtype, "get_default_dtype": torch.get_default_dtype, "set_default_tensor_type": INERT,
        "set_default_device": _default_device,
        "amp": savings()["amp"], "autocast": autocast,
        "cpu": Namespace("torch.cpu", {"amp": savings()["cpu"]}), "profiler": INERT,
        "cuda": Namespace("torch.cuda", {"amp": savings()["cuda"],
                                         "is_available": lambda: False, "manual_seed": INERT, "manual_seed_all": INERT,
                                         "empty_cache": INERT, "synchronize": INERT, "Event": INERT, "device_count": lambda: 0}),
        "backends": INERT, "set_printoptions": INERT, "set_num_threads": INERT, "use_deterministic_algorithms": INERT,
        "compile": _as_it_is, "jit": Namespace("torch.jit", {"script": _as_it_is, "ignore": _as_it_is, "export": _as_it_is}),
        "from_numpy": integers.from_numpy, "__version__": str(torch.__version__), "Size": torch.Size,
        "Tensor": Named("torch.Tensor", Tensor, _legacy(None), _methods()),
        "empty": torch.zeros, "empty_like": torch.zeros_like, "dtype": torch.dtype, "finfo": torch.finfo, "iinfo": torch.iinfo,
    }  # fmt: skip
    for name, dtype in LEGACY.items():
        entries[name] = Named(f"torch.{name}", Tensor, _legacy(dtype), {"dtype": dtype})
        vars(entries["cuda"])[name] = entries[name]
    entries["testing"] = Namespace("torch.testing", {"assert_close": INERT, "assert_allclose": INERT})
    return {"torch": Namespace("torch", entries), "math": Namespace("math", _math())}


def _math() -> dict[str, Any]:
    """math: what makes numbers of any size is of the catalogue, and looked at there; else a result is one or two floats."""
    named = ("nextafter", "ulp", "ldexp", "cbrt", "exp2", "frexp", "modf", "dist", "sumprod", "isqrt", "fma", "remainder", "fmod")
    return {name: getattr(math, name) for name in named if hasattr(math, name)} | _of_catalogue("math")


FAMILIES = (
    "Binomial", "Cauchy", "Chi2", "ContinuousBernoulli", "FisherSnedecor", "Geometric", "Gumbel", "HalfCauchy", "HalfNormal",
    "InverseGamma", "Kumaraswamy", "LogNormal", "LogisticNormal", "LowRankMultivariateNormal", "MixtureSameFamily", "Multinomial",
    "NegativeBinomial", "OneHotCategorical", "OneHotCategoricalStraightThrough", "Pareto", "RelaxedBernoulli",
    "RelaxedOneHotCategorical", "StudentT", "TransformedDistribution", "VonMises", "Weibull",
)  # fmt: skip
"""Distributions that are asked for less often."""

TRANSFORMS = (
    "AbsTransform", "AffineTransform", "ComposeTransform", "ExpTransform", "IndependentTransform", "PowerTransform",
    "SigmoidTransform", "SoftmaxTransform", "SoftplusTransform", "StickBreakingTransform", "TanhTransform",
)  # fmt: skip
"""What a distribution is carried over to another by."""


def _distributions() -> dict[str, Any]:
    """The rest of torch.distributions, and the modules that it is also found in."""
    held, space = torch.distributions, "torch.distributions"
    divergence = {"kl_divergence": held.kl_divergence}
    transforms = {name: getattr(held, name) for name in TRANSFORMS}
    alone = {name: Namespace(f"{space}.{name}", {kind: getattr(held, kind)}) for name, kind in (
        ("normal", "Normal"), ("categorical", "Categorical"), ("bernoulli", "Bernoulli"), ("uniform", "Uniform"),
        ("beta", "Beta"), ("gamma", "Gamma"), ("independent", "Independent"), ("multivariate_normal", "MultivariateNormal"),
        ("transformed_distribution", "TransformedDistribution"))}  # fmt: skip
    return {
        **{name: getattr(held, name) for name in FAMILIES}, **divergence, **transforms, **alone,
        "kl": Namespace(f"{space}.kl", divergence), "transforms": Namespace(f"{space}.transforms", transforms),
    }  # fmt: skip


class ParameterDict(nn.ParameterDict):
    """A dictionary of parameters, which torch keeps as attributes: by names that have no other meaning."""

    def _key_to_attr(self, key: str) -> str:
        found: str = super()._key_to_attr(key)
        if type(found) is not str or found.startswith("_"):  # else it is another's name where it is compared
            raise ForbiddenError(f"The key `{found}` can't be used.")
        return found


def _methods() -> dict[str, Any]:
    """The methods of tensors as functions: `torch.Tensor.sum(x)`."""
    names = [name for name in dir(Tensor) if name[0] != "_" and catalog.is_method(name)]
    return {name: _checked(f"torch.Tensor.{name}", getattr(Tensor, name)) for name in names}


LEGACY = {"FloatTensor": torch.float32, "DoubleTensor": torch.float64, "LongTensor": torch.int64, "IntTensor": torch.int32,
          "ByteTensor": torch.uint8, "BoolTensor": torch.bool, "HalfTensor": torch.float16}  # fmt: skip


def _legacy(dtype: torch.dtype | None) -> Callable[..., Tensor]:
    """`torch.FloatTensor(…)`: of numbers, of a tensor of its dtype, or of sizes, whose numbers are zeros here."""

    def made(*given: Any) -> Tensor:
        kind = dtype or torch.get_default_dtype()
        if not given or isinstance(given[0], int):
            return torch.zeros(given if given else (0,), dtype=kind)
        if isinstance(given[0], torch.Size):
            return torch.zeros(given[0], dtype=kind)
        if isinstance(given[0], Tensor) and given[0].dtype != (dtype or given[0].dtype):
            raise TypeError(f"expected a tensor of {dtype}, and got one of {given[0].dtype}")
        return given[0].view_as(given[0]) if isinstance(given[0], Tensor) else torch.tensor(given[0], dtype=kind)

    return made


def _variable(data: Any, requires_grad: bool = False, volatile: bool = False) -> Tensor:
    """`Variable(x)`: a leaf with the numbers of a tensor, and its memory."""
    if not isinstance(data, Tensor):
        raise TypeError(f"Variable data has to be a tensor, but got {type(data).__name__}")  # as torch says it
    return data.detach().requires_grad_(requires_grad)


def _streams(seed: int | None) -> Named:
    """`torch.Generator(…)`: streams that begin from a seed, whatever a program says; None: from its own."""

    def made(device: Any = "cpu") -> torch.Generator:
        reach.check_given((reach.here(device),))
        return torch.Generator() if seed is None else Kept.begun(seed)

    return Named("torch.Generator", torch.Generator, made)


def _seeded(seed: int) -> Any:
    torch.default_generator.manual_seed(seed)
    return INERT


def _default_device(device: Any) -> None:
    """`torch.set_default_device(…)`: a GPU is where a program's tensors are already."""
    reach.check_given((reach.here(device),))


def _default_dtype(dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)


ON_ARRAYS = (
    "triu", "tril", "trace", "cumprod", "nanmean", "nan_to_num", "interp", "gradient", "cross", "kron", "roll", "fliplr",
    "flipud", "split", "array_split", "append", "insert", "delete", "nonzero", "argwhere", "searchsorted", "digitize", "hypot",
    "remainder", "floor_divide", "sinc", "degrees", "radians", "deg2rad", "rad2deg", "isin", "percentile", "quantile", "average",
    "cov", "atleast_1d", "atleast_2d", "swapaxes", "moveaxis", "negative", "fabs", "cbrt", "exp2", "less", "greater",
    "logical_and", "logical_or", "logical_not", "geomspace", "size", "ndim", "shape", "copy", "count_nonzero", "histogram",
    "polyfit", "polyval",
)  # fmt: skip
"""What a program that is run has of numpy beside what the language has: functions of numbers and arrays."""

DRAWN = (
    "beta", "binomial", "chisquare", "exponential", "gamma", "geometric", "gumbel", "laplace", "logistic",
    "lognormal", "multinomial", "multivariate_normal", "pareto", "poisson", "standard_t", "triangular", "weibull", "shuffle",
    "integers", "permuted", "dirichlet", "rayleigh", "vonmises", "standard_exponential", "standard_gamma",
)  # fmt: skip
"""What it has of numpy's random numbers beside what the language has."""


LINEAR = (
    "norm", "inv", "det", "solve", "lstsq", "pinv", "matrix_rank", "matrix_power", "slogdet", "cond", "cholesky", "qr", "svd",
    "eig", "eigh", "eigvals", "eigvalsh", "multi_dot",
)  # fmt: skip
"""What it has of numpy.linalg."""


@lru_cache(maxsize=1)
def _arrays() -> dict[str, Any]:
    """What of numpy draws no numbers."""
    found: dict[str, Any] = {"pi": np.pi, "e": np.e, "inf": np.inf, "nan": np.nan, "newaxis": None, "ndarray": Named(
        "numpy.ndarray", np.ndarray, not_made)}  # fmt: skip
    for name in (*catalog.ARRAY_FUNCTIONS, *ON_ARRAYS):
        owner, _, last = name.rpartition(".")
        if not owner and hasattr(np, last):
            found[last] = reach.of_arrays(getattr(np, last))
    found |= {name: getattr(np, name) for name in catalog.ARRAY_DTYPES}
    found |= {name: reach.of_arrays(getattr(np, name)) for name in ("finfo", "iinfo")}
    linalg = {name: reach.of_arrays(getattr(np.linalg, name)) for name in LINEAR}
    found["linalg"] = Namespace("numpy.linalg", linalg)
    return found


def not_made(*_: Any, **__: Any) -> Any:
    """Stands where a class would make an object.

    Raises:
        ForbiddenError: always.
    """
    raise ForbiddenError("A class that was asked for by type(…) makes no objects in a program.")


def _numpy(seed: int, keeps_seed: bool) -> Namespace:
    """numpy, whose random numbers come from a stream of the program's own; with `keeps_seed` it begins none anew."""

    def begun(given: Any) -> Any:
        reach.check_given((given,))
        return seed if keeps_seed or given is None else given

    drawn = _drawn(np.random.RandomState(seed))
    drawn |= dict.fromkeys(("sample", "ranf"), drawn["random_sample"])
    drawn["default_rng"] = lambda seed=None: Namespace("numpy.random.Generator", _drawn(np.random.default_rng(begun(seed))))
    drawn["RandomState"] = lambda seed=None: Namespace("numpy.random.RandomState", _drawn(np.random.RandomState(begun(seed))))
    kept = {"seed": INERT} if keeps_seed else {}
    return Namespace("numpy", {**_arrays(), "random": Namespace("numpy.random", drawn | kept)})


def _drawn(stream: Any) -> dict[str, Any]:
    """The functions of a stream of numpy's random numbers, of its older or its newer kind."""
    words = [name.rpartition(".")[2] for name in catalog.ARRAY_FUNCTIONS if name.startswith("random.")]
    return {name: reach.of_arrays(getattr(stream, name)) for name in (*words, *DRAWN) if hasattr(stream, name)}


def _deriving(watch: Watch, seed: int, keeps_seed: bool, guard: Callable[..., Any]) -> dict[str, Any]:
    """Namespaces of one run: whose functions ask for derivatives, and keep what is saved."""
    func = transforms(watch, _line)
    torch_, autograd = vars(_spaces()["torch"]), vars(vars(_spaces()["torch"])["autograd"])
    functional, detecting = Namespace("torch.autograd.functional", functionals(watch, _line)), anomalies(watch)
    held = Namespace("torch.autograd", {
        **autograd, "functional": functional, **checks(watch, _line), **detecting,
        "anomaly_mode": Namespace("torch.autograd.anomaly_mode", detecting),
        "forward_ad": Namespace("torch.autograd.forward_ad", forward(watch, _line)),
    })  # fmt: skip
    space = Namespace("torch.func", func)
    kept = {"manual_seed": INERT, "random": Namespace("torch.random", {"manual_seed": INERT})} if keeps_seed else {}
    kept["Generator"] = _streams(seed if keeps_seed else None)
    return {
        "torch": Namespace("torch", {**torch_, "autograd": held, "func": space, "vmap": func["vmap"], **kept,
                                     **{name: guard(as_seen(name, function)) for name, function in saving().items()}}),
        "functorch": Namespace("functorch", {
            **func, "make_functional": make_functional, "make_functional_with_buffers": make_functional_with_buffers,
        }),
    }  # fmt: skip


def _line() -> int:
    """The line of the program that is carried out."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename != PROGRAM:
        frame = frame.f_back  # type: ignore[assignment]
    return 0 if frame is None else frame.f_lineno


def _as_it_is(function: Any = None, **_: Any) -> Any:
    """`torch.compile(f)`: f itself, which gives the same numbers."""
    return _as_it_is if function is None else function
