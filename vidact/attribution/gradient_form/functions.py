"""Tables of torch's functions: which are linear, which have a rule, and which relevance cannot follow.

Names are torch's own without underscores at their ends: `Tensor.__iadd__`, `add_` and `torch.add` are all `add`.
"""

from typing import Any

# Names that Python's operators have, and their usual ones.
_OPERATORS = {
    **{f"{side}{name}": name for name in ("add", "sub", "mul", "matmul", "pow") for side in ("i", "r")},
    **{f"{side}{name}": "div" for name in ("truediv", "div") for side in ("", "i", "r")},
    "subtract": "sub",
    "multiply": "mul",
    "true_divide": "div",
    "divide": "div",
    "negative": "neg",
    "concat": "cat",
    "concatenate": "cat",
}


def name_of(func: Any) -> str:
    """Give a torch function one name for all its spellings."""
    name = str(getattr(func, "__name__", func)).strip("_")
    return _OPERATORS.get(name, name)


def is_reversed(func: Any) -> bool:
    """Say whether an operator was called with its operands swapped (`1 - x` is `x.__rsub__(1)`)."""
    return getattr(func, "__name__", "") in ("__rsub__", "rsub", "__rtruediv__", "__rdiv__", "__rpow__", "__rmatmul__")


def is_in_place(func: Any, kwargs: dict[str, Any]) -> bool:
    """Say whether a function overwrites its first argument."""
    name = getattr(func, "__name__", "")
    inner = name.strip("_")
    dunder = name.startswith("__")
    return bool(kwargs.get("inplace")) or (
        inner.startswith("i") and inner in _OPERATORS if dunder else name[-1:] == "_"
    )


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# They move, copy, drop or add up numbers: linear, and without a constant.
MOVES = _words("""
    get getitem view view_as reshape reshape_as flatten unflatten ravel squeeze unsqueeze permute transpose t swapaxes
    swapdims movedim moveaxis adjoint contiguous clone to float double half bfloat16 type type_as cpu cuda alias
    requires_grad expand expand_as broadcast_to broadcast_tensors repeat repeat_interleave tile chunk split tensor_split
    unsafe_chunk unsafe_split split_with_sizes hsplit vsplit dsplit unbind select narrow index_select masked_select
    gather take take_along_dim diagonal unfold fold flip fliplr flipud roll rot90 tril triu atleast_1d atleast_2d
    atleast_3d pixel_shuffle pixel_unshuffle channel_shuffle meshgrid cartesian_prod as_strided
    sum nansum mean nanmean cumsum diff neg trace avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
    adaptive_avg_pool2d adaptive_avg_pool3d interpolate upsample upsample_nearest upsample_bilinear dropout dropout1d
    dropout2d dropout3d feature_dropout alpha_dropout feature_alpha_dropout deg2rad rad2deg zero positive
""")

# They put numbers into another order or shape, or leave some out.
REORDERS = _words("""
    get getitem view view_as reshape reshape_as flatten unflatten ravel squeeze unsqueeze permute transpose t swapaxes
    swapdims movedim moveaxis adjoint contiguous clone to float double alias requires_grad chunk split tensor_split
    unsafe_chunk unsafe_split split_with_sizes hsplit vsplit dsplit unbind select narrow index_select flip fliplr flipud
    roll rot90 cat stack pad unfold pixel_unshuffle
""")

WEIGHTED = _words("""
    linear conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d multi_head_attention_forward
""")

# They choose a number, or are linear on either side of zero: their own gradient gives relevance where it belongs.
CHOOSES = _words("""
    amax amin aminmax cummax cummin sort msort topk kthvalue median nanmedian mode
    quantile nanquantile max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices
    max_pool3d_with_indices adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices
    fractional_max_pool2d fractional_max_pool3d max_unpool1d max_unpool2d max_unpool3d
    relu leaky_relu abs absolute std norm vector_norm
""")

# Linear, but for the constants among their arguments, which take relevance of their own.
ADDS = _words("""
    add sub rsub cat stack hstack vstack dstack column_stack where masked_fill masked_scatter pad constant_pad_nd
    setitem copy fill index_copy index_fill index_put index_add scatter scatter_add put select_scatter slice_scatter
    diagonal_scatter block_diag
""")

# f(0) = 0, element by element: relevance passes unchanged, as g f(x) / x (AttnLRP, eq. 9).
PASSES = _words("""
    gelu silu mish elu selu celu relu6 hardtanh hardswish hardshrink softshrink tanhshrink softsign tanh sin tan sinh
    asin arcsin asinh arcsinh atan arctan atanh arctanh erf expm1 log1p sqrt square prelu rrelu
""")

# Their result scales other numbers and counts as a constant: gates (Arras et al. 2019) and 1 / deviation.
SCALES = _words("sigmoid hardsigmoid rsqrt reciprocal")

# What to do instead of a function that relevance cannot follow.
REMEDIES = {
    **dict.fromkeys(("log_softmax", "logsigmoid"), "return logits, without it"),
    "logsumexp": "return logits, without it; to pool, use max or a mean",
    **dict.fromkeys(("exp", "exp2"), "use torch.softmax for a softmax, torch.sigmoid for a gate"),
    **dict.fromkeys(
        ("softplus", "log", "log2", "log10"), "use a function f with f(0) = 0 instead, as relu, gelu or log1p"
    ),
    "cosine_similarity": "use torch.nn.functional.normalize of both, and their product",
    **dict.fromkeys(
        ("lstm", "gru", "rnn_tanh", "rnn_relu", "rnn_tanh_cell", "rnn_relu_cell", "lstm_cell", "gru_cell"),
        "use nn.LSTM or nn.GRU without projections and without packed sequences, which are unrolled",
    ),
    "var_mean": "use torch.var and torch.mean",
    "std_mean": "use torch.std and torch.mean",
}
OTHER_REMEDY = "write it with sums, products, matmul, convolutions, pooling, softmax or activations"
