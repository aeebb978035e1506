"""PyTorch's messages in plain words: raised by PyTorch itself here, in older wordings, and inside tracebacks and logs."""

from __future__ import annotations

import copy
import io
import math
import random
import re
import shlex
import subprocess
import sys
import textwrap
import traceback
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from raised_messages import RAISED
from torch import nn
from worded_messages import WORDINGS

from jvpcli.errors import EvaluationError, ExitCode, UsageError
from jvpcli.messages.cards import cards, dtype_name, read_shape
from jvpcli.messages.matcher import Raised, explain_message, explanation, find, lookup, read_log, wordings
from plain_values import strange

PRELUDE = """
from torch.autograd import Function, grad, gradcheck
from torch.autograd.functional import hessian, hvp, jacobian
from torch.autograd.functional import jvp as ajvp
from torch.autograd.functional import vjp as avjp
from torch.func import jacfwd, jacrev, vmap
from torch.func import grad as fgrad
from torch.func import jvp as fjvp
import torch.autograd.forward_ad as fw

def leaf(*shape): return torch.ones(shape, requires_grad=True)

def double(*shape): return torch.rand(shape, dtype=torch.double, requires_grad=True)

class Function_(Function):
    @staticmethod
    def forward(ctx, *args): return args[0] * 2
"""


def raised(code: str) -> tuple[BaseException | None, list[str]]:
    """What the code raises, and the warnings on the way."""
    scope = {"torch": torch, "nn": nn, "F": F, "np": np, "math": math, "copy": copy}
    exec(PRELUDE, scope)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.set_warn_always(True)  # some are given once a process else, and a test before may have had them
        try:
            exec(textwrap.dedent(code), scope)
        except BaseException as error:
            return error, [str(warning.message) for warning in caught]
        finally:
            torch.autograd.set_detect_anomaly(False)
            torch.set_warn_always(False)
    return None, [str(warning.message) for warning in caught]


def entry_of(message: str) -> str | None:
    match = find(Raised("", message))
    return None if match is None else match.card.id


def told(text) -> str:
    return " ".join([text.title, text.meaning, *text.causes, *text.cures])


def message_of(code: str) -> str:
    """What PyTorch says; of several warnings the last."""
    error, warned = raised(code.removeprefix("warns:"))
    if code.startswith("warns:"):
        assert error is None
        return warned[-1]
    assert error is not None, "nothing was raised"
    return str(error)


@pytest.mark.usefixtures("checked_distributions")
@pytest.mark.parametrize(("entry", "says", "code"), RAISED, ids=[f"{e}-{i}" for i, (e, _, _) in enumerate(RAISED)])
def test_what_pytorch_raises_is_explained(entry, says, code):
    message = message_of(code)
    assert entry_of(message) == entry, message
    found = lookup(message)
    words = told(found)
    for word in re.findall(r"\([\d, -]*\)(?=\s|$)|\S+", says):
        assert word in words, f"{word!r} is not told of {message!r}: {words}"
    assert found.matched.split()[0] in message
    assert found.title
    assert found.causes
    assert found.cures
    assert strange(found) == []


def test_shapes_are_picked_out():
    assert lookup(message_of("torch.ones(4, 5) @ torch.ones(4, 5)")).shapes == ((4, 5), (4, 5))
    assert lookup(message_of("x = leaf(7); grad(x.prod(), x, torch.ones(1))")).shapes == ((1,), ())
    assert lookup(message_of("torch.mv(torch.ones(4, 2), torch.ones(3))")).shapes == ((4,), (4, 2), (3,))
    assert lookup(message_of("warns:F.mse_loss(torch.ones(3, 1), torch.ones(3))")).shapes == ((3,), (3, 1))


@pytest.mark.parametrize(("entry", "message"), WORDINGS, ids=[f"{e}-{i}" for i, (e, _) in enumerate(WORDINGS)])
def test_other_wordings(entry, message):
    assert entry_of(message) == entry
    assert entry_of(f"{message}\n2024-05-01 12:00:01 5 workers stopped") == entry
    found = lookup(message)
    assert strange(found) == []
    words = told(found)
    for shape in found.shapes:
        assert str(shape) in words


def test_older_wordings_use_their_numbers():
    assert lookup(WORDINGS[19][1]).shapes == ()
    old = lookup("size mismatch, m1: [32 x 100], m2: [200 x 10] at /pytorch/aten/src/TH/generic/THTensorMath.cpp:752")
    assert old.shapes == ((32, 100), (200, 10))
    cuda = lookup("Input type (torch.cuda.FloatTensor) and weight type (torch.FloatTensor) should be the same")
    assert cuda.title == "Tensors on different devices: cuda and cpu"
    dtypes = lookup("Input type (torch.cuda.DoubleTensor) and weight type (torch.cuda.FloatTensor) should be the same")
    assert dtypes.title == "Operands of different dtype: float64 and float32"


# Every wording of the cards, with made-up captures

SAMPLES = {
    "shape": ["torch.Size([3, 5])", "[2, 7]", "(4,)", "[6 x 2]", "8x3", "torch.Size([9])"],
    "int": ["2", "3", "1", "11"],
    "number": ["1.5"],
    "dtype": ["Float", "torch.float64", "Long", "c10::Half", "long int"],
    "word": ["MulBackward0", "tanh", "list"],
    "any": ["one two", "'x'"],
    "lines": ["a\nb"],
    "vector": ["(4)", "[3]"],
    "matrix": ["[6 x 2]", "8x3"],
    "pair": ["[2, 7]", "[5, 3]"],
    "of": ["view of"],
    "signed": ["[-1, 4]", "[5, 2]"],
    "measure": ["2 x 2", "1x4x4"],
    "wanted": ["[7]"],
    "amount": ["2.00 GiB", "512.00 MiB"],
    "chip": ["CUDA", "MPS"],
    "device": ["cuda:0", "cpu"],
    "cuda": ["torch.cuda.FloatTensor"],
    "cpu": ["torch.FloatTensor"],
    "argument": ["argument #2 'mat2'"],
    "values": ["more than one value", "no values"],
    "factor": ["mat2", "batch1"],
    "statistic": ["running_mean"],
    "state": ["hidden[0]"],
    "deep": ["3D"],
    "many": ["more"],
    "tape": ["backward"],
    "part": ["backward", "backward or vjp"],
    "remapped": [" [2, 3]->[2, 1, 3] [4, 5]->[1, 5, 4]"],
    "tensor": ["tensor([[1., 0.],\n        [0., 2.]], dtype=torch.float64)"],
}


ABOUT_NONE = {
    "grad-is-none", "none-arithmetic", "non-leaf-grad", "no-grad-fn", "unused-input", "retain-grad", "gradients-type",
    "gradient-count",
    "vmap-axis", "vmap-sizes", "gradient-number", "backward-returned-no-tensor", "strict-independent",
    "functional-not-tensors", "reference-cycle", "leaf-in-place", "assigned-grad", "must-be-tensor", "ambiguous-truth",
    "non-leaf-optimizer", "no-inf-checks", "unused-parameters",
}  # fmt: skip
"""Cards whose words speak of Python's None; in the others it would be a gap."""


def instance(wording: str, number: int) -> tuple[str, list[str]]:
    """A message of that wording, and the shapes captured under a name."""
    rng = random.Random(f"{wording}{number}")
    shapes = []
    known: dict[str, str] = {}

    def fill(match: re.Match[str]) -> str:
        inside = match[1]
        named = re.fullmatch(r"(\w*):(\w+)", inside)
        if named and named[2] in SAMPLES:
            value = known.get(named[1]) or rng.choice(SAMPLES[named[2]])
            if named[1]:
                known[named[1]] = value
            if named[1] and named[2] in ("shape", "vector", "matrix", "pair"):
                shapes.append(value)
            return value
        return rng.choice(["", inside[1:]]) if inside.startswith("?") else rng.choice(inside.split("|"))

    text = re.sub(r"(?<!\{)\{([^{}]*)\}", fill, wording.replace("{{{", "\0{").replace("}}}", "}\1"))
    return text.replace("\0", "{").replace("\1", "}"), shapes


@pytest.mark.parametrize("number", range(3))
def test_every_wording_of_the_table_is_found_again(number):
    for card, wording in wordings():
        message, shapes = instance(wording, number)
        text = (
            f'Traceback (most recent call last):\n  File "t.py", line 3, in <module>\n    f(x)\nRuntimeError: '
            f"{message}\n"
        )
        match = find(Raised("RuntimeError", message))
        assert match is not None, message
        assert match.card.id == card.id, message
        found = explain_message(text)
        assert explanation(match).title == found.title, message
        words = told(found)
        if card.id not in ABOUT_NONE:
            assert "None" not in re.sub(r"\[[^\]]*None[^\]]*\]", "", words), words
        for shape in shapes:
            assert str(read_shape(shape)) in words, (shape, message, words)


def test_every_card_says_something():
    assert len(cards()) >= 150
    for card in cards().values():
        for wording in card.wordings:
            message, _ = instance(wording, 0)
            words = explanation(find(Raised("", message)))
            assert words.title
            assert words.meaning, card.id
            assert words.causes, card.id
            assert words.cures, card.id
            assert len(words.title) < 120, words.title


# Where messages are found

CODES = [
    "x = leaf(3, 2); grad(x * x, x, torch.ones(3))",
    "x = leaf(2, 5); y = x.sigmoid(); y.mul_(3); y.sum().backward()",
    "torch.ones(4, 5) @ torch.ones(4, 5)",
    "F.conv2d(torch.ones(1, 4, 8, 8), torch.ones(8, 3, 3, 3))",
    "gradcheck(torch.relu, torch.zeros(3, dtype=torch.double, requires_grad=True))",
    "torch.ones(2, 2, dtype=torch.long) @ torch.ones(2, 2)",
    "nn.Linear(3, 2).load_state_dict(nn.Linear(4, 2).state_dict())",
]


def boxed(text: str) -> str:
    return "\n".join(f"│ {line:<118} │" for line in text.splitlines())


def wrapped(text: str, width: int, indent: str = "") -> str:
    lines = []
    for line in text.splitlines():
        lines += [line[at : at + width] for at in range(0, len(line), width)] or [""]
    return f"\n{indent}".join(lines)


SETTINGS = {
    "as raised": lambda text: text,
    "Windows": lambda text: text.replace("\n", "\r\n"),
    "old Mac": lambda text: text.replace("\n", "\r"),
    "ranks": lambda text: "".join(f"[rank3]: {line}\n" for line in text.splitlines()),
    "ray": lambda text: "".join(f"(train_fn pid=4711) {line}\n" for line in text.splitlines()),
    "pytest": lambda text: (
        "".join(f"E       {line}\n" for line in text.splitlines()) + "\ntrain.py:7: RuntimeError\n"
        "=== short test summary info ===\nFAILED train.py::test_it - RuntimeError: shapes cannot b...\n"
    ),
    "colours": lambda text: re.sub(r"^(\w+(?:\.\w+)*):", "\x1b[1;31m\\1\x1b[0m:", text, flags=re.MULTILINE),
    "wrapped at words": lambda text: "\n".join(
        part for line in text.splitlines() for part in textwrap.wrap(line, 60, drop_whitespace=True) or [""]
    ),
    "wrapped anywhere": lambda text: wrapped(text, 80),
    "box": boxed,
    "escaped": lambda text: text.replace("\n", "\\n"),
    "log": lambda text: text.replace("\nRuntimeError:", "\n2024-05-01 12:00:00,123 ERROR train: RuntimeError:"),
    "progress": lambda text: f"epoch 1:  50%|█████     | 1/2 [00:01<00:01]\r{text}wandb: run stopped\n",
    "typographic": lambda text: text.replace("'", "’").replace(" ", "\u00a0"),
    "exception group": lambda text: (
        "  + Exception Group Traceback (most recent call last):\n"
        "  | ExceptionGroup: several (1 sub-exception)\n  +-+---------------- 1 ----------------\n"
        + "".join(f"    | {line}\n" for line in text.splitlines())
        + "    +------------------------------------\n"
    ),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_messages_are_found_in_whole_tracebacks(setting):
    for code in CODES:
        error, _ = raised(code)
        text = "".join(traceback.format_exception(error))
        if setting == "log" and not isinstance(error, RuntimeError):
            continue
        found = explain_message(SETTINGS[setting](text))
        assert found.title == lookup(str(error)).title
        assert found.shapes == lookup(str(error)).shapes


def test_warnings_count_where_nothing_was_raised():
    log = (
        "/env/lib/torch/nn/modules/loss.py:535: UserWarning: Using a target size (torch.Size([64])) that is different "
        "to the input "
        "size (torch.Size([64, 1])). This will likely lead to incorrect results due to broadcasting. Please ensure "
        "they have the "
        "same size.\n  return F.mse_loss(input, target, reduction=self.reduction)\nepoch 1 loss 0.31\n"
    )
    assert explain_message(log).shapes == ((64,), (64, 1))
    after = log + "Traceback (most recent call last):\n  File \"a.py\", line 1\nKeyError: 'weights'\n"
    with pytest.raises(EvaluationError) as caught:
        explain_message(after)
    assert "KeyError: 'weights'" in caught.value.message
    (hint,) = caught.value.hints
    assert explain_message(shlex.split(hint)[2]).shapes == ((64,), (64, 1))


def failing(first: str, second: str, link: str) -> str:
    """The traceback of two errors: one raised from the other, while handling it, or after it was logged."""
    text = "".join(traceback.format_exception(raised(first)[0]))
    return f"{text}\n{link}\n\n" + "".join(traceback.format_exception(raised(second)[0]))


CAUSE = "The above exception was the direct cause of the following exception:"
CONTEXT = "During handling of the above exception, another exception occurred:"


@pytest.mark.parametrize("link", [CAUSE, CONTEXT, "INFO trying again"])
def test_the_last_error_counts(link):
    found = explain_message(failing("torch.ones(4, 5) @ torch.ones(4, 5)", "torch.ones(3).reshape(2, 2)", link))
    assert found.matched == "shape '[2, 2]' is invalid for input of size 3"


def test_an_unknown_error_is_explained_by_the_cause_that_it_names():
    first, second = "torch.ones(4, 5) @ torch.ones(4, 5)", "raise LookupError('epoch 3 failed')"
    assert explain_message(failing(first, second, CAUSE)).shapes == ((4, 5), (4, 5))
    with pytest.raises(EvaluationError) as caught:
        explain_message(failing(first, second, CONTEXT))
    assert caught.value.hints == ("jvp explain 'mat1 and mat2 shapes cannot be multiplied (4x5 and 4x5)'",)
    launcher = "".join(traceback.format_exception(raised(first)[0])) + (
        'Traceback (most recent call last):\n  File "run.py", line 1\n'
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n====\ntrain.py FAILED\n"
    )
    assert explain_message(launcher).shapes == ((4, 5), (4, 5))


def test_a_message_inside_another_exception():
    worker = (
        'Traceback (most recent call last):\n  File "t.py", line 9, in <module>\n    for batch in loader:\n'
        "RuntimeError: Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call "
        "last):\n"
        '  File "worker.py", line 302, in _worker_loop\nRuntimeError: stack expects each tensor to be equal size, but '
        "got "
        "[3, 32, 32] at entry 0 and [1, 32, 32] at entry 2\n"
    )
    assert explain_message(worker).shapes == ((3, 32, 32), (1, 32, 32))
    native = (
        "terminate called after throwing an instance of 'c10::Error'\n  what():  mat1 and mat2 shapes cannot be "
        "multiplied (1x2 and 3x4)\n"
    )
    assert explain_message(native).shapes == ((1, 2), (3, 4))


def test_none_is_understood_from_the_source_line():
    code = "x = leaf(3)\nx = x - 0.1 * x.grad"
    log = (
        'Traceback (most recent call last):\n  File "/tmp/t.py", line 2, in <module>\n    x = x - 0.1 * x.grad\n'
        "            ~~~~^~~~~~~~\n" + traceback.format_exception(raised(code)[0])[-1]
    )
    assert explain_message(log).title == ".grad is None: no gradient has arrived there"
    other = explain_message(log.replace("x.grad", "self.scale"))  # it may be something else that is None
    assert other.title == "One operand of * is None"
    assert any("x.grad is None" in cause for cause in other.causes)


def test_second_derivatives_name_create_graph():
    for code in (
        "x = leaf(3); g, = grad((x ** 3).sum(), x); grad(g.sum(), x)",
        "x = leaf(3); g, = grad((x ** 3).sum(), x); (x * g).sum(); (g ** 2).sum().backward()",
        "x = leaf(3); g, = grad((x ** 3).sum(), x); grad((x * g).sum(), g)",
        "x = leaf(3); g, = grad((2 * x).sum(), x, create_graph=True); grad(g.sum() + leaf(1).sum(), x)",
        "x = leaf(3); y = (x ** 3).sum(); y.backward(); y.backward()",
    ):
        found = lookup(message_of(code))
        assert any("create_graph=True" in line for line in (*found.causes, *found.cures)), code


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("Output 0 of BroadcastBackward is a view and is being modified inplace", "A replica of nn.DataParallel"),
        ("Output 0 of BackwardHookFunctionBackward is a view and is being modified inplace.", "a module with a backward hook"),
        ("Expected all tensors to be on the same device, but found at least two devices, cuda:1 and cuda:0!",
         "Under nn.DataParallel"),
        ("Expected all tensors to be on the same device. Expected cuda:2, found cuda:7", "Under nn.DataParallel"),
        ("module must have its parameters and buffers on device cuda:1 (device_ids[0]) but found one of them on device: cpu",
         "nn.DataParallel replicates from the first of its device_ids"),
    ],
)  # fmt: skip
def test_who_has_made_the_views_is_named(message, says):
    assert says in told(lookup(message))


def test_where_there_are_no_replicas_none_are_named():
    for message in (
        "Output 0 of UnbindBackward is a view and is being modified inplace",
        "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
    ):
        assert "DataParallel" not in told(lookup(message))


SHAPES = [((3,), ()), ((1,), ()), ((4,), (4, 4)), ((6,), (2, 3)), ((3, 2), (2, 3)), ((5, 2, 3), (2, 3)), ((), (3,))]


@pytest.mark.parametrize(("got", "expected"), SHAPES)
def test_what_is_called_the_same_numbers_has_all_of_them_once(got, expected):
    """The cure is run: a cotangent of which it takes a part, or repeats one, is another cotangent."""
    x, v = torch.ones(expected, requires_grad=True), torch.randn(got)
    told = [lookup(raised_by(lambda: torch.autograd.grad(x * 2, x, v)))]
    told += [lookup(raised_by(lambda: torch.autograd.functional.vjp(lambda t: t * 2, x.detach(), v)))]
    for explained in told:
        same = [cure.partition("   #")[0].removeprefix("grad_outputs=") for cure in explained.cures if "the same numbers" in cure]
        assert len(same) == (v.numel() == x.numel())
        for code in same:
            found = eval(code, {"v": v})
            assert found.shape == x.shape
            assert sorted(found.reshape(-1).tolist()) == sorted(v.reshape(-1).tolist())
    if got[1:] == expected and got[0] > 1:  # as the cure says
        assert any("is_grads_batched=True" in cure for cure in told[0].cures)
        assert torch.autograd.grad(x * 2, x, v, is_grads_batched=True)[0].shape == v.shape


def raised_by(call):
    with pytest.raises(RuntimeError) as caught:
        call()
    return str(caught.value)


def test_a_sign_is_kept():
    found = lookup(message_of("x = leaf(7); grad(x.prod(), x, -torch.ones(1))"))
    assert [line.partition("   #")[0] for line in found.cures[:2]] == [
        "grad_outputs=v.reshape(())", "grad_outputs=v.item() * torch.ones_like(y)"
    ]  # fmt: skip
    scope = {"torch": torch, "v": -torch.ones(1), "y": torch.tensor(3.0)}
    assert eval(found.cures[1].partition("   #")[0].partition("=")[2], scope) == -1
    for given in ("x.prod().backward(-1)", "grad(x.prod(), x, -1)", "grad(x.prod(), x, [-1.])"):
        error, _ = raised(f"x = leaf(7); {given}")
        told_so = explain_message("".join(traceback.format_exception(error)))
        assert told_so.title.endswith(("int, not a tensor", "float, not a tensor"))
        assert told_so.cures[0].startswith("torch.autograd.grad(y, x, grad_outputs=torch.full_like(y, number))")


def test_a_line_of_source_is_not_a_message():
    log = (
        'Traceback (most recent call last):\n  File "t.py", line 4, in check\n'
        '    raise ValueError("grad can be implicitly created only for scalar outputs")\nValueError: bad input\n'
    )
    with pytest.raises(EvaluationError):
        explain_message(log)


@pytest.mark.parametrize(
    "text",
    [
        "  File \"t.py\", line 1\n    x = (1,\n        ^\nSyntaxError: '(' was never closed",
        "RuntimeError: dictionary changed size during iteration",
        "RuntimeError: generator raised StopIteration",
        "IndexError: list index out of range",
        "IndexError: index 5 is out of bounds for axis 0 with size 3",
        "ValueError: operands could not be broadcast together with shapes (3,) (4,) ",
        "ValueError: matmul: Input operand 1 has a mismatch in its core dimension 0, with gufunc signature "
        "(n?,k),(k,m?)->(n?,m?) (size 2 is different from 3)",
        "ValueError: The truth value of an array with more than one element is ambiguous. Use a.any() or a.all()",
        "ValueError: cannot reshape array of size 6 into shape (4,2)",
        "TypeError: only size-1 arrays can be converted to Python scalars",
        "tensorflow.python.framework.errors_impl.InvalidArgumentError: Matrix size-incompatible: In[0]: [2,3], In[1]: "
        "[2,3]",
        "MemoryError: Unable to allocate 2.00 GiB for an array with shape (16384, 16384) and data type float64",
        "RuntimeError: CUDA error: no kernel image is available for execution on the device",
        "AttributeError: 'NoneType' object has no attribute 'shape'",
        "TypeError: unsupported operand type(s) for +: 'int' and 'str'",
        "KeyboardInterrupt",
        "AssertionError",
        "The size of the shirt (3) must match the size of the trousers (4)",
        "everything is fine",
        "a gradient is a vector of partial derivatives",
        "ModuleNotFoundError: No module named 'torch'",
    ],
)
def test_other_texts_are_refused(text):
    with pytest.raises(EvaluationError) as caught:
        explain_message(text)
    assert caught.value.exit_code == ExitCode.EVALUATION
    assert caught.value.message.startswith("unknown message: ")
    assert lookup(text.rpartition("Error: ")[2]) is None


def test_an_empty_text_is_a_usage_error():
    with pytest.raises(UsageError):
        explain_message(" \n")


def test_events_of_a_log():
    events = read_log(
        't.py:3: UserWarning: careful\n  f(x)\nTraceback (most recent call last):\n  File "t.py", line 1\nValueError: '
        "one\ntwo\n\n"
        f'{CAUSE}\n\nTraceback (most recent call last):\n  File "t.py", line 2\na.b.OtherError: three\n'
    )
    assert [(event.type, event.link) for event in events] == [
        ("UserWarning", ""),
        ("ValueError", ""),
        ("a.b.OtherError", "cause"),
    ]
    assert events[1].text == "one\ntwo"
    assert [event.is_warning for event in events] == [True, False, False]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Float", "float32"),
        ("torch.cuda.HalfTensor", "float16"),
        ("long int", "int64"),
        ("c10::BFloat16", "bfloat16"),
        ("torch.complex64", "complex64"),
    ],
)
def test_dtypes_have_the_names_that_python_has(text, name):
    assert dtype_name(text) == name


def test_commands_in_cures_run():
    """Every command that an explanation shows, with made-up captures too, is one that jvp carries out."""
    from jvpcli.cli.app import COMMANDS as known

    commands = {
        cure
        for card, wording in wordings()
        for number in range(2)
        for cure in explanation(find(Raised("", instance(wording, number)[0]))).cures
        if cure.startswith("jvp ")
    }
    assert len(commands) > 30
    for command in sorted(commands):
        words = shlex.split(command)
        if words[1] in known:
            assert run(words[1:]) == 0, command


def run(argv: list[str]) -> int:
    from jvpcli.cli.app import run
    from jvpcli.cli.context import Context

    return run(argv, Context(io.StringIO(""), io.StringIO(), io.StringIO(), {}))


def test_explaining_needs_no_torch():
    script = (
        "import sys; from jvpcli.messages.matcher import explain_message as e; e('RuntimeError: mat1 and mat2 "
        "shapes cannot be multiplied (1x2 and 3x4)'); print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
