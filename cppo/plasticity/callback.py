"""Logs measures of plasticity while an algorithm of stable-baselines3 learns."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit
from torch import Tensor, nn

from cppo.plasticity import measures
from cppo.plasticity.experience import Batch, RecentRollouts, as_networks_see, fills_batch, from_replay_buffer
from cppo.plasticity.layers import MeasuredLayer
from cppo.plasticity.policies import collect_features, find_measured_layers
from cppo.plasticity.updates import UpdateWatch
from cppo.sb3.policy_layers import trained_networks

STEPS_BETWEEN = 20_480
"""Environment steps between two measurements by default: ten updates of PPO at stable-baselines3's defaults."""

STEPS_WATCHED = 100
"""Environment steps before a measurement whose optimizer steps count; a whole update in any case."""

STEPS_OF_AN_EPISODE = 1000
"""What is reckoned for an episode where an algorithm learns after each."""


class PlasticityCallback(BaseCallback):
    """Measures each hidden layer of actor and critic and logs it as ``plasticity/actor.0/dead_share`` and so on.

    Features are measured twice: on recent experience, and (names that end in ``_probe``) on a batch that stays the same
    for the whole training, the experience of its beginning. Gradients and updates are means over the optimizer steps of
    the last update. ``docs/plasticity.md`` lists all names.

    Training goes on bit for bit as without it. It draws no random number, counts for no statistics, and its state can
    be saved and restored, so that a resumed training logs what an uninterrupted one would.

    Example::

        model = PPO("MlpPolicy", "Pendulum-v1", verbose=1)
        model.learn(100_000, callback=PlasticityCallback())

    :param every: updates (rollouts) between two measurements; by default those of about 20 000 environment steps
    :param n_samples: size of a batch, as far as there is so much experience
    :raises ValueError: for a number that is not a whole one of at least 1
    """

    def __init__(self, every: int | None = None, n_samples: int = measures.SAMPLES) -> None:
        super().__init__()
        for name, value in {"every": every, "n_samples": n_samples}.items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise ValueError(f"{name}={value!r} is not allowed: it must be a whole number of at least 1")
        self.every = every
        self.n_samples = n_samples
        self.layers: list[MeasuredLayer] = []
        self._policy: Any = None
        self._rollouts = 0
        self._probe: Batch | None = None
        self._initial: dict[str, Tensor] = {}
        self._recent = RecentRollouts(n_samples)
        self._loaded: dict[str, Any] = {}

    # State ------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs: the probe batch, initial weights and counters, as tensors and numbers."""
        if self._policy is None:
            return self._loaded
        return {
            "rollouts": self._rollouts,
            "probe": None if self._probe is None else vars(self._probe),
            "recent": [vars(batch) for batch in self._recent.batches],
            "initial": dict(self._initial),
            "updates": self._watch.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned; it takes effect when learning begins.

        :raises ValueError: then, if it is the state of a policy with other layers
        """
        self._loaded = dict(state)
        self._policy = None

    # Called by stable-baselines3 --------------------------------------------------------------------------------------

    def _init_callback(self) -> None:
        policy = self.model.policy
        if self._policy is policy:
            return
        if self._policy is not None:
            raise ValueError("this callback has measured another model; make a new one for each")
        self.layers = find_measured_layers(policy)
        named = [(layer.name, layer.incoming) for layer in self.layers]
        optimizers = {id(each.optimizer): each.optimizer for each in trained_networks(policy).values()}
        self._watch = UpdateWatch(named, optimizers.values())
        self._initial = {layer.name: layer.incoming.weight.detach().clone() for layer in self.layers}
        self._algorithm: Any = self.model
        self._steps = steps_of_rollout(self.model)
        if self._loaded:
            self._restore(self._loaded)
        self._policy = policy

    def _restore(self, state: Mapping[str, Any]) -> None:
        expected = {name: tuple(weights.shape) for name, weights in self._initial.items()}
        loaded = {name: tuple(weights.shape) for name, weights in state["initial"].items()}
        if loaded != expected:
            raise ValueError(f"the state of the callback is that of other hidden layers: {loaded}, not {expected}")
        self._initial = dict(state["initial"])
        self._rollouts = int(state["rollouts"])
        self._probe = None if state["probe"] is None else Batch(**state["probe"])
        self._recent.batches = [Batch(**batch) for batch in state["recent"]]
        self._watch.load_state_dict(state["updates"])

    def _on_training_start(self) -> None:
        self._watch_if_due()

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._rollouts += 1
        recent = self._from_replay_buffer() if isinstance(self.model, OffPolicyAlgorithm) else self._from_rollouts()
        if recent is not None:
            self._measure(recent)
        self._watch_if_due()

    def _on_training_end(self) -> None:
        self._watch.rest()

    # When -------------------------------------------------------------------------------------------------------------

    def _interval(self) -> int:
        return self.every or max(1, round(STEPS_BETWEEN / self._steps))

    def _is_due(self, enough: bool) -> bool:
        """Whether to measure now: after every interval, and first of all as soon as there is a whole batch."""
        return self._rollouts % self._interval() == 0 or (self._probe is None and enough)

    def _watch_if_due(self) -> None:
        """Let the optimizer steps count that come right before a measurement."""
        ahead = self._interval() - self._rollouts % self._interval()
        if ahead <= math.ceil(STEPS_WATCHED / self._steps):
            self._watch.watch()
        else:
            self._watch.rest()

    def _from_replay_buffer(self) -> Batch | None:
        buffer = self._algorithm.replay_buffer
        if buffer.size() and self._is_due(fills_batch(buffer, self.n_samples)):
            return from_replay_buffer(buffer, self.n_samples)
        return None

    def _from_rollouts(self) -> Batch | None:
        ahead = -self._rollouts % self._interval()
        if self._probe is None or ahead * self._steps < self.n_samples:
            self._recent.add(self._algorithm.rollout_buffer)
        else:
            self._recent.batches.clear()
        return self._recent.batch() if self._is_due(self._recent.is_full) else None

    # What -------------------------------------------------------------------------------------------------------------

    def _measure(self, recent: Batch) -> None:
        if self._probe is None:
            self._probe = recent
        figures: dict[str, dict[str, float]] = {layer.name: {} for layer in self.layers}
        for suffix, batch in {"": recent, "_probe": self._probe}.items():
            for layer, features in self._features(batch):
                figures[layer.name] |= {name + suffix: value for name, value in layer.measure(features).items()}
        updates = self._watch.take_means()
        replacements = self._continual_backprop()
        for layer in self.layers:
            weights = layer.incoming.weight
            figures[layer.name] |= {
                "weight_magnitude": measures.weight_magnitude(weights),
                "distance_from_init": measures.distance(weights, self._initial[layer.name].to(weights)),
            }
            figures[layer.name] |= updates.get(layer.name, {}) | replacements.get(layer.incoming, {})
        for layer_name, measured in figures.items():
            for name, value in measured.items():
                self.logger.record(f"plasticity/{layer_name}/{name}", value, exclude="stdout")

    def _features(self, batch: Batch) -> Iterator[tuple[MeasuredLayer, Tensor]]:
        holds_normalized = not isinstance(self.model, OffPolicyAlgorithm)
        observations, actions = as_networks_see(batch, self.model, holds_normalized)
        features = collect_features(self._policy, self.layers, observations, actions)
        yield from ((layer, features[layer.name]) for layer in self.layers if layer.name in features)

    def _continual_backprop(self) -> dict[nn.Module, dict[str, float]]:
        """Ages, utilities and replacements of the layers that continual backpropagation watches."""
        layers = getattr(getattr(self.model, "continual_backprop", None), "layers", [])
        return {
            layer.hidden_layer.incoming: {
                "age_median": layer.age.float().median().item(),
                "utility_median": layer.utility.median().item(),
                "total_replaced": layer.total_replaced,
            }
            for layer in layers
        }


def steps_of_rollout(model: Any) -> int:
    """Environment steps between two updates of an algorithm; an episode is reckoned with 1000."""
    if isinstance(model, OffPolicyAlgorithm):
        rhythm = model.train_freq
        assert isinstance(rhythm, TrainFreq)  # it is, once the model is set up
        unit = 1 if rhythm.unit == TrainFrequencyUnit.STEP else STEPS_OF_AN_EPISODE
        return rhythm.frequency * unit * model.n_envs
    return model.n_steps * model.n_envs
