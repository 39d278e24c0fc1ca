"""The base class of the remedies that work on hidden units: it finds the layers and the initializer."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from cppo.cbp.features import watch_exclusively
from cppo.cbp.initializers import Initializer, find_initializer
from cppo.checks import check_modules
from cppo.layers.find import find_trained_layers
from cppo.layers.hidden_layer import HiddenLayer
from cppo.layers.observe import unwrapped
from cppo.remedies.remedy import Remedy


class UnitRemedy(Remedy):
    """A remedy that works on the units of hidden layers, found as ``ContinualBackprop`` finds them.

    :param module: the network
    :param optimizer: the optimizer that trains it
    :param initializer: where new weights come from: a name in ``cppo.cbp.initializers.INITIALIZERS``, or a function
    :param hidden_layers: the layers, where tracing can't tell
    :param seed: of the new weights; None derives it from torch's own seed
    :param example_input: what to trace the module with (see ``find_hidden_layers``)
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        initializer: str | Initializer,
        hidden_layers: Sequence[HiddenLayer] | None = None,
        seed: int | None = None,
        example_input: Any = None,
    ) -> None:
        check_modules(module, optimizer)
        draw = find_initializer(initializer)
        layers, left_out = find_trained_layers(unwrapped(module), optimizer, hidden_layers, example_input)
        watch_exclusively(self, optimizer, layers)
        super().__init__(module, optimizer, seed)
        self.initializer = draw
        self.layers = layers
        self.left_out = {each.name: each.reason for each in left_out}
        """Why other layers are left out, by name."""

    def is_trainable(self, layer: HiddenLayer) -> bool:
        """Whether none of the weights of a layer's units is frozen."""
        return all(part.parameter.requires_grad for part in layer.parts())

    @property
    def watched_modules(self) -> set[nn.Module]:
        """Every module that has weights of the units; none once ``remove`` was called."""
        return {module for layer in self.layers for module in layer.modules()} if self._handles else set()
