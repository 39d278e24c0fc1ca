"""What is left out is named with the reason."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from cppo import find_hidden_layers
from cppo.layers.find import find_layers, trace
from cppo.layers.sort_out import sort_out


def names(layers):
    return [layer.name for layer in layers]


class Mixed(nn.Module):
    """One of each: watched, left out, not run, of another kind."""

    def __init__(self):
        super().__init__()
        self.memory = nn.GRUCell(4, 6)
        self.body, self.norm, self.head, self.unused = (
            nn.Linear(6, 5),
            nn.BatchNorm1d(5),
            nn.Linear(5, 2),
            nn.Linear(2, 2),
        )

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.body(self.memory(x)))))


def test_what_is_left_out_is_named_with_the_reason():
    layers, left_out = find_layers(Mixed(), torch.zeros(2, 4))
    assert names(layers) == ["body"]
    assert [(each.name, each.n_units, each.reason) for each in left_out] == [
        ("head", 2, "output of the network"),
        ("memory", None, "GRUCell: only linear layers and convolutions are watched"),
        ("unused", 2, "it did not run by itself when the network was traced"),
    ]


def test_networks_that_see_different_functions_of_shared_units_are_told_apart_from_those_that_do_not():
    body, actor, critic = nn.Linear(4, 6), nn.Linear(6, 2), nn.Linear(6, 1)
    inputs = torch.zeros(2, 4)
    net = nn.ModuleList([body, actor, critic])
    (first, _), (same, _), (other, _) = (
        trace(net, lambda function=function, head=head: head(function(body(inputs))))
        for function, head in ((torch.relu, actor), (functional.relu, critic), (torch.tanh, critic))
    )
    first.readers += same.readers
    assert names(sort_out([first])[0]) == ["0"]
    first.readers += other.readers
    layers, (left_out,) = sort_out([first])
    assert layers == []
    assert "(relu; tanh)" in left_out.reason


@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("scripted", "0: read by a scripted module"),
        ("norm used twice", "0: read by 1, which is used 2 times"),
        ("input changed", "0: 2 changes its input before it reads it"),
    ],
)
def test_readers_that_cannot_be_trusted_leave_the_units_out(kind, reason):
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    norm = nn.BatchNorm1d(4)
    head = nn.Linear(4, 2)
    if kind == "scripted":
        net = nn.Sequential(first, nn.ReLU(), torch.jit.script(nn.Sequential(head)))
    elif kind == "norm used twice":
        net = nn.Sequential(first, norm, nn.ReLU(), second, norm, nn.ReLU(), head)
    else:
        head.register_forward_pre_hook(lambda _, args: (2 * args[0],))
        net = nn.Sequential(first, nn.ReLU(), head)
    with pytest.raises(ValueError, match=reason):
        find_hidden_layers(net, torch.zeros(2, 4))


class TiedByFunction(nn.Module):
    """An autoencoder whose decoder uses the encoder's weights without its modules."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.own, self.head = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x):
        code = self.second(torch.relu(self.first(x)))
        decoded = torch.tanh(code @ self.second.weight)
        return self.head(torch.relu(self.own(functional.linear(decoded, self.first.weight.t()))))


def test_layers_whose_weights_are_used_outside_of_them_are_left_out():
    layers, left_out = find_layers(TiedByFunction())
    assert names(layers) == ["own"]
    reasons = {each.name: each.reason for each in left_out}
    assert "the weight of second is also used by matmul" in reasons["first"] or "weight of first" in reasons["first"]
