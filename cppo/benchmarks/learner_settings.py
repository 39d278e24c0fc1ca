"""What all supervised problems have in common: which learner, and how it is trained, as data."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_type_hints

from typing_extensions import Self

from cppo.settings.limits import COUNT, DECAY, NOT_NEGATIVE, SHARE, Range, check_type, flag
from cppo.settings.settings import UtilityName

OptimizerName = Literal["sgd", "adam"]

NormName = Literal["layer", "online"]

RANGES: dict[str, Range] = {
    "step_size": Range(math.ulp(0), NOT_NEGATIVE.highest, "finite and above 0"),
    "weight_decay": NOT_NEGATIVE,
    "replacement_rate": SHARE,
    "maturity_threshold": NOT_NEGATIVE,
    "decay_rate": DECAY,
    "noise": NOT_NEGATIVE,
    "dormancy_threshold": NOT_NEGATIVE,
    "dormancy_every": COUNT,
    "dropout": DECAY,
    "momentum": DECAY,
    "seeds": COUNT,
    "first_seed": Range(0, 2**31, f"at least 0 and at most {2**31}"),
}


FOR_ALL = {"optimizer": "sgd", "momentum": 0.0, "data_dir": None}
"""Settings that every learner has, with their values where the learner's preset names none."""

CONTINUAL = {"maturity_threshold": 100, "decay_rate": 0.99}
"""What every problem's preset of continual backpropagation has."""


@dataclass(frozen=True)
class LearnerSettings:
    """A learner on a problem. What is left out comes from the learner's preset; None marks what has no effect."""

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {}
    """Of each learner what it is made of; settings that default to None and aren't named have no effect with it."""
    RANGES: ClassVar[dict[str, Range]] = RANGES
    """Of every number."""

    learner: str = "bp"
    """Which learner; the command `list` says what they are."""
    step_size: float | None = None
    """The optimizer's step size."""
    weight_decay: float | None = None
    """L2 penalty, added to the gradient as torch does; of shrink and perturb: times the step size, its decay."""
    replacement_rate: float | None = None
    """Continual backpropagation: share of the mature units of a layer replaced per step."""
    maturity_threshold: int | None = None
    """Continual backpropagation: steps for which a new unit is protected."""
    decay_rate: float | None = None
    """Continual backpropagation: decay of the running averages."""
    utility: UtilityName | None = None
    """Continual backpropagation: how useful a unit is."""
    noise: float | None = None
    """Shrink and perturb: standard deviation of what each weight gets at every step."""
    dormancy_threshold: float | None = None
    """ReDo: score up to which a unit is dormant and gets recycled."""
    dormancy_every: int | None = None
    """ReDo: steps from one time to the next."""
    dropout: float | None = None
    """Share of hidden units silenced at each step."""
    norm: NormName | None = None
    """Normalisation of hidden units before their activation."""
    optimizer: OptimizerName | None = None
    """The optimizer; SGD unless the learner's preset says otherwise."""
    momentum: float | None = None
    """Of SGD; 0 unless the learner's preset says otherwise."""
    seeds: int = 5
    """Number of independent runs."""
    first_seed: int = 0
    """Seed of the first run; the others count up from it."""

    def resolved(self) -> Self:
        """Fill in what the learner's preset says, and check the whole.

        :raises ValueError: for a value out of range or one that has no effect with this learner
        """
        if self.learner not in self.PRESETS:
            raise ValueError(f"--learner {self.learner!r} is unknown; choose one of {', '.join(self.PRESETS)}")
        preset = {**FOR_ALL, **self.PRESETS[self.learner]}
        values: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.default is None and field.name not in preset and value is not None:
                raise ValueError(f"{flag(field.name)} has no effect with --learner {self.learner}")
            values[field.name] = preset.get(field.name) if value is None else value
        settings = dataclasses.replace(self, **values)
        settings.check()
        return settings

    def check(self) -> None:
        """Check every value; a problem's settings add what its values must be to each other.

        :raises ValueError: names the setting, its value and what is allowed
        """
        kinds = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            check_type(flag(field.name), value, kinds[field.name])
            if value is None and field.default is not None:
                raise ValueError(f"{flag(field.name)} needs a value")
        if self.momentum and self.optimizer == "adam":
            raise ValueError("--momentum has no effect with --optimizer adam")
        for key, (lowest, highest, words) in self.RANGES.items():
            value = getattr(self, key)
            if value is not None and not lowest <= value <= highest:
                raise ValueError(f"{flag(key)} {value} is not allowed: it must be {words}")

    @property
    def is_plain(self) -> bool:
        """Whether the learner has nothing but an optimizer with L2 and continual backpropagation."""
        others = (self.noise, self.dormancy_threshold, self.dropout, self.norm)
        return not self.momentum and all(value is None for value in others)

    @property
    def is_continual(self) -> bool:
        """Whether the learner runs continual backpropagation."""
        return self.replacement_rate is not None

    @property
    def all_seeds(self) -> range:
        """The seeds of the runs."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def n_rows(self) -> int:
        """How many rows of results each seed has."""
        raise NotImplementedError

    def name(self) -> str:
        """The learner and whatever differs from its preset and the problem's defaults, fit for a folder's name."""
        usual = type(self)(learner=self.learner).resolved()
        parts = [self.learner]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != getattr(usual, field.name) and field.name not in ("seeds", "first_seed"):
                parts.append(f"{field.name.replace('_', '-')}-{value}")
        return "_".join(parts).replace("/", "-")

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return dataclasses.asdict(self)
