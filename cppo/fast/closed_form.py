"""PPO's update with its gradient written down instead of found by autograd."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.utils import explained_variance
from torch import Tensor, nn

from cppo import compiled
from cppo.fast.gradient import Chain, Losses, Minibatch, Terms, write_gradients
from cppo.fast.networks import NotPlainError, PlainNetwork, PlainNetworks, find_plain_networks

try:
    import threadpoolctl
except ImportError:  # pragma: no cover - the tests run with it
    threadpoolctl = None


_GRADIENT = operator.attrgetter("grad")


class CannotRunError(ValueError):
    """The closed form doesn't cover a policy, or what it needs isn't installed; the message says what."""


class ClosedFormUpdate(PPO):
    """Mixin for PPO: the same update, to rounding, in less than half the time.

    One compiled function writes the gradient of a minibatch (``gradient.py``), which saves the graph, the modules and
    the distributions. torch's fused Adam takes the steps, and clipping is skipped where ``max_grad_norm`` is infinite.
    Random numbers are drawn as by the parent, hooks of the optimizer run as there. OpenBLAS has one thread
    meanwhile: two of them on a busy core would wait for each other, and the number of threads would change the sums.

    :raises CannotRunError: at set-up, and in ``train`` if it has changed since, for a policy that the formula doesn't
        cover; names what it is that it doesn't
    """

    def _setup_model(self) -> None:
        super()._setup_model()
        self._find_networks()

    def _find_networks(self) -> PlainNetworks:
        """Find actor and critic, and check that the compiled loops can work on them."""
        try:
            networks = find_plain_networks(self.policy)
            for name, package in (("numba", compiled.numba), ("threadpoolctl", threadpoolctl)):
                if package is None:
                    raise NotPlainError(f"{name} is missing (pip install 'cppo[fast]')")
            if self.policy.device.type != "cpu":
                raise NotPlainError(f"the policy is on {self.policy.device}, not on the cpu")
            if not all(map(compiled.can_take, self.policy.parameters())):
                raise NotPlainError("the policy's parameters are no plain tensors of single or double precision")
        except NotPlainError as reason:
            raise CannotRunError(f"the closed-form update can't run: {reason}; use --update autograd") from reason
        return networks

    def train(self) -> None:
        """Update the policy with the rollout gathered (see ``stable_baselines3.PPO.train``)."""
        networks = self._find_networks()
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        ask_for_fused_steps(self.policy.optimizer)
        with torch.no_grad(), threadpoolctl.threadpool_limits(1, user_api="blas"):
            epochs = self._train_epochs(PolicyGradient(self.policy, networks, self.batch_size))
        self._log_update(epochs)

    def _train_epochs(self, gradient: PolicyGradient) -> list[list[Losses]]:
        """Take the optimizer's steps; return the losses of each epoch's minibatches."""
        terms, epochs = self._terms(), []
        stop = math.inf if self.target_kl is None else 1.5 * self.target_kl
        for epoch in range(self.n_epochs):
            losses: list[Losses] = []
            epochs.append(losses)
            for data in self._minibatches():
                if not gradient.can_write(len(data.advantages)):
                    gradient = PolicyGradient(self.policy, self._find_networks(), len(data.advantages))
                losses.append(gradient.write(data, terms))
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

    def _minibatches(self) -> Iterator[Minibatch]:
        """Yield an epoch's minibatches as arrays; of a plain buffer all rows are gathered at once, in that order."""
        is_plain = type(self.rollout_buffer) is RolloutBuffer
        for data in self.rollout_buffer.get(None if is_plain else self.batch_size):
            columns = [np.ascontiguousarray(column, self.policy.log_std.detach().numpy().dtype) for column in data]
            size = self.batch_size if is_plain else len(columns[0])
            for start in range(0, len(columns[0]), size):
                yield Minibatch(*(column[start : start + size] for column in columns))

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


class PolicyGradient:
    """Writes the gradients of a policy's parameters, and shows the features to continual backpropagation's hooks.

    :param policy: whose they are
    :param networks: its actor and critic
    :param n_samples: at most, of a minibatch
    """

    def __init__(self, policy: ActorCriticPolicy, networks: PlainNetworks, n_samples: int) -> None:
        self._n_samples = n_samples
        self._parameters = list(policy.parameters())
        self._gradients = [torch.empty_like(parameter) for parameter in self._parameters]
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        self._places = _addresses(self._parameters)
        self._log_std = policy.log_std.detach().numpy(), policy.log_std.grad.numpy()  # type: ignore[union-attr]
        self._rooms = [
            [linear.weight.new_empty(2, n_samples, linear.out_features) for linear in network.linears]
            for network in networks
        ]
        self._chains = [_chain(*each) for each in zip(networks, self._rooms, strict=True)]
        self._features = [room[0] for rooms in self._rooms for room in rooms[:-1]]
        self._sizes = [features.shape[1] for features in self._features]
        readers = [linear for network in networks for linear in network.linears[1:]]
        self._hooks = [  # FeatureHooks all, as was made sure of
            (number, hook) for number, reader in enumerate(readers) for hook in reader._forward_pre_hooks.values()
        ]

    def can_write(self, n_samples: int) -> bool:
        """Whether as many samples fit in, and no hook of the optimizer has moved a parameter or a gradient."""
        return (
            n_samples <= self._n_samples
            and self._places == _addresses(self._parameters)
            and all(map(operator.is_, map(_GRADIENT, self._parameters), self._gradients))
        )

    def write(self, data: Minibatch, terms: Terms) -> Losses:
        """Write the gradients of a minibatch; return its losses."""
        seen = np.empty((2, sum(self._sizes)), data.advantages.dtype)
        losses = write_gradients(*self._chains, *self._log_std, data, terms, seen)
        means, n_samples = torch.from_numpy(seen.reshape(-1)).split(2 * self._sizes), len(data.advantages)
        for number, hook in self._hooks:
            magnitude = means[number + len(self._sizes)]
            hook.see(self._features[number][:n_samples], means[number], magnitude)  # type: ignore[attr-defined]
        return losses


def _chain(network: PlainNetwork, rooms: list[Tensor]) -> Chain:
    weights, biases = [each.weight for each in network.linears], [each.bias for each in network.linears]
    outputs, errors = zip(*rooms, strict=True)
    matrices = weights, biases, map(_GRADIENT, weights), map(_GRADIENT, biases), outputs, errors
    places = np.array([_addresses(each) for each in matrices], np.int64)
    widths = np.array([weights[0].shape[1], *map(len, weights)], np.int64)
    return Chain(widths, places, network.activation is nn.ReLU, weights[0].detach().numpy()[:0])


def _addresses(tensors: Iterable[Tensor]) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


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
