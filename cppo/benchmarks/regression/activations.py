"""The learners' activations and their slopes, compiled, and the same as torch modules."""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from cppo.compiled import compile_loop

Floats = NDArray[np.float32]
ActivationName = Literal["relu", "tanh", "sigmoid", "leaky_relu", "elu", "swish"]

MODULES: dict[str, type[nn.Module]] = {
    "linear": nn.Identity,
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "swish": nn.SiLU,
}
CODES = {name: code for code, name in enumerate(MODULES)}
"""Number of each activation in the compiled code."""

LINEAR, RELU, TANH, SIGMOID, LEAKY_RELU, ELU, SWISH = range(7)
LEAK = np.float32(0.01)
"""Slope of torch's leaky ReLU below zero."""

ONE = np.float32(1)
ZERO = np.float32(0)


@compile_loop
def activate(code: int, sums: Floats, features: Floats, slopes: Floats) -> None:
    """Apply an activation to each row of sums; write its values and slopes.

    :param code: which, see ``CODES``
    :param sums: shape (units, lanes)
    :param features: shape (at least units, lanes), written
    :param slopes: shape (units, lanes), written
    """
    for unit in range(len(sums)):
        if code in (LINEAR, RELU, LEAKY_RELU):
            below = ZERO if code == RELU else LEAK if code == LEAKY_RELU else ONE
            _bend(below, sums[unit], features[unit], slopes[unit])
        else:
            _curve(code, sums[unit], features[unit], slopes[unit])


@compile_loop
def _bend(below: np.float32, sums: Floats, features: Floats, slopes: Floats) -> None:
    for lane in range(len(sums)):
        slopes[lane] = ONE if sums[lane] > 0 else below
        features[lane] = slopes[lane] * sums[lane]


@compile_loop
def _curve(code: int, sums: Floats, features: Floats, slopes: Floats) -> None:
    for lane in range(len(sums)):
        if code == TANH:
            features[lane] = math.tanh(sums[lane])
            slopes[lane] = ONE - features[lane] * features[lane]
        elif code == ELU:
            features[lane] = sums[lane] if sums[lane] > 0 else np.float32(math.expm1(sums[lane]))
            slopes[lane] = ONE if sums[lane] > 0 else math.exp(sums[lane])
        else:
            share = ONE / (ONE + math.exp(-sums[lane]))
            slope = share * (ONE - share)
            features[lane] = share * sums[lane] if code == SWISH else share
            slopes[lane] = share + sums[lane] * slope if code == SWISH else slope
