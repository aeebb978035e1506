"""Derive the allow-list from torch's own registry: `make catalog`.

What may be called is every function that torch lists as taking tensors (`torch.overrides`), in the namespaces and among
the tensor methods of the language, less what the RULES refuse, each with its reason.  The result is data
(`catalog.json`, `catalog_text.json`), so that parsing and `jvp ops` need no torch.
"""

from __future__ import annotations

import inspect
import json
import math
import pkgutil
import re
import types
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from jvpcli.language import catalog, guards
from jvpcli.language.catalog import keyword_reason
from jvpcli.language.guards.binding import signatures_of

HERE = Path(catalog.__file__).parent

NAMESPACES = {
    "torch": torch,
    "torch.nn.functional": torch.nn.functional,
    "torch.linalg": torch.linalg,
    "torch.fft": torch.fft,
    "torch.special": torch.special,
    "torch.masked": torch.masked,
}

RULES: tuple[tuple[str, str], ...] = (
    ("it reads or writes files", "save|load|from_file|import_ir_module.*|get_file_path"),
    (
        "it takes a Python function, which an expression doesn't have",
        "apply_|map_|map2_|vmap|cond|while_loop|compile|boolean_dispatch|register_.*hook|handle_torch_function"
        "|has_torch_function.*",
    ),
    (
        "it reaches into a tensor's memory",
        "storage|untyped_storage|storage_type|set_|data_ptr|const_data_ptr|is_set_to|share_memory_|is_shared|pin_memory"
        "|is_pinned|record_stream|from_dlpack|to_dlpack|from_numpy|frombuffer|module_load|as_subclass|is_storage",
    ),
    ("it leaves torch, and the gradient with it; stay with torch's functions", "numpy"),
    (
        "it reads or changes autograd's state; jvp itself computes the derivative",
        "backward|requires_grad_?|retain_grad|retains_grad|detach_|grad|grad_dtype|grad_fn|data|is_leaf|output_nr|volatile"
        "|reinforce|is_inference|enable_grad|no_grad|inference_mode|set_anomaly_enabled|name",
    ),
    (
        "it gives memory that was never written, so its values mean nothing; use zeros",
        "empty|empty_.*|new|new_empty|new_empty_strided|resize|resize_|resize_as|resize_as_|resize_as_sparse_",
    ),
    (
        "torch doesn't count what its parts change in the tensor, and backward passes trust what they kept; use split or chunk",
        "unsafe_chunk|unsafe_split|unsafe_split_with_sizes",
    ),
    (
        "it reads or changes a setting of the whole process",
        "set_.*|get_.*|manual_seed|seed|initial_seed|.*autocast.*|are_.*_enabled|use_.*|is_.*_enabled|init_num_threads"
        "|is_vulkan_available|compiled_with_.*|thread_safe_generator|default_generator|prepare_multi.*|profiler_.*",
    ),
    ("it moves data to another device; use --device", "cuda|xpu|ipu|mtia|mps"),
    ("it works on symbolic sizes, an internal of torch's compiler", "sym_.*"),
    (
        "it is about quantized tensors, which have no derivative",
        ".*quantize.*|q_.*|qscheme|int_repr|fbgemm_.*|choose_qparams.*|fused_moving_.*|quantized_.*|per_.*_affine.*"
        "|per_.*symmetric",
    ),
    (
        "it is one backend's own entry; use the general function",
        "miopen_.*|mkldnn_.*|cudnn_.*|to_mkldnn|batch_norm_(stats|elemt|backward.*|gather.*|update.*)|scaled_mm"
        "|scaled_grouped_mm|grouped_mm|assert_int_or_pair|is_distributed",
    ),
    (
        "it is about sparse layouts; jvp takes dense tensors",
        ".*sparse.*|indices|values|coalesce|is_coalesced|c?crow_indices|c?col_indices|row_indices|dense_dim|smm|spmm|hspmm"
        "|hsmm|dsmm|saddmm|sspaddmm|to_dense|(c?crow|c?col|row)_indices_copy|indices_copy|values_copy|layout|jagged",
    ),
    ("it is about first-class dimensions, an internal of functorch", "index"),
    ("it is about nested tensors; jvp takes dense tensors", "nested_.*|to_padded_tensor|.*_nested"),
    ("it is an internal of TorchScript", "fork|wait|parse_.*|unify_type_list|merge_type.*|typename"),
    ("it was removed from torch", "solve|eig|lstsq|symeig|matrix_rank"),
    (
        "it says how the tensor is stored, not what it holds",
        "is_(cpu|cuda|ipu|maia|meta|mkldnn|mps|mtia|vulkan|xla|xpu)",
    ),
)
"""Reason and the names it refuses (whole-name patterns), first match wins.  They apply to functions and methods alike,
but for the exceptions below."""

EXCEPTIONS = {
    "torch.linalg.solve", "torch.linalg.lstsq", "torch.linalg.eig", "torch.linalg.matrix_rank", "torch.linalg.cond",
    "torch.Tensor.get_device", "torch.get_device",
}  # fmt: skip

EXTRA_FUNCTIONS = ("torch.finfo", "torch.iinfo", "torch.segment_reduce")
"""Pure, and not in torch's registry of functions that take tensors."""

PROPERTIES = ("H", "T", "mH", "mT", "real", "imag", "shape", "dtype", "device", "ndim", "itemsize", "nbytes")

DTYPES = re.compile(
    r"(float|double|half|bfloat16|complex|c(float|double|half)|int|uint|short|long|bool)(8|16|32|64|128)?"
)

OBJECT_FIELDS = {
    "finfo": ("bits", "dtype", "eps", "max", "min", "resolution", "smallest_normal", "tiny"),
    "iinfo": ("bits", "dtype", "max", "min"),
    "dtype": ("is_complex", "is_floating_point", "is_signed", "itemsize"),
    "number": ("imag", "real"),
}
"""What may be read from the plain objects that functions give."""

NEWER_THAN_PYTHON_310 = {"cbrt", "exp2", "sumprod", "fma"}
"""Functions of `math` that not every supported Python has."""

RANDOM = re.compile(
    r"(feature_|alpha_|native_|feature_alpha_)?dropout[123]?d?_?|rand(n|int|perm)?(_like)?|bernoulli_?|binomial|multinomial"
    r"|normal_?|poisson|rrelu_?|gumbel_softmax|fractional_max_pool.*|uniform_|exponential_|cauchy_|geometric_|log_normal_"
    r"|random_|.*_lowrank|lobpcg|(gru|lstm|rnn_relu|rnn_tanh)"
    r"|scaled_dot_product_attention|multi_head_attention_forward"
)

MUTATING_PARAMETERS = {"inplace", "running_mean", "running_var", "max_norm"}

MODULE_REASON = "it is a module, and only torch's own functions can be called"
CLASS_REASON = "it is a class, and only functions can be called"
INTERNAL_REASON = "it isn't a function of tensors"


def registry() -> set[Any]:
    """Every function that torch itself lists as taking tensors, with or without override support."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        groups = [*torch.overrides.get_overridable_functions().values(), torch.overrides.get_ignored_functions()]
    masked = {f for _, f in public(torch.masked) if getattr(f, "__module__", "") == "torch.masked._ops"}
    return {function for group in groups for function in group if callable(function)} | masked


def public(owner: Any) -> Iterator[tuple[str, Any]]:
    """The public names of a module or class, with what they hold.

    A package's modules are listed whether something has imported them yet or not.
    """
    modules = {module.name for module in pkgutil.iter_modules(getattr(owner, "__path__", ()))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in sorted(modules.union(dir(owner))):
            if not name.startswith("_"):
                yield name, getattr(owner, name) if hasattr(owner, name) else types.ModuleType(name)


def refusal(path: str) -> str | None:
    """The reason of the first rule that refuses the last name of `path`."""
    if path in EXCEPTIONS:
        return None
    name = path.rpartition(".")[2]
    return next((reason for reason, pattern in RULES if re.fullmatch(pattern, name)), None)


def kind_reason(value: Any) -> str:
    """Why something that is no function cannot be called."""
    if isinstance(value, types.ModuleType):
        return MODULE_REASON
    return CLASS_REASON if isinstance(value, type) else INTERNAL_REASON


def constants() -> list[str]:
    """Paths of the named constants: numbers, dtypes, memory formats, and math's constants."""
    found = [f"math.{name}" for name, value in public(math) if isinstance(value, float)]
    for name, value in public(torch):
        wanted = (
            (isinstance(value, torch.dtype) and DTYPES.fullmatch(name))
            or (isinstance(value, torch.memory_format) and not name.startswith("legacy"))
            or (isinstance(value, float) or name in ("newaxis", "strided"))
        )
        if wanted:
            found.append(f"torch.{name}")
    return sorted(found)


def constant_description(path: str) -> str:
    """What a constant is."""
    root, _, name = path.partition(".")
    value = getattr({"torch": torch, "math": math}[root], name)
    return (
        f"The number {value}" if isinstance(value, float) else f"The {type(value).__name__.replace('_', ' ')} {value}"
    )


def named_result_fields() -> list[str]:
    """The fields of torch's named results (`values`, `indices`, `U`, `S`, …)."""
    fields: set[str] = set()
    for cls in torch.return_types.all_return_types:
        fields |= {name for name in vars(cls) if not name.startswith(("_", "n_"))}
    return sorted(fields)


def refused_positions(paths: Iterable[str]) -> dict[str, dict[str, list[Any]]]:
    """Path to the places where a parameter can be given by position that no call may use: its name and default."""
    found = {}
    for path in paths:
        owner, _, name = path.rpartition(".")
        signatures = signatures_of(f"method:{name}" if owner == "torch.Tensor" else f"call:{path}")
        places = {
            str(place): [parameter.name, parameter.default]
            for signature in signatures
            for place, parameter in enumerate(signature)
            if parameter.positional and keyword_reason(parameter.name)
        }
        if places:
            found[path] = places
    return found


UNUSABLE_PARAMETERS = {"out", "requires_grad", "generator", "pin_memory", "layout", "_stacklevel", "names"}
"""Parameters that no call may use."""


def guard_families() -> dict[str, list[str]]:
    """Function name to the families of guards that have a rule for it: the modules with a table of rules."""
    families: dict[str, list[str]] = {}
    for module in sorted(pkgutil.iter_modules(guards.__path__), key=lambda module: module.name):
        for name in getattr(import_module(f"{guards.__name__}.{module.name}"), "RULES", ()):
            families.setdefault(name, []).append(module.name)
    return dict(sorted(families.items()))


def signature_of(function: Any, name: str, lambdas: dict[Any, Callable[..., Any]]) -> str:
    """`name(parameters)`, without annotations and without what can't be used."""
    head, _, parameters = written_signature(function, name, lambdas).partition("(")
    usable = []
    for parameter in split_parameters(parameters.rpartition(")")[0]):
        declared, equals, default = (part.strip() for part in parameter.partition("="))
        called = declared.partition(":")[0].strip()
        if called and called not in UNUSABLE_PARAMETERS:
            usable.append(f"{called}={default}" if equals else called)
    while usable and usable[-1] in ("*", "/"):
        usable.pop()
    return f"{head}({', '.join(usable)})"


def split_parameters(text: str) -> list[str]:
    """The text cut at the commas that stand in no brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def written_signature(function: Any, name: str, lambdas: dict[Any, Callable[..., Any]]) -> str:
    """`name(parameters)` as torch writes it."""
    first = (inspect.getdoc(function) or "").strip().split("\n\n")[0].replace("\n", " ")
    match = re.match(rf"(?:torch\.)?(?:[\w.]+\.)?{re.escape(name)}\((.*?)\)\s*->", first)
    if match is None:
        match = re.match(rf"(?:torch\.)?(?:[\w.]+\.)?{re.escape(name)}\((.*)\)", first)
    if match:
        return f"{name}({re.sub(r' +', ' ', match[1])})".replace("\\", "")
    for source in (function, lambdas.get(function)):
        try:
            parameters = inspect.signature(source).parameters  # type: ignore[arg-type]
        except (TypeError, ValueError):
            continue
        return f"{name}({', '.join(plain_parameter(p) for p in parameters.values())})"
    return f"{name}(…)"


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def plain_parameter(parameter: inspect.Parameter) -> str:
    """A parameter as a caller writes it, without annotations."""
    stars = "*" * (1 + (parameter.kind is parameter.VAR_KEYWORD)) if parameter.kind in _VARIADIC else ""
    default = "" if parameter.default is inspect.Parameter.empty else f"={parameter.default!r}"
    return f"{stars}{parameter.name}{default}"


def description_of(function: Any) -> str:
    """The first sentence of the docstring, as plain text."""
    paragraphs = [" ".join(p.split()) for p in (inspect.getdoc(function) or "").split("\n\n")]
    for paragraph in paragraphs:
        text = re.sub(r"^(?:[\w.]+)\(.*?\)\s*(?:->\s*[\w\[\](), .]+?)?(?=[A-Z.:]|$)", "", paragraph).strip()
        skipped = text.startswith((".. ", ">>>", "Args", "{", "Warning")) or "->" in text
        if len(text) > 3 and not skipped:
            sentence = re.split(r"(?<=[a-z\])`}])\.(?:\s|$)", plain(text))[0].strip().rstrip(".:")
            return sentence if len(sentence) <= 160 else f"{sentence[:157].rsplit(' ', 1)[0]}..."
    return ""


def plain(text: str) -> str:
    """reStructuredText and TeX as plain text."""
    text = re.sub(r":math:`([^`]*)`", lambda match: plain_mathematics(match[1]), text)
    text = re.sub(r":\w+:`~?([^`<]*?)(?:\s*<[^`]*>)?`", r"\1", text)
    return re.sub(r"`([^`<]*?)\s*<[^`]*>`_*", r"\1", text).replace("`", "").replace("\\", "")


def plain_mathematics(formula: str) -> str:
    """TeX as people write it on one line."""
    for pattern, replacement in (
        (r"\\(?:text|mathrm|mathbb|operatorname|texttt|mathbf)\{([^{}]*)\}", r"\1"),
        (r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"(\1) / (\2)"),
        (r"\\(?:leq|le)\b", "≤"),
        (r"\\(?:geq|ge)\b", "≥"),
        (r"\\neq?\b", "≠"),
        (r"\\times\b", "×"),
        (r"\\cdot\b", "·"),
        (r"\\infty\b", "∞"),
        (r"\\(?:left|right|;|,|!|quad)", ""),
        (r"[{}\\]", ""),
    ):
        formula = re.sub(pattern, replacement, formula)
    return formula


def parameters_in(signature: str) -> set[str]:
    """The parameter names that a signature text mentions."""
    return set(re.findall(r"[A-Za-z_]\w*", signature.partition("(")[2]))


def build() -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The catalogue and its texts: (what may be called and what not and why, path to [signature, description])."""
    known, lambdas = registry(), torch.overrides.get_testing_overrides()
    functions: dict[str, str] = {}
    forbidden: dict[str, list[str]] = {}
    texts: dict[str, list[str]] = {}

    def offer(path: str, value: Any, callable_here: bool) -> None:  # flags: i in place, r random, p pointwise
        reason = refusal(path) or (None if callable_here or path in EXTRA_FUNCTIONS else kind_reason(value))
        if reason:
            forbidden.setdefault(reason, []).append(path)
            return
        name = path.rpartition(".")[2]
        signature = signature_of(value, name, lambdas)
        mutates = name.endswith("_") or bool(parameters_in(signature) & MUTATING_PARAMETERS)
        flags = {"i": mutates, "r": RANDOM.fullmatch(name), "p": is_pointwise(name)}
        functions[path] = "".join(flag for flag, holds in flags.items() if holds)
        texts[path] = [signature, description_of(value)]

    constant_paths = constants()
    for namespace, module in NAMESPACES.items():
        for name, value in public(module):
            path = f"{namespace}.{name}"
            if path in constant_paths or path in NAMESPACES:
                continue
            function = callable(value) and not isinstance(value, type) and is_known(value, known)
            offer(path, value, function or isinstance(value, types.BuiltinFunctionType))
    for name, value in public(torch.Tensor):
        if name in PROPERTIES:
            texts[f"torch.Tensor.{name}"] = [name, description_of(value)]
        else:
            offer(f"torch.Tensor.{name}", value, callable(value) and is_known(value, known))
    for name, value in public(math):
        if callable(value) and name not in NEWER_THAN_PYTHON_310:
            functions[f"math.{name}"] = ""
            texts[f"math.{name}"] = [signature_of(value, name, {}), description_of(value)]

    texts |= {path: [path.rpartition(".")[2], constant_description(path)] for path in constant_paths}
    methods = {path.rpartition(".")[2]: flags for path, flags in functions.items() if path.startswith("torch.Tensor.")}
    borrow_descriptions(texts)
    torchs = [path for path in functions if path.startswith("torch.")]
    data = {
        "torch": torch.__version__.partition("+")[0],
        "functions": {path: flags for path, flags in functions.items() if not path.startswith("torch.Tensor.")},
        "methods": methods,
        "refused_positions": refused_positions(torchs),
        "guards": guard_families(),
        "properties": sorted(PROPERTIES),
        "fields": named_result_fields(),
        "object_fields": {kind: list(names) for kind, names in OBJECT_FIELDS.items()},
        "constants": constant_paths,
        "forbidden": {reason: sorted(paths) for reason, paths in sorted(forbidden.items())},
    }
    return data, texts


def is_known(value: Any, known: set[Any]) -> bool:
    """Whether torch's registry lists `value` (some objects cannot be hashed)."""
    try:
        return value in known
    except TypeError:
        return False


def is_pointwise(name: str) -> bool:
    """Whether torch tags the operator of that name as element-wise with broadcasting."""
    packet = getattr(torch.ops.aten, name, None)
    overloads = packet.overloads() if packet is not None else ()
    return any(torch.Tag.pointwise in getattr(packet, overload).tags for overload in overloads)


NEIGHBOURS = ("torch", "torch.nn.functional", "torch.Tensor", "torch.linalg", "torch.special")
"""Where a function of the same name may be described."""


def borrow_descriptions(texts: dict[str, list[str]]) -> None:
    """What is only described as "See torch.f" or "Alias for torch.f" takes the description of torch.f."""
    for path, (signature, description) in texts.items():
        name = path.rpartition(".")[2]
        pointer = re.match(r"(?:See|Alias (?:for|of)) (?:also )?([\w.]+)\(?\)?", description, re.IGNORECASE)
        places = [pointer[1], f"torch.{pointer[1]}"] if pointer else [f"{at}.{name.rstrip('_')}" for at in NEIGHBOURS]
        target = next((texts[place] for place in places if place in texts and texts[place][1]), None)
        if name.endswith("_") and (not description or "ersion of" in description):
            texts[path] = [signature, f"In-place version of {name.rstrip('_')}()"]
        elif target and (pointer or not description) and not target[1].startswith("See "):
            texts[path] = [signature, target[1]]


def main() -> None:
    """Write the data files beside the module that reads them."""
    data, texts = build()
    (HERE / "catalog.json").write_text(json.dumps(data, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    (HERE / "catalog_text.json").write_text(json.dumps(texts, indent=0, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{len(data['functions'])} functions, {len(data['methods'])} methods, {len(data['constants'])} constants")


if __name__ == "__main__":
    main()
