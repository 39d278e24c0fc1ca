from __future__ import annotations

import pytest

from cppo.benchmarks.mnist.mnist_settings import MnistSettings
from cppo.benchmarks.regression.regression_settings import RegressionSettings


def test_the_preset_fills_in_what_is_left_out():
    settings = RegressionSettings(learner="cbp", step_size=0.1).resolved()
    assert (settings.step_size, settings.maturity_threshold, settings.weight_decay) == (0.1, 100, None)


def test_the_name_tells_what_differs_from_the_preset():
    settings = RegressionSettings(learner="cbp", step_size=0.1, optimizer="adam", seeds=3).resolved()
    assert settings.name() == "cbp_step-size-0.1_optimizer-adam"


def test_a_folder_in_the_settings_makes_no_folders_of_the_name():
    settings = MnistSettings(data_dir="/data/mnist").resolved()
    assert settings.name() == "bp_data-dir--data-mnist"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learner": "magic"}, r"--learner 'magic' is unknown; choose one of bp, linear"),
        ({"replacement_rate": 0.1}, "--replacement-rate has no effect with --learner bp"),
        ({"learner": "linear", "activation": "relu"}, "--activation has no effect with --learner linear"),
        ({"step_size": 0.0}, r"--step-size 0.0 is not allowed: it must be finite and above 0"),
        ({"step_size": float("nan")}, "--step-size nan is not allowed"),
        ({"activation": "sine"}, "--activation 'sine' is not allowed: it must be one of relu, tanh"),
        ({"steps": 50_000}, "--steps 50000 is not allowed: it must be a multiple of --bin-steps"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(ValueError, match=message):
        RegressionSettings(**values).resolved()
