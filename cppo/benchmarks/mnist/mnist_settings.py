"""The settings of Online Permuted MNIST."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

from cppo.benchmarks.learner_settings import CONTINUAL, RANGES, LearnerSettings
from cppo.settings.limits import COUNT, Range

_NETWORK = {"width": 100, "depth": 3}
_CBP = {"replacement_rate": 1e-4, "utility": "contribution", **CONTINUAL}

COMPILED_UTILITIES = ("contribution", "activation", "gradient")
"""Utilities that are zero for a unit that is off, so that only the others need work."""


@dataclass(frozen=True)
class MnistSettings(LearnerSettings):
    """A learner on Online Permuted MNIST; step sizes and strengths are those of Nature 2024.

    Published: width 2000, 60 000 examples a task, 800 tasks. The defaults are a size at which a seed takes minutes.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "bp": {"step_size": 0.003, **_NETWORK},
        "adam": {"step_size": 1e-4, "optimizer": "adam", **_NETWORK},
        "linear": {"step_size": 0.003},
        "l2": {"step_size": 0.003, "weight_decay": 1e-4, **_NETWORK},
        "shrink-perturb": {"step_size": 0.003, "weight_decay": 1e-4, "noise": 1e-5, **_NETWORK},
        "dropout": {"step_size": 0.003, "dropout": 0.1, **_NETWORK},
        "online-norm": {"step_size": 0.003, "norm": "online", **_NETWORK},
        "layer-norm": {"step_size": 0.003, "norm": "layer", **_NETWORK},
        "redo": {"step_size": 0.003, "dormancy_threshold": 0.1, "dormancy_every": 1000, **_NETWORK},
        "cbp": {"step_size": 0.003, **_CBP, **_NETWORK},
        "cbp-l2": {"step_size": 0.003, "weight_decay": 1e-4, **_CBP, **_NETWORK},
    }
    RANGES: ClassVar[dict[str, Range]] = {
        **RANGES,
        "width": Range(1, 100_000, "at least 1 and at most 100000"),
        "depth": Range(1, 100, "at least 1 and at most 100"),
        "tasks": COUNT,
        "examples_per_task": COUNT,
        "batch_size": COUNT,
    }

    width: int | None = None
    """Units of each hidden layer."""
    depth: int | None = None
    """Hidden layers."""
    tasks: int = 200
    """Permutations."""
    examples_per_task: int = 10_000
    """Images from one permutation to the next, each seen once."""
    batch_size: int = 1
    """Images per step."""
    data_dir: str | None = None
    """Folder of the 60 000 images as IDX files; by default the 10 000 that come with the package."""

    @property
    def n_rows(self) -> int:
        """One row a task."""
        return self.tasks

    @property
    def is_compiled(self) -> bool:
        """Whether the compiled loop can train it; the others are torch's."""
        is_known = not self.is_continual or (self.utility in COMPILED_UTILITIES and self.optimizer == "sgd")
        shrinks = self.noise is None or self.optimizer == "sgd"
        is_small = (self.step_size or 0) * (self.weight_decay or 0) < 1
        is_plain = dataclasses.replace(self, noise=None).is_plain
        return self.width is not None and self.batch_size == 1 and is_known and shrinks and is_small and is_plain
