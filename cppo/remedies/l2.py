"""L2 regularisation: weights are pulled towards zero."""

import torch
from torch import Tensor, nn

from cppo.checks import LARGEST, check_number
from cppo.remedies.remedy import GradientPull


class L2(GradientPull):
    """L2 regularisation, for any optimizer: ``weight_decay`` times the weight is added to its gradient.

    That is the gradient of weight_decay / 2 times the squared norm of all parameters, and what torch's own
    ``weight_decay`` does in SGD and Adam, bit for bit, so an optimizer with that argument needs no ``L2``.

    Source of the default: Dohare et al., "Loss of plasticity in deep continual learning", Nature 632 (2024), PPO + L2.
    The other arguments are those of ``Remedy``.

    :param weight_decay: strength of the pull; 0 changes nothing
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        weight_decay: float = 1e-3,
        seed: int | None = None,
    ) -> None:
        check_number("weight_decay", weight_decay, 0, LARGEST, "a number, 0 or more")
        super().__init__(module, optimizer, seed)
        self.strength_of_pull = weight_decay

    def direction(self, number: int, parameter: nn.Parameter) -> Tensor:
        """The weight itself: a step down this gradient goes towards zero."""
        return parameter
