"""Features, weights and state in several number formats and on several devices."""

import pytest
import torch

from cppo import ContinualBackprop
from tests.cppo.networks import OFTEN, network, step


def test_autocast_features_are_averaged_in_the_format_of_the_weights():
    net = network(3, 16, 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    cbp = ContinualBackprop(net, optimizer, **OFTEN, utility="mean_corrected_contribution")
    for _ in range(20):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = net(torch.randn(300, 3)).float().square().mean()
        (seen,) = cbp.layers[0].seen
        torch.testing.assert_close(seen.mean, seen.features.double().mean(dim=0).float())
        assert torch.equal(seen.features, seen.features.bfloat16().float()), "the features have 16 bits"
        loss.backward()
        optimizer.step()
    assert (cbp.average_activation.dtype, cbp.average_utility.dtype) == (torch.float32, torch.float32)
    assert cbp.total_replaced > 5


@pytest.mark.parametrize(("weights", "averages"), [(torch.float64, torch.float64), (torch.bfloat16, torch.float32)])
def test_networks_of_other_formats(weights, averages):
    net = network(3, 16, 2).to(weights)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2, momentum=0.9)
    cbp = ContinualBackprop(net, optimizer, **OFTEN)
    for _ in range(20):
        step(net, optimizer, torch.randn(5, 3, dtype=weights))
    assert (cbp.average_utility.dtype, cbp.total_replaced > 5) == (averages, True)


def test_the_state_follows_the_module():
    net = network(3, 16, 2)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-2)
    cbp = ContinualBackprop(net, optimizer, **OFTEN)
    for dtype in (torch.float32, torch.float64, torch.float32):
        net.to(dtype)
        for _ in range(10):
            step(net, optimizer, torch.randn(5, 3, dtype=dtype))
        assert {cbp.average_utility.dtype, cbp.average_activation.dtype} == {dtype}
    assert cbp.layers[0].age.max() <= 30
    assert cbp.total_replaced > 15
    assert cbp.to(torch.float32).accumulator.dtype == torch.float64, "shares are summed up in double precision"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("moved", ["module", "both"])
def test_the_state_follows_the_module_to_a_gpu(moved):
    net = network(3, 16, 2)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    cbp = ContinualBackprop(net, optimizer, **OFTEN)
    net.cuda()
    if moved == "both":
        cbp.cuda()
    for _ in range(20):
        step(net, optimizer, torch.randn(5, 3, device="cuda"))
    assert cbp.age.is_cuda
    assert cbp.total_replaced > 5
