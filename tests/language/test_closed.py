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


OF_MODULES: dict[str, list[str]] = {
    "objects": [
        "net.__class__", "net.__class__.__mro__", "net.forward.__globals__", "net.register_forward_hook(open)",
        "net.get_submodule('l')", "net[0] = x", "net.forward = open", "net.open('CANARY')", "setattr(n, 'k', open)",
        "getattr(n, '__class__')", "vars(net)", "type(net)",
    ],
    "changes of parameters": [
        "net[0].weight.data = open", "net[0].weight.data = open('CANARY')", "net[0].weight.data = torch.load('CANARY')",
        "net[0].weight.data = torch.zeros(10**12)", "net[0].weight.data = x.numpy()", "net[0].weight = open",
        "net[0].weight = net[0]", "net[0].weight = nn.Parameter(open)", "net[0].weight.requires_grad = open",
        "net[0].weight.grad = open", "net[0].weight.data.resize_(10**12)", "net[0].weight.data.set_(x)",
        "net[0].weight.data.as_strided_((2,2,20000),(20000,2**62-39999,1),0)", "net[0].weight.data.tofile('CANARY')",
        "net[0].weight.storage()", "net[0].weight.data.share_memory_()", "net[0].in_features = 10**9",
        "net[0].forward = open", "net[0].__dict__['k'] = x", "net[0]._parameters['weight'] = x", "nn.init.math.os",
        "nn.init._no_grad_fill_(net[0].weight, 1)", "nn.init.__builtins__['open']('CANARY')", "nn.init.uniform_(net)",
        "nn.init.uniform_(x)", "nn.init.uniform_(net[0].weight, generator=x)", "nn.init.warnings.warn('a')",
        "nn.init.dirac_(net[0].weight, 0)", "nn.init.kaiming_uniform_(net[0].weight, mode=open)",
        "nn.init.zeros_(*[net[0].weight])", "nn.init.zeros_(**{'tensor': net[0].weight})",
        "from torch.nn.init import os\nos.remove('CANARY')", "from torch.nn.init import warnings as w\nw.warn('a')",
        "from torch.nn import init\ninit.torch.load('CANARY')", "for p in net.parameters():\n    p.data = open('CANARY')",
        "for p in net.modules():\n    p.forward = open",
        "for m in net.modules():\n    open('CANARY', 'w')\n    nn.init.zeros_(m.weight)",
        "for m in net.modules():\n    if m.__class__.__mro__:\n        nn.init.zeros_(m.weight)",
        "for m in net.modules():\n    if isinstance(m, open):\n        nn.init.zeros_(m.weight)",
        "for m in net.modules():\n    if hasattr(m, '__class__') and m.__dict__:\n        nn.init.zeros_(m.weight)",
        (
            "for p in net.parameters():\n    for q in net.parameters():\n        for r in net.parameters():\n"
            "            for s in net.parameters():\n                for t in net.parameters():\n"
            "                    for u in net.parameters():\n                        t.data.fill_(1)"
        ),
        "for m in net.modules():\n    while True:\n        nn.init.zeros_(m.weight)",
        "for m in net.modules():\n    import os\n    nn.init.zeros_(m.weight)",
    ],
    "apply": [
        "net.apply(net)", "net.apply(net.apply)", "net.apply(lambda m: open('CANARY'))", "net.apply(torch.save)",
        "net.apply('os')", "def f(m):\n    m.apply(f)\n    nn.init.zeros_(net[0].weight)\nnet.apply(f)",
        "def f(m):\n    net.apply(f)\n    net.apply(f)\n    nn.init.zeros_(net[0].weight)\nnet.apply(f)",
        "def f(m):\n    return m.__class__.__mro__\nnet.apply(f)",
        "def f(m):\n    m.weight.data = m.__class__\nnet.apply(f)", "def f(m):\n    torch.save(m, 'CANARY')\nnet.apply(f)",
        "def f(m):\n    nn.init.constant_(m.weight, m.__class__.__name__.__class__)\nnet.apply(f)",
        "def f(m):\n    name = m.__class__.__name__\n    name.format(m)\n    m.weight.data.zero_()\nnet.apply(f)",
        "def f(m, k):\n    m.weight.data.zero_()\nnet.apply(f)",
        "def f(*m):\n    nn.init.zeros_(net[0].weight)\nnet.apply(f)",
    ],
    "states": [
        "net.load_state_dict(open)", "net.load_state_dict({'__class__': x})",
        "net.load_state_dict({'l.weight': open('CANARY')})", "net.load_state_dict(net.state_dict(), strict=open)",
        "net.load_state_dict(net[0].state_dict())", "net[0].load_state_dict({'weight': x, 'bias': x})",
        "net[0].load_state_dict({**x})", "net[0].load_state_dict({'weight': torch.ones(2, 2), 'bias': open})",
        "net.load_state_dict(net.state_dict().__class__)", "net.state_dict()['l.weight']",
        "net.load_state_dict(x.state_dict())",
    ],
    "built": [
        "l = []\nfor k in range(10**6):\n    l.append(nn.Tanh())\nl[0](x)",
        "l = []\nl.append(l)\nl.append(nn.Tanh())\nl[1](x)",
        "l = []\nfor k in range(3):\n    l.append(nn.Tanh())\n    open('CANARY', 'w')\nl[0](x)",
        "l = []\nfor k in open('CANARY'):\n    l.append(nn.Tanh())\nl[0](x)",
        "l = []\nfor k in range(2):\n    l.append(nn.Linear(10**9, 10**9))\nl[0](x)", "l = [nn.Tanh()]\nl.__class__",
        "l = [nn.Tanh()]\nl += [open]\nl[1]('CANARY')", "l = {'a': nn.Tanh(), 'b': open}\nl['b']('CANARY')",
        "s = nn.Sequential(nn.Tanh())\nfor m in s:\n    m.__class__\ns(x)", "s = nn.Sequential(nn.Tanh())\ns[:1].__class__",
        "s = nn.Sequential(nn.Tanh())\ns[::0](x)", "s = nn.Sequential(nn.Tanh())\ns.append(s)\ns(x)",
        "s = nn.Sequential(nn.Tanh())\ns.append(open)\ns(x)", "a = nn.Linear(2, 2)\na.in_features.__class__",
        "a = nn.Linear(2, 2)\na._buffers", "a = nn.Linear(2, 2)\na.training.real.__class__",
        "a = nn.Upsample(2)\na.mode.format(a)", "a = nn.Linear(2, 2)\ngetattr(a, '__class__')",
        "a = nn.Linear(2, 2)\ngetattr(a, '_modules')", "getattr(x, '__class__')", "getattr(x, 'grad_fn.next_functions')(x)",
        "getattr(torch, 'load')('CANARY')", "getattr(x, 'tofile')('CANARY')", "net.double(open)", "net.half().__class__",
        "net.float()._modules",
    ],
    "hooks": [
        "z = x * 2\nz.register_hook(open)\nz", "z = x * 2\nz.register_hook(lambda g: open('CANARY'))\nz",
        "z = x * 2\nz.register_hook(torch.load)\nz", "z = x * 2\nz.register_hook(lambda g: g.__class__)\nz",
        "z = x * 2\nz.register_hook(hook=print)\nz", "z = x * 2\nz.register_hook(lambda g, k=open: k('CANARY'))\nz",
        "z = x * 2\nz.register_hook(z.register_hook)\nz",
        "def f(k):\n    def g(v):\n        open(k)\n    return g\nz = x * 2\nz.register_hook(f('CANARY'))\nz",
        "d = {}\nnet.register_forward_hook(lambda m, i, o: d.setdefault('k', open))\nnet(x)",
        "def f(m, i, o):\n    o[0] = 5\nnet.register_forward_hook(f)\nnet(x)",
        "def f(m, i, o):\n    o.mul_(2)\nnet.register_forward_hook(f)\nnet(x)",
        "def f(m, i, o):\n    m.weight = o\nnet[0].register_forward_hook(f)\nnet(x)",
        "def f(g):\n    g[i] = 0\ni = 1\nz = x * 2\nz.register_hook(f)\ntorch.autograd.grad(z.sum(), x)[0] * 2",
        "g = []\nz = x * 2\nz.register_hook(lambda v: g.append(v))\nz * len(g)", "net.register_forward_hook(open)",
        "def f(m, i, o):\n    print(torch.rand(1))\nnet[0].register_forward_hook(f)\nnet(x)",
        "def f(m, i, o):\n    torch.manual_seed(5)\nnet[0].register_forward_hook(f)\nnet(x)",
        "def f(m, i, o):\n    net.zero_grad()\nnet[0].register_forward_hook(f)\nnet(x)",
        "def f(m, i, o):\n    m.eval()\nnet[0].register_forward_hook(f)\nnet(x)",
        "def f(m, i, o):\n    o.sum().backward()\nnet[0].register_forward_hook(f)\nnet(x)",
        "def f(m, i, o):\n    d[0](o)\nnet[0].register_forward_hook(f)\nnet(x)",
        "def f(m, i, o):\n    open(o)\nnet[0].register_forward_hook(f)\nnet(x)",
        "def f(m, i, o):\n    np.save('CANARY', o)\nnet[0].register_forward_hook(f)\nnet(x)",
        "def f(m, i, o):\n    o.numpy().tofile('CANARY')\nnet[0].register_forward_hook(f)\nnet(x)",
        "def f(m, i, o):\n    raise ValueError('a')\nnet[0].register_forward_hook(f)\nnet(x)",
        "def f(m, i, o):\n    while True: pass\nnet[0].register_forward_hook(f)\nnet(x)",
        "def f(m, i, o):\n    m.ks.append(o)\nnet[0].register_forward_hook(f)\nnet(x)",
        "def len(t):\n    t.mul_(3)\ndef f(m, i, o):\n    len(o)\nnet[0].register_forward_hook(f)\nnet(x)",
        (
            "d = {'s': 1.}\ndef f(m, i, o):\n    d['s'] = 4.\nnet[0].register_forward_hook(f)\ndef g(t):\n"
            "    return t * d['s']\ng(net(x))"
        ),
        (
            "d = {'s': 1.}\ndef f(m, i, o):\n    d['s'] = 4.\nnet[0].register_forward_hook(f)\ndef g(t, d=d):\n"
            "    return t * d['s']\ng(net(x))"
        ),
        "d = {'s': 1.}\ndef f(m, i, o):\n    d['s'] = 4.\nnet[0].register_forward_hook(f)\nnet(x) * d['s']",
        "k = 3.\ndef f(g):\n    global k\n    k = 5.\nz = x * 2\nz.register_hook(f)\nz * k",
        "net[0].register_full_backward_hook(lambda m, a, b: a)",
        "z = x * 2\nh = z.register_hook(lambda g: g)\nh.remove.__func__",
        "z = x * 2\nz.register_hook(lambda g: (lambda: 0).__globals__)\nz",
    ],
}  # fmt: skip
"""What programs may try with modules, and with hooks, as they run."""


@pytest.mark.parametrize("family", OF_MODULES)
def test_a_program_reaches_nothing_as_it_runs(family: str, canary: Path) -> None:
    for attempt in OF_MODULES[family]:
        with pytest.raises(JvpError) as caught:
            _ = pose(Request(f"{NET}{attempt.replace('CANARY', str(canary))}", {"x": "1,2"})).evaluation
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
