"""`--import FILE.py`: the functions that the user's own files define, made callable in expressions.

In the language this is the only way that code other than torch's runs.  A file is executed once, as `python FILE.py`
would, but for its name; what it defines at its top level under a public name can be called: functions, `nn.Module`s (and
their submodules by dotted names), and `apply` of an `autograd.Function`.

An imported function is made pure: the parameters that an expression differentiates come in as keyword arguments under
their dotted names, and copies stand for the modules' buffers and for whatever else it writes to that it finds outside of
itself, so that one evaluation leaves nothing behind for the next.
"""

from __future__ import annotations

import importlib.util
import inspect
import linecache
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from jvpcli.errors import EvaluationError, FileError, ForbiddenError, JvpError
from jvpcli.language.operations import check_result, describe, is_usable, without_numbers
from jvpcli.language.substitution import ModuleFunction, Place, code_within, run_with, tied
from jvpcli.program import cited_line, file_called

TORCH = str(Path(torch.__file__).parent)


@dataclass(frozen=True, eq=False)
class ImportedFunction:
    """One callable of a user's file.

    Attributes:
        name: what an expression calls it.
        function: the callable itself.
        files: the user's files, for the place of an error.
        modules: every module of the files, by name: an imported function may use any of them.
        double: whether the modules' parameters and buffers are taken in double precision.
        written: the places of further tensors that it writes to, as far as that is known.
    """

    name: str
    function: Callable[..., Any]
    files: tuple[str, ...]
    modules: Mapping[str, nn.Module] = field(default_factory=dict)
    double: bool = False
    written: list[Place] = field(default_factory=list)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Call it; keywords with a dot in their name are values of parameters.

        Raises:
            EvaluationError: it failed; with the file and the line.
        """
        parameters = {name: keywords.pop(name) for name in list(keywords) if "." in name}
        try:
            return self._usable(self._called(arguments, keywords, parameters))
        except JvpError:
            raise
        except (Exception, SystemExit) as error:
            raise failure_in(error, self.files, f"`{self.name}`") from error

    def _called(self, arguments: Any, keywords: Any, parameters: Mapping[str, Tensor]) -> Any:
        replaced = {
            id(parameter): parameters[f"{name}.{path}"]
            for name, module in (self.modules.items() if parameters else ())
            for path, parameter in module.named_parameters(remove_duplicate=False)
            if f"{name}.{path}" in parameters
        }
        call = partial(self.function, *arguments, **keywords)
        return run_with(call, (arguments, keywords, parameters), self.modules.values(), replaced, self.double, self.written)

    def _usable(self, result: Any) -> Any:
        """What the function returned, as an expression goes on with it.

        Raises:
            EvaluationError: it can't.
        """
        if not isinstance(result, Tensor) or result.layout is not torch.strided:
            from jvpcli.language.trees import recorded  # most functions give one dense tensor

            result = recorded(result, is_usable)
        try:
            check_result(result, f"call:{self.name}")
        except ForbiddenError as error:
            if isinstance(result, Tensor) and result.is_meta:
                raise without_numbers(f"`{self.name}`") from error
            arrays = type(result).__module__ == "numpy"
            raise EvaluationError(
                f"`{self.name}` returns {describe(result)}, and an expression goes on with tensors, numbers, and tuples or "
                "lists of them alone.",
                hints=["Return the tensor: a NumPy array carries no gradient."] if arrays else (),
            ) from error
        return result


@dataclass(frozen=True, eq=False)
class Imports:
    """What the user's files define: callables and modules by name."""

    functions: Mapping[str, ImportedFunction] = field(default_factory=dict)
    modules: Mapping[str, nn.Module] = field(default_factory=dict)

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The parameters of all modules by their dotted names; one that is shared has a name in each place."""
        return {
            f"{name}.{path}": parameter
            for name, module in self.modules.items()
            for path, parameter in module.named_parameters(remove_duplicate=False)
        }

    def tied(self, wanted: Sequence[str]) -> dict[str, str]:
        """The names in `wanted` of parameters that stand there under an earlier name too, and that name."""
        return tied(wanted, self.parameters)

    def reads(self, wanted: Collection[str]) -> dict[str, tuple[str, ...]]:
        """For each callable the parameters among `wanted` that it uses: a module's own, those that its code mentions.

        A shared one is meant by its first name alone.
        """
        later = self.tied([name for name in self.parameters if name in wanted])
        mine = {name: parameter for name, parameter in self.parameters.items() if name in wanted and name not in later}
        found = {}
        for name, imported in self.functions.items():
            used = {id(p) for module in self._modules_of(imported.function) for p in module.parameters()}
            found[name] = tuple(key for key, parameter in mine.items() if id(parameter) in used)
        return found

    def read_by(self, functions: Collection[str]) -> tuple[str, ...]:
        """The parameters that some of the callables use and that are trained, a shared one by its first name."""
        reads = self.reads([name for name, parameter in self.parameters.items() if parameter.requires_grad])
        used = {name for function in functions for name in reads[function]}
        first = {id(parameter): name for name, parameter in reversed(self.parameters.items())}
        return tuple(name for name, parameter in self.parameters.items() if name in used and first[id(parameter)] == name)

    def _modules_of(self, function: Callable[..., Any]) -> Iterator[nn.Module]:
        """The modules that a callable may use; all of them where its code can't be looked at."""
        if isinstance(function, nn.Module):
            yield function
            return
        if isinstance(getattr(function, "__self__", None), type):  # `apply` of an autograd.Function
            return
        words, waiting = set[str](), [function]
        while waiting:
            code = getattr(inspect.unwrap(waiting.pop()), "__code__", None)
            if code is None:
                yield from self.modules.values()
                return
            new = {word for part in code_within(code) for word in part.co_names} - words
            words |= new
            waiting += [self.functions[word].function for word in new & self.functions.keys() - self.modules.keys()]
        yield from (module for name, module in self.modules.items() if name in words)


def load(paths: Sequence[str]) -> Imports:
    """Run the user's files, and what they define.

    Raises:
        FileError: a file can't be read, or fails when it is run; with the line.
    """
    functions: dict[str, Callable[..., Any]] = {}
    modules: dict[str, nn.Module] = {}
    for path in paths:
        namespace = _run(Path(path))
        for name, value in vars(namespace).items():
            if not name.startswith("_"):
                functions.update(_callables(name, value, namespace.__name__))
                if isinstance(value, nn.Module):
                    modules[name] = value
    files = tuple(str(Path(path).resolve()) for path in paths)
    made = {name: ImportedFunction(name, function, files, modules) for name, function in functions.items()}
    return Imports(made, modules)


def _run(path: Path) -> ModuleType:
    """The file as a module; its directory is searched for what it imports, as Python does for a script."""
    if not path.is_file():
        raise FileError(f"There is no file `{path}` to import.")
    name = f"jvpcli_import_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if spec is None or spec.loader is None:
        raise FileError(f"`{path}` is not a Python file.", hints=["--import takes a file that ends in .py."])
    module = importlib.util.module_from_spec(spec)
    directory = str(path.resolve().parent)
    sys.modules[name] = module  # dataclasses look their module up there
    sys.path.insert(0, directory)
    gradients = torch.is_grad_enabled()
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        told = failure_in(error, (str(path.resolve()),), f"Importing `{path}`")
        raise FileError(told.message, details=told.details) from error
    finally:
        torch.set_grad_enabled(gradients)  # a script for inference switches them off for good
        if directory in sys.path:
            sys.path.remove(directory)
    return module


def _callables(name: str, value: Any, module: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """What an expression can call because the file defines `name`."""
    if isinstance(value, nn.Module):
        for path, submodule in value.named_modules():
            yield (f"{name}.{path}" if path else name), submodule
    elif isinstance(value, type):
        if issubclass(value, torch.autograd.Function) and value.__module__ == module:
            yield f"{name}.apply", value.apply
    elif callable(value) and _defined_in(value, module):
        yield name, value


def _defined_in(value: Any, module: str) -> bool:
    """Whether a callable is the file's own: a function of it, a bound method, a partial, an object of its classes."""
    owner = getattr(value, "__self__", None)
    if owner is not None and not isinstance(owner, ModuleType):
        return (owner if isinstance(owner, type) else type(owner)).__module__ == module or isinstance(owner, nn.Module)
    inner = getattr(value, "func", value)  # functools.partial
    return getattr(inner, "__module__", None) == module


def in_double(function: Any) -> Any:
    """An imported function with its modules, or a module, in double precision; another as it is."""
    return replace(function, double=True) if isinstance(function, (ImportedFunction, ModuleFunction)) else function


# Errors of the user's own code


def failure_in(error: BaseException, files: Collection[str], what: str) -> JvpError:
    """What the user's code raised, with its place in the user's files, if it is there."""
    kind, text = type(error).__name__, str(getattr(error, "msg", error) or error).strip()
    first = f"{kind}: {text.splitlines()[0].rstrip('.')}" if text else kind
    place = place_of(error, files)
    if place is None:
        return EvaluationError(f"{what} failed: {first}.", torch_message=text or None)
    file, line = place
    source = linecache.getline(file, line).strip()
    own = source.startswith(("raise ", "assert "))  # the user's words, not torch's
    return EvaluationError(
        f"{what} failed in {file_called(file)}, line {line}: {first}.",
        details=[f"{cited_line(file, line)}: {source}"] if source else (),
        torch_message=None if own else text or None,
    )


def place_of(error: BaseException, files: Collection[str]) -> tuple[str, int] | None:
    """File and line of the innermost frame that is in one of the files; a syntax error's own place."""
    if isinstance(error, SyntaxError) and error.filename and error.filename in files:
        return error.filename, error.lineno or 1
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in files and f.lineno is not None]
    return (frames[-1].filename, frames[-1].lineno or 0) if frames else None


def files_of(functions: Mapping[str, Callable[..., Any]], expression: Any = None) -> tuple[str, ...]:
    """The files that the user's code is in: those of the imported functions, or of a Python function."""
    files = {file for f in functions.values() if isinstance(f, ImportedFunction) for file in f.files}
    owner = getattr(expression, "__self__", None)  # of an autograd.Function's `apply` its class
    if isinstance(expression, ModuleFunction):
        owners: set[Any] = {type(module) for module in expression.module.modules()}
    else:
        owners = {owner if isinstance(owner, type) else inspect.unwrap(expression)} if callable(expression) else set()
    for each in owners:
        # of a class the files of its methods: one that was defined at a prompt or in a notebook has none of its own
        for part in vars(each).values() if isinstance(each, type) else (each,):
            with suppress(TypeError, OSError):  # a builtin or an object: it has no file
                file = str(inspect.getsourcefile(getattr(part, "__func__", part)))
                files |= set() if file.startswith(TORCH) else {file}
    return tuple(sorted(files))
