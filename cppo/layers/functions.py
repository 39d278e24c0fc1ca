"""What torch's functions do to hidden units, by name (without underscores before and after).

``DataFlow`` follows the units through these functions and gives up at all others.
"""

from __future__ import annotations

# fmt: off
LAYERS = frozenset(("linear", "conv1d", "conv2d", "conv3d"))

ACTIVATIONS = frozenset((
    "celu", "elu", "gelu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log_sigmoid",
    "logsigmoid", "mish", "prelu", "relu", "relu6", "rrelu", "selu", "sigmoid", "silu", "softplus", "softshrink",
    "softsign", "swish", "tanh", "tanhshrink", "threshold",
))
"""Activation functions, which set the gain of a new unit's weights."""

ELEMENTWISE = ACTIVATIONS | frozenset((
    "abs", "add", "clamp", "clamp_max", "clamp_min", "clip", "cos", "div", "divide", "erf", "exp", "expm1",
    "float_power", "log1p", "mul", "multiply", "neg", "negative", "pow", "rdiv", "rpow", "rsub", "sin", "sqrt",
    "square", "sub", "subtract", "true_divide",
))
"""Functions of each element by itself, as long as all tensors they are given hold the same units."""

PASS_THROUGH = frozenset((
    "alpha_dropout", "bfloat16", "clone", "contiguous", "cpu", "cuda", "data", "detach", "double", "dropout",
    "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout", "float", "half", "requires_grad", "to", "type",
    "type_as",
))
"""Functions that leave every unit where it is and its mean as it is."""

JOINING = frozenset(("cat", "column_stack", "concat", "concatenate", "dstack", "hstack", "stack", "vstack"))

LAYOUT = JOINING | frozenset((
    "H", "T", "adjoint", "broadcast_to", "chunk", "dsplit", "expand", "expand_as", "flatten", "flip", "getitem",
    "hsplit", "index_select", "mH", "mT", "moveaxis", "movedim", "narrow", "pad", "permute", "pixel_shuffle",
    "pixel_unshuffle", "ravel", "repeat", "repeat_interleave", "reshape", "reshape_as", "roll", "select", "split",
    "split_with_sizes", "squeeze", "swapaxes", "swapdims", "t", "tensor_split", "tile", "transpose", "unbind",
    "unflatten", "unsafe_chunk", "unsafe_split", "unsqueeze", "view", "view_as", "vsplit",
))
"""Functions that move elements and change none: where they take the units is seen by moving labels the same way."""

REDUCTIONS = frozenset(("amax", "amin", "max", "mean", "min", "nanmean", "sum"))
"""Functions that reduce over axes; units stay apart if theirs is none of them."""

POOLING = {
    f"{name}{axes}d{also}": axes
    for name in ("adaptive_avg_pool", "adaptive_max_pool", "avg_pool", "lp_pool", "max_pool")
    for axes in (1, 2, 3)
    for also in ("", "_with_indices")
}
"""Pooling by name, with the number of spatial axes: it works on each channel by itself."""

HARMLESS = frozenset((
    "empty_like", "full_like", "new_empty", "new_full", "new_ones", "new_tensor", "new_zeros", "ones_like", "rand_like",
    "randint_like", "randn_like", "zeros_like",
))
"""Functions that look at a tensor's shape and type alone."""

WITHOUT_OUTPUT = frozenset(("array", "item", "numpy", "setitem", "tolist"))
"""Functions that return no tensor, but write values into another one or take them out of torch."""

MEANINGS = {
    **dict.fromkeys(("add", "iadd", "rsub", "sub", "subtract"), "its features are added to something else"),
    **dict.fromkeys(("mul", "multiply", "div"), "its features are multiplied by something else"),
    **dict.fromkeys(("copy", "setitem"), "its features are written into another tensor"),
    "group_norm": "a group normalisation mixes it with other units",
}
"""How some of the functions that end the search are put to the user."""
# fmt: on
