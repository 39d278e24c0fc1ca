"""The settings of a training run: everything that determines it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_type_hints

from typing_extensions import Self

import cppo_envs
from cppo.remedies.combinations import CBP, check_combination
from cppo.settings.limits import (
    CONTINUAL_BACKPROP_FIELDS,
    FRICTION_FIELDS,
    REMEDY_FIELDS,
    Activation,
    Algorithm,
    NoEffectError,
    Policy,
    Protocol,
    Remedy,
    UtilityName,
    Watched,
    WeightInit,
    check,
)
from cppo.settings.presets import CONTINUAL, METHODS, preset

DRAWING = ("redo", "ccbp", "reset-last")
"""The remedies that draw new weights; they do so as the run drew its first ones."""
FROM_PRESET: Any = None
"""Left out: the value is that of the protocol and the algorithm."""
ADDED_LATER: dict[str, Any] = {"policy": "MlpPolicy", "min_log_std": None, "watch": "both"}
"""Settings that older runs don't name, with what they were then."""


def split_env(env: str) -> tuple[str | None, str]:
    """Take a name of gymnasium's form ``module:Id`` apart.

    :return: the module to import, which registers the environment, and its id; None for one that needs no import
    """
    module, _, env_id = env.rpartition(":")
    return module or None, env_id


@dataclass(frozen=True)
class Settings:
    """A training run. What is left out comes from the protocol and the algorithm, see ``cppo/settings/presets.py``.

    In resolved settings, None marks what has no effect with this algorithm or environment, or is switched off.
    """

    algo: Algorithm = "cppo-l2"
    """PPO, PPO with one remedy, or continual PPO; README.md and docs/remedies.md tell what each is."""
    protocol: Protocol = "nature"
    """Where the settings come from: Sutton's 2022 talk, the Nature 2024 paper, or a story for minutes."""
    env: str = "SlipperyAnt-v0"
    """Id of a registered gymnasium environment."""
    seed: int = 0
    """Seed of networks, exploration, episodes, and of the frictions unless --schedule-seed is given."""
    total_timesteps: int = FROM_PRESET
    """Environment steps in all."""
    n_envs: int = FROM_PRESET
    """Environments stepped in lockstep."""
    processes: bool | None = None
    """Run each environment in a process of its own; by default where that is faster."""
    restart_workers: bool = False
    """Replace such a process when it dies, which ends its episode; otherwise the run stops."""
    device: str = "cpu"
    """Device of the networks: cpu, cuda, cuda:1, ... or auto; for networks this small the cpu is fastest."""
    update: Literal["auto", "closed-form", "autograd"] = "auto"
    """How PPO learns: by formula and compiled loops; by stable-baselines3's code, whose bits the former equals to
    rounding; auto: the faster one that can run, which the run's configuration then names."""
    torch_threads: int = 1
    """Threads of torch; one is fastest for networks this small."""
    checkpoint_every: int = 50_000
    """Environment steps between two checkpoints, each after an update."""
    keep_checkpoints: int = 2
    """Checkpoints kept, the latest ones."""
    plasticity_every: int = 10
    """Updates between two measurements of plasticity; 0: never."""

    change_every: int = FROM_PRESET
    """Environment steps from one friction to the next, summed over all environments."""
    friction_range: tuple[float, float] = FROM_PRESET
    """Lowest and highest ground friction; drawn log-uniformly."""
    frictions: tuple[float, ...] | None = None
    """The frictions by hand, in this order, repeated; takes the place of --friction-range."""
    change_at: Literal["episode", "step"] = FROM_PRESET
    """A new friction waits for the next episode, or comes at once."""
    schedule_seed: int | None = None
    """Seed of the frictions; --seed by default, so that methods with the same seed meet the same frictions."""

    learning_rate: float = FROM_PRESET
    """Adam's step size."""
    n_steps: int | None = None
    """Steps of each environment per rollout; by default the protocol's rollout divided by --n-envs."""
    batch_size: int = FROM_PRESET
    """Minibatch size."""
    n_epochs: int = FROM_PRESET
    """Passes over each rollout."""
    gamma: float = FROM_PRESET
    """Discount factor."""
    gae_lambda: float = FROM_PRESET
    """Lambda of generalized advantage estimation."""
    clip_range: float = FROM_PRESET
    """Clipping of the policy's probability ratio."""
    clip_range_vf: float | None = None
    """Clipping of the value function; None switches it off."""
    normalize_advantage: bool = FROM_PRESET
    """Normalize advantages in each minibatch."""
    ent_coef: float = FROM_PRESET
    """Entropy bonus."""
    vf_coef: float = FROM_PRESET
    """Weight of the value loss."""
    max_grad_norm: float = FROM_PRESET
    """Gradient clipping; inf switches it off."""
    use_sde: bool = FROM_PRESET
    """State-dependent exploration (gSDE)."""
    sde_sample_freq: int = FROM_PRESET
    """Steps between two noise matrices of gSDE; -1: one a rollout."""
    min_log_std: float | None = None
    """Floor of the logarithm of the actions' standard deviation, which keeps an agent exploring; None: none."""
    target_kl: float | None = None
    """Stop an update early beyond this KL divergence; None: never."""

    policy: Policy | None = None
    """Networks for vectors, images or dictionaries; by default those that fit the environment's observations."""
    net_arch: tuple[int, ...] = FROM_PRESET
    """Units of each hidden layer, of actor and critic alike; with images and dictionaries those behind the features."""
    activation: Activation = FROM_PRESET
    """Activation of the hidden layers."""
    weight_init: WeightInit = FROM_PRESET
    """Initial weights; all but orthogonal and torch_default come with zero biases."""
    betas: tuple[float, float] = FROM_PRESET
    """Adam's betas."""
    adam_eps: float = FROM_PRESET
    """Adam's epsilon."""
    weight_decay: float = FROM_PRESET
    """L2 penalty, added to the gradient as torch's Adam does."""

    remedies: tuple[Remedy, ...] = FROM_PRESET
    """Remedies against loss of plasticity besides those of the algorithm, see docs/remedies.md."""
    shrink_decay: float = FROM_PRESET
    """Shrink and perturb: share of each weight that goes at an optimizer step."""
    perturb_noise: float = FROM_PRESET
    """Shrink and perturb: standard deviation of the noise that each weight gets."""
    regenerative_strength: float = FROM_PRESET
    """Regenerative: penalty on the squared distance from the initial weights."""
    redo_threshold: float = FROM_PRESET
    """ReDo: share of the layer's mean activation up to which a unit is dormant."""
    redo_every: int = FROM_PRESET
    """ReDo: optimizer steps from one time to the next."""
    ccbp_rate: float = FROM_PRESET
    """CCBP: share by which a useless unit is reset each time."""
    ccbp_every: int = FROM_PRESET
    """CCBP: optimizer steps from one time to the next."""
    reset_layers: int = FROM_PRESET
    """Reset last: how many layers, from the end of actor and critic."""
    reset_every: int = FROM_PRESET
    """Reset last: optimizer steps from one time to the next."""
    dropout: float = FROM_PRESET
    """Dropout: probability that a feature is set to zero."""

    replacement_rate: float = FROM_PRESET
    """Continual backpropagation: share of the mature units of a layer replaced per optimizer step."""
    maturity_threshold: int = FROM_PRESET
    """Continual backpropagation: optimizer steps for which a new unit is protected."""
    decay_rate: float = FROM_PRESET
    """Continual backpropagation: decay of the running averages."""
    utility: UtilityName = FROM_PRESET
    """Continual backpropagation: how useful a unit is."""
    initializer: WeightInit | None = None
    """Continual backpropagation: where new weights come from; by default --weight-init."""
    bias_transfer: bool = FROM_PRESET
    """Continual backpropagation: move a replaced unit's mean contribution to the biases."""
    reset_optimizer_state: bool = FROM_PRESET
    """Continual backpropagation: fresh optimizer state for new weights."""
    watch: Watched = FROM_PRESET
    """Continual backpropagation: the networks in which units are replaced."""

    @property
    def is_continual(self) -> bool:
        """Whether the algorithm runs continual backpropagation."""
        return self.algo in CONTINUAL

    @property
    def default_name(self) -> str:
        """How a run of these settings is called unless the user says otherwise."""
        return f"{self.protocol}-{self.env}-{self.method}-seed{self.seed}".replace("/", "-")

    @property
    def method(self) -> str:
        """The algorithm, and the remedies that it doesn't bring along itself."""
        own = preset(self.protocol, self.algo)["remedies"]
        return "+".join([self.algo, *(name for name in self.remedies or () if name not in own)])

    @property
    def is_slippery(self) -> bool:
        """Whether the environment takes a friction schedule."""
        return self.env in cppo_envs.CHANGING

    @property
    def remedy_arguments(self) -> dict[str, dict[str, Any]]:
        """The remedies of resolved settings, as ``RemediesMixin`` takes them."""
        return {
            name: {argument: getattr(self, key) for key, argument in REMEDY_FIELDS.get(name, {}).items()}
            | ({"initializer": self.weight_init} if name in DRAWING else {})
            for name in self.remedies
        }

    @classmethod
    def from_preset(cls, protocol: Protocol, algo: Algorithm, **values: Any) -> Self:
        """Every setting that the protocol and the algorithm name, and the values given.

        :raises ValueError: if there is no such protocol or algorithm
        """
        if protocol not in METHODS or algo not in METHODS[protocol]:
            raise ValueError(f"algo={algo!r} with protocol={protocol!r} is unknown")
        named = {key: value for key, value in preset(protocol, algo).items() if key != "rollout_steps"}
        return cls(protocol=protocol, algo=algo, **(named | values))

    def resolved(self) -> Settings:
        """Fill in what the protocol and the algorithm say, clear what has no effect, and check the whole.

        :raises ValueError: for a value out of range or one that has no effect with this algorithm or environment
        """
        if ":" in str(self.env):
            raise ValueError(f"--env {self.env} is not allowed: it must be a registered id, without the module")
        given = {key: value for key, value in dataclasses.asdict(self).items() if value is not None}
        values: dict[str, Any] = dataclasses.asdict(Settings.from_preset(**given))
        own = preset(self.protocol, self.algo)["remedies"]
        values["remedies"] = (*own, *(name for name in values["remedies"] if name not in own))
        self._clear(
            values, FRICTION_FIELDS, self.is_slippery, f"in {self.env}; it steers {', '.join(cppo_envs.CHANGING)}"
        )
        self._clear(
            values, CONTINUAL_BACKPROP_FIELDS, self.is_continual, f"with --algo {self.algo}; it steers cppo and cppo-l2"
        )
        for remedy, fields in REMEDY_FIELDS.items():
            self._clear(values, list(fields), remedy in values["remedies"], f"without {remedy} among the --remedies")
        self._choose_frictions(values)
        if not values["use_sde"] and self.sde_sample_freq not in (None, -1):
            raise NoEffectError("sde_sample_freq", "without --use-sde")
        if values["n_steps"] is None:
            values["n_steps"] = max(1, preset(self.protocol, self.algo)["rollout_steps"] // max(1, values["n_envs"]))
        if self.is_continual and values["initializer"] is None:
            values["initializer"] = values["weight_init"]
        settings = Settings(**values)
        check(values, _kinds())
        settings._check_remedies()
        return settings

    def _choose_frictions(self, values: dict[str, Any]) -> None:
        """Take the frictions by hand or those drawn from a range; what is given comes before what the preset names."""
        if self.frictions is None and self.friction_range is not None:
            values["frictions"] = None
        if values["frictions"] is not None:
            self._clear(values, ["friction_range", "schedule_seed"], False, "together with --frictions")
        elif self.is_slippery and values["schedule_seed"] is None:
            values["schedule_seed"] = self.seed

    def _clear(self, values: dict[str, Any], keys: Sequence[str], applies: bool, where: str) -> None:
        """Set to None what doesn't apply; refuse it if it was asked for, that is, if it differs from the preset."""
        named = preset(self.protocol, self.algo)
        for key in keys if not applies else ():
            if getattr(self, key) not in (None, named.get(key)):
                raise NoEffectError(key, where)
            values[key] = None

    def _check_remedies(self) -> None:
        """Refuse remedies that can't be combined with each other or with the algorithm."""
        if twice := [name for name in self.remedies if self.remedies.count(name) > 1]:
            raise ValueError(f"--remedies names {twice[0]} twice")
        besides = [CBP] * self.is_continual + ["l2"] * (self.weight_decay > 0)
        check_combination([*self.remedies, *besides])

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values, tuples as lists."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Settings:
        """Read settings back from plain values, those of older runs too.

        :raises ValueError: for a key that is no setting, one that is missing, and one without the value it needs
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        values = ADDED_LATER | values
        unknown = sorted(set(values) - fields.keys())
        if unknown:
            raise ValueError(f"unknown setting {', '.join(map(repr, unknown))}")
        missing = sorted(fields.keys() - set(values))
        if missing:
            raise ValueError(f"settings are missing: {', '.join(missing)}")
        for name, field in fields.items():
            if field.default is not None and values[name] is None:
                raise ValueError(f"setting {name!r} has no value")
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


@functools.cache
def _kinds() -> dict[str, Any]:
    """The type each setting is declared as; finding that out takes longer than all checks."""
    return get_type_hints(Settings)
