"""Continual backpropagation: generate-and-test on the hidden layers of any torch module.

Dohare, Sutton & Mahmood, "Continual Backprop: Stochastic Gradient Descent with Persistent Randomness", arXiv
2108.06325; Dohare et al., "Loss of plasticity in deep continual learning", Nature 632 (2024), algorithm 1.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cppo.hidden_layers import HiddenLayer, check_distinct
from cppo.initializers import Initializer, find_initializer
from cppo.optimizer_state import FreshOptimizerState
from cppo.tracing import find_hidden_layers
from cppo.utilities import Utility, find_utility
from cppo.watched_layer import WatchedLayer


class ContinualBackprop(nn.Module):
    """Keeps a network plastic: after every optimizer step, replaces a few mature, least useful hidden units.

    It hooks into the module's readers (to see the features of training passes) and into the optimizer (to run after
    each step), so the training loop stays as it is::

        cbp = ContinualBackprop(module, optimizer, replacement_rate=1e-4, maturity_threshold=100)
        loss.backward()
        optimizer.step()  # generate-and-test has run

    Its buffers are its state: it moves with ``.to(device)`` and saves with ``state_dict()``, random generator included.
    Passes in evaluation mode or without gradients don't count. A layer that saw no training pass since the last
    step is left as it is, its ages included.

    :param module: the network; its hidden layers are found by tracing unless ``hidden_layers`` names them
    :param optimizer: the optimizer that trains it
    :param replacement_rate: rho, share of the mature units of a layer replaced per optimizer step
    :param maturity_threshold: m, optimizer steps for which a new unit is protected
    :param decay_rate: eta, decay of the running averages of utility and activation
    :param utility: a name in ``cppo.utilities.UTILITIES``, or a function of ``UnitSignals``
    :param initializer: a name in ``cppo.initializers.INITIALIZERS``, or a function
    :param bias_transfer: move a replaced unit's mean contribution to the biases of its readers
    :param reset_optimizer_state: give a new unit's weights the optimizer state of new parameters
    :param hidden_layers: the layers to watch, where tracing can't tell
    :param seed: of the new units' weights; None derives it from torch's own seed
    :param example_input: what to trace the module with (see ``find_hidden_layers``)
    :raises TypeError: if the module or the optimizer is none
    :raises ValueError: for a value out of range or an unknown name, and where no layer can be watched
    """

    age: Tensor
    average_utility: Tensor
    average_activation: Tensor
    accumulator: Tensor
    n_replaced: Tensor

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
        _check_modules(module, optimizer)
        check_hyperparameters(replacement_rate, maturity_threshold, decay_rate)
        self.replacement_rate = replacement_rate
        self.maturity_threshold = maturity_threshold
        self.decay_rate = decay_rate
        self.utility = find_utility(utility)
        self.initializer = find_initializer(initializer)
        self.bias_transfer = bias_transfer
        self.reset_optimizer_state = reset_optimizer_state
        records = find_hidden_layers(module, example_input) if hidden_layers is None else list(hidden_layers)
        records = _trained_by(optimizer, records)
        check_distinct(records)
        self.generator = torch.Generator().manual_seed(torch.initial_seed() if seed is None else seed)
        self._register_state(records)
        parts = [part for record in records for part in record.parts()]
        self.optimizer_state = FreshOptimizerState(optimizer, parts)
        self.layers = self._watch(records)
        self._handles = [layer.listen() for layer in self.layers]
        self._handles.append(optimizer.register_step_pre_hook(self._before_optimizer_step))
        self._handles.append(optimizer.register_step_post_hook(self._after_optimizer_step))

    def _register_state(self, records: Sequence[HiddenLayer]) -> None:
        """All layers' units lie one after another in each buffer, so that a step costs few calls."""
        self.n_units = sum(record.n_units for record in records)
        device, dtype = records[0].incoming_weights.parameter.device, records[0].incoming_weights.parameter.dtype
        self.register_buffer("age", torch.zeros(self.n_units, dtype=torch.int64, device=device))
        self.register_buffer("average_utility", torch.zeros(self.n_units, dtype=dtype, device=device))
        self.register_buffer("average_activation", torch.zeros(self.n_units, dtype=dtype, device=device))
        self.register_buffer("accumulator", torch.zeros(len(records), dtype=torch.float64, device=device))
        self.register_buffer("n_replaced", torch.zeros(len(records), dtype=torch.int64, device=device))

    def _watch(self, records: Sequence[HiddenLayer]) -> list[WatchedLayer]:
        layers: list[WatchedLayer] = []
        first_unit = first_part = 0
        for number, record in enumerate(records):
            layers.append(WatchedLayer(self, number, record, first_unit, first_part))
            first_unit += record.n_units
            first_part += len(list(record.parts()))
        return layers

    @property
    def total_replaced(self) -> int:
        """Number of units replaced so far, over all layers."""
        return int(self.n_replaced.sum())

    def remove(self) -> None:
        """Stop watching and replacing; the module and the optimizer are as if it had never been there."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def get_extra_state(self) -> dict[str, Tensor]:
        """The random generator's state, as part of ``state_dict()``."""
        return {"generator": self.generator.get_state()}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Restore the random generator, as part of ``load_state_dict()``."""
        self.generator.set_state(state["generator"].cpu())

    @torch.no_grad()
    def _before_optimizer_step(self, *hook_arguments: Any) -> None:
        """Refuse a gradient that isn't finite before it reaches the weights."""
        gradients = [layer.gradient_to_check() for layer in self.layers]
        given = [gradient.flatten() for gradient in gradients if gradient is not None]
        if not given or math.isfinite(torch.cat(given).sum().item()):
            return
        for layer, gradient in zip(self.layers, gradients, strict=True):
            if gradient is not None and not gradient.isfinite().all():
                raise FloatingPointError(f"the gradient of {layer.name} is not finite; no weight was changed")

    @torch.no_grad()
    def _after_optimizer_step(self, *hook_arguments: Any) -> None:
        """Generate and test: watch, rank, choose in all layers, then replace."""
        if self.reset_optimizer_state:
            self.optimizer_state.correct()
        layers = [layer for layer in self.layers if layer.seen]
        self._update_averages(layers)
        for layer in self.layers:
            layer.rest()
        due = self._count_due(layers)
        for layer, count in due:
            layer.choose(count)
        if self.bias_transfer:
            for layer, _ in due:
                layer.transfer_to_biases()
        for layer, _ in due:
            layer.redraw_incoming()
        for layer, _ in due:
            layer.silence_outgoing()

    def _update_averages(self, layers: Sequence[WatchedLayer]) -> None:
        """Age the units and update the running averages of activation, then of utility (which may use the former)."""
        if not layers:
            return
        everything = len(layers) == len(self.layers)
        spans = [slice(0, self.n_units)] if everything else [layer.span for layer in layers]
        activations = [layer.observe() for layer in layers]
        for span, activation in zip(spans, [torch.cat(activations)] if everything else activations, strict=True):
            self.age[span] += 1
            self.average_activation[span].lerp_(activation, 1 - self.decay_rate)
        utilities = [layer.instantaneous_utility() for layer in layers]
        for span, utility in zip(spans, [torch.cat(utilities)] if everything else utilities, strict=True):
            self.average_utility[span].lerp_(utility, 1 - self.decay_rate)
        if not math.isfinite(torch.dot(self.average_activation, self.average_utility).item()):
            for layer in layers:
                layer.check_finite()

    def _count_due(self, layers: Sequence[WatchedLayer]) -> list[tuple[WatchedLayer, int]]:
        """Accumulate the layers' shares of replacements and take the whole numbers out."""
        mature = self.age.cpu().numpy() > self.maturity_threshold
        eligible = np.add.reduceat(mature, [layer.span.start for layer in self.layers], dtype=np.int64)
        if len(layers) < len(self.layers):
            eligible *= [layer in layers for layer in self.layers]
        self.accumulator += torch.from_numpy(self.replacement_rate * eligible).to(self.accumulator.device)
        whole = self.accumulator.floor()
        self.accumulator -= whole
        return [(self.layers[number], int(count)) for number, count in enumerate(whole.tolist()) if count]


def check_hyperparameters(replacement_rate: float, maturity_threshold: float, decay_rate: float) -> None:
    """Check the numbers that steer generate-and-test.

    :raises TypeError: for something that is no number
    :raises ValueError: for a number out of range; both name the value and what is allowed
    """
    below_one = math.nextafter(1, 0)
    for name, value, highest, allowed in (
        ("replacement_rate", replacement_rate, 1, "a number from 0 to 1"),
        ("maturity_threshold", maturity_threshold, sys.float_info.max, "a number of optimizer steps, 0 or more"),
        ("decay_rate", decay_rate, below_one, "a number from 0 to less than 1"),
    ):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{name}={value!r} is not allowed: it must be {allowed}")
        if not 0 <= value <= highest:
            raise ValueError(f"{name}={value!r} is not allowed: it must be {allowed}")


def _check_modules(module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    if not isinstance(module, nn.Module):
        raise TypeError(f"module must be a torch.nn.Module, not {type(module).__name__}")
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, not {type(optimizer).__name__}")


def _trained_by(optimizer: torch.optim.Optimizer, layers: Sequence[HiddenLayer]) -> list[HiddenLayer]:
    """Keep the layers all of whose weights the optimizer trains: the others are not its to replace.

    :raises ValueError: if none is left
    """
    trained = {
        parameter for group in optimizer.param_groups for parameter in group["params"] if parameter.requires_grad
    }
    kept = [layer for layer in layers if all(part.parameter in trained for part in layer.parts())]
    if not kept:
        names = ", ".join(layer.name for layer in layers)
        raise ValueError(f"the optimizer trains none of the hidden layers whole ({names or 'none given'})")
    return kept
