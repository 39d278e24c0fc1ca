"""How far from a network's end its layers are: which one reads which, by the graph of the gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cppo.layers.hidden_layer import LAYERS_WITH_UNITS
from cppo.layers.observe import observing

Node = Any
"""A node of the gradient's graph."""


def find_depths(module: nn.Module, runs: Iterable[Callable[[], Any]]) -> dict[nn.Module, int]:
    """Tell how many layers, itself included, lie between each layer and the end of a network.

    Whatever lies between two layers, the second reads the first if its gradient reaches it. Of several ways the
    longest counts. So the layers at depth 1 are the output layers, and all others are hidden.

    :param module: the network
    :param runs: each runs a part of it on an example
    :return: the depth of each linear layer and convolution that ran and isn't frozen
    """
    made: dict[Node, nn.Module] = {}
    layers = [layer for layer in module.modules() if isinstance(layer, LAYERS_WITH_UNITS)]
    handles = [layer.register_forward_hook(partial(_note, made)) for layer in layers]
    try:
        with observing(module):
            for run in runs:
                with torch.enable_grad():
                    run()
                with torch.no_grad():
                    run()  # so that nothing the module keeps of a run, as a policy does, holds a graph
    finally:
        for handle in handles:
            handle.remove()
    readers: dict[Node, list[Node]] = {node: [] for node in made}
    for node in made:
        for read in _read_by(node, made):
            readers[read].append(node)
    depths: dict[nn.Module, int] = {}
    for node, layer in reversed(made.items()):  # what reads a layer runs after it
        depths[layer] = max(depths.get(layer, 1), 1 + max((depths[made[each]] for each in readers[node]), default=0))
    return depths


def _note(made: dict[Node, nn.Module], layer: nn.Module, _: Any, output: Tensor) -> None:
    if output.grad_fn is not None:
        made[output.grad_fn] = layer


def _read_by(node: Node, made: dict[Node, nn.Module]) -> set[Node]:
    """The nodes of other layers that the gradient reaches from one without passing through any third."""
    found, seen, ahead = set(), {node}, [node]
    while ahead:
        for following, _ in ahead.pop().next_functions:
            if following in made:
                found.add(following)
            elif following is not None and following not in seen:
                seen.add(following)
                ahead.append(following)
    return found
