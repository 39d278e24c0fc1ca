"""Checks by numbers that the outgoing weights of hidden units are all by which a network depends on them.

With the outgoing weights of some units at zero, their incoming weights and biases are changed: no output and no tensor
kept on the module may change. The trace's rules tell why a layer is left out; this tells that something was missed.

The weights that change are copies, which stand in for the module's own meanwhile: those aren't written to.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cppo.layers.hidden_layer import HiddenLayer
from cppo.layers.norms import is_norm
from cppo.layers.observe import observing
from cppo.layers.reach import VALUES, reachable
from cppo.layers.snapshot import Snapshot
from cppo.layers.sort_out import sort_out
from cppo.layers.traced_units import TracedUnits

LEAK = (
    "more than the outgoing weights that were found depends on its units: with these weights at zero, other incoming "
    "weights still changed what the network returns or keeps"
)
"""The reason for layers that the check refuses."""

TOLERANCE = 100
"""Rounding errors that are no change, relative to the largest value of a tensor."""


class Way(NamedTuple):
    """A way to run a module.

    :param run: runs it
    :param training: whether in training mode
    """

    run: Callable[[], Any]
    training: bool


def leave_out_what_leaks(module: nn.Module, traced: Sequence[TracedUnits], ways: Sequence[Way]) -> None:
    """Leave out the layers of which more depends on their units than their outgoing weights.

    :param module: the module, which is left as it was
    :param traced: what was found in it
    :param ways: how to run it
    """
    by_incoming = {units.incoming: units for units in traced}
    for layer in find_leaking(module, sort_out(traced)[0], ways):
        by_incoming[layer.incoming].leave_out(LEAK)


@torch.no_grad()
def find_leaking(module: nn.Module, layers: Sequence[HiddenLayer], ways: Sequence[Way]) -> list[HiddenLayer]:
    """Find the layers of which more depends on their units than their outgoing weights.

    All layers are changed together; only if something else changes, one by one. Where the module can't be run so, a
    warning says it.

    :param module: the module, which is left as it was
    :param layers: some of its hidden layers
    :param ways: how to run it
    """
    probes = [Probe(layer) for layer in layers]
    if not probes:
        return []
    before = Snapshot(module, [way.run for way in ways])
    leaks = partial(_leaks, module, before, ways)
    try:
        if not leaks(probes):
            return []
        leaking = [probe for probe in probes if leaks([probe])]
        tight = [probe for probe in probes if probe not in leaking]
        if not leaking or (tight and leaks(tight)):
            leaking = probes  # no single one is to blame
    except Exception as error:
        warnings.warn(
            f"{type(module).__name__} could not be run to check by numbers that nothing else reads its hidden units "
            f"({error}): they are watched as far as its data could be followed, or as they were named",
            stacklevel=3,
        )
        return []
    return [probe.layer for probe in leaking]


class Probe:
    """A layer under test, and the change of a random half of its units.

    :param layer: the layer
    """

    def __init__(self, layer: HiddenLayer) -> None:
        self.layer = layer
        weight, n_units = layer.incoming.weight, layer.n_units
        generator = torch.Generator().manual_seed(n_units)
        units = torch.randperm(n_units, generator=generator)[: (n_units + 1) // 2]
        fan_in = max(1, weight[0].numel())
        weights = torch.randn(len(units), *weight.shape[1:], generator=generator) / fan_in**0.5
        shift = torch.zeros(n_units)
        shift[units] = 0.5 + torch.rand(len(units), generator=generator)
        self.units, self.weights, self.shift = units.to(weight.device), weights.to(weight), shift.to(weight)

    def change(self) -> None:
        """Give the units other incoming weights, and another bias."""
        self.layer.incoming_weights.view().index_copy_(0, self.units, self.weights)
        if self.layer.incoming_bias is not None:
            self.layer.incoming_bias.view().add_(self.shift)

    def silence(self) -> None:
        """Set the units' outgoing weights to zero."""
        for part in self.layer.outgoing_weights:
            part.view().index_fill_(part.axis, self.units, 0)


@contextmanager
def _stand_ins(probes: Sequence[Probe]) -> Iterator[None]:
    """Let copies stand in for all weights of some layers."""
    owned = {part.parameter: part.parameter.data for probe in probes for part in probe.layer.parts()}
    try:
        for parameter, values in owned.items():
            parameter.data = values.clone()
        yield
    finally:
        for parameter, values in owned.items():
            parameter.data = values


def _leaks(module: nn.Module, held: Snapshot, ways: Sequence[Way], probes: Sequence[Probe]) -> bool:
    """Whether anything changes with the incoming weights of units whose outgoing ones are zero.

    :raises RuntimeError: if the module does not do the same twice
    """
    for way in ways:
        statistics = Statistics()
        before = _values(module, held, probes, way, statistics)
        after = _values(module, held, probes, way, statistics, changed=True)
        if len(before) == len(after) and all(map(_alike, before, after)):
            continue
        again = _values(module, held, probes, way, Statistics())
        if not len(before) == len(after) == len(again):
            return True
        same = list(map(_alike, before, again))
        if any(is_same and not _alike(*pair) for is_same, *pair in zip(same, before, after, strict=True)):
            return True
        if any(isinstance(value, Tensor) and not is_same for is_same, value in zip(same, before, strict=True)):
            raise RuntimeError("it does not do the same twice")
    return False


def _values(
    module: nn.Module, held: Snapshot, probes: Sequence[Probe], way: Way, statistics: Statistics, changed: bool = False
) -> list[Any]:
    """All values that a module returns and keeps, with the probed units' outgoing weights at zero."""
    with observing(module, way.training, held), _stand_ins(probes):
        for part in module.modules():
            if is_norm(part) and getattr(part, "layer_scaling", False):  # OnlineNorm's mixes units by design
                setattr(part, "layer_scaling", False)  # noqa: B010  # no attribute of torch's modules
        for probe in probes if changed else ():
            probe.change()
        for probe in probes:
            probe.silence()
        statistics.begin(probes if changed else ())
        with statistics:
            outputs = way.run()
        return [
            each.detach().clone() if isinstance(each, Tensor) else np.array(each)
            for each in (*reachable(outputs, *held.news()), *held.values)
            if isinstance(each, (Tensor, np.ndarray, *VALUES)) and not isinstance(each, nn.Parameter)
        ]


class Statistics(TorchFunctionMode):
    """Holds the statistics of layer and root mean square norms as they were in the first run: they mix units by design.

    In later runs it also adds to the outputs of layers what a changed bias would, where they have none.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held: list[tuple[Tensor, Tensor]] = []
        self._shifts: dict[int, Tensor] = {}
        self._next, self._is_first = 0, True

    def begin(self, changed: Sequence[Probe]) -> None:
        """Begin a run, the first one or one with changed layers."""
        self._is_first, self._next = not changed, 0
        without_bias = [probe for probe in changed if probe.layer.incoming_bias is None]
        self._shifts = {id(probe.layer.incoming.weight): probe.shift for probe in without_bias}

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in ("layer_norm", "rms_norm"):
            return self._normalise(name == "layer_norm", *args, **kwargs)
        result = func(*args, **kwargs)
        if self._shifts and len(args) > 1 and (shift := self._shifts.get(id(args[1]))) is not None:
            result = result + shift.reshape(-1, *[1] * (args[1].ndim - 2))
        return result

    def _normalise(
        self,
        centres: bool,
        input: Tensor,
        normalized_shape: Sequence[int],
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        eps: float | None = None,
        *_: Any,
    ) -> Tensor:
        if not centres and not isinstance(bias, Tensor):  # the fourth argument of a root mean square norm
            bias, eps = None, bias if bias is not None else eps
        axes = tuple(range(-len(normalized_shape), 0))
        eps = torch.finfo(input.dtype).eps if eps is None else eps
        if self._is_first:
            mean = input.mean(axes, keepdim=True) if centres else torch.zeros_like(input[..., :1])
            self._held.append((mean, (input - mean).square().mean(axes, keepdim=True)))
        mean, variance = self._held[self._next]
        self._next += 1
        output = (input - mean) * (variance + eps).rsqrt()
        output = output if weight is None else output * weight
        return output if bias is None else output + bias


def _alike(one: Any, other: Any) -> bool:
    """Whether two values are the same but for rounding; what isn't finite in one of them says nothing."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        if "O" in (one.dtype.kind, other.dtype.kind):
            return True
        if one.dtype != other.dtype or one.dtype.kind not in "biufc":
            return np.array_equal(one, other)
        one, other = torch.from_numpy(one), torch.from_numpy(other)
    if type(one) is not type(other):
        return False
    one, other = _dense(one), _dense(other)
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if not (one.is_floating_point() or one.is_complex()):
        return torch.equal(one, other)
    finite = one.isfinite() & other.isfinite()
    one, other = one[finite], other[finite]
    if torch.equal(one, other):
        return True
    return bool(((one - other).abs() <= TOLERANCE * torch.finfo(one.dtype).eps * (1 + one.abs().max())).all())


def _dense(tensor: Tensor) -> Tensor:
    if tensor.is_nested:
        return tensor.to_padded_tensor(0.0)
    return tensor if tensor.layout == torch.strided else tensor.to_dense()
