"""Actor and critic of an MlpPolicy as chains of matrices, computed without torch's modules and autograd.

Between two steps of a physics engine modules, hooks and the graph cost more time than the matrix products.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn
from torch.nn import functional

from cppo.cbp.features import FeatureHook

Matrices = tuple[np.ndarray, ...]

ACTIVATIONS: dict[type[nn.Module], Callable[[Tensor], Tensor]] = {nn.ReLU: torch.relu, nn.Tanh: torch.tanh}


class NotPlainError(ValueError):
    """A policy computes with more than two chains of linear layers and a Gaussian; the message says what."""


class PlainNetwork(NamedTuple):
    """A chain of linear layers with one activation between them.

    :param linears: the layers, the output's last
    :param activation: the class of the modules between them
    """

    linears: list[nn.Linear]
    activation: type[nn.Module]

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the output as the modules do, bit for bit."""
        *hidden, last = self.linears
        for linear in hidden:
            x = ACTIVATIONS[self.activation](functional.linear(x, linear.weight, linear.bias))
        return functional.linear(x, last.weight, last.bias)

    def arrays(self) -> tuple[Matrices, Matrices, bool]:
        """Take weights and biases as arrays that share their memory; say whether the activation is a ReLU."""
        weights = tuple(linear.weight.detach().numpy() for linear in self.linears)
        biases = tuple(linear.bias.detach().numpy() for linear in self.linears)
        return weights, biases, self.activation is nn.ReLU


class PlainNetworks(NamedTuple):
    """Actor and critic of a policy that has nothing else.

    :param actor: means of the actions
    :param critic: the value
    """

    actor: PlainNetwork
    critic: PlainNetwork


def find_plain_networks(policy: Any) -> PlainNetworks:
    """Find the networks of a policy that computes with nothing but them and a Gaussian.

    :raises NotPlainError: names what else there is: other layers or activations, a features extractor, another
        distribution, frozen weights, hooks on the modules other than continual backpropagation's
    """
    if not isinstance(policy, ActorCriticPolicy):
        raise NotPlainError(f"{type(policy).__name__} is no MlpPolicy")
    _check_ends(policy)
    extractor = policy.mlp_extractor
    actor = _chain("actor", extractor.policy_net, policy.action_net)
    critic = _chain("critic", extractor.value_net, policy.value_net)
    known = {policy.log_std, *(p for each in [*actor.linears, *critic.linears] for p in each.parameters())}
    if known != set(policy.parameters()):
        raise NotPlainError("the policy has parameters besides those of actor and critic")
    if not all(parameter.requires_grad for parameter in known):
        raise NotPlainError("some of the policy's parameters are frozen")
    return PlainNetworks(actor, critic)


def _check_ends(policy: ActorCriticPolicy) -> None:
    """Check that vectors come in as they are, and that a Gaussian without gSDE says what goes out."""
    space, distribution = policy.observation_space, type(policy.action_dist)
    if not isinstance(space, spaces.Box) or len(space.shape) != 1:
        raise NotPlainError(f"observations are no vectors, but {space}")
    if type(policy.features_extractor) is not FlattenExtractor or not policy.share_features_extractor:
        raise NotPlainError(f"the policy has a features extractor, {type(policy.features_extractor).__name__}")
    if policy.use_sde:
        raise NotPlainError("actions are drawn with gSDE")
    if distribution is not DiagGaussianDistribution:
        raise NotPlainError(f"actions are drawn from a {distribution.__name__}, not from a Gaussian")


def _chain(name: str, hidden: nn.Module, last: nn.Module) -> PlainNetwork:
    """Take a network for linear layers with one and the same activation after each but the last."""
    modules = [*hidden.children(), last]
    linears, kinds = modules[::2], {type(module) for module in modules[1::2]}
    leaves = [part for part in [*hidden.modules()][1:] if not [*part.children()]]
    if unknown := [type(part).__name__ for part in leaves if type(part) not in (nn.Linear, *ACTIVATIONS)]:
        raise NotPlainError(f"the {name} has a {unknown[0]}")
    are_linear = all(type(module) is nn.Linear and module.bias is not None for module in linears)
    is_even = type(hidden) is nn.Sequential and len(modules) % 2 == 1 and len(kinds) == 1 and kinds <= set(ACTIVATIONS)
    if not (are_linear and is_even):
        raise NotPlainError(f"the {name} is no chain of hidden layers with one activation")
    if not all(map(_hears_features_only, (hidden, *modules))):
        raise NotPlainError(f"somebody's hook listens to the {name}")
    return PlainNetwork(linears, kinds.pop())  # type: ignore[arg-type] # checked above


def _hears_features_only(module: nn.Module) -> bool:
    """Say whether nothing but continual backpropagation listens to a module."""
    others = (module._forward_hooks, module._backward_hooks, module._backward_pre_hooks)
    return not any(others) and all(isinstance(hook, FeatureHook) for hook in module._forward_pre_hooks.values())
