"""Finds which layers read which, whatever lies between them, by following the gradient back."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from cppo.layers.hidden_layer import LAYERS_WITH_UNITS, UnitModule
from cppo.layers.observe import observing

Node = Any
"""A node of the gradient's graph."""

Runs = Iterable[Callable[[], Any]]
"""Each runs a part of a network on an example."""


def find_depths(module: nn.Module, runs: Runs) -> dict[nn.Module, int]:
    """Count the layers from each layer, itself included, to the end of a network; the longest way counts.

    Output layers have depth 1, all others are hidden.

    :param module: the network
    :param runs: each runs a part of it on an example
    :return: the depth of each linear layer and convolution that ran and isn't frozen
    """
    made, read = _follow_gradient(module, runs)
    readers: dict[Node, list[Node]] = {node: [] for node in made}
    for reader, node in read:
        readers[node].append(reader)
    depths: dict[nn.Module, int] = {}
    for node, layer in reversed(made.items()):  # what reads a layer runs after it
        depths[layer] = max(depths.get(layer, 1), 1 + max((depths[made[each]] for each in readers[node]), default=0))
    return depths


def find_first_readers(module: nn.Module, runs: Runs) -> dict[nn.Module, UnitModule]:
    """Tell which layer is the first to read the output of each layer; parameters as for ``find_depths``."""
    made, read = _follow_gradient(module, runs)
    return {made[node]: made[reader] for reader, node in reversed(read)}


def _follow_gradient(module: nn.Module, runs: Runs) -> tuple[dict[Node, UnitModule], list[tuple[Node, Node]]]:
    """Run a module and follow the gradient back from each layer's output to the layers before it.

    :return: the layer that made each output, and pairs of outputs of which the first depends on the second without
        another layer in between; both in the order in which the layers ran
    """
    made: dict[Node, UnitModule] = {}

    def note(layer: Any, _: Any, output: Tensor) -> None:
        if output.grad_fn is not None:
            made[output.grad_fn] = layer

    layers = [layer for layer in module.modules() if isinstance(layer, LAYERS_WITH_UNITS)]
    with observing(module):
        handles = [layer.register_forward_hook(note) for layer in layers]
        try:
            for run in runs:
                with torch.enable_grad():
                    run()
                with torch.no_grad():
                    run()  # so that nothing the module keeps of a run, as a policy does, holds a graph
        finally:
            for handle in handles:
                handle.remove()
    return made, [(node, before) for node in made for before in _nearest(node, made)]


def _nearest(start: Node, made: dict[Node, UnitModule]) -> set[Node]:
    """The layers' outputs that the gradient reaches from one of them without passing through a third."""
    seen, ahead = {None}, [start]
    while ahead:
        following = {node for node, _ in ahead.pop().next_functions} - seen
        seen |= following
        ahead += following - made.keys()
    return seen & made.keys()
