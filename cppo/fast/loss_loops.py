"""What PPO's loss says of a minibatch and how it pulls at the outputs of the networks, in one loop each.

With a hundred samples and eight actions torch's calls cost more than what they compute, and there are thirty of them.
The loops are compiled by numba, see ``cppo/compiled.py``; sums are taken in double precision.
"""

from __future__ import annotations

import math

import numpy as np

from cppo.compiled import compile_loop


@compile_loop
def pull_at_actor(
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
    """Put the gradient of PPO's loss by the Gaussian's means in place of these.

    :param means: shape (samples, actions), as ``actions``
    :param normalize: whether advantages are to have mean 0 and standard deviation 1
    :param log_std: shape (actions,); the loss' gradient by it is written to ``log_std_gradient``
    :return: the losses of policy and entropy, the share of clipped samples, and the estimate of the KL divergence
    """
    n_samples, n_actions = means.shape
    number = means.dtype.type
    offset, scale = _offset_and_scale(advantages, normalize)
    precision = np.exp(-2 * log_std)
    total_log_std = 0.0
    for j in range(n_actions):
        total_log_std += log_std[j]
    constant = total_log_std + 0.5 * n_actions * math.log(2 * math.pi)
    pull_at_std = np.zeros(n_actions)
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
            pull_at_std[j] += weight * (off * off * precision[j] - 1)
            means[i, j] = weight * off * precision[j]
        loss -= clipped if clipped < free else free
        n_clipped += abs(ratio - 1) > clip_range
        divergence += ratio - 1 - log_ratio
    for j in range(n_actions):
        log_std_gradient[j] = pull_at_std[j] - ent_coef
    entropy_loss = -(constant + 0.5 * n_actions)
    return loss / n_samples, entropy_loss, n_clipped / n_samples, divergence / n_samples


@compile_loop
def pull_at_critic(
    values: np.ndarray, old_values: np.ndarray, returns: np.ndarray, clip_range: float, vf_coef: float
) -> float:
    """Put the gradient of PPO's loss by the values in place of these.

    :param values: shape (samples, 1)
    :param clip_range: how far a value may count as changed; infinite if there is no limit
    :return: the loss of the values, ``vf_coef`` not counted
    """
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
    """What to take from values, and by what to multiply them then, to give them mean 0 and standard deviation 1."""
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
