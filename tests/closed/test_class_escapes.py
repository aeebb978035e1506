"""Programs with classes in them can't break out as Python runs them: tries by family, of objects, contexts and parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from jvpcli.closed.execution import Settings, compiled, run_through
from jvpcli.errors import JvpError

START = """\
x = torch.tensor([1., 2.])
class N(nn.Module):
    def __init__(self, k=2.0):
        super().__init__()
        self.l = nn.Linear(2, 2)
        self.ls = nn.ModuleList([nn.Linear(2, 2), nn.Tanh()])
        self.w = nn.Parameter(torch.ones(2))
        self.k = k
    def scaled(self, t):
        return t * self.k
    def forward(self, t):
        return self.scaled(self.l(t)) * self.w
class S(torch.autograd.Function):
    @staticmethod
    def forward(ctx, t):
        ctx.save_for_backward(t)
        return t.sin()
    @staticmethod
    def backward(ctx, g):
        t, = ctx.saved_tensors
        return g * t.cos()
n = N()
y = S.apply(n(x))
"""

REFUSED: dict[str, tuple[str, ...]] = {
    "objects": (
        "n.__dict__", "n.__class__.__mro__", "n._modules", "n._parameters", "n.forward.__globals__", "n.forward.__func__",
        "n.scaled.__self__", "n.ls._modules", "n.w.__class__", "n.k.__class__", "N.__subclasses__()",
        "N.forward.__code__", "n.__call__.__func__", "n.load_state_dict(torch.load('CANARY'))", "n.__class__ = N",
        "n.open('CANARY')",
    ),
    "definitions": (
        "class A(dict):\n    pass\nnp.asarray(A(k=x))", "class A(type):\n    pass\nA('B', (), {})",
        "class A(metaclass=type):\n    pass\na = A()",
        "import typing\nclass P(typing.NamedTuple):\n    a: int\n    __slots__: int\nP(x, x)",
        "class A:\n    t = 2\n    def __getattr__(self, o):\n        return x\na = A()\na.__mro__",
        "class A:\n    k = __import__('os')\na = A()\na.k",
        "class N:\n    def os(self):\n        return torch.os\nm = N()\nm.os()",
    ),
    "what __init__ does": (
        (
            "class A(nn.Module):\n    def __init__(self):\n        self.__class__ = N\n    def forward(self, t):\n"
            "        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        self.__dict__['k'] = 1\n    def forward(self, t):\n"
            "        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        setattr(self, '__class__', 1)\n"
            "    def forward(self, t):\n        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        self.l = nn.Linear(10**9, 10**9)\n"
            "    def forward(self, t):\n        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        self.ls = [nn.Linear(2, 2)] * 10**9\n"
            "    def forward(self, t):\n        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        super().__init__.__func__\n    def forward(self, t):\n"
            "        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        nn.Module.__init__.__globals__\n"
            "    def forward(self, t):\n        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        self.l = nn.DataParallel(n)\n    def forward(self, t):\n"
            "        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        nn.init.constant_(n.l, 0)\n    def forward(self, t):\n"
            "        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        self.k = torch.load('CANARY')\n"
            "        self.l = nn.Parameter(torch.load('CANARY'))\n    def forward(self, t):\n        return t\na = A()\n"
            "a(x)"
        ),
    ),
    "contexts": (
        (
            "class A(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, t):\n        return ctx.__class__\n"
            "    @staticmethod\n    def backward(ctx, g):\n        return g\nA.apply(x)"
        ),
        (
            "class A(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, t):\n"
            "        return ctx._forward_cls\n    @staticmethod\n    def backward(ctx, g):\n        return g\nA.apply(x)"
        ),
        (
            "class A(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, t):\n"
            "        ctx.__dict__['k'] = t\n        return t\n    @staticmethod\n    def backward(ctx, g):\n"
            "        return g\nA.apply(x)"
        ),
        (
            "class A(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, t):\n"
            "        return ctx.register_hook(eval)\n    @staticmethod\n    def backward(ctx, g):\n        return g\n"
            "A.apply(x)"
        ),
        (
            "class A(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, t):\n        import os\n"
            "        return os.open('CANARY')\n    @staticmethod\n    def backward(ctx, g):\n        return g\nA.apply(x)"
        ),
        (
            "class A(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, t):\n"
            "        return torch.load('CANARY')\n    @staticmethod\n    def backward(ctx, g):\n        return g\n"
            "A.apply(x)"
        ),
        (
            "class A(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, t):\n"
            "        return t.numpy().tofile('CANARY')\n    @staticmethod\n    def backward(ctx, g):\n        return g\n"
            "A.apply(x)"
        ),
        "S.__mro__", "S.apply.__func__", "S.apply.__self__", "S.__dict__", "S.vmap", "S.forward.__globals__",
        "torch.autograd.Function.apply(x)",
        (
            "class A(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, t):\n"
            "        ctx.mark_dirty.__func__\n    @staticmethod\n    def backward(ctx, g):\n        return g\nA.apply(x)"
        ),
        (
            "class A(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, t):\n"
            "        return ctx.set_materialize_grads.__self__\n    @staticmethod\n    def backward(ctx, g):\n"
            "        return g\nA.apply(x)"
        ),
    ),
    "changes of parameters": (
        "n.l.weight.data = torch.load('CANARY')", "n.l.weight.data = torch.zeros(10**12)", "n.l.weight.data = x.numpy()",
        "n.l.weight.__class__ = N", "n.l.weight.data.resize_(10**12)", "n.l.weight.data.set_(x)",
        "n.l.weight.data.as_strided_((2,2,20000),(20000,2**62-39999,1),0)", "n.l.weight.storage()",
        "n.l.weight.data.share_memory_()", "n.l.__class__ = N", "n.l.__dict__['k'] = x", "n.l._parameters['weight'] = x",
        "nn.init.os", "nn.init.math.os", "nn.init._no_grad_fill_(n.l.weight, 1)",
        "nn.init.__builtins__['eval']('CANARY')", "nn.init.uniform_(n)", "nn.init.warnings.warn('a')",
        "from torch.nn.init import warnings as w\nw.warn('a')", "from torch.nn import init\ninit.torch.load('CANARY')",
        "for p in n.modules():\n    p.__class__ = N",
        "for m in n.modules():\n    if m.__class__.__mro__:\n        nn.init.zeros_(m.weight)",
        "for m in n.modules():\n    if hasattr(m, '__class__') and m.__dict__:\n        nn.init.zeros_(m.weight)",
        "for m in n.modules():\n    import os\n    nn.init.zeros_(m.weight)",
    ),
    "derived": (
        "class A(nn.SyncBatchNorm):\n    pass\na = A(2)\na(x)", "class A(nn.DataParallel):\n    pass\na = A(2, 2)\na(x)",
        "class A(nn.Buffer):\n    pass\na = A(2, 2)\na(x)", "class A(nn.Linear):\n    pass\na = A(2, 2)\na.__dict__",
        "class A(nn.Linear):\n    pass\na = A(2, 2)\na._parameters",
        "class A(nn.Linear):\n    pass\na = A(2, 2)\na._forward_hooks",
        "class A(nn.Linear):\n    pass\na = A(2, 2)\na.forward.__func__",
        "class A(nn.Linear):\n    pass\na = A(2, 2)\na.weight.__class__",
        "class A(nn.Linear):\n    pass\na = A(2, 2)\na.weight.storage()",
        "class A(nn.Linear):\n    pass\na = A(2, 2)\na.open('CANARY')",
        "class A(nn.Linear):\n    pass\na = A(2, 2)\na.share_memory()",
        "class A(nn.Linear):\n    def __new__(self, *a):\n        return a\na = A(2, 2)\na(x)",
        "class A(nn.Linear):\n    def __getattr__(self, *a):\n        return a\na = A(2, 2)\na(x)",
        "class A(nn.Linear):\n    def __setattr__(self, *a):\n        return a\na = A(2, 2)\na(x)",
        "class A(nn.Linear):\n    def __init_subclass__(cls):\n        cls.__mro__\nclass B(A):\n    pass",
        "class A(nn.Linear):\n    def __reduce__(self, *a):\n        return a\na = A(2, 2)\na(x)",
        "class A(nn.Linear):\n    def __deepcopy__(self, *a):\n        return a\na = A(2, 2)\na(x)",
        "class A(nn.Linear):\n    def __torch_function__(self, *a):\n        return a\na = A(2, 2)\na(x)",
        "class A(nn.Linear):\n    def __init__(self):\n        super().__init__(10**9, 10**9)\na = A()\na(x)",
        "class A(nn.Linear):\n    def forward(self, t):\n        return super().__init__.__globals__\na = A(2, 2)\na(x)",
    ),
    "built": (
        "l = []\nfor k in range(2):\n    l.append(nn.Linear(10**9, 10**9))\nl[0](x)", "l = [nn.Tanh()]\nl.__class__",
        "a = nn.Linear(2, 2)\na.in_features.__class__", "a = nn.Linear(2, 2)\na._buffers",
        "a = nn.Linear(2, 2)\na.training.real.__class__", "a = nn.Linear(2, 2)\ngetattr(a, '_modules')",
        "getattr(x, '__class__')", "getattr(torch, 'load')('CANARY')", "n.float()._modules",
    ),
    "apply": (
        "n.apply(torch.load)", "def f(m):\n    return m.__class__.__mro__\nn.apply(f)",
        "def f(m):\n    m.weight.data = m.__class__\nn.apply(f)", "def f(m):\n    torch.load(m, 'CANARY')\nn.apply(f)",
        "def f(m):\n    nn.init.constant_(m.weight, m.__class__.__name__.__class__)\nn.apply(f)",
    ),
    "states": (
        "n.load_state_dict(torch.load('CANARY'))", "n.load_state_dict(n.state_dict()._metadata.__class__)",
        "n.load_state_dict(N.state_dict())",
    ),
    "collections": (
        (
            "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(2, 2)\n"
            "        self.d = nn.ParameterList([torch.load('CANARY')])\n    def forward(self, t):\n        return t\n"
            "a = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(2, 2)\n"
            "        self.add_module('__class__', nn.Tanh())\n        self.__class__.__mro__\n    def forward(self, t):\n"
            "        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(2, 2)\n"
            "        self.register_buffer('__array_interface__', x)\n        self.__dict__['k'] = 1\n    def forward(self, t):\n"
            "        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(2, 2)\n"
            "        self.add_module(f'{10**9:>1000000000}', nn.Tanh())\n    def forward(self, t):\n        return t\n"
            "a = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(2, 2)\n"
            "        self.add_module('a' * 10**9, nn.Tanh())\n    def forward(self, t):\n        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(2, 2)\n"
            "        setattr(self, '__class__', N)\n    def forward(self, t):\n        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(2, 2)\n"
            "        getattr(self, '__class__').__mro__\n    def forward(self, t):\n        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(2, 2)\n"
            "        self.k = getattr(self, '__dict__')\n    def forward(self, t):\n        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(2, 2)\n"
            "        getattr(torch, 'load')('CANARY')\n    def forward(self, t):\n        return t\na = A()\na(x)"
        ),
        "n.ls.__add__(n.ls)", "nn.ModuleList.__init__(n)",
    ),
    "class and static methods": (
        "N.scaled.__globals__", "N.__new__(N)", "N.mro()",
        "class A:\n    @classmethod\n    def f(cls):\n        return cls.__mro__\nA.f()",
        "class A:\n    @classmethod\n    @property\n    def f(cls):\n        return cls.__dict__\nA.f",
        "getattr(N, '__class__')", "getattr(N, 'scaled').__globals__",
        "class A(N):\n    def __init__(self):\n        N.__init__.__globals__\na = A()",
    ),
    "records": (
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    k: int\na = A(1)\na.__dataclass_fields__",
        "from dataclasses import make_dataclass as dataclass\n@dataclass\nclass A:\n    k: int\na = A(1)",
        "import dataclasses\ndataclasses.sys.exit()",
        "from dataclasses import dataclass\n@dataclass(open('CANARY', 'r+'))\nclass A:\n    __slots__: int = 1\na = A()",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    __class__: int\na = A(1)\na.__class__",
        (
            "from dataclasses import dataclass\n@dataclass\nclass A:\n    def __getattr__(self, k):\n        return k\n"
            "a = A()\ngetattr(a, '__array_interface__')"
        ),
    ),
    "hooks": (
        "z = x * 2\nz.register_hook(torch.hub.load)\nz",
        "def f(m, i, o):\n    np.save('CANARY', o)\nn.l.register_forward_hook(f)\nn(x)",
        "z = x * 2\nh = z.register_hook(lambda g: g)\nh.remove.__func__",
        "z = x * 2\nz.register_hook(lambda g: (lambda: 0).__globals__)\nz",
    ),
}  # fmt: skip
"""What a guard refuses."""

ENDED: dict[str, tuple[str, ...]] = {
    "objects": (
        "n.apply(eval)", "n.register_forward_hook(eval)", "n.l.register_forward_hook(eval)", "n.l = eval",
        "n.forward = eval", "setattr(n, 'k', eval)",
    ),
    "definitions": (
        "@eval\nclass A:\n    pass\na = A()", "class A(open('CANARY')):\n    pass\na = A()",
        "class A:\n    t = 2\n    def __add__(self, o):\n        return open(o)\na = A()\na + 'CANARY'",
        "import collections\nP = collections.namedtuple('P', 'a b')\np = P(x, x)\np._make(eval)",
        "class A:\n    k = open('CANARY')\na = A()\na.k",
        "class A:\n    @eval\n    def f(self, t):\n        return t\na = A()\na.f(x)",
        "class A:\n    def f(self, t, k=eval):\n        return k('CANARY')\na = A()\na.f(x)",
    ),
    "what __init__ does": (
        (
            "class A(nn.Module):\n    def __init__(self):\n        open('CANARY', 'r+')\n    def forward(self, t):\n"
            "        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        self.f = open('CANARY')\n    def forward(self, t):\n"
            "        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        self.apply(eval)\n    def forward(self, t):\n"
            "        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        self.register_forward_hook(eval)\n"
            "    def forward(self, t):\n        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        self.l = eval('nn.Linear')(2, 2)\n"
            "    def forward(self, t):\n        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        return open('CANARY')\n    def forward(self, t):\n"
            "        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        exec('import os')\n    def forward(self, t):\n"
            "        return t\na = A()\na(x)"
        ),
    ),
    "contexts": (
        (
            "class A(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, t):\n"
            "        return open('CANARY')\n    @staticmethod\n    def backward(ctx, g):\n        return g\nA.apply(x)"
        ),
        "S.apply = eval", "S.forward = eval", "class A(S):\n    apply = eval\nA.apply(x)",
        (
            "class A(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, t):\n"
            "        ctx.mark_non_differentiable(eval)\n    @staticmethod\n    def backward(ctx, g):\n        return g\n"
            "A.apply(x)"
        ),
        (
            "class A(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, t):\n"
            "        ctx.set_materialize_grads(eval)\n    @staticmethod\n    def backward(ctx, g):\n        return g\n"
            "A.apply(x)"
        ),
        "class A(S):\n    @staticmethod\n    @eval\n    def backward(ctx, g):\n        return g\nA.apply(x)",
    ),
    "changes of parameters": (
        "from torch.nn.init import os\nos.open('CANARY')",
        "n.l.weight.data = eval", "n.l.weight.data = open('CANARY')", "n.l.weight = eval",
        "n.l.weight = nn.Parameter(eval)", "n.l.weight.requires_grad = eval", "n.l.weight.grad = eval",
        "n.l.weight.data.tofile('CANARY')", "n.l.forward = eval", "nn.init.constant_(n.l.weight, eval)",
        "nn.init.kaiming_uniform_(n.l.weight, mode=eval)", "for p in n.parameters():\n    p.data = open('CANARY')",
        "for p in n.modules():\n    p.forward = eval",
        "for m in n.modules():\n    open('CANARY', 'r+')\n    nn.init.zeros_(m.weight)",
        "for m in n.modules():\n    if isinstance(m, eval):\n        nn.init.zeros_(m.weight)",
    ),
    "derived": (
        "class A(nn.Linear):\n    def reset_parameters(self):\n        open('CANARY', 'r+')\na = A(2, 2)\na(x)",
        "class A(nn.Sequential):\n    pass\na = A(eval)\na(x)",
        "class A(nn.Linear):\n    pass\na = A(2, 2, device=eval)\na(x)",
    ),
    "built": (
        "l = []\nfor k in range(3):\n    l.append(nn.Tanh())\n    open('CANARY', 'r+')\nl[0](x)",
        "l = []\nfor k in open('CANARY'):\n    l.append(nn.Tanh())\nl[0](x)",
        "l = [nn.Tanh()]\nl += [eval]\nl[1]('CANARY')", "l = {'a': nn.Tanh(), 'b': eval}\nl['b']('CANARY')",
        "s = nn.Sequential(nn.Tanh())\ns.append(eval)\ns(x)", "getattr(x, 'tofile')('CANARY')", "n.double(eval)",
    ),
    "apply": (
        "n.apply(eval)", "n.apply(lambda m: open('CANARY'))",
    ),
    "states": (
        "n.load_state_dict(eval)", "n.load_state_dict({'l.weight': open('CANARY')})",
        "n.load_state_dict(n.state_dict(), strict=eval)",
        "n.l.load_state_dict({'weight': torch.ones(2, 2), 'bias': eval})",
    ),
    "collections": (
        (
            "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(2, 2)\n"
            "        self.d = nn.ModuleDict({eval: nn.Tanh()})\n    def forward(self, t):\n        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(2, 2)\n"
            "        self.d = nn.ModuleDict({'a': eval})\n    def forward(self, t):\n        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(2, 2)\n"
            "        self.d = nn.ModuleDict(**{'a': open('CANARY')})\n    def forward(self, t):\n        return t\n"
            "a = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(2, 2)\n"
            "        self.d = nn.ParameterDict({'a': open('CANARY')})\n    def forward(self, t):\n        return t\n"
            "a = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(2, 2)\n"
            "        setattr(self, 'forward', eval)\n    def forward(self, t):\n        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(2, 2)\n"
            "        setattr(n, 'k', eval)\n    def forward(self, t):\n        return t\na = A()\na(x)"
        ),
        (
            "class A(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(2, 2)\n"
            "        setattr(self, 'k', open('CANARY'))\n    def forward(self, t):\n        return t\na = A()\na(x)"
        ),
        "n.ls.append(eval)", "n.ls['a'] = eval", "n.ls.insert(0, eval)", "n.ls.extend(open('CANARY'))",
    ),
    "class and static methods": (
        "class A:\n    @staticmethod\n    def f(t):\n        return open('CANARY')\nA.f(x)",
        "class A:\n    @staticmethod\n    @eval\n    def f(t):\n        return t\nA.f(x)", "N.forward(eval, x)",
    ),
    "records": (
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    k: object = eval\na = A()\na.k('CANARY')",
        (
            "from dataclasses import dataclass, field\n@dataclass\nclass A:\n    k: object = field(default_factory=eval)\n"
            "a = A()\na.k"
        ),
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    k: int\na = A(eval)\na.k('CANARY')",
        (
            "from dataclasses import dataclass\n@dataclass\nclass A:\n    k: int\n    def __post_init__(self):\n"
            "        open('CANARY', 'r+')\na = A(1)"
        ),
    ),
    "hooks": (
        "d = {}\nn.register_forward_hook(lambda m, i, o: d.setdefault('k', eval))\nn(x)", "n.register_forward_hook(eval)",

        "def f(m, i, o):\n    open(o)\nn.l.register_forward_hook(f)\nn(x)",
        "def f(m, i, o):\n    o.numpy().tofile('CANARY')\nn.l.register_forward_hook(f)\nn(x)",
    ),
}  # fmt: skip
"""What Python itself ends, since there is nothing of that name in a program."""


def ended_by(attempt: str, canary: Path) -> BaseException | None:
    """What ends a program: an error, or nothing."""
    try:
        return run_through(compiled(START + attempt.replace("CANARY", str(canary))), Settings(memory_limit=2 * 10**9))[1]
    except JvpError as error:
        return error


@pytest.mark.parametrize("family", {**REFUSED, **ENDED})
def test_nothing_is_reached(family: str, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("secret")
    for attempt in REFUSED.get(family, ()):
        assert isinstance(ended_by(attempt, canary), (JvpError, AttributeError)), attempt
    for attempt in ENDED.get(family, ()):
        assert ended_by(attempt, canary) is not None, attempt
    assert canary.read_text() == "secret"
    assert [path.name for path in tmp_path.iterdir()] == ["canary"]
