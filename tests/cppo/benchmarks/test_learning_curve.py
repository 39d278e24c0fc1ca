from __future__ import annotations

from cppo.benchmarks.learning_curve import curve


def test_curves_are_laid_out_by_seed_and_binned():
    rows = [{"seed": seed, "step": step, "error": seed + step} for step in (1, 2, 3, 4, 5) for seed in (0, 10)]
    binned = curve(rows, "step", "error", bin_width=2)
    assert binned.when.tolist() == [2, 4]
    assert binned.values.tolist() == [[1.5, 3.5], [11.5, 13.5]]
    assert (binned.best(higher_is_better=False), binned.best(higher_is_better=True)) == (0, 1)
