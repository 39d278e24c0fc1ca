"""What the compiled gradient computes by a formula of its own."""

import numpy as np
import pytest

from cppo.fast.gradient import tanh

pytest.importorskip("numba")


@pytest.mark.parametrize("x", [0.0, 1e-20, 1e-4, -0.3, 1.0, 2.5, -7.0, 8.0, -50.0, np.inf])
def test_tanh_is_right_to_rounding(x: float) -> None:
    assert tanh(np.float32(x), True) == pytest.approx(np.tanh(x), rel=4e-7)
    assert tanh(x, False) == pytest.approx(np.tanh(x), rel=1e-15)


def test_tanh_of_what_is_no_number_is_none() -> None:
    assert np.isnan(tanh(np.float32(np.nan), True))
