"""Loops over weights in one pass, compiled by numba where that is installed (the extra ``fast``).

After each optimizer step, generate-and-test does little arithmetic on many small tensors. There a call of torch costs
more than what it computes, and each pass over a tensor that has left the processor's cache costs again. These loops do
in one call what takes several of torch's. They give the same to rounding; where numba is missing, or a tensor isn't a
plain contiguous one of single or double precision on the CPU, torch does the work.
"""

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


def mean_magnitude_by_column(matrix: np.ndarray) -> np.ndarray:
    """Mean absolute value of each column."""
    totals = np.zeros(matrix.shape[1], matrix.dtype)
    _add_magnitudes(matrix, totals, 1 / len(matrix))
    return totals


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
def _add_magnitudes(values: np.ndarray, totals: np.ndarray, share: float) -> None:
    rows = values.shape[0]
    fours = rows - rows % 4  # taken together, as fetching and storing the totals takes the time
    for i in range(0, fours, 4):
        for j in range(values.shape[1]):
            totals[j] += abs(values[i, j]) + abs(values[i + 1, j]) + abs(values[i + 2, j]) + abs(values[i + 3, j])
    for i in range(fours, rows):
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
