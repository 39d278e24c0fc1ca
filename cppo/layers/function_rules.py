"""Follows hidden units through torch's functions: where the output holds them, and how they have changed.

The tables name functions without underscores before and after. Units are followed through these and through no others.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from cppo.layers.labels import OTHER, along, layers_in, padded, reduced, spread
from cppo.layers.reach import address
from cppo.layers.traced_units import Call, LostSight, Path, Step
from cppo.layers.unit_map import UnitMap

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
"""Functions of each element by itself, if all tensors they are given hold the same units."""

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
"""Functions that move elements and change none: moving labels the same way shows where the units go."""

BY_EXAMPLE = frozenset(("expand_as", "reshape_as", "to", "type_as", "view_as"))
"""Functions that may be given a second tensor for its shape or type."""

REDUCTIONS = frozenset(("amax", "amin", "max", "mean", "min", "nanmean", "sum"))
"""Functions that reduce over axes; units stay apart if theirs is none of them."""

POOLING = {
    f"{name}{axes}d{also}": axes
    for name in ("adaptive_avg_pool", "adaptive_max_pool", "avg_pool", "lp_pool", "max_pool")
    for axes in (1, 2, 3)
    for also in ("", "_with_indices")
}
"""Pooling by name, with the number of spatial axes: it works on each channel by itself."""

RESIZING = frozenset(("interpolate",))
"""Functions that do so too, and take batches alone."""

HARMLESS = frozenset((
    "empty_like", "full_like", "new_empty", "new_full", "new_ones", "new_tensor", "new_zeros", "ones_like", "rand_like",
    "randint_like", "randn_like", "zeros_like",
))
"""Functions that look at a tensor's shape and type alone."""

NORM_FUNCTIONS = frozenset(("batch_norm", "instance_norm", "layer_norm", "rms_norm"))
"""What torch's norms call; between the units of a norm's slices they keep apart."""

METADATA = frozenset((
    "can_cast", "dim", "element_size", "format", "get_device", "hash", "is_complex", "is_contiguous", "is_conj",
    "is_floating_point", "is_inference", "is_neg", "is_pinned", "is_same_size", "is_shared", "is_signed", "len",
    "ndimension", "nelement", "numel", "register_hook", "repr", "result_type", "size", "storage_offset", "stride",
    "str", "type",
))
"""Functions that return no tensor and look at shape and type alone; all others read values, or write them elsewhere."""

MEANINGS = {
    **dict.fromkeys(("add", "iadd", "rsub", "sub", "subtract"), "its features are added to something else"),
    **dict.fromkeys(("mul", "multiply", "div"), "its features are multiplied by something else"),
    **dict.fromkeys(("copy", "setitem"), "its features are written into another tensor"),
    "set": "its features are written into another tensor",
    "group_norm": "a group normalisation mixes it with other units",
}
"""How messages describe some of the functions that can't be followed."""
# fmt: on


class FunctionRules:
    """Follows units through functions that keep them apart, and gives up at all others.

    :param units: where the units lie
    """

    def __init__(self, units: UnitMap) -> None:
        self.units = units

    def follow(self, call: Call) -> None:
        """Hand units on from a function's input to its output, if it keeps them apart."""
        for names, follow in (
            (HARMLESS, lambda call: None),
            (PASS_THROUGH, self._pass_on),
            (LAYOUT, self._move),
            (ELEMENTWISE, self._change),
            (POOLING.keys() | RESIZING, self._pool),
            (REDUCTIONS, self._reduce),
        ):
            if call.name in names and call.outputs:
                try:
                    return follow(call)
                except Exception:
                    break  # called in a way that can't be done to labels: the units are lost sight of
        return self._give_up(call)

    def _give_up(self, call: Call) -> None:
        self.units.leave_out(call.sources, LostSight(MEANINGS.get(call.name, f"read by {call.name}")))

    def _is_only_example(self, call: Call) -> bool:
        """Whether the units are but an example of a shape or type: what is passed on is another tensor, the first."""
        first = call.args[0] if call.args else call.kwargs.get("input")
        if not isinstance(first, Tensor) or id(first) in self.units.located:
            return False
        return call.name in BY_EXAMPLE

    def _pass_on(self, call: Call) -> None:
        if not self._is_only_example(call):
            (source,) = self.units.sources((call.args[:1], call.kwargs.get("input")))
            self.units.locate(call.outputs[0], source.labels, source.paths)

    def _move(self, call: Call) -> None:
        """Move the labels as the function moves elements."""
        if self._is_only_example(call):
            return
        if call.name not in JOINING and call.name not in BY_EXAMPLE and len(call.sources) != 1:
            return self._give_up(call)  # one of them tells where elements of the other go
        func = padded if call.name == "pad" else call.func
        args, kwargs = tree_map(lambda value: self._labels_of(value, call.name), (call.args, call.kwargs))
        moved = tree_leaves(func(*args, **kwargs))
        sources = (
            call.sources if call.name in JOINING else self.units.sources((call.args[:1], call.kwargs.get("input")))
        )
        paths: dict[int, Path] = {}
        for source in sources:
            for layer, path in source.paths.items():
                if paths.setdefault(layer, path) != path:
                    self.units.units(layer).leave_out(f"different functions of its units are joined by {call.name}")
        if [each.shape for each in moved] != [each.shape for each in call.outputs]:
            return self._give_up(call)
        for output, labels in zip(call.outputs, moved, strict=True):
            self.units.locate(output, labels, {layer: paths[layer] for layer in layers_in(labels)})

    def _labels_of(self, value: Any, name: str) -> Any:
        """The argument that stands for another where labels are moved in the place of elements."""
        if not isinstance(value, Tensor):
            return value
        if id(value) in self.units.located:
            return self.units.located[id(value)].labels.contiguous()
        return torch.full(value.shape, OTHER, dtype=torch.float64) if name in JOINING else value.cpu()

    def _change(self, call: Call) -> None:
        """Keep the labels where each element is changed by itself, given nothing but the unit and constants."""
        labels, output = call.sources[0].labels, call.outputs[0]
        others = [value for value in call.given if isinstance(value, Tensor) and id(value) not in self.units.located]
        alike = all(torch.equal(labels, source.labels) for source in call.sources)
        if (others and call.name != "prelu") or not alike or output.shape != labels.shape:
            return self._give_up(call)
        # Whether it works in place is no part of what it does, and the only switch these functions have.
        constants = (repr(value) for value in call.given if not isinstance(value, (bool, Tensor)))
        settings = (*constants, *(id(value) for value in others))
        return self._extend(call, labels, Step(call.name, settings, call.what), output)

    def _pool(self, call: Call) -> None:
        axis = 1 if call.name in RESIZING else call.outputs[0].ndim - POOLING[call.name] - 1
        vector = along(call.sources[0].labels, axis)
        self._condense(call, None if vector is None else spread(vector, call.outputs[0].shape, axis))

    def _reduce(self, call: Call) -> None:
        axes = {
            "dim" if key == "axis" else key: value
            for key, value in call.kwargs.items()
            if key not in ("dtype", "input")
        }
        self._condense(call, reduced(call.sources[0].labels, *call.args[1:], **axes))

    def _condense(self, call: Call, labels: Tensor | None) -> None:
        """Note that each unit's features at several positions become one or a few."""
        if labels is None or any(labels.shape != output.shape for output in call.outputs):
            return self._give_up(call)
        constants = tuple(repr(value) for value in call.given if not isinstance(value, Tensor))
        for number, output in enumerate(call.outputs):  # a second one says where the first one's elements lay
            name = f"{call.name}, output {number + 1}" if number else call.name
            self._extend(call, labels, Step(name, constants), output)

    def _extend(self, call: Call, labels: Tensor, step: Step, output: Tensor) -> None:
        """Add a step to the paths of the units in a tensor, and in its views where it is changed in place."""
        sources = call.sources
        paths: dict[int, Path] = {}
        for layer in sources[0].paths:
            known = dict.fromkeys(each for source in sources for each in source.paths[layer])
            settings = (*step.settings, *(source.paths[layer] for source in sources[1:]))
            paths[layer] = (*known, Step(step.name, settings, step.what))
        if any(output is source.tensor for source in sources):
            for other in self.units.located.values():
                if address(output) == address(other.tensor):
                    if other.tensor.numel() != output.numel():
                        self.units.leave_out([other, *sources], f"changed in part, in place, by {step.name}")
                    other.paths = {layer: paths.get(layer, path) for layer, path in other.paths.items()}
        self.units.locate(output, labels, paths)
