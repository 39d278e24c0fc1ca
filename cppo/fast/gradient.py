"""The gradient of PPO's loss for an MlpPolicy with a Gaussian, written down: one compiled function a minibatch.

With a hundred samples, calls of Python and torch between the matrix products take as long as the products. So forward
passes, losses, backward passes and the features' means are one call of numba; products are numba's ``np.dot``, which is
scipy's OpenBLAS. Means and sums of the losses are taken in double precision.
"""

import math
from typing import NamedTuple

import numpy as np

from cppo.compiled import compile_loop, matrix_at


class Terms(NamedTuple):
    """The settings of the loss at the moment, named as stable-baselines3's.

    :param clip_range_vf: infinite if the change of values isn't limited
    """

    normalize_advantage: bool
    clip_range: float
    clip_range_vf: float
    ent_coef: float
    vf_coef: float


class Losses(NamedTuple):
    """Figures of a minibatch, named as in stable-baselines3's log; the value loss without ``vf_coef``."""

    policy_gradient_loss: float
    entropy_loss: float
    clip_fraction: float
    approx_kl: float
    value_loss: float


class Minibatch(NamedTuple):
    """stable-baselines3's ``RolloutBufferSamples`` as arrays of the parameters' kind of numbers."""

    observations: np.ndarray
    actions: np.ndarray
    old_values: np.ndarray
    old_log_prob: np.ndarray
    advantages: np.ndarray
    returns: np.ndarray


WEIGHT, BIAS, WEIGHT_GRADIENT, BIAS_GRADIENT, OUTPUT, ERROR = range(6)


class Chain(NamedTuple):
    """Where a network's numbers lie; so one function serves any depth.

    :param widths: numbers of inputs, of hidden units and of outputs
    :param places: addresses, shape (6, layers): of each linear layer's parameters and their ``grad``, of room for what
        it gives out, activated, a row for each sample, and for the loss' gradient by that. The last layer's output lies
        where its errors will
    :param like: an array of their kind of numbers
    """

    widths: np.ndarray
    places: np.ndarray
    is_relu: bool
    like: np.ndarray


@compile_loop
def write_gradients(
    actor: Chain,
    critic: Chain,
    log_std: np.ndarray,
    log_std_gradient: np.ndarray,
    data: Minibatch,
    terms: Terms,
    seen: np.ndarray,
) -> Losses:
    """Write the gradients of all parameters; return the losses.

    :param seen: receives each hidden unit's mean activation and mean magnitude, shape (2, units): of the actor's
        layers, then of the critic's
    """
    means, start = _forward(data.observations, actor, seen, 0)
    loss, entropy_loss, clip_fraction, approx_kl = _pull_at_means(means, log_std, log_std_gradient, data, terms)
    _backward(data.observations, actor)
    values, _ = _forward(data.observations, critic, seen, start)
    value_loss = _pull_at_values(values, data, terms)
    _backward(data.observations, critic)
    return Losses(loss, entropy_loss, clip_fraction, approx_kl, value_loss)


# Passes ---------------------------------------------------------------------------------------------------------------


@compile_loop
def _forward(x: np.ndarray, chain: Chain, seen: np.ndarray, start: int) -> tuple[np.ndarray, int]:
    """Compute the network's output, to lie where its errors are looked for; its units' columns begin at ``start``."""
    last = chain.places.shape[1] - 1
    for number in range(last + 1):
        width = chain.widths[number + 1]
        room = chain.places[ERROR if number == last else OUTPUT, number]
        output = matrix_at(room, len(x), width, chain.like)
        bias = matrix_at(chain.places[BIAS, number], 1, width, chain.like)
        np.dot(x, matrix_at(chain.places[WEIGHT, number], width, x.shape[1], chain.like).T, output)
        if number == last:
            output += bias
        else:
            _activate(output, bias[0], chain.is_relu, seen[:, start : start + width])
            start += width
        x = output
    return x, start


@compile_loop
def _activate(output: np.ndarray, bias: np.ndarray, is_relu: bool, seen: np.ndarray) -> None:
    """Add the bias and activate, in place; write each unit's mean and mean magnitude."""
    mean, magnitude = np.zeros(bias.size, bias.dtype), np.zeros(bias.size, bias.dtype)
    is_single = bias.itemsize == 4
    for i in range(len(output)):
        if is_relu:
            for j in range(bias.size):
                h = output[i, j] + bias[j]
                output[i, j] = h = bias.dtype.type(0) if h < 0 else h  # what is no number stays none
                mean[j] += h
        else:
            for j in range(bias.size):
                output[i, j] = h = tanh(output[i, j] + bias[j], is_single)
                mean[j] += h
                magnitude[j] += abs(h)
    share = bias.dtype.type(1 / len(output))
    for j in range(bias.size):
        seen[0, j] = share * mean[j]
        seen[1, j] = share * (mean[j] if is_relu else magnitude[j])


@compile_loop
def tanh(x: float, is_single: bool) -> float:
    """Compute the hyperbolic tangent: in single precision a fraction of polynomials, which can be vectorised.

    Its coefficients are Eigen's (``generic_fast_tanh_float``); it is 3e-7 off at most, of the value itself.
    """
    if not is_single:
        return np.tanh(x)
    real = np.float32
    x = real(7.90531110763549805) if x > real(7.90531110763549805) else x
    x = real(-7.90531110763549805) if x < real(-7.90531110763549805) else x
    square = x * x
    above = real(2.00018790482477e-13) - real(2.76076847742355e-16) * square
    above = real(5.12229709037114e-08) + (real(-8.60467152213735e-11) + above * square) * square
    above = real(6.37261928875436e-04) + (real(1.48572235717979e-05) + above * square) * square
    above = real(4.89352455891786e-03) + above * square
    below = real(1.18534705686654e-04) + real(1.19825839466702e-06) * square
    below = real(4.89352518554385e-03) + (real(2.26843463243900e-03) + below * square) * square
    return x * above / below


@compile_loop
def _backward(x: np.ndarray, chain: Chain) -> None:
    """Write the gradients of weights and biases, given the loss' gradient by the output."""
    n_samples, last = len(x), chain.places.shape[1] - 1
    error = matrix_at(chain.places[ERROR, last], n_samples, chain.widths[-1], chain.like)
    matrix_at(chain.places[BIAS_GRADIENT, last], 1, chain.widths[-1], chain.like)[0] = error.sum(axis=0)
    for number in range(last, -1, -1):
        width, before = chain.widths[number + 1], chain.widths[number]
        given = matrix_at(chain.places[OUTPUT, number - 1], n_samples, before, chain.like) if number else x
        np.dot(error.T, given, matrix_at(chain.places[WEIGHT_GRADIENT, number], width, before, chain.like))
        if number:
            room = matrix_at(chain.places[ERROR, number - 1], n_samples, before, chain.like)
            np.dot(error, matrix_at(chain.places[WEIGHT, number], width, before, chain.like), room)
            bias_gradient = matrix_at(chain.places[BIAS_GRADIENT, number - 1], 1, before, chain.like)[0]
            _pass_back(room, given, chain.is_relu, bias_gradient)
            error = room


@compile_loop
def _pass_back(error: np.ndarray, features: np.ndarray, is_relu: bool, bias_gradient: np.ndarray) -> None:
    """Take the loss' gradient back through an activation, in place; write its sum over the samples."""
    bias_gradient[:] = 0
    for i in range(len(error)):
        if is_relu:
            for j in range(bias_gradient.size):
                error[i, j] = bias_gradient.dtype.type(0) if features[i, j] <= 0 else error[i, j]
        else:
            for j in range(bias_gradient.size):
                error[i, j] *= 1 - features[i, j] ** 2
        for j in range(bias_gradient.size):
            bias_gradient[j] += error[i, j]


# The loss -------------------------------------------------------------------------------------------------------------


@compile_loop
def _pull_at_means(
    means: np.ndarray, log_std: np.ndarray, log_std_gradient: np.ndarray, data: Minibatch, terms: Terms
) -> tuple[float, float, float, float]:
    """Overwrite the Gaussian's means by the loss' gradient by them; write that by its ``log_std``.

    :param means: shape (samples, actions)
    :return: the first four of ``Losses``
    """
    n_samples, n_actions = means.shape
    number = means.dtype.type
    advantages = data.advantages.astype(np.float64)
    if terms.normalize_advantage and n_samples > 1:
        advantages -= advantages.mean()
        advantages /= math.sqrt((advantages**2).sum() / (n_samples - 1)) + 1e-8
    precision = np.exp(-2 * log_std)
    constant = log_std.astype(np.float64).sum() + 0.5 * n_actions * math.log(2 * math.pi)
    std_gradient = np.zeros(n_actions)
    least, most = 1 - terms.clip_range, 1 + terms.clip_range
    loss, n_clipped, divergence = 0.0, 0, 0.0
    for i in range(n_samples):
        square = 0.0
        for j in range(n_actions):
            off = data.actions[i, j] - means[i, j]
            square += off * off * precision[j]
        log_ratio = number(-0.5 * square - constant) - data.old_log_prob[i]
        ratio = np.exp(log_ratio)
        free, clipped = (
            advantages[i] * ratio,
            advantages[i] * (least if ratio < least else most if ratio > most else ratio),
        )
        # dLoss/dlog_prob: that of the smaller one, which is constant where it is clipped.
        weight = 0.0 if clipped < free else -free / n_samples
        for j in range(n_actions):
            off = data.actions[i, j] - means[i, j]
            std_gradient[j] += weight * (off * off * precision[j] - 1)
            means[i, j] = weight * off * precision[j]
        loss -= clipped if clipped < free else free
        n_clipped += abs(ratio - 1) > terms.clip_range
        divergence += ratio - 1 - log_ratio
    log_std_gradient[:] = std_gradient - terms.ent_coef
    entropy_loss = -(constant + 0.5 * n_actions)
    return loss / n_samples, entropy_loss, n_clipped / n_samples, divergence / n_samples


@compile_loop
def _pull_at_values(values: np.ndarray, data: Minibatch, terms: Terms) -> float:
    """Overwrite the values, shape (samples, 1), by the loss' gradient by them; return their loss."""
    n_samples, limit = len(values), terms.clip_range_vf
    loss = 0.0
    for i in range(n_samples):
        error = values[i, 0] - data.returns[i]
        scale = 2 * terms.vf_coef / n_samples
        change = values[i, 0] - data.old_values[i]
        if abs(change) > limit:
            error = data.old_values[i] + (limit if change > 0 else -limit) - data.returns[i]
            scale = 0.0
        values[i, 0] = scale * error
        loss += error * error
    return loss / n_samples
