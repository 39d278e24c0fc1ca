"""PPO's update with its gradient written down instead of found by autograd."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.utils import explained_variance

from cppo.fast.fused_steps import DirectSteps
from cppo.fast.lean_buffer import LeanRolloutBuffer
from cppo.fast.plain_networks import PlainNetworks, find_plain_networks
from cppo.fast.surrogate import Number, Terms, pull_at_actor, pull_at_critic


class Losses(NamedTuple):
    """What a minibatch tells, each a number or a scalar tensor, named as in stable-baselines3's log."""

    policy_gradient_loss: Number
    entropy_loss: Number
    clip_fraction: Number
    approx_kl: Number
    value_loss: Number


class ClosedFormUpdate(PPO):
    """Mixin for PPO: the same update, to rounding, in less than half the time.

    The loss of an MlpPolicy with a Gaussian has a gradient of a few lines. Writing it down saves the graph, the
    modules and the distributions. torch's fused Adam takes the steps, and clipping is skipped where ``max_grad_norm``
    is infinite. With a policy or a setting that the closed form doesn't cover, ``train`` is its parent's. Random
    numbers are drawn as there, and everything that hooks into the optimizer's steps works as there.
    """

    def train(self) -> None:
        """Update the policy with the rollout gathered (see ``stable_baselines3.PPO.train``)."""
        networks = None if self.use_sde else find_plain_networks(self.policy)
        if networks is None:
            super().train()
            return
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        with torch.no_grad():
            self._make_room_for_gradients()
            epochs = self._train_epochs(networks)
        self._log_update(epochs)

    def _make_room_for_gradients(self) -> None:
        for parameter in self.policy.parameters():
            if parameter.grad is None:
                parameter.grad = torch.empty_like(parameter)

    def _train_epochs(self, networks: PlainNetworks) -> list[list[Losses]]:
        """Take the optimizer's steps; return the losses of each epoch's minibatches."""
        steps, terms, epochs = DirectSteps(self.policy.optimizer), self._terms(), []
        stop = math.inf if self.target_kl is None else 1.5 * self.target_kl
        for epoch in range(self.n_epochs):
            losses: list[Losses] = []
            epochs.append(losses)
            for data in self._minibatches():
                losses.append(self._write_gradient(networks, data, terms))
                if losses[-1].approx_kl > stop:
                    break
                if math.isfinite(self.max_grad_norm):
                    torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
                steps.step()
            self._n_updates += 1
            if losses[-1].approx_kl > stop:
                if self.verbose >= 1:
                    print(f"Early stopping at step {epoch} due to reaching max kl: {losses[-1].approx_kl:.2f}")
                break
        return epochs

    def _minibatches(self) -> Iterable[RolloutBufferSamples]:
        """An epoch's minibatches; of a plain buffer all rows are gathered at once, in the same order."""
        buffer = self.rollout_buffer
        if type(buffer) not in (RolloutBuffer, LeanRolloutBuffer):
            return buffer.get(self.batch_size)
        columns = (column.split(self.batch_size) for column in next(buffer.get()))
        return map(RolloutBufferSamples, *columns)

    def _write_gradient(self, networks: PlainNetworks, data: RolloutBufferSamples, terms: Terms) -> Losses:
        """Write the gradients of all parameters; return what the minibatch tells."""
        means = networks.actor.learn_from(data.observations)
        pull, actor_losses = pull_at_actor(means, self.policy.log_std, data, terms)
        networks.actor.backward(pull)
        pull, value_loss = pull_at_critic(networks.critic.learn_from(data.observations), data, terms)
        networks.critic.backward(pull)
        return Losses(*actor_losses, value_loss)

    def _terms(self) -> Terms:
        return Terms(
            self.normalize_advantage,
            float(self._now(self.clip_range)),
            math.inf if self.clip_range_vf is None else float(self._now(self.clip_range_vf)),
            float(self.ent_coef),
            float(self.vf_coef),
        )

    def _now(self, schedule: Any) -> float:
        value: Callable[[float], float] = schedule
        return value(self._current_progress_remaining)

    def _log_update(self, epochs: list[list[Losses]]) -> None:
        every = [losses for epoch in epochs for losses in epoch]
        means = {name: float(np.mean([float(getattr(each, name)) for each in every])) for name in Losses._fields}
        means["approx_kl"] = float(np.mean([float(each.approx_kl) for each in epochs[-1]]))
        last = every[-1]
        loss = last.policy_gradient_loss + self.ent_coef * last.entropy_loss + self.vf_coef * last.value_loss
        buffer = self.rollout_buffer
        for name, value in means.items():
            self.logger.record(f"train/{name}", value)
        self.logger.record("train/loss", float(loss))
        self.logger.record(
            "train/explained_variance", explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        )
        self.logger.record("train/std", self.policy.log_std.exp().mean().item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", self._now(self.clip_range))
        if self.clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", self._now(self.clip_range_vf))


def with_closed_form(kind: type[PPO]) -> type[PPO]:
    """Make of PPO, CPPO or a subclass the same algorithm with the update of :class:`ClosedFormUpdate`."""
    return type(f"ClosedForm{kind.__name__}", (ClosedFormUpdate,) if kind is PPO else (kind, ClosedFormUpdate), {})
