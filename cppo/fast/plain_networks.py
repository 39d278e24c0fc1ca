"""Actor and critic of an MlpPolicy as matrices, for those who pass through them without torch's modules and autograd.

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
from cppo.fast.matmul import products_for

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


class Room(NamedTuple):
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
        self._products = [products_for(linear.weight) for linear in linears]
        self._activate, self._activate_in_place, self._slope = ACTIVATIONS[activation]
        self._given: list[Tensor] = []
        self._rooms: dict[int, Room] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """The output, bit for bit as the modules'."""
        *hidden, last = self.linears
        for linear in hidden:
            x = self._activate(functional.linear(x, linear.weight, linear.bias))
        return functional.linear(x, last.weight, last.bias)

    def learn_from(self, x: Tensor) -> Tensor:
        """The same to rounding, remembering what ``backward`` needs and showing continual backpropagation the features.

        The output and the features stay as they are until the next time.
        """
        self._given = []
        outputs = self._room_for(x).outputs
        for number, (weight, bias) in enumerate(self._parameters):
            x = self._activate_in_place(x) if number else x
            self._given.append(x)
            for hook in self.linears[number]._forward_pre_hooks.values():
                hook.see(x)  # type: ignore[attr-defined] # a FeatureHook's, as was made sure of
            x = self._products[number].output(x, weight, bias, outputs[number])
        return x

    def backward(self, error: Tensor) -> None:
        """Write the gradients of all weights, given that of the output of the last ``learn_from``."""
        errors = self._room_for(error).errors
        for number in range(len(self.linears) - 1, -1, -1):
            (weight, bias), given, products = self._parameters[number], self._given[number], self._products[number]
            assert weight.grad is not None
            products.weight_gradient(error, given, weight.grad)
            torch.sum(error, 0, out=bias.grad)
            if number:
                error = self._slope(products.input_gradient(error, weight, errors[number]), given)

    def _room_for(self, batch: Tensor) -> Room:
        """Memory for as many samples; asking the system for new memory takes longer than filling it."""
        n = len(batch)
        if n not in self._rooms:
            self._rooms[n] = Room(
                [batch.new_empty(n, linear.out_features) for linear in self.linears],
                [batch.new_empty(n, linear.in_features) for linear in self.linears],
            )
        return self._rooms[n]


class PlainNetworks(NamedTuple):
    """Actor and critic of a policy that has nothing else.

    :param actor: means of the actions
    :param critic: the value
    """

    actor: PlainNetwork
    critic: PlainNetwork


def find_plain_networks(policy: Any) -> PlainNetworks | None:
    """The networks of a policy, if they are all that it computes with.

    :return: None if there is anything that this module doesn't know: other layers or activations, a features extractor,
        frozen weights, hooks on the modules other than continual backpropagation's
    """
    if not (isinstance(policy, ActorCriticPolicy) and _has_plain_spaces(policy)):
        return None
    extractor = policy.mlp_extractor
    actor = _chain(extractor.policy_net, policy.action_net)
    critic = _chain(extractor.value_net, policy.value_net)
    if actor is None or critic is None:
        return None
    known = {policy.log_std, *(p for each in [*actor.linears, *critic.linears] for p in each.parameters())}
    if known != set(policy.parameters()) or not all(p.requires_grad for p in known):
        return None
    return PlainNetworks(actor, critic)


def _has_plain_spaces(policy: ActorCriticPolicy) -> bool:
    """Whether vectors come in as they are, and a Gaussian without gSDE says what goes out."""
    space = policy.observation_space
    return (
        isinstance(space, spaces.Box)
        and len(space.shape) == 1
        and type(policy.features_extractor) is FlattenExtractor
        and policy.share_features_extractor
        and type(policy.action_dist) is DiagGaussianDistribution
    )


def _chain(hidden: nn.Module, last: nn.Module) -> PlainNetwork | None:
    """Linear layers with one and the same activation after each but the last."""
    if type(hidden) is not nn.Sequential:
        return None
    modules = [*hidden, last]
    linears, activations = modules[::2], modules[1::2]
    kinds = {type(module) for module in activations}
    if len(modules) % 2 == 0 or len(kinds) != 1 or not kinds <= set(ACTIVATIONS):
        return None
    if not all(type(module) is nn.Linear and module.bias is not None for module in linears):
        return None
    if not all(map(_hears_features_only, (hidden, *modules))):
        return None
    return PlainNetwork(linears, kinds.pop())


def _hears_features_only(module: nn.Module) -> bool:
    """Whether nothing but continual backpropagation listens to a module."""
    others = (module._forward_hooks, module._backward_hooks, module._backward_pre_hooks)
    return not any(others) and all(isinstance(hook, FeatureHook) for hook in module._forward_pre_hooks.values())
