"""What a module is run on: examples of every kind, and guesses."""

import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import NatureCNN
from torch import nn

from cppo import ContinualBackprop, find_hidden_layers


def names(layers):
    return [layer.name for layer in layers]


@pytest.mark.parametrize("size", [84, 10, 32])
def test_typical_sizes_of_a_square_image_are_found(size):
    features = 4 * ((size - 3) // 2 + 1) ** 2
    net = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(features, 5))
    (layer,) = find_hidden_layers(net)
    assert layer.columns == ((0, features // 4),)


def test_nature_cnn_needs_no_example():
    net = nn.Sequential(NatureCNN(spaces.Box(0, 255, (4, 84, 84), "uint8"), features_dim=16), nn.Linear(16, 2))
    cbp = ContinualBackprop(net, torch.optim.Adam(net.parameters()))
    assert names(cbp.layers) == ["0.cnn.0", "0.cnn.2", "0.cnn.4", "0.linear.0"]
    assert cbp.layers[2].hidden_layer.columns == ((0, 49),)


class ManyInputs(nn.Module):
    """Takes two tensors and a dict."""

    def __init__(self):
        super().__init__()
        self.left, self.right, self.head = nn.Linear(4, 6), nn.Linear(3, 5), nn.Linear(11, 2)

    def forward(self, left, right=None, options=None):
        joined = torch.cat([torch.relu(self.left(left)), torch.tanh(self.right(right["x"]))], dim=1)
        return self.head(joined) * options["scale"]


class TakesDict(ManyInputs):
    """Takes one observation."""

    def forward(self, observation):
        return super().forward(observation["left"], observation, {"scale": 2.0})


def test_examples_of_arguments_keywords_and_observations():
    left, right, options = torch.zeros(2, 4), {"x": torch.zeros(2, 3)}, {"scale": 2.0}
    for example in (
        (left, right, options),
        {"left": left, "right": right, "options": options},
        (left, {"right": right, "options": options}),
    ):
        assert names(find_hidden_layers(ManyInputs(), example)) == ["left", "right"]
    assert names(find_hidden_layers(TakesDict(), {"left": left, **right})) == ["left", "right"]


def test_an_example_is_brought_to_the_module_s_number_format():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    assert names(find_hidden_layers(net, torch.zeros(2, 4))) == names(find_hidden_layers(net)) == ["0"]


def test_compiled_and_wrapped_modules_are_looked_into():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    for wrapped in (torch.compile(net, backend="eager"), nn.DataParallel(net)):
        (layer,) = find_hidden_layers(wrapped)
        assert layer.incoming is net[0]
    inside = nn.Sequential(torch.compile(net, backend="eager"), nn.ReLU(), nn.Linear(2, 2))
    assert [layer.incoming for layer in find_hidden_layers(inside)] == [net[0], net[2]]
