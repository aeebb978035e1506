"""Break-out attempts, by family: each is refused before anything runs, and the canary stays as it was."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

import jvpcli
from jvpcli.answers.question import pose
from jvpcli.errors import ExitCode, ExpressionSyntaxError, ForbiddenError, JvpError, LimitError, UnknownNameError
from jvpcli.language import run
from jvpcli.language.evaluate import evaluate
from jvpcli.language.parse import parse
from jvpcli.request import Request

SECRET = "the canary sings"

FAMILIES: dict[str, list[str]] = {
    "dunder attributes": [
        "x.__class__", "x.__class__.__mro__[1].__subclasses__()", "().__class__.__base__.__subclasses__()",
        "torch.sin.__globals__", "torch.sin.__self__", "torch.__builtins__", "torch.__dict__['os']",
        "math.__loader__.load_module('os')", "x.__init__.__globals__", "x.__reduce_ex__(2)", "x.__getattribute__('data')",
        "x.sum.__call__()", "x.T.__class__", "x.max(0).values.__class__", "x.shape.__class__", "(1).__class__",
        "'a'.__class__", "[].__class__", "[x][0].__class__", "torch.pi.__class__", "torch.float64.__class__",
        "torch.finfo(x.dtype).__class__", "x._version", "x._base", "x._cdata", "torch._C._get_tracing_state()",
        "x._make_subclass(x)", "F._threshold(x, 1, 2)", "x.__add__(1)", "__import__", "__builtins__", "__name__",
    ],
    "modules behind modules": [
        "torch.os.system('touch CANARY')", "torch.torch.os.remove('CANARY')", "torch.sys.exit(3)", "F.torch.os",
        "torch.nn.functional.torch.load('CANARY')", "torch.nn.functional.np.load('CANARY')", "F.np.fromfile('CANARY')",
        "torch.fft.torch.save(x, 'CANARY')", "torch.special.torch.os", "torch.linalg.torch.os", "F.math.os",
        "torch.builtins.open('CANARY')", "torch.importlib.import_module('os')", "F.importlib.import_module('os')",
        "torch.functional.torch.os", "torch.utils.data", "torch.hub.load('a', 'b')", "torch.nn.Module()", "torch.nn.F",
        "torch.ctypes.CDLL('libc.so.6')", "torch.glob.glob('*')", "torch.inspect.getsource(x)", "torch.types",
        "torch.multiprocessing.Process()", "torch.distributed.init_process_group()", "torch.masked.torch",
    ],
    "files": [
        "torch.load('CANARY')", "torch.save(x, 'CANARY')", "torch.from_file('CANARY', shared=True, size=4)",
        "x.numpy().tofile('CANARY')", "x.storage().from_file('CANARY')", "x.untyped_storage()._write_file('CANARY')",
        "open('CANARY', 'w').write('x')", "torch.serialization.load('CANARY')", "torch.UntypedStorage.from_file('CANARY')",
        "torch.PyTorchFileWriter('CANARY')", "torch.import_ir_module('CANARY')", "torch.FloatStorage._load('CANARY')",
        "torch.jit.load('CANARY')", "torch.package.PackageImporter('CANARY')", "torch.export.load('CANARY')",
        "torch.ops.load_library('CANARY')", "torch.classes.load_library('CANARY')", "torch.get_file_path('CANARY')",
    ],
    "processes and network": [
        "eval('1')", "exec('import os')", "compile('1', 'a', 'eval')", "__import__('os').system('touch CANARY')",
        "torch.os.popen('touch CANARY')", "torch.hub.download_url_to_file('http://127.0.0.1', 'CANARY')",
        "breakpoint()", "input()", "exit()", "help()", "globals()", "locals()", "vars()", "dir(x)",
        "getattr(x, 'da' + 'ta')", "setattr(x, 'data', x)", "type(x)", "object()", "memoryview(x)", "id(x)", "isinstance(x, x)",
    ],
    "callbacks and hooks": [
        "x.apply_(abs)", "x.map_(x, abs)", "x.map2_(x, x, abs)", "x.register_hook(print)", "torch.cond(x)",
        "x.register_post_accumulate_grad_hook(print)", "torch.compile(x)", "torch.autograd.Function.apply(x)",
        "torch.utils.checkpoint.checkpoint(x)", "torch.while_loop(x)", "max(x, key=abs)",
        "F.triplet_margin_with_distance_loss(x, x, x, distance_function=abs)", "sorted(x, key=abs)",
        "filter(abs, x)", "F.boolean_dispatch(x)", "torch.overrides.handle_torch_function(x)",
        "F.handle_torch_function(x)", "torch.library.custom_op('a::b')", "F.has_torch_function(x)",
    ],
    "functions and classes as values": [
        "torch.sin", "F.relu", "[torch.sin][0](x)", "(torch.sin if x else torch.cos)(x)", "abs",
        "[abs][0](x)", "f = abs; f(x)", "torch.Tensor", "torch.Tensor.sum", "torch.Tensor.__init__",
        "torch.Size([1])", "torch.Generator()", "torch.dtype", "torch", "F", "math", "torch.linalg",
        "torch.nn", "x.sum", "x(0)", "x.T(0)", "(x)(1)", "torch.pi()", "math.pi()", "'a'()", "[x]()", "len.sum(x)",
        "torch.sin.cos(x)",
    ],
    "storage": [
        "x.storage()", "x.untyped_storage()", "x.set_(x)", "x.data_ptr()", "x.const_data_ptr()", "x.share_memory_()",
        "x.pin_memory()", "x.record_stream(x)", "torch.from_dlpack(x)", "torch.frombuffer(x)",
        "x.resize_(100)", "torch.empty(100)", "x.new_empty(100)", "torch.empty_like(x)", "x.module_load(x)", "x.tobytes()",
        "torch.empty_strided((2,), (1,))", "x.as_subclass(x)", "x.storage_type()", "x.is_set_to(x)", "x.resize_as_(x)",
    ],
    "autograd's state": [
        "x.grad_fn.next_functions", "x.data.mul_(2)", "x.requires_grad_()", "x.detach_()",
        "x.retain_grad()", "torch.no_grad()", "torch.enable_grad()", "torch.inference_mode()",
        "torch.set_grad_enabled(False)", "torch.ones(3, requires_grad=True)",
        "x.tensor(1, requires_grad=True)", "torch.autograd.set_detect_anomaly(True)", "torch.detach_(x)", "x.volatile",
    ],
    "global settings": [
        "torch.manual_seed()", "torch.seed()", "torch.set_rng_state(x)", "torch.default_generator.manual_seed(1)",
        "torch.set_default_dtype(torch.float64)", "torch.set_num_threads(1)", "torch.set_default_device('cuda')",
        "torch.use_deterministic_algorithms(True)", "torch.set_printoptions(1)", "torch.backends.mkl", "torch.get_num_threads()",
        "torch.autocast('cpu')", "torch.set_flush_denormal(True)", "torch.set_warn_always(True)", "torch.cuda.init()",
        "torch.random.seed()", "torch.rand(3, generator=x)", "torch.get_default_dtype()", "torch.compiler.reset()",
    ],
    "text that becomes code": [
        "'{0.__class__}'.format(x)", "f'{x.__class__}'", "'%s' % x", "'a' + 'b'", "'a' * 10**9", "'abc'.join([])",
        "s = '{}'; s.format(x)", "s = '%s'; s % x", "'a'.encode()", "b'abc'", "'a'.upper()", "x.format('a')",
        "[s for s in ['{}']][0].format(x)", "torch.parse_ir('graph(): return ()')", "torch.parse_schema('a::b() -> ()')",
        "torch.jit.script('x')", "torch.ops.aten.add(x, x)", "torch.classes.a.b", "-'a'", "x % 'a'", "'a' @ x",
    ],
    "keyword arguments": [
        "torch.add(x, x, out=x)", "torch.sin(x, out=torch.zeros(3))", "torch.rand(3, generator=None)", "x.sum(**x)",
        "torch.zeros(3, requires_grad=True)", "torch.zeros(3, pin_memory=True)", "torch.zeros(3, layout=torch.sparse_coo)",
        "torch.zeros(3, names=['a'])", "F.softmax(x, 0, _stacklevel=5)", "torch.sum(x, __class__=1)", "x.sum(out=x)",
        "torch.tensor([1.], requires_grad=True)", "torch.normal(x, x, generator=x)", "torch.sum(*[], **x)",
    ],
    "statements and syntax": [
        "def f(): pass", "class A: pass", "x.a = 1",
        "x.data = x", "while True: pass", "for i in x: pass", "if x: pass", "with x: pass",
        "try:\n x\nfinally:\n x", "raise x", "return x", "yield x", "await x", "async def f(): pass",
        "{x}", "{k for k in x}", "@x\ndef f(): pass", "print >> x",
        "torch = x", "math = x", "__x__ = 1", "[torch for torch in [x]]", "x.real += 1", "match = 1\nmatch x:\n case 1: 2",
    ],
    "names in disguise": [
        "ｔｏｒｃｈ.load('CANARY')", "x.__ｃｌａｓｓ__", "torch.ｌｏａｄ('CANARY')", "ｅｖａｌ('1')", "x.﹍﹍class﹍﹍",
        "torch . os . system ( 'touch CANARY' )", "torch\\\n.os", "(torch).os", "(torch.os)", "t = torch; t.os",
        "[torch][0].os", "torch.linalg.linalg", "torch.F", "math.math", "F.F", "torch.nn.functional.nn",
        "torch.Tensor.numpy(x).tofile('CANARY')", "F.relu.__wrapped__", "torch.sum.real", "math.sqrt.real",
        "y = x; y.numpy().dump('CANARY')", "[y.numpy().ctypes for y in [x]]", "(x if x else x).numpy().ctypes",
        "x.view(2, 2).T.numpy().base", "x.max(0).values.numpy().tofile('CANARY')", "torch.linalg.svd(x).U.numpy().flags",
        "x.max(0)._asdict()", "x.max(0)._replace()",
        "x.max(0).n_fields", "x.shape.numel.__self__", "(x, x).index(x)",
        "x.dtype.__reduce__()", "torch.finfo(x.dtype).__doc__", "x.device.__enter__()", "x.device.type",
    ],
}  # fmt: skip


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    path = tmp_path / "canary"
    path.write_text(SECRET)
    return path


@pytest.mark.parametrize("family", FAMILIES)
def test_refused_before_anything_runs(family: str, canary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    monkeypatch.setattr(run.Run, "execute", lambda self, step: started.append(step.op))
    for attempt in FAMILIES[family]:
        source = f"y = torch.sin(x)\n{attempt.replace('CANARY', str(canary))}"
        with pytest.raises(JvpError) as caught:
            evaluate(parse(source, ["x"]), {"x": torch.ones(2, 2)})
        error = caught.value
        assert isinstance(error, (ForbiddenError, UnknownNameError, ExpressionSyntaxError)), attempt
        assert error.exit_code is ExitCode.REFUSED, attempt
        assert error.span is not None, attempt
        assert error.message.endswith("."), attempt
        assert SECRET not in f"{error.message}{error.explanation}{error.hints}"
    assert started == []
    assert canary.read_text() == SECRET
    assert [path.name for path in canary.parent.iterdir()] == ["canary"]


RUNTIME = [
    ("x.values", "can't be read from a tensor"),
    ("x.max(0).U", "can't be read from the result of max"),
    ("x.sum().item().T", "can't be read from a plain number"),
    ("x.shape.real", "can't be read from a Size"),
    ("x.shape.sum()", "can't be used on a Size"),
    ("x.max(0).sum()", "can't be used on the result of max"),
    ("x.tolist().sum()", "can't be used on a list"),
    ("x.dtype.sum()", "can't be used on a dtype"),
    ("x.item().sum()", "failed"),
    ("torch.finfo(x.dtype).real", "can't be read from a finfo"),
    ("['{}', 'a'][int(x.sum()*0)].sum()", "can't be used on text"),
    ("['{}', 'a'][int(x.sum()*0)] * 3", "Operators don't apply to text"),
    ("['{}', 'a'][int(x.sum()*0)] % x", "Operators don't apply to text"),
    ("x.to('meta')", "can't be used: the inputs are on cpu"),
    ("x.to('cuda')", "can't be used: the inputs are on cpu"),
    ("torch.zeros(3, device='meta')", "can't be used: the inputs are on cpu"),
    ("x.device.sum()", "can't be used on a device"),
]


@pytest.mark.parametrize(("source", "message"), RUNTIME)
def test_what_an_object_may_be_asked_is_decided_by_what_it_is(source: str, message: str) -> None:
    with pytest.raises(JvpError, match=message) as caught:
        evaluate(parse(source), {"x": torch.ones(2, 2)})
    assert caught.value.span is not None


def test_nothing_global_is_touched() -> None:
    state, threads = torch.get_rng_state(), threading.active_count()
    evaluate(parse("F.dropout(x) + torch.randn_like(x) * torch.rand(2, 2)"), {"x": torch.ones(2, 2)}, wrt=["x"], seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() is torch.float32
    assert torch.is_grad_enabled()
    assert threading.active_count() == threads


NET = "net = nn.Sequential(nn.Linear(2, 2), nn.Tanh())\ny = net(x)\n"

PROGRAMS: dict[str, list[str]] = {
    "what tensors begin with, and what they are": [
        "nn.init.xavier_uniform_(" * 30 + "torch.empty(2, 2)" + ")" * 30, "nn.init.normal_(torch.zeros(2), std=open('CANARY'))",
        "w = torch.zeros(2)\nnn.init.constant_(w, " + "nn.init.kaiming_normal_(torch.zeros(2, 2), a=" * 20 + "1" + ")" * 21,
        "nn.init.os.remove('CANARY')", "nn.init.normal_(torch.load('CANARY'))", "nn.init.normal_.__globals__",
        "isinstance(x, open)", "isinstance(x, type)", "isinstance(x, x.__class__)", "isinstance", "isinstance(x, (int, object))",
    ],
    "optimizers": [
        "torch.optim.os.remove('CANARY')", "o = torch.optim.SGD([x], lr=0.1)\no.__class__",
        "o = torch.optim.Adam(net.parameters())\no.state_dict()",
        "o = torch.optim.Adam(net.parameters())\no.param_groups[0]['params'][0].__class__", "torch.optim.Optimizer([x], {})",
        "torch.optim.lr_scheduler.LambdaLR(net, open)",
        "o = torch.optim.SGD([x], lr=0.1)\no.load_state_dict(torch.load('CANARY'))",
        "o = torch.optim.SGD([x], lr=0.1)\no.register_step_post_hook(open)", "torch.optim.SGD.__init__.__globals__",
    ],
    "hooks": [
        "net.register_forward_hook(lambda m, i, o: open('CANARY'))", "net.register_forward_pre_hook(open)",
        "net.register_full_backward_hook(open)", "net[0].register_forward_hook(open)",
        "def f(m, i, o):\n    return o * m.__class__\nnet[0].register_forward_hook(f)\nnet(x)",
        "def f(k):\n    def g(m, i, o):\n        open(k)\n    return g\nnet[1].register_forward_hook(f('CANARY'))\nnet(x)",
        "net[0].register_full_backward_hook(lambda m, i, o: torch.save(i, 'CANARY'))\nnet(x)",
        "torch.nn.modules.module.register_module_forward_hook(open)", "nn.modules.module.register_module_forward_hook(open)",
        "def f(t):\n    u = t * 2\n    u.register_hook(lambda g: open('CANARY'))\n    return u\nf(x)",
        "net[0] = open", "net[0] = nn.Linear(2, 2, dtype=x)", "net.to(open)", "nn.Linear(x.__class__.a, 2)(x)",
        "h = x * 2\nh.register_hook(lambda g: g, 3)", "h = x * 2\nh.register_hook(open)",
        "torch.autograd.graph.saved_tensors_hooks(open, open)", "with torch.autograd.graph.save_on_cpu(): y = x",
        "net._forward_hooks", "net._forward_hooks[0] = open", "net.register_buffer('a', x)", "net.register_parameter('a', x)",
        "net.register_module('a', net)", "net.add_module('a', net)",
    ],
    "parametrizations": [
        "nn.utils.parametrize.register_parametrization(net[0], 'weight', net)",
        "torch.nn.utils.parametrize.register_parametrization(net[0], 'weight', open)",
        "nn.utils.parametrizations.orthogonal(net[0])", "nn.utils.parametrizations.weight_norm(net[0])",
        "nn.utils.spectral_norm(net[0])", "nn.utils.weight_norm(net[0], name='__class__')",
        "nn.utils.prune.l1_unstructured(net[0], 'weight', 0.5)", "nn.utils.vector_to_parameters(x, net.parameters())",
        "nn.utils.clip_grad_norm_(net.parameters(), open)", "nn.utils.stateless.functional_call(net, {}, x)",
        "net[0].weight = x", "net.weight.data = x", "net[0].weight.data[0] = open", "nn.init.__builtins__",
        "nn.init.constant_(net[0].weight, open)", "nn.init.os",
    ],
    "pickling": [
        "import pickle\npickle.loads(b'cos')", "import pickle\npickle.dumps(net)", "from pickle import loads\nloads(b'')",
        "import copy\ncopy.deepcopy(net)", "import marshal\nmarshal.loads(b'')", "import dill\ndill.loads(b'')",
        "import joblib\njoblib.load('CANARY')", "import io\ntorch.save(net, io.BytesIO())", "net.__reduce_ex__(2)",
        "net.__getstate__()", "net.__setstate__({})", "x.__reduce__()", "torch.serialization.add_safe_globals([open])",
        "torch._utils._rebuild_tensor_v2(x)", "net.load_state_dict(torch.load('CANARY'))", "net.state_dict().__class__",
        "import numpy as np\nnp.load('CANARY', allow_pickle=True)", "np.fromfile('CANARY')", "np.save('CANARY', x)", "np.lib",
        "np.ndarray.tofile(x, 'CANARY')",
    ],
    "modules' methods": [
        "net.apply(open)", "net.to('cuda').__class__", "net.forward.__func__", "net.__call__(x).__class__", "net.__dict__",
        "net._modules", "net._parameters", "net.named_modules()", "net.modules()", "net.children()",
        "net.get_submodule('0').__class__", "net.get_parameter('0.weight').data", "net.compile()", "net.share_memory()",
        "net.train.__func__", "net[0].__class__", "net[0].in_features.__class__", "net.type(torch.load)", "net.half()",
        "net.extra_repr()", "net._call_impl(x)", "net.dump_patches", "net.T_destination", "nn.Module()",
        "nn.Module.__subclasses__()", "nn.Sequential.forward", "nn.Sequential(open)", "nn.Sequential(lambda t: t)",
        "nn.ModuleList([net])", "nn.ModuleDict({'a': net})", "nn.ParameterList([x])", "nn.DataParallel(net)",
        "nn.LazyLinear(3)", "nn.Container", "nn.modules.os", "nn.functional.os", "nn.parallel.os",
        "nn.Linear(2, 2).__init__(3, 3)", "nn.Linear(open, 2)", "nn.Linear(len, 2)",
        "nn.Linear(*[2, x], 2)", "nn.Transformer(custom_encoder=open)",
        "nn.TransformerEncoderLayer(4, 2, activation=open)", "nn.TripletMarginWithDistanceLoss(distance_function=open)",
    ],
    "functional_call": [
        "torch.func.functional_call(net, {'__class__': x}, x)", "torch.func.functional_call(net, {'0.weight.__class__': x}, x)",
        "torch.func.functional_call(open, {}, x)", "torch.func.functional_call(x, {}, x)",
        "torch.func.functional_call(torch.os, {}, x)", "torch.func.stack_module_state([net])", "torch.func.functionalize(open)",
        "torch.func.linearize(open, x)", "torch.func.grad(open)('CANARY')", "torch.func.vjp(torch.load, 'CANARY')",
        "torch.vmap(torch.save)(x, x)", "torch.func.jacrev(torch.os.remove)('CANARY')",
        "torch.func.grad(net.register_forward_hook)(x)", "torch.func.grad(torch.func.grad)(x).__wrapped__",
        "torch.autograd.functional.jacobian(open, x)", "torch.autograd.functional.os", "torch.func.grad.__globals__",
        "torch.func.debug_unwrap(x)",
    ],
    "closures": [
        "f = lambda: x\nf.__closure__[0].cell_contents", "def f():\n    k = open\n    return lambda: k\nf()('CANARY')",
        "def f(k=open):\n    return k('CANARY')\nf()", "f = lambda *a, **k: open(*a, **k)\nf('CANARY')",
        "def f():\n    return torch.load\nf()('CANARY')", "fs = [torch.sin, torch.load]\nfs[1]('CANARY')",
        "f = torch.sin if x.sum() > 100 else torch.load\nf('CANARY')", "def f(g):\n    return g.__globals__\nf(torch.sin)",
        "def f(g):\n    return g.__self__\nf(x.sum)", "g = x.numpy\ng().tofile('CANARY')",
        "import os as torch_\ntorch_.remove('CANARY')", "def f():\n    import os\n    return os\nf().remove('CANARY')",
        "def f():\n    from os import remove\n    remove('CANARY')\nf()", "def print(t):\n    return open(t)\nprint('CANARY')",
        "print(open('CANARY'))", "print(torch.save(x, 'CANARY'))",
    ],
    "hooks of tensors": [
        "y = x * 2\ny.register_hook(open)\ny", "y = x * 2\ny.register_hook(lambda g: open('CANARY'))\ny",
        "if x.sum() > 0:\n    y.register_hook(lambda g: g * 2)\ny",
        "y.register_hook(lambda g: g)\ntorch.autograd.grad(y.sum(), x)[0]*2",
        "y = x * 2\ny.register_hook(torch.save)\ny",
        "y = x * 2\ny.register_hook(hook=print)\ny", "y = x * 2\ny.register_post_accumulate_grad_hook(print)\ny",
    ],
    "attributes": [
        "x.data.foo = 1", "x.__class__ = x", "x.requires_grad = open\nx", "net.weight.data = x\nnet(x)",
        "x.data = open('CANARY')\nx",
        "y = x * 2\ny.names = None\ny", "y = x * 2\ny[0].data = x\ny", "y = x * 2\ny.data.data = x\ny",
    ],
    "settings": [
        "torch.set_default_dtype(open)\nx", "torch.set_default_dtype('CANARY')\nx", "torch.set_default_device('cuda')\nx",
        "torch.set_default_tensor_type(torch.load)\nx", "y = x * 2\ntorch.set_default_dtype(torch.float64)\ny",
        "def f():\n    torch.set_default_dtype(torch.float64)\n    return x\nf()", "torch.set_default_dtype(torch.int64)\nx",
    ],
    "usual names": [
        "np.load('CANARY')", "np.array(open('CANARY'))", "np.os.remove('CANARY')", "np.save('CANARY', x)",
        "np.fromfile('CANARY')",
        "np.array([1.]).tofile('CANARY')", "numpy.lib.os", "np.ctypeslib.os", "optim.os", "optim.SGD.__init__",
        "optim.Optimizer",
        "optim.lr_scheduler.sys", "np.float32.__class__", "np.memmap('CANARY')", "torch.accelerator.os",
    ],
}  # fmt: skip
"""What programs with a module in them may try; of some, what comes before them runs."""


@pytest.mark.parametrize("family", PROGRAMS)
def test_a_program_with_a_module_reaches_nothing(family: str, canary: Path) -> None:
    for attempt in PROGRAMS[family]:
        with pytest.raises(JvpError) as caught:
            pose(Request(f"{NET}{attempt.replace('CANARY', str(canary))}", {"x": "1,2"}))
        assert caught.value.exit_code is ExitCode.REFUSED, attempt
        assert caught.value.span is not None, attempt
        assert SECRET not in f"{caught.value.message}{caught.value.explanation}{caught.value.hints}"
    assert canary.read_text() == SECRET
    assert [path.name for path in canary.parent.iterdir()] == ["canary"]


def test_what_is_passed_over_does_not_run(canary: Path) -> None:
    for line in ("assert open('CANARY', 'w')", "print(open('CANARY', 'w'))\nz = y", "assert y, torch.save(y, 'CANARY')"):
        pose(Request(f"{NET}{line.replace('CANARY', str(canary))}\ny", {"x": "1,2"}))
    assert canary.read_text() == SECRET


CLASSES = """\
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

STATIC = "class A(torch.autograd.Function):\n    @staticmethod\n    def forward(ctx, t):\n        {}\n" + (
    "    @staticmethod\n    def backward(ctx, g):\n        return g\nA.apply(x)"
)
INIT = "class A(nn.Module):\n    def __init__(self):\n        {}\n    def forward(self, t):\n        return t\na = A()\na(x)"

MORE = INIT.format("super().__init__()\n        self.l = nn.Linear(2, 2)\n        {}")

OF_CLASSES: dict[str, list[str]] = {
    "objects": [
        "n.__class__", "n.__dict__", "n.__class__.__mro__", "n._modules", "n._parameters", "n.forward.__globals__",
        "n.forward.__func__",
        "n.scaled.__self__", "n.l.__class__", "n.ls.__class__", "n.ls[0].__class__", "n.ls._modules", "n.w.__class__",
        "n.k.__class__",
        "N.__subclasses__()", "N.__init__", "N.forward(x, x)", "N.forward.__code__", "N", "n.__call__.__func__",
        "n.__init__(3)",
        "n.apply(open)", "n.register_buffer('a', x)", "n.register_forward_hook(open)", "n.state_dict()",
        "n.l.register_forward_hook(open)",
        "n.load_state_dict(torch.load('CANARY'))", "n.children()", "n.modules()", "n.named_modules()", "n.get_submodule('l')",
        "n.l = open", "n.l = x", "n.forward = open", "n.scaled = lambda t: t", "n.__class__ = N", "n.open('CANARY')",
        "setattr(n, 'k', open)", "getattr(n, '__class__')", "vars(n)", "del n.l", "type(n)", "super()", "super().__init__()",
    ],
    "definitions": [
        "class A(dict):\n    pass\na = A(k=x)", "class A(type):\n    pass\nA('B', (), {})",
        "class A(metaclass=type):\n    pass\na = A()",
        "class A(torch.utils.data.Dataset):\n    pass\na = A()",
        "class A(N, S):\n    pass\na = A()", "@open\nclass A:\n    pass\na = A()",
        "class A(open('CANARY')):\n    pass\na = A()",
        "class A:\n    t = 2\n    def __add__(self, o):\n        return open(o)\na = A()\na + 'CANARY'",
        "class A:\n    t = 2\n    def __getitem__(self, o):\n        return o.__class__\na, b = A(), A()\na[b]",
        "import collections\nP = collections.namedtuple('P', 'a __class__')\nP(x, x)", "import typing\n"
        "class P(typing.NamedTuple):\n    a: int\n    __slots__: int\nP(x, x)", "import collections\n"
        "P = collections.namedtuple('P', 'a b')\np = P(x, x)\np._make(open)",
        "class A:\n    t = 2\n    def __getattr__(self, o):\n        return x\na = A()\na.b",
        "class A:\n    t = 2\n    def __len__(self):\n        return self.__class__\na = A()\nx * len(a)",
        "class A:\n    import os\na = A()", "class A:\n    k = __import__('os')\na = A()\na.k",
        "class A:\n    k = open('CANARY')\na = A()\na.k",
        "class A:\n    class B:\n        pass\na = A()",
        "class A:\n    @open\n    def f(self, t):\n        return t\na = A()\na.f(x)",
        "class A:\n    def f(self, t, k=open):\n        return k('CANARY')\na = A()\na.f(x)", "def f():\n    return N()\nf()",
        "[N() for _ in range(2)]", "n = N()\nn = x", "lambda: N()",
        "class N:\n    def os(self):\n        return torch.os\nm = N()\nm.os()",
    ],
    "what __init__ does": [
        INIT.format(line) for line in (
            "open('CANARY', 'w')", "self.f = open('CANARY')", "import os", "self.__class__ = N", "self.__dict__['k'] = 1",
            "setattr(self, '__class__', 1)", "self.l = nn.Linear(10**9, 10**9)", "self.ls = [nn.Linear(2, 2)] * 10**9",
            "super().__init__.__func__",
            "self.apply(open)", "self.register_forward_hook(open)", "nn.Module.__init__.__globals__",
            "self.l = nn.DataParallel(n)",
            "nn.init.constant_(n.l, 0)", "while True: pass", "self.l = eval('nn.Linear')(2, 2)", "return open('CANARY')",
            "self.k = torch.load('CANARY')\n        self.l = nn.Parameter(torch.load('CANARY'))", "exec('import os')",
        )
    ],
    "contexts": [
        *(STATIC.format(line) for line in (
            "return ctx.__class__", "return ctx._forward_cls", "ctx.__dict__['k'] = t\n        return t",
            "return open('CANARY')",
            "return ctx.register_hook(open)", "import os\n        return os.remove('CANARY')", "return torch.load('CANARY')",
            "return t.numpy().tofile('CANARY')",
        )),
        "S.__mro__", "S.forward(x, x)", "S.backward", "S.apply.__func__", "S.apply.__self__", "S.__dict__", "S()", "S(x)",
        "S.vmap",
        "S.forward.__globals__", "torch.autograd.Function.apply(x)", "torch.autograd.Function", "S.apply = open",
        "S.forward = open",
        "class A(torch.autograd.Function):\n    def forward(self, t):\n        return t\nA.apply(x)",
        "class A(S):\n    apply = open\nA.apply(x)",
        *(STATIC.format(line) for line in (
            "ctx.mark_non_differentiable(open)", "ctx.mark_non_differentiable(3)", "ctx.set_materialize_grads(open)",
            "ctx.mark_dirty.__func__", "return ctx.set_materialize_grads.__self__",
        )),
        "class A(S):\n    @staticmethod\n    @open\n    def backward(ctx, g):\n        return g\nA.apply(x)",
    ],
    "changes of parameters": [
        "n.l.weight.data = open", "n.l.weight.data = open('CANARY')", "n.l.weight.data = torch.load('CANARY')",
        "n.l.weight.data = torch.zeros(10**12)", "n.l.weight.data = x.numpy()", "n.l.weight = open", "n.l.weight = n.l",
        "n.l.weight = nn.Parameter(open)", "n.l.weight.__class__ = N", "n.l.weight.requires_grad = open",
        "n.l.weight.grad = open", "n.l.weight.data.resize_(10**12)", "n.l.weight.data.set_(x)",
        "n.l.weight.data.as_strided_((2,2,20000),(20000,2**62-39999,1),0)", "n.l.weight.data.tofile('CANARY')",
        "n.l.weight.storage()", "n.l.weight.data.share_memory_()", "n.l.in_features = 10**9", "n.l.forward = open",
        "n.l.__class__ = N", "n.l.__dict__['k'] = x", "n.l._parameters['weight'] = x", "nn.init.constant_(n.l.weight, open)",
        "nn.init.os", "nn.init.math.os", "nn.init._no_grad_fill_(n.l.weight, 1)", "nn.init.__builtins__['open']('CANARY')",
        "nn.init.uniform_(n)", "nn.init.uniform_(x)", "nn.init.uniform_(n.l.weight, generator=x)", "nn.init.warnings.warn('a')",
        "nn.init.dirac_(n.l.weight, 0)", "nn.init.kaiming_uniform_(n.l.weight, mode=open)", "nn.init.zeros_(*[n.l.weight])",
        "nn.init.zeros_(**{'tensor': n.l.weight})", "from torch.nn.init import os\nos.remove('CANARY')",
        "from torch.nn.init import warnings as w\nw.warn('a')", "from torch.nn import init\ninit.torch.load('CANARY')",
        "for p in n.parameters():\n    p.data = open('CANARY')", "for p in n.modules():\n    p.__class__ = N",
        "for p in n.modules():\n    p.forward = open",
        "for m in n.modules():\n    open('CANARY', 'w')\n    nn.init.zeros_(m.weight)",
        "for m in n.modules():\n    if m.__class__.__mro__:\n        nn.init.zeros_(m.weight)",
        "for m in n.modules():\n    if isinstance(m, open):\n        nn.init.zeros_(m.weight)",
        "for m in n.modules():\n    if hasattr(m, '__class__') and m.__dict__:\n        nn.init.zeros_(m.weight)",
        (
            "for p in n.parameters():\n    for q in n.parameters():\n        for r in n.parameters():\n"
            "            for s in n.parameters():\n                for t in n.parameters():\n"
            "                    for u in n.parameters():\n                        t.data.fill_(1)"
        ),
        "for m in n.modules():\n    while True:\n        nn.init.zeros_(m.weight)",
        "for m in n.modules():\n    import os\n    nn.init.zeros_(m.weight)",
    ],
    "derived": [
        *(f"class A(nn.{base}):\n    pass\na = A(2, 2)\na(x)" for base in ("Transformer", "DataParallel", "Buffer",
        "ModuleDict")),
        *(f"class A(nn.Linear):\n    pass\na = A(2, 2)\na.{name}" for name in (
            "__class__", "__dict__", "_parameters", "_forward_hooks", "forward.__func__", "__init__(3, 3)", "weight.__class__",
            "weight.storage()", "named_modules()", "open('CANARY')", "register_parameter('a', x)", "share_memory()",
            "in_features()",
        )),
        *(f"class A(nn.Linear):\n    def {name}(self, *a):\n        return a\na = A(2, 2)\na(x)" for name in (
            "__new__", "__getattr__", "__setattr__", "__init_subclass__", "__reduce__", "__deepcopy__", "__torch_function__",
        )),
        "class A(nn.Conv1d):\n    def _conv_forward(self, *a):\n        return a\na = A(2, 2, 1)\na(x)",
        "class A(nn.Tanh):\n    def reset_parameters(self):\n        pass\na = A()\na(x)",
        "class A(nn.Linear):\n    def reset_parameters(self):\n        open('CANARY', 'w')\na = A(2, 2)\na(x)",
        "class A(nn.Linear):\n    def reset_parameters(self):\n        self.reset_parameters()\na = A(2, 2)\na(x)",
        "class A(nn.Linear):\n    def __init__(s):\n        super().__init__(2, 2)\n        super().__init__(3, 3)\nA()(x)",
        "class A(nn.Linear):\n    def __init__(self):\n        super().__init__(10**9, 10**9)\na = A()\na(x)",
        "class A(nn.Linear):\n    def __init__(s):\n        s.k = nn.Linear(2, 2)\n        super().__init__(2, 2)\nA()(x)",
        "class A(nn.Linear):\n    def forward(self, t):\n        self.weight = t\n        return t\na = A(2, 2)\na(x)",
        "class A(nn.Dropout):\n    def __init__(self):\n        super().__init__(0.5)\n        self.p = 0.1\na = A()\na(x)",
        "class A(nn.Linear):\n    def forward(self, t):\n        return super().__init__.__globals__\na = A(2, 2)\na(x)",
        "class A(nn.Linear, nn.Tanh):\n    pass\na = A(2, 2)\na(x)", "class A(N, nn.Linear):\n    pass\na = A(2, 2)\na(x)",
        "class A(nn.Sequential):\n    pass\na = A(open)\na(x)", "class A(nn.Sequential):\n    pass\na = A()\na.append(a)\na(x)",
        "class A(nn.ModuleList):\n    pass\na = A([nn.Tanh()])\na(x)",
        "class A(nn.Linear):\n    pass\na = A(2, 2, device=open)\na(x)",
        "class A(nn.Linear):\n    pass\na = A(2, 2, **{'.derived': 3})\na(x)",
    ],
    "built": [
        "l = []\nfor k in range(10**6):\n    l.append(nn.Tanh())\nl[0](x)", "l = []\nl.append(l)\nl.append(nn.Tanh())\nl[1](x)",
        "l = []\nfor k in range(3):\n    l.append(nn.Tanh())\n    open('CANARY', 'w')\nl[0](x)",
        "l = []\nfor k in open('CANARY'):\n    l.append(nn.Tanh())\nl[0](x)",
        "l = []\nfor k in range(2):\n    l.append(nn.Linear(10**9, 10**9))\nl[0](x)", "l = [nn.Tanh()]\nl.__class__",
        "l = [nn.Tanh()]\nl += [open]\nl[1]('CANARY')", "l = {'a': nn.Tanh(), 'b': open}\nl['b']('CANARY')",
        "s = nn.Sequential(nn.Tanh())\nfor m in s:\n    m.__class__\ns(x)", "s = nn.Sequential(nn.Tanh())\ns[:1].__class__",
        "s = nn.Sequential(nn.Tanh())\ns[::0](x)", "s = nn.Sequential(nn.Tanh())\ns.append(s)\ns(x)",
        "s = nn.Sequential(nn.Tanh())\ns.append(open)\ns(x)", "a = nn.Linear(2, 2)\na.in_features.__class__",
        "a = nn.Linear(2, 2)\na._buffers", "a = nn.Linear(2, 2)\na.training.real.__class__",
        "a = nn.Upsample(2)\na.mode.format(a)",
        "a = nn.Linear(2, 2)\ngetattr(a, '__class__')", "a = nn.Linear(2, 2)\ngetattr(a, '_modules')", "getattr(x, '__class__')",
        "getattr(x, 'grad_fn.next_functions')(x)", "getattr(torch, 'load')('CANARY')", "getattr(x, 'tofile')('CANARY')",
        "n.double(open)", "n.half().__class__", "n.float()._modules",
    ],
    "apply": [
        "n.apply(open)", "n.apply(n)", "n.apply(n.apply)", "n.apply(lambda m: open('CANARY'))", "n.apply(torch.save)",
        "n.apply('os')", "n.l.apply(S.apply)", "def f(m):\n    m.apply(f)\n    nn.init.zeros_(n.l.weight)\nn.apply(f)",
        "def f(m):\n    n.apply(f)\n    n.apply(f)\n    nn.init.zeros_(n.l.weight)\nn.apply(f)",
        "def f(m):\n    return m.__class__.__mro__\nn.apply(f)", "def f(m):\n    m.weight.data = m.__class__\nn.apply(f)",
        "def f(m):\n    torch.save(m, 'CANARY')\nn.apply(f)",
        "def f(m):\n    nn.init.constant_(m.weight, m.__class__.__name__.__class__)\nn.apply(f)",
        "def f(m):\n    name = m.__class__.__name__\n    name.format(m)\n    m.weight.data.zero_()\nn.apply(f)",
        "def f(m, k):\n    m.weight.data.zero_()\nn.apply(f)", "def f(*m):\n    nn.init.zeros_(n.l.weight)\nn.apply(f)",
    ],
    "states": [
        "n.load_state_dict(open)", "n.load_state_dict(torch.load('CANARY'))", "n.load_state_dict({'__class__': x})",
        "n.load_state_dict({'l.weight': open('CANARY')})", "n.load_state_dict(n.state_dict(), strict=open)",
        "n.load_state_dict(n.l.state_dict())", "n.l.load_state_dict({'weight': x, 'bias': x})", "n.l.load_state_dict({**x})",
        "n.l.load_state_dict({'weight': torch.ones(2, 2), 'bias': open})", "n.load_state_dict(n.state_dict().__class__)",
        "n.state_dict()",
        "n.state_dict()['l.weight']", "n.load_state_dict(x.state_dict())", "n.load_state_dict(N.state_dict())",
    ],
    "collections": [
        MORE.format("self.d = nn.ModuleDict({'__class__': nn.Tanh()}); self.d.__class__"),
        MORE.format("self.d = nn.ModuleDict({open: nn.Tanh()})"), MORE.format("self.d = nn.ModuleDict({'a': open})"),
        MORE.format("self.d = nn.ModuleDict(**{'a': open('CANARY')})"),
        MORE.format("self.d = nn.ParameterDict({'a': open('CANARY')})"),
        MORE.format("self.d = nn.ParameterList([torch.load('CANARY')])"),
        MORE.format("self.d = nn.ModuleList()\n        for k in range(10**6): self.d.append(nn.Tanh())"),
        MORE.format("self.d = nn.ModuleList()\n        self.d.append(self.d)"),
        MORE.format("self.s = nn.Sequential()\n        self.s.append(self.s)"),
        MORE.format("self.s = nn.Sequential()\n        self.s.add_module('__class__', nn.Tanh())\n        self.s.__class__"),
        MORE.format("self.add_module('__class__', nn.Tanh())\n        self.__class__.__mro__"),
        MORE.format("self.register_buffer('__dict__', x)\n        self.__dict__['k'] = 1"),
        MORE.format("self.add_module(f'{self.__class__}', nn.Tanh())"),
        MORE.format("self.add_module(f'{10**9:>1000000000}', nn.Tanh())"),
        MORE.format("self.add_module('a' * 10**9, nn.Tanh())"), MORE.format("setattr(self, '__class__', N)"),
        MORE.format("setattr(self, 'forward', open)"), MORE.format("setattr(n, 'k', open)"),
        MORE.format("setattr(self, 'k', open('CANARY'))"), MORE.format("getattr(self, '__class__').__mro__"),
        MORE.format("self.k = getattr(self, '__dict__')"), MORE.format("getattr(torch, 'load')('CANARY')"),
        MORE.format("getattr(self, 'l').__class__"),
        MORE.format("self.d = nn.ModuleDict({str(k): nn.Tanh() for k in range(10**7)})"), "n.ls.append(open)",
        "n.ls['a'] = open", "n.ls.insert(0, open)", "n.ls.extend(open('CANARY'))", "n.ls.__add__(n.ls)",
        "nn.ModuleList.__init__(n)", "d = nn.ModuleDict({'a': n})\nd.a.__class__",
        "d = nn.ModuleDict({'a': nn.Tanh()})\nd.pop('a').__class__", "d = nn.ModuleDict({'a': nn.Tanh()})\nd['__class__']",
    ],
    "class and static methods": [
        "N.scaled(x)", "N.scaled.__globals__", "N.__init__(n)", "N.__new__(N)", "N.mro()",
        "class A:\n    @classmethod\n    def f(cls):\n        return cls.__mro__\nA.f()",
        "class A:\n    @classmethod\n    def f(cls):\n        return cls\nA.f()",
        "class A:\n    @classmethod\n    def f(cls):\n        return cls()\nA.f()",
        "class A:\n    @classmethod\n    def f(cls, t):\n        return cls.f(t)\nA.f(x)",
        "class A:\n    @staticmethod\n    def f(t):\n        return open('CANARY')\nA.f(x)",
        "class A:\n    @staticmethod\n    def f(t):\n        return A.f(t)\nA.f(x)",
        "class A:\n    @staticmethod\n    @open\n    def f(t):\n        return t\nA.f(x)",
        "class A:\n    @classmethod\n    @property\n    def f(cls):\n        return cls.__dict__\nA.f",
        "getattr(N, '__class__')", "getattr(N, 'scaled').__globals__", "class A(N, S):\n    pass\na = A()",
        "class A(N):\n    def __init__(self):\n        N.__init__.__globals__\na = A()", "N.forward(x, x)",
        "N.forward(open, x)", "class A:\n    @property\n    def f(self):\n        return self.f\na = A()\na.f",
    ],
    "records": [
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    k: object = open\na = A()\na.k('CANARY')",
        (
            "from dataclasses import dataclass, field\n@dataclass\nclass A:\n"
            "    k: object = field(default_factory=open)\na = A()\na.k"
        ),
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    k: int\na = A(open)\na.k('CANARY')",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    k: int\na = A(1)\na.__dataclass_fields__",
        (
            "from dataclasses import dataclass\n@dataclass\nclass A:\n    k: int\n    def __post_init__(self):\n"
            "        open('CANARY', 'w')\na = A(1)"
        ),
        "from dataclasses import make_dataclass as dataclass\n@dataclass\nclass A:\n    k: int\na = A(1)",
        "import dataclasses\ndataclasses.sys.exit()",
        "from dataclasses import dataclass\n@dataclass(open('CANARY', 'w'))\nclass A:\n    __slots__: int = 1\na = A()",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    __class__: int\na = A(1)\na.__class__",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    def __getattr__(self, k):\n        return k\na = A()\na.k",
    ],
    "hooks": [
        "z = x * 2\nz.register_hook(open)\nz", "z = x * 2\nz.register_hook(lambda g: open('CANARY'))\nz",
        "z = x * 2\nz.register_hook(torch.load)\nz", "z = x * 2\nz.register_hook(lambda g: g.__class__)\nz",
        "z = x * 2\nz.register_hook(hook=print)\nz", "z = x * 2\nz.register_hook(lambda g, k=open: k('CANARY'))\nz",
        "z = x * 2\nz.register_hook(z.register_hook)\nz", "def f(k):\n    def g(v):\n        open(k)\n    return g\n"
        "z = x * 2\nz.register_hook(f('CANARY'))\nz",
        "d = {}\nn.register_forward_hook(lambda m, i, o: d.setdefault('k', open))\nn(x)",
        "def f(m, i, o):\n    o[0] = 5\nn.register_forward_hook(f)\nn(x)",
        "def f(m, i, o):\n    o.mul_(2)\nn.register_forward_hook(f)\nn(x)",
        "def f(m, i, o):\n    m.weight = o\nn.l.register_forward_hook(f)\nn(x)",
        "def f(g):\n    g[i] = 0\ni = 1\nz = x * 2\nz.register_hook(f)\ntorch.autograd.grad(z.sum(), x)[0] * 2",
        "g = []\nz = x * 2\nz.register_hook(lambda v: g.append(v))\nz * len(g)",
        "n.register_forward_hook(open)",
        *(f"def f(m, i, o):\n    {line}\nn.l.register_forward_hook(f)\nn(x)" for line in (
            "print(torch.rand(1))", "torch.manual_seed(5)", "n.zero_grad()", "m.eval()", "o.sum().backward()", "d[0](o)",
            "open(o)", "np.save('CANARY', o)", "o.numpy().tofile('CANARY')", "raise ValueError('a')", "while True: pass",
            "m.ks.append(o)",
        )),
        "def len(t):\n    t.mul_(3)\ndef f(m, i, o):\n    len(o)\nn.l.register_forward_hook(f)\nn(x)",
        *(f"d = {{'s': 1.}}\ndef f(m, i, o):\n    d['s'] = 4.\nn.l.register_forward_hook(f)\n{line}" for line in (
            "def g(t):\n    return t * d['s']\ng(n(x))", "def g(t, d=d):\n    return t * d['s']\ng(n(x))", "n(x) * d['s']",
        )),
        "k = 3.\ndef f(g):\n    global k\n    k = 5.\nz = x * 2\nz.register_hook(f)\nz * k",
        "n.l.register_full_backward_hook(lambda m, a, b: a)", "z = x * 2\nh = z.register_hook(lambda g: g)\nh.remove.__func__",

        "z = x * 2\nz.register_hook(lambda g: (lambda: 0).__globals__)\nz",
    ],
}  # fmt: skip
"""What programs with classes in them may try."""


@pytest.mark.parametrize("family", OF_CLASSES)
def test_a_program_with_classes_reaches_nothing(family: str, canary: Path) -> None:
    for attempt in OF_CLASSES[family]:
        with pytest.raises(JvpError) as caught:
            _ = pose(Request(f"{CLASSES}{attempt.replace('CANARY', str(canary))}", {"x": "1,2"})).evaluation
        assert caught.value.exit_code in (ExitCode.REFUSED, ExitCode.LIMIT, ExitCode.EVALUATION), attempt
        assert caught.value.span is not None, attempt
        assert SECRET not in f"{caught.value.message}{caught.value.explanation}{caught.value.hints}"
    assert canary.read_text() == SECRET
    assert [path.name for path in canary.parent.iterdir()] == ["canary"]


HOOKS = [
    "lambda g: (k for k in g).gi_frame", "lambda g: open('CANARY')", "lambda g: g.numpy().tofile('CANARY')", "lambda g: f(g)",
    "lambda g: torch.load('CANARY')", "lambda g: g[:1]", "lambda g: 3",
]  # fmt: skip


def test_a_hook_reaches_nothing_as_the_backward_pass_runs(canary: Path) -> None:
    for hook in HOOKS:
        text = f"def f(g):\n    return f(g)\nz = x * 2\nz.register_hook({hook.replace('CANARY', str(canary))})\nz"
        with pytest.raises(JvpError) as caught:
            jvpcli.inspect(text, {"x": [1.0, 2.0]})
        assert caught.value.exit_code in (ExitCode.REFUSED, ExitCode.LIMIT, ExitCode.EVALUATION), hook
    assert canary.read_text() == SECRET


OF_OBJECTS = [
    "class A:\n    def __init__(self):\n        self.k = A()\na = A()",
    INIT.format("for k in range(90):\n            for j in range(90):\n                self.k = j"),
    "class A(N):\n    def forward(self, t):\n        return self(t)\na = A()\na(x)",
    STATIC.format("return A.apply(t)"),
    STATIC.format("while True:\n            t = t + 1"),
    "for k in range(100000):\n    x = S.apply(x)\nx",
    "class A(S):\n    @staticmethod\n    def forward(ctx, t):\n        return A.apply(A.apply(t))\nA.apply(x)",
]


@pytest.mark.parametrize("bomb", OF_OBJECTS)
def test_objects_and_contexts_end_at_a_limit(bomb: str) -> None:
    with pytest.raises(LimitError):
        _ = pose(Request(f"{CLASSES}{bomb}", {"x": "1,2"})).evaluation


BOMBS = [
    "f = torch.func.grad(lambda t: f(t))\nf(x)", "g = lambda t: torch.func.jacrev(g)(t)\ng(x)",
    "def f(t):\n    return torch.autograd.functional.jacobian(f, t)\nf(x)",
    "f = lambda t: (t ** 2).sum()\nfor k in range(100000):\n    f = torch.func.grad(f)\nf(x[0])",
    "f = lambda t: t * 1\nfor k in range(100000):\n    f = torch.vmap(f)\nf(x)",
    "def f(n):\n    return lambda t: f(n + 1)\ng = f(0)\nwhile True:\n    g = g(x)",
    "def f(t, k=[]):\n    k.append(k)\n    return f(t)\nf(x)", "def a(t):\n    return b(t)\ndef b(t):\n    return a(t)\na(x)",
    "f = lambda t: net(f(t))\nf(x)", "fs = []\nwhile True:\n    fs.append(lambda t: fs)\nx",
    "f = lambda h: lambda t: h(h(t))\ng = lambda t: t + 1\nfor k in range(60):\n    g = f(g)\ng(x)",
]  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_functions_of_functions_end_at_a_limit(bomb: str) -> None:
    """Recursion through derivatives and modules, and closures over closures."""
    with pytest.raises(LimitError):
        pose(Request(f"{NET}{bomb}", {"x": "1,2"}))
