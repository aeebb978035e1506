"""What Python is written with: programs that depend on it are answered as plain Python runs them, or refused with the cause."""

from __future__ import annotations

import textwrap

import pytest
from executed import as_run, by_python, fits

from jvpcli.closed.execution import Settings, compiled, run_through
from jvpcli.errors import ForbiddenError, JvpError
from jvpcli.render.json import to_dict

HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\nx = torch.tensor([1., 2.], requires_grad=True)\n"

PROGRAMS = {
    "generators that stop inside of blocks": """
        from contextlib import contextmanager
        seen = []
        @contextmanager
        def mode(net, *rest, k=2., **named):
            "told"
            was = net.training
            net.eval()
            try:
                with torch.no_grad():
                    yield net(torch.ones(2)) * k
            except ValueError as error:
                seen.append(len(str(error)))
            finally:
                net.train(was)
        class Walk:
            def over(self, tree, /):
                try:
                    if not isinstance(tree, list):
                        yield tree
                    else:
                        for each in tree:
                            yield from self.over(each)
                finally:
                    seen.append(1)
        class Twice(Walk):
            def over(self, tree, /):
                for each in super().over(tree):
                    try:
                        yield 2 * each
                    finally:
                        seen.append(.5)
        net = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
        with mode(net, 1, k=3., z=4) as y:
            seen.append(net.training + 3.)
            raise ValueError("abc")
        (x * y * sum(Twice().over([1., [2., [3.]]])) * sum(seen) * (2. if net.training else 1.)).sum().backward()
        """,
    "generators that are told something": """
        def added():
            total = 0
            while True:
                try:
                    given = yield total
                except KeyError as error:
                    given = len(error.args)
                if given is None:
                    return total * 10
                total += given
        def outer():
            found = yield from added()
            yield found
        walk = outer()
        next(walk), walk.send(2), walk.throw(KeyError("a", "b"))
        (x * walk.send(None)).sum().backward()
        walk.close()
        """,
    "patterns": """
        from collections import namedtuple
        from dataclasses import dataclass
        from enum import Enum
        class Kind(Enum):
            A = 1
            B = 2
        @dataclass
        class Scaled:
            by: float
            power: int = 1
        class Counted:
            __match_args__ = ("k",)
            def __init__(self):
                self.seen = 0
            @property
            def k(self):
                self.seen += 1
                return 2.
        Pair = namedtuple("Pair", "a b")
        class Net(nn.Module):
            pass
        counted = Counted()
        def of(given):
            match given:
                case nn.Linear(in_features=n, out_features=m):
                    return n * m
                case nn.Module() | torch.Tensor():
                    return 3.
                case Kind.A | "a":
                    return 2.
                case Scaled(by, power=p) if p > 1:
                    return by * p
                case Scaled(by):
                    return -by
                case Counted(k):
                    return k * given.seen
                case Pair(a, _) | [a, "pair", *_]:
                    return a
                case {"name": "pow", "k": int() as k, **rest}:
                    return k + len(rest)
                case (("mul", float(k)), {"p": (p, 1)}):
                    return k * p
                case bool(b) | [b]:
                    return 5. if b else 6.
                case None:
                    return 7.
                case -1 | 2.5 | 1 + 2j:
                    return 8.
                case str(s):
                    return len(s)
            return 11.
        asked = ["a", Kind.A, Kind.B]
        asked += [ Scaled(2., 3), Scaled(.5), counted, Pair(3., 1), [1.5, "pair", 2], {"name": "pow", "k": 2, "u": 1}]
        asked += [(("mul", 2.), {"p": (3, 1)}), nn.Linear(2, 5), Net(), x, True, [0], None, 2.5, 1 + 2j, "four", 3.25]
        (x * torch.tensor([*map(of, asked)])[:, None]).cumprod(0).sum(0).log().sum().backward()
        """,
    "enumerations": """
        import enum
        from enum import Enum, Flag, IntEnum, auto
        class Mode(enum.Enum):
            MEAN = "mean"
            SUM = "sum"
            @classmethod
            def default(cls):
                return cls.SUM
            @property
            def factor(self):
                return 2. if self is Mode.MEAN else 3.
        class Planet(Enum):
            EARTH = (5., 6.)
            MARS = (1., 2.)
            def __init__(self, mass, radius):
                self.mass, self.radius = mass, radius
        class Named(str, Enum):
            SUM = "sum"
        class Axis(IntEnum):
            ROW = 0
            COLUMN = auto()
        class Way(Flag):
            R = auto()
            W = auto()
        a = torch.ones(2, 3) * x[:, None]
        y = a.sum(dim=Axis.COLUMN) * a[:, Axis.COLUMN] + F.mse_loss(x, torch.zeros(2), reduction=Named.SUM)
        y = y * Mode("mean").factor * Mode["SUM"].factor * len(Mode) * sum(len(m.name) for m in Mode) * Planet.MARS.radius
        y = y * (2. if Way.R in Way.R | Way.W else 1.) * len(Mode.__members__) * {Mode.SUM: 3.}[Mode.default()]
        try:
            Mode("none")
        except ValueError:
            y = y * 2
        y.sum().backward()
        """,
    "dictionaries, lists, texts and numbers of a program's own": """
        import copy, json
        class Config(dict):
            def __getattr__(self, name):
                try:
                    return self[name]
                except KeyError as error:
                    raise AttributeError(name) from error
            def __setattr__(self, name, value):
                self[name] = value
            __delattr__ = dict.__delitem__
        class Items(dict):
            def __init__(self, *args, **kwargs):
                super(Items, self).__init__(*args, **kwargs)
                self.__dict__ = self
        class Lower(dict):
            def __setitem__(self, key, value):
                super().__setitem__(key.lower(), value)
            def __missing__(self, key):
                return len(key)
        class Stack(list):
            def append(self, value):
                super().append(value * 2)
            @property
            def top(self):
                return self[-1]
        class Pair(tuple):
            def __new__(cls, *given):
                made = super().__new__(cls, given)
                made.count_ = len(given)
                return made
        class Word(str):
            def __new__(cls, text, k=1.):
                made = str.__new__(cls, text)
                made.k = k
                return made
        class Rate(float):
            def twice(self):
                return 2 * self
        c, items, lower, stack = Config(k=3, lr=.1), Items(k=3, sub=Items(p=2)), Lower(), Stack()
        c.p, items.m, lower["AB"] = 2, 5., 7.
        stack.append(x ** 2)
        twin = copy.deepcopy(items)
        twin.k = 4
        y = torch.stack(stack).sum() * stack.top * c.k * x ** c.p * len(c) * getattr(c, "none", 3.) * sum(lower.values())
        y = y * items.k * twin.k * items.sub.p * items["m"] * sum(Pair(1., 2.)) * Pair(1).count_ * Word("abc", 3.).k
        y = y * lower["abc"] * len(Word("de"))
        (y * Rate(1.5) * Rate(2.).twice() * len(json.dumps(items)) * len("{:>5}{}".format(Word("a"), 1))).sum().backward()
        """,
    "attributes that a class makes or keeps itself": """
        class Slots:
            __slots__ = ("a", "b")
            def __init__(self):
                self.a, self.b = 2., 3.
        class Frozen:
            def __init__(self, k):
                object.__setattr__(self, "k", k)
            def __setattr__(self, name, value):
                raise AttributeError("frozen")
        class Logged:
            def __init__(self):
                super().__setattr__("seen", [])
                self.k = 2.
            def __setattr__(self, name, value):
                self.seen.append(name)
                super().__setattr__(name, value)
            def __delattr__(self, name):
                super().__delattr__(name)
                self.seen.extend("ab")
        class One:
            one = None
            def __new__(cls, *given):
                if cls.one is None:
                    cls.one = super().__new__(cls)
                return cls.one
        class Positive:
            def __set_name__(self, owner, name):
                self.name = "_" + name
            def __get__(self, owner, kind=None):
                return self if owner is None else getattr(owner, self.name)
            def __set__(self, owner, value):
                if value <= 0:
                    raise ValueError(value)
                setattr(owner, self.name, value)
        class Held:
            k = Positive()
            def __init__(self, k, **named):
                self.k = k
                self.__dict__.update(named)
                vars(self)["more"] = 2.
        slots, frozen, logged, held = Slots(), Frozen(3.), Logged(), Held(3., z=5.)
        try:
            slots.c = 1
        except AttributeError:
            slots.b = 4.
        try:
            frozen.k = 1.
        except AttributeError as error:
            k = len(str(error))
        try:
            held.k = -1.
        except ValueError:
            k = k * 2
        del logged.k
        k = k * slots.a * slots.b * frozen.k * len(logged.seen) * held.k * held.z * held.more * len(held.__dict__)
        (x * k * (One() is One(1))).sum().backward()
        """,
    "classes that know of what is derived from them": """
        from abc import ABC, ABCMeta, abstractmethod
        class Kinds:
            made = {}
            def __init_subclass__(cls, /, key=None, **rest):
                super().__init_subclass__(**rest)
                cls.made[key or cls.__name__] = cls
        class Twice(Kinds, key="2"):
            k = 2.
        class Base(nn.Module):
            kinds = []
            def __init_subclass__(cls):
                cls.kinds.append(cls)
        class Net(Base):
            def forward(self, x):
                return x * Kinds.made["2"].k
        class Loss(ABC):
            @property
            @abstractmethod
            def weight(self): ...
            @classmethod
            @abstractmethod
            def name(cls): ...
            def __call__(self, x):
                return self.weight * x ** len(self.name())
            @classmethod
            def made(cls):
                return cls()
        class L2(Loss):
            weight = 3.
            @classmethod
            def name(cls):
                return "ab"
            @classmethod
            def made(cls):
                return super().made()
        class Meant(metaclass=ABCMeta):
            @abstractmethod
            def f(self): ...
        k = 1.
        for each in (Loss, Meant):
            try:
                each()
            except TypeError:
                k = k * 5
        Made = type("Made", (Twice,), {"f": lambda self, x: x * self.k, "__len__": lambda self: 3})
        y = Base.kinds[0]()(x) * L2.made()(x) * k * Made().f(x) * len(Made()) * isinstance(L2(), Loss)
        y.sum().backward()
        """,
    "operators under two names": """
        class V:
            def __init__(self, v):
                self.v = v
            def __add__(self, other):
                return V(self.v + (other.v if isinstance(other, V) else other))
            __radd__ = __add__
            def __imatmul__(self, other):
                self.v = self.v * other.v
                return self
            def __format__(self, spec):
                return format(2.5, spec or ".1f")
            def __str__(self):
                return "V"
            __repr__ = __str__
            def __reversed__(self):
                return iter([5., 2.])
        class W(V):
            def __add__(self, other):
                return V.__add__(self, other)
        v = sum([V(x), W(x * 2)])
        v @= V(x)
        (v.v * len(repr(v)) * len(f"{v}{v:.3f}") * next(reversed(v))).sum().backward()
        """,
    "what functions tell of themselves": """
        import functools
        def counted(function):
            @functools.wraps(function)
            def inner(*given):
                inner.calls += 1
                return function(*given) * len(inner.__name__) * len(inner.__doc__)
            inner.calls = 0
            return inner
        @counted
        def squared(x):
            "four"
            return x ** 2
        class A:
            "three"
            def method(self): "ab"
        names = sorted(map(str.strip, ["b", " A", "c "]), key=str.lower)
        k = squared.calls + len(squared.__wrapped__.__name__) + len(A.__doc__) + len(A().method.__doc__)
        k = k * len(torch.relu.__name__) * len("".join(names)) * len(A.__qualname__) * len(A().__class__.__name__)
        (squared(x) * k * squared.calls).sum().backward()
        """,
    "Python's own modules": """
        import contextlib, copy, io, math, operator, random, string, sys, textwrap, time, types
        from collections import ChainMap, Counter, UserDict, UserList, defaultdict
        from collections.abc import Mapping
        from functools import lru_cache, partialmethod, reduce
        random.seed(3)
        state = random.getstate()
        drawn = random.triangular() + random.getrandbits(3) + random.gammavariate(2., 1.)
        random.setstate(state)
        assert drawn == random.triangular() + random.getrandbits(3) + random.gammavariate(2., 1.)
        class Lower(UserDict):
            def __getitem__(self, key):
                return super().__getitem__(key.lower())
        class Kept(Mapping):
            def __init__(self, held): self.held = held
            def __getitem__(self, key): return self.held[key]
            def __iter__(self): return iter(self.held)
            def __len__(self): return len(self.held)
        class Noted(contextlib.ContextDecorator):
            seen = []
            def __enter__(self): self.seen.append(1)
            def __exit__(self, *error): self.seen.append(2)
        class A:
            k = 3.
            def scaled(self, by, x): return by * x * self.k
            twice = partialmethod(scaled, 2.)
            def __copy__(self):
                made = A()
                made.k = self.k + 1
                return made
        @lru_cache(maxsize=None)
        def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
        @Noted()
        def squared(x): return x ** 2
        lower, kept, layers, a = Lower({"a": 2.}), Kept({"b": 3.}), ChainMap({"a": 1.}, {"b": 2.}), A()
        a.more = types.MethodType(lambda self, x: x * self.k, a)
        lower["b"] = 5.
        y = squared(x) * sum(Noted.seen) * lower["A"] * len(lower.data) * sum(kept.values()) * kept.get("z", 4.) * layers["b"]
        y = y * a.twice(1.) * a.more(2.) * copy.copy(a).k * fib(10) * fib.cache_info().hits * len(UserList([1, 2]))
        y = y * operator.attrgetter("k")(a) * operator.methodcaller("scaled", 1., 2.)(a) * reduce(operator.pow, [2, 3])
        text = io.StringIO()
        print("a", 1.5, sep="-", file=text)
        text.write("bc")
        stack = contextlib.ExitStack()
        with stack:
            stack.callback(text.write, "d")
            stack.enter_context(Noted())
        words = textwrap.dedent("  a  b") + textwrap.indent(text.getvalue(), "> ") + string.Template("$k b").substitute(k=3)
        words += "{0[1]} {a.k:.2f} {b[c]:>{w}} {0!r}".format([1, 2], a=a, b={"c": 3}, w=9) + "".join(Counter("aab").elements())
        words += "{a} {b:>5}".format_map({"a": 1, "b": 2}) + "{:>{w}}".format(1, w=9) + "aXb".translate(str.maketrans("X", "Y"))
        k = math.cbrt(8.) if hasattr(math, "cbrt") else 2.
        k += math.dist([0, 0], [3, 4]) + math.ldexp(1., 2) + sum(math.modf(1.5)) + math.nextafter(1., 2.)
        k += pow(3, 4, 7) + pow(2, exp=3)
        k += sys.version_info.major + sys.float_info.epsilon + (5).bit_length() + len(range(*slice(None, None, 2).indices(6)))
        k += isinstance(fib, types.FunctionType) + isinstance(squared, types.FunctionType) + isinstance(a.more, types.MethodType)
        start = time.perf_counter_ns()
        saved, net = io.BytesIO(), nn.Linear(2, 1)
        torch.save(net.state_dict(), saved)
        saved.seek(0)
        twin = nn.Linear(2, 1)
        twin.load_state_dict(torch.load(saved))
        (y * k * len(words) * twin(x) * (2. if time.perf_counter_ns() > start else 1.)).sum().backward()
        """,
    "a command line that is written out": """
        import argparse, sys
        def parsed(argv=None):
            parser = argparse.ArgumentParser(description=__doc__)
            group = parser.add_argument_group("numbers")
            group.add_argument("--rate", "-r", type=float, default="0.5", help="how %(default)s")
            group.add_argument("--sizes", type=int, nargs="+", default=[1])
            parser.add_argument("--act", choices=["relu", "tanh"], default="relu")
            parser.add_argument("--fast", action="store_true")
            parser.add_argument("--bias", action=argparse.BooleanOptionalAction, default=True)
            parser.add_argument("-v", dest="loud", action="count", default=0)
            parser.set_defaults(turns=3)
            return parser.parse_args(argv)
        def main(argv):
            args, none = parsed(["-r", "2.5", "--sizes", "3", "4", "--act=tanh", "--no-bias", "-vv", "--fast"]), parsed(argv)
            y = getattr(torch, args.act)(x) * args.rate * sum(args.sizes) * args.turns * args.loud * len(vars(args))
            y = y * (2. if args.fast and not args.bias else 1.) * none.rate * (3. if none.bias and not none.fast else 1.)
            y.sum().backward()
            return 0
        if __name__ == "__main__":
            raise SystemExit(main([]))
        """,
    "errors that tell of others": """
        class Told(RuntimeError):
            code = 3
            def __init__(self, told=None, **more):
                super().__init__(told or "told")
                self.__dict__.update(more)
        k = 1.
        try:
            try:
                {}["abc"]
            except KeyError as error:
                raise Told(k=2.) from error
        except (Told, OSError) as error:
            k = error.k * error.code * len(error.__cause__.args[0]) * len(str(error)) * len(error.__class__.__name__)
        try:
            from torch.nn import NoSuchLayer
        except ImportError:
            k = k * 2
        try:
            next(iter([]))
        except StopIteration as stop:
            k = k * (3 if stop.value is None else 1)
        (x * k).sum().backward()
        """,
    "what stands behind the call that is meant": """
        import copy
        class Average:
            def __init__(self, net):
                self.net, self.held = net, {name: value.detach().clone() for name, value in net.state_dict().items()}
            def __enter__(self):
                self.own = copy.deepcopy(self.net.state_dict())
                self.net.load_state_dict(self.held)
            def __exit__(self, *error):
                self.net.load_state_dict(self.own)
        net = nn.Linear(2, 1)
        average = Average(net)
        with torch.no_grad():
            net.weight.mul_(3.)
        with average:
            net(x ** 2).sum().backward()
        """,
    "types": """
        from dataclasses import FrozenInstanceError, astuple, dataclass, field, fields, is_dataclass
        from typing import TYPE_CHECKING, ClassVar, Generic, NamedTuple, NewType, Protocol, TypedDict, TypeVar, cast, overload
        if TYPE_CHECKING:
            from numpy import nothing
        K = TypeVar("K")
        Width = NewType("Width", int)
        class Layer(Protocol):
            def forward(self, x): ...
        class Squared(Layer):
            def forward(self, x): return x ** 2
        class Cache(Generic[K], dict):
            def fetch(self, key: K) -> float: return self[key]
        class Wide(Cache[int]): pass
        @dataclass(frozen=True, unsafe_hash=True, slots=True)
        class C:
            total: ClassVar[int] = 7
            k: float = 2.
            hs: tuple = field(default_factory=lambda: (1, 2))
        class Told(TypedDict, total=False):
            k: float
        @overload
        def f(x: int) -> int: ...
        def f(x): return x
        c = C(3.)
        try:
            c.k = 2.
        except FrozenInstanceError:
            y = x * c.k * C.total * len(fields(c)) * astuple(c)[0] * len({C(), C(), c}) * is_dataclass(c)
        y = y * Cache[int](u=3.).fetch("u") * Wide(u=2.).fetch("u") * Told(k=5.)["k"] * cast(float, f(2.)) * Width(3)
        Squared().forward(y).sum().backward()
        """,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_are_those_of_plain_python(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = HEAD + textwrap.dedent(PROGRAMS[name])
    expected = by_python(text, monkeypatch)
    found = [*to_dict(as_run(text))["vjp"].values()]
    assert found
    assert all(any(fits(each, gradient) for gradient in expected) for each in found), (found, expected)


TRIES = {
    "attributes that numpy asks for": (
        "class A:\n    def __getattr__(self, name): return MEMORY\nnp.asarray(A())",
        "class A(dict):\n    __getattr__ = dict.get\na = A(__array_interface__=MEMORY)\nnp.asarray(a)",
        "class A: pass\na = A(); vars(a)['__array_interface__'] = MEMORY",
        "class A: pass\na = A(); a.__dict__.update({'__array_interface__': MEMORY})",
        "class A:\n    __slots__ = ('__array_interface__',)",
        "class A:\n    __array_interface__ = MEMORY",
        "class A: pass\nobject.__setattr__(A(), '__array_interface__', MEMORY)",
        "class A: pass\nsetattr(A(), '__array_interface__', MEMORY)",
        "type('A', (), {'__array_interface__': MEMORY})",
        "from types import SimpleNamespace\nn = SimpleNamespace(); vars(n)['__array_interface__'] = MEMORY",
        "from types import SimpleNamespace\nn = SimpleNamespace(); n.__dict__['__array_interface__'] = MEMORY",
        "m = nn.Linear(1, 1)\nclass S(str):\n    def startswith(self, *a): return False\n"
        "m.register_buffer(S('__array_interface__'), x)",
        "class S(str):\n    def startswith(self, *a): return False\nnn.ParameterDict({S('__array__'): nn.Parameter(x)})",
        "import argparse\nclass S(str):\n    def replace(self, *a): return '__array_interface__'\n"
        "argparse.ArgumentParser().add_argument(S('--a'), default=MEMORY)",
        "class M(nn.Module):\n    _parameters = property(lambda s: [], lambda s, v: None)\nM().__dict__",
    ),
    "texts that Python runs": (
        "class S(str): pass\nS('{0.__class__}').format(1)",
        "class S(str): pass\nS('{a.__class__}').format_map({'a': 1})",
        "str.format('{0.__class__}', 1)",
    ),
    "numbers and texts of any size": (
        "class N(int):\n    def bit_length(self): return 1\n    def __abs__(self): return 1\nN(10**9) ** N(10**9)",
        "class N(int):\n    def __gt__(self, other): return False\n[0] * N(10**9)",
        "class S(str):\n    def __len__(self): return 0\n    def __iter__(self): return iter('')\nS('%1000000000d') % 3",
        "class L(list):\n    def __len__(self): return 0\nL([0]) * 10**9",
        "list.__mul__([0], 10**9)", "int.__pow__(10, 10**9)", "int.__round__(5, -10**9)", "int.__lshift__(1, 10**10)",
        "class L(list):\n    def f(self): return super().__mul__(10**9)\nL([0]).f()",
        "class S(str): pass\nS('a').ljust(10**9)",
        "class N(int):\n    def __lt__(self, other): return True\nF.max_pool2d(torch.ones(1, 1, 4, 4), 2, dilation=N(2**31 - 1))",
        "class N(int):\n    def __int__(self): return 1\n    def __mul__(self, other): return 1\ntorch.zeros(N(2**40), N(2**40))",
        "class T(tuple): pass\ntorch.ones(2).expand(T((2**62, 2)))",
    ),
    "objects that nothing has made": (
        "object.__new__(torch.optim.SGD)", "object.__new__(nn.LSTM)",
        "class A:\n    def __new__(cls): return super().__new__(nn.LSTM)\nA()",
        "class N(nn.Module):\n    def __new__(cls): return 3",
        "class A:\n    def __new__(cls): return 3\nclass N(A, nn.Module): pass",
        "class N(nn.Module):\n    def __getattr__(self, name): return 3", "dict.__new__(object)", "object.__new__(dict)",
        "type('N', (nn.Module,), {})", "type('G', (torch.autograd.Function,), {'backward': max})",
    ),
    "what torch calls of a Function": (
        "class D:\n    def __get__(self, *a): return max\nclass G(torch.autograd.Function):\n    backward = D()",
        "class D:\n    def __get__(self, *a): return max\n    def __call__(self): pass\nclass B:\n    backward = D()\n"
        "class G(B, torch.autograd.Function): pass",
        "class G(torch.autograd.Function):\n    @classmethod\n    @property\n    def backward(cls): return max",
        "class D:\n    def __set_name__(self, owner, name): owner.apply(x)\nclass G(torch.autograd.Function):\n    d = D()",
        "class B:\n    def __init_subclass__(cls): cls.apply(x)\nclass G(B, torch.autograd.Function): pass",
    ),
    "what reads for a program": (
        "match (k for k in [1]):\n    case object(gi_frame=f): pass",
        "match x:\n    case torch.Tensor(_base=b): pass",
        "class A:\n    __match_args__ = ('__class__', '__weakref__')\nmatch A():\n    case A(k, d): pass",
        "class M(nn.Module):\n    k = property(lambda s: 1)\nmatch M():\n    case M(k=k, share_memory=f): pass",
        "class E(Exception): pass\ntry: raise E()\nexcept E as e: e.__traceback__",
        "import enum\nclass C(enum.Enum):\n    A = 1\nC._new_member_",
        "import enum\nclass C(enum.Enum):\n    A = 1\nC._member_map_",
        "dict.__subclasses__()", "dict.__base__", "object.__reduce_ex__", "int.__class__", "class A: pass\nA.__mro__",
        "def f(): pass\nf.__globals__", "def f(): pass\nf.__code__ = 1", "class A: pass\nA.__bases__ = ()",
        "class A:\n    def __del__(self): pass", "class A:\n    def __index__(self): return 1",
        "class A:\n    def __getattribute__(self, name): return 1", "class A:\n    def __buffer__(self, flags): return 1",
        "class A:\n    def __deepcopy__(self, memo): return memo", "class A:\n    __class__ = int",
        "class A(metaclass=type(int)): pass", "from abc import abstractmethod\nabstractmethod(F.relu)",
    ),
}  # fmt: skip
"""What a program might try by what classes, matches and texts of its own can do."""

START = "x, MEMORY = torch.ones(2), {'data': (1, False), 'shape': (1,), 'typestr': '<f8', 'version': 3}\n"


def _ended_by(text: str) -> BaseException | None:
    try:
        return run_through(compiled(text), Settings(memory_limit=2 * 10**9))[1]
    except ForbiddenError as refused:
        return refused


@pytest.mark.parametrize("family", TRIES)
def test_tries_are_refused(family: str) -> None:
    assert [text for text in TRIES[family] if not isinstance(_ended_by(START + text), JvpError)] == []


@pytest.mark.parametrize("fields", ["[S('a: print(1)')]", "S('a: print(1)')", "[T()]"])
def test_names_of_named_tuples_are_what_python_takes_them_for(fields: str) -> None:
    """Python runs a text that is made of them, once each has said that it is a name."""
    text = """
import collections
class S(str):
    def isidentifier(self): return True
    def replace(self, *given): return self
    def split(self): return [self]
    def __str__(self): return self
class T:
    def __str__(self): return S("a: print(1)")
"""
    assert isinstance(_ended_by(f"{text}collections.namedtuple('A', {fields})"), (ValueError, ForbiddenError))


@pytest.mark.parametrize("ask", ["np.ones(1) + a", "np.ones(1)[a]", "np.ones(1) == a", "np.float64(1) * a"])
@pytest.mark.parametrize(
    "made",
    [
        "class A:\n    def __getattr__(self, name): return MEMORY\na = A()",
        "class A(dict):\n    __getattr__ = dict.get\na = A(__array_interface__=MEMORY, __array_struct__=MEMORY)",
        "class A(dict):\n    def __init__(self): self.__dict__ = self\na = A(); a['__array_interface__'] = MEMORY",
        "class A(list):\n    def __len__(self):\n        self.clear(); return 3\na = A([1, 2, 3])",
        "made = []\nclass D:\n    def __set_name__(self, owner, name): made.append(owner())\n"
        "class A:\n    d = D()\n    def __getattr__(self, name): return MEMORY\na = made[0]",
        "made = []\nclass B:\n    def __init_subclass__(cls): made.append(cls())\n"
        "class A(B):\n    def __getattr__(self, name): return MEMORY\na = made[0]",
    ],
)  # fmt: skip
def test_numpy_takes_no_object_of_a_program_for_an_array(made: str, ask: str) -> None:
    error = _ended_by(f"{START}{made}\nfound = {ask}\nassert found is False or not any(found) , 'taken'")
    assert error is None or (isinstance(error, (JvpError, TypeError, IndexError)) and "taken" not in str(error)), error


REFUSED = {
    "The generator on line 2 stops inside of `with` or `try`, and is thrown away there": """
        def counted():
            try:
                yield 1.
            finally:
                print("end")
        for k in counted():
            break
        """,
}


@pytest.mark.parametrize("told", REFUSED)
def test_what_is_refused_is_told_with_its_line_and_cause(told: str) -> None:
    error = _ended_by(textwrap.dedent(REFUSED[told]))
    assert isinstance(error, ForbiddenError)
    assert str(error).startswith(told)


def test_nothing_of_a_generator_runs_behind_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    """Its end would run without the guards where it is thrown away: in the middle of what numpy goes through, for one."""
    text = """
ended = []
class Swallowed:
    def __enter__(self): return self
    def __exit__(self, *error): return True
def stopping():
    while True:
        with Swallowed():
            try: yield 1
            finally: ended.append(1)
def held():
    it = stopping(); next(it); return it
it = held(); ring = [held()]; ring.append(ring); del ring
"""
    code = compiled(text)
    names: dict[str, object] = {}
    from jvpcli.closed import execution

    class Kept(execution.Program):
        def __init__(self, *given):
            super().__init__(*given)
            names.update(program=self)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(execution, "Program", Kept)
        assert run_through(code, Settings())[1] is None
    assert names["program"].globals["ended"] == []
    names.clear()
    assert capsys.readouterr().err == ""
