"""VALUEs: every form of the contract, and strictness about everything else."""

from __future__ import annotations

import json
import math
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from jvpcli.errors import (
    BadValueError,
    EvaluationError,
    FileError,
    ForbiddenError,
    JvpError,
    LimitError,
    UnknownNameError,
)
from jvpcli.language.values import free_names, is_expression, read_device, read_dtype, read_value

SCOPE = {"x": torch.tensor([1.0, 2.0, 3.0]), "weight": torch.eye(2)}


def read(value: Any, **options: Any) -> Tensor:
    return read_value(value, **{"name": "v", "scope": SCOPE, **options})


def is_same(value: Tensor, expected: Tensor) -> None:
    assert value.dtype is expected.dtype
    assert value.shape == expected.shape
    assert torch.equal(torch.nan_to_num(value), torch.nan_to_num(expected))
    if value.is_floating_point():
        assert torch.equal(value.isnan(), expected.isnan())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", torch.tensor(3.0)),
        ("1,2,3,4", torch.tensor([1.0, 2.0, 3.0, 4.0])),
        ("3,", torch.tensor([3.0])),
        (" 1 , 2 ", torch.tensor([1.0, 2.0])),
        ("1,2;3,4", torch.tensor([[1.0, 2.0], [3.0, 4.0]])),
        ("1,2;", torch.tensor([[1.0, 2.0]])),
        ("1;2;3", torch.tensor([[1.0], [2.0], [3.0]])),
        ("-1,2e-3,nan,inf", torch.tensor([-1.0, 2e-3, math.nan, math.inf])),
        ("-inf", torch.tensor(-math.inf)),
        ("NaN", torch.tensor(math.nan)),
        ("Infinity,-Infinity", torch.tensor([math.inf, -math.inf])),
        (".5,-.5,+1.,1E3", torch.tensor([0.5, -0.5, 1.0, 1000.0])),
        ("1+2j", torch.tensor(1 + 2j)),
        ("1+2j,3", torch.tensor([1 + 2j, 3])),
        ("1j;-2", torch.tensor([[1j], [-2]])),
        ("[[1,2],[3,4]]", torch.tensor([[1.0, 2.0], [3.0, 4.0]])),
        ("[]", torch.zeros(0)),
        ("[[],[]]", torch.zeros(2, 0)),
        ("[[[1]]]", torch.ones(1, 1, 1)),
        ("[NaN, -Infinity, 1]", torch.tensor([math.nan, -math.inf, 1.0])),
        ('["NaN", "Infinity"]', torch.tensor([math.nan, math.inf])),
        ("[true,false]", torch.tensor([True, False])),
        ("true", torch.tensor(True)),
        ('{"value": [1,2], "dtype": "float64"}', torch.tensor([1.0, 2.0], dtype=torch.float64)),
        ('{"value": "1,2"}', torch.tensor([1.0, 2.0])),
        ("torch.arange(6.).reshape(2,3)", torch.arange(6.0).reshape(2, 3)),
        ("torch.arange(3)", torch.arange(3)),
        ("torch.ones(2, dtype=torch.float64)", torch.ones(2, dtype=torch.float64)),
        ("x * 2", torch.tensor([2.0, 4.0, 6.0])),
        ("x", SCOPE["x"]),
        ("1/4", torch.tensor(0.25)),
        ("1-2", torch.tensor(-1.0)),
        ("[1/2, 2*3]", torch.tensor([0.5, 6.0])),
        ("(1, 2)", torch.tensor([1.0, 2.0])),
        ("torch.pi", torch.tensor(math.pi)),
        ("math.sqrt(4)", torch.tensor(2.0)),
        ("1,2\n3,4", torch.tensor([[1.0, 2.0], [3.0, 4.0]])),
        ("99999999999999999999", torch.tensor(1e20)),
    ],
)
def test_every_form(text: str, expected: Tensor) -> None:
    is_same(read(text), expected)


@pytest.mark.parametrize(
    ("text", "dtype", "expected"),
    [
        ("1,2", "float64", torch.tensor([1.0, 2.0], dtype=torch.float64)),
        ("1,2", "torch.float16", torch.tensor([1.0, 2.0], dtype=torch.float16)),
        ("1,2", "int64", torch.tensor([1, 2])),
        ("1e2,2.0", "int32", torch.tensor([100, 2], dtype=torch.int32)),
        ("9007199254740993", "int64", torch.tensor(9007199254740993)),
        ("1+2j", "float64", torch.tensor(1 + 2j, dtype=torch.complex128)),
        ("1,2", "complex64", torch.tensor([1 + 0j, 2 + 0j])),
        ("[[1,2],[3,4]]", "complex64", torch.tensor([1 + 2j, 3 + 4j])),
        ("[1,2,3]", "complex128", torch.tensor([1, 2, 3], dtype=torch.complex128)),
        ('[[1,"NaN"]]', "complex64", torch.tensor([complex(1, math.nan)])),
        ("true", "float64", torch.tensor(True)),
        ("torch.ones(1)", "float64", torch.ones(1)),
        ("1,0", "bool", torch.tensor([True, False])),
    ],
)
def test_numbers_and_json_take_the_dtype(text: str, dtype: str, expected: Tensor) -> None:
    value = read(text, dtype=dtype)
    assert value.dtype is expected.dtype
    assert value.shape == expected.shape
    torch.testing.assert_close(value, expected, equal_nan=True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, torch.tensor(3.0)),
        (2.5, torch.tensor(2.5)),
        (True, torch.tensor(True)),
        (1 + 2j, torch.tensor(1 + 2j)),
        ([1, [2]][1:], torch.tensor([[2.0]])),
        ([1, 2.5], torch.tensor([1.0, 2.5])),
        ((1, (2))[:1], torch.tensor([1.0])),
        ([float("nan"), "Infinity"], torch.tensor([math.nan, math.inf])),
        (torch.arange(2), torch.arange(2)),
        (np.arange(3.0), torch.arange(3.0, dtype=torch.float64)),
        (np.float32(2), torch.tensor(2.0)),
        (np.arange(3, dtype=">i4"), torch.arange(3, dtype=torch.int32)),
        (np.arange(6.0)[::-2], torch.tensor([5.0, 3.0, 1.0], dtype=torch.float64)),
        (np.array(1j), torch.tensor(1j, dtype=torch.complex128)),
        ({"value": [[1, 2], [3, 4]], "dtype": "complex64"}, torch.tensor([1 + 2j, 3 + 4j])),
        ({"value": 1}, torch.tensor(1.0)),
        ({"value": torch.ones(1), "dtype": "float64"}, torch.ones(1, dtype=torch.float64)),
        ("1,2", torch.tensor([1.0, 2.0])),
    ],
)
def test_python_objects(value: Any, expected: Tensor) -> None:
    is_same(read(value), expected)


def test_arrays_are_copied() -> None:
    array = np.zeros(2)
    value = read(array)
    value += 1
    assert array.tolist() == [0, 0]
    array.flags.writeable = False
    is_same(read(array), torch.zeros(2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("value", "message", "span"),
    [
        ("", "it is empty", None),
        ("1,,2", "a number is missing", (2, 3)),
        (",", "a number is missing", (0, 1)),
        ("1;;2", "a number is missing", (2, 3)),
        ("1,2;3", "its rows differ in length: row 0 has 2 entries, row 1 has 1 entry", (4, 5)),
        ("1 2 3", "`1 2 3` is not a number", (0, 5)),
        ("1 -2", "`1 -2` is not a number", (0, 4)),
        ("1, 2..3", "`2..3` is not a number", (3, 7)),
        ("1e999", "a number is too large for any dtype", (0, 5)),
        ("1,1e39", "a number is too large for float32, whose largest is 3.40282e+38", None),
        ("[[2,-1e39]]", "a number is too large for float32", None),
        ("nan,inf,1e39+2j", "a number is too large for complex64", None),
        ('{"value": [70000], "dtype": "float16"}', "a number is too large for float16, whose largest is 65504", None),
        ("[1,2", "it isn't valid JSON: expecting ',' delimiter", (4, 5)),
        ("[1,]", "it isn't valid JSON", None),
        ("[[1,2],[3]]", "it is ragged: [0] has 2 entries, [1] has 1 entry", None),
        ("[1,[2,3]]", "it is ragged: [0] is a plain number, [1] has 2 entries", None),
        ("[[[1,2],[3]],[[1,2],[3,4]]]", "it is ragged: [0][0] has 2 entries, [0][1] has 1 entry", None),
        ("[[[1],[2]],[[3]]]", "it is ragged: [0] has shape (2, 1), [1] has shape (1, 1)", None),
        ("[1,null]", "null at [1] is not a number", None),
        ('["1"]', "'1' at [0] is not a number", None),
        ("null", "null is not a number", None),
        ('{"a": 1}', 'an object must have "value"', None),
        ('{"value": 1, "dtype": 3}', '"dtype" must be a string', None),
        ("[" * 100_000 + "]" * 100_000, "it nests too deeply", None),  # however deep Python goes, which others may change
        ("[" * 30 + "]" * 30, "it nests more than 25 levels deep", None),
        ("[" + "9" * 5000 + "]", "a number", None),
        ("abc", "`abc` is not a number, and the inputs before it are x, weight", (0, 3)),
        ("weigth*2", "`weigth` is not a number", (0, 6)),
        ("2*", "it is neither numbers, JSON, a file (@…) nor an expression", (2, 3)),
        ("[x[0], x[1]]", "it gives several tensors, and one is needed", None),
        ("torch.float64", "something of type dtype is not a number", None),
        ("'text'", "'text' is not a number", None),
        (None, "null is not a number", None),
        (object(), "something of type object is not a number", None),
        ([1, "x"], "'x' at [1] is not a number", None),
        ({"val": 1}, 'an object must have "value"', None),
        ({"value": [1.5], "dtype": "int64"}, "1.5 is no whole number, as int64 needs", None),
        ({"value": [300], "dtype": "uint8"}, "value cannot be converted to type uint8 without overflow", None),
        (np.array(["a"]), "arrays of dtype <U1 can't become tensors", None),
        (np.array([{}], dtype=object), "arrays of dtype object can't become tensors", None),
        (torch.ones(2).to_sparse(), "it is sparse", None),
        (torch.ones(2).to_mkldnn(), "it is in the layout of oneDNN", None),
        (torch.empty(2, device="meta"), "without values", None),
        ("-", "there is no standard input to read `-` from", None),
    ],
)
def test_what_cannot_be_read(value: Any, message: str, span: tuple[int, int] | None) -> None:
    with pytest.raises(BadValueError) as caught:
        read(value)
    error = caught.value
    assert error.message.startswith("The value of `v` can't be read: ")
    assert message in error.message
    assert error.message.endswith(".")
    if span is not None:
        assert error.span == span
        assert error.source == (value if isinstance(value, str) else None)


@pytest.mark.parametrize("json_text", ["1e400", "[1, 1e400]", "[[-2.5e999, 1], [3, 4]]", '{"value": [7E+308]}'])
def test_json_holds_no_number_beyond_every_float(json_text: str, tmp_path) -> None:
    """In every form in which JSON comes: what is told is what is told of the same number written without JSON."""
    (tmp_path / "v.json").write_text(json_text)
    texts = (json_text, "-", f"@{tmp_path / 'v.json'}")
    with pytest.raises(JvpError) as plain:
        read("7e308")
    for text in texts:
        with pytest.raises(JvpError) as caught:
            read(text, stdin=lambda: json_text)
        assert caught.value.exit_code == plain.value.exit_code
        assert "a number is too large for any dtype" in caught.value.message
        assert "a number is too large for any dtype" in plain.value.message
    is_same(read("[1e308, Infinity, -1e-400]", dtype="float64"), torch.tensor([1e308, math.inf, 0], dtype=torch.float64))


def test_hints_that_help() -> None:
    with pytest.raises(BadValueError) as caught:
        read("1 2 3")
    assert list(caught.value.hints) == ["Separate numbers by commas: 1,2,3"]
    with pytest.raises(BadValueError) as caught:
        read("weigth")
    assert list(caught.value.hints) == ["Did you mean weight?", "For a file, write @weigth."]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("torch.load('a')", ForbiddenError),
        ("x.__class__", ForbiddenError),
        ("torch.sinn(x)", UnknownNameError),
        ("x @ torch.ones(7)", JvpError),
        ("torch.linalg.cholesky(-weight)", EvaluationError),
        ("torch.zeros(10**13)", LimitError),
    ],
)
def test_an_expression_fails_as_expressions_do(text: str, kind: type[JvpError]) -> None:
    with pytest.raises(kind) as caught:
        read(text)
    assert caught.value.source == text
    assert caught.value.span is not None


def test_random_values_repeat_by_seed() -> None:
    first, again = (read("torch.randn(3)", seed=1) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, read("torch.randn(3)", seed=2))
    torch.manual_seed(1)
    assert torch.equal(first, torch.randn(3))


def test_a_value_never_changes_the_inputs_before_it() -> None:
    is_same(read("x.mul_(2)"), torch.tensor([2.0, 4.0, 6.0]))
    is_same(SCOPE["x"], torch.tensor([1.0, 2.0, 3.0]))


@pytest.mark.parametrize("text", ["[[1,2],[3,4]]", "1,2;3,4", "1,2\n3,4\n", " 1,2\r\n3,4\r\n"])
def test_standard_input(text: str) -> None:
    is_same(read("-", stdin=lambda: text), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


@pytest.mark.parametrize("text", ["", "x", "torch.ones(3)", "hello world", "<html>"])
def test_standard_input_is_json_or_numbers(text: str) -> None:
    with pytest.raises(BadValueError, match=r"standard input|empty"):
        read("-", stdin=lambda: text)


@pytest.mark.parametrize(
    ("text", "names"),
    [("1,2", ()), ("[1]", ()), ("@a.npy", ()), ("-", ()), ("", ()), ("nan", ()), ("x*w", ("x", "w")), ("abc", ("abc",)),
     ("torch.randn(3)", ()), ("[x, 2]", ("x",)), ("e", ("e",)), ("inf", ()), ("1-2", ()), ("true", ()), ("[1,", ())],
)  # fmt: skip
def test_free_names(text: str, names: tuple[str, ...]) -> None:
    assert free_names(text) == names
    assert is_expression(text) is (bool(names) or text in ("torch.randn(3)", "1-2"))


def test_dtypes_and_devices() -> None:
    assert read_dtype("double") is torch.float64
    with pytest.raises(BadValueError, match="no dtype `flaot32`") as caught:
        read_dtype("flaot32")
    assert caught.value.hints[0] == "Did you mean float32?"
    assert read_device("cpu").type == "cpu"
    for name in ("meta", "nonsense", "cpu:x", "" if torch.cuda.is_available() else "cuda"):
        with pytest.raises(BadValueError, match="can't be used"):
            read_device(name)
    with pytest.raises(BadValueError, match="There is no dtype"):
        read("1", dtype="object")


@given(st.lists(st.lists(st.floats(width=32), min_size=1, max_size=4), min_size=1, max_size=4))
def test_numbers_survive_being_written(rows: list[list[float]]) -> None:
    size = min(map(len, rows))
    expected = torch.tensor([row[:size] for row in rows])
    is_same(read(";".join(",".join(map(repr, row)) for row in expected.tolist()) + ";"), expected)
    is_same(read(json.dumps(expected.tolist())), expected)


@given(st.text(st.sampled_from('0123456789.,;+-eEjJ nainfy[]{}"xtorch()*@/\n'), max_size=24))
def test_any_text_is_a_tensor_or_an_error_of_ours(text: str) -> None:
    code = 0
    try:
        assert isinstance(read(text, stdin=lambda: "1"), Tensor)
    except JvpError as error:
        code = error.exit_code
    assert code in (0, 2, 3, 4, 5, 7)


# Files


@pytest.fixture
def files(tmp_path: Path) -> Path:
    np.save(tmp_path / "a.npy", np.arange(6.0).reshape(2, 3))
    np.save(tmp_path / "big-endian.npy", np.arange(3, dtype=">f8"))
    np.save(tmp_path / "fortran.npy", np.asfortranarray(np.arange(6.0).reshape(2, 3)))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    np.savez(tmp_path / "two.npz", w=np.ones(2, dtype=np.float32), b=np.zeros(3))
    np.savez_compressed(tmp_path / "one.npz", w=np.ones((2, 2)))
    torch.save(torch.ones(2, dtype=torch.float64), tmp_path / "tensor.pt")
    torch.save({"w": torch.arange(3), "b": torch.ones(1)}, tmp_path / "state.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(os.getcwd))
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(os.getcwd))
    (tmp_path / "a.json").write_text("[[1, 2], [3, 4]]")
    (tmp_path / "bom.json").write_bytes("\ufeff[1]".encode())
    (tmp_path / "typed.json").write_text('{"value": [1], "dtype": "float64"}')
    (tmp_path / "ragged.json").write_text("[[1], [2, 3]]")
    (tmp_path / "a.csv").write_text("1,2\r\n3,4\r\n")
    (tmp_path / "semicolons.csv").write_text("1; 2\n3; 4\n")
    (tmp_path / "decimal-commas.csv").write_text("1,5;2\n3;4\n")
    (tmp_path / "header.csv").write_text("x,y\n1,2\n")
    (tmp_path / "latin.csv").write_bytes(b"\xff\xfe\xfa")
    (tmp_path / "empty.npy").write_bytes(b"")
    (tmp_path / "a:b.npy").write_bytes((tmp_path / "a.npy").read_bytes())
    (tmp_path / "notes.txt").write_text("1,2")
    (tmp_path / "dir.npy").mkdir()
    os.mkfifo(tmp_path / "fifo.npy")
    header = json.dumps({"w": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]}, "__metadata__": {}}).encode()
    data = struct.pack("<Q", len(header)) + header + np.array([1.5, -2.0], dtype="<f4").tobytes()
    (tmp_path / "a.safetensors").write_bytes(data)
    (tmp_path / "negative.safetensors").write_bytes(data.replace(b"[2, 1]", b"[2,-1]"))
    (tmp_path / "short.safetensors").write_bytes(data[:-3])
    (tmp_path / "liar.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")
    return tmp_path


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("a.npy", torch.arange(6.0, dtype=torch.float64).reshape(2, 3)),
        ("a:b.npy", torch.arange(6.0, dtype=torch.float64).reshape(2, 3)),
        ("big-endian.npy", torch.arange(3.0, dtype=torch.float64)),
        ("fortran.npy", torch.arange(6.0, dtype=torch.float64).reshape(2, 3)),
        ("two.npz:w", torch.ones(2)),
        ("one.npz", torch.ones(2, 2, dtype=torch.float64)),
        ("tensor.pt", torch.ones(2, dtype=torch.float64)),
        ("state.pt:w", torch.arange(3)),
        ("a.json", torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float16)),
        ("bom.json", torch.tensor([1.0], dtype=torch.float16)),
        ("typed.json", torch.tensor([1.0], dtype=torch.float64)),
        ("a.csv", torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float16)),
        ("semicolons.csv", torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float16)),
        ("a.safetensors", torch.tensor([[1.5], [-2.0]])),
        ("a.safetensors:w", torch.tensor([[1.5], [-2.0]])),
    ],
)
def test_files_keep_their_dtype_and_json_and_csv_take_the_one_asked_for(
    files: Path, reference: str, expected: Tensor
) -> None:
    is_same(read(f"@{files}/{reference}", dtype="float16"), expected)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("missing.npy", "no such file"),
        ("dir.npy", "is a directory"),
        ("fifo.npy", "is not a regular file"),
        ("notes.txt", "of no kind that is read here"),
        ("objects.npy", "holds Python objects, which are never loaded"),
        ("pickle.npy", "holds Python objects, which are never loaded"),
        ("pickle.pt", "holds Python objects, which are never loaded"),
        ("empty.npy", "is not a valid .npy file"),
        ("two.npz", "holds w, b: which one is needed must be said"),
        ("two.npz:q", "there is no `q` in it"),
        ("a.npy:w", "holds one array, and so has no `w`"),
        ("tensor.pt:w", "holds one array, and so has no `w`"),
        ("state.pt", "which one is needed must be said"),
        ("ragged.json", "it is ragged: [0] has 1 entry, [1] has 2 entries"),
        ("header.csv", "text stands where a number belongs (line 1, column 1)"),
        ("decimal-commas.csv", "both `;` and `,`"),
        ("negative.safetensors", "a size in its shape is negative"),
        ("latin.csv", "its byte 1 is no UTF-8 text"),
        ("short.safetensors", "it is cut short"),
        ("liar.safetensors", "its header is too long"),
        ("a.safetensors:q", "there is no `q` in it"),
        ("x" * 5000 + ".npy", "its name has"),
        ("a\0.npy", "null"),
    ],
)
def test_files_that_cannot_be_read(files: Path, reference: str, message: str) -> None:
    with pytest.raises(FileError) as caught:
        read(f"@{files}/{reference}")
    assert message in caught.value.message


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/stdin", "/proc/self/mem", "/", "~nobody-at-all/x.npy", "", ":"])
def test_devices_and_directories(path: str) -> None:
    with pytest.raises(FileError):
        read(f"@{path}")


def test_no_pickle_is_ever_run(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "attacked"),)

    for name in ("a.npy", "a.npz", "a.pt", "a.pth", "a.safetensors", "a.json"):
        (tmp_path / name).write_bytes(pickle.dumps(Attack()))
        with pytest.raises(FileError):
            read(f"@{tmp_path}/{name}")
    np.save(tmp_path / "b.npy", np.array([Attack()], dtype=object), allow_pickle=True)
    torch.save({"w": Attack()}, tmp_path / "b.pt")
    for name in ("b.npy", "b.pt"):
        with pytest.raises(FileError):
            read(f"@{tmp_path}/{name}")
    assert not (tmp_path / "attacked").exists()


def test_files_beyond_the_memory_limit(tmp_path: Path) -> None:
    with (tmp_path / "huge.npy").open("wb") as stream:
        stream.truncate(10**12)  # sparse: it takes no room on the disk
    with pytest.raises(LimitError, match=r"huge.npy` holds 1.0 TB"):
        read(f"@{tmp_path}/huge.npy")
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w.npy", b"\0" * 30_000_000)
    assert (tmp_path / "bomb.npz").stat().st_size < 100_000
    with pytest.raises(LimitError, match=r"30.0 MB, more than the memory limit of 20.0 MB"):
        read(f"@{tmp_path}/bomb.npz", memory_limit=20_000_000)


def test_an_array_that_lies_about_its_size(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(4))
    raw = (tmp_path / "a.npy").read_bytes().replace(b"(4,), }   ", b"(4000,), }")
    (tmp_path / "a.npy").write_bytes(raw)
    with pytest.raises(FileError, match=r"is not a valid .npy file"):
        read(f"@{tmp_path}/a.npy")


# What a path leads to is not told


SECRET = "hunter2"
OTHER_FILES = {
    "text": f"root:{SECRET}:0:0\nsecond line\n",
    "words": f"{SECRET} {SECRET}\n",
    "key": f"-----BEGIN KEY-----\n{SECRET}==\n",
    "table": f"1,2\n3,{SECRET}\n",
    "json": json.dumps({"password": SECRET}),
    "list": json.dumps([1, SECRET]),
    "nested": json.dumps([[1, 2], [3, {SECRET: 1}]]),
    "value": json.dumps({"value": SECRET, "dtype": "float32"}),
    "number": json.dumps({"value": [1], "dtype": SECRET}),
    "deeper": json.dumps({"value": {"value": SECRET}}),
    "expression": json.dumps({"value": f"torch.{SECRET}(3)"}),
    "file in a file": json.dumps({"value": f"@{SECRET}.csv"}),
    "escape": '["\\' + SECRET + '"]',
    "header": f"\x93NUMPY\x01\0\x20\0{{'descr': '{SECRET}'".ljust(64),
    "header of tensors": struct.pack("<Q", 60).decode() + json.dumps({"a": {"dtype": SECRET, "shape": [1]}}).ljust(60),
    "shape of tensors": struct.pack("<Q", 80).decode()
    + json.dumps({"a": {"dtype": "F32", "shape": [SECRET], "data_offsets": [0, 0]}}).ljust(80),
    "dtype of tensors": struct.pack("<Q", 80).decode()
    + json.dumps({"a": {"dtype": SECRET, "shape": [1], "data_offsets": [0, 0]}}).ljust(80),
    "keys": struct.pack("<Q", 40).decode() + json.dumps({SECRET: 1, SECRET + "2": 2}).ljust(40),
}


@pytest.mark.parametrize("suffix", [".csv", ".json", ".npy", ".npz", ".pt", ".pth", ".safetensors"])
@pytest.mark.parametrize("kind", OTHER_FILES)
def test_nothing_of_another_file_is_told(tmp_path: Path, kind: str, suffix: str) -> None:
    (tmp_path / "other").write_text(OTHER_FILES[kind], encoding="latin-1")
    (tmp_path / f"link{suffix}").symlink_to("other")
    for key in ("", ":a") if suffix in (".npz", ".safetensors", ".pt") else ("",):
        with pytest.raises(FileError) as caught:
            read(f"@{tmp_path}/link{suffix}{key}")
        told = json.dumps([caught.value.to_dict(), str(caught.value.source), list(caught.value.details)])
        for start in range(len(SECRET) - 3):
            assert SECRET[start : start + 4] not in told


def test_members_of_an_archive_that_are_no_arrays_are_not_told_of(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr(SECRET, "1")
        archive.writestr("word/document.xml", SECRET)
    for key in ("", ":other", f":{SECRET}", ":word/document.xml"):
        with pytest.raises(FileError) as caught:
            read(f"@{tmp_path}/a.npz{key}")
        assert "holds nothing" in caught.value.message
    np.save(tmp_path / "w.npy", np.ones(2))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.write(tmp_path / "w.npy", "w.npy")
    is_same(read(f"@{tmp_path}/a.npz"), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "1,2\n3,x\n", "text stands where a number belongs (line 2, column 3)"),
        ("a.csv", "1,2\r\n3,4\r\nx y,5\r\n", "text stands where a number belongs (line 3, column 1)"),
        ("a.csv", "1 2 3\n", "more than one number stands where a number belongs (line 1, column 1)"),
        ("a.csv", "1,,2\n", "a number is missing (line 1, column 3)"),
        ("a.csv", "1,2\n3\n", "its rows differ in length: row 0 has 2 entries, row 1 has 1 entry (line 2, column 1)"),
        ("a.csv", "1,1e999\n", "a number is too large for any dtype (line 1, column 3)"),
        ("a.json", "[1,\n 2,,]", "expecting value (line 2, column 4)"),
        ("a.json", '[1, "x"]', "text at [1] stands where a number belongs"),
        ("a.json", "[1, null]", "null at [1] stands where a number belongs"),
        ("a.json", '{"value": "1,2"}', "text stands where a number belongs"),
    ],
)
def test_where_a_file_is_wrong_and_how(tmp_path: Path, name: str, text: str, told: str) -> None:
    (tmp_path / name).write_bytes(text.encode())
    with pytest.raises(FileError) as caught:
        read(f"@{tmp_path}/{name}")
    assert told in caught.value.message


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/tty", "/dev/stdin", "/dev/fd/0", "pipe", "/dev", "/proc/self/environ"])
@pytest.mark.parametrize("suffix", [".csv", ".json", ".npy", ".npz", ".pt", ".safetensors"])
def test_links_to_what_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, suffix: str) -> None:
    """None is opened, and what the system makes up under /proc is empty."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / f"link{suffix}").symlink_to(target)
    real, opened = os.open, []
    monkeypatch.setattr(os, "open", lambda path, *rest, **named: opened.append(path) or real(path, *rest, **named))
    with pytest.raises(FileError):
        read(f"@{tmp_path}/link{suffix}")
    assert not opened or target.startswith("/proc/self/environ") or target in ("/dev/stdin", "/dev/fd/0")


def test_a_file_that_becomes_a_pipe_before_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "a.csv")
    (tmp_path / "file").write_text("1")
    file = os.stat(tmp_path / "file")
    monkeypatch.setattr(os, "stat", lambda path, **named: file)
    with pytest.raises(FileError, match="not a regular file"):
        read(f"@{tmp_path}/a.csv")
