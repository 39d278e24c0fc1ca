"""Continual backpropagation: generate-and-test on the hidden layers of any torch module.

Dohare, Sutton & Mahmood, "Continual Backprop: Stochastic Gradient Descent with Persistent Randomness", arXiv
2108.06325; Dohare et al., "Loss of plasticity in deep continual learning", Nature 632 (2024), algorithm 1.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cppo.cbp.cumulative_norms import CumulativeNorms
from cppo.cbp.description import Description
from cppo.cbp.features import watch_exclusively
from cppo.cbp.fresh_values import Fresh
from cppo.cbp.initializers import Initializer, find_initializer
from cppo.cbp.integrity import Integrity
from cppo.cbp.optimizer_limits import refuse_slow_weights
from cppo.cbp.optimizer_state import FreshOptimizerState, step_was_skipped
from cppo.cbp.shown_units import ShowsUnits
from cppo.cbp.unit_state import UnitState
from cppo.cbp.utilities import Utility, find_utility
from cppo.cbp.watched_layer import WatchedLayer, replace
from cppo.checks import check_hyperparameters, check_modules
from cppo.layers.find import find_trained_layers
from cppo.layers.hidden_layer import HiddenLayer
from cppo.layers.observe import unwrapped

STEPS_BEFORE_WARNING = 100
"""Optimizer steps after which a layer that no training pass reached is worth a warning."""


class ContinualBackprop(ShowsUnits):
    """Keeps a network plastic: after every optimizer step, replaces a few mature, least useful hidden units.

    It hooks into the layers that read hidden units (to see the features of training passes) and into the optimizer (to
    run after each step), so the training loop stays as it is::

        cbp = ContinualBackprop(module, optimizer, replacement_rate=1e-4, maturity_threshold=100)
        loss.backward()
        optimizer.step()  # generate-and-test has run

    Its buffers are its state: it moves with ``.to(device)`` and saves with ``state_dict()``, random generator included.
    A feature or weight that stopped being finite raises after the step, before a replacement.
    Passes in evaluation mode or without gradients don't count. A layer that saw no training pass since the last
    step is left as it is, its ages included, and so is one that is frozen or whose reader is (``requires_grad`` off).
    A step that a ``GradScaler`` makes a fused optimizer skip does nothing; one that isn't taken at all leaves its
    features to the next. It follows the module to another device or number format, works under ``torch.compile``, and
    can be copied or pickled together with module and optimizer: the copy watches the copy. Once it is set up, no part
    of the watched layers may be exchanged for another, and no other ``ContinualBackprop`` may watch any of them.

    Where ``torch.distributed`` is initialised, all ranks replace the same units by the same ones: what each sees is
    averaged over them, weighed by their samples. That costs two ``all_reduce`` a step, each of one number a unit and
    one a layer.

    :param module: the network; its hidden layers are found by tracing unless ``hidden_layers`` names them
    :param optimizer: the optimizer that trains it
    :param replacement_rate: rho, share of the mature units of a layer replaced per optimizer step
    :param maturity_threshold: m, optimizer steps for which a new unit is protected
    :param decay_rate: eta, decay of the running averages of utility and activation
    :param utility: a name in ``cppo.cbp.utilities.UTILITIES``, or a function of ``UnitSignals``
    :param initializer: a name in ``cppo.cbp.initializers.INITIALIZERS``, or a function
    :param bias_transfer: move a replaced unit's mean contribution to the biases of its readers
    :param reset_optimizer_state: give a new unit's weights the optimizer state of new parameters
    :param hidden_layers: the layers to watch, where tracing can't tell
    :param seed: of the new units' weights; None derives it from torch's own seed
    :param example_input: what to trace the module with (see ``find_hidden_layers``); with ``hidden_layers`` it checks
        that nothing else reads them
    :param fresh_state: what tensors in the state of an optimizer of one's own start from, by their names: a number, or
        a function of the parameter; needed only where it can't be seen in the first step
    :raises TypeError: if the module or the optimizer is none
    :raises ValueError: for a value out of range or an unknown name, where no layer can be watched, and where another
        ``ContinualBackprop`` watches one of them
    """

    @torch.inference_mode(False)  # in it, the state would be tensors that never change
    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        replacement_rate: float = 1e-4,
        maturity_threshold: int = 100,
        decay_rate: float = 0.99,
        utility: str | Utility = "contribution",
        initializer: str | Initializer = "lecun_uniform",
        bias_transfer: bool = True,
        reset_optimizer_state: bool = True,
        hidden_layers: Sequence[HiddenLayer] | None = None,
        seed: int | None = None,
        example_input: Any = None,
        fresh_state: Mapping[str, Fresh] | None = None,
    ) -> None:
        super().__init__()
        check_modules(module, optimizer)
        check_hyperparameters(replacement_rate, maturity_threshold, decay_rate, seed)
        self.replacement_rate = replacement_rate
        self.maturity_threshold = maturity_threshold
        self.utility = find_utility(utility)
        self.initializer = find_initializer(initializer)
        self.bias_transfer = bias_transfer
        self.reset_optimizer_state = reset_optimizer_state
        module = unwrapped(module)
        hidden_layers, left_out = find_trained_layers(module, optimizer, hidden_layers, example_input)
        watch_exclusively(self, optimizer, hidden_layers)
        self.integrity = Integrity(module, hidden_layers, left_out)
        self.description = Description.of(module, hidden_layers, left_out)
        sizes = [layer.n_units for layer in hidden_layers]
        seed = torch.initial_seed() if seed is None else seed
        self.units = UnitState(sizes, hidden_layers[0].incoming.weight, decay_rate, seed)
        keeps_features = getattr(self.utility, "needs_features", True)
        self.layers = [
            WatchedLayer(number, layer, self.units, keeps_features) for number, layer in enumerate(hidden_layers)
        ]
        parts = [part for layer in self.layers for part in layer.parts]
        self.optimizer_state = FreshOptimizerState(optimizer, parts, fresh_state)
        self.cumulative_norms = CumulativeNorms(hidden_layers)
        self._needs_gradient = getattr(self.utility, "needs_gradient", False)
        self._has_closure = False
        self._steps = 0
        self._optimizer = optimizer
        self._watch()

    def _watch(self) -> None:
        """Hook into the layers and the optimizer."""
        for layer in self.layers:
            layer.listen(self)
        self._handles = [
            self._optimizer.register_step_pre_hook(self._before_optimizer_step),
            self._optimizer.register_step_post_hook(self._after_optimizer_step),
        ]

    # The algorithm ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _after_optimizer_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Generate and test, on the weights as the optimizer step left them."""
        for layer in self.layers:
            layer.clear_replaced()
        if step_was_skipped(optimizer):
            for layer in self.layers:
                layer.forget()
            return
        self._follow(self.layers[0].hidden_layer.incoming.weight)
        if self.reset_optimizer_state:
            self.optimizer_state.correct()
        if self._needs_gradient and self._has_closure:  # it made the gradient after the first hook
            self._measure_effects(None)
        self.cumulative_norms.correct()
        seen = self._average_activations([layer for layer in self.layers if layer.saw_training()])
        seen = self._average_utilities(seen)
        chosen = self._choose(seen, self.replacement_rate, self.maturity_threshold)
        optimizer_state = self.optimizer_state if self.reset_optimizer_state else None
        replace(chosen, self.initializer, self.bias_transfer, optimizer_state)
        for layer in chosen:
            self.cumulative_norms.restart(layer.hidden_layer, layer.replaced)
        if self._steps < STEPS_BEFORE_WARNING:  # a module sets its attributes slowly
            self._count_step()

    def _average_activations(self, seen: list[WatchedLayer]) -> list[WatchedLayer]:
        """Rule 1: age the units; move their mean activation f towards mean(h).

        :param seen: the layers that features were seen of since the last step
        :return: the same over all ranks
        """
        seen, activations = self._over_ranks(seen, [layer.observe() for layer in seen])
        self.units.grow_older(_numbers(seen))
        self.units.move_average(self.units.average_activation, _numbers(seen), activations)
        return seen

    def _average_utilities(self, seen: list[WatchedLayer]) -> list[WatchedLayer]:
        """Rule 2: move the units' utility u towards the instantaneous utility y."""
        seen, utilities = self._over_ranks(seen, [layer.instantaneous_utility(self.utility) for layer in seen])
        self.units.move_average(self.units.average_utility, _numbers(seen), utilities)
        if not self.units.is_finite():
            for layer in seen:
                layer.check_finite()
        return seen

    def _choose(self, seen: list[WatchedLayer], replacement_rate: float, maturity_threshold: int) -> list[WatchedLayer]:
        """Rule 3: choose the least useful of the eligible units, in all layers before any weight is changed.

        :return: the layers in which units were chosen
        """
        counts = self.units.count_due(_numbers(seen), replacement_rate, maturity_threshold)
        due = [(layer, count) for layer, count in zip(seen, counts, strict=True) if count]
        for layer, count in due:
            layer.choose(count, maturity_threshold)
        return [layer for layer, _ in due]

    def _over_ranks(self, seen: list[WatchedLayer], values: list[Tensor]) -> tuple[list[WatchedLayer], list[Tensor]]:
        """Average values over the ranks of ``torch.distributed``, where there are several."""
        if not self.units.ranks.several:
            return seen, values
        n_samples = [layer.n_samples for layer in seen]
        numbers, values, n_samples_of_all = self.units.average_over_ranks(_numbers(seen), values, n_samples)
        seen = [self.layers[number] for number in numbers]
        for layer, n_samples_of_layer in zip(seen, n_samples_of_all, strict=True):
            layer.n_samples_of_all = n_samples_of_layer
        return seen, values

    # Before the optimizer's step --------------------------------------------------------------------------------------

    @torch.no_grad()
    def _before_optimizer_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Refuse to step a network of which a part was exchanged; measure its gradient if asked to.

        :return: what torch is to call ``step`` with instead, where the step isn't to be the optimizer's own
        """
        self.integrity.check()
        if not self._steps:
            refuse_slow_weights(optimizer)
        is_redirected = args[0] is not optimizer  # by another ContinualBackprop of this optimizer
        has_closure = not is_redirected and (bool(kwargs) or len(args) > 1)
        if has_closure != self._has_closure:
            self._has_closure = has_closure
        if step_was_skipped(optimizer):
            return None
        if not has_closure:  # which makes the gradient later
            self.integrity.warn_of_other_readers(self.layers)
        if self._needs_gradient:
            self._measure_effects(getattr(optimizer, "grad_scale", None))
        if not self.reset_optimizer_state:
            return None
        return self.optimizer_state.fast_step(has_closure or is_redirected)

    def _measure_effects(self, scale: Tensor | None) -> None:
        for layer in self.layers:
            layer.measure_effect(scale)

    def _follow(self, weights: Tensor) -> None:
        """Move with a module that changed its device or number format."""
        if self.units.age.device != weights.device:
            self.to(weights.device)
        self.units.follow(weights)

    def _count_step(self) -> None:
        """Count a step; warn after some of layers that are watched in vain."""
        self._steps += 1
        if self._steps < STEPS_BEFORE_WARNING:
            return
        for layer in self.layers:
            if not layer.age.any() and not layer.total_replaced:
                warnings.warn(
                    f"{layer.name}: in {self._steps} optimizer steps no training pass (module.train(), gradients on) "
                    "went through it while it and its readers were trainable, so none of its units is replaced",
                    stacklevel=2,
                )

    # What users look at -----------------------------------------------------------------------------------------------

    @property
    def watched_modules(self) -> set[nn.Module]:
        """Every module that has weights of the watched units; none once ``remove`` was called."""
        return {module for layer in self.layers for module in layer.hidden_layer.modules()} if self._handles else set()

    def describe(self) -> str:
        """A table of the layers: those watched with their readers, those left out with the reason."""
        return self.description.table(self.layers)

    def remove(self) -> None:
        """Stop watching and replacing; the module and the optimizer are as if it had never been there."""
        self.integrity.remove()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for layer in self.layers:
            layer.stop_listening()

    # Copies -----------------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        # An optimizer's hooks are neither copied nor pickled with it; whether there were any is what a copy must know.
        return self.__dict__ | {"_handles": [None for _ in self._handles]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self._handles:
            self._watch()


def _numbers(layers: Sequence[WatchedLayer]) -> list[int]:
    return [layer.number for layer in layers]
