"""The allow-list: current, closed by exact path, and helpful about what isn't in it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from jvpcli.language import catalog

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import build_catalog

HERE = Path(catalog.__file__).parent


@pytest.mark.skipif(not torch.__version__.startswith("2.13."), reason="the catalogue is that of torch 2.13")
def test_the_data_files_are_what_torch_gives_now() -> None:
    data, texts = build_catalog.build()
    assert json.loads((HERE / "catalog.json").read_text()) == data
    assert json.loads((HERE / "catalog_text.json").read_text()) == texts


def test_loading_it_loads_no_torch() -> None:
    code = (
        "import sys; from jvpcli.language import catalog, parse; catalog.search('soft'); parse.parse('torch.sin(x)');"
        "print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def resolve(path: str) -> object:
    value: object = {"torch": torch, "math": math}[path.partition(".")[0]]
    for part in path.split(".")[1:]:
        value = getattr(value, part)
    return value


def test_everything_in_it_is_a_function_and_nothing_a_module_or_class() -> None:
    for entry in catalog.entries():
        if entry.kind == "function" and entry.path not in ("torch.finfo", "torch.iinfo"):
            value = resolve(entry.path)
            assert callable(value), entry.path
            assert not isinstance(value, (type, types.ModuleType)), entry.path


@pytest.mark.parametrize(
    "path",
    ["torch.sin", "F.relu", "torch.linalg.inv", "torch.fft.rfft", "torch.special.expit", "torch.Tensor.sum", "torch.pi",
     "torch.Tensor.mT", "math.sqrt", "torch.float64", "len", "torch.randn", "torch.stack", "torch.masked.sum"],
)  # fmt: skip
def test_what_is_there(path: str) -> None:
    entry = catalog.lookup(path)
    assert entry is not None
    assert entry.signature


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("torch.load", "files"),
        ("torch.from_file", "files"),
        ("torch.os", "module"),
        ("torch.os.system", "module"),
        ("torch.torch.os", "module"),
        ("torch.nn.functional.np.load", "module"),
        ("torch.Tensor.numpy", "leaves torch"),
        ("torch.Tensor.apply_", "Python function"),
        ("torch.Tensor.register_hook", "Python function"),
        ("torch.vmap", "Python function"),
        ("torch.Tensor.storage", "memory"),
        ("torch.Tensor.set_", "memory"),
        ("torch.Tensor.data_ptr", "memory"),
        ("torch.Tensor.backward", "autograd"),
        ("torch.Tensor.grad_fn", "autograd"),
        ("torch.autograd.grad", "jvp itself computes"),
        ("torch.func.vjp", "jvp itself computes"),
        ("torch.set_default_dtype", "whole process"),
        ("torch.manual_seed", "whole process"),
        ("torch.empty", "never written"),
        ("torch.Tensor.cuda", "device"),
        ("torch.nn.Linear", "a module is made by a statement of its own"),
        ("torch.Generator", "class"),
        ("torch._C", "underscore"),
        ("torch.sin.__globals__", "underscore"),
        ("torch.jit.script", "module"),
        ("torch.sparse_coo_tensor", "sparse"),
    ],
)
def test_why_it_is_forbidden(path: str, reason: str) -> None:
    assert catalog.lookup(path) is None
    assert reason in (catalog.why_forbidden(path) or "")


@pytest.mark.parametrize("path", ["torch.sinn", "torch.sin", "F.relu", "torch.Tensor.sum", "torch", "nothing"])
def test_what_is_right_or_unknown_is_not_forbidden(path: str) -> None:
    assert catalog.why_forbidden(path) is None


def test_no_public_name_of_torch_is_without_an_answer() -> None:
    for namespace, module in build_catalog.NAMESPACES.items():
        for name, _ in build_catalog.public(module):
            path = f"{namespace}.{name}"
            known = catalog.lookup(path) or catalog.why_forbidden(path) or path in catalog.NAMESPACES
            assert known, path


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("torch.sinn", "torch.sin"), ("sin", "torch.sin"), ("relu", "torch.relu"), ("gelu", "torch.nn.functional.gelu"),
     ("torch.lingalg.inv", "torch.linalg.inv"), ("torch.gelu", "torch.nn.functional.gelu"), (".summ", ".sum"),
     ("softmx", "torch.softmax"), ("torch.exp_it", "torch.exp_")],
)  # fmt: skip
def test_the_nearest_right_names(wrong: str, right: str) -> None:
    assert right in catalog.suggest(wrong)


def test_search_finds_names_first_and_then_descriptions() -> None:
    found = [entry.path for entry in catalog.search("soft")]
    assert found[0].rpartition(".")[2].startswith("soft")
    assert {"torch.softmax", "torch.nn.functional.softplus", "torch.Tensor.softmax"} <= set(found)
    assert "torch.logsumexp" in [entry.path for entry in catalog.search("exponentials")]
    assert [entry.path for entry in catalog.search("F.gelu")] == ["torch.nn.functional.gelu"]
    assert catalog.search("no such thing at all") == []


def test_descriptions_are_sentences_without_markup() -> None:
    for entry in catalog.entries():
        assert not any(mark in entry.description for mark in (":func:", ":math:", "``", "\n")), entry.path
        assert len(entry.description) <= 160


def test_in_place_and_random_functions_are_marked() -> None:
    assert catalog.changes_arguments("method:mul_")
    assert catalog.changes_arguments("call:torch.nn.functional.relu")  # inplace=True
    assert catalog.changes_arguments("call:torch.nn.functional.embedding")  # max_norm
    assert catalog.changes_arguments("op:setitem")
    assert not catalog.changes_arguments("method:mul")
    assert catalog.is_random("call:torch.randn_like")
    assert catalog.is_random("call:torch.nn.functional.dropout")
    assert not catalog.is_random("call:torch.sin")
    assert catalog.is_pointwise("call:torch.sin")
    assert catalog.is_pointwise("op:add")
    assert not catalog.is_pointwise("call:torch.sum")
