"""What an agent says of continual backpropagation: beforehand, in its log, and of mistakes."""

import warnings

import pytest
from sb3_contrib import ARS
from stable_baselines3 import A2C, SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from cppo import ContinualBackpropMixin
from cppo.sb3.algorithms import ContinualA2C, ContinualDQN, ContinualSAC, ContinualTD3
from tests.cppo.agents import BOX, BUSY, DISCRETE, OFF_POLICY, ON_POLICY, Case, Rows, Target, case_of, make


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


def test_in_short_chunks_a_warning_comes_once_and_again_for_other_settings():
    model = make(ContinualSAC, BOX, OFF_POLICY | BUSY, learning_starts=100)
    with pytest.warns(UserWarning) as told:
        for _ in range(3):
            model.learn(4, reset_num_timesteps=False)
        model.replacement_rate = 1
        model.learn(4, reset_num_timesteps=False)
        model.learn(4, reset_num_timesteps=False)
    assert [str(each.message).split(" all ")[0][:24] for each in told] == [
        "no unit will be replaced",
        "replacement_rate=1 repla",
        "no unit will be replaced",
    ]


def test_sensible_settings_warn_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        make(ContinualTD3, BOX, OFF_POLICY | BUSY).learn(96)


def test_every_layer_of_every_network_is_logged():
    model, rows = case_of(SAC).build(), Rows()
    model.set_logger(Logger(None, [rows]))
    model.learn(96, log_interval=2)
    last = rows.rows[-1]
    for layer in ("actor.0", "actor.1", "critic.qf0.0", "critic.qf1.1"):
        assert {
            f"cbp/{layer}/{figure}" for figure in ("replaced", "total_replaced", "age_max", "utility_min")
        } <= last.keys()
    assert (
        sum(
            last[key]
            for key in last
            if key.startswith("cbp/") and key.endswith(("0/total_replaced", "1/total_replaced"))
        )
        > 0
    )
    assert sum(row["cbp/replaced"] for row in rows.rows) == last["cbp/total_replaced"] > 0


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
