"""One hidden layer under continual backpropagation: what is seen of its units, and the phases of a replacement."""

from collections import deque
from collections.abc import Sequence

import torch
from torch import Tensor

from cppo.cbp.features import FeatureHook, Pass, Watcher
from cppo.cbp.initializers import Initializer
from cppo.cbp.optimizer_state import FreshOptimizerState
from cppo.cbp.unit_state import UnitState
from cppo.cbp.utilities import UnitSignals, Utility
from cppo.layers.hidden_layer import HiddenLayer
from cppo.layers.norms import SEPARATING_NORMS, VALUES_OF_NEW_NORMS

NO_UNITS = torch.empty(0, dtype=torch.int64)


class WatchedLayer:
    """Sees the features of one hidden layer, judges its units, chooses among them and replaces them.

    ``replaced`` holds the indices of the units replaced in the last step.

    :param number: which layer of ``units`` it is
    :param hidden_layer: which weights feed and read the units
    :param units: ages and running averages of all layers' units
    :param keeps_features: whether the utility looks at the features themselves
    """

    def __init__(self, number: int, hidden_layer: HiddenLayer, units: UnitState, keeps_features: bool) -> None:
        self.number = number
        self.hidden_layer = hidden_layer
        self.name = hidden_layer.name
        self.units = units
        self.replaced = NO_UNITS
        self.n_samples = 0
        self.n_samples_of_all = 0.0
        self.parts = list(hidden_layer.parts())
        nothing = torch.zeros(hidden_layer.n_units)
        self._pass = Pass(0, nothing, nothing, None)
        self._effect: Tensor | None = None
        self._ranked = torch.empty(0)
        self._signals = UnitSignals(hidden_layer, self._pass, self._mean_activation, nothing, units.generator)
        self._parameters = [part.parameter for part in self.parts]
        self._hooks = [FeatureHook(alone, keeps_features) for alone in hidden_layer.by_reader()]

    # What users look at -----------------------------------------------------------------------------------------------

    @property
    def age(self) -> Tensor:
        """Optimizer steps since each unit was new, shape (n_units,)."""
        return self.units.age[self.units.spans[self.number]]

    @property
    def mean_activation(self) -> Tensor:
        """Bias-corrected running mean f^ of each unit's activation, shape (n_units,); 0 for a new unit."""
        return self.units.mean_activation(self.number)

    @property
    def utility(self) -> Tensor:
        """Bias-corrected running utility u^ as ranked in the last step, shape (n_units,)."""
        return self._ranked if len(self.replaced) else self.units.utility(self.number)

    @property
    def record(self) -> HiddenLayer:
        """The earlier name of ``hidden_layer``."""
        return self.hidden_layer

    @property
    def total_replaced(self) -> int:
        """Number of units replaced so far."""
        return int(self.units.n_replaced[self.number])

    def __repr__(self) -> str:
        return f"{self.name}: {self.hidden_layer.n_units} units, {self.total_replaced} replaced"

    # Watching ---------------------------------------------------------------------------------------------------------

    def listen(self, watcher: Watcher) -> None:
        """Begin to see the features of training passes; a copy does so once it is whole."""
        for hook, reader in zip(self._hooks, self.hidden_layer.outgoing, strict=True):
            hook.listen(reader, watcher)

    def stop_listening(self) -> None:
        """Leave the outgoing layers alone for good."""
        for hook in self._hooks:
            hook.remove()

    def gets_unexplained_gradient(self) -> bool:
        """Whether units replaced in the last step have a gradient, though nothing recorded can give them any.

        Their outgoing weights are zero, so none comes from the outgoing layers; and as their biases are zero, none
        comes from a penalty on weights. Through a norm that mixes units some does come.
        """
        if self.replaced is NO_UNITS:
            return False
        bias = self.hidden_layer.incoming_bias
        if bias is None or not self.seen or bias.parameter.grad is None:
            return False
        if any(not isinstance(norm, SEPARATING_NORMS) for norm in self.hidden_layer.norms):
            return False
        gradient = bias.view(bias.parameter.grad)[self.replaced]
        return bool((gradient.isfinite() & (gradient != 0)).any())

    @property
    def seen(self) -> deque[Pass]:
        """What the outgoing layer that speaks for all was given in the training passes since the last step.

        All outgoing layers were given the same features, so the first one that ran speaks for all.
        """
        return next((hook.passes for hook in self._hooks if hook.passes), self._hooks[0].passes)

    def is_trainable(self) -> bool:
        """Whether none of the units' weights, those of outgoing layers included, is frozen."""
        return all(parameter.requires_grad for parameter in self._parameters)

    def saw_training(self) -> bool:
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
        """Measure the units' first-order effect on the loss, summed over samples and outgoing layers.

        With an outgoing layer's input h and its output's gradient g, the sum of h * dLoss/dh over samples is the sum of
        w_out * dLoss/dw_out over the unit's weights, as both are the sum of h * w_out * g. So it counts every pass
        that the gradient counts, whichever tensors the layers were given. Call it before the weights change.

        :param scale: what a fused optimizer is going to divide the gradient by
        """
        effects = [
            _sum_by_unit(part.view().to(self.units.average_utility) * part.view(gradient), part.axis)
            for part in self.hidden_layer.outgoing_weights
            if (gradient := part.parameter.grad) is not None
        ]
        self._effect = torch.stack(effects).sum(dim=0) if effects else None
        if self._effect is not None and scale is not None:
            self._effect /= scale

    def instantaneous_utility(self, utility: Utility) -> Tensor:
        """What the utility says of the features just observed, shape (n_units,); zero if only other ranks saw any."""
        if not self.n_samples:
            return self.units.average_utility.new_zeros(self.hidden_layer.n_units)
        self._signals.seen = self._pass
        if self._effect is not None:
            self._signals.feature_gradient = self._effect / self.n_samples_of_all
            self._effect = None
        values = utility(self._signals)
        if values.shape != (self.hidden_layer.n_units,):
            raise ValueError(
                f"the utility of {self.name} has shape {tuple(values.shape)}, not ({self.hidden_layer.n_units},)"
            )
        if self._pass.features is not None:  # they are judged: free their memory
            self._pass = self._signals.seen = self._pass._replace(features=None)
        return values

    def check_finite(self) -> None:
        """Name the layer whose features or weights stopped being finite.

        :raises FloatingPointError: if this is the layer
        """
        span = self.units.spans[self.number]
        averages = {"activation": self.units.average_activation, "utility": self.units.average_utility}
        for what, average in averages.items():
            units = (~average[span].isfinite()).nonzero().flatten().tolist()
            if units:
                raise FloatingPointError(
                    f"the {what} of {self.name} is not finite (units {units[:8]}); nothing was replaced"
                )

    # Replacing --------------------------------------------------------------------------------------------------------

    def clear_replaced(self) -> None:
        """Begin a step in which no unit has been replaced yet."""
        self.replaced = NO_UNITS

    def choose(self, count: int, maturity_threshold: int) -> None:
        """Mark the mature units of lowest utility for replacement, lowest first; of equal ones the first go."""
        mature = (self.age > maturity_threshold).nonzero().flatten()
        self._ranked = self.units.utility(self.number)
        ranked = self._ranked[mature]
        lowest = ranked.argmin().unsqueeze(0) if count == 1 else ranked.argsort(stable=True)[:count]
        self.replaced = mature[lowest]

    def transfer_to_biases(self, optimizer_state: FreshOptimizerState | None) -> None:
        """Let the outgoing layers' biases take over the mean contribution of the units that go."""
        mean = self.mean_activation[self.replaced]
        for part in self.hidden_layer.outgoing_weights:
            bias = part.module.bias
            if isinstance(bias, Tensor) and bias.requires_grad:
                weights = part.view().index_select(part.axis, self.replaced)
                weights = weights.sum(dim=list(range(2, weights.ndim))) if weights.ndim > 2 else weights
                change = weights @ mean.to(weights.dtype)
                bias.add_(change)
                if optimizer_state is not None and optimizer_state.fresh_values.copies:
                    optimizer_state.fresh_values.follow(bias, change)

    def _mean_activation(self) -> Tensor:
        return self.mean_activation


def replace(
    chosen: Sequence[WatchedLayer],
    initializer: Initializer,
    bias_transfer: bool,
    optimizer_state: FreshOptimizerState | None,
) -> None:
    """Replace the units that were chosen in some layers: biases, incoming weights, outgoing weights, state.

    A weight between two such layers is an outgoing one of the first and an incoming one of the second: outgoing ones
    come last in all layers, so that a new unit's are zero in every case.

    :param chosen: the layers
    :param initializer: where the new weights come from
    :param bias_transfer: whether the outgoing layers' biases take over the units' mean contribution
    :param optimizer_state: what makes the weights' optimizer state new; None to keep it
    """
    if bias_transfer:
        for layer in chosen:
            layer.transfer_to_biases(optimizer_state)
    for layer in chosen:
        redraw_incoming(layer.hidden_layer, layer.replaced, initializer, layer.units.generator)
    for layer in chosen:
        silence_outgoing(layer.hidden_layer, layer.replaced)
        layer.units.restart(layer.number, layer.replaced)
        if optimizer_state is not None:
            for part in layer.parts:
                optimizer_state.restart(part, layer.replaced)


def redraw_incoming(layer: HiddenLayer, units: Tensor, initializer: Initializer, generator: torch.Generator) -> None:
    """Give units the incoming weights, bias and norm slices of new ones.

    :param layer: whose units they are
    :param units: their indices
    :param initializer: where the new weights come from
    :param generator: what they are drawn with
    """
    weights = layer.incoming_weights.view()
    weights.index_copy_(0, units, initializer(layer, len(units), generator).to(weights))
    if layer.incoming_bias is not None:
        layer.incoming_bias.view().index_fill_(0, units, 0)
    for part in layer.norm_slices:
        part.view().index_fill_(0, units, VALUES_OF_NEW_NORMS[part.name])


def silence_outgoing(layer: HiddenLayer, units: Tensor) -> None:
    """Set units' outgoing weights to zero, so that they change no output; do it after all incoming ones are redrawn."""
    for part in layer.outgoing_weights:
        part.view().index_fill_(part.axis, units, 0)


def _join(passes: Sequence[Pass]) -> Pass:
    """Join the passes, but for those that overflowed before the last one.

    Their gradient did so too, so their step was skipped, as a ``GradScaler`` does.
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
