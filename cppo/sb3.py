"""Puts continual backpropagation into a stable-baselines3 algorithm."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy

from cppo.continual_backprop import ContinualBackprop, check_hyperparameters
from cppo.hidden_layers import HiddenLayer
from cppo.initializers import Initializer, find_initializer
from cppo.tracing import replaceable, trace
from cppo.utilities import Utility, find_utility

if TYPE_CHECKING:
    from stable_baselines3 import PPO as Algorithm  # noqa: N811  any algorithm will do; this one has every attribute used
else:
    Algorithm = object

QUANTILES = {"min": 0.0, "median": 0.5, "max": 1.0}


class ContinualBackpropMixin(Algorithm):
    """Continual backpropagation for an algorithm of stable-baselines3: inherit from it first, the algorithm second.

    Example::

        class ContinualA2C(ContinualBackpropMixin, A2C): ...

        model = ContinualA2C("MlpPolicy", env, replacement_rate=1e-4, maturity_threshold=1000)

    Ages, utilities and the generator of new units are saved with the model and restored by ``load``.

    :param replacement_rate: share of the mature units of a layer replaced per optimizer step; 0 switches it off
    :param maturity_threshold: optimizer steps (not environment steps) for which a new unit is protected
    :param decay_rate: decay of the running averages of utility and activation
    :param utility: how useful a unit is, see ``cppo.utilities.UTILITIES``
    :param initializer: where a new unit's weights come from, see ``cppo.initializers.INITIALIZERS``;
        None means as the policy drew its own: orthogonal, or torch's default with ``ortho_init=False``
    :param bias_transfer: move a replaced unit's mean contribution to the biases of its readers
    :param reset_optimizer_state: give a new unit's weights the optimizer state of new parameters
    :raises ValueError: for a value out of range, an unknown name, and a policy without hidden layers
    """

    continual_backprop: ContinualBackprop

    def __init__(
        self,
        *args: Any,
        replacement_rate: float = 1e-4,
        maturity_threshold: int = 10_000,
        decay_rate: float = 0.99,
        utility: str | Utility = "contribution",
        initializer: str | Initializer | None = None,
        bias_transfer: bool = True,
        reset_optimizer_state: bool = True,
        **kwargs: Any,
    ) -> None:
        check_hyperparameters(replacement_rate, maturity_threshold, decay_rate)
        find_utility(utility)
        if initializer is not None:
            find_initializer(initializer)
        self.replacement_rate = replacement_rate
        self.maturity_threshold = maturity_threshold
        self.decay_rate = decay_rate
        self.utility = utility
        self.initializer = initializer
        self.bias_transfer = bias_transfer
        self.reset_optimizer_state = reset_optimizer_state
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        initializer = self.initializer
        if initializer is None:
            initializer = "orthogonal" if getattr(self.policy, "ortho_init", False) else "torch_default"
        self.continual_backprop = ContinualBackprop(
            self.policy,
            self.policy.optimizer,
            replacement_rate=self.replacement_rate,
            maturity_threshold=self.maturity_threshold,
            decay_rate=self.decay_rate,
            utility=self.utility,
            initializer=initializer,
            bias_transfer=self.bias_transfer,
            reset_optimizer_state=self.reset_optimizer_state,
            hidden_layers=find_policy_layers(self.policy),
            seed=self.seed,
        )

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "continual_backprop"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, tensors = super()._get_torch_save_params()
        return [*state_dicts, "continual_backprop"], tensors

    def learn(self, total_timesteps: int, *args: Any, **kwargs: Any) -> Any:
        """Learn as the algorithm does, and warn when generate-and-test can't or didn't act (see the parent class)."""
        warned = self._announce_first_replacement(total_timesteps)
        super().learn(total_timesteps, *args, **kwargs)
        if not warned and self.replacement_rate > 0 and self.continual_backprop.total_replaced == 0:
            warnings.warn("learning ended without a single replaced unit", stacklevel=2)
        return self

    def train(self, *args: Any, **kwargs: Any) -> None:
        """Update the networks as the algorithm does, then log what generate-and-test did."""
        before = self.continual_backprop.n_replaced.tolist()
        super().train(*args, **kwargs)
        self._log_continual_backprop(before)

    def _log_continual_backprop(self, before: list[int]) -> None:
        now = self.continual_backprop.n_replaced.tolist()
        self.logger.record("cbp/replaced", sum(now) - sum(before))
        self.logger.record("cbp/total_replaced", sum(now))
        for layer, old, new in zip(self.continual_backprop.layers, before, now, strict=True):
            name = f"cbp_{layer.name.removeprefix('mlp_extractor.')}"
            figures = {"replaced": new - old, "total_replaced": new}
            for key, values in (("age", layer.age.float()), ("utility", layer.utility)):
                levels = torch.tensor(list(QUANTILES.values()), device=values.device)
                for quantile, value in zip(QUANTILES, values.quantile(levels).tolist(), strict=True):
                    figures[f"{key}_{quantile}"] = value
            for key, value in figures.items():
                self.logger.record(f"{name}/{key}", value, exclude="stdout")

    def _announce_first_replacement(self, total_timesteps: int) -> bool:
        """Say when the first replacement is due; warn if it won't come, or if maturity leaves nothing to choose from.

        :return: whether a warning said that no unit will be replaced
        """
        if self.replacement_rate == 0:
            return False
        smallest = min(layer.record.n_units for layer in self.continual_backprop.layers)
        if self.replacement_rate == 1 or smallest < 1 + self.replacement_rate * self.maturity_threshold:
            warnings.warn(
                f"replacement_rate={self.replacement_rate} replaces all mature units at once: with a maturity of "
                f"{self.maturity_threshold} steps a layer of {smallest} units has fewer than one to choose from",
                stacklevel=3,
            )
        if self.continual_backprop.total_replaced:
            return False
        due = self._steps_until_first_replacement()
        if self.verbose >= 1:
            print(f"Continual backpropagation replaces its first unit after {due:,} environment steps")
        if due <= total_timesteps:
            return False
        warnings.warn(
            f"no unit will be replaced in {total_timesteps:,} environment steps: the first is due after {due:,} "
            f"(maturity_threshold={self.maturity_threshold} counts optimizer steps)",
            stacklevel=3,
        )
        return True

    def _steps_until_first_replacement(self) -> int:
        """Environment steps until the first layer has a mature unit and has accumulated a whole replacement."""
        watched = self.continual_backprop
        optimizer_steps = math.inf
        for layer, accumulated in zip(watched.layers, watched.accumulator.tolist(), strict=True):
            until_mature = max(0, self.maturity_threshold - int(layer.age.max()))
            until_whole = math.ceil((1 - accumulated) / (self.replacement_rate * layer.record.n_units))
            optimizer_steps = min(optimizer_steps, until_mature + max(1, until_whole))
        env_steps, optimizer_steps_each = self._update_rhythm()
        return math.ceil(optimizer_steps / optimizer_steps_each) * env_steps

    def _update_rhythm(self) -> tuple[int, int]:
        """How many environment steps make one call of ``train``, and how many optimizer steps that call takes."""
        env_steps = self.n_steps * self.n_envs
        if hasattr(self, "n_epochs"):
            return env_steps, self.n_epochs * math.ceil(env_steps / self.batch_size)
        return env_steps, 1


def find_policy_layers(policy: BasePolicy) -> list[HiddenLayer]:
    """Find the hidden layers of an actor-critic policy by running it once on an observation of zeros.

    :raises ValueError: if the policy has no hidden layer
    """
    observation, _ = policy.obs_to_tensor(_zeros(policy.observation_space))
    traced = trace(policy, lambda: _run(policy, observation))
    return replaceable(traced, type(policy).__name__, "give net_arch at least one hidden layer")


def _run(policy: BasePolicy, observation: Any) -> Any:
    """Everything a policy computes from an observation.

    With gSDE the exploration noise is left out: it reads the last hidden layer through a matrix that is drawn, not
    learned, so it is no reader whose weights could be set to zero.
    """
    if not (isinstance(policy, ActorCriticPolicy) and policy.use_sde):
        return policy(observation, deterministic=True)
    features = policy.extract_features(observation)
    for_actor, for_critic = features if isinstance(features, tuple) else (features, features)
    latent = policy.mlp_extractor.forward_actor(for_actor), policy.mlp_extractor.forward_critic(for_critic)
    return policy.action_net(latent[0]), policy.value_net(latent[1])


def _zeros(space: spaces.Space) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _zeros(subspace) for key, subspace in space.spaces.items()}
    return np.zeros(space.shape, dtype=space.dtype)
