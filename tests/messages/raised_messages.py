"""Code that makes PyTorch complain: the triggers of the known messages, with shapes and operations of all kinds."""

from __future__ import annotations

RAISED = [
    ("grad-output-shape", "(3,) (3, 2) ones_like(y)", "x = leaf(3, 2); grad(x * x, x, torch.ones(3))"),
    ("grad-output-shape", "(1, 5) (5,) .reshape(5)", "x = leaf(5); (x * 2).backward(torch.ones(1, 5))"),
    ("grad-output-shape", "(1,) () .reshape(())", "x = leaf(7); grad(x.prod(), x, torch.ones(1))"),
    ("grad-output-shape", "(4, 3) (3, 4) transpose .T", "x = leaf(3, 4); grad(x.exp(), x, torch.ones(4, 3))"),
    ("grad-output-shape", "(12,) (3, 4) flattened", "x = leaf(3, 4); grad(x.exp(), x, torch.ones(12))"),
    ("grad-output-shape", "(2, 3) (3,) batch", "x = leaf(3); grad(x.exp(), x, torch.ones(2, 3))"),
    ("batched-grad-output-shape", "(3,) (B,", "x = leaf(3); grad(x, x, torch.ones(2, 4), is_grads_batched=True)"),
    ("implicit-grad", "mean()", "leaf(3, 3).cos().backward()"),
    ("implicit-grad", "jacrev", "x = leaf(2); grad(x.tanh(), x)"),
    ("no-grad-fn", "torch.stack", "x = leaf(3); grad(torch.tensor([x[0], x[1]]).sum(), x)"),
    ("no-grad-fn", "no_grad", "x = leaf(2)\nwith torch.no_grad(): y = x.sum()\ny.backward()"),
    ("no-grad-fn", "argmax", "leaf(3).argmax().backward()"),
    ("unused-input", "number 1 allow_unused", "x, w = leaf(3), leaf(5); grad(x.sum(), (x, w))"),
    ("unused-input", "number 0 view", "x = leaf(6); grad((x ** 3).sum(), x.view(3, 2))"),
    ("input-without-grad", "requires_grad_", "x, z = leaf(2), torch.rand(2); grad((x * z).sum(), z)"),
    ("no-inputs", "used up nn.ModuleList", "p = nn.Linear(2, 1).parameters(); list(p); grad(leaf(3).sum(), p)"),
    ("no-inputs", "backward() --wrt x", "leaf(3).sum().backward(inputs=[])"),
    ("no-inputs", "argnums=0", "fgrad(torch.sum, argnums=())(leaf(3))"),
    ("second-backward", "retain_graph=True hides", "x = leaf(3); y = x.sin(); y[0].backward(); y[2].backward()"),
    ("second-backward", "detach", "x = leaf(2, 2); y = (x @ x).sum(); grad(y, x); grad(y, x)"),
    ("modified-in-place", "(2, 5) float32 sigmoid version 0 version 2 2 times",
     "x = leaf(2, 5); y = x.sigmoid(); y.mul_(3); y += 1; y.sum().backward()"),
    ("modified-in-place", "(4, 3) float64 optimizer.step() transposed",
     "x, w = torch.rand(2, 3, dtype=torch.double), double(3, 4); y = ((x @ w) @ w.T).sum()\n"
     "with torch.no_grad(): w -= 1\ny.backward()"),
    ("modified-in-place", "() exp", "x = leaf(); y = x.exp(); y.add_(1); y.backward()"),
    ("leaf-in-place", "no_grad leaf", "w = leaf(3, 3); w *= 2"),
    ("leaf-in-place", "leaf clone()", "w = leaf(3, 3); w.relu_()"),
    ("leaf-in-place", "view clone()", "w = leaf(4); w[1:3] = 0."),
    ("floats-only", "torch.tensor([1., 2.]", "torch.tensor([[3, 4]], requires_grad=True)"),
    ("floats-only", "float()", "torch.arange(5).requires_grad_()"),
    ("floats-only", "integers", "jacobian(torch.cos, torch.arange(2))"),
    ("floats-only", "integers", "nn.Parameter(torch.tensor([True]))"),
    ("numpy-grad", "detach() plot cuts the gradient", "leaf(2, 3).sum(0).numpy()"),
    ("numpy-grad", "cuts the gradient", "np.asarray(leaf(2))"),
    ("gradients-type", "float grad_outputs=torch.tensor(", "x = leaf(2); grad(x ** 2, x, [1., 2.])"),
    ("gradients-type", "int", "x = leaf(2); grad([x[0], x[1]], x, [1, torch.tensor(1.)])"),
    ("implicit-grad-complex", "complex128",
     "z = torch.tensor([2 - 1j], dtype=torch.complex128, requires_grad=True); z.exp().sum().backward()"),
    ("complex-transform", "jacrev number 0", "jacrev(torch.exp)(torch.ones(3, dtype=torch.complex128))"),
    ("complex-transform", "jacfwd", "jacfwd(torch.exp)(torch.ones(3, dtype=torch.complex64))"),
    ("complex-transform", "jacrev outputs", "jacrev(lambda t: t.to(torch.complex64))(torch.ones(2))"),
    ("nan-in-backward", "sqrt torch.where infinite slope",
     "torch.autograd.set_detect_anomaly(True); z = torch.zeros(3, requires_grad=True); (0 * z.sqrt()).sum().backward()"),
    ("nan-in-backward", "pow",
     "torch.autograd.set_detect_anomaly(True); z = torch.zeros(3, requires_grad=True); (0 * z ** .5).sum().backward()"),
    ("gradcheck-mismatch", "float64 float32 transpose", "gradcheck(torch.cos, torch.tensor([.3, 1.1, 4.], "
                                                        "requires_grad=True))"),
    ("gradcheck-mismatch", "kink 0.5",
     "gradcheck(torch.relu, torch.zeros(3, dtype=torch.double, requires_grad=True))"),
    ("gradcheck-mismatch", "kink -1",
     "gradcheck(lambda t: -t.abs().sign() * t.abs() + t.relu(), torch.zeros(3, dtype=torch.double, requires_grad=True))"),
    ("gradcheck-mismatch", "factor of 2 ∂output0[1]/∂input0[1]",
     "gradcheck(lambda t: t * t.detach(), torch.tensor([0., 3.], dtype=torch.double, requires_grad=True))"),
    ("gradcheck-mismatch", "backward says 0 cut",
     "gradcheck(lambda t: 3 * t.detach() + 0 * t, double(2))"),
    ("gradcheck-mismatch", "sign", "gradcheck(lambda t: t.detach() * 4 - 2 * t, double(2))"),
    ("gradcheck-mismatch", "random", "gradcheck(F.dropout, torch.ones(16, dtype=torch.double, requires_grad=True))"),
    ("gradcheck-zero", "cut torch.stack", "gradcheck(lambda t: torch.tensor([t[1] * 3]), double(3))"),
    ("gradcheck-no-input", "requires_grad=True", "gradcheck(torch.exp, torch.ones(1, dtype=torch.double))"),
    ("gradcheck-precision", "float64", "warns:gradcheck(lambda t: t * 2, torch.ones(1, requires_grad=True), atol=1, "
                                       "rtol=1)"),
    ("functional-not-tensors", "list jacobian tuple", "jacobian(lambda t: t, [torch.ones(2)])"),
    ("functional-not-tensors", "float hessian", "hessian(lambda t: t, 1.5)"),
    ("functional-not-tensors", "dict", "jacobian(lambda t: {'out': t}, torch.ones(4))"),
    ("functional-not-tensors", "float number 1", "jacobian(lambda a, b: a, (torch.ones(4), 2.))"),
    ("functional-forward-mode", "vectorize=True jacfwd", "jacobian(torch.tanh, torch.ones(2), strategy='forward-mode')"),
    ("functional-forward-mode", "vectorize=True", "hessian(lambda t: t.tanh().sum(), torch.ones(2), "
                                                  "outer_jacobian_strategy='forward-mode')"),
    ("functional-v-none", "torch.ones_like(f(x))", "avjp(lambda t: t * 3, torch.ones(2, 2))"),
    ("functional-v-none", "torch.ones_like(x)", "ajvp(lambda t: t * 3, torch.ones(2, 2))"),
    ("functional-v-shape", "(2,) (2, 2)", "avjp(lambda t: torch.outer(t, t), torch.ones(2), torch.ones(2))"),
    ("functional-v-shape", "(5,) (2,)", "ajvp(torch.exp, torch.ones(2), torch.ones(5))"),
    ("functional-v-length", "2", "avjp(lambda t: (t, t), torch.ones(2), torch.ones(2))"),
    ("scalar-needed", "hessian sum()", "hessian(lambda t: t ** 2, torch.ones(2, 2))"),
    ("scalar-needed", "hvp", "hvp(lambda t: t ** 2, torch.ones(2), torch.ones(2))"),
    ("scalar-needed", "2 axes torch.func.grad", "fgrad(torch.exp)(torch.ones(2, 4))"),
    ("tangent-shape", "(5,) (4,)", "fjvp(torch.exp, (torch.ones(4),), (torch.ones(5),))"),
    ("tangent-shape", "(3, 2) (2, 3) .T",
     "with fw.dual_level(): fw.make_dual(torch.ones(2, 3), torch.ones(3, 2))"),
    ("vmap-item", "item()", "vmap(lambda t: t * t.max().item())(torch.ones(3, 2))"),
    ("vmap-item", "math.sin", "jacrev(lambda t: t)(torch.ones(2)); vmap(lambda t: t * "
                              "math.exp(t.sum()))(torch.ones(3, 2))"),
    ("vmap-control-flow", "torch.where", "vmap(lambda t: t if (t > 0).any() else -t)(torch.ones(3, 2))"),
    ("vmap-in-place", "zeros_like", "vmap(lambda t: torch.ones(4).mul_(t))(torch.ones(3, 4))"),
    ("vmap-random", "randomness='same'", "vmap(lambda t: t + torch.rand(2))(torch.ones(3, 2))"),
    ("no-forward-mode", "cdist jacrev", "jacfwd(lambda t: torch.cdist(t, 2 * t))(torch.ones(3, 2))"),
    ("captured-mutation", "eval()", "jacrev(nn.BatchNorm1d(5))(torch.randn(3, 5))"),
    ("strict-independent", "output 0", "jacobian(lambda t: torch.ones(4), torch.ones(2), strict=True)"),
    ("strict-independent", "output 1", "jacobian(lambda t: (t, torch.ones(2)), torch.ones(2), strict=True)"),
    ("strict-independent", "input", "jacobian(lambda t: leaf(4), torch.ones(2), strict=True)"),
    ("strict-independent", "linear", "hessian(lambda t: t.sum(), torch.ones(2), strict=True)"),
    ("strict-independent", "linear", "jacobian(lambda t: 2 * t, torch.ones(2), strict=True, create_graph=True)"),
    ("none-arithmetic", "- x.grad allow_unused=True", "-leaf(3).grad"),
    ("none-arithmetic", "* x.grad", "0.1 * leaf(2).grad"),
    ("none-arithmetic", "- x.grad", "leaf(2).grad - torch.ones(2)"),
    ("none-arithmetic", "** allow_unused=True", "g, = grad(leaf(2).sum(), leaf(2), allow_unused=True); g ** 2"),
    ("none-arithmetic", "@ allow_unused=True", "g, = grad(leaf(2).sum(), leaf(2), allow_unused=True); torch.ones(2) @ g"),
    ("none-arithmetic", "abs()", "abs(leaf(3).grad)"),
    ("none-arithmetic", "<", "leaf(3).grad < 1"),
    ("none-arithmetic", ">", "1 > leaf(3).grad"),
    ("matrix-product", "(4, 5) (4, 5) A @ B.T", "torch.ones(4, 5) @ torch.ones(4, 5)"),
    ("matrix-product", "(1, 3) (4, 2)", "torch.ones(3) @ torch.ones(4, 2)"),
    ("matrix-product", "(6, 5) (3, 4) in_features must be 5", "F.linear(torch.ones(2, 3, 5), torch.ones(4, 3))"),
    ("matrix-product", "(2, 3) (4, 2) B @ A", "torch.mm(torch.ones(2, 3), torch.ones(4, 2))"),
    ("matrix-product", "(8, 20) (10, 5)", "nn.Linear(10, 5)(torch.ones(8, 20))"),
    ("broadcast-sizes", "5 2 axis 1", "torch.ones(3, 5) * torch.ones(3, 2)"),
    ("broadcast-sizes", "7 6 axis 0", "torch.where(torch.ones(7) > 0, torch.ones(6), 0.)"),
    ("dot-length", "(2,) (5,) outer", "torch.dot(torch.ones(2), torch.ones(5))"),
    ("dot-length", "(2,) (5,)", "torch.ones(2) @ torch.ones(5)"),
    ("vectors-needed", "outer first 3 axes", "torch.outer(torch.ones(2, 1, 2), torch.ones(2))"),
    ("vectors-needed", "second 2 axes", "torch.outer(torch.ones(2), torch.ones(2, 2))"),
    ("matrix-vector", "(4, 2) (3,)", "torch.mv(torch.ones(4, 2), torch.ones(3))"),
    ("matrix-vector", "(3, 3) (2,)", "torch.ones(3, 3) @ torch.ones(2)"),
    ("matrix-vector", "(2, 3) 4 2", "torch.addmv(torch.ones(4), torch.ones(2, 3), torch.ones(3))"),
    ("reshape-count", "12 (5, 2) 10", "torch.ones(3, 4).reshape(5, 2)"),
    ("reshape-count", "6 (-1, 4) whole", "torch.ones(6).view(-1, 4)"),
    ("reshape-count", "x.reshape(-1, 3)", "torch.ones(2, 6).reshape(5, 3)"),
    ("view-stride", "reshape", "torch.ones(3, 5).T.view(15)"),
    ("cat-sizes", "2 5 axis 0 dim=1", "torch.cat([torch.ones(3, 2), torch.ones(3, 5)])"),
    ("cat-sizes", "4 3 axis 1 number 2", "torch.cat([torch.ones(4, 1), torch.ones(4, 2), torch.ones(3, 1)], 1)"),
    ("einsum-sizes", "letter k 2 5 operand 1", "torch.einsum('ik,kj->ij', torch.ones(3, 2), torch.ones(5, 2))"),
    ("axis-range", "dim=3 2 axes", "torch.ones(2, 2).sum(3)"),
    ("axis-range", "dim=-4 3 axes", "torch.softmax(torch.ones(2, 2, 2), dim=-4)"),
    ("same-dtype", "float32 float64", "torch.ones(2, 2) @ torch.ones(2, 2, dtype=torch.double)"),
    ("same-dtype", "int64 float32", "torch.ones(2, 2, dtype=torch.long) @ torch.ones(2, 2)"),
    ("same-dtype", "float64 float32", "nn.Linear(3, 2)(torch.ones(1, 3, dtype=torch.double))"),
    ("same-dtype", "float32 float64", "torch.dot(torch.ones(2), torch.ones(2, dtype=torch.double))"),
    ("gradient-number", "Mul 3 1", """
        class Mul(Function_):
            @staticmethod
            def backward(ctx, g): return g
        Mul.apply(leaf(2), 3, 4).sum().backward()"""),
    ("gradient-number", "Two 1 2", """
        class Two(Function_):
            @staticmethod
            def backward(ctx, g): return g, g
        Two.apply(leaf(2)).sum().backward()"""),
    ("gradient-shape", "Total (2,) (5,) expand", """
        class Total(Function):
            @staticmethod
            def forward(ctx, a): return a.sum()
            @staticmethod
            def backward(ctx, g): return g * torch.ones(2)
        Total.apply(leaf(5)).backward()"""),
    ("setup-context", "setup_context", """
        class Old(Function_):
            @staticmethod
            def backward(ctx, g): return 2 * g
        jacrev(Old.apply)(torch.ones(2))"""),
    ("function-vmap", "New generate_vmap_rule", """
        class New(Function):
            @staticmethod
            def forward(a): return a * 2
            @staticmethod
            def setup_context(ctx, inputs, output): pass
            @staticmethod
            def backward(ctx, g): return 2 * g
        vmap(New.apply)(torch.ones(2))"""),
    ("function-without-backward", "backward", "Function_.apply(leaf(2)).sum().backward()"),
    ("function-without-backward", "forward mode save_for_forward def jvp", """
        class New(Function):
            @staticmethod
            def forward(a): return a * 2
            @staticmethod
            def setup_context(ctx, inputs, output): pass
            @staticmethod
            def backward(ctx, g): return 2 * g
        torch.func.jvp(New.apply, (torch.ones(2),), (torch.ones(2),))"""),
    ("backward-returned-no-tensor", "float", """
        class Number(Function_):
            @staticmethod
            def backward(ctx, g): return 2.0
        Number.apply(leaf(2)).sum().backward()"""),
    ("save-for-backward", "int", """
        class Saves(Function):
            @staticmethod
            def forward(ctx, a): ctx.save_for_backward(a, 3); return a
        Saves.apply(leaf(2))"""),
    ("legacy-function", "apply", """
        class Legacy(Function):
            def forward(self, a): return a
        Legacy()(leaf(2))"""),
    ("cpu-memory", "8 TiB", "torch.empty(2 ** 43, dtype=torch.uint8)"),
    ("loss-broadcast", "(3,) (3, 1) (3, 3) squeeze", "warns:F.mse_loss(torch.ones(3, 1), torch.ones(3))"),
    ("loss-broadcast", "(1, 4) (4, 1) (4, 4)", "warns:nn.L1Loss()(torch.ones(4, 1), torch.ones(1, 4))"),
    ("non-leaf-grad", "retain_grad", "warns:y = leaf(3).exp(); y.sum().backward(); y.grad"),
    # further ones
    ("gradient-count", "2 1", "x = leaf(2); grad([x, x], x, [torch.ones(2)])"),
    ("grad-output-dtype", "float32 complex64",
     "z = torch.tensor([1j], requires_grad=True); grad(z * 2, z, torch.ones(1))"),
    ("assigned-grad", "(4,) (3,)", "x = leaf(3); x.grad = torch.ones(4)"),
    ("assigned-grad", "dtype", "x = leaf(3); x.grad = torch.ones(3, dtype=torch.double)"),
    ("deepcopy", "detach", "copy.deepcopy(leaf(3) * 2)"),
    ("requires-grad-of-non-leaf", "detach", "y = leaf(3) * 2; y.requires_grad = False"),
    ("retain-grad", "requires_grad", "torch.ones(3).retain_grad()"),
    ("retain-grad", "requires_grad", "torch.ones(3).register_hook(print)"),
    ("non-leaf-optimizer", "leaf", "torch.optim.SGD([leaf(3) * 2], lr=1.)"),
    ("no-parameters", "ModuleList", "torch.optim.SGD([], lr=1.)"),
    ("out-argument", "add", "torch.add(leaf(3), 1, out=torch.ones(3))"),
    ("inference-tensor", "no_grad", "with torch.inference_mode(): a = torch.ones(3)\n(a * leaf(3)).sum()"),
    ("view-in-place", "Unbind", "a, b = (leaf(2, 3) * 2).unbind(0); a.mul_(2)"),
    ("view-in-place", "comes from Slice", "a, b = (leaf(2, 3) * 2).unbind(0); a[:2].mul_(2)"),
    ("view-made-without-grad", "no_grad", "x = leaf(3)\nwith torch.no_grad(): v = x[:2]\nv.mul_(2)"),
    ("reference-cycle", "autograd.grad", "warns:leaf(3).exp().sum().backward(create_graph=True)"),
    ("copy-construct", "clone", "warns:torch.tensor(leaf(2))"),
    ("derivative-not-implemented", "zeta", "torch.special.zeta(leaf(2) + 2, 2.).sum().backward()"),
    ("backward-in-transform", "torch.func", "fgrad(lambda t: (t.sum().backward(), t.sum())[1])(leaf(2))"),
    ("grad-is-none", "w.grad = None", "w = leaf(2); w.grad.zero_()"),
    ("no-such-attribute", "float", "leaf(2).sum().item().backward()"),
    ("no-such-attribute", "max values", "leaf(2).max(0).backward()"),
    ("ambiguous-truth", "torch.where", "assert torch.ones(3)"),
    ("ambiguous-truth", "empty", "bool(torch.ones(0))"),
    ("one-element", "6 entries mean", "torch.ones(2, 3).item()"),
    ("one-element", "torch.stack", "torch.tensor([torch.ones(2), torch.ones(2)])"),
    ("tensor-as-index", "int(i)", "[1, 2][torch.ones(1)]"),
    ("result-type", "float32 int64", "torch.arange(3).add_(.5)"),
    ("not-for-dtype", "bitwise_and float32", "torch.ones(2) & torch.ones(2)"),
    ("not-for-dtype", "complex64 no order", "torch.ones(2, dtype=torch.complex64).max()"),
    ("not-for-dtype", "softmax int64", "torch.arange(3).softmax(0)"),
    ("mean-of-integers", "int64", "torch.arange(3).mean()"),
    ("found-dtype", "float32 float64", "torch.bmm(torch.ones(1, 1, 1), torch.ones(1, 1, 1, dtype=torch.double))"),
    ("must-be-tensor", "sin list", "torch.sin([1.])"),
    ("must-be-tensor", "linear ndarray from_numpy", "nn.Linear(1, 1)(np.ones((1, 1)))"),
    ("must-be-tensors", "Item 1 float", "torch.stack([torch.ones(()), 1.])"),
    ("ragged-list", "2 3", "torch.tensor([[1, 2], [1, 2, 3]])"),
    ("index-range", "9 4 axis 1", "torch.ones(2, 4)[:, 9]"),
    ("index-range", "5 3", "torch.ones(3).select(0, 5)"),
    ("index-range", "3 axis 0", "torch.ones(2, 4)[torch.tensor([3])]"),
    ("lookup-range", "num_embeddings", "F.embedding(torch.tensor([4]), torch.ones(4, 2))"),
    ("target-range", "Class 5 ignore_index", "F.cross_entropy(torch.ones(1, 3), torch.tensor([5]))"),
    ("too-many-indices", "1 axis", "torch.ones(3)[0, 0]"),
    ("number-indexed", "item()", "torch.ones(())[0]"),
    ("mask-shape", "(2,) (4,)", "torch.ones(4)[torch.tensor([True, False])]"),
    ("gather-sizes", "(4, 1) (2, 3)", "torch.ones(2, 3).gather(1, torch.zeros(4, 1, dtype=torch.long))"),
    ("index-tensors", "(2,) (3,)", "torch.ones(4, 4)[torch.tensor([0, 1]), torch.tensor([0, 1, 2])]"),
    ("index-assignment", "(3,) (2, 4)", "a = torch.ones(4, 4); a[torch.tensor([0, 1])] = torch.ones(3)"),
    ("index-dtype", "long()", "torch.ones(3)[torch.ones(1)]"),
    ("in-place-broadcast", "(3,) (2, 3)", "torch.ones(3).add_(torch.ones(2, 3))"),
    ("expand-size", "(4,) (3,)", "torch.ones(3).expand(4)"),
    ("expand-size", "(2, 4) (5,)", "F.linear(torch.ones(2, 3), torch.ones(4, 3), torch.ones(5))"),
    ("expand-axes", "(2, 3) (3,)", "torch.ones(2, 3).expand(3)"),
    ("loss-shapes", "(4,) (4, 1)", "F.binary_cross_entropy_with_logits(torch.ones(4, 1), torch.ones(4))"),
    ("batch-product", "2 5 transpose", "torch.bmm(torch.ones(2, 3, 2), torch.ones(2, 5, 2))"),
    ("matmul-number", "0-d", "torch.ones(()) @ torch.ones(2)"),
    ("matrix-needed", "second 2 axes", "torch.mm(torch.ones(2, 2), torch.ones(2))"),
    ("matrix-needed", "first 3 axes", "torch.bmm(torch.ones(2, 2), torch.ones(2, 2, 2))"),
    ("dot-dimensions", "2 1", "torch.dot(torch.ones(2, 2), torch.ones(2))"),
    ("contraction-sizes", "3 2", "torch.tensordot(torch.ones(2, 3), torch.ones(2, 3), dims=1)"),
    ("einsum-letters", "2 letters 1 axes", "torch.einsum('ij,jk->ik', torch.ones(2, 3), torch.ones(3))"),
    ("einsum-output", "k", "torch.einsum('ij->k', torch.ones(2, 3))"),
    ("square-needed", "2 3", "torch.linalg.inv(torch.ones(2, 3))"),
    ("singular", "ridge", "torch.linalg.inv(torch.ones(2, 2))"),
    ("not-positive-definite", "positive", "torch.linalg.cholesky(-torch.eye(2))"),
    ("cat-axes", "2 1", "torch.cat([torch.ones(2, 3), torch.ones(3)])"),
    ("cat-number", "stack", "torch.cat([torch.ones(()), torch.ones(())])"),
    ("stack-sizes", "(2,) (3,) collate_fn", "torch.stack([torch.ones(2), torch.ones(3)])"),
    ("empty-list", "filter", "torch.cat([])"),
    ("permute-axes", "3 2", "torch.ones(2, 3).permute(0, 1, 2)"),
    ("split-sizes", "5", "torch.ones(5).split([2, 2])"),
    ("t-of-more-axes", "3", "torch.ones(2, 2, 2).t()"),
    ("conv-channels", "(8, 3, 3, 3) (1, 4, 8, 8) 3 4 alpha", "F.conv2d(torch.ones(1, 4, 8, 8), torch.ones(8, 3, 3, 3))"),
    ("conv-channels", "(2, 8, 8, 3) permute(0, 3, 1, 2)", "F.conv2d(torch.ones(2, 8, 8, 3), torch.ones(4, 3, 3, 3))"),
    ("conv-depth", "(8, 8)", "F.conv2d(torch.ones(8, 8), torch.ones(8, 1, 3, 3))"),
    ("kernel-size", "2 x 2 3 x 3", "F.conv2d(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 3, 3))"),
    ("layer-norm", "[4] (2, 3)", "F.layer_norm(torch.ones(2, 3), (4,))"),
    ("batch-norm-single", "(1, 3)", "nn.BatchNorm1d(3)(torch.ones(1, 3))"),
    ("class-batch", "2 3", "F.cross_entropy(torch.ones(2, 3), torch.tensor([0, 1, 1]))"),
    ("class-target-axes", "squeeze", "F.cross_entropy(torch.ones(2, 3), torch.tensor([[0], [1]]))"),
    ("class-probabilities", "int64", "F.cross_entropy(torch.ones(2, 3), torch.ones(2, 3, dtype=torch.long))"),
    ("checkpoint-size", "(2, 4) (2, 3)", "nn.Linear(3, 2).load_state_dict(nn.Linear(4, 2).state_dict())"),
    ("vmap-sizes", "[2, 3]", "vmap(torch.add)(torch.ones(2), torch.ones(3))"),
    ("vmap-returns", "float", "vmap(lambda t: 1.)(torch.ones(2))"),
    ("vmap-dynamic-shape", "torch.where", "vmap(lambda t: t[t > 0])(torch.ones(2, 3))"),
    ("transform-structure", "tuple", "fjvp(torch.sin, torch.ones(3), torch.ones(3))"),
    ("size-overflow", "", "torch.empty(2 ** 40, 2 ** 40)"),
]  # fmt: skip
"""(entry, what must be told, code); a code that starts with `warns:` raises nothing and warns."""
