"""Adam's step in one compiled loop over all parameters, each weight corrected for its own number of steps."""

from typing import NamedTuple

import numpy as np

from cppo.compiled import compile_loop, matrix_at

Pair = tuple[float, float]

SHORT = 128
"""Rows of fewer weights cost more to begin than to step."""


class Rules(NamedTuple):
    """A parameter group's hyperparameters, as numbers."""

    step_size: float
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    is_decoupled: bool
    is_maximizing: bool


class Places(NamedTuple):
    """Where matrices lie in memory.

    :param shapes: shape (matrices, 2)
    :param weights: address of each one's weights
    :param means: of the first moments
    :param squares: of the second ones
    :param kind: an array of their kind of numbers
    """

    shapes: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    squares: np.ndarray
    kind: np.ndarray


class Births(NamedTuple):
    """When all matrices' rows, and columns, were last made new, in their own step counts; 0 for never."""

    rows: np.ndarray
    columns: np.ndarray


@compile_loop
def step_adam(
    places: Places,
    gradients: np.ndarray,
    births: Births,
    counts: np.ndarray,
    corrections: np.ndarray,
    rules: Rules,
) -> None:
    """Take torch's step of Adam or AdamW, but for the step counts, which are those of the weights.

    A weight is as old as the younger of its row and its column. With c the corrections after that many steps,
    ``step_size * mean / c1 / (sqrt(square) / c2 + eps)`` is taken from it.

    :param places: of parameters and their moments, which are changed
    :param gradients: their addresses
    :param counts: each parameter's step count, this step included
    :param corrections: shape (2, steps): 1 - beta1^s and the root of 1 - beta2^s after s steps, up to where they no
        longer change; beyond, the parameter's own count says them
    """
    row = column = 0
    for number in range(len(counts)):
        rows, columns = places.shapes[number]
        _step_matrix(
            matrix_at(places.weights[number], rows, columns, places.kind),
            matrix_at(gradients[number], rows, columns, places.kind),
            matrix_at(places.means[number], rows, columns, places.kind),
            matrix_at(places.squares[number], rows, columns, places.kind),
            births.rows[row : row + rows],
            births.columns[column : column + columns],
            counts[number],
            corrections,
            rules,
        )
        row, column = row + rows, column + columns


@compile_loop
def _step_matrix(
    weights: np.ndarray,
    gradients: np.ndarray,
    means: np.ndarray,
    squares: np.ndarray,
    row_births: np.ndarray,
    column_births: np.ndarray,
    now: int,
    corrections: np.ndarray,
    rules: Rules,
) -> None:
    real = weights.dtype.type
    given = real(1 - rules.beta1**now), real(np.sqrt(1 - rules.beta2**now))
    rows, columns = weights.shape
    at_once = 1 if columns >= SHORT else rows  # short rows are taken as one
    first = np.empty((at_once, columns), weights.dtype)
    second = np.empty((at_once, columns), weights.dtype)
    for j in range(columns):
        first[0, j], second[0, j] = _corrections(column_births[j], now, corrections, given)
    if at_once == 1:
        of_columns = first[0], second[0]
        for i in range(rows):
            limits = _corrections(row_births[i], now, corrections, given)
            _step_row(i, weights, gradients, means, squares, limits, *of_columns, rules)
        return
    for i in range(rows - 1, -1, -1):
        limit1, limit2 = _corrections(row_births[i], now, corrections, given)
        for j in range(columns):
            first[i, j], second[i, j] = _smaller(limit1, first[0, j]), _smaller(limit2, second[0, j])
    one = (1, weights.size)
    flat = weights.reshape(one), gradients.reshape(one), means.reshape(one), squares.reshape(one)
    _step_row(0, *flat, given, first.reshape(-1), second.reshape(-1), rules)


@compile_loop
def _corrections(birth: int, now: int, corrections: np.ndarray, given: Pair) -> Pair:
    """Both corrections of what was born then, 0 for never."""
    age = now - birth
    if birth > 0 and age < corrections.shape[1]:
        return corrections[0, age], corrections[1, age]
    return given


@compile_loop
def _smaller(one: float, other: float) -> float:
    return one if one < other else other  # min() isn't vectorised


@compile_loop
def _step_row(
    row: int,
    weights: np.ndarray,
    gradients: np.ndarray,
    means: np.ndarray,
    squares: np.ndarray,
    limits: Pair,
    first: np.ndarray,
    second: np.ndarray,
    rules: Rules,
) -> None:
    """Step some weights; corrections grow with the age, so a row's limit theirs where the row is the younger."""
    real = weights.dtype.type
    sign = real(-1) if rules.is_maximizing else real(1)
    coupled = real(0) if rules.is_decoupled else real(rules.weight_decay)
    keep = real(1 - rules.step_size * rules.weight_decay) if rules.is_decoupled else real(1)
    step_size, eps = real(rules.step_size), real(rules.eps)
    new1, keep2, new2 = real(1 - rules.beta1), real(rules.beta2), real(1 - rules.beta2)
    for j in range(first.size):
        weight = weights[row, j]
        pull = sign * gradients[row, j] + coupled * weight
        mean = means[row, j] + new1 * (pull - means[row, j])
        square = keep2 * squares[row, j] + new2 * pull * pull
        share1, share2 = _smaller(limits[0], first[j]), _smaller(limits[1], second[j])
        means[row, j], squares[row, j] = mean, square
        weights[row, j] = keep * weight - step_size * share2 * mean / (share1 * (np.sqrt(square) + eps * share2))
