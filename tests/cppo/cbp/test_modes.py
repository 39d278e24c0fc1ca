"""A network is followed in training mode as well as in evaluation mode, and left as it was."""

import pytest
import torch
from torch import nn

from cppo import ContinualBackprop, find_hidden_layers
from cppo.layers.find import find_layers
from tests.cppo.networks import step


class Modes(nn.Module):
    """Two hidden layers; what it does with them depends on the mode."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.head, self.auxiliary = (nn.Linear(4, 4) for _ in range(4))
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        hidden = torch.relu(self.first(x))
        output = self.head(self.norm(torch.relu(self.second(hidden))))
        return self.besides(hidden, output) if self.training else output

    def besides(self, hidden, output):
        return output + self.auxiliary(hidden)


class Normalised(Modes):
    def besides(self, hidden, output):
        return self.auxiliary(torch.tanh(hidden))


class Exposed(Modes):
    def besides(self, hidden, output):
        return output, hidden


class Choosy(Modes):
    def besides(self, hidden, output):
        raise ValueError("no targets given")


def names(layers):
    return [layer.name for layer in layers]


def test_a_reader_in_training_mode_is_a_reader():
    net = Modes()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=1.0, maturity_threshold=0)
    assert cbp.layers[0].hidden_layer.outgoing == (net.second, net.auxiliary)
    step(net, optimizer, torch.randn(5, 4))
    assert cbp.total_replaced == 8
    assert not net.auxiliary.weight.any()


@pytest.mark.parametrize(("kind", "reason"), [(Normalised, "different functions"), (Exposed, "leave the network")])
def test_what_training_mode_does_besides_leaves_units_out(kind, reason):
    layers, left_out = find_layers(kind())
    assert names(layers) == ["second"]
    assert reason in next(each.reason for each in left_out if each.name == "first")


def test_a_training_mode_that_cannot_be_run_is_warned_of():
    with pytest.warns(UserWarning, match=r"could not be run in training mode on .* \(no targets given\)"):
        assert names(find_hidden_layers(Choosy())) == ["first", "second"]


@pytest.mark.parametrize("examples", [1, 3])
def test_the_module_is_left_as_it_was(examples):
    """A batch of one would be too few for a batch norm that trains; here it neither does nor moves its averages."""
    net = Modes()
    net.second.eval()
    buffer, before = net.calls, {name: value.clone() for name, value in net.state_dict().items()}
    random_state = torch.get_rng_state()
    find_hidden_layers(net, torch.randn(examples, 4, generator=torch.Generator()))
    assert net.calls is buffer
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert [module.training for module in net.modules()] == [True, True, False, True, True, True]
    assert torch.equal(torch.get_rng_state(), random_state)


class Keeps(nn.Module):
    """Keeps its features, for another module or for nobody knows whom."""

    def __init__(self, keep):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 6), nn.Linear(6, 5), nn.Linear(5, 2)
        self.keep, self.kept = keep, None

    def forward(self, x):
        hidden = torch.relu(self.first(x))
        self.keep(self, hidden)
        return self.head(torch.relu(self.second(hidden)))


@pytest.mark.parametrize(
    "keep",
    [
        lambda net, hidden: setattr(net, "kept", hidden),
        lambda net, hidden: setattr(net, "kept", {"last": [hidden.detach()]}),
        lambda net, hidden: setattr(net.second, "kept", hidden),
    ],
)
def test_features_that_are_kept_on_a_module_are_left_out(keep):
    layers, left_out = find_layers(Keeps(keep))
    assert names(layers) == ["second"]
    assert "its features are kept as" in left_out[0].reason and "kept, to be read later" in left_out[0].reason


def test_features_kept_for_a_while_are_followed_to_their_reader():
    class Passes(Keeps):
        def forward(self, x):
            self.kept = torch.relu(self.first(x))
            output = self.head(torch.relu(self.second(self.kept)))
            self.kept = None
            return output

    assert names(find_hidden_layers(Passes(None))) == ["first", "second"]


class Repeats(nn.Module):
    """Runs its body for each head anew."""

    def __init__(self, between):
        super().__init__()
        self.first, self.second, self.norm = nn.Linear(4, 6), nn.Linear(6, 6), nn.BatchNorm1d(6)
        self.actor, self.critic, self.between = nn.Linear(6, 2), nn.Linear(6, 1), between

    def body(self, x):
        return torch.relu(self.norm(self.second(torch.tanh(self.first(x)))))

    def forward(self, x):
        return self.actor(self.body(x)), self.critic(self.body(self.between(x)))


def test_to_compute_the_same_again_is_no_second_use():
    net = Repeats(torch.clone)
    first, second = find_hidden_layers(net, torch.randn(3, 4))
    assert (first.outgoing, second.outgoing) == ((net.second,), (net.actor, net.critic))


@pytest.mark.parametrize("example", [torch.zeros(3, 4), torch.randn(3, 4)])
def test_to_compute_the_same_of_something_else_is_a_second_use(example):
    with pytest.raises(ValueError, match=r"first: it is used 2 times.*second: it is used 2 times"):
        find_hidden_layers(Repeats(lambda x: x + x.flip(1)), example)
