from __future__ import annotations

import itertools

import numpy as np

from cppo.benchmarks.regression.bit_flipping import Stream


def first_tasks(count, **values):
    return list(itertools.islice(Stream(seed=3, change_every=500, **values).tasks(), count))


def test_one_slow_bit_flips_at_each_change():
    tasks = first_tasks(6)
    for before, after in itertools.pairwise(tasks):
        assert np.abs(before.slow - after.slow).sum() == 1


def test_all_slow_bits_can_be_drawn_anew():
    changes = [np.abs(a.slow - b.slow).sum() for a, b in itertools.pairwise(first_tasks(9, flip="all"))]
    assert max(changes) > 3  # of 15 bits 7.5 change on average


def test_inputs_are_15_slow_and_5_random_bits():
    task = first_tasks(1)[0]
    x = task.inputs()
    assert x.shape == (500, 20)
    assert (x[:, :15] == task.slow).all()
    assert set(np.unique(x)) == {0.0, 1.0}
    np.testing.assert_allclose(x[:, 15:].mean(axis=0), 0.5, atol=0.1)  # 500 fair coins: 4.5 standard deviations


def test_the_target_is_a_fixed_function_of_the_bits():
    """The same inputs have the same target, in other tasks too; a sum of 101 numbers of size 1 is a whole number."""
    seen = {}
    for task in first_tasks(40):
        for x, y in zip(task.inputs(), task.targets, strict=True):
            assert seen.setdefault(x.tobytes(), y) == y
    values = np.array(list(seen.values()))
    assert (values == values.round()).all()
    assert 1 < values.std() < 5


def test_a_seed_gives_the_same_stream_again_and_another_seed_another():
    stream = Stream(seed=1, change_every=50)
    first, again, other = (next(each.tasks()).targets for each in (stream, stream, Stream(seed=2, change_every=50)))
    assert (first == again).all()
    assert (first != other).any()
