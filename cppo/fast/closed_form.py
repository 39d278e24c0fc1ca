"""PPO's update with its gradient written down instead of found by autograd."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.utils import explained_variance

from cppo import compiled
from cppo.fast.loss import Losses, Terms, actor_loss_gradient, critic_loss_gradient
from cppo.fast.networks import NotPlainError, PlainNetworks, find_plain_networks


class ClosedFormUpdate(PPO):
    """Mixin for PPO: the same update, to rounding, in less than half the time.

    The loss of an MlpPolicy with a Gaussian has a gradient of a few lines. Writing it down saves the graph, the
    modules and the distributions. torch's fused Adam takes the steps, and clipping is skipped where ``max_grad_norm``
    is infinite. Random numbers are drawn as by the parent, and hooks of the optimizer run as there.

    :raises ValueError: at set-up, and in ``train`` if it has changed since, for a policy that the formula doesn't
        cover; names what it is that it doesn't
    """

    def _setup_model(self) -> None:
        super()._setup_model()
        self._find_networks()

    def _find_networks(self) -> PlainNetworks:
        """Find actor and critic, and check that the compiled loops can work on them."""
        try:
            networks = find_plain_networks(self.policy)
            if compiled.numba is None:
                raise NotPlainError("numba is missing (pip install 'cppo[fast]')")
            if self.policy.device.type != "cpu":
                raise NotPlainError(f"the policy is on {self.policy.device}, not on the cpu")
            if not all(map(compiled.can_take, self.policy.parameters())):
                raise NotPlainError("the policy's parameters are no plain tensors of single or double precision")
        except NotPlainError as reason:
            raise ValueError(f"the closed-form update can't run: {reason}; use --update autograd") from reason
        return networks

    def train(self) -> None:
        """Update the policy with the rollout gathered (see ``stable_baselines3.PPO.train``)."""
        networks = self._find_networks()
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        ask_for_fused_steps(self.policy.optimizer)
        for parameter in self.policy.parameters():
            parameter.grad = torch.empty_like(parameter)
        with torch.no_grad():
            epochs = self._train_epochs(networks)
        self._log_update(epochs)

    def _train_epochs(self, networks: PlainNetworks) -> list[list[Losses]]:
        """Take the optimizer's steps; return the losses of each epoch's minibatches."""
        terms, epochs = self._terms(), []
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
                self.policy.optimizer.step()
            self._n_updates += 1
            if losses[-1].approx_kl > stop:
                if self.verbose >= 1:
                    print(f"Early stopping at step {epoch} due to reaching max kl: {losses[-1].approx_kl:.2f}")
                break
        return epochs

    def _minibatches(self) -> Iterable[RolloutBufferSamples]:
        """Yield an epoch's minibatches; of a plain buffer all rows are gathered at once, in the same order."""
        buffer = self.rollout_buffer
        if type(buffer) is not RolloutBuffer:
            return buffer.get(self.batch_size)
        columns = (column.split(self.batch_size) for column in next(buffer.get()))
        return map(RolloutBufferSamples, *columns)

    def _write_gradient(self, networks: PlainNetworks, data: RolloutBufferSamples, terms: Terms) -> Losses:
        """Write the gradients of all parameters; return the minibatch's losses."""
        means = networks.actor.learn_from(data.observations)
        actor_losses = actor_loss_gradient(means, self.policy.log_std, data, terms)
        networks.actor.backward(means)
        values = networks.critic.learn_from(data.observations)
        value_loss = critic_loss_gradient(values, data, terms)
        networks.critic.backward(values)
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
        means = Losses(*np.mean([losses for epoch in epochs for losses in epoch], axis=0).tolist())
        means = means._replace(approx_kl=float(np.mean([losses.approx_kl for losses in epochs[-1]])))
        last, buffer = epochs[-1][-1], self.rollout_buffer
        for name, value in means._asdict().items():
            self.logger.record(f"train/{name}", value)
        loss = last.policy_gradient_loss + self.ent_coef * last.entropy_loss + self.vf_coef * last.value_loss
        self.logger.record("train/loss", loss)
        self.logger.record(
            "train/explained_variance", explained_variance(buffer.values.flatten(), buffer.returns.flatten())
        )
        self.logger.record("train/std", self.policy.log_std.exp().mean().item())
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/clip_range", self._now(self.clip_range))
        if self.clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", self._now(self.clip_range_vf))


def ask_for_fused_steps(optimizer: torch.optim.Optimizer) -> None:
    """Have Adam take its steps with torch's fused kernel, unless the user chose another implementation.

    A state that is loaded brings the flag with which it was saved, so ask before each update.
    """
    if isinstance(optimizer, torch.optim.Adam):  # AdamW is one
        for group in optimizer.param_groups:
            if not any(group[other] for other in ("foreach", "capturable", "differentiable")):
                group["fused"] = True


def with_closed_form(kind: type[PPO]) -> type[PPO]:
    """Make of PPO, CPPO or a subclass the same algorithm with the update of :class:`ClosedFormUpdate`."""
    return type(f"ClosedForm{kind.__name__}", (ClosedFormUpdate,) if kind is PPO else (kind, ClosedFormUpdate), {})
