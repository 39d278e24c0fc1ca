"""Measures of plasticity: plain functions on the features, weights and gradients of one layer of any torch module.

Features are given as (samples, units); of a convolution, channels are units and positions count as samples. Features of
another shape, or without a sample, are a ``ValueError``. The functions that name units return a mask of shape (units,),
so that ``share`` of it can be logged and the units themselves be worked on. Nothing here changes what it is given,
draws a random number or knows the rest of ``cppo``.

Sources: Dohare et al., "Loss of plasticity in deep continual learning", Nature 632 (2024); Sokar et al., "The dormant
neuron phenomenon in deep reinforcement learning", ICML 2023 (ReDo); Roy & Vetterli, "The effective rank", EUSIPCO 2007.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

SAMPLES = 2000
"""Samples over which dead units and ranks are defined (Nature, methods)."""

DORMANT_BELOW = 0.01
"""A unit that is active on a smaller share of the samples is dormant (Nature, methods)."""

TAU = 0.1
"""Threshold of tau-dormant units; that of Nature's ReDo runs."""

NEAR_BOUND = 0.99
"""How near a tanh unit must be to its bounds to count as saturated, as a share of the way; ours."""

SATURATED_FROM = 0.99
"""A unit that is near its bounds on this share of the samples or more is saturated; ours, the mirror of dormant."""

BOUNDS = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}
"""Lowest and highest output of the activations that saturate."""


# Units ----------------------------------------------------------------------------------------------------------------


def dead_units(features: Tensor) -> Tensor:
    """Units whose output is 0 on every sample (Nature)."""
    _check(features)
    return (features == 0).all(dim=0)


def dormant_units(features: Tensor, below: float = DORMANT_BELOW) -> Tensor:
    """Units whose output differs from 0 on less than a share of the samples (Nature: 1 %)."""
    _check(features)
    return (features != 0).sum(dim=0) < below * len(features)


def tau_dormant_units(features: Tensor, tau: float = TAU) -> Tensor:
    """Units whose mean |h|, divided by the layer's mean of it, is at or under tau (ReDo); all in a layer that is 0."""
    _check(features)
    magnitude = features.abs().mean(dim=0, dtype=torch.float64)
    return magnitude <= tau * magnitude.mean()


def saturated_units(
    features: Tensor, activation: str = "tanh", near: float = NEAR_BOUND, share: float = SATURATED_FROM
) -> Tensor:
    """Units that are near one of their bounds on at least a share of the samples.

    Near means that the distance to the middle of the range is ``near`` of the greatest one: |h| >= 0.99 for tanh, below
    0.005 or above 0.995 for sigmoid.

    :param activation: "tanh" or "sigmoid"
    :param near: how near, as a share of the way from the middle
    :param share: on how many of the samples
    :raises ValueError: for another activation
    """
    _check(features)
    if activation not in BOUNDS:
        raise ValueError(
            f"activation={activation!r} does not saturate at two bounds; choose one of {', '.join(BOUNDS)}"
        )
    low, high = BOUNDS[activation]
    from_middle = (features - (low + high) / 2).abs()
    return (from_middle >= near * (high - low) / 2).sum(dim=0) >= share * len(features)


def share(units: Tensor) -> float:
    """The share of units in a mask, or of elements that are true in any tensor of booleans."""
    return units.double().mean().item()


# Diversity ------------------------------------------------------------------------------------------------------------


def singular_values(features: Tensor) -> Tensor:
    """Singular values of the features, from the eigenvalues of the smaller Gram matrix in double precision.

    That takes a fraction of the time of a decomposition of the features themselves. Values below about 1e-8 of the
    largest are noise of that size, which no rank here notices.

    :return: largest first, shape (min(samples, units),); NaN if a feature is not finite
    """
    _check(features)
    matrix = features.detach().double()
    gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    if not gram.isfinite().all():
        return torch.full_like(gram[0], math.nan)
    return torch.linalg.eigvalsh(gram).clamp_min(0).sqrt().flip(0)


def effective_rank(values: Tensor) -> float:
    """Exponential of the entropy of the normalised singular values (Roy & Vetterli).

    :param values: singular values, none below 0
    :return: from 1 to the number of values; 0 if all are 0
    """
    total = values.sum()
    if total == 0:
        return 0.0
    return torch.special.entr(values / total).sum().exp().item()


def stable_rank(values: Tensor, above: float = 0.99) -> float:
    """The smallest number of singular values, the largest ones, that sum to more than 99 % of all (as in Nature).

    :param values: singular values, largest first
    :param above: the share of their sum
    :return: a whole number; 0 if all are 0, NaN if one is
    """
    running = values.cumsum(dim=0)
    if not running[-1] > 0:
        return 0.0 if running[-1] == 0 else math.nan
    return float((running <= above * running[-1]).sum().item() + 1)


# Weights and gradients ------------------------------------------------------------------------------------------------


def weight_magnitude(weights: Tensor) -> float:
    """Mean |w| (Nature)."""
    return weights.detach().abs().mean().item()


def update_size(before: Tensor, after: Tensor) -> float:
    """Mean |change| of the weights from before an update to after it."""
    return (after.detach() - before).abs().mean().item()


def distance(weights: Tensor, initial: Tensor) -> float:
    """Euclidean distance of the weights from where they began."""
    return torch.linalg.vector_norm(weights.detach() - initial).item()


def gradient_norm(gradients: Sequence[Tensor]) -> float:
    """Euclidean norm of some gradients taken together, as of a layer's weights and biases."""
    return math.hypot(*(torch.linalg.vector_norm(gradient).item() for gradient in gradients))


def zero_share(gradients: Sequence[Tensor]) -> float:
    """The share of elements of some gradients that are exactly 0.

    :raises ValueError: if there is no element
    """
    count = sum(gradient.numel() for gradient in gradients)
    if not count:
        raise ValueError("there is no gradient, so no share of it is 0")
    return 1 - sum(int(gradient.count_nonzero()) for gradient in gradients) / count


def _check(features: Tensor) -> None:
    if features.ndim != 2 or not len(features):
        raise ValueError(f"features must be of shape (samples, units) with a sample, not {tuple(features.shape)}")
