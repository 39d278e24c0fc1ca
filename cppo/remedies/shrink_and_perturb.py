"""Shrink and perturb: at every step all weights get a little smaller and a little noisier."""

import torch
from torch import nn

from cppo.checks import LARGEST, check_count, check_number
from cppo.remedies.remedy import Remedy


class ShrinkAndPerturb(Remedy):
    """After a step, all parameters are multiplied by (1 - decay) and get Gaussian noise.

    Source: Ash & Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020, who do it when new data arrive; at
    every step: Dohare et al., Nature 632 (2024). Their code has the shrinking done by SGD's weight decay, so the decay
    here is theirs times the step size. The default is that of Continual ImageNet: 1e-5 times 0.01, and noise 1e-5.
    The other arguments are those of ``Remedy``.

    :param decay: share of each weight that goes; 0 shrinks nothing
    :param noise: standard deviation of what is added to each weight; 0 adds nothing
    :param every: optimizer steps from one time to the next
    """

    def __init__(
        self,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        decay: float = 1e-7,
        noise: float = 1e-5,
        every: int = 1,
        seed: int | None = None,
    ) -> None:
        check_number("decay", decay, 0, 1, "a number from 0 to 1")
        check_number("noise", noise, 0, LARGEST, "a number, 0 or more")
        check_count("every", every)
        super().__init__(module, optimizer, seed)
        self.decay, self.noise, self.every = decay, noise, every

    def after_step(self) -> None:
        """Shrink, then perturb."""
        if self.n_steps % self.every:
            return
        generator = self.generator_on_device()
        for parameter in self.trained_now():
            if self.decay:
                parameter.sub_(parameter, alpha=self.decay)  # 1 - decay, rounded, would be off by much of a small decay
            if self.noise:
                parameter.add_(torch.empty_like(parameter).normal_(0, self.noise, generator=generator))
