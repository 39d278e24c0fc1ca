"""Resets the last layers every so many steps."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cppo.cbp.initializers import Initializer, draw_weights, find_initializer
from cppo.checks import check_count
from cppo.layers.examples import on_example
from cppo.layers.gradient_graph import find_depths
from cppo.layers.hidden_layer import LAYERS_WITH_UNITS, UnitModule
from cppo.layers.observe import unwrapped
from cppo.remedies.remedy import Remedy


class ResetLastLayers(Remedy):
    """Resets the last layers every so many steps: their weights and the state of their optimizer.

    New weights come from the initializer, brought to the root mean square that the layer had at first: an output layer
    that began small begins small again. Biases go back to what they were at first.

    Source: Nikishin et al., "The Primacy Bias in Deep Reinforcement Learning", ICML 2022. They reset the last layer or
    the last few of a Q-network, optimizer state included; the default period is the one they use for SAC (of which they
    reset all). Target networks follow as ever. The other arguments are those of ``Remedy``.

    :param n_layers: how many layers from the end; of a network with several ends, so many from each
    :param every: optimizer steps from one time to the next
    :param initializer: where new weights come from: a name in ``cppo.cbp.initializers.INITIALIZERS``, or a function
    :param layers: the layers to reset, by hand; then ``n_layers`` has no meaning
    :param example_input: what to run the module with, to see which layers are the last
    :raises ValueError: where there is no layer to reset
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        n_layers: int = 1,
        every: int = 200_000,
        initializer: str | Initializer = "torch_default",
        layers: Sequence[UnitModule] | None = None,
        seed: int | None = None,
        example_input: Any = None,
    ) -> None:
        check_count("n_layers", n_layers)
        check_count("every", every)
        drawn_from = find_initializer(initializer)
        super().__init__(module, optimizer, seed)
        self.initializer, self.every, self.n_resets = drawn_from, every, 0
        if layers is None:
            inner = unwrapped(module)
            layers = last_layers(on_example(inner, example_input, lambda run: find_depths(inner, [run])), n_layers)
        self.layers = self._trained(layers)
        for number, layer in enumerate(self.layers):
            self.register_buffer(f"size_{number}", _root_mean_square(layer.weight.detach()))
            if layer.bias is not None:
                self.register_buffer(f"bias_{number}", layer.bias.detach().clone())

    def _trained(self, layers: Sequence[UnitModule]) -> list[UnitModule]:
        if wrong := [type(layer).__name__ for layer in layers if not isinstance(layer, LAYERS_WITH_UNITS)]:
            raise TypeError(f"layers to reset must be linear layers or convolutions, not {wrong[0]}")
        at_work = set(self.parameters_at_work)
        trained = [layer for layer in layers if set(layer.parameters()) <= at_work]
        if not trained:
            raise ValueError("the optimizer trains none of the layers to reset")
        return trained

    def begin(self) -> None:
        """Keep the initial sizes and biases of the layers."""
        for number, layer in enumerate(self.layers):
            self.get_buffer(f"size_{number}").copy_(_root_mean_square(layer.weight))
            if layer.bias is not None:
                self.get_buffer(f"bias_{number}").copy_(layer.bias)

    def after_step(self) -> None:
        """Every so many steps, reset the layers."""
        if self.n_steps % self.every:
            return
        self.n_resets += 1
        for number, layer in enumerate(self.layers):
            if all(parameter.requires_grad for parameter in layer.parameters()):
                self._reset(number, layer)

    def _reset(self, number: int, layer: UnitModule) -> None:
        new = draw_weights(layer, self.initializer, self.generator).to(layer.weight)
        layer.weight.copy_(new * (self.get_buffer(f"size_{number}") / _root_mean_square(new)))
        if layer.bias is not None:
            layer.bias.copy_(self.get_buffer(f"bias_{number}"))
        for parameter in layer.parameters():
            self._optimizer.state.pop(parameter, None)  # the optimizer makes a new one, step count included

    def figures(self) -> dict[str, float]:
        """How often the layers were reset."""
        return {"resets": self.n_resets}

    def get_extra_state(self) -> dict[str, Any]:
        """The state of every remedy, and the number of resets."""
        return super().get_extra_state() | {"n_resets": self.n_resets}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore it."""
        super().set_extra_state(state)
        self.n_resets = state["n_resets"]


def last_layers(depths: dict[nn.Module, int], n_layers: int) -> list[Any]:
    """The layers that have fewer than ``n_layers`` others behind them."""
    return [layer for layer, depth in depths.items() if depth <= n_layers]


def _root_mean_square(weights: Tensor) -> Tensor:
    return weights.square().mean().sqrt()
