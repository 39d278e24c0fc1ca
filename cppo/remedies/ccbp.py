"""Continuous continual backpropagation: all units are reset a little, the less useful the more."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cppo.cbp.initializers import Initializer
from cppo.checks import BELOW_ONE, LARGEST, check_count, check_number
from cppo.layers.hidden_layer import HiddenLayer
from cppo.remedies.unit_remedy import UnitRemedy

NEUTRAL = 1.0
"""Utility of a new unit: the mean of a layer's utilities."""


class CCBP(UnitRemedy):
    """Continuous continual backpropagation: soft replacement of units, scaled by utility.

    A unit's utility is a running average of the mean |gradient| of its incoming weights, divided by its layer's mean
    of that. Every so many steps each unit is reset by a share p, which is the replacement rate times
    min(1, exp(-sharpness * (utility - threshold))): its incoming weights become (1 - p) times themselves plus p times
    new ones, its outgoing weights (1 - p) times themselves, and all utilities start anew from 1. Biases and the
    optimizer's state stay.

    Source: "Learning Continually at Peak Performance with Continuous Continual Backpropagation", submitted to ICLR 2026
    (openreview UJqXhFFzKu). Written after its authors' code (LucMc/continual-learning, ``ccbp``); the paper's text was
    not at hand but for its abstract. Defaults: that code's, and the rate that is said to be the paper's best (table 3).
    The other arguments are those of ``UnitRemedy``.

    :param replacement_rate: share by which a useless unit is reset each time
    :param every: optimizer steps from one time to the next
    :param decay_rate: decay of the running average of utility
    :param sharpness: how fast the share falls with utility
    :param threshold: utility up to which a unit is reset by the full share
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        replacement_rate: float = 0.015,
        every: int = 1000,
        decay_rate: float = 0.99,
        sharpness: float = 16.0,
        threshold: float = 0.95,
        initializer: str | Initializer = "kaiming_uniform",
        hidden_layers: Sequence[HiddenLayer] | None = None,
        seed: int | None = None,
        example_input: Any = None,
    ) -> None:
        check_number("replacement_rate", replacement_rate, 0, 1, "a number from 0 to 1")
        check_count("every", every)
        check_number("decay_rate", decay_rate, 0, BELOW_ONE, "a number from 0 to less than 1")
        check_number("sharpness", sharpness, 0, LARGEST, "a number, 0 or more")
        check_number("threshold", threshold, 0, LARGEST, "a number, 0 or more")
        super().__init__(module, optimizer, initializer, hidden_layers, seed, example_input)
        self.replacement_rate, self.every, self.decay_rate = replacement_rate, every, decay_rate
        self.sharpness, self.threshold = sharpness, threshold
        for number, layer in enumerate(self.layers):
            self.register_buffer(f"utility_{number}", torch.full((layer.n_units,), NEUTRAL, device=self.device))

    def utility(self, number: int) -> Tensor:
        """Utility of the units of one of ``layers``, 1 on average, shape (n_units,)."""
        return self.get_buffer(f"utility_{number}")

    def before_step(self) -> None:
        """Update the utilities by the gradients."""
        for number, layer in enumerate(self.layers):
            gradient = layer.incoming.weight.grad
            if gradient is not None:
                effect = layer.incoming_weights.view(gradient).abs().flatten(1).mean(dim=1)
                score = effect / (effect.mean() + 1e-8)
                self.utility(number).lerp_(score.to(self.utility(number)), 1 - self.decay_rate)

    def after_step(self) -> None:
        """Every so many steps, reset each unit by its share: all incoming weights, then all outgoing ones."""
        if self.n_steps % self.every or not self.replacement_rate:
            return
        trainable = [number for number, layer in enumerate(self.layers) if self.is_trainable(layer)]
        shares = {number: self.share(self.utility(number)) for number in trainable}
        for number, share in shares.items():
            layer = self.layers[number]
            weights = layer.incoming_weights.view()
            new = self.initializer(layer, layer.n_units, self.generator).to(weights)
            weights.lerp_(new, _along(share, weights, 0))
        for number, share in shares.items():
            for part in self.layers[number].outgoing_weights:
                weights = part.view()
                weights.mul_(1 - _along(share, weights, part.axis))
            self.utility(number).fill_(NEUTRAL)

    def share(self, utility: Tensor) -> Tensor:
        """The share by which units of some utility are reset."""
        return self.replacement_rate * torch.exp(-self.sharpness * (utility - self.threshold)).clamp(max=1)


def _along(share: Tensor, weights: Tensor, axis: int) -> Tensor:
    return share.to(weights).view([-1 if each == axis else 1 for each in range(weights.ndim)])
