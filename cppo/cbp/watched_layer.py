"""One hidden layer under continual backpropagation: what is seen of its units, and the phases of a replacement."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cppo.cbp.features import Pass, ReaderHook
from cppo.cbp.replacement import redraw_incoming, silence_outgoing
from cppo.cbp.unit_state import bias_corrected
from cppo.cbp.utilities import UnitSignals
from cppo.layers.hidden_layer import HiddenLayer

if TYPE_CHECKING:
    from cppo.cbp.continual_backprop import ContinualBackprop


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
        self.n_samples = 0
        self.n_samples_of_all = 0.0
        self.weights = record.incoming.weight
        self._nothing = torch.zeros(record.n_units)
        self._pass = Pass(0, self._nothing, self._nothing, None)
        self._effect: Tensor | None = None
        self._ranked = torch.empty(0)
        self._signals = UnitSignals(record, self._pass, self._mean_activation, self._nothing, owner.generator)
        self._parts = list(enumerate(record.parts(), start=first_part))
        self._parameters = [part.parameter for _, part in self._parts]
        keeps_features = getattr(owner.utility, "needs_features", True)
        self._hooks = [ReaderHook(alone.outgoing[0], alone, keeps_features) for alone in record.by_reader()]

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

    def wake(self) -> None:
        """Listen to the readers again, as a copy does once it is whole."""
        for hook in self._hooks:
            hook.awake = True

    def stop_listening(self) -> None:
        """Leave the readers alone for good."""
        for hook in self._hooks:
            hook.remove()

    @property
    def seen(self) -> deque[Pass]:
        """What the reader that speaks for the layer was given in the training passes since the last step.

        Readers of the same units were given the same features, so the first reader that ran speaks for all.
        """
        return next((hook.passes for hook in self._hooks if hook.passes), self._hooks[0].passes)

    def is_trainable(self) -> bool:
        """Whether none of the units' weights, those of the readers included, is frozen."""
        return all(parameter.requires_grad for parameter in self._parameters)

    def is_ready(self) -> bool:
        """Whether features were seen since the last step and the optimizer may change all weights of the units."""
        self.n_samples = 0
        if not self.seen:
            return False
        if self.is_trainable():
            return True
        self.forget()
        return False

    def forget(self) -> None:
        """Drop what was seen since the last step."""
        self.n_samples, self._effect = 0, None
        for hook in self._hooks:
            hook.passes.clear()

    def observe(self) -> Tensor:
        """Gather what all passes since the last step told; return each unit's mean activation, shape (n_units,)."""
        passes = self.seen
        self._pass = passes[0] if len(passes) == 1 else _join(list(passes))
        for hook in self._hooks:
            hook.passes.clear()
        self.n_samples = self.n_samples_of_all = self._pass.n_samples
        return self._pass.mean

    def measure_effect(self, scale: Tensor | None) -> None:
        """Take down the units' first-order effect on the loss, summed over samples and readers.

        With a reader's input h and its output's gradient g, the sum of h * dLoss/dh over samples is the sum of
        w_out * dLoss/dw_out over the unit's weights, as both are the sum of h * w_out * g. So it counts every pass
        that the gradient counts, whichever tensors the readers were given. Call it before the weights change.

        :param scale: what a fused optimizer is going to divide the gradient by
        """
        effects = [
            _sum_by_unit(part.view().to(self.owner.average_utility) * part.view(gradient), part.axis)
            for part in self.record.outgoing_weights
            if (gradient := part.parameter.grad) is not None
        ]
        self._effect = torch.stack(effects).sum(dim=0) if effects else None
        if self._effect is not None and scale is not None:
            self._effect /= scale

    def signals(self) -> UnitSignals:
        """What is known of the units after the optimizer step, for a utility to judge by."""
        self._signals.seen = self._pass
        if self._effect is not None:
            self._signals.feature_gradient = self._effect / self.n_samples_of_all
            self._effect = None
        return self._signals

    def instantaneous_utility(self) -> Tensor:
        """What the utility says of the features just observed, shape (n_units,); zero if only other ranks saw any."""
        if not self.n_samples:
            return self.owner.average_utility.new_zeros(self.record.n_units)
        utility = self.owner.utility(self.signals())
        if utility.shape != (self.record.n_units,):
            raise ValueError(
                f"the utility of {self.name} has shape {tuple(utility.shape)}, not ({self.record.n_units},)"
            )
        return utility.to(self.owner.average_utility)

    def let_go(self) -> None:
        """Free the memory of the features once they have been judged."""
        if self._pass.features is not None:
            self._pass = self._signals.seen = self._pass._replace(features=None)

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
        self.replaced = self.replaced[:0]

    def choose(self, count: int) -> None:
        """Mark the mature units of lowest utility for replacement, lowest first; of equal ones the first go."""
        mature = (self.age > self.owner.maturity_threshold).nonzero().flatten()
        self._ranked = self._corrected(self.owner.average_utility)
        ranked = self._ranked[mature]
        lowest = ranked.argmin().unsqueeze(0) if count == 1 else ranked.argsort(stable=True)[:count]
        self.replaced = mature[lowest]

    def transfer_to_biases(self) -> None:
        """Let the readers' biases take over the mean contribution of the units that go."""
        mean = self.mean_activation[self.replaced]
        for part in self.record.outgoing_weights:
            bias = part.module.bias
            if isinstance(bias, Tensor) and bias.requires_grad:
                weights = part.view().index_select(part.axis, self.replaced)
                weights = weights.sum(dim=list(range(2, weights.ndim))) if weights.ndim > 2 else weights
                bias.add_(weights @ mean.to(weights.dtype))

    def redraw_incoming(self) -> None:
        """Give the chosen units the incoming weights, norm slices, age, averages and optimizer state of new ones."""
        redraw_incoming(self.record, self.replaced, self.owner.initializer, self.owner.generator)
        for state in (self.owner.age, self.owner.average_activation, self.owner.average_utility):
            state[self.span].index_fill_(0, self.replaced, 0)
        self.owner.n_replaced[self.number] += len(self.replaced)
        self._restart_optimizer_state(axis=0)

    def silence_outgoing(self) -> None:
        """Set the chosen units' outgoing weights to zero, so that a new unit changes no output."""
        silence_outgoing(self.record, self.replaced)
        self._restart_optimizer_state(axis=1)

    def _restart_optimizer_state(self, axis: int) -> None:
        if self.owner.reset_optimizer_state:
            for number, part in self._parts:
                if part.axis == axis:
                    self.owner.optimizer_state.restart(number, self.replaced)

    def _mean_activation(self) -> Tensor:
        return self.mean_activation

    def _corrected(self, average: Tensor) -> Tensor:
        return bias_corrected(average[self.span], self.age, self.owner.decay_rate)


def _join(passes: Sequence[Pass]) -> Pass:
    """Join the passes, but for those that overflowed before the last one.

    Their gradient did so too, and would have been refused: so their step was skipped, as a ``GradScaler`` does.
    """
    passes = [*(each for each in passes[:-1] if each.mean.isfinite().all()), passes[-1]]
    n_samples = sum(each.n_samples for each in passes)
    shares = [each.n_samples / n_samples for each in passes]
    mean = torch.stack([share * each.mean for share, each in zip(shares, passes, strict=True)]).sum(dim=0)
    magnitude = torch.stack([share * each.magnitude for share, each in zip(shares, passes, strict=True)]).sum(dim=0)
    features = [each.features for each in passes if each.features is not None]
    return Pass(n_samples, mean, magnitude, torch.cat(features) if features else None)


def _sum_by_unit(weights: Tensor, axis: int) -> Tensor:
    return weights.sum(dim=[other for other in range(weights.ndim) if other != axis])
