"""Graphs that are missing, cut or used up, and `.grad`."""

from __future__ import annotations

from jvpcli.explain.shapes import refit
from jvpcli.explain.table.entry import Entry, Found, Words, says


def no_grad_fn(found: Found) -> Words:
    """E03: the output doesn't depend on anything that requires grad."""
    number = found.int("index")
    which = "The tensor" if number is None or number == 0 else f"Tensor number {number}"
    return Words(
        "There is no graph: the output doesn't depend on anything that requires grad",
        f"{which} that backward() (or grad) was called on has no grad_fn: as far as autograd knows it is a constant, "
        f"so there is "
        "nothing to differentiate. Somewhere between the input and here the graph was cut, or never begun.",
        (
            "No input requires grad: requires_grad=True is missing, or all parameters are frozen.",
            "The graph was cut on the way: .detach(), .item(), .data, .numpy(), torch.tensor(y) or "
            "torch.tensor([x[0], …]), which "
            "copies numbers only.",
            "It was computed under torch.no_grad(), @torch.no_grad() or torch.inference_mode().",
            "An operation without a derivative decides the result: argmax, round to integers, a comparison, .long(), "
            ".bool().",
        ),
        (
            "x = x.requires_grad_()   # before computing y, and on floats",
            "print(y.requires_grad, y.grad_fn)   # go back step by step to the first one that says False, None",
            "torch.stack([x[0], x[1]])   # instead of torch.tensor([x[0], x[1]])",
            "loss = loss.requires_grad_() only silences the message: the parameters get no gradient, since the graph "
            "stays cut.",
        ),
    )


def unused(found: Found) -> Words:
    """E04: the input doesn't reach the output."""
    number = found.int("index")
    which = "An input" if number is None else f"Input number {number}"
    return Words(
        f"{which} of torch.autograd.grad doesn't reach the output",
        f"{which} requires grad, but the output was not computed from this very tensor. Often an equal one was used: "
        f"a view, copy or "
        "reshaped version is a new node of the graph, and the gradient flows to the one that was really used.",
        (
            "grad is asked for x.view(…), x[0], x.to(device) or x.clone(), made after (or beside) the x that y was "
            "computed from.",
            "The tensor was replaced on the way (x = x * 2), and the name now means another node.",
            "The output really doesn't depend on it: an unused layer or branch, or the graph is cut by .detach() or "
            ".item().",
        ),
        (
            "g, = torch.autograd.grad(y, x); g.view(2, 2)   # differentiate by the original x, and reshape its gradient",
            "xv = x.view(2, 2); y = f(xv); torch.autograd.grad(y, xv)   # or compute y from the view",
            "allow_unused=True gives None instead of this error: right only if the input may truly be unused; "
            "otherwise it hides the "
            "cut. materialize_grads=True gives zeros.",
            'jvp inspect "(x.view(2,2)**2).sum()" --x 1,2,3,4',
        ),
    )


def second_backward(found: Found) -> Words:
    """E06: the graph was used up."""
    return Words(
        "The graph was used up by an earlier backward() or grad()",
        "During backward autograd frees what it saved for it (the graph's intermediate values), so a graph can be "
        "walked once. "
        "This one, or a part that it shares with another, has been walked before.",
        (
            "Something computed before the loop is used in every turn: a hidden state, an embedding, a loss term or "
            "penalty. The "
            "second turn walks into the first turn's graph.",
            "backward() is called twice on parts of one graph: loss1.backward(); loss2.backward(), or y[0] and y[1] "
            "of one y.",
            "A tensor from an earlier iteration is kept (running sums: total += loss) and differentiated again.",
            "Higher derivatives are wanted: that needs create_graph=True.",
        ),
        (
            "h = h.detach()   # between the turns, when the gradient should not flow into earlier ones (truncated BPTT)",
            "(loss1 + loss2).backward()   # one walk over both",
            "total += loss.item()   # for bookkeeping",
            "Move what depends on the parameters into the loop, so that it is computed again in each turn.",
            "retain_graph=True, which the message advises, is right for several cotangents through the same y; in a "
            "training loop it "
            "hides the bug: memory and time grow with each turn.",
        ),
    )


def nan_backward(found: Found) -> Words:
    """E15: anomaly detection found a NaN."""
    node = found.text("node") or "a backward function"
    operation = node.rstrip("0123456789").removesuffix("Backward")
    number = found.int("output") or 0
    reasons = {
        "Sqrt": ("sqrt has an infinite slope at 0, and 0·∞ is NaN.", "torch.sqrt(x + eps)   # or "
                                                                     "x.clamp_min(eps).sqrt()"),
        "Norm": ("The norm has no derivative at the zero vector.", "(x.square().sum() + eps).sqrt()"),
        "LinalgVectorNorm": ("The norm has no derivative at the zero vector.", "(x.square().sum() + eps).sqrt()"),
        "Log": ("log has the slope 1/x: infinite at 0.", "torch.log(x.clamp_min(eps))   # or log_softmax, logsumexp, "
                                                         "log1p"),
        "Div": ("A division by zero, or 0/0.", "a / (b + eps)"),
        "Pow": ("x**p with p < 1 has an infinite slope at 0; a negative base or log(base) is NaN.", "(x + eps) ** p"),
        "Acos": ("acos has an infinite slope at ±1.", "torch.acos(x.clamp(-1 + eps, 1 - eps))"),
        "Std": ("The standard deviation of equal numbers is 0, where its slope is infinite.", "(x.var() + eps).sqrt()"),
        "Exp": ("exp overflowed to infinity, and 0·∞ is NaN.", "torch.exp(x - x.max())   # or logsumexp, softmax"),
    }  # fmt: skip
    reason, cure = reasons.get(
        operation, ("An infinite or undefined slope at this point, times 0.", "keep its input away from there")
    )
    return Words(
        f"The gradient became NaN in the backward of {operation.lower() or node}",
        f"{node} is the backward of the operation {operation.lower() or 'named'}; the gradient for its input number "
        f"{number} is NaN, "
        "and the gradients that arrived were not. Anomaly detection stops at the first such place.",
        (
            reason,
            "A torch.where, or a mask times the value, doesn't help: the branch not taken is differentiated too, and "
            "0 · NaN is NaN.",
            "The forward value is already NaN or infinite: a learning rate too high, float16 overflow, bad input.",
        ),
        (
            cure,
            "safe = torch.where(ok, x, 1.0); y = torch.where(ok, torch.sqrt(safe), 0.0)   # mask the input, not only "
            "the output",
            "The traceback of the forward call stands above, in the warning 'Error detected in …': that line made the "
            "value.",
            'jvp inspect "torch.where(x > 0, torch.sqrt(torch.where(x > 0, x, 1.0)), 0*x)" --x 0,1',
        ),
    )


def assigned_grad(found: Found) -> Words:
    """`x.grad = …` of another shape, dtype or device."""
    got, expected = found.shape("got"), found.shape("expected")
    shapes = f": {got} is assigned to a tensor of shape {expected}" if got is not None and expected is not None else ""
    return Words(
        f"x.grad must be like x{shapes}",
        f"A gradient has one entry for each entry of its tensor, so it has the same shape, dtype and device{shapes}.",
        (
            "The gradient of another tensor is assigned.",
            "The tensor was resized, cast or moved (.data = …) after its .grad was made.",
        ),
        (
            "x.grad = None   # the next backward() makes a new one",
            *((f"x.grad = g{refit(got, expected)}",) if got and expected and refit(got, expected) else ()),
            "x.grad = g.to(x.device, x.dtype)",
        ),
    )


def non_leaf_grad(found: Found) -> Words:
    """E46: reading .grad of a tensor that was computed."""
    return Words(
        ".grad of a tensor that was computed stays None",
        "backward() stores gradients only in leaves: tensors that you made yourself with requires_grad=True. This "
        "tensor is the result "
        "of an operation, so its gradient flowed through and was not kept. It is a warning; the None will show up "
        "later.",
        (
            "The tensor was changed on the way: x = x.to(device), x = x.float(), x = x.reshape(…), nn.Parameter(…) * "
            "2 — the new x is no leaf.",
            "requires_grad=True was given before .to('cuda') or .cuda(), and the copy is the one in use.",
            "The gradient of an intermediate value is wanted.",
        ),
        (
            "x = torch.randn(4, device='cuda', requires_grad=True)   # make it there, so that it is the leaf",
            "x = x.to(device).detach().requires_grad_()   # a new leaf",
            "y.retain_grad(); y.sum().backward(); y.grad   # or, without storing: torch.autograd.grad(y.sum(), y)",
        ),
    )


def grad_is_none(found: Found) -> Words:
    """Python's complaint when `.grad` is None."""
    return Words(
        ".grad is None: no gradient has arrived there",
        "The line uses x.grad, which is None. A gradient is there only after a backward() that reached this tensor, "
        "and only if "
        "the tensor is a leaf with requires_grad=True.",
        (
            "backward() has not been called yet, or zero_grad() (which sets .grad to None) came in between.",
            "x is no leaf: x = x - lr * x.grad, x = x.to(device) make a new tensor, whose .grad stays None.",
            "The output doesn't depend on it: unused, frozen, or the graph is cut by .detach() or .item().",
        ),
        (
            "with torch.no_grad(): w -= lr * w.grad   # in place, so that w stays the leaf",
            "print(x.is_leaf, x.requires_grad)   # both must be True",
            "w.grad = None   # instead of w.grad.zero_(): works whether there is one or not",
        ),
    )


def not_implemented(found: Found) -> Words:
    """An operation without a derivative formula."""
    operation = found.text("op") or "this operation"
    return Words(
        f"PyTorch has no derivative for {operation}",
        f"The forward of {operation} works, but nobody has written its backward (at least for this argument, or this "
        f"backend's kernel).",
        (
            "A gradient flows into an argument that was meant as a constant (a target, weights, an order, indices).",
            "A fused kernel without double backward is used where second derivatives are asked for.",
        ),
        (
            "Pass that argument without grad: argument.detach()",
            "Write it with operations that have a derivative, or wrap it in a torch.autograd.Function with your own "
            "backward.",
            "with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH): …   # for attention: the kernel "
            "with double backward",
        ),
    )


def not_for_argument(found: Found) -> Words:
    """An argument that can't require a gradient."""
    function, argument = found.text("function"), found.text("argument")
    return Words(
        f"{function} has no derivative for its argument {argument}",
        f"{argument} is state or a setting of {function}, not a value that a gradient flows to, so it must not require one.",
        (
            "A buffer (running_mean, running_var) or a setting was made with requires_grad=True, or comes from the input.",
        ),
        (
            f"Pass it without a gradient: {argument}.detach()",
            "jvp differentiates all floating inputs: --wrt x,W names those that are meant, without this one.",
        ),
    )


ENTRIES = (
    Entry(
        "no-grad-fn",
        (
            "element {index:int} of {tensors|variables} does not require grad and does not have a grad_fn",
            "element {index:int} of the input tensors does not require grad",
            "there are no graph nodes that require computing gradients",
        ),
        no_grad_fn,
    ),
    Entry(
        "unused-input",
        (
            "The differentiated {Tensor|Variable} at index {index:int} appears to not have been used in the graph{?. "
            "Set "
            "allow_unused=True if this is the desired behavior.}",
            "One of the differentiated {Tensors|Variables} appears to not have been used in the graph{?. Set "
            "allow_unused=True if this "
            "is the desired behavior.}",
        ),
        unused,
    ),
    Entry(
        "input-without-grad",
        ("One of the differentiated {Tensors|Variables} does not require grad",),
        says(
            "A gradient is asked for a tensor that does not require grad",
            "torch.autograd.grad(y, z) can only differentiate by tensors that had requires_grad=True when y was "
            "computed: only for those "
            "has autograd recorded how y depends on them.",
            (
                "z was made without requires_grad=True.",
                "requires_grad_() was called on z after y was computed: y must be computed again.",
                "z is a copy: .detach(), .data, torch.tensor(z), or was made under torch.no_grad().",
            ),
            (
                "z = torch.ones(4, requires_grad=True); y = f(z); torch.autograd.grad(y.sum(), z)",
                "z.requires_grad_(); y = f(z)   # then compute y again",
            ),
        ),
    ),
    Entry(
        "second-backward",
        (
            "Trying to backward through the graph a second time{?, but the buffers have already been freed. Specify "
            "retain_graph=True "
            "when calling backward the first time.}",
            "Trying to backward through the graph a second time, but the saved intermediate results have already been "
            "freed{?. Specify "
            "retain_graph=True when calling .backward() or autograd.grad() the first time.}",
            "Trying to backward through the graph a second time (or directly access saved {tensors|variables} after "
            "they have already "
            "been freed). Saved intermediate values of the graph are freed when you call .backward() or "
            "autograd.grad(). Specify "
            "retain_graph=True if you need to backward through the graph a second time{? or if you need to access "
            "saved tensors after "
            "calling backward.}",
            "Trying to backward an extra time. You are only allowed to backward once",
        ),
        second_backward,
    ),
    Entry(
        "nan-in-backward",
        ("Function '{node:word}' returned nan values in its {output:int}th output{?.}",),
        nan_backward,
    ),
    Entry(
        "assigned-grad",
        (
            "attempting to assign a gradient of size '{got:shape}' to a tensor of size '{expected:shape}'",
            "assigned grad has data of a different {size|type}",
            "assigned grad has data located on a different device",
            "attempting to assign a gradient with {dtype|device type} '{from:any}' to a tensor with "
            "{grad_dtype|dtype|device type} '{to:any}'",
        ),
        assigned_grad,
    ),
    Entry(
        "non-leaf-grad",
        ("The .grad attribute of a Tensor that is not a leaf Tensor is being accessed",),
        non_leaf_grad,
    ),
    Entry(
        "grad-is-none",
        (
            ".grad{?.data}{:any}AttributeError: 'NoneType' object has no attribute '{attribute:word}'",
            ".grad{:any}TypeError: unsupported operand type(s) for {op:word}: {left:any} and 'NoneType'",
            ".grad{:any}TypeError: unsupported operand type(s) for {op:word}: 'NoneType' and '{right:any}'",
            "'NoneType' object has no attribute 'zero_'",
        ),
        grad_is_none,
    ),
    Entry(
        "derivative-not-implemented",
        (
            "the derivative for '{op:any}' is not implemented",
            "derivative for {op:word} is not implemented",
            "derivative for {op:word} not implemented",
        ),
        not_implemented,
    ),
    Entry(
        "argument-not-differentiable",
        (
            "The function '{function:word}' is not differentiable with respect to argument '{argument:word}'. This input "
            "cannot have requires_grad True",
        ),
        not_for_argument,
    ),
    Entry(
        "out-argument",
        (
            "{op:word}(): functions with out=... arguments don't support automatic differentiation, but one of the "
            "arguments requires grad",
        ),
        lambda found: Words(
            f"{found.text('op')} with out=… can't be differentiated",
            f"out= makes {found.text('op')} write into a tensor that exists already, and autograd doesn't record "
            f"that. One of its "
            "arguments requires grad.",
            ("A buffer is reused for speed.", "The result isn't meant to be differentiated."),
            (
                f"y = torch.{found.text('op')}(…)   # without out=",
                "with torch.no_grad(): …   # if no gradient is needed here",
            ),
        ),
    ),
    Entry(
        "deepcopy",
        ("Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment",),
        says(
            "copy.deepcopy met a tensor that is part of a graph",
            "A tensor that was computed from others belongs to their graph, and a deep copy would have to copy the "
            "graph too. Only leaves "
            "can be deep-copied.",
            (
                "A module holds a computed tensor as attribute: self.state = self.layer(x), a cached output or loss.",
                "weight_norm or spectral_norm keeps a computed weight in the module.",
                "A list of outputs or losses with their graphs is copied.",
            ),
            (
                "self.state = h.detach()   # keep numbers, not the graph",
                "best = {name: p.detach().clone() for name, p in model.state_dict().items()}   # to keep the best "
                "weights",
                "y.clone()   # a copy that stays in the graph; y.detach().clone() if no gradient is to flow: deepcopy "
                "advice often means this",
            ),
        ),
    ),
    Entry(
        "requires-grad-of-non-leaf",
        ("you can only change requires_grad flags of leaf variables",),
        says(
            "requires_grad of a computed tensor can't be changed",
            "Whether a computed tensor requires grad follows from what it was computed from. The flag can be set only "
            "on leaves.",
            (
                "Freezing is tried on an output instead of the parameters.",
                "x was already used: it is the result of .to(), *, view …",
            ),
            (
                "for p in module.parameters(): p.requires_grad_(False)   # freeze the parameters",
                "y = y.detach()   # cuts the graph here: right if no gradient should flow further back",
            ),
        ),
    ),
    Entry(
        "retain-grad",
        (
            "can't retain_grad on Tensor that has requires_grad=False",
            "cannot register a hook on a tensor that doesn't require gradient",
        ),
        says(
            "The tensor has no gradient to keep or to watch",
            "retain_grad() and hooks act on the gradient that arrives at this tensor in backward. It has "
            "requires_grad=False, so none will.",
            ("It doesn't depend on anything that requires grad, or was computed under no_grad.", "It was detached."),
            (
                "x.requires_grad_()   # before computing, on the leaf",
                "print(y.grad_fn)   # None: the graph is cut before y",
            ),
        ),
    ),
    Entry(
        "backward-in-transform",
        ("backward() called inside a functorch transform",),
        says(
            "backward() was called inside torch.func",
            "torch.func.grad, vjp, jacrev and vmap differentiate by transforming the function; backward() inside it "
            "belongs to the other "
            "machinery and can't see through.",
            ("The function passed to torch.func computes a gradient itself (a penalty, an inner optimisation).",),
            ("inner = torch.func.grad(loss)(params)   # transforms nest; use torch.func.grad inside too",),
        ),
    ),
    Entry(
        "reference-cycle",
        (
            "Using backward() with create_graph=True will create a reference cycle between the parameter and its "
            "gradient",
        ),
        says(
            "backward(create_graph=True) leaks memory",
            "With create_graph=True the gradient in x.grad has a graph that refers to x, and x refers to its .grad: a "
            "cycle that keeps the "
            "whole graph alive. It is a warning.",
            ("Second derivatives (a gradient penalty, Hessians) computed through .backward().",),
            (
                "g, = torch.autograd.grad(loss, x, create_graph=True)   # returns the gradient instead of storing it",
                "for p in model.parameters(): p.grad = None   # after use, to break the cycle",
            ),
        ),
    ),
    Entry(
        "inference-tensor",
        (
            "Inference tensors cannot be saved for backward",
            "Inplace update to inference tensor outside InferenceMode is not allowed",
            "Setting requires_grad=True on inference tensor outside InferenceMode is not allowed",
        ),
        says(
            "A tensor made under torch.inference_mode() is used where gradients are computed",
            "inference_mode makes tensors that autograd may never use: they have no version counter. no_grad is the "
            "milder form.",
            (
                "Features or targets are computed under inference_mode and then go into a loss.",
                "Weights were loaded or made there.",
            ),
            (
                "with torch.no_grad(): features = encoder(x)   # instead of inference_mode()",
                "features = features.clone()   # outside: an ordinary tensor",
            ),
        ),
    ),
    Entry(
        "moved-leaf",
        ("leaf variable has been moved into the graph interior", "cannot resize variables that require grad"),
        says(
            "A tensor that requires grad was changed under autograd's hands",
            "A leaf (a tensor that you made with requires_grad=True) must stay the beginning of the graph with its "
            "shape.",
            ("An in-place operation or resize_ on a leaf.",),
            (
                "y = x.clone(); …   # change a copy: it is recorded",
                "with torch.no_grad(): x.copy_(new)   # an update that is not recorded",
            ),
        ),
    ),
)
