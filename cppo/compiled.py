"""Loops over weights in one pass, compiled by numba where that is installed (the extra ``fast``).

After each optimizer step, generate-and-test does little arithmetic on many small tensors. There a call of torch costs
more than what it computes, and each pass over a tensor that has left the processor's cache costs again. These loops do
in one call what takes several of torch's. They give the same to rounding; where numba is missing, or a tensor isn't a
plain contiguous one of single or double precision on the CPU, torch does the work.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

try:
    import numba
except ImportError:  # pragma: no cover - the tests run with it
    numba = None  # type: ignore[assignment]

_PLAIN = (Tensor, nn.Parameter)
_PRECISIONS = (torch.float32, torch.float64)


def can_take(tensor: Tensor) -> bool:
    """Whether the loops can work on a tensor."""
    return (
        numba is not None
        and type(tensor) in _PLAIN
        and tensor.dtype in _PRECISIONS
        and tensor.device.type == "cpu"
        and tensor.is_contiguous()
    )


def compile_loop(loop: Callable[..., Any]) -> Callable[..., Any]:
    """Have numba compile a loop for the types it is called with, and keep the result on disk if there is a place.

    Sums may be taken in any order, so that they can be vectorised; everything else is computed as written.
    """
    if numba is None:  # pragma: no cover
        return loop
    compile_ = functools.partial(numba.njit, error_model="numpy", fastmath={"reassoc", "contract"})
    try:
        return compile_(cache=True)(loop)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return compile_()(loop)


if numba is not None:

    @numba.extending.intrinsic
    def _pointer_to(context: Any, address: Any) -> Any:
        """Take a number for an address."""

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

        return numba.types.voidptr(numba.types.int64), generate


@compile_loop
def matrix_at(address: int, rows: int, columns: int, like: np.ndarray) -> np.ndarray:
    """The matrix that lies at an address: handing loops many arrays one by one takes longer than a loop.

    Whoever gives the address sees to it that the matrix is there, contiguous, and of the kind of numbers of ``like``.
    """
    return numba.carray(_pointer_to(address), (rows, columns), like.dtype)  # type: ignore[call-arg]


def is_finite(tensor: Tensor) -> bool:
    """Whether every element of a tensor that ``can_take`` accepts is finite."""
    return bool(_sum_of_zeros(tensor.numpy().reshape(-1)) == 0)


def mean_magnitude_by_column(matrix: np.ndarray) -> np.ndarray:
    """Mean absolute value of each column."""
    totals = np.zeros(matrix.shape[1], matrix.dtype)
    _add_magnitudes(matrix, totals, 1 / len(matrix))
    return totals


@compile_loop
def mean_magnitudes_by_column(addresses: np.ndarray, shapes: np.ndarray, means: np.ndarray) -> None:
    """Mean absolute value of each column of some matrices, one matrix after another.

    :param addresses: where the matrices lie, see ``matrix_at``
    :param shapes: shape (matrices, 2)
    :param means: is given the values; of the matrices' kind of numbers
    """
    start = 0
    means[:] = 0
    for number in range(len(addresses)):
        rows, columns = shapes[number]
        of_matrix = means[start : start + columns]
        _add_magnitudes(matrix_at(addresses[number], rows, columns, means), of_matrix, 1 / rows)
        start += columns


def mean_magnitude_by_row(matrix: np.ndarray) -> np.ndarray:
    """Mean absolute value of each row."""
    means = np.empty(len(matrix), matrix.dtype)
    _average_rows(matrix, means)
    return means


def mean_deviation_by_column(matrix: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Mean absolute difference of each column from its centre."""
    totals = np.zeros(matrix.shape[1], matrix.dtype)
    _add_deviations(matrix, centre, totals, 1 / len(matrix))
    return totals


@compile_loop
def _sum_of_zeros(values: np.ndarray) -> float:
    """Zero times each value, summed: what isn't finite makes it NaN."""
    total = values.dtype.type(0)
    for i in range(values.size):
        total += values[i] * values.dtype.type(0)
    return total


@compile_loop
def _add_magnitudes(values: np.ndarray, totals: np.ndarray, share: float) -> None:
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            totals[j] += abs(values[i, j])
    for j in range(totals.size):
        totals[j] *= share


@compile_loop
def _add_deviations(values: np.ndarray, centre: np.ndarray, totals: np.ndarray, share: float) -> None:
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            totals[j] += abs(values[i, j] - centre[j])
    for j in range(totals.size):
        totals[j] *= share


@compile_loop
def _average_rows(values: np.ndarray, means: np.ndarray) -> None:
    for i in range(values.shape[0]):
        total = values.dtype.type(0)
        for j in range(values.shape[1]):
            total += abs(values[i, j])
        means[i] = total / values.shape[1]


@compile_loop
def find_positive(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the positive elements of a vector are, and what they are."""
    count = 0
    for i in range(values.size):
        count += values[i] > 0
    index, found = np.empty(count, np.int64), np.empty(count, values.dtype)
    count = 0
    for i in range(values.size):
        if values[i] > 0:
            index[count], found[count] = i, values[i]
            count += 1
    return index, found


@compile_loop
def correct_adam(
    weights: np.ndarray,
    mean: np.ndarray,
    mean_square: np.ndarray,
    index: np.ndarray,
    births: np.ndarray,
    now: int,
    given: tuple[float, float],
    factors: np.ndarray,
    offsets: np.ndarray,
    step_size: float,
) -> None:
    """Take back from some weights the step that Adam gave them, and give them the one of their own age.

    A step is ``step_size * mean / (factor * sqrt(mean_square) + offset)``.

    :param weights: values of a parameter, flat, as its ``mean`` and ``mean_square``
    :param index: which weights
    :param births: the parameter's step count when each was born
    :param now: the parameter's step count
    :param given: the factor and the offset of the step it took
    :param factors: those of a weight after each number of steps, as ``offsets``
    """
    number = weights.dtype.type
    factor, offset, scale = number(given[0]), number(given[1]), number(step_size)
    for k in range(index.size):
        i, age = index[k], now - births[k]
        root = np.sqrt(mean_square[i])
        weights[i] += scale * (mean[i] / (factor * root + offset) - mean[i] / (factors[age] * root + offsets[age]))


@compile_loop
def grow_older(age: np.ndarray, average: np.ndarray, activation: np.ndarray, share: float) -> None:
    """Age units by one step and move their average activation towards that of the step."""
    portion = average.dtype.type(share)
    for i in range(age.size):
        age[i] += 1
        average[i] += portion * (activation[i] - average[i])


@compile_loop
def judge(
    average: np.ndarray,
    utility: np.ndarray,
    share: float,
    activation: np.ndarray,
    age: np.ndarray,
    maturity_threshold: int,
    starts: np.ndarray,
    mature: np.ndarray,
) -> bool:
    """Move units' average utility towards that of the step, and count the mature units of each layer.

    :param starts: where each layer's units begin, and where the last one's end
    :param mature: is given the counts
    :return: whether all averages are finite
    """
    portion = average.dtype.type(share)
    total = average.dtype.type(0)
    for i in range(average.size):
        average[i] += portion * (utility[i] - average[i])
        total += (average[i] + activation[i]) * average.dtype.type(0)
    for layer in range(mature.size):
        count = 0
        for i in range(starts[layer], starts[layer + 1]):
            count += age[i] > maturity_threshold
        mature[layer] = count
    return total == 0
