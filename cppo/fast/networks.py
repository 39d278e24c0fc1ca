"""Actor and critic of an MlpPolicy as chains of matrices, computed without torch's modules and autograd.

Between two steps of a physics engine, or in minibatches of a hundred samples, modules, hooks and the graph cost more
time than the matrix products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from gymnasium import spaces
from stable_baselines3.common.distributions import DiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import Tensor, nn
from torch.nn import functional

from cppo.cbp.features import FeatureHook
from cppo.fast.matmul import matmul_for

Activate = Callable[[Tensor], Tensor]
Slope = Callable[[Tensor, Tensor], Tensor]


def _through_relu(error: Tensor, given: Tensor) -> Tensor:
    return torch.ops.aten.threshold_backward.grad_input(error, given, 0, grad_input=error)


def _through_tanh(error: Tensor, given: Tensor) -> Tensor:
    return torch.ops.aten.tanh_backward.grad_input(error, given, grad_input=error)


ACTIVATIONS: dict[type[nn.Module], tuple[Activate, Activate, Slope]] = {
    nn.ReLU: (torch.relu, torch.relu_, _through_relu),
    nn.Tanh: (torch.tanh, torch.tanh_, _through_tanh),
}
"""Activations, the same in place, and how an error passes back through them in place, given their output."""


class NotPlainError(ValueError):
    """A policy computes with more than two chains of linear layers and a Gaussian; the message says what."""


class Workspace(NamedTuple):
    """Memory for what a network computes in a minibatch.

    :param outputs: of each linear layer
    :param errors: the loss' gradients by each linear layer's input
    """

    outputs: list[Tensor]
    errors: list[Tensor]


class PlainNetwork:
    """A chain of linear layers with one activation between them.

    :param linears: the layers, the output's last
    :param activation: the class of the modules between them
    """

    def __init__(self, linears: list[nn.Linear], activation: type[nn.Module]) -> None:
        self.linears = linears
        self.activation = activation
        # Looking them up in the modules takes a microsecond each.
        self._parameters = [(linear.weight, linear.bias) for linear in linears]
        self._matmuls = [matmul_for(linear.weight) for linear in linears]
        self._activate, self._activate_in_place, self._slope = ACTIVATIONS[activation]
        self._given: list[Tensor] = []
        self._workspaces: dict[int, Workspace] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """Compute the output as the modules do, bit for bit."""
        *hidden, last = self.linears
        for linear in hidden:
            x = self._activate(functional.linear(x, linear.weight, linear.bias))
        return functional.linear(x, last.weight, last.bias)

    def learn_from(self, x: Tensor) -> Tensor:
        """Compute the output to rounding, keep what ``backward`` needs, and show the features to CBP's hooks.

        The output and the features are overwritten by the next call.
        """
        self._given = []
        outputs = self._workspace_for(x).outputs
        for number, (weight, bias) in enumerate(self._parameters):
            x = self._activate_in_place(x) if number else x
            self._given.append(x)
            for hook in self.linears[number]._forward_pre_hooks.values():
                hook.see(x)  # type: ignore[attr-defined] # a FeatureHook's, as was made sure of
            x = self._matmuls[number].output(x, weight, bias, outputs[number])
        return x

    def backward(self, error: Tensor) -> None:
        """Write the gradients of all weights, given that of the output of the last ``learn_from``."""
        errors = self._workspace_for(error).errors
        for number in range(len(self.linears) - 1, -1, -1):
            (weight, bias), given, matmul = self._parameters[number], self._given[number], self._matmuls[number]
            assert weight.grad is not None
            matmul.weight_gradient(error, given, weight.grad)
            torch.sum(error, 0, out=bias.grad)
            if number:
                error = self._slope(matmul.input_gradient(error, weight, errors[number]), given)

    def _workspace_for(self, batch: Tensor) -> Workspace:
        """Memory for as many samples; asking the system for new memory takes longer than filling it."""
        n = len(batch)
        if n not in self._workspaces:
            self._workspaces[n] = Workspace(
                [batch.new_empty(n, linear.out_features) for linear in self.linears],
                [batch.new_empty(n, linear.in_features) for linear in self.linears],
            )
        return self._workspaces[n]


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
