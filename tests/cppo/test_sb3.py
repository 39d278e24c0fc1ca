"""The mixin puts continual backpropagation into every algorithm of stable-baselines3 and sb3-contrib."""

import ast
import copy
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import ARS, QRDQN, TQC, CrossQ, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.dqn.policies import DQNPolicy
from torch import nn

import cppo
from cppo import ContinualBackprop, ContinualBackpropMixin
from cppo.algorithms import ContinualA2C, ContinualDDPG, ContinualDQN, ContinualSAC, ContinualTD3

BUSY = {"replacement_rate": 0.04, "maturity_threshold": 3}
"""Settings under which generate-and-test acts within a few optimizer steps."""
SMALL_NET = {"policy_kwargs": {"net_arch": [12, 10]}, "seed": 3}
ON_POLICY = SMALL_NET | {"n_steps": 32}
PPO_LIKE = ON_POLICY | {"batch_size": 16, "n_epochs": 3}
OFF_POLICY = SMALL_NET | {"learning_starts": 8, "batch_size": 16, "buffer_size": 200, "train_freq": 4}
DISCRETE = spaces.Discrete(3)
BOX = spaces.Box(-1, 1, (2,), np.float32)


class Target(gym.Env):
    """Reach the first observed number: a smooth reward, episodes of eight steps, all from the seed."""

    def __init__(self, action_space, observation_space=None):
        self.observation_space = observation_space or spaces.Box(-1, 1, (3,), np.float32)
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.observation_space.seed(int(self.np_random.integers(2**31)))
        self.left = 8
        return self._observe(), {}

    def step(self, action):
        self.left -= 1
        reward = -float((self.target - np.asarray(action, dtype=float).flatten()[0]) ** 2)
        return self._observe(), reward, self.left == 0, False, {}

    def _observe(self):
        observation = self.observation_space.sample()
        self.target = float(
            next(iter(observation.values())).mean() if isinstance(observation, dict) else observation.mean()
        )
        return observation

    def action_masks(self):
        return np.array([True, True, False])


def make(algorithm, action_space, options, policy="MlpPolicy", **settings):
    """Build an agent from options; algorithms write into their policy_kwargs, so it gets a copy."""
    return algorithm(policy, Target(action_space), **copy.deepcopy(options | settings))


class Case:
    """An algorithm at work: how to build it, plain and continual, and how many layers each of its networks has."""

    def __init__(self, algorithm, action_space, options, networks, policy="MlpPolicy"):
        self.algorithm, self.action_space, self.options, self.networks = algorithm, action_space, options, networks
        self.policy = policy
        self.continual = type(f"Continual{algorithm.__name__}", (ContinualBackpropMixin, algorithm), {})

    def plain(self):
        return make(self.algorithm, self.action_space, self.options, self.policy)

    def build(self, **settings):
        return make(self.continual, self.action_space, self.options | BUSY | settings, self.policy)


SMALL_LSTM = {"policy_kwargs": {"net_arch": [12, 10], "lstm_hidden_size": 8}}
ONE_CRITIC, TWO_CRITICS = {"actor": 2, "critic": 2}, {"actor": 2, "critic": 4}
CASES = [
    Case(A2C, BOX, ON_POLICY | {"n_steps": 8}, {"policy": 4}),
    Case(PPO, BOX, PPO_LIKE, {"policy": 4}),
    Case(DQN, DISCRETE, OFF_POLICY | {"gradient_steps": 2, "target_update_interval": 16}, {"policy": 2}),
    Case(DDPG, BOX, OFF_POLICY | {"gradient_steps": 2}, ONE_CRITIC),
    Case(TD3, BOX, OFF_POLICY | {"gradient_steps": 3}, TWO_CRITICS),
    Case(SAC, BOX, OFF_POLICY | {"gradient_steps": 2}, TWO_CRITICS),
    Case(SAC, BOX, OFF_POLICY | {"gradient_steps": 2, "use_sde": True, "ent_coef": 0.1}, TWO_CRITICS),
    Case(TQC, BOX, OFF_POLICY | {"gradient_steps": 2}, TWO_CRITICS),
    Case(QRDQN, DISCRETE, OFF_POLICY | {"gradient_steps": 2, "target_update_interval": 16}, {"policy": 2}),
    Case(CrossQ, BOX, OFF_POLICY | {"gradient_steps": 6}, TWO_CRITICS),
    Case(MaskablePPO, DISCRETE, PPO_LIKE, {"policy": 4}),
    Case(RecurrentPPO, BOX, PPO_LIKE | SMALL_LSTM, {"policy": 4}, "MlpLstmPolicy"),
    Case(RecurrentPPO, BOX, PPO_LIKE | SMALL_LSTM | {"use_sde": True}, {"policy": 4}, "MlpLstmPolicy"),
]
every_algorithm = pytest.mark.parametrize(
    "case", CASES, ids=[case.algorithm.__name__ + "-sde" * case.options.get("use_sde", False) for case in CASES]
)
with_targets = pytest.mark.parametrize(
    "case",
    [case for case in CASES if case.algorithm in (DQN, DDPG, TD3, SAC, TQC, QRDQN)],
    ids=lambda c: c.algorithm.__name__,
)


def networks(model):
    """What is at work, by the name of the network that has the optimizer."""
    watched = model.continual_backprop
    return {"policy": watched} if isinstance(watched, ContinualBackprop) else dict(watched.items())


def parameters(model):
    return [value for value in model.policy.state_dict().values()]


def tensors(state):
    found = [value for value in state.values() if isinstance(value, torch.Tensor)]
    return found + [value for entry in state.values() if isinstance(entry, dict) for value in tensors(entry)]


def assert_same(first, second):
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)


# Every algorithm ------------------------------------------------------------------------------------------------------


@every_algorithm
def test_units_are_replaced_in_every_network(case):
    model = case.build().learn(total_timesteps=96, log_interval=1, tb_log_name="x", progress_bar=False, callback=None)
    assert {name: len(network.layers) for name, network in networks(model).items()} == case.networks
    assert all(layer.total_replaced > 0 for layer in model.continual_backprop.layers)
    assert case.action_space.contains(model.predict(np.zeros(3, np.float32), deterministic=True)[0])


@every_algorithm
def test_rate_zero_is_the_plain_algorithm_bit_for_bit(case):
    plain, continual = case.plain().learn(64), case.build(replacement_rate=0.0).learn(64)
    assert_same(parameters(plain), parameters(continual))


@every_algorithm
def test_saved_and_loaded_it_continues_as_if_nothing_had_happened(case, tmp_path):
    """As far as stable-baselines3 goes on: its replay buffer is saved apart, and loading resets the environment."""
    whole = case.build().learn(64)
    whole.save(tmp_path / "half")
    loaded = case.continual.load(tmp_path / "half", env=Target(case.action_space))
    assert_same(tensors(whole.continual_backprop.state_dict()), tensors(loaded.continual_backprop.state_dict()))
    if hasattr(whole, "replay_buffer"):
        whole.save_replay_buffer(tmp_path / "buffer")
        loaded.load_replay_buffer(tmp_path / "buffer")
    if hasattr(whole, "_last_lstm_states"):
        whole._last_lstm_states = copy.deepcopy(loaded._last_lstm_states)
    replaced = whole.continual_backprop.total_replaced
    for model in (whole, loaded):
        model._last_obs = None
        model.set_random_seed(7)
        if model.use_sde:
            model.policy.reset_noise()
        model.learn(32, reset_num_timesteps=False)
    assert whole.continual_backprop.total_replaced > replaced > 0
    assert_same(parameters(whole), parameters(loaded))
    assert_same(tensors(whole.continual_backprop.state_dict()), tensors(loaded.continual_backprop.state_dict()))


@every_algorithm
def test_its_optimizers_are_those_of_the_plain_algorithm(case):
    """Generate-and-test adds no parameter to train, and hooks into no optimizer of an entropy coefficient."""
    model = case.build()
    assert len(parameters(model)) == len(parameters(case.plain()))
    optimizer = getattr(model, "ent_coef_optimizer", None)
    assert optimizer is None or not optimizer._optimizer_step_post_hooks


def test_a_new_unit_of_crossq_gets_new_normalisation_too():
    """Behind each hidden layer of 12 and 10 units lies a BatchRenorm, whose slice is reset with the unit."""
    layers = CASES[9].build().continual_backprop.layers
    assert [[norm.num_features for norm in layer.record.norms] for layer in layers] == [[12], [10]] * 3


# Target networks ------------------------------------------------------------------------------------------------------


@with_targets
def test_target_networks_are_never_touched(case):
    """With updates of the targets switched off they stay as they were, whatever is replaced in their networks."""
    off = {"tau": 0.0} if hasattr(case.plain(), "tau") and case.algorithm not in (DQN, QRDQN) else {}
    off = off or {"target_update_interval": 10**6}
    model = case.build(**off)
    before = copy.deepcopy([v for name, v in model.policy.state_dict().items() if "_target" in name])
    model.learn(64)
    assert before and model.continual_backprop.total_replaced > 0
    assert_same(before, [value for name, value in model.policy.state_dict().items() if "_target" in name])


# Several optimizers ---------------------------------------------------------------------------------------------------


def test_each_network_counts_the_steps_of_its_own_optimizer():
    """TD3's actor takes a step for every second one of the critic's."""
    case = CASES[4]
    model = case.build(replacement_rate=0.0, policy_delay=2).learn(64)
    assert model.continual_backprop["critic"].age.unique().tolist() == [model._n_updates]
    assert model.continual_backprop["actor"].age.unique().tolist() == [model._n_updates // 2]


@pytest.mark.parametrize("actor", [[12], []], ids=["actor watched", "actor without hidden layers"])
def test_passes_for_the_actors_loss_say_nothing_about_the_critic(actor):
    """Passes go own, actor's, own, actor's...; without averaging (decay 0) the mean is that of the last own one."""
    policy = {"net_arch": {"pi": actor, "qf": [12]}}
    model = make(ContinualSAC, BOX, OFF_POLICY | BUSY, policy_kwargs=policy, decay_rate=0.0)
    passes = []
    model.critic.qf0[2].register_forward_pre_hook(
        lambda module, args: passes.append(args[0].detach()) if torch.is_grad_enabled() else None
    )
    model.continual_backprop["critic"].replacement_rate = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that no unit was replaced
        model.learn(40)
    assert len(passes) == 2 * model._n_updates > 0
    layer = model.continual_backprop["critic"].layers[0]
    torch.testing.assert_close(layer.mean_activation, passes[-2].mean(dim=0))


def test_networks_draw_different_units():
    first, second = (network.generator.get_state() for network in networks(CASES[5].build()).values())
    assert not torch.equal(first, second)


def test_the_mapping_stops_when_removed():
    model = CASES[5].build()
    model.continual_backprop.remove()
    with pytest.warns(UserWarning, match="ended without a single replaced unit"):
        model.learn(64)
    assert not any(module._forward_pre_hooks for module in model.policy.modules())
    assert not model.actor.optimizer._optimizer_step_post_hooks


def test_it_describes_every_network():
    actor, critic = CASES[5].build().continual_backprop.describe().split("\n\n")
    assert actor.startswith("actor") and "actor.latent_pi.0" in actor and "critic" not in actor
    assert critic.startswith("critic") and "critic.qf1.2" in critic
    assert "not among the layers named" not in actor + critic, "the reasons are those that were found"


def test_set_parameters_carries_the_state_of_every_network():
    trained, other = CASES[5].build().learn(64), CASES[5].build(seed=99)
    other.set_parameters(copy.deepcopy(trained.get_parameters()), exact_match=True)
    assert other.continual_backprop.total_replaced == trained.continual_backprop.total_replaced > 0
    assert_same(tensors(trained.continual_backprop.state_dict()), tensors(other.continual_backprop.state_dict()))


def test_set_parameters_exact_match_misses_what_is_missing():
    model = CASES[5].build()
    parameters = model.get_parameters()
    del parameters["continual_backprop"]
    with pytest.raises(ValueError, match="continual_backprop"):
        model.set_parameters(parameters)
    model.set_parameters(parameters, exact_match=False)


# Features extractors --------------------------------------------------------------------------------------------------


class TwoLayers(BaseFeaturesExtractor):
    """A features extractor with an inner layer, read inside, and an outer one, read by whoever uses it."""

    def __init__(self, observation_space):
        super().__init__(observation_space, features_dim=7)
        self.net = nn.Sequential(nn.Linear(3, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU())

    def forward(self, observations):
        return self.net(observations)


def extracting(algorithm, action_space, options, **policy):
    policy = {"net_arch": [12], "features_extractor_class": TwoLayers} | policy
    return algorithm("MlpPolicy", Target(action_space), **(options | BUSY | {"policy_kwargs": policy}))


def watched(model):
    return {name: [layer.name for layer in network.layers] for name, network in networks(model).items()}


@pytest.mark.parametrize("algorithm", [ContinualSAC, ContinualTD3])
def test_a_shared_extractor_belongs_to_the_actor_as_far_as_the_actor_can_replace_it(algorithm):
    """The outer layer's readers are trained by two optimizers, so it is left out; the inner layer's by the actor's."""
    model = extracting(algorithm, BOX, OFF_POLICY, share_features_extractor=True).learn(96)
    hidden = "actor.latent_pi.0" if algorithm is ContinualSAC else "actor.mu.0"
    assert watched(model) == {
        "actor": ["actor.features_extractor.net.0", hidden],
        "critic": ["critic.qf0.0", "critic.qf1.0"],
    }
    assert all(layer.total_replaced > 0 for layer in model.continual_backprop.layers)
    assert "no single optimizer trains both" in model.layers_left_out["actor.features_extractor.net.2"]


def test_extractors_of_their_own_belong_to_each_network():
    """A critic's outer units are read by both of its value networks."""
    model = extracting(ContinualSAC, BOX, OFF_POLICY).learn(96)
    for name in ("actor", "critic"):
        inner, outer = (layer for layer in model.continual_backprop[name].layers if "extractor" in layer.name)
        assert len(inner.record.outgoing) == 1
        assert len(outer.record.outgoing) == (1 if name == "actor" else 2)
        assert inner.total_replaced > 0 and outer.total_replaced > 0


def test_an_extractor_shared_under_one_optimizer_counts_once_with_all_readers():
    model = extracting(ContinualA2C, BOX, ON_POLICY)
    names = watched(model)["policy"]
    assert len(names) == len(set(names)) == 4
    outer = next(layer for layer in model.continual_backprop.layers if layer.name == "features_extractor.net.2")
    assert set(outer.record.outgoing) == {
        model.policy.mlp_extractor.policy_net[0],
        model.policy.mlp_extractor.value_net[0],
    }


def outputs(policy):
    """All that the networks of a policy compute from some observations (and actions)."""
    torch.manual_seed(0)
    observations, actions = torch.rand(6, 3), torch.rand(6, 2)
    if isinstance(policy, DQNPolicy):
        return [policy.q_net(observations)]
    if isinstance(policy, ActorCriticPolicy):
        return [policy.get_distribution(observations).mode(), policy.predict_values(observations)]
    return [policy.actor(observations), *policy.critic(observations, actions)]


@torch.no_grad()
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("algorithm", [ContinualA2C, ContinualDDPG, ContinualDQN, ContinualSAC, ContinualTD3])
def test_no_reader_is_left_behind(algorithm, share):
    """With the outgoing weights of a layer set to zero, as recorded, nothing depends on its units any more."""
    sharing = {} if algorithm is ContinualDQN else {"share_features_extractor": share}
    action_space = DISCRETE if algorithm is ContinualDQN else BOX
    model = extracting(algorithm, action_space, ON_POLICY if algorithm is ContinualA2C else OFF_POLICY, **sharing)
    for layer in model.continual_backprop.layers:
        for part in layer.record.outgoing_weights:
            part.view().zero_()
        before = outputs(model.policy)
        layer.record.incoming.bias += 5
        torch.testing.assert_close(before, outputs(model.policy))


IMAGE = spaces.Box(0, 255, (1, 36, 36), np.uint8)
DICT = spaces.Dict({"image": IMAGE, "vector": spaces.Box(-1, 1, (3,), np.float32), "number": spaces.Discrete(4)})
SMALL_CNN = {"CnnPolicy": {"features_dim": 16}, "MultiInputPolicy": {"cnn_output_dim": 16}}


@pytest.mark.parametrize(("policy", "space"), [("CnnPolicy", IMAGE), ("MultiInputPolicy", DICT)], ids=["cnn", "dict"])
@pytest.mark.parametrize(
    ("algorithm", "action_space", "options", "n_layers"),
    [
        (cppo.CPPO, DISCRETE, PPO_LIKE, {"policy": 4 + 2}),
        (ContinualDQN, DISCRETE, OFF_POLICY | {"buffer_size": 50}, {"policy": 4 + 1}),
        (ContinualSAC, BOX, OFF_POLICY | {"buffer_size": 50}, {"actor": 4 + 1, "critic": 4 + 2}),
    ],
    ids=["CPPO", "DQN", "SAC"],
)
def test_images_and_dictionaries(policy, space, algorithm, action_space, options, n_layers):
    """NatureCNN has four layers of units: three convolutions, and a linear layer that other layers read."""
    kwargs = {"net_arch": [12], "features_extractor_kwargs": SMALL_CNN[policy]}
    settings = options | BUSY | {"policy_kwargs": kwargs, "replacement_rate": 0.1}
    model = algorithm(policy, Target(action_space, space), **settings).learn(64)
    assert {name: len(network.layers) for name, network in networks(model).items()} == n_layers
    assert all(layer.total_replaced > 0 for layer in model.continual_backprop.layers)
    assert action_space.contains(model.predict(space.sample())[0])


# What it says ---------------------------------------------------------------------------------------------------------


class FirstReplacement(BaseCallback):
    """Notes after how many environment steps the first replacement was made (before the step that sees it)."""

    steps = None

    def _on_step(self):
        if self.steps is None and self.model.continual_backprop.total_replaced:
            self.steps = self.num_timesteps - self.training_env.num_envs
        return True


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        (ContinualSAC, {"learning_starts": 10, "train_freq": 4}),
        (ContinualSAC, {"learning_starts": 12, "train_freq": 4, "gradient_steps": 2}),
        (ContinualSAC, {"learning_starts": 0, "train_freq": 3, "gradient_steps": -1}),
        (ContinualTD3, {"learning_starts": 9, "train_freq": 1, "policy_delay": 3, "n_steps": 2}),
        (ContinualTD3, {"train_freq": 2, "policy_delay": 2, "policy_kwargs": {"net_arch": {"pi": [40], "qf": [2]}}}),
    ],
)
def test_the_first_replacement_comes_when_announced(algorithm, options, capsys):
    first = FirstReplacement()
    settings = OFF_POLICY | options | {"replacement_rate": 0.05, "maturity_threshold": 4, "verbose": 1}
    make(algorithm, BOX, settings).learn(80, first)
    assert f"replaces its first unit after {first.steps} environment steps" in capsys.readouterr().out


def test_continuing_it_counts_from_where_it_stands(capsys):
    """40 of 50 steps before learning are done: it begins 11 steps on, and 3 + 1 / (.04 * 12) = 6 steps of the critic's
    optimizer later (the first included) a unit goes, 16 steps on."""
    model = make(ContinualSAC, BOX, OFF_POLICY | BUSY, learning_starts=50, train_freq=1, verbose=1)
    with pytest.warns(UserWarning, match="no unit will be replaced in 40 environment steps: the first is due after 56"):
        model.learn(40)
    model.learn(20, reset_num_timesteps=False)
    assert "first unit after 16 environment steps" in capsys.readouterr().out
    assert model.continual_backprop.total_replaced > 0


def test_updates_after_episodes_are_announced_in_optimizer_steps(capsys):
    model = make(ContinualSAC, BOX, OFF_POLICY | BUSY, train_freq=(1, "episode"), verbose=1).learn(80)
    assert "first unit after 6 optimizer steps" in capsys.readouterr().out
    assert model.continual_backprop.total_replaced > 0


def test_it_warns_when_none_was_replaced_after_all():
    with pytest.warns(UserWarning, match="ended without a single replaced unit"):
        make(ContinualSAC, BOX, OFF_POLICY | BUSY, gradient_steps=0).learn(20)


def test_sensible_settings_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        make(ContinualTD3, BOX, OFF_POLICY | BUSY).learn(96)


class Rows(KVWriter):
    def __init__(self):
        self.rows = []

    def write(self, key_values, key_excluded, step=0):
        self.rows.append(dict(key_values))

    def close(self):
        pass


def test_every_layer_of_every_network_is_logged():
    model, rows = CASES[5].build(), Rows()
    model.set_logger(Logger(None, [rows]))
    model.learn(96, log_interval=2)
    last = rows.rows[-1]
    for layer in ("actor.latent_pi.0", "actor.latent_pi.2", "critic.qf0.0", "critic.qf1.2"):
        assert {
            f"cbp_{layer}/{figure}" for figure in ("replaced", "total_replaced", "age_max", "utility_min")
        } <= last.keys()
    assert sum(last[key] for key in last if key.startswith("cbp_") and key.endswith("total_replaced")) > 0
    assert sum(row["cbp/replaced"] for row in rows.rows) == last["cbp/total_replaced"] > 0


# Mistakes -------------------------------------------------------------------------------------------------------------


def test_the_mixin_must_come_first():
    with pytest.raises(TypeError, match=r"name the mixin first: class Wrong\(ContinualBackpropMixin, SAC\)"):

        class Wrong(SAC, ContinualBackpropMixin):
            pass


def test_the_mixin_needs_an_algorithm():
    class Nothing(ContinualBackpropMixin):
        pass

    with pytest.raises(TypeError, match=r"class Nothing\(ContinualBackpropMixin, ...\) needs an algorithm"):
        Nothing("MlpPolicy", Target(BOX))


def test_a_mixin_of_ones_own_may_come_before_it():
    class Mine:
        pass

    class Fine(Mine, ContinualBackpropMixin, SAC):
        pass

    class Finer(Fine):
        pass

    assert make(Finer, BOX, OFF_POLICY | BUSY).continual_backprop.layers


@pytest.mark.parametrize("algorithm", [ContinualDQN, ContinualSAC, ContinualA2C])
def test_no_hidden_layer_is_a_clear_error(algorithm):
    action_space = DISCRETE if algorithm is ContinualDQN else BOX
    with pytest.raises(ValueError, match=r"no hidden layer whose units could be replaced.*net_arch"):
        algorithm("MlpPolicy", Target(action_space), policy_kwargs={"net_arch": []})


def test_no_optimizer_is_a_clear_error():
    case = Case(ARS, BOX, {"policy_kwargs": {"net_arch": [12]}}, {})
    with pytest.raises(ValueError, match="ARSPolicy has no optimizer"):
        case.build()


def test_no_trained_hidden_layer_is_a_clear_error():
    class Frozen(A2C):
        def _setup_model(self):
            super()._setup_model()
            self.policy.mlp_extractor.requires_grad_(False)

    with pytest.raises(
        ValueError, match=r"no optimizer of ActorCriticPolicy trains a hidden layer whole.*policy_net\.0"
    ):
        Case(Frozen, BOX, ON_POLICY, {}).build()


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [("replacement_rate", 2, "replacement_rate=2"), ("utility", "x", "'x' is unknown"), ("initializer", "x", "'x' is")],
)
def test_bad_arguments_are_named_before_anything_is_built(argument, value, message):
    with pytest.raises(ValueError, match=message):
        ContinualSAC("MlpPolicy", "NoSuchEnvironment-v0", **{argument: value})


# Ready names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ready", "parent"),
    [(ContinualA2C, A2C), (ContinualDDPG, DDPG), (ContinualDQN, DQN), (ContinualSAC, SAC), (ContinualTD3, TD3)],
)
def test_ready_names(ready, parent):
    assert ready.__bases__ == (ContinualBackpropMixin, parent)
    assert ready.__name__ == f"Continual{parent.__name__}"


def test_sb3_contrib_is_optional():
    for path in Path(cppo.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", [])] + [getattr(node, "module", None) or ""]
            assert not any(str(name).startswith("sb3_contrib") for name in names), path
