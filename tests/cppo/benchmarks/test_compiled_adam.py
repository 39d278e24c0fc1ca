from __future__ import annotations

import numpy as np
import torch

from cppo.benchmarks.compiled_adam import BETA1, BETA2, corrected, stepped
from cppo.cbp.continual_backprop import ContinualBackprop


def test_equals_torchs_adam_with_the_ages_that_continual_backprop_gives():
    """80 steps of a network in which units go at a rate of .1, so that weights have many ages; then ones of equal age.

    A weight's age is that of the younger of the units that it connects.
    """
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    cbp = ContinualBackprop(network, optimizer, replacement_rate=0.1, maturity_threshold=5, seed=0)
    weight = network[0].weight
    steps, mean, square = (np.zeros(weight.shape, np.float32) for _ in range(3))
    for _ in range(80):
        network(torch.randn(8, 4)).square().mean().backward()
        mine, gradient = weight.detach().numpy().copy(), weight.grad.numpy().copy()
        replaced_before = cbp.total_replaced
        optimizer.step()
        steps += 1
        for place in np.ndindex(*mine.shape):
            rate, root = corrected(0.01, BETA1 ** float(steps[place]), BETA2 ** float(steps[place]))
            mine[place], mean[place], square[place] = stepped(
                mine[place], mean[place], square[place], gradient[place], rate, root
            )
        replaced = cbp.layers[0].replaced.tolist() if cbp.total_replaced > replaced_before else []
        kept = [unit for unit in range(6) if unit not in replaced]
        np.testing.assert_allclose(mine[kept], weight.detach().numpy()[kept], rtol=1e-5, atol=1e-6)
        steps[replaced] = mean[replaced] = square[replaced] = 0
        optimizer.zero_grad()
    assert cbp.total_replaced > 20 and len(np.unique(steps[:, 0])) > 3
