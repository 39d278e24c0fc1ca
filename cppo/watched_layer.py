"""One hidden layer under continual backpropagation: what is seen of its units, and the phases of a replacement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from cppo.hidden_layers import HiddenLayer, mean_over_rows
from cppo.utilities import UnitSignals

if TYPE_CHECKING:
    from cppo.continual_backprop import ContinualBackprop


class WatchedLayer:
    """One hidden layer at work: its share of the state, and the phases of a replacement.

    ``replaced`` holds the indices of the units replaced in the last step.

    :param owner: the ``ContinualBackprop`` that holds the state
    :param number: which of its layers
    :param record: which weights feed and read the units
    :param first_unit: where the layer's units begin in the owner's buffers
    :param first_part: where its weights begin among the parts of the owner's optimizer state
    """

    def __init__(
        self, owner: ContinualBackprop, number: int, record: HiddenLayer, first_unit: int, first_part: int
    ) -> None:
        self.owner = owner
        self.number = number
        self.record = record
        self.name = record.name
        self.span = slice(first_unit, first_unit + record.n_units)
        self.replaced = torch.empty(0, dtype=torch.int64)
        self.seen: list[Tensor] = []
        self._features = torch.empty(0)
        self._gradient_sum: Tensor | None = None
        self._ranked = torch.empty(0)
        self._parts = list(enumerate(record.parts(), start=first_part))

    # What users look at -----------------------------------------------------------------------------------------------

    @property
    def age(self) -> Tensor:
        """Optimizer steps since each unit was new, shape (n_units,)."""
        return self.owner.age[self.span]

    @property
    def mean_activation(self) -> Tensor:
        """Bias-corrected running mean f^ of each unit's activation, shape (n_units,); 0 for a new unit."""
        return self._corrected(self.owner.average_activation)

    @property
    def utility(self) -> Tensor:
        """Bias-corrected running utility u^ as ranked in the last step, shape (n_units,)."""
        return self._ranked if len(self.replaced) else self._corrected(self.owner.average_utility)

    @property
    def total_replaced(self) -> int:
        """Number of units replaced so far."""
        return int(self.owner.n_replaced[self.number])

    def __repr__(self) -> str:
        return f"{self.name}: {self.record.n_units} units, {self.total_replaced} replaced"

    # Watching ---------------------------------------------------------------------------------------------------------

    def listen(self) -> torch.utils.hooks.RemovableHandle:
        """Keep what the first reader is given in training passes; the handle ends it."""
        return self.record.outgoing[0].register_forward_pre_hook(self._see)

    def _see(self, reader: nn.Module, args: tuple[Tensor, ...]) -> None:
        if reader.training and torch.is_grad_enabled():
            features = args[0]
            self.seen.append(features.detach())
            if getattr(self.owner.utility, "needs_gradient", False) and features.requires_grad:
                features.register_hook(lambda gradient: self._see_gradient(features.detach(), gradient))

    def _see_gradient(self, features: Tensor, gradient: Tensor) -> None:
        effect = self.record.features(features * gradient).sum(dim=0)
        self._gradient_sum = effect if self._gradient_sum is None else self._gradient_sum + effect

    def observe(self) -> Tensor:
        """Gather the features of all passes since the last step; return each unit's mean, shape (n_units,)."""
        passes = [self.record.features(seen) for seen in self.seen]
        self.seen.clear()
        self._features = passes[0] if len(passes) == 1 else torch.cat(passes)
        return mean_over_rows(self._features).to(self.owner.average_activation.dtype)

    def instantaneous_utility(self) -> Tensor:
        """What the utility says of the features just observed, shape (n_units,)."""
        gradient = (
            self.owner.average_utility.new_zeros(())
            if self._gradient_sum is None
            else self._gradient_sum / len(self._features)
        )
        signals = UnitSignals(self.record, self._features, lambda: self.mean_activation, gradient, self.owner.generator)
        utility = self.owner.utility(signals)
        self._features, self._gradient_sum = self._features[:0], None
        if utility.shape != (self.record.n_units,):
            raise ValueError(
                f"the utility of {self.name} has shape {tuple(utility.shape)}, not ({self.record.n_units},)"
            )
        return utility.to(self.owner.average_utility.dtype)

    def gradient_to_check(self) -> Tensor | None:
        """The smallest gradient that shows a non-finite one anywhere in the layer: the sum of its units' errors."""
        part = self.record.incoming_bias or self.record.incoming_weights
        return part.parameter.grad

    def check_finite(self) -> None:
        """Name the layer whose features or weights stopped being finite.

        :raises FloatingPointError: if this is the layer
        """
        for what, average in (("activation", self.owner.average_activation), ("utility", self.owner.average_utility)):
            units = (~average[self.span].isfinite()).nonzero().flatten().tolist()
            if units:
                raise FloatingPointError(
                    f"the {what} of {self.name} is not finite (units {units[:8]}); nothing was replaced"
                )

    # Replacing --------------------------------------------------------------------------------------------------------

    def rest(self) -> None:
        """Begin a step in which no unit has been replaced yet."""
        if len(self.replaced):
            self.replaced = self.replaced[:0]

    def choose(self, count: int) -> None:
        """Mark the mature units of lowest utility for replacement."""
        mature = (self.age > self.owner.maturity_threshold).nonzero().flatten()
        self._ranked = self._corrected(self.owner.average_utility)
        self.replaced = mature[torch.topk(-self._ranked[mature], count).indices]

    def transfer_to_biases(self) -> None:
        """Let the readers' biases take over the mean contribution of the units that go."""
        mean = self.mean_activation[self.replaced]
        for part in self.record.outgoing_weights:
            bias = part.module.bias
            if isinstance(bias, Tensor):
                weights = part.view().index_select(part.axis, self.replaced)
                weights = weights.sum(dim=list(range(2, weights.ndim))) if weights.ndim > 2 else weights
                bias.add_(weights @ mean.to(weights.dtype))

    def redraw_incoming(self) -> None:
        """Give the chosen units new incoming weights, and the age, averages and optimizer state of new units."""
        weights = self.record.incoming_weights.view()
        new = self.owner.initializer(self.record, len(self.replaced), self.owner.generator)
        weights.index_copy_(0, self.replaced, new.to(weights))
        if self.record.incoming_bias is not None:
            self.record.incoming_bias.view().index_fill_(0, self.replaced, 0)
        for state in (self.owner.age, self.owner.average_activation, self.owner.average_utility):
            state[self.span].index_fill_(0, self.replaced, 0)
        self.owner.n_replaced[self.number] += len(self.replaced)
        self._restart_optimizer_state(axis=0)

    def silence_outgoing(self) -> None:
        """Set the chosen units' outgoing weights to zero, so that a new unit changes no output."""
        for part in self.record.outgoing_weights:
            part.view().index_fill_(part.axis, self.replaced, 0)
        self._restart_optimizer_state(axis=1)

    def _restart_optimizer_state(self, axis: int) -> None:
        if self.owner.reset_optimizer_state:
            for number, part in self._parts:
                if part.axis == axis:
                    self.owner.optimizer_state.restart(number, self.replaced)

    def _corrected(self, average: Tensor) -> Tensor:
        """A running average over the share of it that observations make up; 0 for a new unit."""
        weight = 1 - torch.pow(self.owner.decay_rate, self.age.to(average.dtype))
        return torch.where(weight > 0, average[self.span] / weight, 0)
