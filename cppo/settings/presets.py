"""Settings by protocol and by algorithm, each from a published table (FACTS: the project's list of sources).

- talk: R. Sutton, "Maintaining Plasticity in Deep Continual Learning", CoLLAs 2022, and Dohare, Sutton & Mahmood, arXiv
  2108.06325, section 5: the PyBullet Ant whose friction changes every 10 M steps.
- nature: Dohare et al., Nature 632 (2024), methods, "Slippery Ant" and extended-data table of PPO settings: its PPO
  settings and friction range, here on the PyBullet Ant; 2 M steps a friction.
- recurring: the nature settings at three times their step size, on four frictions that come back, half a million steps
  each; chosen so that plain PPO stops learning.
- quick: the nature settings at three times their step size, a hundred rollouts a friction; its own choices are marked
  below.
"""

from typing import Any

TALK: dict[str, Any] = {
    "total_timesteps": 100_000_000,
    "change_every": 10_000_000,
    "friction_range": (1e-4, 1e4),
    "change_at": "episode",
    "n_envs": 4,  # published runs step one; rollout and minibatch are the same in all
    "rollout_steps": 4096,
    "batch_size": 128,
    "n_epochs": 10,
    "learning_rate": 1e-4,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_range": 0.2,
    "normalize_advantage": True,
    "ent_coef": 0.0,
    "vf_coef": 0.5,
    "max_grad_norm": 0.5,
    "use_sde": False,
    "sde_sample_freq": -1,
    "net_arch": (256, 256),
    "activation": "tanh",
    "weight_init": "orthogonal",
    "betas": (0.9, 0.999),
    "adam_eps": 1e-5,
    "weight_decay": 0.0,
    "remedies": (),
    "shrink_decay": 1e-5,  # this and the noise: ours, no published run shrinks and perturbs with PPO
    "perturb_noise": 1e-5,
    "regenerative_strength": 1e-4,  # ours: as the weight decay of the talk
    "redo_threshold": 0.1,  # this and every 100 steps: Nature, PPO on the ant
    "redo_every": 100,
    "ccbp_rate": 0.015,  # this and every 1000 steps: its authors
    "ccbp_every": 1_000,
    "reset_layers": 1,
    "reset_every": 200_000,  # as for SAC in its source; 2.6 M environment steps
    "dropout": 0.1,  # Nature, permuted MNIST
    "replacement_rate": 1e-4,  # with maturity 5000 one of the six pairs tried; which one is plotted isn't said
    "maturity_threshold": 5_000,
    "decay_rate": 0.99,
    "utility": "adaptable_contribution",
    "bias_transfer": True,
    "reset_optimizer_state": True,
    "watch": "both",
}

NATURE: dict[str, Any] = TALK | {
    "total_timesteps": 20_000_000,
    "change_every": 2_000_000,
    "friction_range": (0.02, 2.0),
    "rollout_steps": 2048,
    "vf_coef": 1.0,
    "max_grad_norm": float("inf"),
    "activation": "relu",
    "weight_init": "lecun_uniform",
    "maturity_threshold": 10_000,
    "utility": "contribution",
}

RECURRING: dict[str, Any] = NATURE | {
    "total_timesteps": 4_500_000,
    "change_every": 500_000,
    "frictions": (0.8, 0.2, 1.6, 0.4),
    "learning_rate": 3e-4,
}

QUICK: dict[str, Any] = NATURE | {
    "total_timesteps": 614_400,  # this and what follows: ours, for an ant that walks within minutes
    "change_every": 204_800,
    "frictions": (0.8, 0.3),
    "learning_rate": 3e-4,
    "ccbp_every": 100,
    "reset_every": 4_800,
}

PROTOCOLS = {"talk": TALK, "nature": NATURE, "recurring": RECURRING, "quick": QUICK}

TUNED_BETAS = {"betas": (0.99, 0.99)}
REMEDIES: dict[str, dict[str, Any]] = {
    "ppo-shrink-perturb": {"remedies": ("shrink-perturb",)},
    "ppo-regenerative": {"remedies": ("regenerative",)},
    "ppo-redo": {"remedies": ("redo",)},
    "ppo-redo-l2": {"remedies": ("redo",), "weight_decay": 1e-4},  # Nature's ReDo comes with this weight decay
    "ppo-ccbp": {"remedies": ("ccbp",)},
    "ppo-reset-last": {"remedies": ("reset-last",)},
    "ppo-layer-norm": {"remedies": ("layer-norm",)},
    "ppo-online-norm": {"remedies": ("online-norm",)},
    "ppo-dropout": {"remedies": ("dropout",)},
    "ppo-crelu": {"remedies": ("crelu",), "activation": "relu"},
    "cppo-layer-norm": {"remedies": ("layer-norm",)},
}
NATURE_METHODS: dict[str, dict[str, Any]] = {
    "ppo": {},
    "ppo-adam": TUNED_BETAS,
    "ppo-l2": TUNED_BETAS | {"weight_decay": 1e-3},
    "cppo": TUNED_BETAS,
    "cppo-l2": TUNED_BETAS | {"weight_decay": 1e-4},
    **{name: TUNED_BETAS | settings for name, settings in REMEDIES.items()},
}
TALK_METHODS: dict[str, dict[str, Any]] = {
    "ppo": {},
    "ppo-adam": TUNED_BETAS,  # ours: the talk has no such arm
    "ppo-l2": {"weight_decay": 1e-4},  # tried: 1e-3, 1e-4, 1e-5, 1e-6
    "cppo": {},
    "cppo-l2": {"weight_decay": 1e-4},  # ours, likewise
    **REMEDIES,  # ours: the talk has none of them
}
METHODS = {
    "talk": TALK_METHODS,
    "nature": NATURE_METHODS,
    "recurring": NATURE_METHODS,
    "quick": NATURE_METHODS,
}
"""What each algorithm changes in each protocol. In Nature every method but plain ppo uses the tuned betas, so
``ppo-adam`` is the arm that differs from ``cppo`` in nothing but continual backpropagation."""

CONTINUAL = ("cppo", "cppo-l2", "cppo-layer-norm")
"""The algorithms that run continual backpropagation."""


def preset(protocol: str, algo: str) -> dict[str, Any]:
    """All settings of an algorithm in a protocol."""
    return PROTOCOLS[protocol] | METHODS[protocol][algo]
