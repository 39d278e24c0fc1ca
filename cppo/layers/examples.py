"""What a module can be run on to follow its data: the user's example, or guesses that go by its first layers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from cppo.layers.hidden_layer import CONVOLUTIONS, n_inputs

TYPICAL_SIZES = (84, 64, 32, 28, 96, 16, 10, 8, 224, 128)
"""Lengths of an image's side that are tried first."""

LARGEST_SIZE = {1: 512, 2: 128, 3: 32}
"""By the number of spatial axes, up to where all other sizes are tried."""

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
        for size in _sizes(convolution.weight.ndim - 2):
            shape = (BATCH, n_inputs(convolution) * convolution.groups, *[size] * (convolution.weight.ndim - 2))
            yield torch.zeros(shape)
    for layer in _distinct(each for each in modules if isinstance(each, nn.Linear)):
        yield torch.zeros(BATCH, n_inputs(layer))


def _distinct(layers: Iterable[Any]) -> list[Any]:
    """The first of all layers that read the same number of inputs along the same number of axes."""
    first: dict[tuple[int, int], Any] = {}
    for layer in layers:
        if not isinstance(layer.weight, nn.UninitializedParameter):
            first.setdefault((n_inputs(layer), layer.weight.ndim), layer)
    return list(first.values())


def _sizes(axes: int) -> Iterator[int]:
    largest = LARGEST_SIZE[axes]
    yield from (size for size in TYPICAL_SIZES if size <= 2 * largest)
    yield from (size for size in range(1, largest + 1) if size not in TYPICAL_SIZES)
