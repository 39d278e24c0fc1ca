"""Continual backpropagation: generate-and-test on the hidden layers of any torch module.

Dohare, Sutton & Mahmood, "Continual Backprop: Stochastic Gradient Descent with Persistent Randomness", arXiv
2108.06325; Dohare et al., "Loss of plasticity in deep continual learning", Nature 632 (2024), algorithm 1.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cppo.cbp.claims import claim, hold, release
from cppo.cbp.compiled_step import CompiledStep
from cppo.cbp.description import Description
from cppo.cbp.gradient_check import GradientCheck
from cppo.cbp.initializers import Initializer, find_initializer
from cppo.cbp.integrity import Wholeness
from cppo.cbp.optimizer_families import mend_copy
from cppo.cbp.optimizer_state import FreshOptimizerState, step_was_skipped
from cppo.cbp.unit_state import UnitState
from cppo.cbp.utilities import Utility, find_utility
from cppo.cbp.watched_layer import WatchedLayer
from cppo.checks import check_hyperparameters, check_modules
from cppo.layers.find import find_trained_layers
from cppo.layers.hidden_layer import HiddenLayer
from cppo.layers.observe import unwrapped

STEPS_BEFORE_WARNING = 100
"""Optimizer steps after which a layer that no training pass reached is worth a warning."""


class ContinualBackprop(UnitState):
    """Keeps a network plastic: after every optimizer step, replaces a few mature, least useful hidden units.

    It hooks into the module's readers (to see the features of training passes) and into the optimizer (to run after
    each step), so the training loop stays as it is::

        cbp = ContinualBackprop(module, optimizer, replacement_rate=1e-4, maturity_threshold=100)
        loss.backward()
        optimizer.step()  # generate-and-test has run

    Its buffers are its state: it moves with ``.to(device)`` and saves with ``state_dict()``, random generator included.
    A gradient that isn't finite raises before the step. Without numba only those of biases are looked at (of weights,
    where there is none); one weight's gradient that overflowed by itself raises after the step, before a replacement.
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
    :param example_input: what to trace the module with (see ``find_hidden_layers``)
    :raises TypeError: if the module or the optimizer is none
    :raises ValueError: for a value out of range or an unknown name, where no layer can be watched, and where another
        ``ContinualBackprop`` watches one of them
    """

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
    ) -> None:
        super().__init__()
        check_modules(module, optimizer)
        check_hyperparameters(replacement_rate, maturity_threshold, decay_rate, seed)
        self.replacement_rate = replacement_rate
        self.maturity_threshold = maturity_threshold
        self.decay_rate = decay_rate
        self.utility = find_utility(utility)
        self.initializer = find_initializer(initializer)
        self.bias_transfer = bias_transfer
        self.reset_optimizer_state = reset_optimizer_state
        module = unwrapped(module)
        records, left_out = find_trained_layers(module, optimizer, hidden_layers, example_input)
        claim(self, records)
        self.wholeness = Wholeness(module, records, left_out)
        self.description = Description.of(module, records, left_out)
        self._register_state(records, torch.initial_seed() if seed is None else seed)
        parts = [part for record in records for part in record.parts()]
        self.optimizer_state = FreshOptimizerState(optimizer, parts)
        self.layers = self._watch(records)
        self._compiled = CompiledStep(self)
        self._gradients = GradientCheck(self.layers)
        self._optimizer = optimizer
        self._steps = 0
        self._has_closure = False
        self._at_work: list[WatchedLayer] = []
        self._needs_gradient = getattr(self.utility, "needs_gradient", False)
        self._hook_optimizer()

    def _hook_optimizer(self) -> None:
        self._handles = [
            self._optimizer.register_step_pre_hook(self._before_optimizer_step),
            self._optimizer.register_step_post_hook(self._after_optimizer_step),
        ]

    def _watch(self, records: Sequence[HiddenLayer]) -> list[WatchedLayer]:
        layers: list[WatchedLayer] = []
        first_unit = first_part = 0
        for number, record in enumerate(records):
            layers.append(WatchedLayer(self, number, record, first_unit, first_part))
            first_unit += record.n_units
            first_part += len(list(record.parts()))
        return layers

    def describe(self) -> str:
        """A table of the layers: those watched with their readers, those left out with the reason."""
        return self.description.table(self.layers)

    def remove(self) -> None:
        """Stop watching and replacing; the module and the optimizer are as if it had never been there."""
        release(self)
        self.wholeness.remove()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for layer in self.layers:
            layer.stop_listening()

    def __getstate__(self) -> dict[str, Any]:
        # An optimizer's hooks are neither copied nor pickled with it; whether there were any is what a copy must know.
        return self.__dict__ | {"_handles": [None for _ in self._handles]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self._handles:
            hold(self, [layer.record for layer in self.layers])
            mend_copy(self._optimizer)
            self._hook_optimizer()
            for layer in self.layers:
                layer.wake()

    @torch.no_grad()
    def _before_optimizer_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Refuse a gradient that isn't finite before it reaches the weights; measure it if asked to.

        :return: what torch is to call ``step`` with instead, where the step isn't to be the optimizer's own
        """
        self.wholeness.check()
        self._has_closure = bool(kwargs) or len(args) > 1
        if step_was_skipped(optimizer):
            return None
        by_age = self.optimizer_state.stand_in(self._has_closure) if self.reset_optimizer_state else None
        if by_age is None:
            self._gradients.check()
            if self.reset_optimizer_state:
                self.optimizer_state.before_step()
        if self._needs_gradient:
            self._measure_effects(getattr(optimizer, "grad_scale", None))
        return None if by_age is None else by_age.in_its_stead(self._gradients.check)

    def _measure_effects(self, scale: Tensor | None) -> None:
        for layer in self.layers:
            layer.measure_effect(scale)

    @torch.no_grad()
    def _after_optimizer_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Generate and test: watch, rank, choose in all layers, then replace."""
        for layer in self._at_work:
            layer.rest()
        self._at_work = []
        if step_was_skipped(optimizer):
            for layer in self.layers:
                layer.forget()
            return
        self.follow(self.layers[0].weights)
        if self.reset_optimizer_state:
            self.optimizer_state.correct()
        if self._needs_gradient and self._has_closure:  # it made the gradient after the first hook
            self._measure_effects(None)
        self._replace(self._count_due(*self._watch_and_judge()))
        self._steps += 1
        if self._steps == STEPS_BEFORE_WARNING:
            self._warn_of_unseen_layers()

    def _replace(self, due: Sequence[tuple[WatchedLayer, int]]) -> None:
        """Choose in all layers before any is changed; outgoing weights come last, so that they end at zero."""
        self._at_work = [layer for layer, _ in due]
        for layer, count in due:
            layer.choose(count)
        if self.bias_transfer:
            for layer, _ in due:
                layer.transfer_to_biases()
        for layer, _ in due:
            layer.redraw_incoming()
        for layer, _ in due:
            layer.silence_outgoing()

    def _watch_and_judge(self) -> tuple[list[WatchedLayer], list[int]]:
        """Age the units, update their running averages, count the mature ones.

        :return: the layers that were seen in training passes since the last step, and how many units of each of all
            layers are mature
        """
        layers = [layer for layer in self.layers if layer.is_ready()]
        activations = [layer.observe() for layer in layers]
        if self._compiled.is_possible(layers):
            return layers, self._compiled.update_averages(activations)
        if self.ranks.several:
            layers, activations = self._average(layers, activations)
        if not layers:
            return layers, []
        is_whole = len(layers) == len(self.layers)
        for age in [self.age] if is_whole else [layer.age for layer in layers]:
            age.add_(1)
        layers = self._update_averages(layers, activations)
        return layers, self.count_mature(aged=is_whole)

    def _update_averages(self, layers: list[WatchedLayer], activations: Sequence[Tensor]) -> list[WatchedLayer]:
        """Update the running averages of activation, then of utility (which may use the former).

        :return: the layers that were seen, on any rank
        """
        self._lerp(self.average_activation, layers, activations)
        utilities = [layer.instantaneous_utility() for layer in layers]
        for layer in layers:
            layer.let_go()
        if self.ranks.several:
            layers, utilities = self._average(layers, utilities)
        self._lerp(self.average_utility, layers, utilities)
        if not math.isfinite(torch.dot(self.average_activation, self.average_utility).item()):
            for layer in layers:
                layer.check_finite()
        return layers

    def _count_due(self, layers: Sequence[WatchedLayer], mature: Sequence[int]) -> list[tuple[WatchedLayer, int]]:
        """Accumulate the layers' shares of replacements and take the whole numbers out."""
        accumulator = self.accumulator.numpy()
        due = []
        for layer in layers:
            total = accumulator[layer.number] + self.replacement_rate * mature[layer.number]
            count = int(total)
            accumulator[layer.number] = total - count
            if count:
                due.append((layer, count))
        return due

    def _warn_of_unseen_layers(self) -> None:
        """Nothing is to be watched in vain without a word."""
        for layer in self.layers:
            if not layer.age.any() and not layer.total_replaced:
                warnings.warn(
                    f"{layer.name}: in {self._steps} optimizer steps no training pass (module.train(), gradients on) "
                    "went through it while it and its readers were trainable, so none of its units is replaced",
                    stacklevel=2,
                )
