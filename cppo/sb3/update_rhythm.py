"""When, in environment steps, generate-and-test replaces the first unit of an agent."""

import math
from dataclasses import dataclass

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from cppo.cbp.continual_backprop import ContinualBackprop


@dataclass(frozen=True)
class UpdateRhythm:
    """How an algorithm alternates between acting and learning.

    :param first: environment steps until its first call of ``train``
    :param between: environment steps between two calls
    :param optimizer_steps: optimizer steps a call takes
    :param actor_delay: of how many of those the actor's optimizer takes one
    :param actor_phase: optimizer steps taken since the actor's optimizer took its last one
    """

    first: int
    between: int
    optimizer_steps: int
    actor_delay: int = 1
    actor_phase: int = 0

    def env_steps(self, optimizer_steps: float, network: str) -> int:
        """Environment steps until a network's optimizer has taken so many steps."""
        if network == "actor":
            optimizer_steps = optimizer_steps * self.actor_delay - self.actor_phase
        return self.first + (math.ceil(optimizer_steps / self.optimizer_steps) - 1) * self.between


def find_rhythm(model: BaseAlgorithm, n_steps_done: int) -> UpdateRhythm | None:
    """Tell the rhythm of an algorithm from its settings.

    :param n_steps_done: environment steps it has behind it
    :return: the rhythm; None where it can't be told ahead: updates after episodes, or never, or in an own loop
    """
    if isinstance(model, OffPolicyAlgorithm):
        return _off_policy(model, n_steps_done)
    if not isinstance(model, OnPolicyAlgorithm):
        return None
    rollout = model.n_steps * model.n_envs
    epochs, batch_size = getattr(model, "n_epochs", 1), getattr(model, "batch_size", rollout)
    return UpdateRhythm(rollout, rollout, epochs * math.ceil(rollout / batch_size))


def _off_policy(model: OffPolicyAlgorithm, n_steps_done: int) -> UpdateRhythm | None:
    """Learning begins after the first rollout that ends beyond ``learning_starts``."""
    frequency = model.train_freq
    if not isinstance(frequency, TrainFreq) or frequency.unit != TrainFrequencyUnit.STEP or model.gradient_steps == 0:
        return None
    rollout = frequency.frequency * model.n_envs
    before_learning = max(0, model.learning_starts - n_steps_done)
    return UpdateRhythm(
        first=(before_learning // rollout + 1) * rollout,
        between=rollout,
        optimizer_steps=model.gradient_steps if model.gradient_steps > 0 else rollout,
        actor_delay=getattr(model, "policy_delay", 1),
        actor_phase=model._n_updates % getattr(model, "policy_delay", 1),
    )


def steps_until_first_replacement(network: ContinualBackprop) -> int:
    """Optimizer steps until the first layer has a mature unit and has accumulated a whole replacement."""
    steps = math.inf
    for layer, accumulated in zip(network.layers, network.accumulator.tolist(), strict=True):
        until_mature = max(0, network.maturity_threshold - int(layer.age.max()))
        until_whole = math.ceil((1 - accumulated) / (network.replacement_rate * layer.hidden_layer.n_units))
        steps = min(steps, until_mature + max(1, until_whole))
    return math.ceil(steps)
