"""What holds for every pattern of layers that is followed: the recorded readers are all there are, and a unit of
constant activation can be replaced without a trace.
"""

import copy
import re

import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import CombinedExtractor, NatureCNN
from torch import nn
from torch.nn import functional

from cppo import ContinualBackprop
from cppo.tracing import find_layers


class Net(nn.Module):
    """Layers by name, and a function of them and the input."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self._forward = forward

    def forward(self, *inputs):
        return self._forward(self, *inputs)


def mlp(*between, width=6):
    return nn.Sequential(nn.Linear(4, width), *between, nn.Linear(width, 3))


def cnn(*between, features):
    return nn.Sequential(nn.Conv2d(2, 4, 3), *between, nn.Linear(features, 3))


def linear(**sizes):
    return {name: nn.Linear(*size) for name, size in sizes.items()}


BOX = spaces.Box(0, 255, (1, 36, 36), "uint8")
DICT = spaces.Dict({"image": BOX, "state": spaces.Box(-1, 1, (5,))})
VECTOR, IMAGE, SEQUENCE = (5, 4), (5, 2, 8, 8), (5, 2, 12)


def nature_cnn():
    return nn.Sequential(NatureCNN(BOX, features_dim=8), nn.Linear(8, 2))


def combined():
    extractor = CombinedExtractor(DICT, cnn_output_dim=8)
    return Net(lambda net, x: net.head(net.extractor(x)), extractor=extractor, head=nn.Linear(13, 2))


# name: (module, shape of its input, names of the layers that are watched)
PATTERNS = {
    "activation module": (lambda: mlp(nn.ReLU()), VECTOR, ["0"]),
    "activation in place": (lambda: mlp(nn.ReLU(inplace=True)), VECTOR, ["0"]),
    "prelu": (lambda: mlp(nn.PReLU(6)), VECTOR, ["0"]),
    "swish by hand": (
        lambda: Net(lambda n, x: n.b((h := n.a(x)) * torch.sigmoid(h)), **linear(a=(4, 6), b=(6, 3))),
        VECTOR,
        ["a"],
    ),
    "function with constants": (
        lambda: Net(lambda n, x: n.b(2 * torch.tanh(n.a(x) / 3).abs() ** 2 - 1), **linear(a=(4, 6), b=(6, 3))),
        VECTOR,
        ["a"],
    ),
    "linear units": (lambda: mlp(), VECTOR, ["0"]),
    "dropout": (lambda: mlp(nn.ReLU(), nn.Dropout(0.5)), VECTOR, ["0"]),
    "batch norm before the activation": (lambda: mlp(nn.BatchNorm1d(6), nn.ReLU()), VECTOR, ["0"]),
    "batch norm behind the activation": (lambda: mlp(nn.ReLU(), nn.BatchNorm1d(6)), VECTOR, ["0"]),
    "batch norm without weights": (lambda: mlp(nn.BatchNorm1d(6, affine=False), nn.ReLU()), VECTOR, ["0"]),
    "layers on a sequence": (lambda: mlp(nn.ReLU()), (5, 7, 4), ["0"]),
    "conv1d": (
        lambda: nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.MaxPool1d(2), nn.Flatten(), nn.Linear(20, 3)),
        SEQUENCE,
        ["0"],
    ),
    "conv3d": (
        lambda: nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AvgPool3d(2), nn.Flatten(), nn.Linear(4, 3)),
        (5, 1, 4, 4, 4),
        ["0"],
    ),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(80, 3)
        ),
        IMAGE,
        ["0", "2"],
    ),
    "max pooling": (lambda: cnn(nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), features=36), IMAGE, ["0"]),
    "average pooling": (lambda: cnn(nn.AvgPool2d(2), nn.ReLU(), nn.Flatten(), features=36), IMAGE, ["0"]),
    "adaptive pooling": (lambda: cnn(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), features=4), IMAGE, ["0"]),
    "mean over space": (
        lambda: Net(lambda n, x: n.b(torch.relu(n.a(x)).mean((2, 3))), a=nn.Conv2d(2, 4, 3), b=nn.Linear(4, 3)),
        IMAGE,
        ["a"],
    ),
    "sum called by keywords": (
        lambda: Net(lambda n, x: n.b(torch.sum(input=torch.tanh(n.a(x)), axis=1)), **linear(a=(4, 6), b=(6, 3))),
        (5, 7, 4),
        ["a"],
    ),
    "maximum over positions": (
        lambda: Net(lambda n, x: n.b(torch.relu(n.a(x)).max(dim=1).values), **linear(a=(4, 6), b=(6, 3))),
        (5, 7, 4),
        ["a"],
    ),
    "batch norm in a cnn": (
        lambda: cnn(nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(3), nn.Flatten(), features=16),
        IMAGE,
        ["0"],
    ),
    "batch norm behind flattening": (
        lambda: cnn(nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(144), features=144),
        IMAGE,
        ["0"],
    ),
    "circular padding": (
        lambda: Net(
            lambda n, x: n.b(torch.relu(n.a(x))).mean((2, 3)),
            a=nn.Conv2d(2, 4, 3),
            b=nn.Conv2d(4, 3, 3, padding=1, padding_mode="circular"),
        ),
        IMAGE,
        ["a"],
    ),
    "view": (
        lambda: Net(
            lambda n, x: n.b(functional.relu_(n.a(x).view(len(x), -1))), a=nn.Conv2d(2, 4, 3), b=nn.Linear(144, 3)
        ),
        IMAGE,
        ["a"],
    ),
    "axes moved": (
        lambda: Net(lambda n, x: n.b(torch.relu(n.a(x)).permute(0, 2, 3, 1)), a=nn.Conv2d(2, 4, 3), b=nn.Linear(4, 3)),
        IMAGE,
        ["a"],
    ),
    "concatenation and several readers": (
        lambda: Net(
            lambda n, x: (n.actor(h := torch.relu(n.body(x))), n.critic(torch.cat([torch.tanh(n.extra(x)), h], 1))),
            **linear(body=(4, 6), extra=(4, 3), actor=(6, 2), critic=(9, 1)),
        ),
        VECTOR,
        ["body", "extra"],
    ),
    "norm of a concatenation": (
        lambda: Net(
            lambda n, x: n.head(n.norm(torch.cat([x, torch.tanh(n.extra(x)), torch.relu(n.body(x))], 1))),
            **linear(body=(4, 6), extra=(4, 3), head=(13, 2)),
            norm=nn.BatchNorm1d(13),
        ),
        VECTOR,
        ["extra", "body"],
    ),
    "inside of a residual block": (
        lambda: Net(
            lambda n, x: n.head((h := torch.relu(n.stem(x))) + n.back(torch.relu(n.inner(h)))),
            **linear(stem=(4, 4), inner=(4, 6), back=(6, 4), head=(4, 2)),
        ),
        VECTOR,
        ["inner"],
    ),
    "NatureCNN": (nature_cnn, (3, 1, 36, 36), ["0.cnn.0", "0.cnn.2", "0.cnn.4", "0.linear.0"]),
    "dict observations": (
        combined,
        None,
        [f"extractor.extractors.image.{name}" for name in ("cnn.0", "cnn.2", "cnn.4", "linear.0")],
    ),
    "layer norm": (lambda: mlp(nn.LayerNorm(6), nn.ReLU()), VECTOR, ["0"]),
    "rms norm": (lambda: mlp(nn.ReLU(), nn.RMSNorm(6)), VECTOR, ["0"]),
    "layer norm of an image": (
        lambda: cnn(nn.LayerNorm([4, 6, 6]), nn.ReLU(), nn.Flatten(), features=144),
        IMAGE,
        ["0"],
    ),
}
MIXING = ("layer norm", "rms norm", "layer norm of an image")
"""Through these every unit moves all others, so a unit's outgoing weights are not all that its features reach."""

BY_POSITION = ("batch norm behind flattening",)
"""These scale each position of a channel in its own way, so what a constant channel sends on isn't constant over space.
The bias takes over its mean over space, as it does for any feature map."""


def build(name):
    """A fresh network of the pattern with norms that are not those of a new module, and an input."""
    torch.manual_seed(0)
    make, shape, watched = PATTERNS[name]
    net = make()
    for module in net.modules():
        for what in ("weight", "bias", "running_mean", "running_var"):
            value = getattr(module, what, None) if "Norm" in type(module).__name__ else None
            if value is not None:
                value.data.uniform_(0.5, 1.5)
    inputs = torch.randn(shape) if shape else {"image": torch.rand(3, 1, 36, 36), "state": torch.randn(3, 5)}
    return net, inputs, watched


def run(net, inputs):
    outputs = net(inputs)
    return torch.cat(outputs, dim=1) if isinstance(outputs, tuple) else outputs


@pytest.mark.parametrize("name", PATTERNS)
def test_outgoing_weights_as_recorded_are_all_that_reads_a_unit(name):
    net, inputs, watched = build(name)
    net.eval()
    layers, _ = find_layers(net, inputs)
    assert [layer.name for layer in layers] == watched
    for layer in layers:
        changed = copy.deepcopy(layer.incoming.state_dict())
        before = run(net, inputs)
        layer.incoming.weight.data[1] += 1.0
        assert not torch.allclose(run(net, inputs), before, atol=1e-6)  # the unit matters
        layer.incoming.load_state_dict(changed)
        for part in layer.outgoing_weights:
            part.view().index_fill_(part.axis, torch.tensor([1]), 0.0)
        before = run(net, inputs)
        if name not in MIXING:
            layer.incoming.weight.data[1] += 1.0
        torch.testing.assert_close(run(net, inputs), before)


def replace_a_constant_unit(net, inputs, watched, unit=1):
    """Make one unit of each layer constant, replace it, and return the outputs before and after."""
    layers, _ = find_layers(net, inputs)
    layers = [layer for layer in layers if layer.name == watched]
    (layer,) = layers
    layer.incoming.weight.data[unit] = 0.0
    layer.incoming.bias.data[unit] = 0.7
    net.train()
    for module in net.modules():
        if "Norm" in type(module).__name__ or isinstance(module, nn.Dropout):
            module.eval()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    lowest = lambda signals: (torch.arange(signals.layer.n_units) != unit).float()  # noqa: E731
    rate = 1 / layer.n_units
    cbp = ContinualBackprop(net, optimizer, rate, maturity_threshold=0, utility=lowest, hidden_layers=layers, seed=0)
    before = run(net, inputs)
    before.sum().backward()
    optimizer.step()
    assert cbp.layers[0].replaced.tolist() == [unit]
    return before.detach(), run(net, inputs).detach(), layer


@pytest.mark.parametrize("name", [name for name in PATTERNS if name not in MIXING + BY_POSITION])
def test_replacing_a_unit_of_constant_activation_changes_no_output(name):
    for watched in PATTERNS[name][2]:
        net, inputs, _ = build(name)
        before, after, layer = replace_a_constant_unit(net, inputs, watched)
        torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
        for part in layer.outgoing_weights:
            assert not part.view().select(part.axis, 1).any()


@pytest.mark.parametrize("name", MIXING)
def test_a_layer_norm_lets_a_new_unit_move_the_others_but_not_through_its_own_weights(name):
    """Other units see the new one in the norm's mean and variance; what it sends itself is nothing."""
    net, inputs, (watched,) = build(name)
    before, after, layer = replace_a_constant_unit(net, inputs, watched)
    assert not torch.equal(before, after)
    for part in layer.outgoing_weights:
        assert not part.view().select(part.axis, 1).any()


def test_a_new_unit_has_a_new_slice_of_its_norm():
    net, inputs, _ = build("norm of a concatenation")  # x lies in 0 to 3, extra in 4 to 6, body in 7 to 12
    old = {name: value.clone() for name, value in net.norm.state_dict().items()}
    replace_a_constant_unit(net, inputs, "body", unit=2)
    new = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
    for name, value in new.items():
        expected = old[name].clone()
        expected[7 + 2] = value
        assert torch.equal(net.norm.state_dict()[name], expected)


def test_behind_flattening_the_slice_of_a_norm_is_a_block():
    net, inputs, _ = build("batch norm behind flattening")
    old = net[3].weight.detach().clone()
    replace_a_constant_unit(net, inputs, "0", unit=2)
    old[2 * 36 : 3 * 36] = 1.0
    assert torch.equal(net[3].weight, old)


def test_the_optimizer_state_of_a_norm_slice_starts_afresh():
    net, inputs, _ = build("batch norm behind the activation")
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    utility = lambda signals: (torch.arange(6) != 3).float()  # noqa: E731
    ContinualBackprop(net, optimizer, 1 / 6, maturity_threshold=2, utility=utility, example_input=inputs)
    for _ in range(3):
        optimizer.zero_grad()
        net(inputs).square().sum().backward()
        optimizer.step()
    for parameter in (net[2].weight, net[2].bias):
        assert (optimizer.state[parameter]["exp_avg"] == 0).nonzero().flatten().tolist() == [3]


def uses_twice(net, x):
    return net.head(torch.relu(net.again(torch.relu(net.again(torch.relu(net.first(x)))))))


# name: (module, shape of its input, layer that is left out, part of the reason)
LEFT_OUT = {
    "residual stream": (PATTERNS["inside of a residual block"][0], VECTOR, "stem", "added to something else"),
    "leaves": (
        lambda: Net(lambda n, x: (n.b(h := torch.relu(n.a(x))), h), **linear(a=(4, 6), b=(6, 3))),
        VECTOR,
        "a",
        "leave the network",
    ),
    "leaves in an object": (
        lambda: Net(lambda n, x: (n.b(h := n.a(x)), torch.distributions.Normal(h, 1.0)), **linear(a=(4, 6), b=(6, 3))),
        VECTOR,
        "a",
        "read by",
    ),
    "gated": (
        lambda: Net(lambda n, x: n.c(n.a(x) * torch.sigmoid(n.b(x))), **linear(a=(4, 6), b=(4, 6), c=(6, 3))),
        VECTOR,
        "a",
        "multiplied",
    ),
    "two functions": (
        lambda: Net(
            lambda n, x: n.b(torch.relu(h := n.a(x))) + n.c(torch.tanh(h)), **linear(a=(4, 6), b=(6, 3), c=(6, 3))
        ),
        VECTOR,
        "a",
        r"different functions of its units.*\(relu; tanh\)",
    ),
    "two functions joined": (
        lambda: Net(lambda n, x: n.b(torch.cat([torch.relu(h := n.a(x)), -h], 1)), **linear(a=(4, 6), b=(12, 3))),
        VECTOR,
        "a",
        "different functions of its units are joined",
    ),
    "called oddly": (
        lambda: Net(lambda n, x: n.b(n.a(x).view(torch.int32).view(torch.float32)), **linear(a=(4, 6), b=(6, 3))),
        VECTOR,
        "a",
        "read by view",
    ),
    "softmax": (lambda: mlp(nn.Softmax(dim=1)), VECTOR, "0", "softmax"),
    "group norm": (lambda: mlp(nn.GroupNorm(2, 6)), VECTOR, "0", "group normalisation"),
    "slice": (
        lambda: Net(lambda n, x: n.b(torch.relu(n.a(x))[:, :3]), **linear(a=(4, 6), b=(3, 3))),
        VECTOR,
        "a",
        "in part",
    ),
    "reversed": (
        lambda: Net(lambda n, x: n.b(n.a(x).flip(1)), **linear(a=(4, 6), b=(6, 3))),
        VECTOR,
        "a",
        "another order",
    ),
    "positions apart": (
        lambda: Net(lambda n, x: n.b(n.a(x).flatten(1)), **linear(a=(4, 6), b=(42, 3))),
        (5, 7, 4),
        "a",
        "several places",
    ),
    "transposed": (lambda: Net(lambda n, x: n.b(n.a(x).T), **linear(a=(4, 6), b=(5, 3))), VECTOR, "a", "another axis"),
    "matrix product": (
        lambda: Net(lambda n, x: n.a(x) @ n.b.weight.T, **linear(a=(4, 6), b=(6, 3))),
        VECTOR,
        "a",
        "matmul",
    ),
    "used outside": (
        lambda: Net(lambda n, x: functional.linear(n.a(x), n.b.weight), **linear(a=(4, 6), b=(6, 3))),
        VECTOR,
        "a",
        "used outside of",
    ),
    "into numpy": (
        lambda: Net(lambda n, x: n.b(h := n.a(x)) + h.detach().numpy().mean(), **linear(a=(4, 6), b=(6, 3))),
        VECTOR,
        "a",
        "numpy",
    ),
    "written": (
        lambda: Net(lambda n, x: n.b(torch.zeros(len(x), 6).copy_(n.a(x))), **linear(a=(4, 6), b=(6, 3))),
        VECTOR,
        "a",
        "written",
    ),
    "used twice": (
        lambda: Net(uses_twice, **linear(first=(4, 4), again=(4, 4), head=(4, 2))),
        VECTOR,
        "again",
        "used 2 times",
    ),
    "reader used twice": (
        lambda: Net(uses_twice, **linear(first=(4, 4), again=(4, 4), head=(4, 2))),
        VECTOR,
        "first",
        "again, which is used 2",
    ),
    "grouped convolution": (
        lambda: cnn(nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), features=64),
        IMAGE,
        "2",
        "grouped",
    ),
    "computed weight": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 6)), nn.ReLU(), nn.Linear(6, 3)),
        VECTOR,
        "0",
        "computed from other parameters",
    ),
    "recurrent": (
        lambda: Net(lambda n, x: n.b(n.rnn(n.a(x))[0]), rnn=nn.LSTM(6, 5), **linear(a=(4, 6), b=(5, 3))),
        VECTOR,
        "a",
        "lstm",
    ),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_units_left_out_are_never_replaced_and_the_reason_is_given(name):
    make, shape, layer, reason = LEFT_OUT[name]
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(torch.Size(shape[1:]).numel(), 8), nn.ReLU(), nn.Linear(8, 1))
    net = Net(
        lambda n, x: (n.plain(x), n.odd(x)), odd=make(), plain=plain
    )  # what there is to do for certain is in plain
    inputs = torch.randn(shape)
    layers, left_out = find_layers(net, inputs)
    assert f"odd.{layer}" not in [each.name for each in layers]
    (why,) = [each.reason for each in left_out if each.name == f"odd.{layer}"]
    assert re.search(reason, why), why
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.5, maturity_threshold=0, example_input=inputs)
    before = copy.deepcopy(net.odd.get_submodule(layer).state_dict())
    for _ in range(3):
        net(inputs)[0].sum().backward()
        optimizer.step()
    assert cbp.total_replaced >= 8
    after = net.odd.get_submodule(layer).state_dict()
    assert all(torch.equal(before[key], value) for key, value in after.items())
