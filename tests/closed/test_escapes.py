"""Programs that are run by Python between guards can't break out: tries by family, and honest programs beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from further_tries import FURTHER

from jvpcli.answers import report_of
from jvpcli.closed.execution import Settings, at_call, compiled, run_through
from jvpcli.closed.given import Given
from jvpcli.errors import JvpError, UsageError, words_of
from jvpcli.language.pasted import as_meant
from jvpcli.options import BATCH, make_request

CANARY = "/tmp/canary10"
"""The file that the tries would make."""

LIMIT = 2 * 10**9
SETTINGS = Settings(memory_limit=LIMIT)


def ended_by(text: str) -> BaseException | None:
    """What ends a program: an error, or nothing."""
    try:
        return run_through(compiled(text), SETTINGS)[1]
    except JvpError as error:
        return error


FAMILIES: dict[str, tuple[str, ...]] = {
    "names": (
        "().__class__.__base__.__subclasses__()",
        'getattr(getattr((), "__class__"), "__base__")',
        """
try:
    1/0
except Exception as e:
    e.__traceback__.tb_frame
""",
        """
try:
    1/0
except Exception as e:
    e.with_traceback
""",
        '__import__("os")',
        "__builtins__",
        """
def f(): pass
f.__code__
""",
        """
def f(): pass
f.__closure__
""",
        """
def f(): pass
f.__defaults__ = (1,)
""",
        "(lambda: 0).__code__",
        "[x for x in ().__class__.__base__.__subclasses__()]",
        "isinstance.__self__",
        "print.__self__",
        "max.__self__",
        "x = 9**9**9**9",
        "lambda x=().__class__: 0",
        "async def f(): pass",
        """
match (k for k in [1]):
    case object(gi_frame=f): pass
""",
        """
match torch.ones(1):
    case torch.Tensor(untyped_storage=f): f()
""",
        """
class A:
    __match_args__ = ("__dict__",)
match A():
    case A(d): pass
""",
        """
class A(nn.Module): pass
match A():
    case A(_modules=d): pass
""",
        """
class A:
    __match_args__ = ("a", "b")
    b = property(lambda self: torch.ones(1).storage())
    a = 1
match A():
    case A(a, b): pass
""",
        """
def f(__builtins__=1):
    match [1]:
        case [__import__]: pass
""",
        """
try:
    pass
except* Exception: pass
""",
        "Variable.__globals__",
        "F.relu.__wrapped__.__globals__",
        "grad.__globals__",
        "Function.apply.__globals__",
        "d = [10]; d[0] **= 4096; d[0] **= 4096",
        """
def f(): return f
f.__code__ = 3
""",
        """
def f(): return f
f._hooked = 3
""",
        """
try:
    raise Exception(1)
except Exception as e:
    e.__cause__.__traceback__
""",
        "return 3",
        "def f(a, a): pass",
        "nonlocal x",
        "break",
        'getattr("x{0.__class__}", "_text")',
        "(lambda: 1).__globals__",
        'getattr(lambda: 1, "__globals__")',
        "(0).bit_length.__self__",
    ),
    "operators and sizes": (
        '"{0.__class__}".format(1)',
        'str.format("{0.__class__}", 1)',
        "x = torch.ones(3); x.resize_(10**6)",
        "nn.Linear(2,2).weight.data = torch.ones(10**6)",
        """
class A:
    def __len__(self): return 10**9
    def __getitem__(self, i): return 1.0
torch.tensor(A())
""",
        "x = 1 << 10**10",
        "x = 10**8; y = [0]; y *= x",
        '"%1000000000d" % 3',
        'f"{3:1000000000}"',
        'w = 10**9; f"{3:{w}}"',
        '"{:1000000000}".format(3)',
        "torch.ones(10**5).repeat(10**9)",
        "x = torch.ones(2).expand(2**62)",
        "F.max_pool2d(torch.ones(1,1,4,4), 2, dilation=2**31-1)",
        "nn.MaxPool2d(2, dilation=2**31-1)(torch.ones(1,1,4,4))",
        "nn.Conv2d(1,1,3,padding=2**62)(torch.ones(1,1,4,4))",
        "nn.Linear(2**40, 2**40)",
        """
w = torch.ones(1000000, requires_grad=True)
o = torch.optim.Adam([w], lr=.1)
w.sum().backward(); o.step()
o.state_dict()["state"][0]["exp_avg"] = torch.ones(1)
o.param_groups[0]["fused"] = True
o.step()
""",
        """
x = torch.ones(3, requires_grad=True)
def h(g):
    F.max_pool2d(torch.ones(1,1,4,4), 2, dilation=2**31-1)
    return g
x.register_hook(h)
x.sum().backward()
""",
        """
class A(Function):
    @staticmethod
    def forward(ctx, x): return x*1
    @staticmethod
    def backward(ctx, g):
        F.max_pool2d(torch.ones(1,1,4,4), 2, dilation=2**31-1)
        return g
x = torch.ones(3, requires_grad=True)
A.apply(x).sum().backward()
""",
        """
class S:
    def __enter__(self): return self
    def __exit__(self, *a): return True
with S():
    F.max_pool2d(torch.ones(1,1,4,4), 2, dilation=2**31-1)
""",
        "True << 10**9",
        'd = ["%1000000000d"]; d[0] %= 3',
        'b"%1000000000d" % 3',
        "import math; math.factorial(10**6)",
        "import math; math.comb(10**6, 5*10**5)",
        """
def g():
    try:
        yield 1
    finally:
        F.max_pool2d(torch.ones(1,1,4,4), 2, dilation=2**31-1)
it = g(); next(it); it.close()
""",
        "torch.ones(2).new_zeros(2**62, 2**62)",
        "torch.distributions.Normal(0., 1.).sample((10**12,))",
        "i = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.ones(1), (2,), requires_grad=True)",
        """
torch.sparse_csr_tensor(torch.tensor([0, 10**9]), torch.tensor([0]), torch.ones(1), (1, 2), check_invariants=False).to_dense()
""",
        """
for x in torch.utils.data.DataLoader([1,2], 2, collate_fn=lambda b: F.max_pool2d(torch.ones(1,1,4,4), 2, dilation=2**31-1)): pass
""",
        "nn.EmbeddingBag(10,3)(torch.tensor([1,2]), torch.tensor([0,10**6]))",
        """
e = nn.EmbeddingBag(10,3)
class Z(nn.EmbeddingBag): pass
z = Z(10,3); z.padding_idx = 10**9
z(torch.tensor([[1,2]]))
""",
        """
m = nn.CTCLoss(); m.blank = 10**6
m(torch.ones(5,1,3).log_softmax(2), torch.ones(1,2).long(), torch.tensor([5]), torch.tensor([2]))
""",
        """
m = nn.Fold(4, 2); m.kernel_size = 2**31-1
m(torch.ones(1,4,9))
""",
        """
m = nn.MaxUnpool2d(2)
m(torch.ones(1,1,2,2), torch.full((1,1,2,2), 10**9))
""",
        """
class G(Function):
    @staticmethod
    def forward(ctx, x): return x.as_strided((10**9,), (1,))
    @staticmethod
    def backward(ctx, g): return g
G.apply(torch.ones(2, requires_grad=True))
""",
        """
m = nn.Linear(2,2); m.register_forward_hook(lambda *a: F.max_pool2d(torch.ones(1,1,4,4), 2, dilation=2**31-1))
m(torch.ones(2))
""",
        """
m = nn.Linear(2,2); m.register_full_backward_hook(lambda *a: F.max_pool2d(torch.ones(1,1,4,4), 2, dilation=2**31-1))
m(torch.ones(2, requires_grad=True)).sum().backward()
""",
        """
import functools
class S:
    def __enter__(self): return self
    def __exit__(self, *a): return True
with S(): torch.func.grad(functools.partial(F.max_pool2d, kernel_size=2, dilation=2**31-1))(torch.ones(1,1,4,4))
""",
        """
def f():
    try: F.max_pool2d(torch.ones(1,1,4,4), 2, dilation=2**31-1)
    finally: return 1
f()
""",
        """
def f():
    for i in range(10**9):
        try:
            torch.zeros(10**13)
        finally:
            continue
f()
""",
        """
w = torch.ones(2, requires_grad=True); o = torch.optim.LBFGS([w])
def c():
    F.max_pool2d(torch.ones(1,1,4,4), 2, dilation=2**31-1); return w.sum()
o.step(c)
""",
        "import random; random.randint(0, 10**5000)",
        "torch.histc(torch.ones(3), bins=10**12)",
        'torch.segment_reduce(torch.ones(3), "sum", lengths=torch.tensor([10**9]))',
        "torch.lu_unpack(torch.ones(2,2), torch.tensor([10**9, 10**9], dtype=torch.int32))",
        "torch.linalg.ldl_solve(torch.ones(2,2), torch.tensor([10**9,10**9], dtype=torch.int32), torch.ones(2,2))",
        "torch.choose_qparams_optimized(torch.ones(2), 2**40, 1, 1., 1)",
        "torch.conv_tbc(torch.ones(2,2,2), torch.ones(1,2,2), torch.ones(2), 2**62)",
        "torch.func.vmap(lambda x: F.max_pool2d(x, 2, dilation=2**31-1))(torch.ones(2,1,1,4,4))",
        "torch.func.vmap(lambda x: x.expand(2**62))(torch.ones(2))",
        "torch.func.vmap(lambda x: torch.zeros(10**12))(torch.ones(2))",
        "torch.func.grad(lambda x: x.repeat(10**12).sum())(torch.ones(2))",
        "d = torch.distributions.Categorical(torch.ones(3)); d.sample((10**12,))",
        """
class D(torch.utils.data.Dataset):
    def __len__(self): return 10**18
    def __getitem__(self, i): return 1.0
for x in torch.utils.data.DataLoader(D(), shuffle=True): pass
""",
        """
x = 10**1000
for i in range(100): x = x*x
""",
        "abs(-10**1000) * 10**1000 * 10**1000",
        "pow(True, 10**9); pow(3, 10**9)",
        "(True + True) ** 10**9",
        'f"{3:0999}"*1',
        'f"{1:٩٩٩٩٩٩٩٩٩}"',
        '"{:٩٩٩٩٩٩٩٩٩}".format(1)',
        '"%٩٩٩٩٩٩d" % 1',
        '"{0:{1}}".format(1, 10**9)',
        '"{:>{w}}".format(1, w=10**9)',
        '"{0[0].__class__}".format([1])',
        '"{0.shape.__class__}".format(torch.ones(1))',
        '"{a:{b}}".format_map({"a": 1, "b": 10**9})',
        '"%*d" % (10**9, 1)',
        '"%.999999999f" % 1.0',
    ),
    "texts": (
        'f = "{0.__class__.__base__}".format; f(1)',
        'getattr(str, "format")("{0.__class__}", 1)',
        'getattr("x{0.__class__}", "format")(1)',
        """
f"{1:{'9'*9}}"
""",
    ),
    "generators": (
        """
def g(): yield 1
x = g(); x.gi_frame.f_globals
""",
        """
def g():
    with torch.no_grad():
        yield 1
with torch.no_grad():
    it = g(); next(it)
del it
""",
        "lambda: (yield)",
        "x = [(yield 3) for i in range(3)]",
        """
def g():
    try:
        yield 1
    except Exception: F.max_pool2d(torch.ones(1,1,4,4), 2, dilation=2**31-1)
it = g(); next(it); it.throw(ValueError)
""",
        """
def g():
    try:
        yield 1
    finally:
        L.clear()
L = [1.0]; next(g())
""",
        """
def g():
    yield torch.ones(1)
it = g()
it.gi_frame
""",
        """
def g():
    yield torch.ones(1)
it = g()
it.send.__self__.gi_frame
""",
        """
class S:
    def __enter__(self): return self
    def __exit__(self, *a): return True
def g():
    while True:
        with S(): yield F.max_pool2d(torch.ones(1,1,4,4), 2, dilation=k)
k = 1; it = g(); next(it); k = 2**31-1; it.throw(ValueError)
""",
        """
def g():
    try: yield 1
    finally: torch.ones(1).storage()
g().throw(GeneratorExit)
""",
        "(x for x in [1]).gi_code",
    ),
    "classes": (
        "class M(type): pass",
        "class A(metaclass=object): pass",
        "class A(torch.Tensor): pass",
        "class A(type(torch.ones(1))): pass",
        "super(int, 3).real",
        """
class A:
    def f(self): return super().__subclasshook__
A().f()
""",
        """
class A:
    def f(self): return super().__class__
A().f()
""",
        """
class A:
    pass
A().__class__.__base__
""",
        """
class A:
    pass
A().__class__.mro()
""",
        """
class A:
    pass
A.__dict__
""",
        """
class A:
    x = property(lambda s: s)
A.x.fget.__globals__
""",
        """
class A:
    @classmethod
    def f(cls): return cls
A.f.__func__
""",
        """
class A:
    def f(self): return self
A().f.__self__.__class__.__init__.__globals__
""",
        """
class A:
    def __float__(self):
        L.clear(); return 1.0
L = [A()] + [1.0]*1000
torch.tensor(L)
""",
        """
class A:
    def __index__(self): return 3
torch.ones(A())
""",
        """
class A:
    __slots__ = ("__array_interface__",)
""",
        """
class A:
    def __del__(self): pass
""",
        """
class A:
    __class__ = int
""",
        """
class T:
    def __radd__(self, other): self.got = other; return self
class E(Exception): pass
e = E(); t = T()
e.with_traceback += t
assert t.got is not None
""",
        """
import collections
class M(collections.namedtuple("M", "a")):
    def __len__(self):
        L.clear(); return 3
    def __float__(self):
        L.clear(); return 3.0
L = [M(1)] + [1.0]*1000
torch.tensor(L)
""",
        """
import collections
B = collections.namedtuple("B", "a")
class M(B):
    def __len__(self):
        L.clear(); return 3
    def __float__(self):
        L.clear(); return 3.0
L = [M(1)] + [1.0]*1000
torch.tensor(L)
""",
        """
class T:
    def __eq__(self, o): return True
    def __hash__(self): return 1
class A(T()): pass
""",
        """
class T:
    def __eq__(self, o): return True
    def __hash__(self): return 1
    def __init__(self, *a): pass
class A(T()): pass
""",
        """
class R:
    def __enter__(self): return self
    def __exit__(self, t, v, tb):
        self.t, self.v, self.tb = t, v, tb
        return True
r = R()
with r: 1/0
r.tb.tb_frame
""",
        """
class R:
    def __enter__(self): return self
    def __exit__(self, t, v, tb):
        self.t, self.v, self.tb = t, v, tb
        return True
r = R()
with r: open
r.t.__base__
""",
        """
import functools
class P:
    pass
setattr(P, "__init__", 3)
""",
        """
class P:
    x = 1
    def __getattr__(self, n): return 1
np.asarray(P())
""",
        """
class P:
    @lambda f: torch.sin
    def __init__(self): pass
P()
""",
        """
class A:
    return 3
""",
        """
class A:
    def f(self): return 1
a = A()
a._OfArray = 1
a.__dict__["__array_interface__"] = 1
""",
        """
class D(torch.utils.data.Dataset):
    def __len__(self): return 2
    def __getitem__(self, i): return 1.0
torch.utils.data.TensorDataset(D())
""",
        """
class D(torch.utils.data.Dataset):
    def __len__(self): return 2
    def __getitem__(self, i): return 1.0
c = torch.utils.data.Subset(D(), [1])
c.dataset = 3
c.__array__
""",
        """
class A: pass
a = A(); a.__array__ = 3
""",
        """
class A: pass
A.__array__ = 3
""",
        """
class A: pass
setattr(A, "__array__", 3)
""",
        """
class A: pass
del A.__array__
""",
        """
class T:
    def __radd__(self, other): self.got = other; return self
x = torch.ones(2)
x.untyped_storage += T()
""",
        """
class T:
    def __radd__(self, other): self.got = other; return self
def f(): pass
f.__globals__ += T()
""",
        "class D(torch.distributions.Normal): pass",
        """
class A:
    def __instancecheck__(self, o): pass
""",
        """
class A:
    def __mro_entries__(self, b): return (type,)
""",
        """
class A:
    def __reduce_ex__(self, p): return (print, ())
""",
        """
class A:
    def __deepcopy__(self, m): return 1
""",
        """
class A:
    def __setstate__(self, m): return 1
""",
        """
class A:
    def __torch_function__(self, *m): return 1
""",
        """
class A:
    def __array__(self, *m): return 1
""",
        """
class A:
    def __index__(self): return 1
""",
        """
class A:
    def __getattribute__(self, s): return "x"
""",
        """
class A(nn.Module):
    def __setattr__(self, s, v): return "x"
""",
        """
class A:
    def __new__(cls): return super().__new__(nn.Linear)
A()
""",
        """
class A:
    def __buffer__(self, f): return 1
""",
        """
class A:
    def __prepare__(self): pass
""",
        "from functools import singledispatch",
    ),
    "torch": (
        "type(torch.ones(1)).kind",
        'torch.load("/tmp/x")',
        "torch.utils.cpp_extension",
        'torch.hub.load("a","b")',
        "torch.ops.aten",
        "torch._C",
        "torch.sin.__self__",
        "x = torch.ones(3); x.storage()",
        "x = torch.ones(3); x.data_ptr()",
        "x = torch.ones(3); x.untyped_storage().data_ptr()",
        "x = torch.ones(3); x.set_(x)",
        "x = torch.ones(3); x.apply_(print)",
        "x = torch.ones(3); x.map_(x, print)",
        "torch.sin = print",
        "del torch.sin",
        "w = torch.ones(2, requires_grad=True); w.data = torch.ones(5)",
        "torch.utils.data.DataLoader([1,2], num_workers=4).sampler",
        "torch.func.grad(lambda x: x).function.__globals__",
        "torch.func.grad(lambda x: x)._watch",
        "torch.func.grad(lambda x: x).of",
        "torch.Tensor.kind",
        "torch.Tensor._make",
        "torch.path.__class__",
        "torch.distributions.Normal(0.,1.).__init__.__globals__",
        "torch.distributions.Normal(0.,1.)._validate_args",
        "torch.no_grad().prev",
        "torch.cuda.memory",
        "torch.library",
        "torch.multiprocessing",
        "torch.random.os",
        "torch.distributions.kl.sys",
        "torch.autograd.Function.apply",
        "x = torch.ones(2); x.new_empty(3)",
        """
x = torch.ones(2,2).to_sparse()
x._values()
""",
        "torch._VF",
        "torch.quantize_per_tensor(torch.ones(2), .1, 0, torch.qint8).int_repr()",
        'getattr(torch.ones(1), "data_ptr")()',
        'list(map(getattr, [torch.ones(1)], ["data_ptr"]))',
        """
try:
    x = torch.ones(2) @ torch.ones(3)
except Exception as e:
    e.__context__.__traceback__
""",
        """
x = []
x.append(x)
torch.tensor(x)
""",
        """
y = (torch.ones(2, requires_grad=True)*2).grad_fn
y._node = 3
""",
        "x = torch.ones(3); x.data.untyped_storage()",
        "x = torch.ones(3); x.share_memory_()",
        "x = torch.ones(3); x.record_stream(1)",
        "x = torch.ones(3); x._make_subclass",
        "x = torch.ones(3); x._cdata",
        "x = torch.ones(3); x._base",
        "x = torch.ones(3); x._version",
        "x = torch.ones(3); x._backward_hooks",
        'x = torch.ones(3); x.names = ("a",)',
        "x = torch.ones(3); x.real = 3",
        "x = torch.ones(3); x.T = x",
        "x = torch.ones(3); x.shape = (2,)",
        "x = torch.ones(2, requires_grad=True); x.data = x.to_sparse()",
        "x = torch.ones(2, requires_grad=True); del x.grad",
        'torch.set_default_device("meta")',
        "torch.inference_mode().__enter__()",
        "torch.no_grad().__enter__()",
        "torch.autograd.set_detect_anomaly(True); torch.autograd.set_multithreading_enabled",
        "torch.random.fork_rng",
        "torch.Generator().set_state(torch.zeros(5056, dtype=torch.uint8))",
        "torch.Generator().get_state()",
        "torch.Generator().seed()",
        "torch.Generator().clone_state()",
        "torch.Generator.kind",
        "torch.Generator('meta')",
        "torch.get_rng_state",
        "torch.set_rng_state",
        "torch.default_generator",
        'torch.asarray(b"abc")',
        'torch.frombuffer(b"abc")',
        'torch.from_file("/etc/passwd", size=10)',
        "torch.combinations(torch.ones(1000), 6)",
        "torch.fbgemm_linear_int8_weight",
        "torch.mkldnn_convolution",
        "torch._mkldnn",
        "torch.native_batch_norm(torch.ones(2,3), None, None, torch.ones(1), None, True, .1, .1)",
        "torch.batch_norm_gather_stats",
        "torch.max_pool2d_with_indices",
        "torch.func.functional_call.__globals__",
        "torch.func.debug_unwrap",
        "torch.func.linearize",
        "d = torch.distributions.Normal(0., 1.); d._param",
        "d = torch.distributions.Normal(torch.ones(2), 1.); d.loc = 3",
        "torch.distributions.Normal.set_default_validate_args(False)",
        "torch.distributions.register_kl",
        "l = torch.utils.data.DataLoader([torch.ones(2)]); l.worker_init_fn",
        "l = torch.utils.data.DataLoader([torch.ones(2)]); l.num_workers = 5",
        "l = torch.utils.data.DataLoader([torch.ones(2)]); l.sampler",
        """
def f(**k): return k
f(**{"out": 3}); torch.add(torch.ones(1), torch.ones(1), **{"out": torch.ones(1)})
""",
        "torch.ones(1).__dict__",
    ),
    "surroundings": (
        "import argparse; argparse.ArgumentParser().add_argument('--__class__')",
        "import argparse; argparse.ArgumentParser().set_defaults(__class__=1)",
        "import argparse; argparse.ArgumentParser()._parser",
        "import argparse; argparse.ArgumentParser.kind",
        "import argparse; argparse.ArgumentParser()._parser = []",
        "import argparse; argparse.ArgumentParser(fromfile_prefix_chars='@').parse_args(['@/etc/passwd'])",
        "import argparse; argparse.ArgumentParser().add_argument('--f', type=argparse.FileType('r'))",
        "import argparse; argparse.ArgumentParser().add_argument('--f', action='version', version='1')",
        """
import argparse
class P(argparse.ArgumentParser): pass
""",
        "import os; os.path.sys",
        "import os; os.getenv.__self__",
        "import os; os.environb",
        "import os; os.open",
        "import sys; sys._getframe",
        "import sys; sys.modules.__class__",
        "import re; re.compile('x', 128)",
        "import re; re.sub('x', 'y', 'x', 0, 128)",
        "import re; re.compile('x').__class__",
        "import re; re.match('x', 'x').re",
        "import re; re._compiler",
        "import functools; functools.lru_cache(lambda: 1).__wrapped__",
        "import functools; functools.cache(lambda: 1).__wrapped__.__globals__",
        "import operator; operator.attrgetter('real.__class__')(1)",
        "import operator; operator.mul([0], 10**9)",
        "import operator; operator.methodcaller('__class__')(1)",
        "import dataclasses; dataclasses.asdict(nn.Linear(1, 1))",
        "import dataclasses; dataclasses.make_dataclass",
        "import contextlib; contextlib.ExitStack().push",
        "import contextlib; contextlib.nullcontext(1).__class__",
        "from string import Formatter",
        "from string import Template; Template('').pattern",
        "import tqdm; tqdm.tqdm.kind",
        "import tqdm; tqdm.tqdm([1])._items",
        "import wandb\nfor x in wandb.x: pass",
        "import wandb; list(wandb.x)",
        "import wandb; torch.tensor(wandb.x)",
        "import typing\nclass A(typing.NamedTuple): pass\nA._make.__func__",
        "import typing\nclass A(typing.NamedTuple, dict): pass",
        "vars(nn.Linear(1, 1))",
        "vars(torch)",
        """
class Net(nn.Module): pass
vars(Net())
""",
        "format(1, '1000000000d')",
        "format(1, f'{10**9}d')",
        "getattr(dir, '__self__')",
        "open('/etc/passwd')",
        f"open({CANARY!r}, 'r+')",
        "open('/etc/passwd', mode='rb').read()",
        "torch.load('/etc/passwd')",
        "torch.autocast.__init__",
        "torch.amp.GradScaler('cpu')._scale",
        "torch.amp.GradScaler('cpu')._finite",
        "torch.utils.checkpoint.CheckpointFunction",
        "import torch.autograd.forward_ad as f; f._current_level",
        "import torch.autograd.forward_ad as f; f.dual_level().__enter__()",
        "nn.Embedding.from_pretrained.__func__",
        "torch.ones(1).requires_grad_().sum().grad_fn.next_functions[0][0]._node",
        "x = torch.ones(1); x.type('torch.cuda.FloatTensor').__class__",
        "import numpy as np; np.append([1], object())",
    ),
    "imports": (
        """
import functools
@functools.wraps(print)
def f(): pass
f.__wrapped__.__self__
""",
        """
import functools
functools.partial(print).func
""",
        """
functools = 1
import functools as q
q.reduce.__globals__
""",
        "import random; random.seed.__self__",
        "import random; random.SystemRandom",
        "import math; math.sin = print",
        "from torch import os",
        "from dataclasses import sys",
        """
import dataclasses
dataclasses.field(default_factory=print).default_factory.__self__
""",
        "import copy; copy.copyreg",
        """
import collections
T = collections.namedtuple("T", "a b"); T(1,2)._replace.__globals__
""",
        "import itertools; itertools.chain.__class__",
        "import subprocess",
        "import builtins",
        "import importlib",
        "import inspect; inspect.currentframe()",
        "import ctypes",
        'import pickle; pickle.loads(b"")',
        "import threading; threading.Thread(target=print).start",
        "import types; types.CodeType",
        "import types; types.FunctionType(1, {})", "import types; types.MethodType(max, [1])",
        """
import types
ns = types.SimpleNamespace(**{"__deepcopy__": lambda m: 1})
""",
        """
import types
ns = types.SimpleNamespace(**{"__torch_function__": lambda *a: 1})
assert torch.add(torch.ones(1), ns) == 1
""",
        """
import functools
functools.partial(getattr, torch)("os")
""",
        """
import collections
P = collections.namedtuple("P", "a b")
P.__len__ = 3
""",
        "import random; random._inst",
        "import random; random.SystemRandom",
        "from torch import _C",
        "from torch.nn import _reduction",
        "from torch.utils import cpp_extension",
        "from math import __spec__",
        "from collections.abc import Set as found; found.__subclasshook__",
        "from operator import attrgetter; attrgetter('__globals__')",
        "from copy import _reconstruct",
        "from types import FrameType",
        "from jvpcli import cli",
        "import jvpcli.closed",
        "import io; io.open('/etc/passwd')",
        "import tempfile",
        "import atexit",
        "import weakref",
        "import enum; enum.EnumMeta",
        "from torch.utils.data import *; DataLoader([1, 2], batch_size=10**9, drop_last=True)",
        "from torch.utils.data import *; BatchSampler(SequentialSampler([1]), 10**9, True)",
        "from torch.utils.data import *; RandomSampler([1], True, num_samples=10**9)",
        "torch.distributions.Normal(0., 1.).expand((2,), nn.Linear)",
        "torch.distributions.Normal(0., 1.).expand((2,), _instance=torch)",
        "import collections; collections.abc.Mapping.register(int)",
        "from typing import NamedTuple\nclass P(NamedTuple):\n    a: int\n    def __len__(self): return 5\ntorch.tensor(P(2))",
        "from torch.utils.data import *\nclass O:\n    def __len__(self): return 3\nlist(WeightedRandomSampler(O(), 3))",
        "class Tensor:\n    def f(self, t): return t.__cdata\nTensor().f(torch.ones(1))",
        "net = nn.Linear(2, 2)\ndelattr(net, '_parameters')",
        "nn.Linear(2, 2)._extra = 3",
        "import json; json.load",
        "import json; json.JSONDecoder",
        "import json; json.dumps([1], indent=10**9)",
        "import json; json.dumps(1, cls=print, indent=-1)",
        "import heapq; heapq.heappush.__self__",
        "import statistics; statistics.NormalDist",
        "import contextlib; contextlib.contextmanager(lambda: 1).__wrapped__",
        """
import contextlib
@contextlib.contextmanager
def held():
    yield 1
with held() as k: held().gen
""",
        """
import contextlib
@contextlib.contextmanager
def held():
    try:
        yield 1
    finally:
        torch.ones(1).storage()
with held(): pass
""",
        "'x'.ljust(10**9)",
        "'x'.zfill(1000)",
        "f'{1:{10**9}}'",
        "f'{1:>{10**4}.{3}}'",
        "from json import decoder",
        "import bdb",
        "import resource",
        "import code",
    ),
    "modules": (
        "torch.nn.functional.relu.__globals__",
        "torch.nn.Module.__subclasses__()",
        "nn.Linear.__init__.__globals__",
        "nn.Linear(2,2).__dict__",
        "nn.Linear(2,2)._parameters",
        "nn.Linear(2,2).forward.__func__.__globals__",
        "net = nn.Linear(2,2); net.forward = print; net._parameters",
        """
class N(nn.Module):
    def __init__(self):
        super().__init__()
    def __reduce__(self): return (print,())
""",
        """
class N(nn.Module):
    def __init__(self):
        super().__init__()
        self._modules = 3
N()
""",
        """
class N(nn.Module):
    def __getattr__(self, n): return 1
""",
        'setattr(nn.Linear, "forward", print)',
        "nn.Linear.forward = print",
        "torch.nn.functional.relu = print",
        """
import dataclasses
dataclasses.dataclass(nn.Linear)
""",
        "import copy; copy.deepcopy(nn.Linear(2,2)).__dict__",
        """
class A(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("x", torch.ones(1))
a = A(); a.register_forward_hook(print).hooks_dict_ref
""",
        "a = nn.Sequential(nn.Linear(2,2)); a.state_dict()._metadata.__class__",
        """
import torch as t
t.nn.utils.rnn.PackedSequence.__new__
""",
        "torch.nn.init.torch",
        "torch.nn.init.math",
        "torch.nn.utils.parametrize.sys",
        """
p = nn.ParameterDict({"__array_interface__": {"data": (1, False), "shape": (1,), "typestr": "<f8", "version": 3}})
""",
        'p = nn.ModuleDict({"__deepcopy__": nn.Linear(1,1)})',
        'p = nn.ModuleDict(); p["__deepcopy__"] = nn.Linear(1,1)',
        'p = nn.Linear(1,1); p.add_module("__array__", nn.Linear(1,1))',
        """
from collections import OrderedDict
p = nn.Sequential(OrderedDict([("__array__", nn.Linear(1,1))]))
""",
        """
class M(nn.Module):
    pass
class T:
    def __radd__(self, other): self.got = other; return self
m = M(); t = T()
m._call_impl += t
t.got
assert t.got is not None
""",
        """
class L(nn.LSTM):
    def __init__(self):
        super().__init__(2,3)
        self._flat_weights = [torch.ones(1)]*4
L()(torch.ones(5,1,2))
""",
        """
l = nn.LSTM(2,3)
l.hidden_size = 100000
l(torch.ones(5,1,2))
""",
        """
l = nn.GRUCell(2,3)
l.hidden_size = 100000
l(torch.ones(5,2))
""",
        """
class T(nn.Module):
    def __float__(self):
        L.clear(); return 1.0
L = [T()] + [1.0]*1000
torch.tensor(L)
""",
        "nn.Linear(2,2).register_forward_hook.__self__",
        "nn.utils.parameters_to_vector.__globals__",
        "nn.init.no_such_",
        "nn.Transformer.generate_square_subsequent_mask",
        """
m = nn.LSTM(2,3)
m(nn.utils.rnn.PackedSequence(torch.ones(3,2), torch.tensor([2000000,1])))
""",
        """
m = nn.LSTM(2,3); m.num_layers = 50
m(torch.ones(5,1,2))
""",
        """
m = nn.LSTM(2,3); m.proj_size = 2
m(torch.ones(5,1,2))
""",
        """
m = nn.LSTM(2,3); m.bidirectional = True
m(torch.ones(5,1,2))
""",
        """
m = nn.LSTM(2,3); m.bias = False
m(torch.ones(5,1,2))
""",
        """
m = nn.LSTM(2,3); m.weight_hh_l0 = nn.Parameter(torch.ones(1))
m(torch.ones(5,1,2))
""",
        "m = nn.LSTM(2,3); m.flatten_parameters(); m.all_weights",
        'getattr(nn.Linear(1,1), "_parameters", 3)',
        'm = nn.Linear(1,1); m.register_buffer("__array_interface__", torch.ones(1))',
        'm = nn.Linear(1,1); m.register_parameter("__array_struct__", nn.Parameter(torch.ones(1)))',
        """
class M(nn.Module):
    def __init__(self):
        super().__init__()
        setattr(self, "__array__", nn.Linear(1,1))
M()
""",
        'm = nn.ModuleDict({"a": nn.Linear(1,1)}); m.update({"__array__": nn.Linear(1,1)})',
        """
try:
    m = nn.ModuleDict({"__array__": nn.Linear(1,1)})
finally:
    pass
""",
        """
class M(nn.Module):
    _modules = {}
x = M(); x._modules
""",
        """
class T:
    def __radd__(self, other): self.got = other; return self
nn.Linear.forward += T()
""",
    ),
    "arrays": (
        "x = torch.ones(3).numpy(); x.data",
        "x = torch.ones(3).numpy(); x.ctypes",
        'x = torch.ones(3).numpy(); x.tofile("/tmp/canary10")',
        'np.load("/tmp/x")',
        "np.fromfile",
        "np.memmap",
        "np.vectorize",
        "np.random.seed.__self__",
        "np.random.RandomState().set_state",
        "np.random.default_rng().bit_generator",
        "np.random.default_rng().__reduce__",
        "np.random.default_rng().normal(out=np.ones(1))",
        "np.random.PCG64",
        "np.random.default_rng(print)",
        "from numpy import lib",
        """
class A:
    def __iter__(self): return iter([A()])
np.array([A()])
""",
        """
import types
ns = types.SimpleNamespace(**{"__array_interface__": {"data": (140000000000000, False), "shape": (1,), "typestr": "<f8",
    "version": 3}})
np.array(ns)
""",
        "x = np.array([10**30]); ",
        """
class T:
    def __init__(self): self.n = 0
np.array([T()], dtype=object)
""",
        """
class M(nn.Module):
    def __len__(self):
        L.clear(); return 3
    def __getitem__(self, i): return 1.0
L = [M()] + [1.0]*1000
np.array(L)
""",
        """
class M:
    def __len__(self):
        L.clear(); return 3
    def __getitem__(self, i): return 1.0
L = [M()] + [1.0]*100000
np.ones(2) + L
""",
        """
class M:
    def __len__(self):
        L.clear(); return 3
    def __getitem__(self, i): return 1.0
L = [M()] + [1.0]*100000
sum([L], np.ones(2))
""",
        """
class M:
    def __len__(self):
        L.clear(); return 3
    def __getitem__(self, i): return 1.0
L = [M()] + [1.0]*100000
[np.ones(2)] == [L]
""",
        """
class M:
    def __len__(self):
        L.clear(); return 3
    def __getitem__(self, i): return 1.0
L = [M()] + [1.0]*100000
a = np.ones(2); a[:] = L
""",
        """
class M:
    def __len__(self):
        L.clear(); return 3
    def __getitem__(self, i): return 1
L = [M()] + [1]*100000
a = np.ones(2); a[L]
""",
        "a = np.add(np.ones(1000), 1, where=np.zeros(1000) > 1)",
        "a = np.sum(np.ones(3), out=np.zeros(1))",
        "np.ones(3).astype(object)",
        'np.ones(3).astype("O")',
        'np.zeros(3, dtype=[("a","O")])',
        "torch.ones(3).numpy().reshape(3).T.base",
        "np.ones(3).tolist.__self__",
        "a = np.ones(3); a.sum._array",
        "x = np.ones(3); x.shape = (10**9,)",
        "x = np.ones(3); x.dtype = int",
        "x = np.ones(3); x.strides = (10**9,)",
        "x = np.ones(3); x.flags",
        "x = np.ones(3); x.resize(10**6)",
        "x = np.ones(3); x.setfield",
        "x = np.ones(3); x.view",
        'np.array("2020", dtype="datetime64")',
        "np.array([1, None])",
        "np.array({1: 2})",
        "np.asarray(nn.Linear(1,1))",
        "np.stack([nn.ModuleList([nn.Linear(1,1)])])",
        """
class L(nn.Module):
    def __len__(self):
        S.clear(); return 1
    def __getitem__(self, i): return 1.0
S = [L()] + [1.0]*100000
np.ones(2) == S
""",
        """
class L(Exception):
    def __len__(self):
        S.clear(); return 1
    def __getitem__(self, i): return 1.0
S = [L()] + [1.0]*100000
max([S, np.ones(2)])
""",
        """
import dataclasses
@dataclasses.dataclass
class L:
    a: int = 1
    def __len__(self):
        S.clear(); return 1
    def __getitem__(self, i): return 1.0
S = [L()] + [1.0]*100000
divmod(np.ones(2), S)
""",
        """
class D(torch.utils.data.Dataset):
    def __len__(self):
        S.clear(); return 1
    def __getitem__(self, i): return 1.0
S = [torch.utils.data.Subset(D(), D())] + [1.0]*100000
sum([S], np.ones(2))
""",
        """
class D(torch.utils.data.Dataset):
    def __len__(self): return 2
    def __getitem__(self, i): return 1.0
S = torch.utils.data.random_split(D(), [1, 1])
np.ones(2) + S
""",
        """
import collections
P = collections.namedtuple("P", "a b")
class L(P):
    def __len__(self):
        S.clear(); return 1
    def __getitem__(self, i): return 1.0
S = [L(1,2)] + [1.0]*100000
sum([S], np.ones(2))
""",
        "x = torch.ones(2); x.data = np.ones(2)",
        "np.random.set_state",
        "np.random.get_state",
        "np.random.bit_generator",
        "np.errstate",
        "np.seterr",
        "np.set_printoptions",
        "np.lib",
        "np.ctypeslib",
        "np.core",
        "np.random.mtrand",
        "np.linalg.linalg",
        'np.frombuffer(b"aaaa")',
        "np.fromstring",
        "np.ndarray((3,))",
        "np.empty(10)",
        "np.float64.__mro__",
        "np.float64(3).tobytes()",
        "np.float64(3).data",
        "np.float64(3).dtype.type",
        "np.int32(3).setflags",
        "torch.from_numpy(np.broadcast_to(np.ones(1), (10**9,)))",
        "from numpy import ctypeslib",
    ),
    "functions with a backward": (
        """
class F(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x); ctx._raw_saved_tensors = 3
        return x
    @staticmethod
    def backward(ctx, g): return g
F.apply(torch.ones(2, requires_grad=True)).sum().backward()
""",
        """
class F(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return ctx.__class__
F.apply(torch.ones(2, requires_grad=True))
""",
        "a = nn.Linear(2,2); a.apply(lambda m: m.__dict__)",
        """
class A(Function): pass
A.apply.__globals__
""",
        """
class A(Function): pass
A._backward_cls
""",
        """
class A(Function): pass
A._is_legacy
""",
        """
w = torch.ones(1, requires_grad=True)
o = torch.optim.Adam([w], lr=.1, fused=True)
w.sum().backward(); o.step()
""",
        """
w = torch.ones(1, requires_grad=True)
o = torch.optim.Adam([w], lr=.1)
o.param_groups[0]["fused"] = True
w.sum().backward(); o.step()
""",
        """
class T:
    def __radd__(self, other): self.got = other; return self
class F2(Function):
    @staticmethod
    def forward(ctx, x): return x*1
    @staticmethod
    def backward(ctx, g): return g
t = T()
F2._backward_cls += t
""",
        """
class X:
    pass
class F2(Function):
    @staticmethod
    def forward(ctx, x): return x*1
    @staticmethod
    def backward(ctx, g): return g
F2._backward_cls = X
F2.apply(torch.ones(2, requires_grad=True))
""",
        """
class G(Function):
    @staticmethod
    def forward(ctx, x): return x
    @staticmethod
    def backward(ctx, g): return g
G._backward_cls
""",
        """
class G(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.needs_input_grad = 3
        return x*1
    @staticmethod
    def backward(ctx, g): return g
G.apply(torch.ones(2, requires_grad=True))
""",
        """
class G(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x); ctx.to_save = 3
        return x*1
    @staticmethod
    def backward(ctx, g): return g
G.apply(torch.ones(2, requires_grad=True))
""",
        """
w = torch.ones(2, requires_grad=True); o = torch.optim.SGD([w], lr=1e400, momentum=.9); w.sum().backward(); o.step()
o.state
""",
    ),
    "optimizers": (
        "torch.optim.SGD([torch.ones(1,requires_grad=True)], lr=.1).state",
        "torch.optim.SGD([torch.ones(1,requires_grad=True)], lr=.1).__class__",
        "torch.optim.SGD([torch.ones(1,requires_grad=True)], lr=.1).register_step_post_hook(print)",
        """
w = torch.ones(1, requires_grad=True)
o = torch.optim.SGD([w], lr=.1)
s = torch.optim.lr_scheduler.StepLR(o, 1)
s.load_state_dict({"__array_interface__": {"data": (1, False), "shape": (1,), "typestr": "<f8", "version": 3}})
""",
        """
w = torch.ones(2, requires_grad=True); o = torch.optim.SGD([w], lr=.1)
s = torch.optim.lr_scheduler.LambdaLR(o, lambda e: 1.)
s.optimizer
""",
        "torch.optim.SGD.step",
        "torch.optim.Optimizer.__init__.__globals__",
        "class O(torch.optim.SGD): pass",
        "torch.optim.lr_scheduler.LRScheduler.__init__.__globals__",
    ),
}
FAMILIES |= FURTHER


@pytest.mark.parametrize("family", FAMILIES)
def test_tries_are_refused(family: str, tmp_path: Path) -> None:
    """Each is refused by a guard, whatever it catches itself: not by chance through an error of Python's or torch's."""
    canary = tmp_path / "canary"
    before = (
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.default_generator.get_state(),
        np.random.get_state()[1].tolist(),
    )
    through = [
        text for text in FAMILIES[family] if not isinstance(ended_by(text.replace(CANARY, str(canary))), JvpError)
    ]
    assert through == []
    assert not canary.exists()
    assert (torch.is_grad_enabled(), torch.get_default_dtype()) == before[:2]
    assert torch.equal(torch.default_generator.get_state(), before[2])
    assert np.random.get_state()[1].tolist() == before[3]


HONEST = (
    """
import torch.nn as nn, copy, math
from types import SimpleNamespace
class Net(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(config.depth)])
        self.scales = nn.ParameterDict({"a": nn.Parameter(torch.ones(2))})
        self.lstm = nn.LSTM(2, 3)
        self._calls = 0
    def forward(self, x):
        self._calls += 1
        for layer in self.layers:
            x = torch.tanh(layer(x)) * self.scales["a"]
        return self.lstm(x.view(1, 1, 2))[0].sum()
net = Net(SimpleNamespace(depth=3))
twin = copy.deepcopy(net)
optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    loss = net(torch.ones(2)) - twin(torch.ones(2)).detach()
    assert loss.grad_fn is not None and len(loss.grad_fn.next_functions) == 2 and loss.grad_fn.name() == "SubBackward0"
    loss.backward()
    optimizer.step()
assert net._calls == 3 and math.factorial(5) == 120
""",
    """
class Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        ctx.power = 2
        return x ** ctx.power
    @staticmethod
    def backward(ctx, g):
        x, = ctx.saved_tensors
        return g * 2 * x
x = torch.tensor([3.], requires_grad=True)
x.register_hook(lambda g: g + 1)
Square.apply(x).sum().backward()
assert x.grad.tolist() == [7.]
""",
    """
calls = []
def i():
    calls.append(1)
    return 0
a = [1, 2]
a[i()] += 5
assert a == [6, 2] and calls == [1]
x = torch.ones(3); y = x
x[i():2] *= 3
x += 1
assert y.tolist() == [4, 4, 2] and calls == [1, 1]
d = {"k": 1}; d["k"] <<= 2
l = [1]; k = l; k += [2]
assert d == {"k": 4} and l == [1, 2]
class Vector:
    def __init__(self, v): self.v = v
    def __getitem__(self, n): return self.v[n]
    def __len__(self): return len(self.v)
    def __rmul__(self, n): return Vector([n * each for each in self.v])
assert (np.float64(2) * Vector([1, 2]))[1] == 4
""",
    """
def batches(n):
    for k in range(n):
        yield torch.full((2,), float(k))
total = sum(each.sum() for each in batches(3))
a = np.array([1., 2.]).reshape(2, 1) @ np.ones((1, 2))
assert total == 6 and a.sum(axis=0).tolist() == [3., 3.] and np.add(a, 1).shape == (2, 2)
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.arange(4.), torch.arange(4.)), batch_size=2)
assert [x.tolist() for x, y in loader] == [[0., 1.], [2., 3.]]
first, rest = torch.utils.data.random_split(range(5), [2, 3])
assert len(first) == 2 and torch.distributions.Gamma(torch.ones(2), 1.).rsample().shape == (2,)
assert torch.func.vmap(torch.func.grad(lambda x: x ** 3))(torch.ones(2)).tolist() == [3., 3.]
""",
)


@pytest.mark.parametrize("text", HONEST)
def test_honest_programs_run(text: str) -> None:
    """Programs that do nothing but arithmetic are carried out to their end, and what they assert holds."""
    assert ended_by(text) is None


def test_python_runs_nothing_unless_that_is_asked_for() -> None:
    """A request of a batch, which may come by HTTP, is the language's or refused."""
    text = "import torch\nclass A:\n    def __enter__(self): pass\n    def __exit__(self, *a): pass\n"
    text += "x = torch.ones(2, requires_grad=True)\nwith A(): (x * x).sum().backward()\n"
    request = make_request({"expression": text}, BATCH)
    assert as_meant(request, may_run=True).pasted == request
    meant = as_meant(request)
    assert meant.pasted is None
    with pytest.raises(JvpError, match="class"):
        report_of(meant)


def test_a_value_reaches_a_program_as_plain_data() -> None:
    """What is given for a name is a tensor, an array, a number or a list, whatever it stands for; and for no guard's name."""
    given = {name: Given(torch.ones(2), torch.ones(2)) for name in ("x", "a", "b")}
    settings = Settings(memory_limit=LIMIT, given=given)
    text = "import numpy as np\nx, a, b = torch.zeros(1), np.zeros(1), [0]\nassert b == [1, 1] and a.sum() == x.sum() == 2\n"
    assert run_through(compiled(text, given), settings)[1] is None
    for own in ("Odd()", "Odd", "'text'", "{}", "None", "torch.nn.Linear(1, 1)", "torch", "lambda: 1"):
        error = run_through(compiled(f"class Odd: pass\nx = {own}\na = b = torch.zeros(1)\n", given), settings)[1]
        assert isinstance(error, UsageError), own
    for name in ("jvp:read", "torch", "print", "__builtins__", "x.y"):
        with pytest.raises(JvpError):
            compiled("x = torch.ones(2)\nprint(x)\n", [name])


def test_memory_that_torch_left_unwritten_is_zeros() -> None:
    """A layer that doesn't fill its weights shows nothing of what the memory held before."""
    text = """
class Bare(nn.Linear):
    def reset_parameters(self): pass
kept = [torch.full((300, 300), 7.) for _ in range(5)]
del kept
assert Bare(300, 300).weight.abs().sum() == 0 and torch.empty(300).abs().sum() == 0
"""
    assert ended_by(text) is None


def test_what_is_called_after_the_program_is_behind_the_guards_too() -> None:
    """A function of a program, called once it has run: what it may not do is an error, and it leaves torch's settings alone."""
    from jvpcli.closed.derived import Watch
    from jvpcli.closed.execution import _Guard, _run

    kept: list[object] = []
    watch = Watch(1, lambda call: kept.append(call.function))
    text = """
def f(x):
    torch.set_grad_enabled(False); torch.set_default_dtype(torch.float64)
    return F.max_pool2d(torch.ones(1, 1, 4, 4), 2, dilation=D[0]) * x
D = [1]
try: torch.func.grad(f)(torch.ones(1))
except Exception: pass
D[0] = 2**31 - 1
"""
    settings = torch.is_grad_enabled(), torch.get_default_dtype()
    guard = _Guard(watch, LIMIT)
    with guard:
        _run(compiled(text), SETTINGS, watch, guard)
    torch.set_grad_enabled(settings[0])
    torch.set_default_dtype(settings[1])
    function = kept[0]
    assert callable(function)
    with pytest.raises(JvpError):
        function(torch.ones(1))
    assert (torch.is_grad_enabled(), torch.get_default_dtype()) == settings


POOL = """
import copy
x = torch.randn(1, 1, 8, 8, requires_grad=True)
y, i = F.max_pool2d(x, 2, return_indices=True)
kept = i.clone()
{change}
y.sum().backward()
assert torch.equal(x.grad.flatten().nonzero().flatten(), kept.flatten().sort().values)
"""


@pytest.mark.parametrize(
    "change",
    [
        "i.data.fill_(0)", "i.data[:] = 0", "i.detach().data.zero_()", "i.T.data.zero_()", "i[:, :, :2].data.zero_()",
        "i.real.data.zero_()",
        "i.expand_as(i).data.zero_()", "i.unbind()[0].data.zero_()", "Variable(i).data.zero_()", 'getattr(i, "data").zero_()',
        "torch.as_strided(i, (16,), (1,)).data.zero_()", "nn.Parameter(i, requires_grad=False).data.zero_()", "i.numpy()[:] = 0",
        "i.numpy().T[:] = 0", "np.asarray(i)[:] = 0", "np.ravel(i)[:] = 0", "np.expand_dims(i, 0)[:] = 0",
        "np.transpose(i)[:] = 0",
        "i.cpu().numpy()[:] = 0", "i.data = torch.zeros_like(i)", "u = copy.deepcopy(i); u.zero_()", "i.zero_()",
        "i.data += 1", "m = nn.Module(); m.register_buffer('i', i); m.state_dict()['i'].zero_()",
    ],
)  # fmt: skip
def test_what_backward_has_kept_is_not_changed_unseen(change: str) -> None:
    """Indices that max pooling keeps stay as they are, or torch sees that they have changed, and says so."""
    error = ended_by(POOL.format(change=change))
    assert error is None or "modified by an inplace operation" in str(error), error


@pytest.mark.parametrize("make", ["torch.from_numpy", "torch.as_tensor", "torch.asarray", "torch.LongTensor", "torch.tensor"])
def test_integers_of_an_array_are_copied(make: str) -> None:
    """What a tensor of integers is made of may change, and the tensor does not; one of real numbers shares numpy's memory."""
    text = f"""
a, b = np.zeros(4, dtype=np.int64), np.zeros(4)
t, x = {make}(a), torch.from_numpy(b)
p = nn.Parameter(torch.ones(4).long(), requires_grad=False); v = torch.zeros(4).long()
torch.nn.utils.vector_to_parameters(v, [p])
a[:], b[:] = 3, 5; v.fill_(7)
assert t.tolist() == p.tolist() == [0, 0, 0, 0] and x.tolist() == [5., 5., 5., 5.]
x.numpy()[0] = 2; x.data[1] = 9; y = x.detach()
assert b.tolist() == [2., 9., 5., 5.] and torch.ones(2).view(2, 1).shape == (2, 1) and y.view(torch.float64).shape == (4,)
"""
    assert ended_by(text) is None


def test_a_function_of_torchs_is_behind_the_guards_once_the_program_has_run() -> None:
    """What the function takes is changed after its derivative was met."""
    text = """
import functools
repeats = torch.ones(4).long()
torch.func.jacrev(functools.partial(torch.repeat_interleave, repeats=repeats))(torch.ones(4))
"""
    code = compiled(text)
    function = at_call(code, run_through(code, SETTINGS)[0], 1, SETTINGS, lambda call, *_: call.function)
    function.__wrapped__.keywords["repeats"].fill_(2**62)
    with pytest.raises(JvpError):
        function(torch.ones(4))


def test_an_autocast_that_is_entered_twice_ends() -> None:
    """torch's own would stay on behind the program, and for the next one."""
    text = """
a, x = torch.autocast("cpu"), torch.ones(2, 2)
with a:
    with a: pass
    assert (x @ x).dtype is torch.bfloat16
"""
    assert ended_by(text) is None
    assert not torch.is_autocast_enabled("cpu")


HOOKED = """
import functools
class Squared(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g): return 2 * ctx.saved_tensors[0] * g
class Seen:
    def see(self, *given): seen.append("method")
    def __call__(self, *given): seen.append("object")
x, m, seen = torch.ones(2, requires_grad=True), nn.Linear(2, 2), []
def noted(name, *given): seen.append(name)
for hook in (Seen(), Seen().see, lambda *given: noted("lambda"), functools.partial(noted, "partial")):
    m.register_full_backward_hook(hook)
Squared.apply(m(Squared.apply(x))).sum().backward()
assert seen == ["object", "method", "lambda", "partial"] and x.grad.abs().sum() > 0
"""


CHANGED_WITHIN = {
    "the places of a slice": """
class Items:
    def __init__(self): self.n = 0
    def __iter__(self): return self
    def __next__(self):
        self.n += 1
        {change}
        if self.n > 1500: raise StopIteration
        return self.n
L = list(range(3000))
{assign}
""",
    "groups": """
import itertools
class K:
    def __eq__(self, other):
        if len(seen) < 60:
            seen.append(1)
            for _ in range(3): next(groups, None)
            for n in range(1, 12): kept.extend((n,) * n for _ in range(300))
        return NotImplemented
seen, kept = [], []
groups = itertools.{groups}
for _ in range(40): list(next(groups)[1])
""",
}
"""Programs whose own methods change what Python's C goes through as it calls them: each overwrites memory in some version."""


@pytest.mark.parametrize(
    "text",
    [
        *(
            CHANGED_WITHIN["the places of a slice"].format(change="L.clear()", assign=assign)
            for assign in (
                "L[::2] = Items()",
                "step = slice(None, None, 2); L[step] = Items()",
                "L[slice(None, None, 2)] = Items()",
                "for L[::2] in [Items()]: pass",
                "list.__setitem__(L, slice(None, None, 2), Items())",
                "class A(list):\n    def f(self): super().__setitem__(slice(None, None, 2), Items())\nL = A(L); L.f()",
                "from collections import UserList\nu = UserList(); u.data = L; u[::2] = Items()",
            )
        ),
        CHANGED_WITHIN["groups"].format(groups="groupby(range(1000), key=lambda i: K())"),
    ],
)
def test_what_c_goes_through_is_not_changed_by_what_it_calls(text: str) -> None:
    """Each is an error of Python's; else it ends the process."""
    assert isinstance(ended_by(text), ValueError)


@pytest.mark.parametrize("when", range(1, 6))
@pytest.mark.parametrize(
    "ask", ["held.pop(K())", "del held[K()]", "held.move_to_end(K())", "held[K()] = 1", "held.update({K(): 1})"]
)
@pytest.mark.parametrize("make", ["OrderedDict()", "nn.Linear(2, 2).state_dict()"])
def test_keys_may_change_an_ordered_dictionary_as_they_are_compared(make: str, ask: str, when: int) -> None:
    """It is an error of Python's, or none; that of C frees twice what it holds."""
    text = f"""
from collections import OrderedDict
class K:
    def __hash__(self): return 5
    def __eq__(self, other):
        seen.append(1)
        if len(seen) == {when}:
            held.clear()
            for place in range(3): held[K()] = place
            for n in range(1, 12): kept.extend((n,) * n for _ in range(300))
        return True
held, kept, seen = {make}, [], [0] * 99
held[K()] = 1; held[1] = 2
seen.clear()
try:
    {ask}
except (KeyError, RuntimeError): pass
seen.extend([0] * 99)
for key in list(held): held.move_to_end(key)
held.clear()
"""
    assert ended_by(text) is None


def test_an_ordered_dictionary_is_that_of_python() -> None:
    """What it holds, in its order, by each way to change it; in a class derived from it, and wherever torch takes one."""
    text = """
from collections import OrderedDict
class Recent(OrderedDict):
    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        if len(self) > 2: self.popitem(last=False)
a = OrderedDict(a=1, b=2); a["c"] = 3
seen = [[*a]]
a.move_to_end("a"); seen.append([*a])
a.move_to_end("a", last=False); seen.append([*reversed(a)])
recent = Recent(); recent.update({1: 1, 2: 2, 3: 3})
seen += [a.popitem(), a.popitem(last=False), a.pop("z", 0), a.setdefault("q", 4), [*a.items()]]
seen += [[*recent], repr(recent), repr(a | {5: 6})]
seen += [a == {"q": 4, "b": 2}, a == OrderedDict(q=4, b=2), a != OrderedDict(b=2, q=4), a.copy() == a, repr(OrderedDict())]
"""
    own: dict[str, object] = {}
    exec(text, own)
    assert ended_by(f"{text}\nassert seen == {own['seen']!r}, seen") is None
    given = """
from collections import OrderedDict
import copy
net = nn.Sequential(OrderedDict(a=nn.Linear(2, 2), b=nn.BatchNorm1d(2)))
state = net.state_dict()
assert type(state) is OrderedDict and [*state][:2] == ["a.weight", "a.bias"] and not state._metadata
other = nn.Sequential(OrderedDict(a=nn.Linear(2, 2), b=nn.BatchNorm1d(2)))
other.load_state_dict(copy.deepcopy(state))
assert torch.equal(other.a.weight, net.a.weight)
found = torch.func.grad(lambda p: (p["w"] ** 2).sum())(OrderedDict(w=torch.ones(2)))
assert type(found) is OrderedDict and found["w"].tolist() == [2, 2]
"""
    assert ended_by(given) is None


def test_groups_are_those_of_python() -> None:
    """In order, skipped, asked for late, and by a key; beside the other iterators that are gone through one by one."""
    text = """
from itertools import groupby, pairwise, zip_longest
t = "AAAABBBCCDAABBB"
stale = [group for _, group in groupby(t)]
late = groupby([1, 1, 2]); _, first = next(late); next(first); second, _ = next(late)
given = ([k for k, _ in groupby(t)], ["".join(g) for _, g in groupby(t)], [list(g) for g in stale], second, list(first),
    [(k, len(list(g))) for k, g in groupby(range(7), key=lambda i: i // 3)], list(groupby([])),
    list(zip_longest([1], [2, 3], fillvalue=0)), list(pairwise([1, 2, 3])))
"""
    own: dict[str, object] = {}
    exec(text, own)
    assert ended_by(f"{text}\nassert given == {own['given']!r}") is None


def test_nothing_stays_of_the_blocks_that_a_program_has_not_left() -> None:
    """Autocast and forward mode, which are on from their beginning to their end."""
    text = """
import contextlib
stack = contextlib.ExitStack()
stack.enter_context(torch.autocast("cpu", dtype=torch.float16))
stack.enter_context(torch.autograd.forward_ad.dual_level())
assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype is torch.float16
"""
    before = torch.get_autocast_dtype("cpu")
    assert [ended_by(text), ended_by(text)] == [None, None]
    assert (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")) == (False, before)


@pytest.mark.parametrize("name", ["__str__", "__repr__ = __str__"])
def test_what_an_error_says_is_behind_the_guards(name: str) -> None:
    """It is asked for once the program has run: by a function of torch's, which would read beyond its memory, else."""
    read = "functools.partial(torch.segment_reduce, torch.ones(1), 'sum', lengths=torch.tensor([10**9]), unsafe=True)"
    error = ended_by(f"import functools\nclass E(Exception): {name} = {read}\nraise E()")
    assert error is not None
    with pytest.raises(JvpError):
        str(error)


@pytest.mark.parametrize(
    "block", ["contextlib.closing(Q())", "contextlib.ExitStack() as s:\n        s.callback(Q().close)\n        if 1"]
)
def test_nothing_is_changed_of_the_call_that_is_met(block: str) -> None:
    """Though another error takes the place of what ends the run there, as a block is left."""
    text = f"""
import contextlib
class Q:
    def close(self): raise ValueError
x = torch.ones(3, requires_grad=True)
y = x.sum()
try:
    with {block}: y.backward()
except ValueError: x.data.fill_(9)
"""
    code = compiled(text)
    seen, _ = run_through(code, SETTINGS)
    kept = at_call(code, seen, 1, SETTINGS, lambda call, *_: list(call.inputs.values()))
    assert kept[0].tolist() == [1, 1, 1]


def test_what_an_error_says_is_a_plain_text() -> None:
    """Whatever its own methods would make of it where it is looked at."""
    text = """
class S(str):
    def partition(self, mark): raise KeyError(mark)
class E(Exception):
    def __str__(self): return S('said')
raise E()
"""
    error = ended_by(text)
    assert error is not None
    assert type(words_of(error)) is str
    assert words_of(error) == "said"


def test_an_error_by_a_name_that_is_none() -> None:
    """It is the program's own error."""
    assert isinstance(ended_by("raise NameError('x', name=[])"), NameError)


def test_functions_of_a_program_are_called_in_backward() -> None:
    """As methods, objects that are called, or with a decorator of torch's."""
    assert ended_by(HOOKED) is None


def test_what_torch_calls_of_a_function_stays() -> None:
    """A class that a `Function` is derived from may change; what torch calls of the `Function` is what it was made with."""
    text = """
class Other:
    @staticmethod
    def backward(ctx, g): return 3 * g
class Kept(Other, Function):
    @staticmethod
    def forward(ctx, x): return x * 1
x, Other.backward = torch.ones(2, requires_grad=True), max
Kept.apply(x).sum().backward()
assert x.grad.tolist() == [3., 3.]
"""
    assert ended_by(text) is None


def test_warnings_show_nothing_of_a_program(recwarn: pytest.WarningsRecorder) -> None:
    """Python would print the line of the program that a library warns of, and what in it a terminal obeys."""
    assert ended_by("np.ones(3) / 0 # \x1b[2J\nx = torch.ones(2, requires_grad=True) * 2\nx.grad # \x1b[2J") is None
    assert not recwarn.list


BEYOND = (
    "F.embedding(i, x.view(2, 3))", "F.embedding_bag(i, x.view(2, 3), o)",
    "F.embedding_bag(torch.tensor([0, 1]), x.view(2, 3), i)",
    "x.gather(0, i)", "x.take(i)", "x[i]",
    "torch.zeros(6).scatter_add(0, i, x[:1])", "torch.zeros(6).index_add(0, i, x[:1])",
    "torch.zeros(6).index_copy(0, i, x[:1])", "torch.zeros(6).put(i, x[:1])", "F.nll_loss(x.view(1, 6), i)",
    "F.multi_margin_loss(x.view(1, 6), i)", "F.ctc_loss(x.view(2, 1, 3), i.view(1, 1), o + 2, o + 1)",
    "F.ctc_loss(x.view(2, 1, 3), torch.tensor([[1]]), i, o + 1)", "F.ctc_loss(x.view(2, 1, 3), torch.tensor([[1]]), o + 2, i)",
    "F.max_unpool1d(x.view(1, 1, 6)[:, :, :1], i.view(1, 1, 1), 2)",
)  # fmt: skip


@pytest.mark.parametrize("number", [10**9, -(2**62)])
@pytest.mark.parametrize("call", BEYOND)
def test_integers_that_lead_beyond_a_tensor_are_an_error(call: str, number: int) -> None:
    """Some number fits, and these don't, whether a rule says so or torch itself."""
    text = f"x, o, i = torch.ones(6, requires_grad=True), torch.tensor([0]), torch.tensor([{{}}])\n({call}).sum().backward()"
    assert any(ended_by(text.format(fitting)) is None for fitting in (0, 1, 2, 6))
    assert ended_by(text.format(number)) is not None


def test_transformers_take_no_way_that_no_guard_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch has a function of its own for a whole layer, which trusts its weights: Python calls it, and a program never does."""
    text = """
layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True).eval()
with torch.no_grad(): layer(torch.ones(2, 3, 4))
"""
    whole, calls = torch._transformer_encoder_layer_fwd, list[int]()

    def called(*given):
        calls.append(len(given))
        return whole(*given)

    monkeypatch.setattr(torch, "_transformer_encoder_layer_fwd", called)
    assert ended_by(text) is None
    assert not calls
    exec(compile(text, "<plain>", "exec"), {"torch": torch, "nn": torch.nn})
    assert len(calls) == 1


@pytest.mark.parametrize("when", ["before", "as it is computed"])
@pytest.mark.parametrize(
    "change", ["register_parametrization(m, 'weight', Twice())", "register_parametrization(m, 'weight', Putting())"]
)
def test_a_parametrization_changes_no_class_of_torch(when: str, change: str) -> None:
    """torch sets what computes a weight on the class of its module; which is the module's own, whatever its parts are called."""
    text = f"""
from torch.nn.utils.parametrize import register_parametrization
def put():
    m.parametrizations = nn.ModuleDict(dict(x=nn.Linear(1, 1)))
class Twice(nn.Module):
    def forward(self, w): return w * 2
class Putting(Twice):
    def train(self, mode=True):
        put()
        return self
m = nn.Linear(2, 2)
if {when == "before"}: put()
{change}
x = torch.ones(2, requires_grad=True)
y = m(x).sum()
"""
    before = {**vars(torch.nn.Linear)}
    ended_by(text)
    assert {**vars(torch.nn.Linear)} == before
