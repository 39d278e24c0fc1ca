"""A training that can't go on stops with one line that says where, and keeps its last good checkpoint."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from cppo.runs.checkpoints import Checkpoints
from cppo.runs.folder import RunFolder
from cppo.settings.settings import Settings
from cppo.training.starting import prepare
from cppo.training.training import report, train

SMALL = {
    "update": "autograd",  # whose parts the tests put others into
    "net_arch": (8, 8),
    "n_envs": 2,
    "n_steps": 16,
    "batch_size": 16,
    "n_epochs": 1,
    "total_timesteps": 320,
    "checkpoint_every": 64,
    "plasticity_every": 0,
}


class Broken(gym.Env):
    """Its second instance goes wrong at a step of its own; episodes last 10 steps.

    :param what: "observation", "reward", or "end": the last observation of an episode
    :param at: the step
    """

    observation_space = gym.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)
    instances = 0

    def __init__(self, what: str = "", at: int = 0) -> None:
        self.number, self.what, self.at, self.steps = Broken.instances, what, at, 0
        Broken.instances += 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.full(3, np.nan if self.what == "start" and self.number else 0, np.float32), {}

    def step(self, action):
        self.steps += 1
        ends = self.steps % 10 == 0
        observation, reward = np.zeros(3, np.float32), 1.0
        if self.number == 1 and self.steps == self.at:
            reward = float("inf") if self.what == "reward" else 1.0
            observation[2] = float("nan") if self.what in ("observation", "end") else 0
        return observation, reward, ends, False, {}


def run(folder, what="", at=0, **values):
    Broken.instances = 0
    gym.registry.pop("Broken-v0", None)
    gym.register("Broken-v0", Broken, kwargs={"what": what, "at": at}, disable_env_checker=True)
    settings = Settings(**({"env": "Broken-v0", "algo": "ppo"} | SMALL | values)).resolved()
    return train(prepare(settings, RunFolder(folder), []))


CASES = {
    "start": (0, "the observation of environment 1 is not finite at step 0 (entries [0, 1, 2])"),
    "observation": (75, "the observation of environment 1 is not finite at step 150 (entries [2])"),
    "reward": (75, "the reward of environment 1 is not finite at step 150: inf"),
    "end": (80, "the last observation of environment 1 is not finite at step 160 (entries [2])"),
}


@pytest.mark.parametrize("what", CASES)
def test_what_is_not_finite_is_named(what, tmp_path, capsys):
    """Two environments: the 75th step of each is step 150 of all; updates of 32 steps, checkpoints after 64 and 128."""
    at, message = CASES[what]
    folder = RunFolder(tmp_path / "a run")
    outcome = run(folder.path, what, at)
    saved = 128 if at else None
    assert (outcome.exit_code, outcome.steps_saved) == (1, saved)
    assert folder.state() == "failed" and folder.ending().reason == message
    assert getattr(Checkpoints(folder.checkpoints).newest(), "steps", None) == saved
    assert not folder.model.exists()
    report(outcome, folder)
    out, err = capsys.readouterr()
    kept = f"saved after 128 steps: python train.py --resume '{folder.path}'" if at else "nothing was saved yet"
    assert err == f"train.py: error: {message}; {kept}\n"
    assert "trained for" not in out


@pytest.mark.parametrize("algo", ["ppo", "cppo"])
@pytest.mark.filterwarnings("ignore:no unit will be replaced")
def test_a_training_that_diverges_keeps_its_last_good_checkpoint(tmp_path, algo, monkeypatch):
    """The step size becomes absurd with the fourth update, after 128 steps; the checkpoint after 64 is left."""
    learning_rate = "stable_baselines3.common.base_class.BaseAlgorithm._update_learning_rate"

    def absurd(model, optimizer):
        for group in optimizer.param_groups:
            group["lr"] = 1e30 if model.num_timesteps >= 128 else 1e-4

    monkeypatch.setattr(learning_rate, absurd)
    outcome = run(tmp_path, env="Pendulum-v1", algo=algo)
    reason = RunFolder(tmp_path).ending().reason
    assert (outcome.exit_code, outcome.steps_saved) == (1, 64), reason
    assert reason.startswith("the training diverged after ") and "finite" in reason
    checkpoint = Checkpoints(tmp_path / "checkpoints").newest()
    assert checkpoint.steps == 64
    assert all(weights.isfinite().all() for weights in checkpoint.state["networks"]["policy"].values())


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_named(tmp_path, monkeypatch, loss):
    def update(model):
        model.logger.record("train/value_loss", loss)

    monkeypatch.setattr("stable_baselines3.PPO.train", update)
    outcome = run(tmp_path)
    assert outcome.exit_code == 1
    assert outcome.ending.reason == f"the training diverged after 32 steps: train/value_loss is {loss}"
    assert RunFolder(tmp_path).steps_done() == 0


def test_weights_that_are_not_finite_are_named(tmp_path, monkeypatch):
    def update(model):
        with torch.no_grad():
            model.policy.value_net.bias.fill_(float("nan"))

    monkeypatch.setattr("stable_baselines3.PPO.train", update)
    reason = run(tmp_path).ending.reason
    assert reason == "the training diverged after 32 steps: the weights value_net.bias are not finite"


def test_other_errors_keep_their_traceback(tmp_path, monkeypatch):
    def update(model):
        raise ValueError("something else")

    monkeypatch.setattr("stable_baselines3.PPO.train", update)
    with pytest.raises(ValueError, match=r"^something else$"):
        run(tmp_path)
    assert RunFolder(tmp_path).ending().reason == "ValueError: something else"


def test_weights_whose_output_overflows_in_a_rollout_are_named(tmp_path, monkeypatch):
    """They are finite, as an update that goes wrong may leave them, but what they say is inf - inf."""

    def update(model):
        with torch.no_grad():
            first, second = model.policy.mlp_extractor.policy_net[0::2]
            first.bias.fill_(3e38)
            second.weight.fill_(3e38)
            second.weight[:, 0].neg_()

    monkeypatch.setattr("stable_baselines3.PPO.train", update)
    outcome = run(tmp_path)
    assert outcome.exit_code == 1
    assert "diverged after" in outcome.ending.reason and "the policy's output is not finite" in outcome.ending.reason


def test_errors_of_the_environment_keep_their_traceback(tmp_path, monkeypatch):
    def step(self, action):
        raise FileNotFoundError("its data are gone")

    monkeypatch.setattr(Broken, "step", step)
    with pytest.raises(FileNotFoundError, match="its data are gone"):
        run(tmp_path)
    assert RunFolder(tmp_path).ending().reason == "FileNotFoundError: its data are gone"


@pytest.mark.parametrize("code", [0, None, "bye"])
def test_an_environment_that_ends_the_process_fails_the_run(tmp_path, monkeypatch, code, capsys):
    def step(self, action):
        raise SystemExit(code)

    monkeypatch.setattr(Broken, "step", step)
    outcome = run(tmp_path)
    assert (outcome.exit_code, RunFolder(tmp_path).state()) == (1, "failed")
    report(outcome, RunFolder(tmp_path))
    assert f"train.py: error: the environment called sys.exit({code!r}); " in capsys.readouterr().err
