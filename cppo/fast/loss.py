"""PPO's loss for a Gaussian policy: its gradient by what actor and critic give out, and what the log shows of it.

With a hundred samples and eight actions torch's calls cost more than what they compute, and there are thirty of them.
So each network's part is one loop, compiled by numba (``cppo/compiled.py``); sums are taken in double precision.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor

from cppo.compiled import compile_loop


class Terms(NamedTuple):
    """The settings of the loss at the moment, named as stable-baselines3's.

    :param clip_range_vf: infinite if the change of values isn't limited
    """

    normalize_advantage: bool
    clip_range: float
    clip_range_vf: float
    ent_coef: float
    vf_coef: float


class Losses(NamedTuple):
    """Figures of a minibatch, named as in stable-baselines3's log."""

    policy_gradient_loss: float
    entropy_loss: float
    clip_fraction: float
    approx_kl: float
    value_loss: float


def actor_loss_gradient(
    means: Tensor, log_std: Tensor, data: RolloutBufferSamples, terms: Terms
) -> tuple[float, float, float, float]:
    """Overwrite the Gaussian's means by the loss' gradient by them, and write that by its ``log_std`` to its ``grad``.

    :param means: shape (samples, actions)
    :return: the first four of ``Losses``
    """
    assert log_std.grad is not None
    return _actor_loss_gradient(
        means.numpy(),
        data.actions.numpy(),
        data.old_log_prob.numpy(),
        data.advantages.numpy(),
        terms.normalize_advantage,
        log_std.detach().numpy(),
        terms.clip_range,
        terms.ent_coef,
        log_std.grad.numpy(),
    )


def critic_loss_gradient(values: Tensor, data: RolloutBufferSamples, terms: Terms) -> float:
    """Overwrite the values by the loss' gradient by them.

    :param values: shape (samples, 1)
    :return: the loss of the values, ``vf_coef`` not counted
    """
    old_values, returns = data.old_values.numpy(), data.returns.numpy()
    return _critic_loss_gradient(values.numpy(), old_values, returns, terms.clip_range_vf, terms.vf_coef)


@compile_loop
def _actor_loss_gradient(
    means: np.ndarray,
    actions: np.ndarray,
    old_log_prob: np.ndarray,
    advantages: np.ndarray,
    normalize: bool,
    log_std: np.ndarray,
    clip_range: float,
    ent_coef: float,
    log_std_gradient: np.ndarray,
) -> tuple[float, float, float, float]:
    """See ``actor_loss_gradient``; ``log_std`` has the shape (actions,), as its gradient, which is written."""
    n_samples, n_actions = means.shape
    number = means.dtype.type
    offset, scale = _offset_and_scale(advantages, normalize)
    precision = np.exp(-2 * log_std)
    total_log_std = 0.0
    for j in range(n_actions):
        total_log_std += log_std[j]
    constant = total_log_std + 0.5 * n_actions * math.log(2 * math.pi)
    std_gradient = np.zeros(n_actions)
    loss, n_clipped, divergence = 0.0, 0, 0.0
    for i in range(n_samples):
        square = 0.0
        for j in range(n_actions):
            off = actions[i, j] - means[i, j]
            square += off * off * precision[j]
        log_ratio = number(-0.5 * square - constant) - old_log_prob[i]
        ratio = np.exp(log_ratio)
        advantage = (advantages[i] - offset) * scale
        within = 1 - clip_range if ratio < 1 - clip_range else 1 + clip_range if ratio > 1 + clip_range else ratio
        free, clipped = advantage * ratio, advantage * within
        # dLoss/dlog_prob: that of the smaller one, which is constant where it is clipped.
        weight = 0.0 if clipped < free else -free / n_samples
        for j in range(n_actions):
            off = actions[i, j] - means[i, j]
            std_gradient[j] += weight * (off * off * precision[j] - 1)
            means[i, j] = weight * off * precision[j]
        loss -= clipped if clipped < free else free
        n_clipped += abs(ratio - 1) > clip_range
        divergence += ratio - 1 - log_ratio
    for j in range(n_actions):
        log_std_gradient[j] = std_gradient[j] - ent_coef
    entropy_loss = -(constant + 0.5 * n_actions)
    return loss / n_samples, entropy_loss, n_clipped / n_samples, divergence / n_samples


@compile_loop
def _critic_loss_gradient(
    values: np.ndarray, old_values: np.ndarray, returns: np.ndarray, clip_range: float, vf_coef: float
) -> float:
    """See ``critic_loss_gradient``."""
    n_samples = len(values)
    loss = 0.0
    for i in range(n_samples):
        error = values[i, 0] - returns[i]
        scale = 2 * vf_coef / n_samples
        change = values[i, 0] - old_values[i]
        if abs(change) > clip_range:
            error = old_values[i] + (clip_range if change > 0 else -clip_range) - returns[i]
            scale = 0.0
        values[i, 0] = scale * error
        loss += error * error
    return loss / n_samples


@compile_loop
def _offset_and_scale(values: np.ndarray, normalize: bool) -> tuple[float, float]:
    """Find what to subtract from values, and by what to multiply them then, for mean 0 and standard deviation 1."""
    n = values.size
    if not normalize or n < 2:
        return 0.0, 1.0
    total, squares = 0.0, 0.0
    for i in range(n):
        total += values[i]
    mean = total / n
    for i in range(n):
        squares += (values[i] - mean) ** 2
    return mean, 1 / (math.sqrt(squares / (n - 1)) + 1e-8)
