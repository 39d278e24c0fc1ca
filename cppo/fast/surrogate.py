"""PPO's loss for a Gaussian policy: its gradient by what actor and critic give out, and what the log shows of it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor

from cppo.compiled import can_take
from cppo.fast import loss_loops

Number = Tensor | float


class Terms(NamedTuple):
    """The settings of the loss as they are now, named as stable-baselines3's.

    :param clip_range_vf: infinite if the change of values isn't limited
    """

    normalize_advantage: bool
    clip_range: float
    clip_range_vf: float
    ent_coef: float
    vf_coef: float


class ActorLosses(NamedTuple):
    """What a minibatch tells of the actor, named as in stable-baselines3's log."""

    policy_gradient_loss: Number
    entropy_loss: Number
    clip_fraction: Number
    approx_kl: Number


def pull_at_actor(
    means: Tensor, log_std: Tensor, data: RolloutBufferSamples, terms: Terms
) -> tuple[Tensor, ActorLosses]:
    """Find the gradient of the loss by the Gaussian's means, and write that by its ``log_std`` to its ``grad``.

    :param means: shape (samples, actions); may be overwritten
    """
    assert log_std.grad is not None
    if not can_take(means):
        return _pull_at_actor(means, log_std, log_std.grad, data, terms)
    losses = loss_loops.pull_at_actor(
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
    return means, ActorLosses(*losses)


def pull_at_critic(values: Tensor, data: RolloutBufferSamples, terms: Terms) -> tuple[Tensor, Number]:
    """Find the gradient of the loss by the values, and their own loss.

    :param values: shape (samples, 1); may be overwritten
    """
    if not can_take(values):
        return _pull_at_critic(values.flatten(), data, terms)
    loss = loss_loops.pull_at_critic(
        values.numpy(), data.old_values.numpy(), data.returns.numpy(), terms.clip_range_vf, terms.vf_coef
    )
    return values, loss


def _pull_at_actor(
    means: Tensor, log_std: Tensor, log_std_gradient: Tensor, data: RolloutBufferSamples, terms: Terms
) -> tuple[Tensor, ActorLosses]:
    n_samples, clip_range = len(means), terms.clip_range
    off = data.actions - means
    pull = off / (2 * log_std).exp()
    squares = off * pull
    log_prob = -0.5 * squares.sum(dim=1) - (log_std.sum() + 0.5 * log_std.numel() * math.log(2 * math.pi))
    advantages = data.advantages
    if terms.normalize_advantage and n_samples > 1:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    log_ratio = log_prob - data.old_log_prob
    ratio = log_ratio.exp()
    free = advantages * ratio
    clipped = advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
    # dLoss/dlog_prob: that of the smaller one, which is constant where it is clipped.
    weight = torch.where(clipped < free, 0.0, free) / -n_samples
    torch.sub(weight @ (squares - 1), terms.ent_coef, out=log_std_gradient)
    losses = ActorLosses(
        -torch.min(free, clipped).mean(),
        -(log_std.sum() + 0.5 * log_std.numel() * (1 + math.log(2 * math.pi))),
        ((ratio - 1).abs() > clip_range).float().mean(),
        (ratio - 1 - log_ratio).mean(),
    )
    return weight.unsqueeze(1) * pull, losses


def _pull_at_critic(values: Tensor, data: RolloutBufferSamples, terms: Terms) -> tuple[Tensor, Tensor]:
    clip_range = terms.clip_range_vf
    change = values - data.old_values
    passes = change.abs() <= clip_range
    error = torch.where(passes, values, data.old_values + change.clamp(-clip_range, clip_range)) - data.returns
    return (error * passes * (2 * terms.vf_coef / len(error))).unsqueeze(1), error.square().mean()
