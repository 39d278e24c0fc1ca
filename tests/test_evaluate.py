"""The command: what it writes, and one clear line for bad input of any kind."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn

import evaluate
from cppo import CPPO
from cppo.files import check_ours
from cppo.remedies.sb3_mixin import RemediedCPPO
from cppo.report.trained_agent import TrainedAgent
from cppo.runs.folder import Ending, RunFolder
from cppo.settings.settings import Settings
from cppo.training.agent import build_model
from cppo.training.environments import make_vec_env

REPOSITORY = Path(evaluate.__file__).parent


def make_run(path: Path, env: str = "Pendulum-v1", **settings) -> RunFolder:
    resolved = Settings(env=env, algo="ppo", net_arch=(8, 8), n_envs=1, **settings).resolved()
    folder = RunFolder(path)
    folder.create(resolved, ["train.py"])
    vec_env = make_vec_env(resolved)
    build_model(resolved, vec_env).save(folder.model)
    vec_env.close()
    folder.write_ending(Ending("finished", 0, model=folder.model_digest()))
    return folder


@pytest.fixture
def pendulum(tmp_path) -> RunFolder:
    return make_run(tmp_path / "pendulum")


def refusal(args: list[str], capsys) -> str:
    """The one line with which the command refuses its input."""
    with pytest.raises(SystemExit) as end:
        evaluate.main(args)
    out, err = capsys.readouterr()
    assert end.value.code == 2 and out == ""
    (line,) = err.splitlines()
    assert line.startswith("evaluate.py: error: ")
    return line


def test_an_ant_is_evaluated_recorded_and_filmed_at_each_friction_of_its_training(tmp_path, capsys):
    pytest.importorskip("pybullet")
    imageio = pytest.importorskip("imageio.v2")
    pytest.importorskip("PIL")
    folder = make_run(tmp_path / "ant", "SlipperyAnt-v0", change_every=100, frictions=(0.5, 2.0))
    folder.progress.write_text("time/total_timesteps\n64\n128\n")
    record, film = tmp_path / "figures.json", tmp_path / "new" / "film.mp4"
    evaluate.main(
        [str(folder.path), "--episodes", "1", "--json", str(record), "--video", str(film), "--video-steps", "20"]
    )
    out, err = capsys.readouterr()
    heading, *rows = out.splitlines()
    assert heading.split()[:3] == ["friction", "episodes", "mean"]
    assert [row.split()[:2] for row in rows] == [["0.5", "1"], ["2", "1"]]
    told = [line.split(":")[0] for line in err.splitlines()]
    assert told == ["friction 0.5", "friction 2", f"filming {film}"]
    figures = json.loads(record.read_text())
    assert figures["run"]["steps_trained"] == 128
    assert [result["friction"] for result in figures["results"]] == [0.5, 2.0]
    assert rows[0].split()[2] == f"{figures['results'][0]['episodes'][0]['return']:.1f}"
    # steps 0, 2, ..., 20 at 30.3 frames per second, the last one held for a second of 30 frames, at two frictions
    with imageio.get_reader(film, format="FFMPEG") as frames:
        assert frames.get_meta_data()["size"] == (640, 480)
        assert sum(1 for _ in frames) == 2 * (11 + 30)


def test_runs_are_compared_at_the_same_frictions_in_tables_a_picture_and_a_film(tmp_path, capsys):
    pytest.importorskip("pybullet")
    pytest.importorskip("matplotlib")
    imageio = pytest.importorskip("imageio.v2")
    folders = [make_run(tmp_path / str(seed), "SlipperyAnt-v0", seed=seed) for seed in (0, 1)]
    record, plot, film = (tmp_path / name for name in ("figures.json", "plot.png", "film.mp4"))
    compared = ["--compare", *(str(folder.path) for folder in folders), "--friction", "0.8", "2", "--episodes", "1"]
    evaluate.main([*compared, "--json", str(record), "--plot", str(plot), "--video", str(film), "--video-steps", "4"])
    for path in (record, plot, film):
        check_ours(path)  # the same command may overwrite them
    lines = capsys.readouterr().out.splitlines()
    assert [lines[0], lines[4]] == ["ppo, seed 0", "ppo, seed 1"]
    assert [line.split()[0] for line in lines] == ["ppo,", "friction", "0.8", "2"] * 2
    figures = json.loads(record.read_text())
    assert [run["run"]["seed"] for run in figures] == [0, 1]
    assert [[result["episodes"][0]["seed"] for result in run["results"]] for run in figures] == [[1000, 1000]] * 2
    assert plot.read_bytes().startswith(b"\x89PNG")
    # at two frictions steps 0, 2, 4, and a second of 30 frames
    with imageio.get_reader(film, format="FFMPEG") as frames:
        assert frames.get_meta_data()["size"] == (1280, 480)
        assert sum(1 for _ in frames) == 2 * (3 + 30)


def test_what_became_of_each_friction_is_told(tmp_path, capfd):
    pytest.importorskip("pybullet")
    folder = make_run(tmp_path / "ant", "SlipperyAnt-v0", change_every=100, frictions=(0.5, 2.0), total_timesteps=200)
    headings = "time/total_timesteps,environment/phase,episodes/return,episodes/ended"
    folder.progress.write_text(f"{headings}\n100,0,1e6,1\n200,1,1e6,1\n")
    evaluate.main([str(folder.path), "--episodes", "1"])
    heading, *rows, rule = capfd.readouterr().out.splitlines()[-4:]
    assert heading.split()[-2:] == ["then", "verdict"]
    assert [row.split()[9:] for row in rows] == [["1000000.0", "doesn't", "walk"]] * 2
    assert rule.startswith("doesn't walk: ")


def test_comparing_takes_two_runs_of_one_environment(pendulum, tmp_path, capsys):
    assert "at least two" in refusal(["--compare", str(pendulum.path)], capsys)
    assert "one run" in refusal([], capsys)
    assert "one twice" in refusal(["--compare", str(pendulum.path), str(pendulum.path)], capsys)
    cart = make_run(tmp_path / "cart", "CartPole-v1")
    assert "one environment" in refusal(["--compare", str(pendulum.path), str(cart.path)], capsys)


def test_an_environment_without_friction_is_one_row(pendulum, capsys):
    evaluate.main([str(pendulum.path), "--episodes", "2", "--stochastic"])
    _, row = capsys.readouterr().out.splitlines()
    assert (row.split()[:2], row.split()[-2:]) == (["-", "2"], ["200.0", "-"])


def test_the_same_command_gives_the_same_figures_and_another_seed_others(pendulum, capsys):
    outputs = []
    for seed in ("5", "5", "6"):
        evaluate.main([str(pendulum.path), "--episodes", "2", "--seed", seed])
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]


def test_the_probe_is_told_and_recorded(pendulum, tmp_path, capsys):
    record = tmp_path / "figures.json"
    few = ["--episodes", "1", "--probe-targets", "2", "--probe-steps", "3"]
    evaluate.main([str(pendulum.path), "--probe", *few, "--json", str(record)])
    *_, headings, actor, critic = capsys.readouterr().out.splitlines()
    assert headings.split()[:3] == ["network", "targets", "error"]
    assert (actor.split()[:2], critic.split()[:2]) == (["actor", "2"], ["critic", "2"])
    probe = json.loads(record.read_text())["probe"]
    assert (probe["friction"], probe["steps"]) == (None, 3)
    assert len(probe["networks"]["critic"]["errors"]) == 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--episodes", "0"], ["--episodes", "at least 1", "0"]),
        (["--episodes", "-1"], ["--episodes", "at least 1", "-1"]),
        (["--episodes", "abc"], ["--episodes", "'abc'"]),
        (["--video-steps", "0"], ["--video-steps", "at least 1"]),
        (["--video-steps", "20"], ["--video-steps has no effect without --video"]),
        (["--probe-steps", "20"], ["--probe-steps has no effect without --probe"]),
        (["--probe-targets", "1"], ["--probe-targets has no effect without --probe"]),
        (["--env", "CartPole-v1"], ["--env has no effect with the folder of a run"]),
        (["--seed", "1e30"], ["--seed", "at most 4294967295"]),
        (["--probe-targets", "0"], ["--probe-targets", "at least 1", "0"]),
        (["--probe-steps", "0"], ["--probe-steps", "at least 1", "0"]),
        (["--seed", "-1"], ["--seed", "at least 0"]),
        (["--friction", "0.8"], ["--friction", "Pendulum-v1", "SlipperyAnt-v0"]),
        (["--friction", "slippery"], ["--friction", "'slippery'"]),
        (["--frictoin", "0.8"], ["--frictoin", "did you mean --friction?"]),
        (["--compare", "a", "b"], ["one run", "--compare"]),
        (["--plot", "plot.png"], ["--plot", "against friction"]),
        (["--plot", "plot.jpg"], ["--plot", "plot.jpg", ".png"]),
        (["--json", "/proc/nowhere/figures.json"], ["/proc/nowhere/figures.json", "can't be written"]),
        (["--video", "/proc/nowhere/film.mp4"], ["/proc/nowhere/film.mp4", "can't be written"]),
        (["--video", "film.gif"], ["film.gif", ".mp4"]),
    ],
)
def test_bad_flags_are_refused(pendulum, capsys, args, words):
    line = refusal([str(pendulum.path), *args], capsys)
    assert all(word in line for word in words), line


@pytest.mark.parametrize("friction", ["-1", "0", "nan"])
def test_a_friction_that_no_ground_has_is_refused(tmp_path, capfd, friction):
    pytest.importorskip("pybullet")
    folder = make_run(tmp_path / "ant", "FastAnt-v0")
    capfd.readouterr()
    line = refusal([str(folder.path), "--friction", friction], capfd)
    assert f"--friction must be a finite number above 0, got {float(friction)}" in line


def test_nothing_is_overwritten_that_this_program_did_not_write(pendulum, tmp_path, capsys):
    before = pendulum.config.read_bytes()
    line = refusal([str(pendulum.path), "--json", str(pendulum.config)], capsys)
    assert f"{pendulum.config} can't be written: this program didn't write what is there" in line
    assert pendulum.config.read_bytes() == before
    theirs = {"--video": tmp_path / "film.mp4", "--json": tmp_path / "figures.json"}
    for flag, path in theirs.items():
        path.write_text("somebody else's")
        assert "this program didn't write" in refusal([str(pendulum.path), flag, str(path)], capsys)
    mine = tmp_path / "mine.json"
    for episodes in ("1", "2"):
        evaluate.main([str(pendulum.path), "--episodes", episodes, "--json", str(mine)])
    assert len(json.loads(mine.read_text())["results"][0]["episodes"]) == 2


def test_an_episode_without_an_end_is_cut_with_a_word(pendulum, capsys):
    evaluate.main([str(pendulum.path), "--episodes", "1", "--episode-steps", "30"])
    out, err = capsys.readouterr()
    assert out.splitlines()[1].split()[-2] == "30.0"
    assert "warning: an episode was cut after 30 steps: it had not ended (--episode-steps allows more)" in err


def save(path: Path, env: str = "CartPole-v1", kind: type[PPO] = CPPO, **arguments) -> Path:
    """What a user of the library saves."""
    kind("MlpPolicy", env, n_steps=32, batch_size=32, seed=3, **arguments).save(path)
    return path


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (CPPO, {}),
        (PPO, {"policy_kwargs": {"net_arch": {"pi": [8], "vf": [9, 5]}, "activation_fn": nn.ELU}}),
        (RemediedCPPO, {"policy_kwargs": {"net_arch": [8]}, "remedies": {"layer-norm": {}}}),
    ],
)
def test_a_saved_agent_acts_as_it_does_in_the_library(kind, arguments, tmp_path):
    path = save(tmp_path / "agent.zip", kind=kind, **arguments)
    model = kind.load(path)
    agent = TrainedAgent.load_saved(path, "CartPole-v1")
    with agent.make_env(None) as env:
        observation, _ = env.reset(seed=4)
        for _ in range(5):
            action = model.predict(observation, deterministic=True)[0]
            assert agent.policy.predict(observation, deterministic=True)[0] == action
            observation = env.step(action)[0]


def test_saved_agents_are_evaluated_and_compared_with_runs(tmp_path, capsys):
    run, record = make_run(tmp_path / "run", "CartPole-v1"), tmp_path / "figures.json"
    path = save(tmp_path / "agent.zip")
    command = ["--compare", str(path), str(run.path), "--env", "CartPole-v1", "--episodes", "1", "--json", str(record)]
    evaluate.main(command)
    lines = capsys.readouterr().out.splitlines()
    assert lines[::3] == ["cppo, seed 3", "ppo, seed 0"]
    assert json.loads(record.read_text())[0]["run"]["folder"] == str(path)


def test_a_saved_ant_is_filmed_on_the_ground_asked_for(tmp_path, capsys):
    pytest.importorskip("pybullet")
    pytest.importorskip("imageio_ffmpeg")
    pytest.importorskip("PIL")
    run, film = make_run(tmp_path / "ant", "SlipperyAnt-v0"), tmp_path / "film.mp4"
    command = [str(run.model), "--env", "SlipperyAnt-v0", "--episodes", "1", "--episode-steps", "4"]
    assert f"give --friction: {run.model} doesn't tell on which its agent was trained" in refusal(command, capsys)
    evaluate.main([*command, "--friction", "0.5", "--video", str(film), "--video-steps", "4"])
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["0.5", "1"]
    check_ours(film)


def test_of_a_comparison_a_damaged_run_is_left_out_with_a_word(pendulum, tmp_path, capsys):
    damaged, gone = make_run(tmp_path / "damaged", "Pendulum-v1"), tmp_path / "gone"
    damaged.config.write_text("settings: [")
    capsys.readouterr()
    evaluate.main(["--compare", str(damaged.path), str(pendulum.path), str(gone), "--episodes", "1"])
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == "ppo, seed 0" and len(out.splitlines()) == 3  # heading, and the one agent's table
    words = [line for line in err.splitlines() if "is left out" in line]
    assert len(words) == 2
    assert words[0].startswith(f"evaluate.py: warning: {damaged.path} is left out: {damaged.config} ")
    assert words[1].startswith(f"evaluate.py: warning: {gone} is left out: ")
    assert str(damaged.config) in refusal(["--compare", str(damaged.path), str(gone)], capsys)


class Own(nn.Tanh):
    """An activation of one's own."""


@pytest.mark.parametrize(
    ("arguments", "args", "words"),
    [
        ({}, [], "give --env: "),
        ({}, ["--env", "NoSuchEnvironment-v0"], "NoSuchEnvironment"),
        ({}, ["--env", "Pendulum-v1"], "agent.zip does not fit Pendulum-v1"),
        ({}, ["--env", "CartPole-v1", "--probe"], "--probe needs the folder of a run"),
        ({"policy_kwargs": {"activation_fn": Own}}, ["--env", "CartPole-v1"], "is none of torch's"),
        ({"policy_kwargs": {"features_extractor_class": FlattenExtractor}}, ["--env", "CartPole-v1"], "isn't run"),
    ],
)
def test_what_a_saved_agent_does_not_tell_is_refused(arguments, args, words, tmp_path, capsys):
    assert words in refusal([str(save(tmp_path / "agent.zip", **arguments)), *args], capsys)


def test_a_run_that_is_not_there_or_not_whole_is_refused(pendulum, tmp_path, capsys):
    assert "no config.yaml" in refusal([str(tmp_path / "nowhere")], capsys)
    assert "nowhere.zip is missing" in refusal([str(tmp_path / "nowhere.zip"), "--env", "CartPole-v1"], capsys)
    model, config = pendulum.model.read_bytes(), pendulum.config.read_text()
    pendulum.model.write_bytes(model[:-1])
    assert "model.zip is not the one that this run wrote" in refusal([str(pendulum.path)], capsys)
    pendulum.write_ending(None)  # as a run that was killed
    for broken in (model[: len(model) // 2], bytes(range(256)) * 40, b""):
        pendulum.model.write_bytes(broken)
        assert "model.zip is not a readable model" in refusal([str(pendulum.path)], capsys)
    pendulum.model.unlink()
    assert "model.zip is missing" in refusal([str(pendulum.path)], capsys)
    pendulum.config.write_text("settings: [\n")
    assert "is not the configuration of a run" in refusal([str(pendulum.path)], capsys)
    pendulum.config.write_text(config.replace("Pendulum-v1", "NoSuchEnvironment-v0"))
    assert "NoSuchEnvironment" in refusal([str(pendulum.path)], capsys)
    pendulum.config.unlink()
    assert "no config.yaml" in refusal([str(pendulum.path)], capsys)


def test_the_model_of_another_environment_is_refused(pendulum, tmp_path, capsys):
    other = make_run(tmp_path / "other", "CartPole-v1")
    other.model.write_bytes(pendulum.model.read_bytes())
    other.write_ending(None)
    assert "does not fit CartPole-v1" in refusal([str(other.path)], capsys)


def test_an_ant_without_pybullet_is_one_line_that_says_how_to_get_it(tmp_path):
    """The command as its user meets it: in a process of its own."""
    RunFolder(tmp_path / "ant").create(Settings(env="SlipperyAnt-v0").resolved(), ["train.py"])
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "pybullet.py").write_text("raise ImportError('not here')\n")
    command = [sys.executable, REPOSITORY / "evaluate.py", tmp_path / "ant"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "hidden")}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1), done.stderr
    assert 'pip install "cppo[pybullet]"' in done.stderr
