"""Puts remedies into a stable-baselines3 algorithm."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial, wraps
from typing import TYPE_CHECKING, Any

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from cppo.layers.gradient_graph import find_depths
from cppo.remedies.architecture import CHANGES, change_hidden_layers
from cppo.remedies.base import Intervention
from cppo.remedies.registry import INTERVENTIONS, check_remedies
from cppo.remedies.reset_last_layers import ResetLastLayers, last_layers
from cppo.remedies.units import UnitIntervention
from cppo.sb3.mixin import ContinualBackpropMixin
from cppo.sb3.policy_layers import find_policy_layers, trained_networks
from cppo.sb3.policy_runs import run_network, zero_observation
from cppo.sb3.ppo import CPPO

if TYPE_CHECKING:
    Algorithm = BaseAlgorithm
else:
    Algorithm = object

SEEDS_OF_OTHERS = 1000
"""Seeds from the model's own on that are left to continual backpropagation and the environments."""

Remedies = Mapping[str, Mapping[str, Any]]
"""Settings by name of the remedy."""


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

    def __init__(self, *args: Any, remedies: Remedies | Iterable[str] | None = None, **kwargs: Any) -> None:
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
        """Add to the log what the remedies did, then write it as the algorithm does."""
        for remedy, network, intervention in self._at_work():
            for key, value in intervention.figures().items():
                self.logger.record(f"remedies/{remedy}_{network}_{key}", value)
        super().dump_logs(*args, **kwargs)

    def _at_work(self) -> Iterator[tuple[str, str, Intervention]]:
        for remedy, networks in self.interventions.items():
            for network, intervention in networks.items():  # type: ignore[operator]
                yield remedy, network, intervention


class RemediedPPO(RemediesMixin, PPO):
    """``stable_baselines3.PPO`` with remedies against loss of plasticity."""


class RemediedCPPO(CPPO, RemediesMixin, PPO):
    """Continual PPO with further remedies; takes their settings and what ``CPPO`` takes, by name or in its order."""

    def __init__(self, *args: Any, remedies: Remedies | Iterable[str] = (), **kwargs: Any) -> None:
        self.remedies = _by_name(remedies)  # CPPO's own arguments are the last that it hands on
        super().__init__(*args, **kwargs)


def _by_name(remedies: Remedies | Iterable[str]) -> dict[str, dict[str, Any]]:
    if isinstance(remedies, Mapping):
        return {name: dict(settings) for name, settings in remedies.items()}
    return {name: {} for name in remedies}


def remodelling(policy_class: type[BasePolicy], remedies: Remedies) -> Callable[..., BasePolicy]:
    """What builds a policy as its class does and remodels it at once: the algorithm looks for running statistics next.

    :param policy_class: the class
    :param remedies: settings by name
    """

    @wraps(policy_class, updated=())
    def build(*args: Any, **kwargs: Any) -> BasePolicy:
        return remodel_policy(policy_class(*args, **kwargs), remedies)

    return build


def remodel_policy(policy: BasePolicy, remedies: Remedies) -> BasePolicy:
    """Make those changes to a policy's networks, targets included, that are among some remedies.

    :param policy: a policy as it was built; its optimizers are given the new parameters
    :param remedies: settings by name; other remedies than changes of the network are passed over
    :return: the policy
    :raises ValueError: if its networks can't be changed so
    """
    changes = {name: settings for name, settings in remedies.items() if name in CHANGES}
    if changes:
        optimizers = [each.optimizer for each in trained_networks(policy).values()]
        change_hidden_layers(policy, changes, policy_depths(policy), optimizers)
    return policy


def policy_depths(policy: BasePolicy) -> dict[nn.Module, int]:
    """How far from the end the layers of a policy are (see ``find_depths``)."""
    observation = zero_observation(policy)
    networks = [each.network for each in trained_networks(policy).values()]
    return find_depths(policy, [partial(run_network, policy, network, observation) for network in networks])


def attach(policy: BasePolicy, remedies: Remedies, seed: int | None) -> nn.ModuleDict:
    """Put those of some remedies to work on a policy that act at optimizer steps.

    :param policy: the policy; its target networks stay as they are
    :param remedies: settings by name; changes of the network are passed over
    :param seed: of whatever is drawn; None derives it from torch's own seed. Each network has its own sequence.
    :return: for each remedy, one intervention for each network it applies to
    """
    seeds = itertools.count(SEEDS_OF_OTHERS + (torch.initial_seed() if seed is None else seed))
    trained = trained_networks(policy)
    at_work = nn.ModuleDict()
    for name, kind in INTERVENTIONS.items():
        if name in remedies:
            own = _own_arguments(policy, kind, dict(remedies[name]))
            at_work[name] = nn.ModuleDict(
                {
                    network: kind(*trained[network], seed=next(seeds) % 2**64, **arguments)
                    for network, arguments in own.items()
                }
            )
    return at_work


def _own_arguments(policy: BasePolicy, kind: type[Intervention], settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The arguments of an intervention for each network it applies to."""
    initializer = "orthogonal" if getattr(policy, "ortho_init", False) else "torch_default"
    if issubclass(kind, UnitIntervention):
        layers = find_policy_layers(policy).of_network
        return {
            name: {"initializer": initializer, "hidden_layers": records} | settings
            for name, records in layers.items()
            if records
        }
    if issubclass(kind, ResetLastLayers):
        last = last_layers(policy_depths(policy), settings.pop("n_layers", 1))
        trained = {name: each.parameters() for name, each in trained_networks(policy).items()}
        mine = {name: [layer for layer in last if layer.weight in theirs] for name, theirs in trained.items()}
        return {
            name: {"initializer": initializer, "layers": layers} | settings for name, layers in mine.items() if layers
        }
    return {name: settings for name in trained_networks(policy)}
