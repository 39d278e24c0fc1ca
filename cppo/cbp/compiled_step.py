"""A step of generate-and-test up to the choice of units, in compiled loops over the state of all layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from cppo import compiled
from cppo.cbp.unit_state import bias_corrected

if TYPE_CHECKING:
    from cppo.cbp.continual_backprop import ContinualBackprop
    from cppo.cbp.watched_layer import WatchedLayer


class CompiledStep:
    """Does in a few calls what ``ContinualBackprop`` does with torch, for plain tensors on the CPU.

    The layers' state lies one layer after another, so most of a step is one loop over all units.

    :param owner: the ``ContinualBackprop`` whose state it works on
    """

    def __init__(self, owner: ContinualBackprop) -> None:
        self.owner = owner
        self._by_unit = getattr(owner.utility, "by_unit", False)
        self._starts = np.array([layer.span.start for layer in owner.layers] + [owner.n_units])
        self._mature = np.zeros(len(owner.layers), np.int64)
        self._readers = _only_readers(owner.layers)
        self._shapes = np.array([reader.shape for reader in self._readers])
        self._outgoing = np.zeros(owner.n_units)

    def is_possible(self, layers: Sequence[WatchedLayer]) -> bool:
        """Whether the loops can do this step: all layers were seen, and the utility judges units one by one."""
        owner = self.owner
        return (
            len(layers) == len(owner.layers)
            and self._by_unit
            and not owner.ranks.several
            and compiled.can_take(owner.average_utility)
            and layers[0].weights.dtype == owner.average_utility.dtype
        )

    def update_averages(self, activations: Sequence[torch.Tensor]) -> list[int]:
        """Age the units and update the running averages; see ``ContinualBackprop``.

        :param activations: each layer's mean activations
        :return: the number of mature units of each layer
        """
        owner = self.owner
        share = 1 - owner.decay_rate
        age, activation = owner.age.numpy(), owner.average_activation.numpy()
        compiled.grow_older(age, activation, _joined(activations, activation.dtype), share)
        utility = np.asarray(owner.utility(self))
        if utility.shape != age.shape:  # a loop would read what lies behind it
            raise ValueError(f"the utility of all layers together has shape {utility.shape}, not {age.shape}")
        average = owner.average_utility.numpy()
        finite = compiled.judge(
            average,
            utility.astype(average.dtype, copy=False),
            share,
            activation,
            age,
            owner.maturity_threshold,
            self._starts,
            self._mature,
        )
        owner.forget_count()  # torch doesn't know that the ages have changed
        for layer in owner.layers:
            layer.let_go()
        if not finite:
            for layer in owner.layers:
                layer.check_finite()
        return self._mature.tolist()

    # What a utility may look at ---------------------------------------------------------------------------------------

    @property
    def feature_gradient(self) -> np.ndarray:
        """The mean over samples of h * dLoss/dh, shape (n_units,) of all layers, as all of these."""
        return self._each("feature_gradient")

    @property
    def mean_activation(self) -> np.ndarray:
        """Bias-corrected running mean f^ of each unit's activation."""
        owner = self.owner
        return bias_corrected(owner.average_activation, owner.age, owner.decay_rate).numpy()

    @property
    def mean_magnitude(self) -> np.ndarray:
        """Mean |h| of each unit over the samples."""
        return self._each("mean_magnitude")

    @property
    def mean_deviation(self) -> np.ndarray:
        """Mean |h - f^| of each unit over the samples."""
        return self._each("mean_deviation")

    @property
    def outgoing_magnitude(self) -> np.ndarray:
        """Mean |w_out| of each unit over every weight of every reader."""
        kind = self.owner.average_utility.numpy().dtype
        if not self._readers or not all(map(compiled.can_take, self._readers)):
            return self._each("outgoing_magnitude")
        if self._outgoing.dtype != kind:
            self._outgoing = np.zeros(self.owner.n_units, kind)
        addresses = np.array([reader.data_ptr() for reader in self._readers])
        compiled.mean_magnitudes_by_column(addresses, self._shapes, self._outgoing)
        return self._outgoing

    @property
    def incoming_magnitude(self) -> np.ndarray:
        """Mean |w_in| of each unit."""
        return self._each("incoming_magnitude")

    def _each(self, name: str) -> np.ndarray:
        return torch.cat([getattr(layer.signals(), name) for layer in self.owner.layers]).numpy()


def _joined(vectors: Sequence[torch.Tensor], dtype: np.dtype) -> np.ndarray:
    return torch.cat(list(vectors)).numpy().astype(dtype, copy=False)


def _only_readers(layers: Sequence[WatchedLayer]) -> list[torch.nn.Parameter]:
    """Each layer's reader's weights, a matrix with one column a unit; none at all where a layer's are anything else."""
    readers = [layer.record.outgoing_weights for layer in layers]
    if not all(len(of_layer) == 1 and of_layer[0].parameter.ndim == 2 for of_layer in readers):
        return []
    parameters = [of_layer[0].parameter for of_layer in readers]
    is_whole = all(each.shape[1] == layer.record.n_units for each, layer in zip(parameters, layers, strict=True))
    return parameters if is_whole else []
