"""Hidden layers are found by following the data."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from cppo import find_hidden_layers
from cppo.layers.find import find_layers


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


def test_a_layer_used_twice_is_refused_and_so_is_what_it_reads():
    with pytest.raises(ValueError, match=r"first: read by again, which is used 2 times.*again: it is used 2 times"):
        find_hidden_layers(UsedTwice())
    layers, left_out = find_layers(nn.Sequential(UsedTwice(), nn.ReLU(), nn.Linear(2, 3)))
    assert names(layers) == ["0.head"]
    assert [each.name for each in left_out] == ["0.first", "0.again", "2"]


def test_tied_weights_are_refused():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    net[2].weight = net[0].weight
    with pytest.raises(ValueError, match=r"tied weights: 0\.weight and 2\.weight.*hidden_layers="):
        find_hidden_layers(net)


@pytest.mark.parametrize("net", [nn.Sequential(nn.Linear(3, 4)), nn.Sequential(nn.Linear(3, 4), nn.Softmax(dim=1))])
def test_no_hidden_layer_is_an_error_that_says_what_was_found(net):
    with pytest.raises(ValueError, match=r"found: 0: .*hidden_layers=\[HiddenLayer"):
        find_hidden_layers(net)


def test_a_lazy_layer_without_weights_is_an_error_and_stays_one():
    net = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match=r"0\.weight has no shape yet: run the module once"):
        find_hidden_layers(net, torch.zeros(1, 3))
    net(torch.zeros(1, 3))
    assert names(find_hidden_layers(net)) == ["0"]


def test_an_example_that_does_not_fit_is_an_error_that_says_what_to_pass():
    with pytest.raises(ValueError, match="example_input"):
        find_hidden_layers(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(15, 2)))
    with pytest.raises(ValueError, match=r"could not be run.*example_input"):
        find_hidden_layers(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)), torch.zeros(1, 5))


def test_tracing_leaves_the_module_and_the_random_generators_alone():
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 2))
    net[3].eval()
    before, rng = {k: v.clone() for k, v in net.state_dict().items()}, torch.get_rng_state()
    find_hidden_layers(net)
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


class InPlaceBehindView(nn.Module):
    """What is done in place to a view is done to the tensor."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 3, 1), nn.Linear(12, 2), nn.Conv2d(3, 2, 1)

    def forward(self, x):
        h = self.a(x)
        functional.relu_(h.flatten(1))
        return self.c(h)


def test_a_change_in_place_reaches_the_views_of_a_tensor():
    (layer,) = find_hidden_layers(InPlaceBehindView(), torch.zeros(2, 1, 2, 2))
    assert layer.activation is functional.relu_


def test_a_layer_that_reads_a_norm_of_sb3_contrib():
    torch_layers = pytest.importorskip("sb3_contrib.common.torch_layers")
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), torch_layers.BatchRenorm1d(6), nn.Linear(6, 2))
    (layer,) = find_hidden_layers(net)
    assert [part.name for part in layer.norm_slices] == ["scale", "bias", "ra_mean", "ra_var"]


def test_a_scripted_module_is_refused_in_one_line():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    with pytest.raises(ValueError, match="TopLevelTracedModule is scripted and can't be followed"):
        find_hidden_layers(torch.jit.trace(net, torch.zeros(1, 4)), torch.zeros(1, 4))
