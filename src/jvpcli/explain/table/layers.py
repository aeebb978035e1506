"""Layers: convolutions, pooling, normalisation, recurrent layers, attention, checkpoints."""

from __future__ import annotations

from jvpcli.explain.shapes import listed
from jvpcli.explain.table.entry import Entry, Found, Words


def channels(found: Found) -> Words:
    """The input has another number of channels than the weight."""
    weight, given = found.shape("weight"), found.shape("given")
    expected, got, groups = found.int("expected"), found.int("got"), found.int("groups") or 1
    last = given is not None and len(given) > 2 and given[-1] == expected
    first = given is not None and expected in given and not last
    order = (
        f"x.permute(0, {len(given) - 1}, {listed(range(1, len(given) - 1))})"
        if given is not None and len(given) > 2
        else "x.permute(…)"
    )
    axes = f"(out_channels, in_channels / groups, kernel …), so with groups={groups} it"
    if found.text("kind") == "transposed":
        axes = "(in_channels, out_channels / groups, kernel …), the other way round than of other convolutions, so it"
    return Words(
        f"The convolution wants {expected} channels and gets {got}",
        f"The weight{f' of shape {weight}' if weight else ''} is {axes} takes {expected} input channels. "
        f"The input{f' of shape {given}' if given else ''} is (batch, channels, …): {got} channels.",
        (
            *(
                ("The channels stand last (height, width, channels), as images are loaded; PyTorch wants them first.",)
                if last
                else ()
            ),
            "Grey images (1 channel) for a network of colour images (3), or with an alpha channel (4).",
            "in_channels is not the out_channels of the layer before.",
            *(
                (
                    "The axes stand in another order; (batch, length, features) must be (batch, features, length) for "
                    "conv1d.",
                )
                if first
                else ()
            ),
        ),
        (
            *((f"{order}   # channels from last to second",) if last else ()),
            f"nn.Conv{max(1, len(weight or (0, 0, 0)) - 2)}d({got}, …)   # in_channels={got}",
            *(("x.expand(-1, 3, -1, -1)   # one grey channel as three",) if got == 1 and expected == 3 else ()),
            *(("x[:, :3]   # without the alpha channel",) if got == 4 and expected == 3 else ()),
        ),
    )


def conv_depth(found: Found) -> Words:
    """An input with the wrong number of axes for a convolution."""
    given = found.shape("given")
    function = found.text("function") or "the convolution"
    dims = f"{given}, {len(given)} axes" if given is not None else "another number of axes"
    weight = f" The weight has shape {found.shape('weight')}." if found.shape("weight") else ""
    batched = found.text("batched") or (f"{found.int('axes')}D" if found.int("axes") else "one axis more")
    return Words(
        f"{function} got an input of shape {given}"
        if given is not None
        else f"{function} got an input with the wrong number of axes",
        f"The input of {function} is (batch, channels, …), {batched} in all, or the same without the batch. It has "
        f"{dims}.{weight}",
        (
            "The channel axis is missing: a grey image (height, width) needs (1, height, width).",
            "The batch axis is missing: PyTorch before 1.12 insists on it.",
            "The input was flattened before the convolution.",
        ),
        (
            "x[None, None]   # (height, width) → (1, 1, height, width)",
            "x.unsqueeze(1)   # (batch, h, w) → (batch, 1, h, w)",
            "x.unsqueeze(0)",
        ),
    )


def kernel(found: Found) -> Words:
    """The kernel is larger than the padded input."""
    given, size = found.text("given"), found.text("kernel")
    return Words(
        f"The kernel ({size}) is larger than the input ({given})",
        f"After padding one channel measures {given}, and the kernel {size}: it doesn't fit anywhere. Each layer "
        f"without padding, and each pooling, "
        "makes images smaller.",
        (
            "The images are too small for the depth of the network.",
            "Channels and size are confused: channels stand last in the data.",
        ),
        (
            "nn.Conv2d(…, kernel_size=3, padding=1)   # keeps the size",
            "F.interpolate(x, size=(224, 224))   # larger images",
            "print(x.shape) between the layers",
        ),
    )


def pool(found: Found) -> Words:
    """Pooling makes the output empty."""
    if found.text("given") is None:
        return Words(
            f"{found.text('function')} would leave {found.text('result')} entries",
            f"{found.owner}The window is longer than the axis that it moves along.",
            ("The input is too short for so many poolings.", "Channels stand last."),
            ("F.adaptive_avg_pool1d(x, 1)   # whatever the length", "remove a pooling layer"),
        )
    return Words(
        f"Pooling of {found.text('given')} would leave nothing: {found.text('result')}",
        f"The input measures {found.text('given')} (channels x height x width), the result would be "
        f"{found.text('result')}.",
        ("The images are too small for so many poolings.", "Channels stand last."),
        (
            "nn.AdaptiveAvgPool2d(1)   # whatever the size",
            "F.interpolate(x, size=(224, 224))",
            "remove a pooling layer",
        ),
    )


def normalised(found: Found) -> Words:
    """layer_norm of another last axis."""
    given = found.shape("given")
    wanted = found.text("wanted")
    return Words(
        f"LayerNorm is made for the last axes {wanted}; the input has {given}",
        f"normalized_shape={wanted} must equal the last axes of the input, whose shape is {given}.",
        ("The feature axis isn't last: convolutions have it second.", "The layer was made for another width."),
        (
            f"nn.LayerNorm({given[-1] if given else '…'})   # the last axis of this input",
            "norm(x.transpose(1, -1)).transpose(1, -1)   # channels second",
            "nn.GroupNorm(1, channels)   # for (batch, channels, …)",
        ),
    )


def checkpoint_sizes(found: Found) -> Words:
    """load_state_dict with other sizes."""
    name, stored, current = found.text("name"), found.shape("stored"), found.shape("current")
    return Words(
        f"The checkpoint's {name} has shape {stored}, the model's {current}",
        f"load_state_dict copies numbers into parameters of the same shape; {name} is {stored} in the file and "
        f"{current} in the model (there may be "
        "more of them).",
        (
            "The model was built with other sizes: another number of classes, vocabulary or width.",
            "The checkpoint belongs to another model or version.",
        ),
        (
            f"state = {{k: v for k, v in state.items() if model.state_dict()[k].shape == v.shape}}; "
            f"model.load_state_dict(state, strict=False)   # {name} "
            "then keeps its random start: train it",
            "build the model with the sizes of the checkpoint, load it, then replace the last layer",
            "strict=False alone doesn't help: it forgives missing names, not other shapes",
        ),
    )


def one_value(found: Found) -> Words:
    """Batch norm with one value in each channel."""
    given = found.shape("given")
    return Words(
        f"Batch norm of a single value for each channel: {given}",
        f"In training batch norm computes the mean and variance of each channel over the batch (and positions). The "
        f"input {given} has one value for "
        "each: the variance is 0.",
        (
            "A batch of one sample, often the last of an epoch.",
            "A global pooling left one position, with batch size 1.",
        ),
        (
            "DataLoader(…, drop_last=True)",
            "model.eval()   # for inference: uses the running statistics",
            "nn.GroupNorm or nn.LayerNorm   # don't need a batch",
        ),
    )


ENTRIES = (
    Entry(
        "conv-channels",
        (
            "Given {kind:word}={groups:int}, weight of size {weight:shape}, expected input{given:shape} to "
            "have {expected:int} channels, but got "
            "{got:int} channels instead",
            "Given groups={groups:int}, weight{weight:shape}, so expected input{given:shape} to have {expected:int} "
            "channels, but got {got:int} channels "
            "instead",
            "Need input.size[1] == {expected:int} but got {got:int} instead",
        ),
        channels,
    ),
    Entry(
        "conv-depth",
        (
            "Expected {:word} (unbatched) or {batched:word} (batched) input to {function:word}, but got input of "
            "size: {given:shape}",
            "Expected {axes:int}-dimensional input for {:int}-dimensional weight {weight:shape}, but got "
            "{:int}-dimensional input of size {given:shape} "
            "instead",
            "non-empty {:word} or {batched:word} (batch mode) tensor expected for input",
            "{function:word}(): Expected {:word} or {batched:word} tensor, but got {given:shape}",
            "{function:word}: Expected {:word} or {batched:word} (batch mode) tensor with {:any} for input, but "
            "got:{given:shape}",
            "{function:word}: Expected {:word} or {batched:word} (batch mode) tensor with {:any} for input, but got: "
            "{given:shape}",
            "Expected {axes:int}D or {:int}D (batch mode) tensor {:any} but got {given:shape}",
        ),
        conv_depth,
    ),
    Entry(
        "kernel-size",
        (
            "Calculated padded input size per channel: ({given:measure}). Kernel size: ({kernel:measure}). Kernel "
            "size can't be greater than actual input "
            "size",
        ),
        kernel,
    ),
    Entry(
        "pool-size",
        (
            "Given input size: ({given:measure}). Calculated output size: ({result:measure}). Output size is too small",
            "{function:word}() Invalid computed output size: {result:int}",
        ),
        pool,
    ),
    Entry(
        "conv-weight",
        (
            "expected {what:word} to be a single integer value or a list of {axes:int} values to match the "
            "convolution dimensions",
            "Given groups={groups:int}, expected weight to be {at least|divisible by} {:int} at dimension 0, but got "
            "weight of size [{weight:shape}] "
            "instead",
        ),
        lambda found: Words(
            "The convolution's weight has the wrong shape",
            "conv1d takes a weight of 3 axes (out_channels, in_channels / groups, kernel), conv2d of 4, conv3d of 5; "
            "out_channels must be a multiple of "
            f"groups.{' The weight is ' + str(found.shape('weight')) + '.' if found.shape('weight') else ''}",
            (
                "The weight belongs to another kind of convolution, or lost an axis.",
                "groups doesn't divide the channels.",
            ),
            ("weight[..., None]   # one axis more", "weight.shape   # (out, in / groups, kernel …)"),
        ),
    ),
    Entry(
        "conv-bias",
        (
            "Given weight of size {weight:shape}, expected bias to be 1-dimensional with {expected:int} elements, but "
            "got bias of size {given:shape} "
            "instead",
        ),
        lambda found: Words(
            f"The convolution's bias has shape {found.shape('given')}; ({found.int('expected')},) is needed",
            f"One bias for each output channel: the weight of shape {found.shape('weight')} has "
            f"{found.int('expected')}.",
            ("The bias was made for the input channels.",),
            (f"bias = torch.zeros({found.int('expected')})",),
        ),
    ),
    Entry(
        "padding-size",
        (
            "Padding size should be less than the corresponding input dimension, but got: padding ({a:int}, {b:int}) "
            "at dimension {axis:int} of input "
            "{given:shape}",
            "Padding length should be less than or equal to two times the input dimension but got padding length "
            "{a:int} and input of dimension {dims:int}",
            "Only {:any} padding with non-constant padding are supported for now",
            "Padding size {a:int} is not supported for {dims:int}D input tensor",
        ),
        lambda found: Words(
            "The padding doesn't fit the input"
            + (
                f" of shape {found.shape('given')}"
                if found.shape("given")
                else f" of {found.int('dims')} axes"
                if found.int("dims")
                else ""
            ),
            "F.pad takes two numbers for each axis from the last one on: (left, right, top, bottom, …). Reflection "
            "can't be wider than the input, "
            "and wants batch and channel axes in front.",
            (
                "The tensor has fewer axes than the list has pairs.",
                "The mode reflect needs (batch, channels, …).",
                "The image is smaller than the padding.",
            ),
            ("F.pad(x, (1, 1))   # the last axis only", "F.pad(x[None, None], (1, 1, 1, 1), mode='reflect')[0, 0]"),
        ),
    ),
    Entry(
        "layer-norm",
        (
            "Given normalized_shape={wanted:wanted}, expected input with shape {:any}, but got input of "
            "size{given:shape}",
        ),
        normalised,
    ),
    Entry(
        "batch-norm-channels",
        ("{which:statistic} should contain {expected:int} elements not {got:int}",),
        lambda found: Words(
            f"Batch norm for {found.int('got')} channels gets {found.int('expected')}",
            f"{found.text('which')} has one entry for each channel, the second axis of the input: {found.int('got')} "
            f"in the layer, {found.int('expected')} in "
            "the input.",
            ("num_features isn't the out_channels of the layer before.", "The channels stand last."),
            (f"nn.BatchNorm2d({found.int('expected')})", "x.permute(0, 3, 1, 2)   # channels from last to second"),
        ),
    ),
    Entry(
        "batch-norm-single",
        ("Expected more than 1 {value per channel|spatial element} when training, got input size {given:shape}",),
        one_value,
    ),
    Entry(
        "norm-axes",
        ("expected {wanted:any} input (got {dims:int}D input)",),
        lambda found: Words(
            f"The normalisation layer wants {found.text('wanted')} input and gets {found.int('dims')} axes",
            "BatchNorm1d takes (batch, features) or (batch, channels, length), BatchNorm2d (batch, channels, height, "
            "width), BatchNorm3d one axis more.",
            ("The wrong one of the three.", "A batch axis is missing, or the input was flattened."),
            ("nn.BatchNorm1d(features)   # after nn.Linear or flatten", "x.unsqueeze(0)"),
        ),
    ),
    Entry(
        "group-norm",
        (
            "Expected number of channels in input to be divisible by num_groups, but got input of shape {given:shape} "
            "and num_groups={groups:int}",
        ),
        lambda found: Words(
            f"{found.int('groups')} groups don't divide the channels of {found.shape('given')}",
            f"GroupNorm splits the channels (the second axis) into {found.int('groups')} equal groups.",
            ("The channels stand last.", "The number of groups belongs to another width."),
            ("nn.GroupNorm(1, channels)   # one group always works",),
        ),
    ),
    Entry(
        "recurrent-input",
        (
            "input.size(-1) must be equal to input_size. Expected {expected:int}, got {got:int}",
            "input has inconsistent input_size: got {got:int}{?,} expected {expected:int}",
        ),
        lambda found: Words(
            f"The recurrent layer wants {found.int('expected')} features and gets {found.int('got')}",
            f"input_size={found.int('expected')} is the last axis of the input; it is {found.int('got')}.",
            (
                "The axes are not (time, batch, features), or with batch_first=True (batch, time, features).",
                "input_size is wrong.",
            ),
            (f"nn.LSTM(input_size={found.int('got')}, …)", "x.transpose(1, 2)   # features last"),
        ),
    ),
    Entry(
        "recurrent-state",
        ("Expected {which:state} size {expected:shape}, got {given:shape}",),
        lambda found: Words(
            f"The {found.text('which')} state has shape {found.shape('given')}; {found.shape('expected')} is needed",
            f"The state is (layers · directions, batch, hidden_size), also with batch_first=True: "
            f"{found.shape('expected')}; {found.shape('given')} came.",
            (
                "The state of a batch of another size is reused (the last batch is smaller).",
                "batch_first was taken to hold for the state.",
            ),
            (
                f"h0 = torch.zeros({listed(found.shape('expected') or ())})",
                "lstm(x)   # without a state: zeros of the right shape",
            ),
        ),
    ),
    Entry(
        "checkpoint-size",
        (
            "size mismatch for {name:word}: copying a param with shape {stored:shape} from checkpoint, the shape in "
            "current model is {current:shape}",
            "While copying the parameter named {name:word}, whose dimensions in the model are {current:shape} and "
            "whose dimensions in the checkpoint are "
            "{stored:shape}",
        ),
        checkpoint_sizes,
    ),
    Entry(
        "attention-width",
        (
            "was expecting embedding dimension of {expected:int}, but got {got:int}",
            "embed_dim must be divisible by num_heads",
        ),
        lambda found: Words(
            "Attention: the width doesn't fit"
            + (
                f": {found.int('expected')} is expected, {found.int('got')} came"
                if found.int("got") is not None
                else " the number of heads"
            ),
            "embed_dim is the last axis of query, key and value, and is split evenly over the heads.",
            ("embed_dim is not the last axis of the input.", "The number of heads doesn't divide the width."),
            (
                f"nn.MultiheadAttention(embed_dim={found.int('got') or 512}, num_heads=…)",
                "nn.MultiheadAttention(…, kdim=…, vdim=…)   # other widths for key and value",
            ),
        ),
    ),
    Entry(
        "interpolate-axes",
        ("Input Error: Only {:any} input Tensors supported (got {dims:int}D)",),
        lambda found: Words(
            f"interpolate wants batch and channel axes; the tensor has {found.int('dims')} in all",
            "interpolate resizes the axes behind (batch, channels): a single image (height, width) needs both in front.",
            ("A single image without batch or channel axis.",),
            ("F.interpolate(x[None, None], scale_factor=2)[0, 0]",),
        ),
    ),
    Entry(
        "pixel-shuffle",
        (
            "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, "
            "but input.size(-3)={got:int} is not "
            "divisible by {divisor:int}",
        ),
        lambda found: Words(
            f"pixel_shuffle: {found.int('got')} channels are not divisible by {found.int('divisor')}",
            "Each new pixel comes from a channel of its own: upscaling by r takes r² channels for one.",
            ("The convolution before gives too few channels.",),
            (f"nn.Conv2d(…, {found.int('divisor')} * channels, 3, padding=1)",),
        ),
    ),
    Entry(
        "prelu-parameters",
        (
            "Mismatch of parameter numbers and input channel size. Found parameter numbers = {got:int} and channel "
            "size = {expected:int}",
        ),
        lambda found: Words(
            f"prelu has {found.int('got')} slopes for {found.int('expected')} channels",
            "There is one slope, or one for each channel (the second axis).",
            ("The channels stand last.", "The number of channels has changed."),
            (f"nn.PReLU({found.int('expected')})", "nn.PReLU()   # one slope for all"),
        ),
    ),
    Entry(
        "gating",
        ("Halving dimension must be even, but dimension {axis:int} is size {size:int}",),
        lambda found: Words(
            f"glu halves axis {found.int('axis')}, which has {found.int('size')} entries",
            "A gated linear unit splits an axis into two equal halves, so its length must be even.",
            ("The layer before should give twice the width.",),
            ("nn.Linear(d, 2 * d)   # in front of glu",),
        ),
    ),
)
