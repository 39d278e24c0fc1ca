from __future__ import annotations

from cppo.benchmarks.mnist.mnist_settings import MnistSettings
from cppo.benchmarks.mnist.run import MNIST
from cppo.benchmarks.plotting import INTERNALS, Result, table


def test_the_table_has_means_and_half_widths_of_students_interval():
    """Seeds at 1, 2 and 3: 2 ± 4.303 / sqrt(3); a single seed has no interval."""
    rows = [{"seed": seed, "task": 1, "accuracy": 1.0 + seed, **dict.fromkeys(INTERNALS, 0.0)} for seed in range(3)]
    three, one = (Result(MnistSettings().resolved(), part) for part in (rows, rows[:1]))
    assert "| bp | 3 | 2 ± 2.5 | 2 ± 2.5 | 1 | 2 ± 2.5 | 0 | 0 | 0 |" in table(MNIST, [three], 1)
    assert "| bp | 1 | 1 | 1 | 1 | 1 | 0 | 0 | 0 |" in table(MNIST, [one], 1)
