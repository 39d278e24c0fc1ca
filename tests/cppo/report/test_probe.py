"""The probe of a run's agent: which networks, inputs and optimizer it takes, its table and its record."""

import json

import pytest
import torch

from cppo.plasticity.fitting import Fitting
from cppo.report import probe as module
from cppo.report.probe import Probe, gather_observations, probe
from cppo.report.trained_agent import TrainedAgent

OBSERVATIONS = 500


@pytest.fixture
def agent(make_run, monkeypatch) -> TrainedAgent:
    monkeypatch.setattr(module, "OBSERVATIONS", OBSERVATIONS)
    return TrainedAgent.load(make_run("Pendulum-v1", learning_rate=3e-4, batch_size=16, weight_decay=0.01).path)


def test_inputs_are_what_the_agent_sees(agent):
    """Episodes of 200 steps and the observation they begin with; angles as cosine and sine."""
    seen = gather_observations(agent, None, seed=3)
    assert seen.shape == (OBSERVATIONS, 3)
    assert torch.allclose(seen[:, 0] ** 2 + seen[:, 1] ** 2, torch.ones(OBSERVATIONS), atol=1e-5)
    assert torch.equal(seen, gather_observations(agent, None, seed=3))
    assert not torch.equal(seen, gather_observations(agent, None, seed=4))


def test_an_untrained_agent_is_as_plastic_as_a_fresh_one(agent):
    """Seed 0 is the run's, so the first fresh network is the agent's own: both fit the first target alike."""
    found = probe(agent, None, n_targets=2, n_steps=30, seed=0)
    assert list(found.fittings) == ["actor", "critic"]
    for fitting in found.fittings.values():
        assert fitting.trained[0] == fitting.fresh[0]
        assert 0.5 < fitting.ratios[1] < 2


def test_an_agent_with_dead_units_is_less_plastic(agent):
    for name in ("policy_net", "value_net"):
        getattr(agent.policy.mlp_extractor, name)[0].bias.data[:7] = -1e6  # seven of eight units
    found = probe(agent, None, n_targets=2, n_steps=300, seed=0)
    assert min(ratio for fitting in found.fittings.values() for ratio in fitting.ratios) > 1.05


def test_the_optimizer_is_the_run_s(agent, monkeypatch):
    given = []
    monkeypatch.setattr(module, "compare_fitting", lambda *args: given.append(args))
    probe(agent, None, n_targets=2, n_steps=5, seed=9)
    _, _, _, make_optimizer, *numbers = given[0]
    group = make_optimizer([torch.nn.Parameter(torch.zeros(1))]).param_groups[0]
    assert (group["lr"], group["weight_decay"], group["betas"], group["eps"]) == (3e-4, 0.01, (0.9, 0.999), 1e-5)
    assert numbers == [2, 5, 16, 9]  # targets, steps, minibatch, seed


def test_the_agent_stays_as_it_is(agent):
    before = {name: tensor.clone() for name, tensor in agent.policy.state_dict().items()}
    probe(agent, None, n_targets=1, n_steps=3, seed=0)
    assert all(torch.equal(tensor, before[name]) for name, tensor in agent.policy.state_dict().items())


def test_the_table_and_the_record_hold_the_same_figures():
    """Mean errors (0.2 + 0.4) / 2 and (0.1 + 0.1) / 2; ratios 2 and 4, of which an interquartile mean of 3."""
    found = Probe(0.5, 100, {"actor": Fitting((0.2, 0.4), (0.1, 0.1)), "critic": Fitting((0.3,), (0.6,))})
    *_, actor, critic = (line.split() for line in found.table().splitlines())
    assert actor == ["actor", "2", "0.300", "0.100", "3.00", "[2.00,", "4.00]"]
    assert critic == ["critic", "1", "0.300", "0.600", "0.50", "-"]
    assert "after 100 steps" in found.table()
    record = json.loads(json.dumps(found.as_dict()))
    assert (record["friction"], record["steps"]) == (0.5, 100)
    assert record["networks"]["actor"]["errors_fresh"] == [0.1, 0.1]
    assert record["networks"]["actor"]["ratio_iqm"] == pytest.approx(3)
    assert record["networks"]["critic"]["ratio_interval"] is None
