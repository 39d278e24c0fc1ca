"""Concatenated ReLU: each unit has two features, its positive and its negative part."""

import torch
from torch import Tensor, nn


class CReLU(nn.Module):
    """``cat(relu(x), relu(-x))`` along the units, so that there are twice as many features, and a unit can't die.

    Source: Abbas et al., "Loss of Plasticity in Continual Deep Reinforcement Learning", CoLLAs 2023, after Shang et
    al., "Understanding and Improving Convolutional Neural Networks via Concatenated Rectified Linear Units", ICML 2016.

    :param dim: axis of the units: -1 behind a linear layer, 1 behind a convolution
    """

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def extra_repr(self) -> str:
        """What ``repr`` shows."""
        return f"dim={self.dim}"

    def forward(self, features: Tensor) -> Tensor:
        """Concatenate the positive parts and the negative parts."""
        return torch.cat([features.relu(), (-features).relu()], dim=self.dim)
