"""The record of a hidden layer: which weights feed its units, and which read them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cppo import compiled
from cppo.layers.norms import VALUES_OF_NEW_NORMS, is_norm, norm_width

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
LAYERS_WITH_UNITS = (nn.Linear, *CONVOLUTIONS)

UnitModule = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
"""A module whose outputs (channels) are units."""


@dataclass(eq=False)
class UnitWeights:
    """The part of one parameter that belongs to the units of one hidden layer.

    :param module: the module that owns the parameter
    :param name: the parameter's name in that module
    :param n_units: number of hidden units
    :param axis: the axis along which the units lie: 0 for weights that feed units, 1 for weights that read them
    :param start: the first index along that axis
    :param block: how many consecutive indices belong to each unit (more than one behind a flattened feature map)
    """

    module: nn.Module
    name: str
    n_units: int
    axis: int
    start: int = 0
    block: int = 1
    _address: int = field(default=-1, init=False, repr=False)
    _matrix: np.ndarray | None = field(default=None, init=False, repr=False)

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter as a whole."""
        return getattr(self.module, self.name)

    def view(self, tensor: Tensor | None = None) -> Tensor:
        """Look at the parameter, or at a tensor of its shape (a gradient, a moment), unit by unit.

        :return: a view whose axis ``self.axis`` has length n_units: (n_units, fan in, ...) for weights that feed
            units, (fan out, n_units, ...) for weights that read them
        """
        tensor = self.parameter.detach() if tensor is None else tensor
        if self.n_units * self.block != tensor.shape[self.axis]:
            tensor = tensor.narrow(self.axis, self.start, self.n_units * self.block)
        return tensor if self.block == 1 else tensor.unflatten(self.axis, (self.n_units, self.block))

    def magnitude(self) -> Tensor:
        """Mean absolute weight of each unit, shape (n_units,)."""
        matrix = self._find_matrix()
        if matrix is not None:
            if self.axis == 0:
                return torch.from_numpy(compiled.mean_magnitude_by_row(matrix))
            columns = torch.from_numpy(compiled.mean_magnitude_by_column(matrix))
            return columns if columns.numel() == self.n_units else columns.view(self.n_units, -1).mean(dim=1)
        weights = self.view().abs()
        if weights.ndim == 2 and self.axis == 1:
            return mean_over_rows(weights)
        return weights.mean(dim=[axis for axis in range(weights.ndim) if axis != self.axis])

    def _find_matrix(self) -> np.ndarray | None:
        """The weights as a matrix for compiled loops, a row for each unit fed or reading; None where they can't be.

        It lies in the parameter's memory, and keeps that alive: while its address is the parameter's, it is current.
        """
        address = self.parameter.data_ptr()
        if address != self._address:
            weights, self._address = self.view(), address
            self._matrix = weights.reshape(len(weights), -1).numpy() if compiled.can_take(weights) else None
        return self._matrix

    def __getstate__(self) -> dict[str, Any]:
        """Leave the address and the matrix out of a copy: they hold for the memory of this process."""
        return self.__dict__ | {"_address": -1, "_matrix": None}


@dataclass(frozen=True, eq=False)
class HiddenLayer:
    """One layer of hidden units: the module that computes them and the modules that read them.

    Example::

        net = nn.Sequential(nn.Linear(7, 12), nn.ReLU(), nn.Linear(12, 3))
        HiddenLayer(incoming=net[0], outgoing=[net[2]], activation=net[1])

    :param incoming: the ``nn.Linear`` or convolution whose outputs (channels) are the units
    :param outgoing: every module that reads the units
    :param activation: the activation between them, a module or a function; None for linear units.
        It sets the gain of the initializers that have one.
    :param columns: for each outgoing layer (first input index, indices per unit); by default it reads nothing but these
        units
    :param name: how messages and logs call this layer
    :param norms: the normalisation modules between the units and the outgoing layers. A new unit's slice of their
        weights, biases and running statistics is that of a new module.
    :param norm_columns: for each norm (first index, indices per unit); by default it normalises nothing but these units
    :raises TypeError: for modules that are neither linear nor a convolution, and for norms that are none
    :raises ValueError: if an outgoing layer or a norm has no such inputs
    """

    incoming: UnitModule
    outgoing: Sequence[UnitModule]
    activation: nn.Module | Callable[[Tensor], Tensor] | None = None
    columns: Sequence[tuple[int, int]] = ()
    name: str = "hidden layer"
    norms: Sequence[nn.Module] = ()
    norm_columns: Sequence[tuple[int, int]] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "outgoing", tuple(self.outgoing))
        object.__setattr__(self, "norms", tuple(self.norms))
        if not self.outgoing:
            raise ValueError(f"{self.name}: no module reads its units, so there is no outgoing weight to replace")
        for module in (self.incoming, *self.outgoing):
            _check_module(self.name, module)
        for norm in self.norms:
            if not is_norm(norm):
                raise TypeError(f"{self.name}: {type(norm).__name__} is no normalisation whose slices can be reset")
        self._set_columns("columns", "readers", self.outgoing, n_inputs)
        self._set_columns("norm_columns", "norms", self.norms, norm_width)

    def _set_columns(self, key: str, what: str, modules: Sequence[nn.Module], width: Callable[[Any], int]) -> None:
        """Check the columns of modules; by default a module is given nothing but these units."""
        columns = tuple(getattr(self, key)) or tuple(self._whole(module, width(module)) for module in modules)
        object.__setattr__(self, key, columns)
        if len(columns) != len(modules):
            raise ValueError(f"{self.name}: {len(columns)} columns for {len(modules)} {what}")
        for module, (start, block) in zip(modules, columns, strict=True):
            if block < 1 or start < 0 or start + self.n_units * block > width(module):
                raise ValueError(
                    f"{self.name}: its {self.n_units} units don't fit the {width(module)} inputs of {module} "
                    f"from {start} on with {block} inputs per unit"
                )

    def _whole(self, module: nn.Module, width: int) -> tuple[int, int]:
        """The columns of a module that is given nothing but these units."""
        block, rest = divmod(width, self.n_units)
        if rest:
            raise ValueError(
                f"{self.name}: the {width} inputs of {module} are no multiple of its {self.n_units} units; "
                "pass the columns: [(first input, inputs per unit), ...]"
            )
        return 0, block

    @cached_property
    def n_units(self) -> int:
        """Number of hidden units."""
        return self.incoming.weight.shape[0]

    @cached_property
    def is_nonnegative(self) -> bool:
        """Whether the units' features can't be negative, so that their magnitude is their value."""
        plain = isinstance(self.activation, nn.ReLU) or self.activation in (torch.relu, nn.functional.relu)
        return plain and not self.norm_slices

    @cached_property
    def incoming_weights(self) -> UnitWeights:
        """The weights that feed the units."""
        return UnitWeights(self.incoming, "weight", self.n_units, axis=0)

    @cached_property
    def incoming_bias(self) -> UnitWeights | None:
        """The units' biases, if they have any."""
        return None if self.incoming.bias is None else UnitWeights(self.incoming, "bias", self.n_units, axis=0)

    @cached_property
    def outgoing_weights(self) -> list[UnitWeights]:
        """The weights that read the units, one entry for each outgoing layer."""
        return [
            UnitWeights(reader, "weight", self.n_units, 1, start, block)
            for reader, (start, block) in zip(self.outgoing, self.columns, strict=True)
        ]

    @cached_property
    def norm_slices(self) -> list[UnitWeights]:
        """The units' slices of the norms' weights, biases and running statistics, as far as they have them."""
        return [
            UnitWeights(norm, name, self.n_units, 0, start, block)
            for norm, (start, block) in zip(self.norms, self.norm_columns, strict=True)
            for name in VALUES_OF_NEW_NORMS
            if isinstance(getattr(norm, name, None), Tensor)
        ]

    def by_reader(self) -> list[HiddenLayer]:
        """One hidden layer for each outgoing layer, with that one alone."""
        pairs = zip(self.outgoing, self.columns, strict=True)
        return [replace(self, outgoing=[reader], columns=[columns]) for reader, columns in pairs]

    def parts(self) -> Iterator[UnitWeights]:
        """Every weight that belongs to the units, incoming ones first."""
        yield self.incoming_weights
        if self.incoming_bias is not None:
            yield self.incoming_bias
        yield from (part for part in self.norm_slices if isinstance(part.parameter, nn.Parameter))
        yield from self.outgoing_weights

    def modules(self) -> Iterator[nn.Module]:
        """Every module that has weights of the units."""
        yield from (self.incoming, *self.outgoing, *self.norms)

    def features(self, reader_input: Tensor) -> Tensor:
        """Take the units' features out of the input of the first outgoing layer.

        :return: shape (samples, n_units); positions of a feature map count as samples
        """
        return unit_features(self.outgoing[0], reader_input, self.n_units, *self.columns[0])

    def __repr__(self) -> str:
        return f"HiddenLayer({self.name}: {self.n_units} units, {len(self.outgoing)} readers)"


def unit_features(reader: UnitModule, given: Tensor, n_units: int, start: int, block: int) -> Tensor:
    """Take units' features out of the input of a layer that reads them.

    :return: shape (samples, n_units); positions of a feature map count as samples
    """
    axis = given.ndim - 1 if isinstance(reader, nn.Linear) else given.ndim - reader.weight.ndim + 1
    if block == 1 and axis == 1 and given.ndim == 2 and given.shape[1] == n_units:
        return given
    units = given.narrow(axis, start, n_units * block).unflatten(axis, (n_units, block))
    return units.movedim(axis, -1).reshape(-1, n_units)


def mean_over_rows(matrix: Tensor) -> Tensor:
    """Mean of each column, as a matrix product: that takes half the time of a reduction along the first axis."""
    return _averaging(matrix.shape[0], matrix.dtype, matrix.device) @ matrix


@lru_cache(maxsize=64)
def _averaging(count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.full((count,), 1 / count, dtype=dtype, device=device)


def input_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The tensor that a layer is called with: its first argument, or its only one by name; None if there is none."""
    if args:
        return args[0] if isinstance(args[0], Tensor) else None
    named = [value for value in kwargs.values() if isinstance(value, Tensor)]
    return kwargs["input"] if isinstance(kwargs.get("input"), Tensor) else named[0] if len(named) == 1 else None


def n_inputs(reader: UnitModule) -> int:
    """Number of inputs (features or channels) of a linear layer or a convolution."""
    return reader.weight.shape[1]


def _check_module(name: str, module: nn.Module) -> None:
    if not isinstance(module, LAYERS_WITH_UNITS):
        raise TypeError(f"{name}: {type(module).__name__} is neither a linear layer nor a convolution")
    if isinstance(module, CONVOLUTIONS) and module.groups != 1:
        raise ValueError(f"{name}: {module} has groups={module.groups}; only groups=1 is supported")
    if isinstance(module.weight, Tensor) and module.weight.is_complex():
        raise ValueError(f"{name}: the weight of {module} is complex; only real weights can be replaced")


def check_distinct(layers: Sequence[HiddenLayer]) -> None:
    """Refuse layers whose weights overlap.

    :raises ValueError: if a module's units are watched twice or a parameter is shared by two modules of the layers
    """
    modules = {module for layer in layers for module in (layer.incoming, *layer.outgoing)}
    owners: dict[Tensor, UnitModule] = {}
    for module in modules:
        if owners.setdefault(module.weight, module) is not module:
            raise ValueError(f"tied weights: {module} and {owners[module.weight]} share one weight")
    incoming = [layer.incoming for layer in layers]
    for layer in layers:
        if incoming.count(layer.incoming) > 1:
            raise ValueError(f"{layer.name}: the units of {layer.incoming} are listed twice")
