"""An MlpPolicy whose pass in rollouts takes less time, as torch's calls alone or as one compiled loop."""

import contextlib
import math
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from cppo.compiled import can_take, compile_loop
from cppo.fast.gradient import tanh
from cppo.fast.networks import NotPlainError, PlainNetworks, find_plain_networks

LOG_ROOT_TWO_PI = math.log(math.sqrt(2 * math.pi))
MOST_ROWS = 16
"""With more observations at once torch's matrix products are as fast."""


class LeanMlpPolicy(ActorCriticPolicy):
    """stable-baselines3's ``MlpPolicy``, bit for bit, without the detours of modules and distributions in rollouts.

    Where the policy has more than actor, critic and a Gaussian, or gradients are wanted, it is its parent.
    """

    _networks: PlainNetworks | None = None

    def set_training_mode(self, mode: bool) -> None:
        """Switch training mode on or off; a rollout begins with the latter, so look then what there is to compute."""
        super().set_training_mode(mode)
        self._networks = None
        if not mode:
            with contextlib.suppress(NotPlainError):
                self._networks = find_plain_networks(self)

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


class QuickMlpPolicy(LeanMlpPolicy):
    """stable-baselines3's ``MlpPolicy`` to rounding, at a third of its time in rollouts with few environments.

    With four observations, torch's calls cost more than what they compute. So one loop, compiled by numba, goes through
    actor and critic and samples the actions; random numbers are drawn as by the parent. Where the loop can't do it, the
    parent does.
    """

    _arrays: tuple[Any, ...] | None = None
    _owners: tuple[dict[str, Any], ...] = ()
    _addresses: tuple[int, ...] = ()

    def set_training_mode(self, mode: bool) -> None:
        """Switch training mode on or off; a rollout begins with the latter, so look then where the weights are."""
        super().set_training_mode(mode)
        self._look_up_weights()

    def _look_up_weights(self) -> None:
        self._arrays = None
        networks, parameters = self._networks, list(self.parameters())
        if networks is not None and all(can_take(each) and each.dtype == torch.float32 for each in parameters):
            self._arrays = *networks.actor.arrays(), *networks.critic.arrays(), self.log_std.detach().numpy()
            self._owners = tuple(module._parameters for module in self.modules() if module._parameters)
            self._addresses = self._find_addresses()

    def _find_addresses(self) -> tuple[int, ...]:
        return tuple([each.data_ptr() for owner in self._owners for each in owner.values()])

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """Sample actions; return them, the values and the log-probabilities."""
        if self._arrays is not None and self._addresses != self._find_addresses():
            self._look_up_weights()  # other memory was assigned to a parameter, as load_from_vector does
        arrays, rows = self._arrays, obs.shape[0]
        if (
            arrays is None
            or deterministic
            or self.training
            or torch.is_grad_enabled()
            or rows > MOST_ROWS
            or not (obs.dtype == torch.float32 and obs.is_contiguous())
        ):
            return super().forward(obs, deterministic)
        noise = torch.empty(rows, arrays[-1].size).normal_()  # the numbers of torch.distributions.Normal
        actions, values, log_prob = _sample(obs.numpy(), *arrays, noise.numpy())
        if not math.isfinite(sum(log_prob.tolist())):
            return super().forward(obs, deterministic)  # which says what is wrong
        actions = actions.reshape(-1, *self.action_space.shape)  # type: ignore[misc]
        return torch.from_numpy(actions), torch.from_numpy(values), torch.from_numpy(log_prob)

    def __getstate__(self) -> dict[str, Any]:
        # The arrays lie where this policy's weights are; a copy has its own.
        return self.__dict__ | {"_arrays": None, "_owners": ()}


@compile_loop
def _sample(
    observations: np.ndarray,
    actor_weights: tuple[np.ndarray, ...],
    actor_biases: tuple[np.ndarray, ...],
    actor_is_relu: bool,
    critic_weights: tuple[np.ndarray, ...],
    critic_biases: tuple[np.ndarray, ...],
    critic_is_relu: bool,
    log_std: np.ndarray,
    noise: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute actions, values and log-probabilities of some observations."""
    values = _through(observations, critic_weights, critic_biases, critic_is_relu)
    actions = _through(observations, actor_weights, actor_biases, actor_is_relu)
    log_prob = np.zeros(len(observations), np.float32)
    for i in range(actions.shape[0]):
        for j in range(actions.shape[1]):
            mean, std = actions[i, j], np.exp(log_std[j])
            actions[i, j] = mean + noise[i, j] * std
            off = (actions[i, j] - mean) / std
            log_prob[i] -= np.float32(0.5) * off * off + log_std[j] + np.float32(LOG_ROOT_TWO_PI)
    return actions, values, log_prob


@compile_loop
def _through(
    given: np.ndarray, weights: tuple[np.ndarray, ...], biases: tuple[np.ndarray, ...], is_relu: bool
) -> np.ndarray:
    """Compute the output of a chain of linear layers with an activation between them."""
    for number in range(len(weights)):
        if number:
            for i in range(given.shape[0]):
                for j in range(given.shape[1]):
                    h = given[i, j]
                    given[i, j] = (np.float32(0) if h < 0 else h) if is_relu else tanh(h, True)
        given = _linear(given, weights[number], biases[number])
    return given


@compile_loop
def _linear(given: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Compute a linear layer's output; as reading takes the time, weights are read once for four rows of input."""
    rows, columns = given.shape
    output = np.empty((rows, len(weight)), np.float32)
    fours = rows - rows % 4
    for unit in range(len(weight)):
        for i in range(0, fours, 4):
            first, second, third, fourth = bias[unit], bias[unit], bias[unit], bias[unit]
            for k in range(columns):
                first += weight[unit, k] * given[i, k]
                second += weight[unit, k] * given[i + 1, k]
                third += weight[unit, k] * given[i + 2, k]
                fourth += weight[unit, k] * given[i + 3, k]
            output[i, unit], output[i + 1, unit] = first, second
            output[i + 2, unit], output[i + 3, unit] = third, fourth
        for i in range(fours, rows):
            total = bias[unit]
            for k in range(columns):
                total += weight[unit, k] * given[i, k]
            output[i, unit] = total
    return output
