"""Finds the hidden layers of a module by following its data, never by the order of its submodules.

The module is run once on an example. Every torch function it calls is watched: a linear layer or convolution gives its
output new units, an activation hands them on, concatenation and flattening move them to other columns, another linear
layer reads them. Whatever else reads a unit (an addition, the module's own output) takes it out of the network's
inside, and such a unit is never replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from cppo.hidden_layers import CONVOLUTIONS, LAYERS_WITH_UNITS, HiddenLayer, UnitModule, n_inputs

# fmt: off
ACTIVATIONS = frozenset((
    "celu", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "logsigmoid", "mish", "prelu", "relu",
    "relu6", "rrelu", "selu", "sigmoid", "silu", "softplus", "softsign", "swish", "tanh", "tanhshrink",
))
PASS_THROUGH = frozenset(("alpha_dropout", "clone", "contiguous", "detach", "dropout", "float", "to", "type_as"))
# fmt: on
"""Functions of one tensor that leave every unit where it is."""


CANNOT_RUN = (RuntimeError, TypeError, IndexError, AttributeError)
BY_HAND = "name the layers by hand: hidden_layers=[HiddenLayer(incoming=..., outgoing=[...], activation=...)]"


@dataclass
class Segment:
    """A run of columns: the units of one layer (None for anything else) and how many columns each has."""

    units: TracedUnits | None
    length: int
    block: int = 1


@dataclass
class TracedUnits:
    """What is known so far of the units one module computes."""

    incoming: UnitModule
    name: str
    activation: Any = None
    readers: list[tuple[UnitModule, int, int]] = field(default_factory=list)
    left_out: str | None = None

    def leave_out(self, reason: str) -> None:
        """These units can't be replaced; keep the first reason found."""
        self.left_out = self.left_out or reason


@dataclass
class Columns:
    """Where units lie in a tensor: along one axis, segment after segment. Holding the tensor keeps its id its own."""

    tensor: Tensor
    axis: int
    segments: list[Segment]

    def units(self) -> Iterable[TracedUnits]:
        """The layers found in the tensor."""
        return (segment.units for segment in self.segments if segment.units is not None)


class DataFlow(TorchFunctionMode):
    """Watches the torch functions a module calls and notes which module reads which units."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.owners: dict[int, tuple[UnitModule, str]] = {}
        for name, submodule in module.named_modules():
            if isinstance(submodule, LAYERS_WITH_UNITS):
                self.owners.setdefault(id(submodule.weight), (submodule, name))
        self.modules_by_function: list[nn.Module] = []
        self.traced: dict[nn.Module, TracedUnits] = {}
        self.columns: dict[int, Columns] = {}

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, "__name__", str(func)).rstrip("_")
        inputs = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        outputs = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
        if name in ("linear", "conv1d", "conv2d", "conv3d"):
            self._layer(inputs, outputs[0])
        elif any(id(value) in self.columns for value in inputs) and outputs and not name.startswith("__get"):
            self._pass_on(func, name, inputs, outputs)
        return result

    def _layer(self, inputs: Sequence[Tensor], output: Tensor) -> None:
        """A linear layer or convolution reads the units of its input and computes units of its own."""
        module, name = self.owners.get(id(inputs[1]), (None, ""))
        read = self.columns.get(id(inputs[0]))
        axis = -1 if not isinstance(module, CONVOLUTIONS) else 1 - output.ndim
        if read is not None:
            self._read(read, module, axis)
        if module is None:
            return
        if module in self.traced:
            self.traced[module].leave_out("its layer is used twice in one forward pass")
            return
        units = TracedUnits(module, name)
        if isinstance(module, CONVOLUTIONS) and module.groups != 1:
            units.leave_out("grouped convolution")
        self.traced[module] = units
        self.columns[id(output)] = Columns(output, axis, [Segment(units, output.shape[axis])])

    def _read(self, read: Columns, module: UnitModule | None, axis: int) -> None:
        start = 0
        for segment in read.segments:
            if segment.units is not None:
                if module is None:
                    segment.units.leave_out("read by a weight that belongs to no linear layer or convolution")
                elif read.axis != axis or (isinstance(module, CONVOLUTIONS) and module.groups != 1):
                    segment.units.leave_out(f"{type(module).__name__} reads it along another axis or in groups")
                else:
                    segment.units.readers.append((module, start, segment.block))
            start += segment.length

    def _pass_on(self, func: Callable, name: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """A function that is no layer reads units: hand them on to its output where it keeps them apart."""
        sources = [self.columns[id(value)] for value in inputs if id(value) in self.columns]
        if name in ACTIVATIONS | PASS_THROUGH and len(outputs) == 1:
            if name in ACTIVATIONS:
                self._note_activation(func, sources[0])
            self.columns[id(outputs[0])] = Columns(outputs[0], sources[0].axis, sources[0].segments)
        elif name in ("cat", "concat", "concatenate"):
            self._concatenate(inputs, outputs[0], sources)
        elif name in ("flatten", "reshape", "view"):
            self._flatten(name, sources[0], outputs[0])
        else:
            for source in sources:
                for units in source.units():
                    units.leave_out(f"read by {name}")

    def _note_activation(self, func: Callable, source: Columns) -> None:
        module = self.modules_by_function[-1] if self.modules_by_function else None
        is_module = module is not None and not list(module.children()) and not list(module.parameters())
        for units in source.units():
            if units.activation is None:
                units.activation = module if is_module else func

    def _concatenate(self, inputs: Sequence[Tensor], output: Tensor, sources: Sequence[Columns]) -> None:
        axis = sources[0].axis
        segments: list[Segment] = []
        for value in inputs:
            columns = self.columns.get(id(value))
            if columns is not None and columns.axis == axis:
                segments += columns.segments
            else:
                segments.append(Segment(None, value.shape[axis]))
        if sum(segment.length for segment in segments) == output.shape[axis] and all(s.axis == axis for s in sources):
            self.columns[id(output)] = Columns(output, axis, segments)
            return
        for source in sources:
            for units in source.units():
                units.leave_out("concatenated along another axis")

    def _flatten(self, name: str, source: Columns, output: Tensor) -> None:
        """The axis of the units swallows those behind it: each unit becomes a block of columns."""
        old = source.tensor.shape
        axis = source.axis % len(old)
        if tuple(output.shape) == tuple(old):
            self.columns[id(output)] = Columns(output, source.axis, source.segments)
        elif tuple(output.shape) == (*old[:axis], old[axis:].numel()):
            size = old[axis + 1 :].numel()
            segments = [Segment(s.units, s.length * size, s.block * size) for s in source.segments]
            self.columns[id(output)] = Columns(output, -1, segments)
        else:
            for units in source.units():
                units.leave_out(f"read by {name} from shape {tuple(old)} to {tuple(output.shape)}")


@torch.no_grad()
def trace(module: nn.Module, run: Callable[[], Any]) -> list[TracedUnits]:
    """Run the module once under observation, without touching its state or any random generator.

    :param module: the module whose layers are looked for
    :param run: calls the module on an example
    :return: the units of every linear layer and convolution that ran, in the order in which they ran
    """
    flow = DataFlow(module)
    training = {submodule: submodule.training for submodule in module.modules()}
    entered = nn.modules.module.register_module_forward_pre_hook(lambda m, _: flow.modules_by_function.append(m))
    left = nn.modules.module.register_module_forward_hook(lambda *_: _discard(flow.modules_by_function.pop()))
    try:
        module.eval()
        with torch.random.fork_rng(), flow:
            outputs = run()
    finally:
        entered.remove()
        left.remove()
        for submodule, mode in training.items():
            submodule.training = mode
    for value in tree_leaves(outputs):
        if id(value) in flow.columns:
            for units in flow.columns[id(value)].units():
                units.leave_out("leaves the network")
    return list(flow.traced.values())


def _discard(_: Any) -> None:
    """Forward hooks that return a value replace the output; this one must not."""


def find_hidden_layers(module: nn.Module, example_input: Any = None) -> list[HiddenLayer]:
    """Find the hidden layers of a module by running it once and following its data.

    :param module: any module of linear layers and convolutions
    :param example_input: a tensor, or a tuple or dict of arguments, the module can be called with; it may be left out
        where the module takes a single vector and has no convolutions
    :return: one record a layer whose units can be replaced, in the order in which they are computed
    :raises ValueError: if the module can't be run on the example, or nothing in it can be replaced; the message says
        what was found and how to pass ``hidden_layers=`` by hand
    """
    error: Exception | None = None
    for example in _guesses(module) if example_input is None else [example_input]:
        try:
            return replaceable(_trace_call(module, example), type(module).__name__)
        except CANNOT_RUN as failure:
            error = failure
    reason = f"could not be run to follow its data ({error})" if error else "does not show the shape of its input"
    raise ValueError(f"{type(module).__name__} {reason}; pass example_input=..., or {BY_HAND}")


def replaceable(traced: Sequence[TracedUnits], what: str, advice: str = BY_HAND) -> list[HiddenLayer]:
    """Turn what a trace found into records of the layers whose units can be replaced.

    :param traced: what ``trace`` found
    :param what: how the error calls the module
    :param advice: what the error tells the user to do
    :raises ValueError: if there is none, with the reason for each layer found
    """
    layers = [_record(units) for units in traced if units.left_out is None and units.readers]
    if not layers:
        found = "; ".join(f"{u.name or type(u.incoming).__name__}: {u.left_out or 'nothing reads it'}" for u in traced)
        raise ValueError(
            f"{what} has no hidden layer whose units could be replaced (found: "
            f"{found or 'no linear layer or convolution'}); {advice}"
        )
    return layers


def _record(units: TracedUnits) -> HiddenLayer:
    return HiddenLayer(
        incoming=units.incoming,
        outgoing=[reader for reader, _, _ in units.readers],
        activation=units.activation,
        columns=[(start, block) for _, start, block in units.readers],
        name=units.name or type(units.incoming).__name__,
    )


def _guesses(module: nn.Module) -> Iterable[Tensor]:
    """Inputs the module might take, going by its linear layers; none can be guessed where it begins with an image."""
    linear = [submodule for submodule in module.modules() if isinstance(submodule, nn.Linear)]
    if any(isinstance(submodule, CONVOLUTIONS) for submodule in module.modules()):
        return
    for layer in {n_inputs(layer): layer for layer in reversed(linear)}.values():
        yield torch.zeros(2, n_inputs(layer), dtype=layer.weight.dtype, device=layer.weight.device)


def _trace_call(module: nn.Module, example: Any) -> list[TracedUnits]:
    if isinstance(example, dict):
        return trace(module, lambda: module(**example))
    return trace(module, lambda: module(*example) if isinstance(example, tuple) else module(example))
