"""ReDo: dormant units get new weights."""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cppo.cbp.features import FeatureHook, Pass
from cppo.cbp.initializers import Initializer
from cppo.cbp.optimizer_state import FreshOptimizerState, step_was_skipped
from cppo.cbp.watched_layer import redraw_incoming, silence_outgoing
from cppo.checks import LARGEST, check_count, check_number
from cppo.layers.hidden_layer import HiddenLayer
from cppo.remedies.unit_remedy import UnitRemedy


class ReDo(UnitRemedy):
    """Recycles dormant units: every so many steps, those whose share of their layer's activation is small.

    A unit's score is its mean |h| over the last training pass, divided by the layer's mean of that. Units whose score
    is at or under the threshold get new incoming weights, a zero bias, zero outgoing weights and the optimizer state of
    new parameters. Nothing moves to the readers' biases.

    Source: Sokar et al., "The Dormant Neuron Phenomenon in Deep Reinforcement Learning", ICML 2023, where a DQN does so
    every 1000 steps. The default is that of Dohare et al., Nature 632 (2024), for PPO. The other arguments are those of
    ``UnitRemedy``.

    :param threshold: tau, the score up to which a unit is dormant; 0 recycles dead units only
    :param every: optimizer steps from one time to the next
    :param reset_optimizer_state: give a recycled unit's weights the optimizer state of new parameters
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        threshold: float = 0.1,
        every: int = 100,
        initializer: str | Initializer = "lecun_uniform",
        reset_optimizer_state: bool = True,
        hidden_layers: Sequence[HiddenLayer] | None = None,
        seed: int | None = None,
        example_input: Any = None,
    ) -> None:
        check_number("threshold", threshold, 0, LARGEST, "a number, 0 or more")
        check_count("every", every)
        super().__init__(module, optimizer, initializer, hidden_layers, seed, example_input)
        self.threshold, self.every, self.reset_optimizer_state = threshold, every, reset_optimizer_state
        self.n_replaced: Tensor
        """Units recycled so far in each layer."""
        self.register_buffer("n_replaced", torch.zeros(len(self.layers), dtype=torch.int64, device=self.device))
        self.optimizer_state = FreshOptimizerState(optimizer, [part for layer in self.layers for part in layer.parts()])
        self._hooks = [[FeatureHook(one, False) for one in layer.by_reader()] for layer in self.layers]
        self._listen()

    @property
    def total_replaced(self) -> int:
        """Units recycled so far, over all layers."""
        return int(self.n_replaced.sum())

    def figures(self) -> dict[str, float]:
        """The number of units recycled."""
        return {"total_replaced": self.total_replaced}

    @torch.no_grad()
    def _before_optimizer_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        super()._before_optimizer_step(optimizer, args, kwargs)
        if not self.reset_optimizer_state or step_was_skipped(optimizer):
            return None
        return self.optimizer_state.fast_step(has_closure=bool(kwargs) or len(args) > 1)

    def after_step(self) -> None:
        """Every so many steps, recycle the dormant units."""
        if self.reset_optimizer_state:
            self.optimizer_state.correct()
        if self.n_steps % self.every == 0:
            self._recycle(self._find_dormant())
        self._listen()

    def _find_dormant(self) -> list[tuple[int, Tensor]]:
        """Find the dormant units of each layer by the last training pass, over all ranks."""
        passes = [next((hook.passes[-1] for hook in hooks if hook.passes), None) for hooks in self._hooks]
        found = []
        for number, (layer, last) in enumerate(zip(self.layers, passes, strict=True)):
            magnitude = self._over_ranks(last, layer)
            if magnitude is None or not self.is_trainable(layer):
                continue
            units = (dormancy_score(magnitude) <= self.threshold).nonzero().flatten()
            if len(units):
                found.append((number, units))
        return found

    def _over_ranks(self, last: Pass | None, layer: HiddenLayer) -> Tensor | None:
        if not self.ranks.several:
            return None if last is None else last.magnitude
        weight = layer.incoming.weight
        dtype = torch.promote_types(weight.dtype, torch.float32)
        magnitude = weight.new_zeros(layer.n_units, dtype=dtype) if last is None else last.magnitude
        count = magnitude.new_tensor([0.0 if last is None else last.n_samples])
        average, samples = self.ranks.average(magnitude, torch.tensor([layer.n_units], device=self.device), count)
        return average if samples.item() else None

    def _recycle(self, dormant: Sequence[tuple[int, Tensor]]) -> None:
        """Redraw all incoming weights before any outgoing ones are silenced, so that these end at zero."""
        for number, units in dormant:
            redraw_incoming(self.layers[number], units, self.initializer, self.generator)
        for number, units in dormant:
            silence_outgoing(self.layers[number], units)
            self.n_replaced[number] += len(units)
            if self.reset_optimizer_state:
                for part in self.layers[number].parts():
                    self.optimizer_state.restart(part, units)

    def _listen(self) -> None:
        """Observe features only before a step that recycles units: at other times it would be a waste."""
        is_due = (self.n_steps + 1) % self.every == 0
        for layer, hooks in zip(self.layers, self._hooks, strict=True):
            for reader, hook in zip(layer.outgoing, hooks, strict=True):
                hook.listen(reader, self)
                hook.awake = is_due
                hook.passes.clear()

    def remove(self) -> None:
        """Stop recycling."""
        super().remove()
        for hook in itertools.chain(*self._hooks):
            hook.remove()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the step count, and observe features if the next step recycles units."""
        super().set_extra_state(state)
        self._listen()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self._handles:
            self._listen()


def dormancy_score(magnitude: Tensor) -> Tensor:
    """Each unit's share of its layer's activation, 1 on average; zeros where the whole layer is dead.

    :param magnitude: mean |h| of each unit, shape (n_units,)
    """
    return magnitude / (magnitude.mean() + 1e-9)
