"""One learner as a user of the library would build it: a torch module, a torch optimizer and what keeps it plastic."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from cppo.benchmarks.initial_networks import kaiming
from cppo.benchmarks.learner_settings import LearnerSettings
from cppo.cbp.continual_backprop import ContinualBackprop
from cppo.remedies import ReDo, Remedy, ShrinkAndPerturb

SEED_OF_NEW_UNITS = 10_000_019
"""Added to a run's seed: new units' weights must not repeat the initial ones."""


class Learner:
    """A network that learns example by example or batch by batch.

    :param network: what learns
    :param settings: resolved settings
    :param seed: of the run
    :param loss: of outputs and targets
    :param example_input: what to trace the network with, where its layers need that
    """

    def __init__(
        self,
        network: nn.Module,
        settings: LearnerSettings,
        seed: int,
        loss: Callable[[Tensor, Tensor], Tensor],
        example_input: Tensor | None = None,
    ) -> None:
        self.network = network
        self.optimizer = build_optimizer(network.parameters(), settings)
        self._loss = loss
        self.continual_backprop: ContinualBackprop | None = None
        self.intervention: Remedy | None = None
        seed = seed_of_new_units(seed)
        if settings.replacement_rate is not None:
            assert settings.maturity_threshold is not None and settings.decay_rate is not None and settings.utility
            self.continual_backprop = ContinualBackprop(
                network, self.optimizer, settings.replacement_rate, settings.maturity_threshold, settings.decay_rate,
                settings.utility, kaiming, seed=seed, example_input=example_input,
            )  # fmt: skip
        elif settings.noise is not None:
            decay = (settings.step_size or 0.0) * (settings.weight_decay or 0.0)
            self.intervention = ShrinkAndPerturb(network, self.optimizer, decay, settings.noise, seed=seed)
        elif settings.dormancy_threshold is not None:
            assert settings.dormancy_every is not None
            self.intervention = ReDo(
                network, self.optimizer, settings.dormancy_threshold, settings.dormancy_every, kaiming, seed=seed,
                example_input=example_input,
            )  # fmt: skip

    @property
    def replaced(self) -> int:
        """Units replaced so far."""
        at_work = self.continual_backprop or self.intervention
        return at_work.total_replaced if isinstance(at_work, ContinualBackprop | ReDo) else 0

    def learn(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Take one optimizer step.

        :return: the outputs before it
        """
        outputs = self.network(inputs)
        self.optimizer.zero_grad()
        self._loss(outputs, targets).backward()
        self.optimizer.step()
        return outputs.detach()


def build_optimizer(parameters: Iterable[nn.Parameter], settings: LearnerSettings) -> torch.optim.Optimizer:
    """The optimizer of a learner; shrink and perturb sees to its weight decay itself."""
    assert settings.step_size is not None
    decay = settings.weight_decay if settings.noise is None else None
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, settings.step_size, weight_decay=decay or 0.0)
    return torch.optim.SGD(parameters, settings.step_size, settings.momentum or 0.0, weight_decay=decay or 0.0)


def seed_of_new_units(seed: int) -> int:
    """The seed of whatever continual backpropagation or an intervention draws in a run."""
    return seed + SEED_OF_NEW_UNITS
