"""The settings of slowly-changing regression."""

from dataclasses import dataclass
from typing import Any, ClassVar

from cppo.benchmarks.learner_settings import CONTINUAL, RANGES, LearnerSettings
from cppo.benchmarks.regression.activations import ActivationName
from cppo.benchmarks.regression.bit_flipping import Flip
from cppo.settings.limits import COUNT, Range

_CBP = {"replacement_rate": 1e-3, "utility": "adaptable_contribution", **CONTINUAL}


@dataclass(frozen=True)
class RegressionSettings(LearnerSettings):
    """A learner on slowly-changing regression; published values, Nature 2024 and its code."""

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "bp": {"step_size": 0.01, "activation": "relu"},
        "linear": {"step_size": 0.01},
        "l2": {"step_size": 0.01, "activation": "relu", "weight_decay": 1e-3},
        "shrink-perturb": {"step_size": 0.01, "activation": "relu", "weight_decay": 1e-3, "noise": 1e-4},
        "redo": {"step_size": 0.01, "activation": "relu", "dormancy_threshold": 0.1, "dormancy_every": 1000},
        "dropout": {"step_size": 0.01, "activation": "relu", "dropout": 0.1},
        "layer-norm": {"step_size": 0.01, "activation": "relu", "norm": "layer"},
        "online-norm": {"step_size": 0.01, "activation": "relu", "norm": "online"},
        "cbp": {"step_size": 0.01, "activation": "relu", **_CBP},
        "cbp-l2": {"step_size": 0.01, "activation": "relu", "weight_decay": 1e-3, **_CBP},
    }
    RANGES: ClassVar[dict[str, Range]] = {
        **RANGES,
        "units": Range(1, 1000, "at least 1 and at most 1000"),
        "steps": COUNT,
        "change_every": COUNT,
        "bin_steps": COUNT,
    }

    activation: ActivationName | None = None
    """Activation of the hidden units."""
    units: int = 5
    """Hidden units."""
    steps: int = 1_000_000
    """Examples, each seen once."""
    change_every: int = 10_000
    """Steps from one change of the slow bits to the next."""
    flip: Flip = "one"
    """At a change one slow bit flips, or all are drawn anew."""
    bin_steps: int = 40_000
    """Steps over which the error is averaged."""
    seeds: int = 100
    """Number of independent runs."""

    @property
    def is_linear(self) -> bool:
        """Whether the learner is the linear baseline."""
        return self.learner == "linear"

    @property
    def n_rows(self) -> int:
        """One row a bin."""
        return self.steps // self.bin_steps

    def check(self) -> None:
        """Check every value.

        :raises ValueError: names the setting, its value and what is allowed
        """
        super().check()
        if self.steps % self.bin_steps:
            raise ValueError(f"--steps {self.steps} is not allowed: it must be a multiple of --bin-steps")
