"""Which layers read which, how far each is from the end."""

import copy

import torch
from torch import nn

from cppo.layers.gradient_graph import find_depths, find_first_readers


def test_each_layer_counts_those_behind_it():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.ReLU(inplace=True), nn.Linear(4, 2))
    depths = find_depths(net, [lambda: net(torch.zeros(1, 3))])
    assert [depths[net[number]] for number in (0, 2, 4)] == [3, 2, 1]


def test_the_order_of_names_says_nothing_and_the_longest_way_counts():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.value = nn.Linear(4, 1)
            self.policy = nn.Linear(5, 2)
            self.middle = nn.Linear(4, 5)
            self.shared = nn.Linear(3, 4)

        def forward(self, x):
            features = self.shared(x).relu()
            return self.policy(self.middle(features).relu()).argmax(), self.value(features)

    net = Branching()
    depths = find_depths(net, [lambda: net(torch.zeros(1, 3))])
    assert (depths[net.shared], depths[net.middle], depths[net.policy], depths[net.value]) == (3, 2, 1, 1)


def test_the_first_reader_of_a_layer_is_found_through_anything():
    class Mixing(nn.Module):
        def __init__(self):
            super().__init__()
            self.late, self.early, self.first = nn.Linear(4, 1), nn.Linear(4, 2), nn.Linear(3, 4)

        def forward(self, x):
            features = self.first(x).softmax(dim=1)
            return self.early(features.sort(dim=1).values), self.late(features)

    net = Mixing()
    assert find_first_readers(net, [lambda: net(torch.zeros(1, 3))]) == {net.first: net.early}


def test_concatenation_additions_and_convolutions_are_followed():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 2, 3)
            self.skip, self.add = nn.Linear(8, 8), nn.Linear(8, 8)
            self.out = nn.Linear(16, 1)

        def forward(self, x):
            features = self.conv(x).relu().flatten(1)
            both = torch.cat([self.skip(features).relu(), features + self.add(features)], dim=1)
            return self.out(both)

    net = Residual()
    depths = find_depths(net, [lambda: net(torch.zeros(1, 1, 4, 4))])
    assert (depths[net.out], depths[net.skip], depths[net.add], depths[net.conv]) == (1, 2, 2, 3)


def test_looking_leaves_the_module_and_the_generator_as_they_are():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2))
    before, state = torch.get_rng_state(), {name: value.clone() for name, value in net.state_dict().items()}
    find_depths(net, [lambda: net(torch.ones(2, 3))])
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(state[name], value) for name, value in net.state_dict().items())
    assert net.training and not net[0]._forward_hooks


def test_a_module_that_keeps_what_it_computed_can_still_be_copied():
    class Keeping(nn.Sequential):
        def forward(self, x):
            self.kept = super().forward(x)
            return self.kept

    net = Keeping(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    find_depths(net, [lambda: net(torch.ones(2, 3))])
    copy.deepcopy(net)
