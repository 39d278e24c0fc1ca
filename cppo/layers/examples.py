"""Inputs to run a module on: the user's example, or guesses that go by the layers' shapes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from cppo.layers.hidden_layer import CONVOLUTIONS, n_inputs

TYPICAL_SIZES = (84, 64, 32, 28, 96, 16, 10, 8, 224, 128)
"""Lengths of an image's side that are tried."""

MOST_POSITIONS = 2**18
"""Of an image that is tried: 64 is the longest side of one with three axes."""

BATCH = 2


def call_with(module: nn.Module, example: Any) -> Callable[[], Any]:
    """Prepare a call of a module with an example, moved to the module's device and number format.

    :param example: a tensor; a tuple of positional arguments, the last of which may be a dict of keyword arguments;
        or a dict, of keyword arguments if ``forward`` has them, else the only argument (a dict observation)
    """
    place = next((parameter for parameter in module.parameters() if parameter.is_floating_point()), None)

    def fitting(value: Any) -> Any:
        if not isinstance(value, Tensor) or place is None:
            return value
        return value.to(place) if value.is_floating_point() else value.to(place.device)

    args = list(example) if isinstance(example, tuple) else [example]
    kwargs = args.pop() if args and isinstance(args[-1], dict) and _are_keywords(module, args[-1]) else {}
    args, kwargs = tree_map(fitting, (args, kwargs))
    return lambda: module(*args, **kwargs)


def _are_keywords(module: nn.Module, names: dict[Any, Any]) -> bool:
    parameters = inspect.signature(module.forward).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return all(isinstance(name, str) for name in names)
    return names.keys() <= {parameter.name for parameter in parameters}


def guesses(module: nn.Module) -> Iterator[Tensor]:
    """Inputs the module might take: square images with as many channels as its convolutions read, or vectors."""
    modules = list(module.modules())
    for convolution in _distinct(each for each in modules if isinstance(each, CONVOLUTIONS)):
        axes = convolution.weight.ndim - 2
        for size in TYPICAL_SIZES:
            if size**axes <= MOST_POSITIONS:
                yield torch.zeros(BATCH, n_inputs(convolution) * convolution.groups, *[size] * axes)
    for layer in _distinct(each for each in modules if isinstance(each, nn.Linear)):
        yield torch.zeros(BATCH, n_inputs(layer))


def _distinct(layers: Iterable[Any]) -> list[Any]:
    """The first of all layers that read the same number of inputs along the same number of axes."""
    first: dict[tuple[int, int], Any] = {}
    for layer in layers:
        if not isinstance(layer.weight, nn.UninitializedParameter):
            first.setdefault((n_inputs(layer), layer.weight.ndim), layer)
    return list(first.values())
