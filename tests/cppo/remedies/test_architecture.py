"""Changing the hidden layers of a network in place."""

import pytest
import torch
from torch import nn

from cppo import ContinualBackprop, find_hidden_layers
from cppo.remedies import CReLU, OnlineNorm, remodel


def mlp(activation=nn.ReLU):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), activation(), nn.Linear(8, 6), activation(), nn.Linear(6, 2))


def cnn():
    torch.manual_seed(0)
    convolutions = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.Flatten())
    return nn.Sequential(convolutions, nn.Linear(6 * 16, 8), nn.ReLU(), nn.Linear(8, 2))


def test_layer_norm_stands_before_the_activation():
    net = remodel(mlp(nn.Tanh), {"layer-norm": {}})
    assert [type(each).__name__ for each in net[1]] == ["LayerNorm", "Tanh"]
    x = torch.randn(5, 3)
    units = nn.functional.linear(x, net[0].weight, net[0].bias)
    expected = (units - units.mean(dim=1, keepdim=True)) / units.std(dim=1, keepdim=True, unbiased=False)
    torch.testing.assert_close(net[1](net[0](x)), expected.tanh(), atol=1e-3, rtol=0)


def test_output_layers_stay_whatever_follows_them():
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2), nn.Tanh())  # as the actor of TD3
    remodel(net, {"layer-norm": {}, "dropout": {"p": 0.5}})
    assert isinstance(net[1], nn.Sequential) and isinstance(net[3], nn.Tanh)


def test_dropout_acts_in_training_only():
    net = remodel(mlp(), {"dropout": {"p": 0.5}})
    x = torch.ones(1, 3)
    assert len({net(x).sum().item() for _ in range(20)}) > 1
    net.eval()
    plain = mlp().eval()
    assert torch.equal(net(x), plain(x))


def test_dropout_with_probability_zero_changes_no_bit():
    net, plain = remodel(mlp(), {"dropout": {"p": 0.0}}), mlp()
    x = torch.randn(4, 3)
    assert torch.equal(net(x), plain(x))


def test_crelu_keeps_the_number_of_features_and_both_parts_of_a_unit():
    net = remodel(mlp(), {"crelu": {}})
    assert (net[0].out_features, net[2].in_features, net[2].out_features) == (4, 8, 3)
    x = torch.randn(5, 3)
    units = nn.functional.linear(x, net[0].weight, net[0].bias)
    features = net[1](net[0](x))
    assert torch.equal(features[:, :4] - features[:, 4:], units)
    assert torch.equal(net[0].weight, mlp()[0].weight[:4])


def test_crelu_of_a_convolution_joins_channels():
    net = remodel(cnn(), {"crelu": {}}, example_input=torch.zeros(1, 1, 8, 8))
    assert (net[0][0].out_channels, net[0][2].out_channels) == (2, 3)
    assert net(torch.randn(2, 1, 8, 8)).shape == (2, 2)
    assert CReLU(1)(torch.tensor([[[-1.0], [2.0]]])).flatten().tolist() == [0, 2, 1, 0]


@pytest.mark.parametrize("changes", [{"layer-norm": {}}, {"online-norm": {}}, {"dropout": {}}, {"crelu": {}}])
def test_a_convolutional_network_learns_with_each_change(changes):
    net = remodel(cnn(), changes, example_input=torch.zeros(1, 1, 8, 8))
    net(torch.randn(4, 1, 8, 8)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_an_optimizer_that_is_there_already_trains_the_new_parameters_in_the_layers_group():
    net = mlp()
    groups = [{"params": net[0].parameters()}, {"params": [*net[2].parameters(), *net[4].parameters()], "lr": 0.5}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    remodel(net, {"layer-norm": {}}, optimizers=[optimizer])
    first, second = ([id(each) for each in group["params"]] for group in optimizer.param_groups)
    assert {id(each) for each in net[1].parameters()} < set(first)
    assert {id(each) for each in net[3].parameters()} < set(second)


def test_remodelling_draws_nothing_and_keeps_the_weights():
    net = mlp()
    before, weights = torch.get_rng_state(), [each.clone() for each in net.parameters()]
    remodel(net, {"layer-norm": {}, "online-norm": {}, "dropout": {}})
    assert torch.equal(torch.get_rng_state(), before)
    kept = [net[number].get_parameter(name) for number in (0, 2, 4) for name in ("weight", "bias")]
    assert all(torch.equal(one, other) for one, other in zip(kept, weights, strict=True))


@pytest.mark.parametrize("changes", [{"layer-norm": {}}, {"online-norm": {}}, {"dropout": {}}])
def test_continual_backpropagation_watches_all_hidden_layers_of_a_remodelled_network(changes):
    net = remodel(mlp(), changes)
    assert [(layer.name, layer.n_units) for layer in find_hidden_layers(net)] == [("0", 8), ("2", 6)]
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.2, maturity_threshold=2)
    for _ in range(12):
        optimizer.zero_grad()
        net(torch.randn(16, 3)).square().mean().backward()
        optimizer.step()
    assert (cbp.n_replaced > 0).all()
    if cbp.layers[0].hidden_layer.norms:
        unit = cbp.layers[0].replaced[0]
        norm = cbp.layers[0].hidden_layer.norms[0]
        assert (norm.weight[unit].item(), norm.bias[unit].item()) == (1, 0)


def test_a_new_units_slice_of_online_norm_starts_anew():
    net = remodel(mlp(), {"online-norm": {"forward_decay": 0.5}})
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.5, maturity_threshold=0)
    for _ in range(3):
        net(torch.randn(16, 3)).square().mean().backward()
        optimizer.step()
    norm = net[1][0]
    assert isinstance(norm, OnlineNorm)
    new, old = cbp.layers[0].replaced, [unit for unit in range(8) if unit not in cbp.layers[0].replaced]
    for name, value in (("running_mean", 0), ("running_var", 1), ("control_mean", 0), ("control_var", 0)):
        assert (norm.get_buffer(name)[new] == value).all()
        assert (norm.get_buffer(name)[old] != value).any()


def test_continual_backpropagation_refuses_concatenated_relu():
    with pytest.raises(ValueError, match="different functions of its units are joined by cat"):
        find_hidden_layers(remodel(mlp(), {"crelu": {}}))


@pytest.mark.parametrize(
    ("net", "changes", "message"),
    [
        (mlp(), {"batch-norm": {}}, "'batch-norm' is no change of a network; choose from crelu, layer-norm"),
        (mlp(nn.Tanh), {"crelu": {}}, "0: crelu takes the place of ReLU, not of Tanh"),
        (nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1)), {"crelu": {}}, "so 5 must be an even number"),
        (mlp(), {"dropout": {"p": 1.5}}, "p=1.5 is not allowed"),
        (nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 1)), {"dropout": {}}, "which is not so for 0"),
        (nn.Linear(3, 5), {"dropout": {}}, "which is not so for any"),
    ],
)
def test_what_does_not_fit_is_refused(net, changes, message):
    with pytest.raises(ValueError, match=message):
        remodel(net, changes)
