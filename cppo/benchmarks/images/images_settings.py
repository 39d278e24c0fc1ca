"""The settings of continual image classification."""

from dataclasses import dataclass
from typing import Any, ClassVar

from cppo.benchmarks.learner_settings import CONTINUAL, RANGES, LearnerSettings
from cppo.settings.limits import COUNT, Range

_BP: dict[str, Any] = {"step_size": 0.01, "momentum": 0.9, "is_convolutional": True}


@dataclass(frozen=True)
class ImagesSettings(LearnerSettings):
    """A learner on continual image classification; step sizes and strengths are those of Nature 2024.

    Published: 600 training images a class, batches of 100, 250 epochs, 5000 tasks. The defaults are a size at which a
    seed takes minutes.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "bp": _BP,
        "linear": {**_BP, "step_size": 0.001, "is_convolutional": False},
        "adam": {"step_size": 0.001, "optimizer": "adam", "is_convolutional": True},
        "l2": {**_BP, "step_size": 0.03, "weight_decay": 3e-6},
        "shrink-perturb": {**_BP, "weight_decay": 1e-5, "noise": 1e-5},
        "redo": {**_BP, "dormancy_threshold": 0.1, "dormancy_every": 1000},
        "cbp": {**_BP, "replacement_rate": 3e-4, "utility": "contribution", **CONTINUAL},
    }
    RANGES: ClassVar[dict[str, Range]] = {
        **RANGES,
        "tasks": COUNT,
        "epochs": COUNT,
        "train_images": COUNT,
        "test_images": COUNT,
        "batch_size": COUNT,
    }

    is_convolutional: bool | None = None
    """The published network, or a linear model on the pixels."""
    tasks: int = 200
    """Pairs of classes."""
    epochs: int = 10
    """Passes over a task's training images."""
    train_images: int = 100
    """Training images of each class."""
    test_images: int = 100
    """Test images of each class."""
    batch_size: int = 20
    """Images per step."""
    data_dir: str | None = None
    """Folder of the classes, CLASS.npy or a folder of images for each; by default 1000 procedural classes."""

    @property
    def n_rows(self) -> int:
        """One row a task."""
        return self.tasks
