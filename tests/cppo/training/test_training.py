"""Training a run: nothing written before all input is accepted, repeatable, and saved when interrupted."""

import csv
import signal

import pytest
import torch

from cppo import CPPO
from cppo.runs.folder import Ending, RunFolder
from cppo.settings.presets import METHODS, preset
from cppo.settings.settings import Settings
from cppo.training import logs
from cppo.training.starting import prepare
from cppo.training.training import report, save, train

SMALL = {"net_arch": (8, 8), "n_envs": 1, "n_steps": 32, "batch_size": 16, "n_epochs": 1, "total_timesteps": 64}
CELLS = [
    (protocol, algo)
    for protocol in METHODS
    for algo in METHODS[protocol]
    if protocol == "nature" or not preset(protocol, algo)["remedies"]
]


def run(folder, **values):
    settings = Settings(**(SMALL | values)).resolved()
    training = prepare(settings, RunFolder(folder), ["test"])
    return training.model, train(training)


def parameters(model) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])


@pytest.mark.parametrize(("protocol", "algo"), CELLS)
def test_every_method_of_every_protocol_trains_on_slippery_ant(tmp_path, protocol, algo):
    pytest.importorskip("pybullet")
    settings = Settings(protocol=protocol, algo=algo, **SMALL).resolved()
    training = prepare(settings, RunFolder(tmp_path), [])
    model = training.model
    before = parameters(model).clone()
    outcome = train(training)
    assert (outcome.ending.steps, outcome.ending.state) == (64, "finished")
    assert parameters(model).isfinite().all() and not torch.equal(parameters(model), before)
    assert isinstance(model, CPPO) == algo.startswith("cppo")
    assert RunFolder(tmp_path).model.is_file() and RunFolder(tmp_path).settings() == training.settings


def test_a_seed_gives_the_same_weights_twice_and_another_seed_others(tmp_path):
    """Two updates, replacements and changes of friction included."""
    pytest.importorskip("pybullet")
    values = {"algo": "cppo-l2", "change_every": 20, "change_at": "step", "maturity_threshold": 0}
    values |= {"replacement_rate": 0.1, "n_envs": 2}
    first, again, other = (run(tmp_path / str(n), seed=s, **values)[0] for n, s in enumerate((3, 3, 4)))
    assert first.continual_backprop.total_replaced == again.continual_backprop.total_replaced > 0
    assert torch.equal(parameters(first), parameters(again))
    assert not torch.equal(parameters(first), parameters(other))


def test_training_in_processes_equals_training_in_one(tmp_path):
    pytest.importorskip("pybullet")
    values = {"algo": "cppo-l2", "change_every": 20, "change_at": "step", "n_envs": 2}
    one, several = (run(tmp_path / str(processes), processes=processes, **values) for processes in (False, True))
    assert torch.equal(parameters(one[0]), parameters(several[0]))
    assert (one[1].phases, one[1].exit_code) == (several[1].phases, 0)


def test_plasticity_is_measured_at_its_interval_and_changes_nothing(tmp_path, scripted):
    """Four rollouts of 32 steps, measured after the second and the fourth; switched off, no column is there."""
    env, tables, models = scripted(), [], []
    for every in (2, 0):
        model, _ = run(tmp_path / str(every), env=env, algo="cppo", plasticity_every=every, total_timesteps=128)
        models.append(model)
        with RunFolder(tmp_path / str(every)).progress.open(newline="") as file:
            tables.append(list(csv.DictReader(file)))
    measured, plain = tables
    for column in ("plasticity/actor.0/dead_share", "plasticity/critic.1/stable_rank_probe"):
        assert [bool(row[column]) for row in measured] == [False, True, False, True]
    assert not any("plasticity" in column for column in plain[0])
    assert torch.equal(parameters(models[0]), parameters(models[1]))


def test_torch_gets_the_threads_of_the_settings(tmp_path, scripted):
    before = torch.get_num_threads()
    try:
        run(tmp_path, env=scripted(), algo="ppo", torch_threads=before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"env": "NoSuch-v0"}, Exception, "NoSuch"),
        ({"device": "tpu"}, ValueError, "--device tpu can't be used: "),
        ({"device": "cuda:99"}, ValueError, "--device cuda:99 can't be used: "),
        ({"net_arch": ()}, ValueError, "give net_arch at least one hidden layer"),
        ({"env": "Blackjack-v1"}, ValueError, "Discrete.* can't be trained on: stable-baselines3 takes Box"),
        ({"env": "CartPole-v1", "use_sde": True}, ValueError, "continuous actions"),
    ],
)
def test_nothing_is_written_for_input_that_is_refused(tmp_path, values, error, message):
    with pytest.raises(error, match=message):
        run(tmp_path / "run", **({"env": "CartPole-v1", "algo": "cppo"} | values))
    assert not (tmp_path / "run").exists()


def test_environments_are_closed_when_the_folder_is_refused(tmp_path, scripted, monkeypatch):
    closed = []
    env = scripted()
    monkeypatch.setattr("stable_baselines3.common.vec_env.DummyVecEnv.close", lambda self: closed.append(self))
    monkeypatch.setattr("cppo.training.starting.build_model", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        prepare(Settings(env=env, **SMALL).resolved(), RunFolder(tmp_path / "run"), [])
    assert len(closed) == 1


def test_a_run_in_the_way_is_found_before_any_work(tmp_path, scripted, monkeypatch):
    run(tmp_path, env=scripted(), algo="ppo")
    monkeypatch.setattr("cppo.training.starting.make_vec_env", lambda *_: pytest.fail("built environments first"))
    with pytest.raises(FileExistsError, match="holds a run already"):
        run(tmp_path, env="Scripted-v0", algo="ppo")


def test_ctrl_c_stops_after_the_update_and_saves(tmp_path, scripted, capsys):
    """Pressed in step 40 of 96, in the second rollout of 32."""
    handler = signal.getsignal(signal.SIGINT)
    model, outcome = run(tmp_path, env=scripted(ctrl_c_at=(40,)), algo="ppo", total_timesteps=96)
    assert (outcome.ending.steps, outcome.ending.state, outcome.exit_code) == (64, "stopped", 130)
    assert signal.getsignal(signal.SIGINT) is handler
    assert "stopping after this rollout and its update; once more stops at once" in capsys.readouterr().err
    loaded = type(model).load(RunFolder(tmp_path).model, device="cpu")
    assert loaded.num_timesteps == 64 and torch.equal(parameters(loaded), parameters(model))
    assert RunFolder(tmp_path).state() == "stopped"


def test_ctrl_c_in_the_last_rollout_lets_it_finish(tmp_path, scripted):
    _, outcome = run(tmp_path, env=scripted(ctrl_c_at=(40,)), algo="ppo", total_timesteps=64)
    assert (outcome.ending.steps, outcome.ending.state, outcome.exit_code) == (64, "finished", 0)
    assert RunFolder(tmp_path).state() == "finished"


def test_a_second_ctrl_c_during_an_update_stops_at_once(tmp_path, scripted, monkeypatch):
    """An update is long: the first Ctrl-C waits for its end, the second doesn't. What is half done isn't saved."""
    reached = []

    def update(_self):
        signal.raise_signal(signal.SIGINT)
        reached.append("after the first")
        signal.raise_signal(signal.SIGINT)
        reached.append("after the second")

    monkeypatch.setattr("stable_baselines3.PPO.train", update)
    handler = signal.getsignal(signal.SIGINT)
    _, outcome = run(tmp_path, env=scripted(), algo="ppo")
    assert reached == ["after the first"]
    assert (outcome.ending.steps, outcome.ending.state, outcome.exit_code) == (32, "stopped", 130)
    assert not RunFolder(tmp_path).model.exists()
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("call", ["TensorBoardLog.write", "RunLogs.sync", "RunLogs.close"])
def test_a_second_ctrl_c_waits_while_figures_are_written(tmp_path, scripted, monkeypatch, call):
    """TensorBoard's queue has a lock, which stays as it is where an exception comes just before it is let go of."""
    name, method = call.split(".")
    written, finished = getattr(getattr(logs, name), method), []

    def write(*args, **kwargs):
        for _ in range(0 if finished else 2):
            signal.raise_signal(signal.SIGINT)
        result = written(*args, **kwargs)
        finished.append(True)
        return result

    monkeypatch.setattr(getattr(logs, name), method, write)
    _, outcome = run(tmp_path, env=scripted(), algo="ppo")
    assert finished and RunFolder(tmp_path).state() == outcome.ending.state
    expected = ("finished", 0) if method == "close" else ("stopped", 130)  # all was done, and just to be closed
    assert (outcome.ending.state, outcome.exit_code) == expected


def test_a_failure_in_training_keeps_its_traceback_and_is_noted(tmp_path, scripted, monkeypatch):
    monkeypatch.setattr("stable_baselines3.PPO.train", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(tmp_path, env=scripted(), algo="ppo")
    folder = RunFolder(tmp_path)
    assert folder.state() == "failed"
    assert folder.ending() == Ending("failed", 32, "ZeroDivisionError: division by zero")
    assert not folder.model.exists()


def test_a_save_that_fails_leaves_the_older_model_whole(tmp_path, scripted, monkeypatch):
    model, _ = run(tmp_path, env=scripted(), algo="ppo")
    folder = RunFolder(tmp_path)
    before = folder.model.read_bytes()

    def half_written(path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(model, "save", half_written)
    with pytest.raises(OSError, match="disk full"):
        save(model, folder)
    assert folder.model.read_bytes() == before


def test_the_report_says_what_was_done_and_where_the_files_are(tmp_path, scripted, capsys):
    """64 steps in episodes of 8 and phases of 32: 4 episodes of each phase."""
    _, outcome = run(tmp_path, env=scripted(lengths=(8,), phase_steps=32), algo="ppo")
    report(outcome, RunFolder(tmp_path))
    out = capsys.readouterr().out
    assert f"trained for 64 steps; agent saved in {tmp_path / 'model.zip'}\n" in out
    assert "phase 0, friction 0.5: return 8.0 (mean of the last 4 episodes)" in out
    assert "phase 1, friction 1.5: return 8.0 (mean of the last 4 episodes)" in out
    assert str(tmp_path / "progress.csv") in out and f"tensorboard --logdir {tmp_path}" in out
