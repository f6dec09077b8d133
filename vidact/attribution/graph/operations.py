"""Tables of torch's functions: what each does to relevance when it is called outside of a module, and its remedy.

Names are torch's own, without underscores at their ends.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def _words(text: str) -> list[str]:
    return text.split()


# They move, copy or drop numbers.
HARMLESS = frozenset(
    _words("""
    view view_as reshape reshape_as flatten unflatten ravel squeeze unsqueeze permute transpose t
    swapaxes swapdims movedim moveaxis adjoint get contiguous clone to float double half bfloat16 type type_as cpu cuda
    requires_grad expand expand_as broadcast_to broadcast_tensors repeat repeat_interleave tile cat concat concatenate
    stack hstack vstack dstack chunk split tensor_split unsafe_chunk unsafe_split unbind getitem setitem select narrow
    index_select masked_select gather take take_along_dim diagonal unfold flip fliplr flipud roll rot90 tril triu where
    masked_fill copy index_copy zero fill pad pixel_shuffle pixel_unshuffle channel_shuffle sort topk
    atleast_1d atleast_2d atleast_3d alias detach data iter
    slice unsafe_view reshape_alias as_strided to_copy copy_backwards constant_pad_nd index index_put accumulate_grad
    """)
)

# Their gradient goes to the largest value, as relevance should.
POOLING_BY_WINNER = frozenset(
    _words("""
    max amax maximum max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices
    max_pool3d_with_indices adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    """)
)

# Functions that a subclass of a convolution or a linear layer calls in its own forward.
WEIGHTED_OPERATIONS = frozenset(
    _words("""
    conv1d conv2d conv3d linear conv_forward conv_transpose1d conv_transpose2d conv_transpose3d
    """)
)

# With the argument alpha they multiply their second argument.
_SCALING = frozenset(_words("add sub subtract"))

# They use only the shape or the type of their second argument.
_LIKE_ANOTHER = frozenset(_words("to type_as expand_as view_as reshape_as"))

# Products and quotients.
_FACTORS = frozenset(_words("mul imul rmul multiply div truediv rtruediv idiv itruediv rdiv divide true_divide"))

_LAYERS = "vidact.models.layers"
_REMEDIES: dict[str, str | frozenset[str]] = {
    f"{_LAYERS}.Sum": frozenset(
        [*_words("add iadd radd addcmul add_relu index_add scatter_add put"), "index_put with accumulate"]
    ),
    f"{_LAYERS}.Sum, and put the factor into the weights of a layer": frozenset(
        ["add with alpha", "sub with alpha", "subtract with alpha"]
    ),
    f"{_LAYERS}.SumOver(dim)": "sum nansum cumsum",
    f"{_LAYERS}.FrameDifferences for frames; else Sum (the weights before it can be negative)": (
        "sub isub rsub subtract neg negative"
    ),
    f"{_LAYERS}.Gate(signal, gate)": _FACTORS,
    f"nn.Linear for weights; for attention, {_LAYERS}.Gate(values, weights) and SumOver": (
        "matmul mm bmm baddbmm addmm rmatmul einsum tensordot dot inner scaled_dot_product_attention "
        "multi_head_attention_forward"
    ),
    "nn.AdaptiveAvgPool3d(1) (or nn.AvgPool3d) and nn.Flatten": (
        "mean nanmean avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d"
    ),
    "nn.ReLU": "relu clamp clip clamp_min",
    "the module of torch.nn with its name": (
        "relu6 leaky_relu elu selu celu gelu silu mish hardtanh hardswish hardsigmoid softplus threshold tanh sigmoid "
        "logsigmoid"
    ),
    f"logits as scores; weights of attention go into {_LAYERS}.Gate as its second argument": (
        "softmax log_softmax softmin gumbel_softmax"
    ),
    "nn.Conv3d, nn.Linear or their like, which hold the weights": (
        "conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear bilinear embedding"
    ),
    "nn.BatchNorm3d, nn.BatchNorm2d or nn.BatchNorm1d": (
        "batch_norm layer_norm group_norm instance_norm rms_norm normalize local_response_norm norm var std rsqrt "
        "var_mean std_mean"
    ),
    "nn.Upsample": "interpolate upsample upsample_bilinear upsample_nearest grid_sample",
    "nn.Dropout, which is off when the network is explained": "dropout dropout1d dropout2d dropout3d alpha_dropout",
    "a module of torch.nn with a relevance rule (nn.ReLU for |x|: two ReLUs and Sum)": "abs square pow sqrt exp log",
}
_REMEDY_OF = {
    name: remedy for remedy, names in _REMEDIES.items() for name in (names.split() if isinstance(names, str) else names)
}


def remedy_for(name: str, *, with_constant: bool) -> str:
    """Say which module can replace a call of one of torch's functions, so that relevance rules can follow it.

    Args:
        name: Of the function.
        with_constant: Whether one of its two operands comes from the video, and the other does not.
    """
    if with_constant and name in _FACTORS:
        return f"{_LAYERS}.InputLayers (or Normalisation) for pixels; else put the factor into the weights of a layer"
    return _REMEDY_OF.get(name, f"a module of torch.nn or {_LAYERS} that does the same")


def name_of_call(
    name: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, from_video: Callable[[Any], bool]
) -> str:
    """Name a call of a function, with the arguments that change what it does to relevance.

    Args:
        name: Of the function.
        args: Positional arguments.
        kwargs: Keyword arguments.
        from_video: Whether a value comes from the video.

    Returns:
        `add with alpha` where what comes from the video is multiplied first, `index_put with accumulate` where values
        are added and not only moved; else the name.
    """
    second = args[1] if len(args) > 1 else kwargs.get("other")
    if name in _SCALING and kwargs.get("alpha", 1) != 1 and from_video(second):
        return f"{name} with alpha"
    if name == "index_put" and (kwargs.get("accumulate") or args[3:4] == (True,)):
        return f"{name} with accumulate"
    return name


def only_first_counts(name: str) -> bool:
    """Say whether a function uses the numbers of its first argument only."""
    return name in _LIKE_ANOTHER


def is_constructor(name: str) -> bool:
    """Say whether a function makes a new tensor without using the numbers of its arguments."""
    return name.startswith("new_") or name.endswith("_like")


def name_of_node(name: str) -> str:
    """Name the function that an autograd node belongs to: `add` for `AddBackward0`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.rpartition("::")[2].split("Backward")[0]).lower().strip("_")
