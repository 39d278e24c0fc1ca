"""Builds the agent of a run."""

import dataclasses
import inspect
from functools import partial
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from cppo.cbp.initializers import INITIALIZERS, draw_weights
from cppo.fast.closed_form import CannotRunError, ClosedFormUpdate, with_closed_form
from cppo.fast.policy import LeanMlpPolicy, QuickMlpPolicy
from cppo.layers.hidden_layer import LAYERS_WITH_UNITS
from cppo.remedies.sb3_mixin import RemediedCPPO, RemediedPPO, remodel_policy
from cppo.sb3.policy_layers import layers_of
from cppo.sb3.ppo import CPPO
from cppo.settings.limits import CONTINUAL_BACKPROP_FIELDS
from cppo.settings.settings import Settings
from cppo.training.spaces import as_seen, check_spaces, choose_policy

ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "elu": nn.ELU, "leaky_relu": nn.LeakyReLU, "silu": nn.SiLU}
PPO_FIELDS = {field.name for field in dataclasses.fields(Settings)} & inspect.signature(PPO).parameters.keys()
PPO_FIELDS -= {"env", "policy"}
"""The settings that PPO takes under the same name."""


def policy_arguments(settings: Settings) -> dict[str, Any]:
    """Keyword arguments of the policy: networks and optimizer."""
    return {
        "net_arch": list(settings.net_arch),
        "activation_fn": ACTIVATIONS[settings.activation],
        "ortho_init": settings.weight_init == "orthogonal",
        "optimizer_kwargs": {"betas": settings.betas, "eps": settings.adam_eps, "weight_decay": settings.weight_decay},
    }


def policy_class(settings: Settings, observation_space: spaces.Space) -> type[ActorCriticPolicy]:
    """The class of a run's policy, in stable-baselines3.

    :raises ValueError: if it can't take these observations
    """
    return PPO.policy_aliases[choose_policy(observation_space, settings.policy)]  # type: ignore[return-value]


def as_built(settings: Settings, model: PPO) -> Settings:
    """The settings of a run with what was chosen for its agent: the kind of policy and the kind of update."""
    policy: Any = next(name for name, kind in PPO.policy_aliases.items() if kind is model.policy_class)
    update: Any = "closed-form" if isinstance(model, ClosedFormUpdate) else "autograd"
    return dataclasses.replace(settings, policy=policy, update=update)


def build_model(settings: Settings, env: VecEnv) -> PPO:
    """Build the algorithm of a run.

    :param settings: resolved settings
    :raises ValueError: if they don't fit each other or the environment, or the closed form was asked for and can't run
    """
    check_spaces(env.observation_space, env.action_space)
    named = policy_class(settings, env.observation_space)
    arguments = {name: getattr(settings, name) for name in PPO_FIELDS} | {"policy_kwargs": policy_arguments(settings)}
    if settings.is_continual:
        arguments |= {name: getattr(settings, name) for name in CONTINUAL_BACKPROP_FIELDS if name != "watch"}
        if settings.watch != "both":
            arguments["hidden_layers"] = partial(layers_of, settings.watch)
    kind: type[PPO] = CPPO if settings.is_continual else PPO
    if remedies := settings.remedy_arguments:
        kind = RemediedCPPO if settings.is_continual else RemediedPPO
        arguments["remedies"] = remedies
    model = _choose_update(settings, kind, named, env, arguments)
    model.policy_class = named  # named in model.zip, so that stable-baselines3 alone can read it
    draw_initial_weights(model.policy, settings)
    if settings.min_log_std is not None:
        keep_exploring(model.policy, settings.min_log_std)
    return model


def _choose_update(
    settings: Settings, kind: type[PPO], policy: type[ActorCriticPolicy], env: VecEnv, arguments: dict[str, Any]
) -> PPO:
    """Build the algorithm with the update asked for; it is equal to rounding, so the policy's pass may be too."""
    if settings.update != "autograd":
        try:
            return with_closed_form(kind)(QuickMlpPolicy if policy is ActorCriticPolicy else policy, env, **arguments)
        except CannotRunError:
            if settings.update == "closed-form":
                raise
    return kind(LeanMlpPolicy if policy is ActorCriticPolicy else policy, env, **arguments)


def keep_exploring(policy: ActorCriticPolicy, min_log_std: float) -> None:
    """Set a floor to the logarithm of the actions' standard deviation: after each optimizer step it is raised to it.

    :raises ValueError: if the policy's actions have no standard deviation
    """
    log_std = getattr(policy, "log_std", None)
    if log_std is None:
        raise ValueError(
            "--min-log-std has no effect with these actions: only those of a Box have a standard deviation"
        )

    @torch.no_grad()
    def raise_to_floor(*_: Any) -> None:
        log_std.clamp_(min=min_log_std)

    raise_to_floor()
    policy.optimizer.register_step_post_hook(raise_to_floor)


@torch.no_grad()
def draw_initial_weights(policy: ActorCriticPolicy, settings: Settings) -> None:
    """Draw all weights of a policy from the run's initial distribution; stable-baselines3 has drawn its own two."""
    if settings.weight_init in ("orthogonal", "torch_default"):
        return
    generator = torch.Generator().manual_seed(settings.seed)
    activation = ACTIVATIONS[settings.activation]()
    for module in policy.modules():
        if isinstance(module, LAYERS_WITH_UNITS):
            module.weight.copy_(draw_weights(module, INITIALIZERS[settings.weight_init], generator, activation))
            if module.bias is not None:
                module.bias.zero_()


def new_policy(settings: Settings, observation_space: spaces.Space, action_space: spaces.Space) -> ActorCriticPolicy:
    """Build the policy of a run with initial weights drawn with the run's seed; torch's own generator stays alone.

    :raises ValueError: if it can't take these observations
    """
    with torch.random.fork_rng([]):
        torch.manual_seed(settings.seed)
        policy: Any = policy_class(settings, observation_space)(
            as_seen(observation_space),
            action_space,
            lambda _: settings.learning_rate,
            use_sde=settings.use_sde,
            **policy_arguments(settings),
        )
        remodel_policy(policy, settings.remedy_arguments)
        draw_initial_weights(policy, settings)
    return policy
