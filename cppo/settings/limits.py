"""Which values a setting may have, and which settings belong together."""

import itertools
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin

from cppo.checks import BELOW_ONE

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
Protocol = Literal["talk", "nature", "recurring", "quick"]
Activation = Literal["relu", "tanh", "elu", "leaky_relu", "silu"]
Policy = Literal["MlpPolicy", "CnnPolicy", "MultiInputPolicy"]
"""stable-baselines3's names: for vectors and numbers, for images, for dictionaries of them."""
WeightInit = Literal["lecun_uniform", "kaiming_uniform", "xavier_uniform", "torch_default", "orthogonal"]
Watched = Literal["actor", "critic", "both"]
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
    "shrink-perturb", "regenerative", "redo", "ccbp", "reset-last", "layer-norm", "online-norm", "dropout", "crelu"
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
    "watch",
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


class Range(NamedTuple):
    """The lowest and the highest value allowed, and how an error message says so."""

    lowest: float
    highest: float
    words: str


MOST = 10**15
"""The largest whole number: one that networks' counters and floats hold, and more than anybody trains."""
MOST_WEIGHTS = 2**30
"""Between the hidden layers of a network: 4 GiB, four times with gradient and optimizer."""
LARGEST = 1e30
"""The largest number; beyond about 1e38 networks of single precision overflow."""
COUNT = Range(1, MOST, f"at least 1 and at most {MOST:.0e}")
NOT_NEGATIVE = Range(0, LARGEST, f"at least 0 and at most {LARGEST:.0e}")
COUNT_OR_NONE = Range(0, MOST, f"at least 0 and at most {MOST:.0e}")
SHARE = Range(0, 1, "at least 0 and at most 1")
DECAY = Range(0, BELOW_ONE, "at least 0 and below 1")
FEW = Range(1, 4096, "at least 1 and at most 4096")

RANGES = {
    "seed": Range(0, 2**32 - 1, f"at least 0 and at most {2**32 - 1}"),
    "batch_size": Range(2, MOST, f"at least 2 and at most {MOST:.0e}"),
    "clip_range_vf": Range(math.ulp(0), LARGEST, f"above 0 and at most {LARGEST:.0e}"),
    "max_grad_norm": Range(0, math.inf, "at least 0"),
    "min_log_std": Range(-20, 2, "at least -20 and at most 2"),
    "sde_sample_freq": Range(-1, MOST, f"at least -1 and at most {MOST:.0e}"),
    "net_arch": Range(1, 65_536, "at least 1 and at most 65536"),
    **dict.fromkeys(("n_envs", "torch_threads"), FEW),
    **dict.fromkeys(("total_timesteps", "change_every", "checkpoint_every", "keep_checkpoints"), COUNT),
    **dict.fromkeys(("n_steps", "n_epochs"), COUNT),
    **dict.fromkeys(("redo_every", "ccbp_every", "reset_layers", "reset_every"), COUNT),
    **dict.fromkeys(("schedule_seed", "plasticity_every", "maturity_threshold"), COUNT_OR_NONE),
    **dict.fromkeys(("learning_rate", "clip_range", "ent_coef"), NOT_NEGATIVE),
    **dict.fromkeys(("vf_coef", "target_kl", "adam_eps", "weight_decay"), NOT_NEGATIVE),
    **dict.fromkeys(("perturb_noise", "regenerative_strength", "redo_threshold"), NOT_NEGATIVE),
    **dict.fromkeys(("gamma", "gae_lambda", "replacement_rate", "shrink_decay", "ccbp_rate", "dropout"), SHARE),
    **dict.fromkeys(("betas", "decay_rate"), DECAY),
}
"""Of every number; frictions are checked by the environment itself."""


def flag(key: str) -> str:
    """The command-line flag of a setting."""
    return "--" + key.replace("_", "-")


class NoEffectError(ValueError):
    """A setting was given that steers nothing in this run.

    :param where: with what it has no effect
    """

    def __init__(self, key: str, where: str) -> None:
        super().__init__(f"{flag(key)} has no effect {where}")
        self.key = key


def check(values: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Check every value of resolved settings; None, which marks what is off or without effect, is always allowed.

    :param kinds: the type each setting is declared as
    :raises ValueError: names the setting, its value and what is allowed
    """
    for key, kind in kinds.items():
        check_type(flag(key), values[key], kind)
    for key in RANGES:
        value = values[key]
        for number in value if isinstance(value, tuple) else [value]:
            if number is not None:
                check_range(key, number)
    weights = sum(one * other for one, other in itertools.pairwise(values["net_arch"]))
    if weights > MOST_WEIGHTS:
        raise ValueError(
            f"--net-arch {' '.join(map(str, values['net_arch']))} is not allowed: it has {weights:,} weights between "
            f"hidden layers; at most {MOST_WEIGHTS:,} are trained"
        )
    if values["normalize_advantage"] and values["n_envs"] * (values["n_steps"] or 0) < 2:
        raise ValueError("--n-steps times --n-envs must be at least 2 to normalize advantages")


def check_range(key: str, number: float) -> None:
    """Check one number.

    :param key: the setting
    :raises ValueError: names the setting, the number and what is allowed
    """
    lowest, highest, words = RANGES[key]
    if not lowest <= number <= highest:
        raise ValueError(f"{flag(key)} {number} is not allowed: it must be {words}")


def check_type(name: str, value: Any, kind: Any) -> None:
    """Check that a value is of the kind a setting is declared as; None always is.

    :raises ValueError: names the setting, the value and what is allowed
    """
    if value is not None and not _fits(value, kind):
        raise ValueError(f"{name} {value!r} is not allowed: it must be {_words(kind)}")


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of the kind a setting is declared as; nothing has checked the values of a file yet."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return value in parts
    if get_origin(kind) is tuple:
        kinds = parts[:1] * len(value) if isinstance(value, tuple) and parts[-1] is ... else parts
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_fits, value, kinds))
    if parts:
        return any(_fits(value, part) for part in parts)
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, int | float if kind is float else kind)


def _words(kind: Any) -> str:
    parts = [part for part in get_args(kind) if part is not type(None)]
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(parts)
    if get_origin(kind) is tuple:
        if parts[-1] is ...:
            return "a list of " + (_words(parts[0]) if get_args(parts[0]) else parts[0].__name__)
        return f"{len(parts)} numbers"
    return _words(parts[0]) if parts else f"of type {kind.__name__}"
