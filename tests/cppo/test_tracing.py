"""Hidden layers are found by following the data."""

import gymnasium as gym
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn
from torch.nn import functional

from cppo import find_hidden_layers
from cppo.sb3 import find_policy_layers


def names(layers):
    return [layer.name for layer in layers]


def test_a_sequential_network():
    net = nn.Sequential(nn.Linear(7, 12), nn.ReLU(), nn.Linear(12, 10), nn.Tanh(), nn.Linear(10, 3))
    first, second = find_hidden_layers(net)
    assert (first.incoming, first.outgoing, first.activation) == (net[0], (net[2],), net[1])
    assert (second.incoming, second.outgoing, second.activation) == (net[2], (net[4],), net[3])


class Shuffled(nn.Module):
    """Its submodules are named in an order that has nothing to do with the flow of its data."""

    def __init__(self):
        super().__init__()
        self.output = nn.Linear(6, 2)
        self.second = nn.Linear(6, 6)
        self.first = nn.Linear(4, 6)

    def forward(self, x):
        return self.output(functional.relu(self.second(torch.tanh(self.first(x)))))


def test_order_of_names_plays_no_role():
    net = Shuffled()
    first, second = find_hidden_layers(net, torch.zeros(1, 4))
    assert (first.incoming, first.outgoing, first.activation) == (net.first, (net.second,), torch.tanh)
    assert (second.incoming, second.outgoing, second.activation) == (net.second, (net.output,), functional.relu)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.inner, self.back, self.head = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x):
        stream = torch.relu(self.stem(x))
        return self.head(stream + self.back(torch.relu(self.inner(stream))))


def test_units_of_a_residual_stream_are_left_out_and_those_inside_a_block_are_not():
    assert names(find_hidden_layers(Residual())) == ["inner"]


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.extra, self.actor, self.critic = (
            nn.Linear(4, 6),
            nn.Linear(4, 3),
            nn.Linear(6, 2),
            nn.Linear(9, 1),
        )

    def forward(self, x):
        body, extra = torch.relu(self.body(x)), torch.tanh(self.extra(x))
        return self.actor(body), self.critic(torch.cat([extra, body], dim=1))


def test_several_readers_and_concatenation():
    net = TwoHeads()
    body, extra = find_hidden_layers(net)
    assert body.outgoing == (net.actor, net.critic)
    assert body.columns == ((0, 1), (3, 1))
    assert (extra.outgoing, extra.columns) == ((net.critic,), ((0, 1),))


def test_convolutions_and_flattening():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))
    first, second = find_hidden_layers(net, torch.zeros(1, 3, 8, 8))
    assert (first.columns, second.columns) == (((0, 1),), ((0, 16),))


class UsedTwice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.again, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(torch.relu(self.again(torch.relu(self.again(torch.relu(self.first(x)))))))


def test_a_layer_used_twice_is_left_out():
    assert "again" not in names(find_hidden_layers(UsedTwice()))


@pytest.mark.parametrize("net", [nn.Sequential(nn.Linear(3, 4)), nn.Sequential(nn.Linear(3, 4), nn.Softmax(dim=1))])
def test_no_hidden_layer_is_an_error_that_says_what_was_found(net):
    with pytest.raises(ValueError, match=r"found: 0: .*hidden_layers=\[HiddenLayer"):
        find_hidden_layers(net)


def test_an_example_that_does_not_fit_is_an_error_that_says_what_to_pass():
    with pytest.raises(ValueError, match="example_input"):
        find_hidden_layers(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 2)))
    with pytest.raises(ValueError, match="could not be run.*example_input"):
        find_hidden_layers(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)), torch.zeros(1, 5))


def test_tracing_leaves_the_module_and_the_random_generators_alone():
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 2))
    net[3].eval()
    before, rng = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    with pytest.raises(ValueError, match="batch_norm"):
        find_hidden_layers(net)  # what stands between a unit and its readers and isn't understood yet leaves it out
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng)
    assert [module.training for module in net] == [True, True, True, False, True]


@pytest.mark.parametrize("net", [Shuffled(), TwoHeads(), Residual()])
def test_outgoing_weights_are_all_that_reads_a_unit(net):
    """With its recorded outgoing weights at zero, the output no longer depends on a unit: no reader was missed."""
    inputs = torch.randn(5, 4)
    for layer in find_hidden_layers(net, inputs):
        for part in layer.outgoing_weights:
            part.view().index_fill_(part.axis, torch.tensor([1]), 0.0)
        before = net(inputs)
        layer.incoming.weight.data[1] += 3.0
        torch.testing.assert_close(net(inputs), before)


class Extractor(BaseFeaturesExtractor):
    def __init__(self, observation_space):
        super().__init__(observation_space, features_dim=6)
        self.layer = nn.Linear(observation_space.shape[0], 6)

    def forward(self, observations):
        return torch.relu(self.layer(observations))


@pytest.mark.parametrize("shared", [True, False])
def test_an_actor_critic_policy(shared):
    policy = PPO(
        "MlpPolicy",
        "Pendulum-v1",
        policy_kwargs={
            "net_arch": {"pi": [8], "vf": [5]},
            "features_extractor_class": Extractor,
            "share_features_extractor": shared,
        },
    ).policy
    layers = {layer.incoming: layer for layer in find_policy_layers(policy)}
    actor, critic = policy.mlp_extractor.policy_net[0], policy.mlp_extractor.value_net[0]
    assert layers[actor].outgoing == (policy.action_net,)
    assert layers[critic].outgoing == (policy.value_net,)
    if shared:
        assert layers[policy.features_extractor.layer].outgoing == (actor, critic)
    else:
        assert layers[policy.pi_features_extractor.layer].outgoing == (actor,)
        assert layers[policy.vf_features_extractor.layer].outgoing == (critic,)


def test_a_policy_with_gsde_keeps_its_last_hidden_layer():
    policy = PPO("MlpPolicy", "Pendulum-v1", use_sde=True, policy_kwargs={"net_arch": [8, 8]}).policy
    assert len(find_policy_layers(policy)) == 4


def test_a_policy_with_discrete_observations():
    class Corridor(gym.Env):
        observation_space, action_space = spaces.Discrete(5), spaces.Discrete(2)

    policy = PPO("MlpPolicy", Corridor(), policy_kwargs={"net_arch": [8]}).policy
    assert len(find_policy_layers(policy)) == 2
