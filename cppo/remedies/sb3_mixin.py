"""Adds remedies to the algorithms of stable-baselines3."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from cppo.layers.gradient_graph import find_depths
from cppo.remedies.architecture import CHANGES, change_hidden_layers
from cppo.remedies.registry import STEP_REMEDIES, check_remedies
from cppo.remedies.remedy import Remedy
from cppo.remedies.reset_last_layers import ResetLastLayers, last_layers
from cppo.remedies.unit_remedy import UnitRemedy
from cppo.sb3.mixin import ContinualBackpropMixin
from cppo.sb3.policy_layers import find_policy_layers, runs_on_zeros, trained_networks
from cppo.sb3.ppo import CPPO

if TYPE_CHECKING:
    Algorithm = BaseAlgorithm
else:
    Algorithm = object

SEEDS_OF_OTHERS = 1000
"""The remedies' seeds begin so far from the model's; continual backpropagation and environments have those between."""

RemedySettings = Mapping[str, Mapping[str, Any]]
"""The settings of remedies, by name."""


class RemediesMixin(Algorithm):
    """Remedies for an algorithm of stable-baselines3: inherit from it first, the algorithm second.

    Example::

        class RemediedSAC(RemediesMixin, SAC): ...

        model = RemediedSAC("MlpPolicy", env, remedies={"layer-norm": {}, "redo": {"every": 1000}})

    ``cppo.remedies.REMEDIES`` lists the names; the settings are the arguments of the classes and functions there.
    Those that act at optimizer steps are in ``model.interventions[name][network]``, one for each network that has an
    optimizer; their state is saved with the model and restored by ``load``. Those that are part of the network are in
    ``model.policy``, target networks included. For continual backpropagation as well, name its mixin first, then this
    one, then the algorithm.

    :param remedies: settings by name of the remedy, or names alone
    :raises ValueError: for remedies or settings that don't exist or don't go together
    :raises TypeError: for a class that doesn't name the mixins first and an algorithm second
    """

    interventions: nn.ModuleDict
    remedies: dict[str, dict[str, Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        ahead = order[: order.index(RemediesMixin)]
        if any(
            issubclass(each, BaseAlgorithm) and not issubclass(each, (RemediesMixin, ContinualBackpropMixin))
            for each in ahead
        ):
            raise TypeError(f"class {cls.__name__} must name RemediesMixin before the algorithm")
        if ContinualBackpropMixin in order[len(ahead) :]:
            raise TypeError(f"class {cls.__name__} must name ContinualBackpropMixin before RemediesMixin")

    def __init__(self, *args: Any, remedies: RemedySettings | Iterable[str] | None = None, **kwargs: Any) -> None:
        if not isinstance(self, BaseAlgorithm):
            raise TypeError(f"class {type(self).__name__}(RemediesMixin, ...) needs an algorithm behind the mixin")
        self.remedies = getattr(self, "remedies", {}) if remedies is None else _by_name(remedies)
        check_remedies(self.remedies, isinstance(self, ContinualBackpropMixin))
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        policy_class = self.policy_class
        self.policy_class = remodelling(policy_class, self.remedies)  # type: ignore[assignment]
        try:
            super()._setup_model()  # type: ignore[safe-super]
        finally:
            self.policy_class = policy_class
        self.interventions = attach(self.policy, self.remedies, self.seed)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "interventions"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, tensors = super()._get_torch_save_params()
        return [*state_dicts, *(["interventions"] if self.interventions else [])], tensors

    def dump_logs(self, *args: Any, **kwargs: Any) -> None:
        """Log the remedies' figures, then write the log as the algorithm does."""
        for name, of_network in self.interventions.items():
            for network, remedy in of_network.items():  # type: ignore[operator]
                for key, value in remedy.figures().items():
                    self.logger.record(f"remedies/{name}_{network}_{key}", value)
        super().dump_logs(*args, **kwargs)


class RemediedPPO(RemediesMixin, PPO):
    """``stable_baselines3.PPO`` with remedies against loss of plasticity."""


class RemediedCPPO(CPPO, RemediesMixin, PPO):
    """Continual PPO with further remedies; takes ``CPPO``'s arguments in their order, and ``remedies`` by name."""

    def __init__(self, *args: Any, remedies: RemedySettings | Iterable[str] = (), **kwargs: Any) -> None:
        self.remedies = _by_name(remedies)  # CPPO's own arguments are the last that it hands on
        super().__init__(*args, **kwargs)


def _by_name(remedies: RemedySettings | Iterable[str]) -> dict[str, dict[str, Any]]:
    if isinstance(remedies, Mapping):
        return {name: dict(settings) for name, settings in remedies.items()}
    return {name: {} for name in remedies}


def remodelling(policy_class: type[BasePolicy], remedies: RemedySettings) -> Callable[..., BasePolicy]:
    """Make a function that builds a policy as its class does and changes its networks at once.

    At once, because the algorithm looks for the policy's running statistics next.
    """

    @wraps(policy_class, updated=())
    def build(*args: Any, **kwargs: Any) -> BasePolicy:
        return remodel_policy(policy_class(*args, **kwargs), remedies)

    return build


def remodel_policy(policy: BasePolicy, remedies: RemedySettings) -> BasePolicy:
    """Change a policy's networks, targets included, by those of some remedies that are part of the network.

    :param policy: a policy as it was built; its optimizers are given the new parameters
    :param remedies: settings by name; other remedies than changes of the network are passed over
    :raises ValueError: if its networks can't be changed so
    """
    changes = {name: settings for name, settings in remedies.items() if name in CHANGES}
    if changes:
        optimizers = [each.optimizer for each in trained_networks(policy).values()]
        change_hidden_layers(policy, changes, policy_depths(policy), optimizers)
    return policy


def policy_depths(policy: BasePolicy) -> dict[nn.Module, int]:
    """Count the layers from each layer of a policy to the end (see ``find_depths``)."""
    return find_depths(policy, runs_on_zeros(policy))


def attach(policy: BasePolicy, remedies: RemedySettings, seed: int | None) -> nn.ModuleDict:
    """Hook those of some remedies that act at optimizer steps to a policy's optimizers.

    :param policy: the policy; its target networks stay as they are
    :param remedies: settings by name; changes of the network are passed over
    :param seed: of whatever is drawn; None derives it from torch's own seed. Each network has its own sequence.
    :return: for each name, one remedy for each network it applies to
    """
    seeds = itertools.count(SEEDS_OF_OTHERS + (torch.initial_seed() if seed is None else seed))
    trained = trained_networks(policy)
    attached = nn.ModuleDict()
    for name, kind in STEP_REMEDIES.items():
        if name in remedies:
            attached[name] = nn.ModuleDict()
            for network, arguments in _own_arguments(policy, kind, dict(remedies[name])).items():
                remedy = kind(*trained[network], seed=next(seeds) % 2**64, **arguments)
                attached[name].add_module(network, remedy)
    return attached


def _own_arguments(policy: BasePolicy, kind: type[Remedy], settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The arguments of a remedy for each network it applies to."""
    networks = trained_networks(policy)
    if issubclass(kind, UnitRemedy):
        key, layers = "hidden_layers", find_policy_layers(policy).of_network
    elif issubclass(kind, ResetLastLayers):
        last = last_layers(policy_depths(policy), settings.pop("n_layers", 1))
        trained = {name: each.parameters() for name, each in networks.items()}
        mine = {name: [layer for layer in last if layer.weight in theirs] for name, theirs in trained.items()}
        key, layers = "layers", mine
    else:
        return {name: settings for name in networks}
    initializer = "orthogonal" if getattr(policy, "ortho_init", False) else "torch_default"
    return {name: {"initializer": initializer, key: own} | settings for name, own in layers.items() if own}
