"""Continual backpropagation for a policy with several optimizers: one for each, side by side."""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import chain
from typing import Any

import torch
from stable_baselines3.common.policies import BasePolicy
from torch import Tensor, nn

from cppo.cbp.continual_backprop import ContinualBackprop
from cppo.cbp.description import Description, names_of_readers
from cppo.cbp.hooks import StayingHook
from cppo.cbp.watched_layer import WatchedLayer
from cppo.layers.traced_units import NEVER_RAN
from cppo.sb3.policy_layers import PolicyLayers, Trained, trained_networks


class ContinualBackpropPerOptimizer(nn.ModuleDict):
    """A ``ContinualBackprop`` for each optimizer, by the name of the network it trains ("actor", "critic").

    Each counts its own optimizer's steps, and judges its units by passes made for its own optimizer's loss. The actor's
    loss passes through the critic as well, but says nothing about how well the critic's units serve the critic.

    :param networks: the ``ContinualBackprop`` of each network that has hidden layers
    :param optimizers: every optimizer of the policy, by the name of its network
    :param unwatched: what ``describe`` says of other networks, by name
    """

    def __init__(
        self,
        networks: dict[str, ContinualBackprop],
        optimizers: dict[str, torch.optim.Optimizer],
        unwatched: dict[str, Description],
    ) -> None:
        super().__init__(networks)
        self._unwatched = unwatched
        self._optimizers = optimizers
        self._hooks = [[LossHook() for _ in layer.hidden_layer.outgoing] for layer in self.layers]
        self._watch()

    def _watch(self) -> None:
        """Hook into the readers of all layers and into the optimizers."""
        for layer, hooks in zip(self.layers, self._hooks, strict=True):
            for reader, hook in zip(layer.hidden_layer.outgoing, hooks, strict=True):
                hook.attach(reader)
        self._handles = [
            optimizer.register_step_post_hook(partial(self._after_step, name))
            for name, optimizer in self._optimizers.items()
        ]

    def networks(self) -> Iterator[tuple[str, ContinualBackprop]]:
        """Yield the mapping's items, typed."""
        for name, network in self.items():
            assert isinstance(network, ContinualBackprop)
            yield name, network

    @property
    def layers(self) -> list[WatchedLayer]:
        """The watched layers of all networks."""
        return [layer for _, network in self.networks() for layer in network.layers]

    @property
    def n_replaced(self) -> Tensor:
        """Number of units replaced so far in each of ``layers``."""
        return torch.cat([network.n_replaced for _, network in self.networks()])

    @property
    def total_replaced(self) -> int:
        """Number of units replaced so far, over all networks."""
        return int(self.n_replaced.sum())

    def describe(self) -> str:
        """A table for each network: the layers watched with their readers, those left out with the reason."""
        tables = [(name, network.describe()) for name, network in self.networks()]
        tables += [(name, description.table()) for name, description in self._unwatched.items()]
        return "\n\n".join(f"{name}\n{table}" for name, table in tables)

    def remove(self) -> None:
        """Stop watching and replacing in all networks."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        for hook in chain(*self._hooks):
            hook.detach()
        for _, network in self.networks():
            network.remove()

    def _after_step(self, own: str, *_: Any) -> None:
        """Forget passes of the last loss through layers of others: it was that of the optimizer that stepped."""
        others = {layer for name, network in self.networks() if name != own for layer in network.layers}
        for layer, hooks in zip(self.layers, self._hooks, strict=True):
            if any(hook.was_used for hook in hooks) and layer in others:
                layer.forget()
            for hook in hooks:
                hook.was_used = False

    def __getstate__(self) -> dict[str, Any]:
        # As in ContinualBackprop: a copy needs to know whether there were hooks.
        return self.__dict__ | {"_handles": [None for _ in self._handles]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self._handles:
            self._watch()


class LossHook(StayingHook):
    """Notes that a loss is backpropagated through a layer; the next optimizer step shows whose loss it was."""

    was_used = False

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """See ``StayingHook``."""
        features = args[0] if args else kwargs["input"]
        if module.training and torch.is_grad_enabled() and features.requires_grad:
            features.register_hook(self._note)

    def _note(self, gradient: Tensor) -> None:
        self.was_used = True


def watch_policy(
    policy: BasePolicy, layers: PolicyLayers, seed: int | None, **settings: Any
) -> ContinualBackprop | ContinualBackpropPerOptimizer:
    """Put continual backpropagation into a policy.

    :param policy: the policy; its target networks stay as they are
    :param seed: of the new units' weights; None derives it from torch's own seed. Each optimizer has its own sequence.
    :return: a ``ContinualBackprop`` for a policy with one optimizer, else one for each that has hidden layers
    """
    trained = trained_networks(policy)
    first_seed = torch.initial_seed() if seed is None else seed
    watched = {
        name: ContinualBackprop(
            trained[name].network,
            trained[name].optimizer,
            hidden_layers=records,
            seed=(first_seed + number) % 2**64,
            **settings,
        )
        for number, (name, records) in enumerate(layers.of_network.items())
        if records
    }
    reasons = _reasons_by_network(policy, layers.left_out, trained)
    for name, network in watched.items():
        readers = names_of_readers(policy, [layer.hidden_layer for layer in network.layers])
        network.description = Description(readers, reasons[name])
        unknown = (layer for layer, reason in reasons.pop(name).items() if reason == NEVER_RAN)
        network.integrity.warn_if_trained((layer, policy.get_submodule(layer)) for layer in unknown)
    if len(trained) == 1:
        return watched.popitem()[1]
    unwatched = {name: Description([], reason) for name, reason in reasons.items()}
    return ContinualBackpropPerOptimizer(watched, {name: each.optimizer for name, each in trained.items()}, unwatched)


def _reasons_by_network(
    policy: BasePolicy, left_out: Mapping[str, str], trained: Mapping[str, Trained]
) -> dict[str, dict[str, str]]:
    """Sort the layers left out by the network they belong to; what belongs to none has no optimizer."""
    owners: dict[nn.Module, str] = {}
    for name, (network, _) in trained.items():
        for module in network.modules():
            owners.setdefault(module, name)
    sorted_out: dict[str, dict[str, str]] = {name: {} for name in trained}
    for layer, reason in left_out.items():
        sorted_out.setdefault(owners.get(policy.get_submodule(layer), "not trained"), {})[layer] = reason
    return sorted_out
