"""The agent of a run has the run's settings, and is read back without running what a file contains."""

import base64
import dataclasses
import json
import math
import os
import pickle
import shutil
import subprocess
import sys
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from torch import nn

from cppo import CPPO
from cppo.fast.closed_form import ClosedFormUpdate
from cppo.runs.folder import RunFolder
from cppo.settings.limits import REMEDY_FIELDS
from cppo.settings.settings import Settings
from cppo.training.agent import build_model
from cppo.training.environments import make_vec_env
from cppo.training.trained_policy import read_policy

SMALL = {"env": "Pendulum-v1", "net_arch": (8, 6), "n_envs": 1, "n_steps": 32, "batch_size": 16, "n_epochs": 1}


def build(**values) -> PPO:
    settings = Settings(**(SMALL | values)).resolved()
    return build_model(settings, make_vec_env(settings))


def adam(model: PPO) -> dict:
    return model.policy.optimizer.param_groups[0]


def linear_layers(model: PPO) -> dict[str, nn.Linear]:
    return {name: module for name, module in model.policy.named_modules() if isinstance(module, nn.Linear)}


def hidden_width(model: PPO) -> tuple[int, ...]:
    sizes = [layer.out_features for layer in model.policy.mlp_extractor.policy_net if isinstance(layer, nn.Linear)]
    assert sizes == [layer.out_features for layer in model.policy.mlp_extractor.value_net if hasattr(layer, "weight")]
    return tuple(sizes)


def _watched(model: PPO) -> str:
    nets = {layer.name.split(".")[1] for layer in model.continual_backprop.layers}
    return {"policy_net": "actor", "value_net": "critic"}[nets.pop()] if len(nets) == 1 else "both"


MODEL_SETTINGS = {
    "algo": ("cppo", lambda model: "cppo" if isinstance(model, CPPO) else "ppo"),
    "seed": (11, lambda model: model.seed),
    "device": ("cpu", lambda model: model.device.type),
    "update": ("closed-form", lambda model: "closed-form" if isinstance(model, ClosedFormUpdate) else "autograd"),
    "learning_rate": (3e-3, lambda model: model.lr_schedule(1.0)),
    "n_steps": (48, lambda model: model.rollout_buffer.buffer_size),
    "batch_size": (12, lambda model: model.batch_size),
    "n_epochs": (3, lambda model: model.n_epochs),
    "gamma": (0.9, lambda model: model.rollout_buffer.gamma),
    "gae_lambda": (0.8, lambda model: model.rollout_buffer.gae_lambda),
    "clip_range": (0.3, lambda model: model.clip_range(1.0)),
    "clip_range_vf": (0.4, lambda model: model.clip_range_vf(1.0)),
    "normalize_advantage": (False, lambda model: model.normalize_advantage),
    "ent_coef": (0.01, lambda model: model.ent_coef),
    "vf_coef": (0.7, lambda model: model.vf_coef),
    "max_grad_norm": (0.6, lambda model: model.max_grad_norm),
    "use_sde": (True, lambda model: model.policy.use_sde),
    "sde_sample_freq": (4, lambda model: model.sde_sample_freq),
    "target_kl": (0.02, lambda model: model.target_kl),
    "net_arch": ((5, 7, 9), hidden_width),
    "activation": ("elu", lambda model: model.policy.mlp_extractor.policy_net[1].__class__.__name__.lower()),
    "betas": ((0.8, 0.85), lambda model: adam(model)["betas"]),
    "adam_eps": (1e-4, lambda model: adam(model)["eps"]),
    "weight_decay": (0.02, lambda model: adam(model)["weight_decay"]),
    "replacement_rate": (0.2, lambda model: model.continual_backprop.replacement_rate),
    "maturity_threshold": (9, lambda model: model.continual_backprop.maturity_threshold),
    "decay_rate": (0.5, lambda model: model.continual_backprop.decay_rate),
    "utility": ("weight", lambda model: model.utility),
    "initializer": ("kaiming_uniform", lambda model: model.initializer),
    "bias_transfer": (False, lambda model: model.continual_backprop.bias_transfer),
    "watch": ("critic", _watched),
    "reset_optimizer_state": (False, lambda model: model.continual_backprop.reset_optimizer_state),
}
"""For each setting of the model a value that no preset has (save two that have one place only), and where it acts."""

SETTINGS_TESTED_ELSEWHERE = {
    *("env", "n_envs", "processes"),  # test_environments
    *("change_every", "friction_range", "frictions", "change_at", "schedule_seed"),  # test_environments
    *("total_timesteps", "torch_threads", "plasticity_every"),  # test_training
    *("checkpoint_every", "keep_checkpoints"),  # test_resuming
    "restart_workers",  # test_workers
    *("remedies", *(key for fields in REMEDY_FIELDS.values() for key in fields)),  # test_remedies
    "policy",  # test_spaces
    *("protocol", "weight_init", "min_log_std"),  # test_settings, and below
}


@pytest.mark.parametrize("key", MODEL_SETTINGS)
def test_a_setting_reaches_the_place_where_it_acts(key):
    value, where = MODEL_SETTINGS[key]
    model = build(**({"algo": "cppo-l2"} | ({"use_sde": True} if key == "sde_sample_freq" else {}) | {key: value}))
    assert where(model) == value


def test_no_setting_is_forgotten():
    fields = {field.name for field in dataclasses.fields(Settings)}
    assert fields == set(MODEL_SETTINGS) | SETTINGS_TESTED_ELSEWHERE


def test_the_model_of_the_nature_protocol():
    model = build(protocol="nature", algo="ppo-l2", n_steps=None, net_arch=None, n_envs=2)
    assert isinstance(model, ClosedFormUpdate) and not isinstance(model, CPPO)
    assert model.n_steps * model.n_envs == 2048
    assert model.max_grad_norm == math.inf
    assert isinstance(model.policy.optimizer, torch.optim.Adam)
    assert {key: adam(model)[key] for key in ("lr", "betas", "eps", "weight_decay")} == {
        "lr": 1e-4,
        "betas": (0.99, 0.99),
        "eps": 1e-5,
        "weight_decay": 1e-3,
    }
    assert hidden_width(model) == (256, 256)
    assert isinstance(model.policy.mlp_extractor.value_net[3], nn.ReLU)


def test_lecun_uniform_weights_fill_their_bounds_and_biases_are_zero():
    """Bounds sqrt(3 / fan in): of 3 inputs 1.0, of 64 units 0.2165; the largest of hundreds of draws comes close."""
    model = build(algo="ppo", weight_init="lecun_uniform", net_arch=(64, 64))
    layers = linear_layers(model)
    assert {layer.in_features for layer in layers.values()} == {3, 64}
    for layer in layers.values():
        bound = math.sqrt(3 / layer.in_features)
        largest = layer.weight.abs().max().item()
        assert 0.9 * bound < largest <= bound
        assert layer.bias.abs().max() == 0
    actor, critic = (layers[f"mlp_extractor.{net}.2"].weight for net in ("policy_net", "value_net"))
    assert not torch.equal(actor, critic)


def test_orthogonal_weights_are_those_of_stable_baselines3():
    model = build(protocol="talk", algo="ppo", env="CartPole-v1")
    ours, sb3 = model.policy, PPO("MlpPolicy", "CartPole-v1", seed=0, policy_kwargs={"net_arch": [8, 6]}).policy
    for name, parameter in sb3.named_parameters():
        assert torch.equal(ours.get_parameter(name), parameter), name


def test_initial_weights_depend_on_the_seed_alone():
    """PPO and CPPO of one seed start from the same networks, so that a comparison compares one thing."""
    ppo, cppo, other = (build(algo=algo, seed=seed) for algo, seed in (("ppo", 1), ("cppo-l2", 1), ("ppo", 2)))
    weights = [model.policy.mlp_extractor.policy_net[0].weight for model in (ppo, cppo, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "run")
    settings = Settings(algo="cppo", **SMALL).resolved()
    folder.create(settings, [])
    model = build_model(settings, make_vec_env(settings))
    model.learn(64)
    model.save(folder.model)
    return folder


@pytest.fixture
def copied(run, tmp_path) -> RunFolder:
    shutil.copytree(run.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


@pytest.fixture
def env():
    with gym.make("Pendulum-v1") as env:
        yield env


def test_a_loaded_policy_acts_as_the_saved_model(run, env):
    saved, loaded = CPPO.load(run.model, device="cpu"), read_policy(run, env)[0]
    env.observation_space.seed(0)
    for _ in range(20):
        observation = env.observation_space.sample()
        expected = saved.predict(observation, deterministic=True)[0]
        assert np.array_equal(loaded.predict(observation, deterministic=True)[0], expected)


@pytest.mark.parametrize("update", ["autograd", "closed-form"])
def test_an_exported_ppo_is_read_by_stable_baselines3_alone(update, tmp_path):
    model = build(algo="ppo", update=update).learn(32)
    model.save(tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        data = json.loads(archive.read("data"))
        members = [archive.read(name) for name in archive.namelist()]
    pickles = [base64.b64decode(value[":serialized:"]) for value in data.values() if ":serialized:" in str(value)]
    assert not [content for content in (*members, *pickles) if b"cppo." in content]
    observation = [0.1, 0.2, 0.3]
    code = f"""
import sys, warnings
sys.modules["cppo"] = None  # to import it is an error
warnings.simplefilter("error")
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
model = PPO.load({str(tmp_path / "model.zip")!r}, device="cpu")
assert type(model.policy) is ActorCriticPolicy
print(model.predict({observation}, deterministic=True)[0][0])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(found) == pytest.approx(model.predict(observation, deterministic=True)[0][0], rel=1e-6)


def test_an_agent_exported_under_the_earlier_names_is_read(copied):
    """Runs of before named three modules that have moved, in pickles like these."""
    with zipfile.ZipFile(copied.model) as archive:
        data = json.loads(archive.read("data"))
    expected = CPPO.load(copied.model, device="cpu").policy.state_dict()
    names = {"rollout_buffer_class": "lean_buffer\nLeanRolloutBuffer", "policy_class": "quick_policy\nQuickMlpPolicy"}
    for name in (names, names | {"policy_class": "lean_policy\nLeanMlpPolicy"}):
        for key, place in name.items():
            pickled = base64.b64encode(f"ccppo.{place}\n.".encode()).decode()
            data[key] = {":type:": "<class 'abc.ABCMeta'>", ":serialized:": pickled}
        rewrite(copied, "data", json.dumps(data).encode())
        loaded = CPPO.load(copied.model, device="cpu")
        assert type(loaded.policy).__name__ == name["policy_class"].split("\n")[1]
        assert type(loaded.rollout_buffer) is RolloutBuffer
        for key, tensor in loaded.policy.state_dict().items():
            assert torch.equal(tensor, expected[key])


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def rewrite(folder: RunFolder, member: str, content: bytes) -> None:
    with zipfile.ZipFile(folder.model) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(folder.model, "w") as archive:
        for name, old in contents.items():
            archive.writestr(name, content if name == member else old)


def test_loading_runs_no_code_from_the_models_data(copied, env, tmp_path):
    with zipfile.ZipFile(copied.model) as archive:
        data = json.loads(archive.read("data"))
    trap = base64.b64encode(pickle.dumps(Trap(tmp_path / "sprung"))).decode()
    data["policy_class"] = {":type:": "trap", ":serialized:": trap}
    rewrite(copied, "data", json.dumps(data).encode())
    read_policy(copied, env)
    assert not (tmp_path / "sprung").exists()
    # The trap is a good one: stable-baselines3 walks into it.
    with pytest.raises(Exception):  # noqa: B017  whatever comes of a policy class that is None
        CPPO.load(copied.model)
    assert (tmp_path / "sprung").exists()


def test_loading_runs_no_code_from_the_models_tensors(copied, env, tmp_path):
    torch.save({"log_std": Trap(tmp_path / "sprung")}, tmp_path / "policy.pth")
    rewrite(copied, "policy.pth", (tmp_path / "policy.pth").read_bytes())
    with pytest.raises(ValueError, match=r"not a readable model: it holds something else than plain values"):
        read_policy(copied, env)
    assert not (tmp_path / "sprung").exists()


def test_a_missing_model_is_named(copied, env):
    copied.model.unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.zip is missing: the run has not saved a model"):
        read_policy(copied, env)


@pytest.mark.parametrize("length", [0, 1, 100, 0.5, 0.99])
def test_a_truncated_model_is_refused(copied, env, length):
    content = copied.model.read_bytes()
    keep = int(length * len(content)) if isinstance(length, float) else length
    copied.model.write_bytes(content[:keep])
    with pytest.raises(ValueError, match=r"model\.zip is not a readable model: ."):
        read_policy(copied, env)


@pytest.mark.parametrize("seed", range(3))
def test_random_bytes_are_refused(copied, env, seed):
    noise = np.random.default_rng(seed).bytes(2000)
    copied.model.write_bytes(noise)
    with pytest.raises(ValueError, match="not a readable model"):
        read_policy(copied, env)


def test_random_bytes_in_the_place_of_the_tensors_are_refused(copied, env):
    for content in (b"", np.random.default_rng(0).bytes(500), b"plain words", pickle.dumps([1, 2])):
        rewrite(copied, "policy.pth", content)
        with pytest.raises(ValueError, match="not a readable model") as error:
            read_policy(copied, env)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("tensors", [[1, 2], {}, {"log_std": 5}, {"log_std": torch.zeros(7)}, torch.zeros(3)])
def test_tensors_of_something_else_are_refused(copied, env, tensors, tmp_path):
    torch.save(tensors, tmp_path / "policy.pth")
    rewrite(copied, "policy.pth", (tmp_path / "policy.pth").read_bytes())
    with pytest.raises(ValueError, match=r"does not fit Pendulum-v1 and the networks of config\.yaml"):
        read_policy(copied, env)


def test_a_zip_that_is_no_model_is_refused(copied, env):
    with zipfile.ZipFile(copied.model, "w") as archive:
        archive.writestr("letter.txt", "dear agent")
    with pytest.raises(ValueError, match=r"not a readable model: .*policy\.pth"):
        read_policy(copied, env)


def test_the_model_of_another_environment_is_refused(run):
    with gym.make("CartPole-v1") as env, pytest.raises(ValueError, match="the model of another environment"):
        read_policy(run, env)


@pytest.mark.parametrize("update", ["autograd", "closed-form"])
def test_a_floor_keeps_the_actions_spread_from_the_start_and_after_each_step(update):
    lowest = -0.01
    free, kept = (build(algo="cppo", update=update, learning_rate=0.1, min_log_std=low) for low in (None, lowest))
    for model in (free, kept):
        model.learn(64)
    assert free.policy.log_std.item() < lowest  # the floor was needed
    assert kept.policy.log_std.item() >= np.float32(lowest)
    assert build(min_log_std=0.5).policy.log_std.item() == 0.5


def test_a_floor_for_actions_without_a_spread_is_refused():
    with pytest.raises(ValueError, match=r"--min-log-std has no effect with these actions: only those of a Box"):
        build(env="CartPole-v1", min_log_std=-1.0)
