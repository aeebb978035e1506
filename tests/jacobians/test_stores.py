"""Jacobians in a Zarr store: what is read back, block by block, is what PyTorch gives, whatever was cut how."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

import jvpcli
from jvpcli.errors import FileError, LimitError, UsageError

pytest.importorskip("zarr")

RANDOM = torch.Generator().manual_seed(0)


def randn(*shape, dtype=torch.float64):
    return torch.randn(shape, generator=RANDOM, dtype=dtype)


CASES = {
    "outer": ("torch.outer(x, x)", {"x": randn(4)}),
    "not square": ("torch.tanh(W @ x)", {"W": randn(5, 3), "x": randn(3)}),
    "two outputs": ("(x.sum(), torch.sin(x)[:, None] * w)", {"x": randn(7), "w": randn(3)}),
    "a number": ("(x * x).sum()", {"x": randn(2, 3)}),
    "of a number": ("x * torch.arange(5.)", {"x": randn()}),
    "the input itself": ("x", {"x": randn(6)}),
    "nothing": ("x[:0]", {"x": randn(3)}),
    "of nothing": ("x.sum() + torch.zeros(3)", {"x": randn(0)}),
    "diagonal": ("torch.sin(x)", {"x": randn(50)}),
    "stencil": ("(x[2:] - 2 * x[1:-1] + x[:-2]) * x[1:-1]", {"x": randn(40)}),
    "product": ("X @ W", {"X": randn(6, 5), "W": randn(5, 4)}),
    "batched product": ("torch.einsum('bij,bjk->bik', A, B)", {"A": randn(3, 2, 2), "B": randn(3, 2, 3)}),
    "broadcast": ("x[:, None] + w[None] * x[0]", {"x": randn(5), "w": randn(6)}),
    "softmax": ("torch.softmax(x, 1)", {"x": randn(6, 5)}),
    "convolution": ("F.conv1d(x[None, None], k[None, None]).relu()", {"x": randn(30), "k": randn(3)}),
    "sorted": ("torch.sort(x * x).values.cumsum(0)", {"x": randn(9)}),
    "single": ("torch.outer(x, torch.exp(x))", {"x": randn(5, dtype=torch.float32)}),
    "half": ("torch.outer(x, x)", {"x": randn(4, dtype=torch.float16)}),
    "brain": ("x[:, None] * x", {"x": randn(4, dtype=torch.bfloat16)}),
}  # fmt: skip


@pytest.fixture(params=[100, 1 << 26], ids=["some rows", "one block"])
def blocks(request, monkeypatch):
    """How many bytes a block has."""
    monkeypatch.setattr("jvpcli.jacobians.cuts.MOST_BYTES", request.param)


def rows(f, inputs, output):
    """The gradients of Re y_k (and of Im y_k) to each input, one backward pass of PyTorch's each."""
    leaves = {name: x.clone().requires_grad_() for name, x in inputs.items()}
    found = f(**leaves)
    y = found[output] if isinstance(found, tuple) else found
    parts = torch.view_as_real(y).unbind(-1) if y.is_complex() else (y,)
    result = []
    for part in parts:
        each = {name: [] for name in leaves}
        for entry in part.reshape(-1):
            gradients = torch.autograd.grad(entry, list(leaves.values()), retain_graph=True, allow_unused=True)
            for (name, x), g in zip(leaves.items(), gradients, strict=True):
                each[name].append((torch.zeros_like(x) if g is None else g).reshape(-1))
        none = {name: x.detach().new_zeros(0, x.numel()) for name, x in leaves.items()}
        result.append({name: torch.stack(found) if found else none[name] for name, found in each.items()})
    return y.detach(), result



def python(expression, inputs):
    """The text as Python runs it, on named inputs."""
    names = ", ".join(inputs)
    return eval(f"lambda {names}: ({expression})", {"torch": torch, "F": torch.nn.functional})


def close(found, expected):
    low = expected.dtype in (torch.float16, torch.bfloat16)
    torch.testing.assert_close(found, expected, rtol=2e-2 if low else 1e-5, atol=2e-2 if low else 1e-6)


FEW = ("outer", "not square", "two outputs", "a number", "of nothing", "convolution")


@pytest.mark.parametrize(
    ("name", "mode", "most"),
    [
        *[pytest.param(name, "auto", 100, id=f"{name}, some rows") for name in CASES],
        *[pytest.param(name, "auto", 1, id=f"{name}, row by row") for name in FEW],
        *[pytest.param(name, "auto", 1 << 26, id=f"{name}, one block") for name in FEW],
        *[pytest.param(name, "forward", 100, id=f"{name}, columns") for name in FEW],
    ],
)
def test_what_is_read_is_what_pytorch_gives(name, mode, most, tmp_path, monkeypatch):
    monkeypatch.setattr("jvpcli.jacobians.cuts.MOST_BYTES", most)
    expression, inputs = CASES[name]
    path = tmp_path / "J.zarr"
    maps = jvpcli.jacobian(expression, inputs, save=path, mode=mode, dtype="float64")
    opened = jvpcli.open(path)
    assert list(opened) == list(maps)
    for (y_name, x_name), each in opened.items():
        number = int(y_name[1:]) if y_name != "y" else 0
        y, (matrices, *_) = rows(python(expression, inputs), inputs, number)
        matrix, x = matrices[x_name], inputs[x_name]
        assert (each.out_shape, each.in_shape, each.dtype) == (tuple(y.shape), tuple(x.shape), x.dtype)
        close(each.to_dense(), matrix.reshape(*y.shape, *x.shape))
        assert each.nnz == torch.count_nonzero(each.to_dense())
        close(torch.tensor(each.norm, dtype=torch.float64), matrix.double().norm())
        close(each.diagonal.to(matrix.dtype), matrix.diagonal())
        high, wide, norms = each.picture()
        cut = [piece.double().norm() for band in matrix.split(high) for piece in band.split(wide, 1)]
        close(torch.from_numpy(norms.reshape(-1)), torch.stack(cut) if matrix.numel() else torch.zeros(norms.size).double())
        v, u = randn(*y.shape).to(y.dtype), randn(*x.shape).to(x.dtype)
        close(each.pullback(v), (v.reshape(-1) @ matrix.to(v.dtype)).reshape(x.shape).to(x.dtype))
        close(each.pushforward(u), (matrix @ u.reshape(-1)).reshape(y.shape))
        sizes = each.absolute()
        close(sizes.to_dense(), matrix.abs().reshape(*y.shape, *x.shape))
        close(sizes.pullback(v.abs()), (v.reshape(-1).abs() @ matrix.abs().to(v.dtype)).reshape(x.shape).to(x.dtype))
        sparse = each.to_scipy()
        assert sparse.shape == matrix.shape
        close(torch.from_numpy(sparse.toarray()).to(x.dtype), matrix)
        lazy = each.to_dask()
        assert lazy.shape == tuple(matrix.shape)
        computed = lazy.compute()
        close(torch.from_numpy(np.asarray(computed.toarray() if hasattr(computed, "toarray") else computed)).to(x.dtype), matrix)
        r, c, values = each.entries()
        close(torch.zeros_like(matrix).index_put((r, c), values), matrix)


@pytest.mark.parametrize("name", ["outer", "stencil", "product", "batched product"])
def test_rows_are_read_alone(name, blocks, tmp_path):
    expression, inputs = CASES[name]
    jvpcli.jacobian(expression, inputs, save=tmp_path / "J.zarr")
    for (_, x), each in jvpcli.open(tmp_path / "J.zarr").items():
        y, (matrices,) = rows(python(expression, inputs), inputs, 0)
        whole = matrices[x].reshape(*y.shape, *inputs[x].shape)
        keys = [0, -1, slice(1, 3), slice(None, None, 2), slice(2, 2), [2, 0], (slice(None), 1), (0, 1), ...]
        for key in keys if y.dim() > 1 else [k for k in keys if not isinstance(k, tuple)]:
            torch.testing.assert_close(each[key], whole[key])


COMPLEX = {
    "to complex": ("torch.fft.fft(x)", {"x": randn(6)}),
    "from complex": ("z.abs() * 2", {"z": randn(5, dtype=torch.complex128)}),
    "holomorphic": ("z * z", {"z": randn(5, dtype=torch.complex128)}),
    "not holomorphic": ("z * z.conj() + z", {"z": randn(5, dtype=torch.complex128)}),
}


@pytest.mark.parametrize("name", COMPLEX)
def test_complex_numbers_go_pytorch_s_way(name, blocks, tmp_path):
    expression, inputs = COMPLEX[name]
    each = next(iter(jvpcli.jacobian(expression, inputs, save=tmp_path / "J.zarr").values()))
    ((x_name, x),) = inputs.items()
    y, parts = rows(python(expression, inputs), inputs, 0)
    v = randn(*y.shape).to(y.dtype) + (1j * randn(*y.shape) if y.is_complex() else 0)
    leaf = x.clone().requires_grad_()
    (direct,) = torch.autograd.grad(python(expression, inputs)(leaf), leaf, v)
    torch.testing.assert_close(each.pullback(v), direct)
    shown = parts[0][x_name] if x.is_complex() or not y.is_complex() else torch.complex(parts[0][x_name], parts[1][x_name])
    torch.testing.assert_close(each.to_dense().reshape(shown.shape), shown)
    u = randn(*x.shape).to(x.dtype) + (1j * randn(*x.shape) if x.is_complex() else 0)
    torch.testing.assert_close(each.pushforward(u), torch.func.jvp(python(expression, inputs), (x,), (u,))[1])
    assert each.of_complex == (y.is_complex(), x.is_complex())
    sizes = sum(part[x_name].abs() for part in parts)
    torch.testing.assert_close(each.absolute().to_dense().reshape(sizes.shape), sizes)


def test_complex_numbers_of_half_precision(tmp_path):
    """PyTorch multiplies no matrices of them; a store is read in single precision, and told of in half."""
    z = torch.tensor([1 + 2j, 3 - 1j, -2j], dtype=torch.complex64)
    each = jvpcli.jacobian("z * z", {"z": z.to(torch.complex32)}, save=tmp_path / "J.zarr")["y", "z"]
    expected = torch.diag((2 * z).conj())  # PyTorch's gradient of Re y
    for found, wanted in (
        (each.to_dense(), expected), (each[1], expected[1]), (each.pushforward(z.to(torch.complex32)), 2 * z * z),
        (each.pullback(z.to(torch.complex32)), z * (2 * z).conj()),
    ):  # fmt: skip
        assert found.dtype is torch.complex32
        assert torch.equal(found.to(torch.complex64), wanted)


def test_a_form_that_is_asked_for_is_the_form(tmp_path):
    x = randn(30)
    for form, sparse in (("dense", False), ("sparse", True), ("auto", True)):
        jvpcli.inspect("torch.sin(x)", x=x, jacobian=form, save=tmp_path / f"{form}.zarr")
        each = jvpcli.open(tmp_path / f"{form}.zarr")["y", "x"]
        assert each.is_sparse is sparse
        torch.testing.assert_close(each.to_dense(), torch.diag(torch.cos(x)))


def test_the_memory_limit_sets_the_blocks_and_refuses_what_has_no_room(tmp_path):
    asked = {"A": randn(40, 25), "x": randn(25), "wrt": "x", "save": tmp_path / "J.zarr", "memory_limit": "64kB"}
    saved = jvpcli.inspect("torch.tanh(A @ x)", **asked)
    about = saved.report.saved.jacobian["y"]["x"]
    assert about.blocks * about.block_size >= 40 > (about.blocks - 1) * about.block_size
    assert about.block_size * 25 * 8 * 16 <= 64_000
    with pytest.raises(LimitError, match="a row of the Jacobian of y takes 80,000 bytes"):
        jvpcli.jacobian("torch.cumsum(torch.exp(x), 0)", x=randn(10_000), save=tmp_path / "K.zarr", memory_limit="300kB")


def files(path):
    """Every file of a store but for what was asked of whom, by name."""
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("expression", ["torch.tanh(W @ x)", "torch.sin(x)", "X @ W"])
def test_what_was_broken_off_goes_on_to_the_same_bytes(expression, tmp_path, monkeypatch):
    monkeypatch.setattr("jvpcli.jacobians.cuts.MOST_BYTES", 200)
    inputs = {"W": randn(8, 8), "x": randn(8 if "W" in expression else 40), "X": randn(4, 8)}
    inputs = {name: x for name, x in inputs.items() if name in expression}
    jvpcli.jacobian(expression, inputs, save=tmp_path / "whole.zarr")
    whole = files(tmp_path / "whole.zarr")

    written, write = [], jvpcli.jacobians.store.write_block

    class KilledError(Exception):
        pass

    def dying(jacobians, cut, number, maps):
        """Dies with the numbers of the third block written, and not yet its entry in the record."""
        if len(written) == 2:
            write(jacobians, cut, number, maps)
            for record in tmp_path.joinpath("J.zarr").rglob(f"nnz/c/{number}"):
                record.unlink()
            (tmp_path / "J.zarr" / "jacobian" / "c.0123.partial").write_bytes(b"half a chunk")
            raise KilledError
        written.append(number)
        write(jacobians, cut, number, maps)

    monkeypatch.setattr("jvpcli.jacobians.store.write_block", dying)
    with pytest.raises(Exception):  # noqa: B017, PT011
        jvpcli.jacobian(expression, inputs, save=tmp_path / "J.zarr")
    monkeypatch.setattr("jvpcli.jacobians.store.write_block", write)
    with pytest.raises(FileError, match=r"J.zarr is not complete: \d+ of \d+ blocks are missing"):
        jvpcli.open(tmp_path / "J.zarr")
    with pytest.raises(UsageError, match="is there already, and a store is not overwritten"):
        jvpcli.jacobian(expression, inputs, save=tmp_path / "J.zarr")
    result = jvpcli.inspect(expression, inputs, save=tmp_path / "J.zarr", resume=True)
    assert result.report.saved.computed == result.report.saved.blocks - 2
    assert files(tmp_path / "J.zarr") == whole
    again = jvpcli.inspect(expression, inputs, save=tmp_path / "J.zarr", resume=True)
    assert again.report.saved.computed == 0
    assert files(tmp_path / "J.zarr") == whole


@pytest.mark.parametrize(
    ("changed", "differs"),
    [
        ({"expression": "torch.cos(x)"}, "expression differs"),
        ({"x": torch.arange(8.0) + 1}, "the value of x differs"),
        ({"seed": 5}, "seed differs"),
        ({"x": torch.arange(9.0)}, "outputs differs"),
    ],
)
def test_a_store_of_another_question_is_not_gone_on_with(changed, differs, tmp_path):
    asked = {"expression": "torch.sin(x)", "x": torch.arange(8.0), "save": tmp_path / "J.zarr"}
    jvpcli.jacobian(**asked)
    before = files(tmp_path / "J.zarr")
    with pytest.raises(UsageError, match=differs):
        jvpcli.jacobian(**{**asked, **changed}, resume=True)
    assert files(tmp_path / "J.zarr") == before


def test_a_file_that_has_changed_is_another_question(tmp_path):
    code = tmp_path / "code.py"
    code.write_text("def f(x):\n    return 2 * x\n")
    asked = {"expression": "f(x)", "x": torch.arange(8.0), "imports": code, "save": tmp_path / "J.zarr"}
    jvpcli.jacobian(**asked)
    code.write_text("def f(x):\n    return 3 * x\n")
    with pytest.raises(UsageError, match="imported differs"):
        jvpcli.jacobian(**asked, resume=True)


def test_a_mask_and_zeros_with_a_sign_are_compared_bit_by_bit(tmp_path):
    asked = {"expression": "torch.where(m, x, x * z)", "x": torch.ones(3), "m": torch.tensor([True, False, True])}
    asked |= {"z": torch.tensor([0.0, -0.0, float("nan")]), "wrt": "x", "save": tmp_path / "J.zarr"}
    jvpcli.jacobian(**asked)
    jvpcli.jacobian(**asked, resume=True)
    with pytest.raises(UsageError, match="the value of z differs"):
        jvpcli.jacobian(**{**asked, "z": torch.tensor([0.0, 0.0, float("nan")])}, resume=True)


def test_a_store_is_there_once_all_of_it_is_laid_out(tmp_path, monkeypatch):
    """Who dies over it, or is slower than another, leaves nothing; an empty folder is taken."""
    path = tmp_path / "J.zarr"
    asked = {"expression": "torch.sin(x)", "x": torch.arange(8.0), "save": path}
    lay_out = jvpcli.jacobians.store._lay_out

    def dying(*_):
        raise KeyboardInterrupt

    def overtaken(*args):
        lay_out(*args)
        monkeypatch.setattr("jvpcli.jacobians.store._lay_out", lay_out)
        jvpcli.jacobian(**asked)

    path.mkdir()
    monkeypatch.setattr("jvpcli.jacobians.store._lay_out", dying)
    with pytest.raises(KeyboardInterrupt):
        jvpcli.jacobian(**asked)
    assert list(tmp_path.rglob("*")) == [path]
    another = tmp_path / "J.zarr.0123456789ab.partial"
    (another / "inputs").mkdir(parents=True)  # who is killed cannot take it away
    with pytest.raises(KeyboardInterrupt):
        jvpcli.jacobian(**asked)
    assert set(tmp_path.iterdir()) == {path, another}  # it may be at work, as long as there is no store
    monkeypatch.setattr("jvpcli.jacobians.store._lay_out", overtaken)
    with pytest.raises(FileError, match=r"J\.zarr cannot be written"):
        jvpcli.jacobian(**asked)
    assert list(tmp_path.iterdir()) == [path]
    for maps in (jvpcli.open(path), jvpcli.jacobian(**asked, resume=True)):
        torch.testing.assert_close(maps["y", "x"].to_dense(), torch.diag(torch.cos(asked["x"])))


def test_two_writers_at_once(tmp_path, monkeypatch):
    """One closes the store in the middle of the other's writing, and takes half-written files away; both end well."""
    monkeypatch.setattr("jvpcli.jacobians.cuts.MOST_BYTES", 64)
    asked = {"expression": "torch.tanh(W @ x)", "W": randn(9, 3), "x": randn(3), "save": tmp_path / "J.zarr", "wrt": "x"}
    fill, calls = jvpcli.jacobians.store._fill, []

    def slow(array, at, values):
        calls.append(array)
        if len(calls) == 3:
            jvpcli.jacobian(**asked, resume=True)
            raise FileNotFoundError(2, "No such file or directory", "c.0123.partial")
        fill(array, at, values)

    monkeypatch.setattr("jvpcli.jacobians.store._fill", slow)
    maps = jvpcli.jacobian(**asked)
    torch.testing.assert_close(maps["y", "x"].to_dense(), rows(python("torch.tanh(W @ x)", {"W": 0, "x": 0}), {
        "W": asked["W"], "x": asked["x"]}, 0)[1][0]["x"])  # fmt: skip


def test_a_full_disk_and_a_folder_that_is_read_only_are_told(tmp_path, monkeypatch):
    asked = {"expression": "torch.sin(x)", "x": torch.arange(8.0), "save": tmp_path / "J.zarr"}

    def full(*_):
        raise OSError(28, "No space left on device")

    for where in ("store._fill", "store._lay_out"):
        with monkeypatch.context() as patched:
            patched.setattr(f"jvpcli.jacobians.{where}", full)
            with pytest.raises(FileError, match=r"J\.zarr cannot be written: No space left on device") as told:
                jvpcli.jacobian(**asked)
        assert told.value.explanation == "Blocks that a store has whole are kept: --resume goes on from there."
        shutil.rmtree(tmp_path / "J.zarr", ignore_errors=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written: Not a directory"):
        jvpcli.jacobian(**{**asked, "save": tmp_path / "file" / "J.zarr"})
    jvpcli.jacobian(**asked)


def test_other_versions_than_the_ones_it_was_begun_with_are_named(tmp_path, monkeypatch):
    asked = {"expression": "torch.sin(x)", "x": torch.arange(8.0), "save": tmp_path / "J.zarr"}
    jvpcli.jacobian(**asked)
    here = jvpcli.cluster.versions()
    monkeypatch.setattr("jvpcli.answers.storing.versions", lambda: {**here, "torch": "9.9"})
    with pytest.raises(UsageError, match=rf"was begun with torch {re.escape(here['torch'])} \(here 9\.9\)"):
        jvpcli.jacobian(**asked, resume=True)


# Stores that something else has changed


def metadata(change):
    """A change to one file of metadata, as a function of the store's folder."""

    def apply(path, of=""):
        file = path / of / "zarr.json"
        told = json.loads(file.read_text())
        change(told)
        file.write_text(json.dumps(told))

    return apply


def about(**changes):
    return metadata(lambda told: told["attributes"]["jvp"].update(changes))


def of_cut(**changes):
    return metadata(lambda told: told["attributes"]["jvp"]["cuts"][0].update(changes))


def at(place, change):
    return lambda path: change(path, place)


MAP, MATRIX = "jacobian/y/x", "jacobian/y/x/matrix"
TAMPERED = {
    "no cuts": about(cuts=7),
    "a cut without a field": about(cuts=[{"output": "y"}]),
    "no inputs": about(question={"inputs": 3}),
    "no question": about(question=None),
    "blocks of nothing": of_cut(size=0),
    "blocks of a part": of_cut(size=1.5),
    "more blocks": of_cut(size=1),
    "10¹⁵ blocks": of_cut(length=10**15, size=1),
    "along neither": of_cut(along="diagonals"),
    "another output": of_cut(output="../../y"),
    "another input": of_cut(inputs=["../x"]),
    "two inputs": of_cut(inputs=["x", "x"]),
    "nonzeros": of_cut(room=[10]),
    "another shape": at(MAP, metadata(lambda told: told["attributes"].update(shape_out=[9]))),
    "a negative shape": at(MAP, metadata(lambda told: told["attributes"].update(shape_out=[-1]))),
    "a function for a dtype": at(MAP, metadata(lambda told: told["attributes"].update(dtype="load"))),
    "another dtype": at(MAP, metadata(lambda told: told["attributes"].update(dtype="float64"))),
    "complex": at(MAP, metadata(lambda told: told["attributes"].update(complex=[True, False]))),
    "no attributes": at(MAP, metadata(lambda told: told.update(attributes={}))),
    "a larger matrix": at(MATRIX, metadata(lambda told: told.update(shape=[10**9, 10**9]))),
    "a matrix of text": at(MATRIX, metadata(lambda told: told.update(data_type="string"))),
    "a matrix of whole numbers": at(MATRIX, metadata(lambda told: told.update(data_type="int32"))),
    "a matrix without metadata": lambda path: (path / MATRIX / "zarr.json").unlink(),
    "metadata that is no JSON": lambda path: (path / MATRIX / "zarr.json").write_text("{"),
    "a list of metadata": lambda path: (path / MAP / "zarr.json").write_text("[]"),
    "an older Zarr's array": lambda path: (path / MATRIX / "zarr.json").rename(path / MATRIX / ".zarray"),
    "codecs that nobody knows": at(MATRIX, metadata(lambda told: told.update(codecs=[{"name": "pickle"}]))),
    "no group": lambda path: shutil.rmtree(path / MAP),
}  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound") / "J.zarr"
    jvpcli.jacobian("torch.tanh(W @ x)", W=torch.ones(8, 3), x=torch.ones(3), wrt="x", save=path)
    return path


def test_a_store_that_was_tampered_with_is_refused_when_it_is_opened(sound, tmp_path):
    """And none of it ends as a bug where it is gone on with."""
    for name, change in TAMPERED.items():
        path = tmp_path / "J.zarr"
        shutil.copytree(sound, path)
        change(path)
        with pytest.raises(FileError) as told:
            jvpcli.open(path)
        assert str(told.value).startswith(f"{path} cannot be read"), name
        with pytest.raises((FileError, UsageError)):
            jvpcli.jacobian("torch.tanh(W @ x)", W=torch.ones(8, 3), x=torch.ones(3), wrt="x", save=path, resume=True)
        shutil.rmtree(path)


def test_numbers_that_are_lost_or_damaged_are_not_taken_for_zeros(tmp_path):
    """Damaged bytes are told as an error, lost numbers are NaN, and lost places an error."""
    ones, path = torch.ones(8), tmp_path / "J.zarr"
    asks = [lambda J: J.to_dense(), lambda J: J.pullback(ones), lambda J: J[3], lambda J: J.to_scipy().toarray()]

    def told(ask):
        try:
            return np.isnan(np.asarray(ask(jvpcli.open(path)["y", "x"]))).any()
        except FileError as error:
            return str(error).startswith(f"{path}/jacobian/y/x/")

    for form, array in (("dense", "matrix"), ("sparse", "indices"), ("sparse", "data"), ("sparse", "indptr")):
        jvpcli.inspect("torch.sin(x)", x=torch.linspace(1, 2, 8), jacobian=form, save=path)
        assert not any(map(told, asks))
        (file,) = [each for each in (path / MAP / array / "c").rglob("*") if each.is_file()]
        file.write_bytes(b"nonsense")
        assert all(map(told, asks)), array
        file.unlink()
        assert all(map(told, asks)), array
        shutil.rmtree(path)


@pytest.mark.parametrize("length", [300_007, 2 * 300_007, 1 << 19])
def test_a_block_is_cut_into_few_chunks_whatever_divides_its_length(length, tmp_path):
    """300,007 is a prime number, and a row of so many is more than a chunk."""
    asked = {"x": torch.ones(length), "w": torch.ones(3), "wrt": "x", "mode": "reverse"}
    maps = jvpcli.jacobian("x.sum() * w", **asked, save=tmp_path / "J.zarr")
    matrix = maps["y", "x"].held.arrays["matrix"]
    assert np.prod(np.divide(matrix.shards, matrix.chunks)) <= 12
    assert maps["y", "x"][1].sum() == length


def test_blocks_of_another_function_are_found_out(tmp_path, monkeypatch):
    """Where the text of a function has changed that goes by the same name."""
    monkeypatch.setattr("jvpcli.jacobians.cuts.MOST_BYTES", 64)

    def make(power):
        def f(x):
            return torch.outer(x, x**power)

        return f

    x = randn(5)
    jvpcli.jacobian(make(2), x, save=tmp_path / "J.zarr")
    for record in list((tmp_path / "J.zarr").rglob("nnz/c/*"))[:2]:
        record.unlink()
    with pytest.raises(jvpcli.JvpError, match="two ways to"):
        jvpcli.jacobian(make(3), x, save=tmp_path / "J.zarr", resume=True)


def test_what_goes_with_a_store_alone_is_refused_without(tmp_path):
    for more in ({"resume": True}, {"cluster": "local:2"}, {"resume": True, "save": tmp_path / "J.npz"}):
        with pytest.raises(UsageError, match="is for Jacobians that are written to a store"):
            jvpcli.inspect("torch.sin(x)", x=[1.0, 2.0], **more)
    for more in ({"blocks": (1, 1)}, {"spectrum": True}):
        with pytest.raises(UsageError, match="takes the whole Jacobian"):
            jvpcli.inspect("torch.sin(x)", x=[1.0, 2.0], save=tmp_path / "J.zarr", **more)
    assert not (tmp_path / "J.zarr").exists()
    with pytest.raises(FileError, match="there is no such directory"):
        jvpcli.open(tmp_path / "J.zarr")
    (tmp_path / "J.zarr").mkdir()
    with pytest.raises(FileError, match="it is no Zarr store"):
        jvpcli.open(tmp_path / "J.zarr")
    shutil.rmtree(tmp_path / "J.zarr")
    __import__("zarr").open_group(tmp_path / "J.zarr", mode="w")
    with pytest.raises(FileError, match="holds no Jacobians of jvp's"):
        jvpcli.open(tmp_path / "J.zarr")


def test_names_that_no_directory_may_have(tmp_path):
    inputs = {"batch": {"a/b": randn(3), "..": randn(2)}}
    path = tmp_path / "J.zarr"
    jvpcli.jacobian(lambda batch: batch["a/b"].sum() * batch[".."], **inputs, save=path)
    found = jvpcli.open(path)
    assert list(found) == [("y", 'batch["a/b"]'), ("y", 'batch[".."]')]
    torch.testing.assert_close(found["y", 'batch["a/b"]'].to_dense(), inputs["batch"][".."][:, None].expand(2, 3))


def test_names_that_a_store_has_a_use_for(tmp_path):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.zarr, self.a = torch.nn.Module(), torch.nn.Module()
            self.zarr.json, self.a.partial = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))

        def forward(self, x):
            return x * self.zarr.json * self.a.partial

    x, path = torch.arange(3.0), tmp_path / "J.zarr"
    jvpcli.jacobian(Model(), x, wrt=["zarr.json", "a.partial"], save=path)
    for each in jvpcli.open(path).values():
        torch.testing.assert_close(each.to_dense(), torch.diag(x))


@pytest.mark.parametrize("older", [False, True])
def test_names_that_differ_by_case_alone_are_no_one_file(older, tmp_path, monkeypatch):
    if older:  # as it was written before: under the names as they are
        monkeypatch.setattr("jvpcli.jacobians.store_layout._in_lower_case", str)
    inputs, path = {"x": randn(3), "X": randn(3), "ab_C": randn(3), "é": randn(3)}, tmp_path / "J.zarr"
    jvpcli.jacobian("x * X * é, X * ab_C", **inputs, save=path)
    monkeypatch.undo()
    places = {file.relative_to(path).as_posix() for file in path.rglob("zarr.json")}
    assert older or len({place.lower() for place in places}) == len(places)
    assert "inputs/ab_C/zarr.json" in places  # no other name is changed
    found = jvpcli.open(path)
    expected = {
        pair: torch.diag(derivative)
        for pair, derivative in {
            ("y0", "x"): inputs["X"] * inputs["é"], ("y0", "X"): inputs["x"] * inputs["é"],
            ("y0", "é"): inputs["x"] * inputs["X"],
            ("y1", "X"): inputs["ab_C"], ("y1", "ab_C"): inputs["X"],
        }.items()
    }  # fmt: skip
    for pair, each in found.items():
        torch.testing.assert_close(each.to_dense(), expected.get(pair, torch.zeros(3, 3, dtype=torch.float64)))
    assert expected.keys() <= found.keys()


def test_a_jacobian_of_ten_times_the_memory_limit_is_written_here(tmp_path):
    """The limit is the system's, for all that the process takes over what it has when it begins."""
    positive = ["--U", "torch.rand(20000,16)/8+0.01", "--V", "torch.rand(16,2000)/8+0.01", "--x", "torch.rand(2000)/20"]
    inputs = [*positive, "--wrt", "x"]  # so that none of 40 million sums comes out as zero
    argv = [sys.executable, "-m", "jvpcli", "inspect", "torch.tanh(U @ (V @ x))", *inputs, "--save", tmp_path / "J.zarr"]
    done = subprocess.run([*argv, "--memory-limit", "16MB", "-q"], capture_output=True)
    assert done.returncode == 0, done.stderr[:1000]
    each = jvpcli.open(tmp_path / "J.zarr")["y", "x"]
    assert each.m * each.n * 4 >= 10 * 16_000_000
    assert each.nnz == 20_000 * 2_000


@pytest.mark.parametrize(
    ("whole", "part"),
    [
        ("X @ W", "(X @ W)[700:703]"),
        ("X * w", "(X * w)[17]"),
        ("x.sum() * v", "(x.sum() * v)[40:50]"),
        ("torch.diagonal(X[:9] @ W)", "torch.diagonal(X[:9] @ W)[2:4]"),
        ("X.sum(1)[:, None] + w", "(X.sum(1)[:, None] + w)[5:9, 1:]"),
    ],
)
def test_rows_of_a_slice_take_what_the_slice_takes(whole, part):
    """Of a regular map only the rows that a slice picks are written out: the whole of it would not fit."""
    inputs = {"X": randn(1000, 9), "W": randn(9, 9), "w": randn(9), "x": randn(300), "v": randn(5000)}
    inputs = {name: x for name, x in inputs.items() if name in whole.replace("torch", "")}
    for (_, name), each in jvpcli.jacobian(part, inputs, memory_limit="3MB").items():
        _, (matrices,) = rows(python(part, inputs), inputs, 0)
        torch.testing.assert_close(each.to_dense().reshape(matrices[name].shape), matrices[name])
