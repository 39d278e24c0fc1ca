"""Names that settings are chosen from, and which settings belong together."""

from __future__ import annotations

import itertools
from typing import Literal

Algorithm = Literal[
    "ppo",
    "ppo-adam",
    "ppo-l2",
    "ppo-shrink-perturb",
    "ppo-regenerative",
    "ppo-redo",
    "ppo-redo-l2",
    "ppo-ccbp",
    "ppo-reset-last",
    "ppo-layer-norm",
    "ppo-online-norm",
    "ppo-dropout",
    "ppo-crelu",
    "cppo",
    "cppo-l2",
    "cppo-layer-norm",
]
Protocol = Literal["talk", "nature", "quick"]
Activation = Literal["relu", "tanh", "elu", "leaky_relu", "silu"]
WeightInit = Literal["lecun_uniform", "kaiming_uniform", "xavier_uniform", "torch_default", "orthogonal"]
UtilityName = Literal[
    "contribution",
    "mean_corrected_contribution",
    "adaptable_contribution",
    "weight",
    "activation",
    "random",
    "gradient",
]
Remedy = Literal[
    "shrink-perturb",
    "regenerative",
    "redo",
    "ccbp",
    "reset-last",
    "layer-norm",
    "online-norm",
    "dropout",
    "crelu",
]
"""Remedies besides L2, which is --weight-decay, and continual backpropagation."""

FRICTION_FIELDS = ("change_every", "friction_range", "frictions", "change_at", "schedule_seed")
CONTINUAL_BACKPROP_FIELDS = (
    "replacement_rate",
    "maturity_threshold",
    "decay_rate",
    "utility",
    "initializer",
    "bias_transfer",
    "reset_optimizer_state",
)
REMEDY_FIELDS: dict[str, dict[str, str]] = {
    "shrink-perturb": {"shrink_decay": "decay", "perturb_noise": "noise"},
    "regenerative": {"regenerative_strength": "strength"},
    "redo": {"redo_threshold": "threshold", "redo_every": "every"},
    "ccbp": {"ccbp_rate": "replacement_rate", "ccbp_every": "every"},
    "reset-last": {"reset_layers": "n_layers", "reset_every": "every"},
    "dropout": {"dropout": "p"},
}
"""For each remedy that has settings, the arguments they become."""

NOT_IN_0_1 = (
    *("restart_workers", "checkpoint_every", "keep_checkpoints", "plasticity_every", "update"),
    *itertools.chain(*REMEDY_FIELDS.values()),
)
"""Settings that runs of release 0.1 don't have."""
