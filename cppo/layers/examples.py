"""Inputs to run a module on: the user's example, or guesses that go by the layers' shapes."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from cppo.layers.hidden_layer import LAYERS_WITH_UNITS, n_inputs

TYPICAL_SIZES = (84, 64, 32, 28, 96, 16, 10, 8, 224, 128)
"""Lengths of an image's side that are tried."""

MOST_POSITIONS = 2**18
"""The largest image that is tried: with three axes, its side is 64."""

BATCH = 2
BY_HAND = "name the layers by hand: hidden_layers=[HiddenLayer(incoming=..., outgoing=[...], activation=...)]"

Result = TypeVar("Result")


class CouldNotRun(RuntimeError):
    """A module raised an error when it was run on an example."""


def on_example(module: nn.Module, example_input: Any, look: Callable[[Callable[[], Any]], Result]) -> Result:
    """Observe a module while it runs on an example: the one given, or the first guess on which it runs.

    :param module: the module
    :param example_input: as for ``cppo.find_hidden_layers``; None: guesses
    :param look: is given what runs the module, and runs it
    :return: what ``look`` returns
    :raises ValueError: if the module can't be run
    """
    error: Exception | None = None
    for example in _guesses(module) if example_input is None else [example_input]:
        try:
            return look(_call_with(module, example))
        except CouldNotRun as failure:
            error = error or failure
    reason = f"could not be run to follow its data ({error})" if error else "does not show the shape of its input"
    raise ValueError(f"{type(module).__name__} {reason}; pass example_input=..., or {BY_HAND}")


def _call_with(module: nn.Module, example: Any) -> Callable[[], Any]:
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

    def run() -> Any:
        try:
            return module(*args, **kwargs)
        except Exception as error:
            raise CouldNotRun(str(error) or type(error).__name__) from error

    return run


def _are_keywords(module: nn.Module, names: dict[Any, Any]) -> bool:
    parameters = inspect.signature(module.forward).parameters.values()
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        return all(isinstance(name, str) for name in names)
    return names.keys() <= {parameter.name for parameter in parameters}


def _guesses(module: nn.Module) -> Iterator[Tensor]:
    """Inputs the module might take: square images with as many channels as its convolutions read, then vectors."""
    layers = [layer for layer in module.modules() if isinstance(layer, LAYERS_WITH_UNITS)]
    shapes: list[tuple[int, ...]] = []
    for layer in sorted(layers, key=lambda layer: isinstance(layer, nn.Linear)):
        if not isinstance(layer.weight, nn.UninitializedParameter):
            axes = layer.weight.ndim - 2
            sizes = [size for size in TYPICAL_SIZES if size**axes <= MOST_POSITIONS] if axes else [1]
            shapes += [(BATCH, n_inputs(layer) * getattr(layer, "groups", 1), *[size] * axes) for size in sizes]
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(shape, generator=generator) for shape in dict.fromkeys(shapes))
