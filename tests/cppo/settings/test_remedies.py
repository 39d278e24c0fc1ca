"""The remedies of a run: from flags to what is at work, and back from the file of a trained agent."""

import gymnasium as gym
import pytest
import torch

from cppo.remedies import OnlineNorm, RemediedCPPO, RemediedPPO
from cppo.remedies.registry import REMEDIES
from cppo.runs.folder import RunFolder
from cppo.settings.limits import REMEDY_FIELDS
from cppo.settings.presets import METHODS, preset
from cppo.settings.settings import Settings
from cppo.training.agent import build_model
from cppo.training.environments import make_vec_env
from cppo.training.starting import prepare
from cppo.training.trained_policy import read_policy
from cppo.training.training import train

SMALL = {"env": "Pendulum-v1", "net_arch": (8, 6), "n_envs": 1, "n_steps": 32, "batch_size": 16, "n_epochs": 1}
WITH_REMEDIES = [algo for algo in METHODS["nature"] if preset("nature", algo)["remedies"]]
PLACES = {
    "shrink_decay": (0.25, lambda model: at_work(model).decay),
    "perturb_noise": (0.5, lambda model: at_work(model).noise),
    "regenerative_strength": (0.25, lambda model: at_work(model).strength_of_pull / 2),
    "redo_threshold": (0.3, lambda model: at_work(model).threshold),
    "redo_every": (7, lambda model: at_work(model).every),
    "ccbp_rate": (0.3, lambda model: at_work(model).replacement_rate),
    "ccbp_every": (7, lambda model: at_work(model).every),
    "reset_layers": (2, lambda model: len(at_work(model).layers) // 2),
    "reset_every": (7, lambda model: at_work(model).every),
    "dropout": (0.3, lambda model: model.policy.mlp_extractor.policy_net[1][1].p),
}


def at_work(model):
    (networks,) = model.interventions.values()
    return networks["policy"]


def build(**values):
    settings = Settings(**(SMALL | values)).resolved()
    return build_model(settings, make_vec_env(settings))


@pytest.mark.parametrize("key", [key for fields in REMEDY_FIELDS.values() for key in fields])
def test_a_setting_reaches_the_remedy(key):
    value, where = PLACES[key]
    remedy = next(name for name, fields in REMEDY_FIELDS.items() if key in fields)
    assert where(build(algo="ppo", remedies=(remedy,), **{key: value})) == value


def test_every_remedy_has_an_algorithm_of_its_own():
    alone = {preset("nature", algo)["remedies"] for algo in WITH_REMEDIES}
    assert alone == {(name,) for name in REMEDIES if name != "l2"}  # ppo-l2 is torch's own weight decay


@pytest.mark.parametrize("algo", WITH_REMEDIES)
def test_a_trained_agent_is_read_back_and_its_model_too(tmp_path, algo):
    values = {"algo": algo, "total_timesteps": 64, "plasticity_every": 0, **SMALL}
    training = prepare(Settings(**values).resolved(), RunFolder(tmp_path), ["test"])
    train(training)
    model = training.model
    with gym.make("Pendulum-v1") as env:
        policy = read_policy(RunFolder(tmp_path), env)[0]
    own = model.policy.state_dict()
    assert all(torch.equal(own[name], value) for name, value in policy.state_dict().items())
    kind = RemediedCPPO if algo.startswith("cppo") else RemediedPPO
    loaded = kind.load(tmp_path / "model.zip")
    assert isinstance(model, kind) and loaded.remedies == model.remedies
    steps = [each["policy"].n_steps for each in loaded.interventions.values()]
    assert steps in ([], [4])  # two rollouts of two minibatches


def test_new_weights_are_drawn_as_the_run_drew_its_first_ones():
    for remedy in ("redo", "ccbp", "reset-last"):
        assert at_work(build(remedies=(remedy,), algo="ppo")).initializer.__name__ == "lecun_uniform"


def test_the_initial_weights_of_regenerative_regularisation_are_those_of_the_run():
    model = build(algo="ppo-regenerative")
    first = [parameter.detach().clone() for parameter in model.policy.parameters()]
    model.learn(32)
    remedy = at_work(model)
    assert all(torch.equal(remedy.initial(number), weight) for number, weight in enumerate(first))


def test_remedies_go_with_continual_backpropagation_where_that_makes_sense():
    model = build(algo="cppo-l2", remedies=("online-norm", "shrink-perturb"))
    assert isinstance(model, RemediedCPPO) and isinstance(model.policy.mlp_extractor.value_net[3][0], OnlineNorm)
    assert all(len(layer.hidden_layer.norms) == 1 for layer in model.continual_backprop.layers)


def test_remedies_come_on_top_of_those_that_the_algorithm_brings():
    settings = Settings(algo="ppo-redo", remedies=("dropout",), env="FastAnt-v0").resolved()
    assert settings.remedies == ("redo", "dropout")
    assert settings.redo_threshold == 0.1
    assert settings.resolved() == settings
    assert settings.method == "ppo-redo+dropout"
    with pytest.raises(ValueError, match="redo"):
        Settings(algo="ppo-redo", remedies=("ccbp",), env="FastAnt-v0").resolved()


def test_a_run_is_named_by_the_remedies_that_its_algorithm_does_not_bring():
    name = Settings(algo="cppo-l2", remedies=("layer-norm", "dropout")).resolved().default_name
    assert name == "nature-SlipperyAnt-v0-cppo-l2+layer-norm+dropout-seed0"
    assert Settings(algo="ppo-redo").resolved().default_name == "nature-SlipperyAnt-v0-ppo-redo-seed0"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"algo": "ppo", "redo_every": 3}, "--redo-every has no effect without redo among the --remedies"),
        ({"algo": "cppo", "remedies": ("crelu",)}, "crelu and continual backpropagation can't be combined"),
        ({"algo": "ppo-l2", "remedies": ("regenerative",)}, "l2 and regenerative can't be combined"),
        ({"algo": "ppo", "remedies": ("redo", "redo")}, "--remedies names redo twice"),
        ({"algo": "ppo-dropout", "dropout": 1.5}, "--dropout 1.5 is not allowed"),
        ({"algo": "ppo-redo", "redo_every": 0}, "--redo-every 0 is not allowed"),
        ({"algo": "ppo", "remedies": ("luck",)}, "is not allowed: it must be a list of one of shrink-perturb"),
    ],
)
def test_what_does_not_go_is_one_clear_line(values, message):
    with pytest.raises(ValueError, match=message):
        Settings(**values).resolved()


def test_concatenated_relu_needs_relu():
    with pytest.raises(ValueError, match="crelu takes the place of ReLU, not of Tanh"):
        build(algo="ppo", activation="tanh", remedies=("crelu",))
