"""Regenerative regularisation (L2 Init): weights are pulled towards their initial values."""

import torch
from torch import Tensor, nn

from cppo.checks import LARGEST, check_number
from cppo.remedies.remedy import GradientPull


class RegenerativeRegularization(GradientPull):
    """L2 regularisation towards the initial weights: the loss gains strength * |w - w_0|^2, over all parameters.

    So 2 * strength * (w - w_0) is added to each gradient. The initial weights are those before the first step that this
    object sees; they are buffers and saved with it.

    Source: Kumar, Marklund & Van Roy, "Maintaining Plasticity in Continual Learning via Regenerative Regularization",
    arXiv 2308.11958, equation 1. They choose the strength for each problem among powers of ten up to 1e-2.
    The other arguments are those of ``Remedy``.

    :param strength: of the penalty; 0 changes nothing
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        strength: float = 1e-3,
        seed: int | None = None,
    ) -> None:
        check_number("strength", strength, 0, LARGEST, "a number, 0 or more")
        super().__init__(module, optimizer, seed)
        self.strength_of_pull = 2 * strength
        for number, parameter in enumerate(self.parameters_at_work):
            self.register_buffer(f"initial_{number}", parameter.detach().clone())

    def begin(self) -> None:
        """Keep the initial weights as they are now: they may have been drawn since this object was made."""
        for number, parameter in enumerate(self.parameters_at_work):
            self.initial(number).copy_(parameter)

    def initial(self, number: int) -> Tensor:
        """The initial value of one of ``parameters_at_work``."""
        return self.get_buffer(f"initial_{number}")

    def direction(self, number: int, parameter: nn.Parameter) -> Tensor:
        """The way from the initial value: a step down this gradient goes back towards it."""
        return parameter - self.initial(number).to(parameter)
