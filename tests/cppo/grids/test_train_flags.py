"""One run or a grid: what the flags of train.py ask for."""

import pytest

from cppo.grids.train_flags import read_flags
from cppo.runs.folder import RunFolder
from cppo.settings.settings import Settings

CARTPOLE = ["--env", "CartPole-v1"]


def names(*args: str) -> list[str]:
    _, runs = read_flags(args)
    return [f"{run.settings.algo} {run.settings.seed}" for run in runs]


def test_without_lists_it_is_one_run():
    flags, runs = read_flags(["--algo", "ppo", "--seed", "3", *CARTPOLE])
    assert runs is None and (flags.algo, flags.seed) == ("ppo", 3)
    assert flags.settings().resolved() == Settings(algo="ppo", seed=3, env="CartPole-v1").resolved()
    assert str(flags.folder().path) == "runs/nature-CartPole-v1-ppo-seed3"


def test_several_algorithms_and_seeds_are_a_grid():
    assert names("--algo", "ppo", "cppo", "--seed", "0:2", *CARTPOLE) == ["ppo 0", "ppo 1", "cppo 0", "cppo 1"]
    assert names("--seed", "4", "2", *CARTPOLE) == ["cppo-l2 4", "cppo-l2 2"]
    assert names("--algo", "ppo", "--seed", "3:4", *CARTPOLE) == ["ppo 3"]  # a range is a grid, even of one


def test_each_algorithm_has_its_own_defaults_and_all_have_the_flags_given():
    _, (ppo, cppo) = read_flags(["--algo", "ppo", "cppo", "--gamma", "0.9", "--protocol", "talk", *CARTPOLE])
    assert ppo.settings.betas == cppo.settings.betas == (0.9, 0.999)
    assert ppo.settings.gamma == cppo.settings.gamma == 0.9
    _, (ppo, cppo) = read_flags(["--algo", "ppo", "cppo", *CARTPOLE])
    assert (ppo.settings.betas, cppo.settings.betas) == ((0.9, 0.999), (0.99, 0.99))


def test_a_grid_from_a_file(tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text("env: CartPole-v1\nalgo: [ppo, cppo]\nseed: 5\n")
    flags, runs = read_flags(["--grid", str(path), "--jobs", "3", "--output", "here"])
    assert [run.settings.algo for run in runs] == ["ppo", "cppo"]
    assert (flags.jobs, str(flags.output)) == (3, "here")


def test_a_run_to_resume_gives_the_defaults(tmp_path):
    RunFolder(tmp_path / "run").create(Settings(algo="ppo", seed=3, env="CartPole-v1").resolved(), []).release()
    flags, runs = read_flags(["--resume", str(tmp_path / "run"), "--seed", "4"])
    assert runs is None and (flags.algo, flags.env, flags.seed) == ("ppo", "CartPole-v1", 4)


def test_a_cluster_makes_one_run_a_grid():
    assert names("--executor", "ray", *CARTPOLE) == ["cppo-l2 0"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--seed", "0:x"], "--seed 0:x is not allowed"),
        (["--seed"], "--seed needs a value"),
        (["--env", "a:X-v0", "--env-module", "b"], "--env a:X-v0 names another module than --env-module b"),
        (["--trust-state"], "--trust-state has no effect without --resume"),
        (["--algo"], "--algo needs a value"),
        (["--algo", "ppo", "dqn"], "'dqn'"),
        (["--jobs", "0"], "--jobs 0 is not allowed"),
        (["--executor", "slurm"], "'slurm'"),
        (["--ray-address", "auto"], "--ray-address has no effect without --executor ray"),
        (["--grid", "no.yaml"], "no.yaml can't be read"),
        (["--grid", "no.yaml", "--gamma", "1"], "--gamma has no effect with --grid"),
        (["--grid", "no.yaml", "--seed", "1"], "--seed has no effect with --grid"),
        (["--resume", "RUN", "--seed", "0:2"], "--resume continues one run"),
        (["--resume", "RUN", "--executor", "ray"], "--resume continues one run"),
        (["--resume", "RUN", "--output", "x"], "--output has no effect with --resume"),
        (["--algo", "ppo", "ppo-l2", "--utility", "weight"], "--utility has no effect"),
        (["--algo", "ppo", "cppo", "--gama", "1"], "--gama"),
    ],
)
def test_bad_flags_are_one_line(args, words, capsys, tmp_path):
    RunFolder(tmp_path).create(Settings(algo="ppo").resolved(), []).release()
    with pytest.raises(SystemExit) as end:
        read_flags([str(tmp_path) if arg == "RUN" else arg for arg in args])
    out, err = capsys.readouterr()
    assert end.value.code == 2 and out == "" and err.count("\n") == 1
    assert err.startswith("train.py: error: ") and words in err


def test_a_module_is_named_on_the_command_line(tmp_path):
    for args in (["--env", "mine.ants:Ant-v0"], ["--env", "Ant-v0", "--env-module", "mine.ants"]):
        flags, runs = read_flags(args)
        assert runs is None and (flags.module, flags.settings().env) == ("mine.ants", "Ant-v0")
        assert str(flags.folder().path) == "runs/nature-Ant-v0-cppo-l2-seed0"
        _, (run, _) = read_flags([*args, "--seed", "0:2"])
        assert (run.env_module, run.settings.env) == ("mine.ants", "Ant-v0")
    path = tmp_path / "grid.yaml"
    path.write_text("env: [mine.ants:Ant-v0, CartPole-v1]\nalgo: ppo\n")
    for more, module in ([], None), (["--env-module", "others"], "others"):
        _, (own, other) = read_flags(["--grid", str(path), *more])
        assert (own.settings.env, own.env_module) == ("Ant-v0", "mine.ants")
        assert (other.settings.env, other.env_module) == ("CartPole-v1", module)
