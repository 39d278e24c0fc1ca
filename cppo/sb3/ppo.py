"""CPPO: Proximal Policy Optimization that keeps its plasticity."""

from collections.abc import Mapping
from typing import Any

import torch as th
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from typing_extensions import Self

from cppo.cbp.fresh_values import Fresh
from cppo.cbp.initializers import Initializer
from cppo.cbp.utilities import Utility
from cppo.sb3.mixin import ContinualBackpropMixin
from cppo.sb3.policy_layers import LayersOf


class CPPO(ContinualBackpropMixin, PPO):
    """Continual PPO: stable-baselines3 PPO with continual backpropagation in the actor and the critic.

    Paper: Dohare et al., "Loss of plasticity in deep continual learning", Nature 632 (2024).
    Parent: ``stable_baselines3.PPO``, whose loss, optimizer and update loop it uses unchanged; with
    ``replacement_rate=0`` it is that PPO, bit for bit. The arguments are that PPO's, documented there, in their order;
    then those of continual backpropagation. ``verbose=1`` also says when the first replacement is due, and ``seed`` is
    that of new units, too.

    :param replacement_rate: Share of a layer's mature units replaced per optimizer step; 0 is plain PPO
    :param maturity_threshold: Optimizer steps for which a new unit is protected: 10 000 of them are 128 000
        environment steps at 160 minibatches per 2048 steps
    :param decay_rate: Decay of the running averages of utility and activation
    :param utility: How useful a unit is: a name in ``cppo.cbp.utilities.UTILITIES`` or a function
    :param initializer: Where a new unit's weights come from: a name in ``cppo.cbp.initializers.INITIALIZERS`` or a
        function; None means as the policy drew its own
    :param bias_transfer: Move a replaced unit's mean contribution to the biases of its readers
    :param reset_optimizer_state: Give a new unit's weights the optimizer state of new parameters
    :param fresh_state: What tensors in the state of an optimizer of one's own start from, by their names: a number, or
        a function of the parameter; needed only where it can't be seen in the first step
    :param hidden_layers: A function of the policy that returns the layers to watch, where tracing can't tell; see the
        mixin
    """

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str,
        learning_rate: float | Schedule = 3e-4,
        n_steps: int = 2048,
        batch_size: int = 64,
        n_epochs: int = 10,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        clip_range: float | Schedule = 0.2,
        clip_range_vf: float | Schedule | None = None,
        normalize_advantage: bool = True,
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        rollout_buffer_class: type[RolloutBuffer] | None = None,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
        target_kl: float | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
        replacement_rate: float = 1e-4,
        maturity_threshold: int = 10_000,
        decay_rate: float = 0.99,
        utility: str | Utility = "contribution",
        initializer: str | Initializer | None = None,
        bias_transfer: bool = True,
        reset_optimizer_state: bool = True,
        fresh_state: Mapping[str, Fresh] | None = None,
        hidden_layers: LayersOf | None = None,
    ) -> None:
        super().__init__(
            policy,
            env,
            learning_rate=learning_rate,
            n_steps=n_steps,
            batch_size=batch_size,
            n_epochs=n_epochs,
            gamma=gamma,
            gae_lambda=gae_lambda,
            clip_range=clip_range,
            clip_range_vf=clip_range_vf,
            normalize_advantage=normalize_advantage,
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            rollout_buffer_class=rollout_buffer_class,
            rollout_buffer_kwargs=rollout_buffer_kwargs,
            target_kl=target_kl,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=_init_setup_model,
            replacement_rate=replacement_rate,
            maturity_threshold=maturity_threshold,
            decay_rate=decay_rate,
            utility=utility,
            initializer=initializer,
            bias_transfer=bias_transfer,
            reset_optimizer_state=reset_optimizer_state,
            fresh_state=fresh_state,
            hidden_layers=hidden_layers,
        )

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "CPPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """Learn for ``total_timesteps`` environment steps (see ``stable_baselines3.PPO.learn``)."""
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)
