"""ReDo."""

import pytest
import torch
from torch import nn

from cppo.remedies import ReDo
from cppo.remedies.redo import dormancy_score


def network():
    """Two inputs, four units, one output: on x = (1, 1) the units are 4, 0.5, 0 and 3.5."""
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[2.0, 2.0], [0.5, 0.0], [-1.0, -1.0], [3.0, 0.5]]))
        net[0].bias.zero_()
        net[2].weight.fill_(1.0)
        net[2].bias.fill_(0.5)
    return net


def stepped(net, lr=0.0, n_steps=1, **settings):
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    redo = ReDo(net, optimizer, seed=0, **settings)
    for _ in range(n_steps):
        optimizer.zero_grad()
        net(torch.ones(5, 2)).sum().backward()
        optimizer.step()
    return redo


def test_the_score_is_the_share_of_the_layers_mean():
    # mean of 4, 0.5, 0, 3.5 is 2
    assert dormancy_score(torch.tensor([4, 0.5, 0, 3.5])).tolist() == pytest.approx([2, 0.25, 0, 1.75])
    assert dormancy_score(torch.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize(("threshold", "recycled"), [(0, [2]), (0.1, [2]), (0.3, [1, 2]), (1.75, [1, 2, 3])])
def test_units_up_to_the_threshold_are_recycled(threshold, recycled):
    net = network()
    before = net[0].weight.clone()
    redo = stepped(net, threshold=threshold, every=1)
    changed = (net[0].weight != before).any(dim=1).nonzero().flatten().tolist()
    assert changed == recycled
    assert (net[2].weight[0] == 0).nonzero().flatten().tolist() == recycled
    assert redo.total_replaced == len(recycled)


def test_recycling_dead_units_changes_no_output():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 20), nn.ReLU(), nn.Linear(20, 20), nn.ReLU(), nn.Linear(20, 2))
    nn.init.constant_(net[0].bias[:7], -50.0)
    nn.init.constant_(net[2].bias[5:9], -50.0)
    x = torch.rand(30, 3)
    before = net(x)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    redo = ReDo(net, optimizer, threshold=0, every=1, seed=0)
    net(x).sum().backward()
    optimizer.step()
    assert redo.n_replaced[0] >= 7 and redo.n_replaced[1] >= 4
    torch.testing.assert_close(net(x), before, rtol=0, atol=1e-6)


def test_it_looks_at_every_so_manyth_step_only():
    redo = stepped(network(), threshold=0, every=3, n_steps=2)
    assert redo.total_replaced == 0
    redo = stepped(network(), threshold=0, every=3, n_steps=3)
    assert redo.total_replaced == 1


def test_evaluation_passes_do_not_count():
    net = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    redo = ReDo(net, optimizer, threshold=0, every=1)
    net(torch.ones(5, 2)).sum().backward()
    net.eval()
    net(-torch.ones(5, 2))  # here units 0, 1 and 3 are dead
    net.train()
    with torch.no_grad():
        net(-torch.ones(5, 2))
    optimizer.step()
    assert redo.total_replaced == 1


def test_a_recycled_units_weights_step_as_with_a_new_optimizer():
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    ReDo(net, optimizer, threshold=0, every=50, seed=0)
    for _ in range(50):
        optimizer.zero_grad()
        net(torch.ones(5, 2)).sum().backward()
        optimizer.step()
    before = net[2].weight[0, 2].item()
    assert before == 0
    optimizer.zero_grad()
    net[2].weight.grad = torch.full_like(net[2].weight, 0.3)
    optimizer.step()
    # Adam's first update is the step size against the gradient's sign
    assert net[2].weight[0, 2].item() == pytest.approx(-0.1, rel=1e-4)


def test_new_weights_come_from_the_initializer():
    net = network()
    stepped(net, threshold=0, every=1, initializer=lambda layer, count, generator: torch.full((count, 2), 7.0))
    assert net[0].weight[2].tolist() == [7, 7]
    assert net[0].bias[2].item() == 0
