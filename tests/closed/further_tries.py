"""Tries of programs to break out, by family, that were made against the finished guards."""

from __future__ import annotations

UNSAFE = "functools.partial(torch.segment_reduce, reduce='sum', lengths=torch.tensor([10**9]), unsafe=True)"


def _above(bases: str, given: str, names: str) -> list[str]:
    """Classes that have something of their own by names that torch or Python has too, and ask for what is above it."""
    return [
        f"""
class M({bases}):
    def {name}(self, *a, **k): return 3
    def ask(self): return super().{name}
M({given}).ask()
"""
        for name in names.split()
    ]


def _scheduled(kind: str, ask: str) -> str:
    return f"""
class P(nn.Module):
    def forward(self, e): return 1.0
o = torch.optim.SGD([torch.ones(2, requires_grad=True)], lr=.1, momentum=.9)
s = torch.optim.lr_scheduler.{kind}
{ask}
"""


def _meeting(first: str, then: str) -> str:
    """A list whose first item, asked for its length or an item of its own, empties it."""
    return f"""
L = []
class M(torch.utils.data.Dataset):
    def __len__(self):
        L.clear(); return 3
    def __getitem__(self, i):
        L.clear(); return 1.0
import functools
L = [{first}] + [1.0]*100000
{then}
"""


UNGUARDED = f"functools.partial(max, torch.ones(5), key={UNSAFE})"
"""What calls a function of torch's, whatever it is itself called with."""


def _of_function(more: str, asked: str = "G.apply(torch.ones(5, requires_grad=True)).sum().backward()") -> str:
    """A `Function`, of which torch calls something that is no function of the program."""
    return f"""
import functools
class Other: pass
class G(Other, Function):
    generate = 3
    {more}
{asked}
"""


PLAIN = "forward = staticmethod(lambda ctx, x: x*1)"
SET_UP = "forward = staticmethod(lambda x: x*1); setup_context = staticmethod(lambda ctx, i, o: None)"

FURTHER: dict[str, tuple[str, ...]] = {
    "imports from what is no namespace": (
        *(f"from {path} import {name} as found" for path, names in (
            ("torch.nn.Module", "__setattr__ __getattr__ __dict__ _call_impl _apply compile"),
            ("torch.nn.Linear", "__constants__"),
            ("torch.no_grad", "__init__ __enter__"), ("torch.sin", "__wrapped__"), ("math.factorial", "__wrapped__"),
            ("functools.partial", "__setstate__ __reduce__ __getattribute__ func"), ("collections.deque", "__reduce__"),
            ("collections.OrderedDict", "__reduce__"), ("torch.distributions.Normal", "arg_constraints __init__"),
            ("torch.optim.lr_scheduler.StepLR", "__init__"), ("torch.autograd.Function", "_backward_cls vjp"),
            ("torch.dtype", "__reduce__"), ("torch.Size", "__reduce__"), ("torch.nn.Parameter", "__reduce_ex__"),
            ("torch.autocast", "__init__"), ("torch.amp.GradScaler", "__init__"), ("contextlib.nullcontext", "__init__"),
            ("torch.utils.data.TensorDataset", "__init__"),
        ) for name in names.split()),
        "import torch.nn.Module.__setattr__ as found", "import functools.partial.__reduce__ as found",
        "from math.comb import __wrapped__ as f\nf(10**6, 5*10**5)", "from torch.nn.Module import *\nregister_parameter",
    ),
    "what torch calls of a Function": (
        *(_of_function(f"{PLAIN}\n    backward = {of.format(UNGUARDED)}") for of in (
            "{}", "staticmethod({})", "classmethod({})", "staticmethod(torch.no_grad()({}))", "functools.lru_cache({})",
            "staticmethod(torch.autograd.function.once_differentiable({}))", "staticmethod(torch.autocast('cpu')({}))")),
        _of_function(PLAIN, f"G.backward = {UNGUARDED}"),
        _of_function(PLAIN, f"setattr(G, 'vjp', staticmethod({UNGUARDED}))"),
        f"""
import functools
class Other:
    backward = staticmethod({UNGUARDED})
class G(Other, Function):
    {PLAIN}
class H(G): pass
H.apply(torch.ones(5, requires_grad=True)).sum().backward()
""",
        _of_function(f"forward = staticmethod(lambda x: x*1); setup_context = staticmethod({UNGUARDED})",
                     "torch.func.grad(lambda x: G.apply(x).sum())(torch.ones(5))"),
        _of_function(f"{SET_UP}; vmap = staticmethod({UNGUARDED})", "torch.func.vmap(G.apply)(torch.ones(5, 5))"),
        _of_function(f"{SET_UP}; jvp = staticmethod({UNGUARDED})", "torch.func.jvp(G.apply, (torch.ones(5),), (torch.ones(5),))"),
        *(f"""
import functools
class Other(nn.Linear):
    def ask(self, hook): {through}
{made}.ask({UNGUARDED}) if {own} else {made}.register_full_backward_hook({UNGUARDED})
""" for through, made, own in (
            ("pass", "nn.Linear(5, 5)", False), ("pass", "Other(5, 5)", False),
            ("self.register_full_backward_hook(hook)", "Other(5, 5)", True),
            ("super().register_full_backward_hook(hook)", "Other(5, 5)", True),
            ("getattr(self, 'register_full_backward_hook')(hook)", "Other(5, 5)", True))),
        "m = nn.Linear(5, 5)\nm.register_full_backward_hook(nn.MaxPool2d(2, dilation=2**31-1))",
    ),
    "what torch and Python have above a class": (
        *_above("nn.Module", "", "_call_impl _slow_forward _apply _load_from_state_dict _named_members _register_state_dict_hook "
                "_replicate_for_data_parallel compile to_empty share_memory type set_submodule get_buffer"),
        *_above("nn.LSTM", "2, 3", "_init_flat_weights all_weights check_input get_expected_hidden_size permute_hidden"),
        *_above("Exception", "", "with_traceback"),
        *_above("Function", "", "_raw_saved_tensors to_save metadata saved_for_forward next_functions _register_hook name apply"),
        "class A(nn.BatchNorm1d):\n    def _apply(self, f): return super()._apply(f)\nA(9)._apply(lambda t: t.new_zeros(0))",
    ),
    "states of schedules": (
        _scheduled("LambdaLR(o, P())", 's.load_state_dict({"optimizer": P()})'),
        _scheduled("LambdaLR(o, P())", 's.load_state_dict({"lr_lambdas": [P()]})'),
        _scheduled("LambdaLR(o, P())", 's.load_state_dict({"last_epoch": P()})'),
        _scheduled("LambdaLR(o, P())", "s.load_state_dict({'__class__': 3})"),
        _scheduled("CyclicLR(o, .1, .2, scale_fn=P(), cycle_momentum=False)", 's.load_state_dict({"_scale_fn_custom": 3})'),
        _scheduled("ReduceLROnPlateau(o)", 's.load_state_dict({"best": [o]})'),
        _scheduled("ReduceLROnPlateau(o)", "s.state_dict.__self__"),
        _scheduled("ChainedScheduler([torch.optim.lr_scheduler.StepLR(o, 1)])", "s.state_dict()"),
    ),
    "states of optimizers": tuple(
        f"""
w = torch.ones(2, requires_grad=True); o = torch.optim.Adam([w], lr=.1)
w.sum().backward(); o.step()
class P: pass
class Own(torch.optim.Optimizer):
    def __init__(self, params): super().__init__(params, dict(lr=.1))
{each}
"""
        for each in (
            'o.load_state_dict({"state": {0: P()}, "param_groups": o.state_dict()["param_groups"]})',
            'o.load_state_dict({"state": {0: {"exp_avg": P()}}, "param_groups": o.state_dict()["param_groups"]})',
            'o.load_state_dict({"state": {}, "param_groups": [{"params": [0], "lr": P()}]})',
            "o.load_state_dict(P())",
            "o.load_state_dict.__func__",
            "Own([w]).register_step_post_hook(print)",
            "Own([w]).profile_hook_step(print)",
            "Own([w])._patch_step_function()",
            "class Other(torch.optim.Adam): pass",
            "class A(torch.optim.Optimizer):\n    def __getattr__(self, name): return 3",
            "super(Own, Own([w])).__setstate__({})",
        )
    ),
    "weights that are computed from others": tuple(
        f"""
from torch.nn.utils.parametrize import register_parametrization
class Same(nn.Module):
    def forward(self, w): return w
    def train(self, mode=True):
        {"Same.right_inverse = lambda self, w: torch.ones(1)" if early else "return self"}
class M(nn.Module):
    def forward(self): return 0
def f(a):
    y, i = F.max_pool2d(a, 2, return_indices=True)
    return F.max_unpool2d(y, i, 2), i
y, pull, i = torch.func.vjp(f, torch.randn(1, 1, 8, 8), has_aux=True)
m = M(); m.register_buffer("i", i)
register_parametrization(m, "i", Same())
Same.right_inverse = lambda self, w: w
{change}
pull(torch.ones(1, 1, 8, 8))
"""
        for early, change in (
            (True, ""), (False, "m.i = i + 10**12"), (False, "torch.func.functional_call(m, dict(i=i + 10**12), ())"))
    ),
    "names that are taken for others": tuple(
        f"""
class Name(str):
    said, turns = "", 0
    def __hash__(self): return hash(Name.said) if Name.said else str.__hash__(self)
    def __eq__(self, other):
        Name.turns += 1
        return str(other) == Name.said if Name.said else str.__eq__(self, other)
class Key(str):
    def __hash__(self): return hash("__array_interface__" if Name.turns else "step_size")
    def __eq__(self, other):
        Name.turns += 1
        return True
bad = dict(data=(4096, False), shape=(3,), typestr="<f8", version=3)
name = Name("a")
{make}
Name.said = {said!r}
{give}
np.ones(3) + held
"""
        for make, said, give in (
            ("held = torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.ones(2)], lr=.1), 1); new = {Key('a'): bad}; "
             "Name.turns = 0", "", "held.load_state_dict(new)"),
            ("held = nn.ParameterDict()", "__array_interface__", "held[name] = bad"),
            ("held = nn.ModuleDict()", "__array__", "held[name] = nn.Identity()"),
            ("held = nn.Linear(2, 2)", "__array__", "held.register_buffer(name, torch.ones(3))"),
        )
    ),
    "keys of optimizers": tuple(
        f"""
class Key:
    turns = 0
    def __hash__(self): return hash("fused")
    def __eq__(self, other):
        Key.turns += 1
        if Key.turns == {turn}:
            for name in list(state): state[name] = torch.ones(1)
            group["fused"] = True
        return False
w = torch.ones(100000, requires_grad=True); w.grad = torch.ones(100000)
o = torch.optim.SGD([w], lr=.1, momentum=.9)
o.step()
group, state = o.param_groups[0], o.state_dict()["state"][0]
del group["fused"]; group[Key()] = 1; group["fused"] = False
o.step()
if Key.turns < {turn}: eval("it was not asked so often")
"""
        for turn in (2, 3, 4)
    ),
    "torch's functions as hooks": (
        *(
            f"""
import functools
x = torch.ones({shape}, requires_grad=True); y = x*2
{where}.register_hook({hook})
y.sum().backward()
"""
            for where in ("x", "y")
            for shape, hook in (
                ("5", UNSAFE),
                ("1, 1, 4, 4", "nn.MaxPool2d(2, dilation=2**31-1)"),
                ("4", "functools.partial(torch.repeat_interleave, repeats=torch.tensor([2**62]))"),
                ("4", "functools.partial(torch.as_strided, size=(10**9,), stride=(1,))"),
                ("4", f"torch.no_grad()({UNSAFE})"),
                ("4", f"torch.func.vmap({UNSAFE})"),
                ("4", "functools.partial(getattr, torch.ones(1))"),
            )
        ),
        """
def deep(n):
    with torch.enable_grad():
        x = torch.ones(5, requires_grad=True); y = x*2
        y.register_hook(lambda g: deep(n-1) if n else None)
        y.sum().backward()
deep(60)
""",
        f"""
import functools
nn.TripletMarginWithDistanceLoss(distance_function={UNSAFE})(torch.ones(5), torch.ones(5), torch.ones(5))
""",
    ),
    "devices": (
        *(f"torch.ones(3, device={device!r})" for device in (
            "meta", "xla", "lazy", "mps", "xpu", "hpu", "vulkan", "mtia", "privateuseone", "ipu", "maia", "mkldnn", "meta:5")),
        'torch.device("meta")', 'torch.device("lazy", 0)', 'torch.device(type="meta")', 'torch.ones(3).to("meta")',
        'nn.Linear(2, 2, device="meta")',
        'torch.ones(3).new_zeros(3, device="meta")', 'torch.tensor([1], device="meta")', 'torch.Tensor.to(torch.ones(3), "meta")',
        'with torch.device("meta"):\n    torch.ones(3)', 'torch.ones(3).type("torch.sparse.FloatTensor")',
        'torch.ones(3, device=["meta"][0])', 'functools = 1\nimport functools\nfunctools.partial(torch.ones, device="meta")(3)',
    ),
    "sparse gradients": (
        "nn.Embedding(10, 3, sparse=True)(torch.tensor([1]))",
        "e = nn.Embedding(10, 3); e.sparse = True; e(torch.tensor([1]))",
        "F.embedding(torch.tensor([1]), torch.ones(9, 3), None, None, 2., False, True)",
        "torch.embedding(torch.ones(9, 3), torch.tensor([1]), -1, False, True)",
        'nn.EmbeddingBag(10, 3, mode="sum", sparse=True)(torch.tensor([1]), torch.tensor([0]))',
        'F.embedding_bag(torch.tensor([1]), torch.ones(9, 3), torch.tensor([0]), mode="sum", sparse=True)',
    ),
    "places of sparse gradients": tuple(
        f"x = torch.ones(3, requires_grad=True); i = torch.tensor(0); y = {gather}; y.backward(); i.fill_(10**9); x.grad + 1"
        for gather in ("torch.gather(x, 0, i, sparse_grad=True)", "x.gather(0, i, sparse_grad=True)",
                       "torch.Tensor.gather(x, dim=0, index=i, sparse_grad=True)")
    ),
    "names that stand for torch's": (
        *(f"{text}" for text in (
            '__name__ = "torch.return_types"', "for __name__ in [1]: pass", "import math as __name__", "def __name__(): pass",
            "class A:\n    __name__ = 1", "lambda __name__: 0", "def f():\n    global __name__\n    __name__ = 1", "del __name__",
            "try: 1/0\nexcept Exception as __name__: pass", "[0 for __name__ in [1]]", "(__name__ := 3)",
            "with torch.no_grad() as __name__: pass", "import collections\ncollections.namedtuple('P', 'a').__name__ = 1",
            "__name__, x = 1, 2", "f'{(__name__ := 3)}'",
        )),
    ),
    "what numpy goes through": (
        *(_meeting(first, then) for first in (
            "M() + M()", "torch.utils.data.Subset(M(), [0]) + M()", "torch.utils.data.TensorDataset(torch.ones(2)) + M()",
            "sum([M(), M()], M())", "torch.utils.data.random_split(range(3), [1, 2])[0] + M()",
        ) for then in ("np.ones(2) + L", "np.ones(2) == L", "sum([L], np.ones(2))", "np.float64(L)", "a = np.ones(2); a[:] = L")),
        *("a = np.ones(2) + [10**30, 1]\n" + change for change in (
            "a[0] = 3", "a[0] += 3", "for a[0] in [3]: pass", "a[0], b = 1, 2", "[0 for a[0] in [3]]", "[*a[:]] = [1, 2]",
            "with torch.no_grad() as a[0]: pass", "a[:] = 3", "a[a > 1] = 0")),
    ),
    "what a program is given of ours": (
        "plt.__class__", "plt.__init__", "plt._with", "import logging\nlogging.__call__", "class A(plt.__class__): pass",
        "import copy\ncopy.deepcopy(getattr)((), '__class__')", "import copy\ncopy.copy(hasattr).__self__",
        "import copy\ncopy.deepcopy(torch.func.grad(torch.sum))._watch",
    ),
    "copies of integers": (
        "import copy\ncopy.copy(torch.ones(3).long())",
        "import copy\ncopy.copy(nn.Parameter(torch.ones(3).long(), requires_grad=False))",
        "import copy\nt = torch.ones(3).long()\ncopy.deepcopy([t, t[:]])",
        "import copy\nt = torch.ones(3) > 0\ncopy.deepcopy({1: t, 2: t.T})",
        "torch.ones(3).view(torch.int32)",
        "torch.ones(3, dtype=torch.float64).view(dtype=torch.int64)",
        "torch.ones(3).long().view(torch.float64)",
        "torch.ones(2).long().unsafe_chunk(1)",
        "torch.unsafe_split(torch.ones(2), 1)",
        "torch.ones(2).unsafe_split_with_sizes([2])",
    ),
    "derivatives asked for later": tuple(
        f"""
x, L = torch.randn(1, 1, 8, 8), []
def f(a):
    y, i = F.max_pool2d(a, 2, return_indices=True); L.append(i); L.append(i.data); return y, i
y, pull, i = torch.func.vjp(f, x, has_aux=True)
{change}
pull(torch.ones(1, 1, 4, 4))
"""
        for change in ("i.fill_(10**12)", "i[0] = 10**12", "i += 10**12", "L[0].zero_()", "L[1].zero_()", "i.T.zero_()",
                       "i.data = i + 1", "F.threshold(i, 99, 0, inplace=True)", "i.detach().zero_()", "i.data.zero_()",
                       "torch.fill_(i, 3)",
                       *("i.grad = torch.full_like(i, 10**12); torch.optim.SGD([i], lr=1" + way + ").step()"
                         for way in ("", ", foreach=True")),
                       "j = i.clone(); j.grad = i; torch.optim.SGD([j], lr=1).zero_grad(set_to_none=False)")
    ),
    "attention": (
        "F.scaled_dot_product_attention(torch.ones(1,1,2,64), torch.ones(1,1,2,64), torch.ones(1,1,3000000,64))",
        "torch.func.vmap(F.scaled_dot_product_attention)(torch.ones(2,1,2,4), torch.ones(2,1,2,4), torch.ones(2,1,900,4))",
    ),
    "texts of the program's own": tuple(
        f"""
class S(str):
    def f(self, *given): return super().{call}
S("{{{field}.__init__.__globals__}}").f(torch.no_grad)
"""
        for field, call in ((0, "format(*given)"), ("a", "format_map(dict(a=given[0]))"), (0, "center(10**9)"))
    ),
    "what is made in the place of an object": (
        *(f"""
import copy
class A:
    __slots__ = ("{name}",)
    given = None
    def __new__(cls, *_): return cls.given or super().__new__(cls)
a = A()
a.{name} = {value}
A.given = {other}
copy.{way}(a)
""" for name, value, other, way in (
            ("forward", "lambda self, x: 42", "nn.Linear(2, 2)", "copy"), ("hooked", "5", "torch.relu", "copy"),
            ("data", "torch.ones(9, 9)", "torch.ones(1)", "deepcopy"), ("relu", "5", "torch", "deepcopy"))),
        """
import enum
class E(enum.Enum):
    def __new__(cls, *_): return torch.nn
    A = ("torch.nn", {"Linear": 5})
""",
        """
from collections import UserDict
class A(UserDict):
    given = None
    def __new__(cls, *_): return cls.given or super().__new__(cls)
a = A()
a.in_features = 5
A.given = nn.Linear(2, 2)
a.copy()
""",
        "class A:\n    __new__ = staticmethod(lambda *_: torch)\nA()",
    ),
    "what other programs have, too": (
        "from collections import UserDict\nUserDict.copy = 5", "from collections import UserList\nUserList.a = 5",
        "from collections import ChainMap\nsetattr(ChainMap, 'a', 5)", "import enum\nenum.Enum.a = 5",
        "import contextlib\ncontextlib.ContextDecorator.a = 5", "import enum\nenum.IntFlag.a = 5",
        "from collections import UserDict\nimport dataclasses\ndataclasses.dataclass(UserDict)",
        "from collections import OrderedDict\nimport functools\nfunctools.total_ordering(OrderedDict)",
        "from collections import OrderedDict\na = OrderedDict()\na.__dict__ = a",
    ),
    "errors that read memory": (
        "str(UnicodeDecodeError('utf-8', b'x', -10**15, 1 - 10**15, ''))", "raise UnicodeEncodeError('utf-8', 'x', -9, -8, '')",
    ),
}  # fmt: skip
