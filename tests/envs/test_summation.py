"""The sums equal numpy's to the last bit."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from cppo_envs.summation import means_of_power_and_heat, pairwise_sum

numbers = st.floats(-1e3, 1e3)
singles = st.floats(-1e3, 1e3, width=32)


@given(st.lists(numbers, max_size=127))
def test_pairwise_sum_is_numpys(values: list[float]) -> None:
    assert pairwise_sum(values) == np.add.reduce(np.array(values))


def check_means(action: np.ndarray, speeds: np.ndarray) -> None:
    power, heat = means_of_power_and_heat(action, speeds.tolist())
    assert power == np.abs(action * speeds).mean()
    assert heat == np.square(action).mean()


@given(stn.arrays(np.float32, 8, elements=singles), stn.arrays(np.float32, 8, elements=singles))
def test_means_of_eight_singles_are_numpys(action: np.ndarray, speeds: np.ndarray) -> None:
    check_means(action, speeds)


@given(stn.arrays(np.float64, 8, elements=numbers), stn.arrays(np.float32, 8, elements=singles))
def test_means_of_an_action_in_double_precision_are_numpys(action: np.ndarray, speeds: np.ndarray) -> None:
    check_means(action, speeds)


def test_a_huge_action_has_infinite_cost_as_in_numpy() -> None:
    action = np.full(8, 1e30, np.float32)
    with np.errstate(over="ignore"):
        assert means_of_power_and_heat(action, [1.0] * 8)[1] == np.inf
