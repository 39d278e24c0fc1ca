"""The callback: what it logs and when, that training goes on as without it, and that its state can be restored."""

import math
import pickle

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.vec_env import VecNormalize

from cppo import CPPO, ContinualSAC, PlasticityCallback
from cppo.plasticity.measures import distance
from cppo.remedies.sb3_mixin import RemediedPPO

POLICY = {"net_arch": [8, 6], "activation_fn": torch.nn.ReLU}
MEASURES = {"dead_share", "dormant_share", "tau_dormant_share", "effective_rank", "stable_rank"}
WEIGHTS = {"weight_magnitude", "distance_from_init"}
UPDATES = {"gradient_norm", "gradient_zero_share", "update_size"}
OF_PROBE = {f"{name}_probe" for name in MEASURES}


class Rows(KVWriter):
    """Keeps the rows that are logged."""

    def __init__(self):
        self.rows = []

    def write(self, key_values, key_excluded, step=0):
        self.rows.append({k: v for k, v in key_values.items() if k.startswith("plasticity/")})

    def close(self):
        pass


def make(algorithm=PPO, env="Pendulum-v1", **options):
    if issubclass(algorithm, PPO):
        options = {"n_steps": 32, "batch_size": 16, "n_epochs": 2} | options
    if issubclass(algorithm, (SAC, DQN)):
        options = {"learning_starts": 20, "buffer_size": 200, "batch_size": 16} | options
    options["policy_kwargs"] = dict(options.get("policy_kwargs", POLICY))  # the algorithm adds to it
    model = algorithm("MlpPolicy", env, device="cpu", **({"seed": 0} | options))
    log = Rows()
    model.set_logger(Logger(None, [log]))
    return model, log.rows


def measured(rows):
    """Of which rows there are figures."""
    return [number for number, row in enumerate(rows) if row]


def figures(row, layer):
    return {key.split("/")[2]: value for key, value in row.items() if key.split("/")[1] == layer}


def parameters(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.policy.parameters()])


def test_all_measures_of_all_layers_are_logged():
    model, rows = make()
    model.learn(96, callback=PlasticityCallback(every=1))
    assert {key.split("/")[1] for key in rows[0]} == {"actor.0", "actor.1", "critic.0", "critic.1"}
    assert figures(rows[0], "actor.0").keys() == MEASURES | OF_PROBE | WEIGHTS
    for layer in ("actor.0", "critic.1"):
        assert figures(rows[2], layer).keys() == MEASURES | OF_PROBE | WEIGHTS | UPDATES
        assert all(math.isfinite(value) for value in figures(rows[2], layer).values())


def test_the_figures_are_those_of_the_network():
    """Six of eight units can't ever be active, and nothing is learned."""
    model, rows = make(learning_rate=0.0)
    first = model.policy.mlp_extractor.policy_net[0]
    first.bias.data[:6] = -1e6
    model.learn(64, callback=PlasticityCallback(every=1))
    row = figures(rows[1], "actor.0")
    assert row["dead_share"] == row["dead_share_probe"] == row["dormant_share"] == 0.75
    assert row["effective_rank"] <= 2
    assert row["weight_magnitude"] == first.weight.abs().mean().item()
    assert (row["distance_from_init"], row["update_size"]) == (0, 0)
    assert row["gradient_zero_share"] >= 0.75


def test_the_distance_counts_from_the_beginning_of_the_training():
    model, rows = make()
    initial = model.policy.mlp_extractor.value_net[2].weight.detach().clone()
    before_last_update = []
    callback = PlasticityCallback(every=1)
    model.learn(64, callback=callback)
    before_last_update.append(model.policy.mlp_extractor.value_net[2].weight.detach().clone())
    model.learn(32, callback=callback, reset_num_timesteps=False)
    assert rows[0]["plasticity/critic.1/distance_from_init"] == 0
    assert rows[2]["plasticity/critic.1/distance_from_init"] == distance(before_last_update[0], initial) > 0


def test_the_probe_batch_stays_and_recent_experience_moves_on():
    """Nothing is learned, so what differs is the batch."""
    model, rows = make(learning_rate=0.0)
    model.learn(96, callback=PlasticityCallback(every=1, n_samples=32))
    name = "plasticity/actor.1/effective_rank"
    assert rows[0][f"{name}_probe"] == rows[1][f"{name}_probe"] == rows[2][f"{name}_probe"] == rows[0][name]
    assert len({row[name] for row in rows}) == 3


@pytest.mark.parametrize(
    ("every", "n_samples", "expected"),
    [
        (1, 2000, [0, 1, 2, 3, 4, 5, 6]),
        (3, 2000, [2, 5]),  # after every third rollout
        (3, 32, [0, 2, 5]),  # and after the first, which fills a batch
        (3, 64, [1, 2, 5]),  # two rollouts fill it
        (None, 224, [6]),  # the interval is longer, the batch is full after seven
    ],
)
def test_when_it_measures(every, n_samples, expected):
    model, rows = make()
    model.learn(7 * 32, callback=PlasticityCallback(every, n_samples))
    assert measured(rows) == expected


def test_by_default_about_20000_environment_steps_lie_between():
    """10 rollouts of 16 x 128 = 2048 steps, and the first, which fills a batch."""
    model, rows = make(A2C, make_vec_env("CartPole-v1", 16, seed=0), n_steps=128)
    model.learn(10 * 2048, callback=PlasticityCallback(), log_interval=1)
    assert measured(rows) == [0, 9]


def test_continual_backpropagation_is_logged_under_the_same_names():
    model, rows = make(CPPO, replacement_rate=0.1, maturity_threshold=0)
    model.learn(64, callback=PlasticityCallback(every=1))
    for layer, watched in zip(("actor.0", "actor.1"), model.continual_backprop.layers, strict=False):
        now = figures(rows[1], layer)
        assert 0 < now["total_replaced"] <= watched.total_replaced
        assert now["age_median"] >= 0 and now["utility_median"] >= 0


@pytest.mark.parametrize(
    ("algorithm", "env", "options"),
    [
        (PPO, "Pendulum-v1", {"use_sde": True}),
        (CPPO, "Pendulum-v1", {"replacement_rate": 0.1, "maturity_threshold": 0}),
        (RemediedPPO, "Pendulum-v1", {"remedies": ["dropout", "online-norm", "shrink-perturb"]}),
        (A2C, "CartPole-v1", {}),
        (SAC, "Pendulum-v1", {}),
        (ContinualSAC, "Pendulum-v1", {"replacement_rate": 0.05, "maturity_threshold": 0, "utility": "random"}),
        (DQN, "CartPole-v1", {}),
    ],
)
@pytest.mark.filterwarnings("ignore:replacement_rate")
def test_training_goes_on_bit_for_bit_as_without_it(algorithm, env, options):
    models = []
    for callback in (None, PlasticityCallback(every=1, n_samples=20)):
        model, _ = make(algorithm, env, **options)
        model.learn(64, callback=callback)
        models.append(model)
    assert torch.equal(parameters(models[0]), parameters(models[1]))
    assert np.array_equal(models[0]._last_obs, models[1]._last_obs)
    assert parameters(models[0]).isfinite().all()
    if hasattr(model, "continual_backprop"):
        states = [model.continual_backprop.state_dict() for model in models]
        assert models[0].continual_backprop.total_replaced > 0
        for name, value in states[0].items():
            assert not isinstance(value, torch.Tensor) or torch.equal(value, states[1][name]), name


def test_off_policy_algorithms_are_measured_on_their_replay_buffer():
    """Rollouts of one step: measured when the buffer holds a batch of 24, then at 30, 60 and 90."""
    model, _ = make(SAC)
    callback, seen = PlasticityCallback(every=30, n_samples=24), []
    measure = callback._measure

    def spy(recent):
        seen.append((model.num_timesteps, recent.observations.shape, recent.actions.shape))
        measure(recent)

    callback._measure = spy
    model.learn(96, callback=callback)
    assert seen == [(number, (24, 3), (24, 1)) for number in (24, 30, 60, 90)]


def test_observations_are_normalised_as_for_learning():
    """The replay buffer holds raw observations; with these statistics the networks are given (x - 1) / 2."""
    env = VecNormalize(make_vec_env("Pendulum-v1", seed=0), training=False, norm_reward=False)
    env.obs_rms.mean, env.obs_rms.var = np.ones(3), np.full(3, 4.0 - 1e-8)
    model, _ = make(SAC, env)
    callback = PlasticityCallback(every=40)
    model.learn(40, callback=callback, log_interval=None)
    given = (torch.as_tensor(model.replay_buffer.observations[:40, 0]) - 1) / 2
    features = {layer.name: features for layer, features in callback._features(callback._probe)}
    assert torch.allclose(features["actor.0"], model.policy.actor.latent_pi[0](given).relu(), atol=1e-6)


def twin(tmp_path, seam: int, restore: bool):
    """Train 7 rollouts in two parts, the second with the same callback or with one restored from a file."""
    model, rows = make()
    callback = PlasticityCallback(every=3, n_samples=64)
    model.learn(seam * 32, callback=callback)
    if restore:
        torch.save(callback.state_dict(), tmp_path / "state.pt")
        callback = PlasticityCallback(every=3, n_samples=64)
        callback.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    model.learn((7 - seam) * 32, callback=callback, reset_num_timesteps=False)
    return rows


@pytest.mark.parametrize("seam", [1, 2, 4])
def test_a_restored_callback_logs_what_an_uninterrupted_one_would(tmp_path, seam):
    expected = twin(tmp_path, seam, restore=False)
    assert twin(tmp_path, seam, restore=True) == expected
    assert measured(expected) == [1, 2, 5]


def test_the_state_before_learning_is_what_was_loaded():
    model, _ = make()
    callback = PlasticityCallback(every=1)
    assert callback.state_dict() == {}
    model.learn(32, callback=callback)
    state = callback.state_dict()
    other = PlasticityCallback(every=1)
    other.load_state_dict(state)
    assert pickle.dumps(other.state_dict()) == pickle.dumps(state)


def test_the_state_of_another_policy_is_refused():
    callback = PlasticityCallback(every=1)
    make()[0].learn(32, callback=callback)
    other = PlasticityCallback(every=1)
    other.load_state_dict(callback.state_dict())
    with pytest.raises(ValueError, match="the state of the callback is that of other hidden layers"):
        make(policy_kwargs={"net_arch": [5]})[0].learn(32, callback=other)


def test_a_callback_serves_one_model():
    callback = PlasticityCallback(every=1)
    make()[0].learn(32, callback=callback)
    with pytest.raises(ValueError, match="has measured another model"):
        make()[0].learn(32, callback=callback)


@pytest.mark.parametrize("value", [0, -1, 2.5, True])
@pytest.mark.parametrize("name", ["every", "n_samples"])
def test_numbers_that_are_no_count_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name}={value!r} is not allowed: it must be a whole number of at least 1"):
        PlasticityCallback(**{name: value})


def test_hooks_are_gone_when_learning_has_ended():
    model, _ = make()
    model.learn(64, callback=PlasticityCallback(every=1))
    assert not model.policy.optimizer._optimizer_step_pre_hooks
    assert not any(module._forward_pre_hooks for module in model.policy.modules())
