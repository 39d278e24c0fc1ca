"""A grid from a YAML file: typed, each value as on the command line, and clear errors."""

import math

import pytest

from cppo.grids.grid_file import read_grid


@pytest.fixture
def grid(tmp_path):
    def read(text: str):
        path = tmp_path / "grid.yaml"
        path.write_text(text)
        return read_grid(path)

    return read


def test_lists_are_combined_and_the_rest_comes_from_the_presets(grid):
    runs = grid("protocol: talk\nalgo: [ppo, cppo]\nseed: 0:2\nreplacement_rate: [1e-4, 1e-5]\n")
    found = [(run.settings.algo, run.settings.seed, run.settings.replacement_rate) for run in runs]
    assert found == [
        ("ppo", 0, None),
        ("ppo", 1, None),
        ("cppo", 0, 1e-4),
        ("cppo", 0, 1e-5),
        ("cppo", 1, 1e-4),
        ("cppo", 1, 1e-5),
    ]
    assert {run.settings.total_timesteps for run in runs} == {100_000_000}  # the talk's


def test_one_value_is_a_grid_of_one(grid):
    (run,) = grid("seed: 3\n")
    assert (run.name, run.settings.seed) == ("nature-SlipperyAnt-v0-cppo-l2-seed3", 3)


@pytest.mark.parametrize(
    ("text", "key", "values"),
    [
        ("learning_rate: [1e-4, 1E-3, 0.01, .1, 1]", "learning_rate", [1e-4, 1e-3, 0.01, 0.1, 1]),
        ("max_grad_norm: [inf, .inf, 0.5]", "max_grad_norm", [math.inf, 0.5]),  # each once
        ("total_timesteps: 10_000", "total_timesteps", [10_000]),
        ("seed: [1:3, 7, '20:22']", "seed", [1, 2, 7, 20, 21]),  # 1:3 is 63 for YAML 1.1
        ("net_arch: [64, 32]", "net_arch", [(64, 32)]),  # a setting that is a list by itself
        ("net_arch: [[64], [32, 32]]", "net_arch", [(64,), (32, 32)]),
        ("betas: [[0.9, 0.999], [0.99, 0.99]]", "betas", [(0.9, 0.999), (0.99, 0.99)]),
        ("frictions: [0.1, 2]", "frictions", [(0.1, 2)]),
        ("target_kl: [null, 0.02]", "target_kl", [None, 0.02]),
        ("bias_transfer: [true, false]", "bias_transfer", [True, False]),
    ],
)
def test_values_are_typed(grid, text, key, values):
    assert [getattr(run.settings, key) for run in grid(text)] == values


BAD = {
    "": "must name settings with their values",
    "5": "must name settings with their values",
    "gama: 0.9": "unknown key 'gama'; allowed are algo, protocol, env, seed",
    "1: 2": "unknown key 1",
    "seed: 1\nseed: 2": "'seed' stands there twice",
    "seed: []": "seed has no value",
    "seed: 1.5": "a seed from 0",
    "seed: null": "a seed from 0",
    "algo: dqn": "algo 'dqn' is not allowed: it must be one of ppo, ",
    "algo: null": "algo needs a value",
    "algo: [[ppo]]": "algo .* is not allowed",
    "env: 5": "env 5 is not allowed: it must be of type str",
    "n_envs: true": "n_envs True is not allowed",
    "gamma: 2": "--gamma 2 is not allowed: it must be at least 0 and at most 1",
    "learning_rate: fast": "learning_rate 'fast' is not allowed: it must be of type float",
    "net_arch: 64": "net_arch 64 is not allowed: it must be a list of int",
    "net_arch: [[64], 32]": "net_arch 32 is not allowed",
    "algo: ppo\nutility: weight": "--utility has no effect with --algo ppo",
    "a: !!python/object/apply:os.system [true]": "could not determine a constructor",
    "algo: [": "while parsing",
}


@pytest.mark.parametrize(("text", "words"), BAD.items())
def test_bad_files_are_one_line(grid, text, words):
    with pytest.raises(ValueError, match=rf"grid\.yaml is not a grid of runs: .*{words}") as error:
        grid(text)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match=r"no\.yaml can't be read: No such file"):
        read_grid(tmp_path / "no.yaml")


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "grid.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ValueError, match="is not a grid of runs"):
        read_grid(tmp_path / "grid.yaml")
