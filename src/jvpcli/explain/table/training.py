"""Optimizers, mixed precision, checkpointing and training on several devices."""

from __future__ import annotations

from jvpcli.explain.table.entry import Entry, says

ENTRIES = (
    Entry(
        "non-leaf-optimizer",
        ("can't optimize a non-leaf Tensor",),
        says(
            "The optimizer was given a computed tensor",
            "An optimizer changes leaves: tensors that you made with requires_grad=True. This one is the result of an "
            "operation, so its .grad stays None.",
            (
                "x = torch.randn(3, requires_grad=True).to(device), or * 0.01: the result is no leaf.",
                "nn.Parameter(x) was replaced by a computed tensor.",
            ),
            (
                "x = torch.randn(3, device=device, requires_grad=True)",
                "x = (0.01 * torch.randn(3)).requires_grad_()   # compute first, then ask for gradients",
            ),
        ),
    ),
    Entry(
        "no-parameters",
        ("optimizer got an empty parameter list",),
        says(
            "The optimizer got no parameters",
            "model.parameters() was empty, or a generator that had been used up.",
            (
                "The layers are in a plain list or dict: nn.ModuleList and nn.ModuleDict register them.",
                "All parameters were filtered out: (p for p in … if p.requires_grad).",
                "super().__init__() is missing, or the layers are made in forward.",
            ),
            ("self.layers = nn.ModuleList([…])", "print(sum(p.numel() for p in model.parameters()))"),
        ),
    ),
    Entry(
        "parameter-assignment",
        ("cannot assign '{type:word}' as parameter '{name:word}' (torch.nn.Parameter or None expected)",),
        says(
            "A plain tensor is assigned to a module's parameter",
            "The name is registered as a parameter, and only a Parameter may take its place.",
            ("Weights are set by hand.", "A computed weight (for a hypernetwork, say) shall replace the parameter."),
            (
                "with torch.no_grad(): m.weight.copy_(w)   # new numbers for the same parameter",
                "m.weight = nn.Parameter(w)   # a new leaf: no gradient flows to what w was computed from",
                "torch.func.functional_call(m, {'weight': w}, x)   # with a computed weight, and its gradient",
            ),
        ),
    ),
    Entry(
        "unused-parameters",
        ("Expected to have finished reduction in the prior iteration before starting a new one",),
        says(
            "DistributedDataParallel: some parameters got no gradient",
            "DDP waits in each backward until every parameter has its gradient. Some were not used for the loss (on "
            "this rank), so it waits in vain.",
            (
                "A layer or branch isn't used in forward, or its output not in the loss.",
                "forward returns outputs that the loss ignores.",
                "A part runs under no_grad or is detached, with parameters that still require grad.",
            ),
            (
                "for p in unused.parameters(): p.requires_grad_(False)   # before wrapping in DDP",
                "DDP(model, find_unused_parameters=True)   # as the message advises: works, costs time, and hides a "
                "layer forgotten by mistake",
                "for n, p in model.named_parameters():   # after one backward without DDP\n    if p.grad is None: "
                "print(n)",
            ),
        ),
    ),
    Entry(
        "marked-twice",
        ("Expected to mark a variable ready only once",),
        says(
            "DistributedDataParallel: a parameter got its gradient twice",
            "In one backward a parameter was reported ready two times.",
            (
                "Reentrant activation checkpointing of a part that runs several times, or with "
                "find_unused_parameters=True.",
                "forward is called several times before one backward.",
            ),
            ("checkpoint(f, x, use_reentrant=False)", "DDP(model, static_graph=True)"),
        ),
    ),
    Entry(
        "gradient-strides",
        ("Grad strides do not match bucket view strides", "grad and param do not obey the gradient layout contract"),
        says(
            "DistributedDataParallel: a gradient lies in memory in another order than expected",
            "A warning about speed, not about numbers: grad.sizes() and strides() are those of the gradient, and DDP "
            "must copy it.",
            (
                "A channels_last model, or weights that were transposed.",
                "Kernels of size 1, whose strides are ambiguous: harmless.",
            ),
            (
                "model = model.to(memory_format=torch.channels_last)   # before DDP",
                "param.data = param.data.contiguous()",
            ),
        ),
    ),
    Entry(
        "checkpoint-metadata",
        (
            "torch.utils.checkpoint: Recomputed values for the following tensors have different metadata than during "
            "the forward pass",
            "torch.utils.checkpoint: A different number of tensors was saved during the original forward and "
            "recomputation",
        ),
        says(
            "Activation checkpointing: the recomputation went another way than the forward",
            "The checkpointed function is run again in backward, and must save the same tensors. It did not.",
            (
                "The function depends on something that has changed: a global, a counter, training mode, autocast, "
                "random numbers.",
                "A part runs under another autocast or device context.",
            ),
            (
                "checkpoint(f, x, use_reentrant=False, debug=True)   # shows both runs",
                "pass everything that varies as an argument",
            ),
        ),
    ),
    Entry(
        "checkpoint-no-grad",
        ("None of the inputs have requires_grad=True. Gradients will be None",),
        says(
            "Activation checkpointing: nothing inside will get a gradient",
            "With use_reentrant=True gradients reach the parameters inside only if an *input* of the checkpointed "
            "part requires grad. It is a warning, and "
            "those layers then don't learn.",
            ("The first layers are checkpointed, and their input is data; or the embedding is frozen.",),
            (
                "checkpoint(f, x, use_reentrant=False)",
                "x.requires_grad_()   # or model.enable_input_require_grads() (Hugging Face)",
            ),
        ),
    ),
    Entry(
        "checkpoint-inputs",
        (
            "torch.utils.checkpoint is incompatible with .grad() or passing an `inputs` parameter to .backward()",
            "Checkpointing is not compatible with .grad() or when an `inputs` parameter is passed to .backward()",
        ),
        says(
            "Reentrant checkpointing works with .backward() only",
            "The old form of checkpointing calls backward inside of backward, which torch.autograd.grad can't follow.",
            ("use_reentrant=True (once the default) together with torch.autograd.grad or backward(inputs=…).",),
            ("checkpoint(f, x, use_reentrant=False)",),
        ),
    ),
    Entry(
        "unscale-half",
        ("Attempting to unscale FP16 gradients",),
        says(
            "Mixed precision: the parameters themselves are float16",
            "GradScaler is made for float32 parameters under autocast. Here the model was cast to float16, so its "
            "gradients are float16 and may have "
            "overflowed already.",
            ("model.half(), or torch_dtype=torch.float16 when loading, together with GradScaler (fp16=True).",),
            (
                "model.float()   # and torch.autocast('cuda', dtype=torch.float16) around the forward",
                "torch_dtype=torch.bfloat16, without a scaler",
            ),
        ),
    ),
    Entry(
        "no-inf-checks",
        ("No inf checks were recorded for this optimizer",),
        says(
            "Mixed precision: the optimizer's parameters have no gradients",
            "scaler.step(optimizer) found no .grad in any of its parameters.",
            (
                "The loss doesn't depend on them: they are frozen, detached, or belong to another model.",
                "scaler.scale(loss).backward() is missing.",
            ),
            (
                "scaler.scale(loss).backward(); scaler.step(optimizer); scaler.update()",
                "print([p.grad is None for p in model.parameters()])",
            ),
        ),
    ),
    Entry(
        "cudnn-rnn",
        ("cudnn RNN backward can only be called in training mode",),
        says(
            "The backward of a recurrent layer on CUDA needs training mode",
            "In eval() cuDNN doesn't keep what its backward needs.",
            ("Gradients by the input of a model in eval(): saliency, adversarial examples.",),
            (
                "rnn.train()   # for the recurrent layers; dropout in them to 0",
                "with torch.backends.cudnn.flags(enabled=False): y = model(x)",
            ),
        ),
    ),
)
