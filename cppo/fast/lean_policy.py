"""An MlpPolicy whose pass in rollouts costs half the time."""

from __future__ import annotations

import math

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from cppo.fast.plain_networks import PlainNetworks, find_plain_networks

LOG_ROOT_TWO_PI = math.log(math.sqrt(2 * math.pi))


class LeanMlpPolicy(ActorCriticPolicy):
    """stable-baselines3's ``MlpPolicy``, bit for bit, without the detours of modules and distributions in rollouts.

    Where the policy has more than actor, critic and a Gaussian, or gradients are wanted, it is its parent.
    """

    _networks: PlainNetworks | None = None

    def set_training_mode(self, mode: bool) -> None:
        """Switch training mode on or off; a rollout begins with the latter, so look then what there is to compute."""
        super().set_training_mode(mode)
        self._networks = None if mode else find_plain_networks(self)

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Sample actions; return them, the values and the log-probabilities."""
        networks = self._networks
        if networks is None or self.training or deterministic or torch.is_grad_enabled() or obs.dtype != torch.float32:
            return super().forward(obs, deterministic)
        values = networks.critic(obs)
        mean = networks.actor(obs)
        # Each operation in the order of torch.distributions.Normal, so that rounding is the same.
        std = torch.ones_like(mean) * self.log_std.exp()
        actions = mean + torch.normal(torch.zeros_like(mean), torch.ones_like(mean)) * std
        log_prob = (-((actions - mean) ** 2) / (2 * std**2) - std.log() - LOG_ROOT_TWO_PI).sum(dim=1)
        if not math.isfinite(log_prob.sum().item()):
            return super().forward(obs, deterministic)  # which says what is wrong
        return actions.reshape((-1, *self.action_space.shape)), values, log_prob  # type: ignore[misc]
