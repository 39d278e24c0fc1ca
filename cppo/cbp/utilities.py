"""How useful a hidden unit is: one function each, registered by name.

A utility takes the ``UnitSignals`` of one layer and returns its units' instantaneous utility, shape (n_units,);
continual backpropagation keeps a running average of it and replaces the units where that is lowest. Sources:
Dohare, Sutton & Mahmood, "Continual Backprop", arXiv 2108.06325, and Dohare et al., Nature 632 (2024).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cppo import compiled
from cppo.cbp.features import Pass
from cppo.layers.hidden_layer import HiddenLayer, mean_over_rows


@dataclass
class UnitSignals:
    """What a utility may look at: one layer's features since the last optimizer step, and its weights as they are now.

    :param layer: the layer's record, for its weights
    :param seen: what the training passes since the last optimizer step tell of the units
    :param mean_activation_of: returns the bias-corrected running mean f^ of each unit, shape (n_units,)
    :param feature_gradient: shape (n_units,), the mean over samples of h * dLoss/dh; zeros unless asked for
    :param generator: the layer's source of randomness
    """

    layer: HiddenLayer
    seen: Pass
    mean_activation_of: Callable[[], Tensor]
    feature_gradient: Tensor
    generator: torch.Generator

    @property
    def mean_activation(self) -> Tensor:
        """Bias-corrected running mean f^ of each unit's activation, shape (n_units,)."""
        return self.mean_activation_of()

    @property
    def mean_magnitude(self) -> Tensor:
        """Mean |h| of each unit over the samples, shape (n_units,)."""
        return self.seen.magnitude

    @property
    def features(self) -> Tensor:
        """The features h that the layer's first reader was given, shape (samples, n_units).

        :raises ValueError: if the utility said that it doesn't need them
        """
        if self.seen.features is None:
            raise ValueError("the features were not kept: the utility's attribute needs_features is False")
        return self.seen.features

    @property
    def mean_deviation(self) -> Tensor:
        """Mean |h - f^| of each unit over the samples, shape (n_units,)."""
        features, centre = self.features, self.mean_activation
        if compiled.can_take(features) and compiled.can_take(centre) and features.dtype == centre.dtype:
            return torch.from_numpy(compiled.mean_deviation_by_column(features.numpy(), centre.numpy()))
        return mean_over_rows((features - centre).abs_())

    @property
    def outgoing_magnitude(self) -> Tensor:
        """Mean |w_out| of each unit over every weight of every reader, shape (n_units,)."""
        readers = self.layer.outgoing_weights
        if len(readers) == 1:
            return readers[0].magnitude()
        counts = [reader.view().numel() for reader in readers]
        totals = [count * reader.magnitude() for count, reader in zip(counts, readers, strict=True)]
        return torch.stack(totals).sum(dim=0) / sum(counts)

    @property
    def incoming_magnitude(self) -> Tensor:
        """Mean |w_in| of each unit, shape (n_units,)."""
        return self.layer.incoming_weights.magnitude()


Utility = Callable[[Any], Tensor]
"""A function of ``UnitSignals``."""

UTILITIES: dict[str, Utility] = {}
"""Every utility that can be asked for by name."""


def register_utility(utility: Utility) -> Utility:
    """Make a utility available under its function's name; use it as a decorator."""
    UTILITIES[utility.__name__] = utility
    return utility


@register_utility
def contribution(signals: UnitSignals) -> Tensor:
    """Mean |h| times mean |w_out| (Nature, equation 1)."""
    return signals.mean_magnitude * signals.outgoing_magnitude


@register_utility
def mean_corrected_contribution(signals: UnitSignals) -> Tensor:
    """Mean |h - f^| times mean |w_out|: what the bias could take over doesn't count (arXiv 2108.06325, section 4)."""
    return signals.mean_deviation * signals.outgoing_magnitude


@register_utility
def adaptable_contribution(signals: UnitSignals) -> Tensor:
    """Mean-corrected contribution over mean |w_in|: small incoming weights adapt fast (arXiv 2108.06325, section 4).

    A unit whose incoming weights are all zero is constant, which its reader's bias could take over: its utility is 0.
    """
    magnitude = signals.incoming_magnitude
    return (mean_corrected_contribution(signals) / magnitude).masked_fill_(magnitude == 0, 0)


@register_utility
def weight(signals: UnitSignals) -> Tensor:
    """Mean |w_out|."""
    return signals.outgoing_magnitude


@register_utility
def activation(signals: UnitSignals) -> Tensor:
    """Mean |h|."""
    return signals.mean_magnitude


@register_utility
def random(signals: UnitSignals) -> Tensor:
    """Uniform random numbers: the ablation in which utility plays no role."""
    return torch.rand(signals.layer.n_units, generator=signals.generator, device=signals.generator.device).to(
        signals.seen.mean
    )


@register_utility
def gradient(signals: UnitSignals) -> Tensor:
    """|mean over samples of h * dLoss/dh|: the first-order, global effect on the loss of taking the unit away.

    It is read from the gradient as the optimizer is given it: clipping the gradient scales it down for that step, so
    that steps of small gradients weigh more in the running average than the loss itself would have it.
    """
    return signals.feature_gradient.abs()


gradient.needs_gradient = True  # type: ignore[attr-defined]
for _by_means in (contribution, weight, activation, random, gradient):
    _by_means.needs_features = False  # type: ignore[attr-defined]


def find_utility(utility: str | Utility) -> Utility:
    """Look a utility up by name, or accept a function of ``UnitSignals``.

    A function with an attribute ``needs_gradient = True`` is given ``feature_gradient``; one with ``needs_features =
    False`` gets no ``features``, which saves time and the memory to keep them until the optimizer's step.

    :raises ValueError: for a name that isn't registered; the message lists those that are
    """
    if callable(utility):
        return utility
    if utility not in UTILITIES:
        raise ValueError(f"utility={utility!r} is unknown; choose one of {', '.join(sorted(UTILITIES))}, or a function")
    return UTILITIES[utility]
