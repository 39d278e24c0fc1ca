"""The direct test of plasticity: it is fair between equals, and tells a network that has lost it."""

import math

import pytest
import torch
from torch import nn

from cppo.plasticity.fitting import DIVERGED, Fitting, compare_fitting, fit, random_targets

INPUTS = torch.randn(300, 6, generator=torch.Generator().manual_seed(7)) * torch.arange(1.0, 7) + 3
FEW = {"n_targets": 2, "n_steps": 100}


def build(seed: int, activation=nn.ReLU) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 32), activation(), nn.Linear(32, 32), activation())


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-3)


def dead(share: float) -> nn.Sequential:
    net = build(50)
    for layer in (net[0], net[2]):
        layer.bias.data[: int(32 * share)] = -1e6
    return net


def saturated() -> nn.Sequential:
    net = build(50, nn.Tanh)
    for layer in (net[0], net[2]):
        layer.weight.data *= 100
    return net


def test_a_fresh_network_fits_as_well_as_fresh_ones():
    ratios = compare_fitting(build(50), build, INPUTS, adam, **FEW).ratios
    assert len(ratios) == 2 and all(0.6 < ratio < 1.6 for ratio in ratios)


def test_a_network_of_dead_units_fits_clearly_worse():
    assert min(compare_fitting(dead(0.75), build, INPUTS, adam, **FEW).ratios) > 1.5


def test_a_saturated_network_fits_clearly_worse():
    fitting = compare_fitting(saturated(), lambda seed: build(seed, nn.Tanh), INPUTS, adam, **FEW)
    assert min(fitting.ratios) > 2


def test_with_no_units_alive_only_the_mean_can_be_fitted():
    """Targets have mean 0 and variance 1, and an output layer of which only the bias moves: nothing is explained."""
    assert compare_fitting(dead(1.0), build, INPUTS, adam, **FEW).trained == pytest.approx([1, 1], abs=0.05)


def test_the_same_network_and_seed_give_the_same_errors():
    """The fresh network of target 7 is the trained one here, so that everything is equal between them."""
    fitting = compare_fitting(build(7), build, INPUTS, adam, n_targets=1, n_steps=20, seed=7)
    assert fitting.trained == fitting.fresh and fitting.ratios == (1.0,)


def test_the_network_and_random_numbers_stay_as_they_are():
    net = nn.Sequential(build(3), nn.Dropout(0.5))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    generator = torch.get_rng_state()
    compare_fitting(net, lambda seed: nn.Sequential(build(seed), nn.Dropout(0.5)), INPUTS, adam, n_targets=1, n_steps=5)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(parameter.grad is None for parameter in net.parameters())


def test_targets_are_standardised_and_differ_by_seed_alone():
    first, again, other = (random_targets(INPUTS, seed) for seed in (1, 1, 2))
    assert first.shape == (300, 1)
    assert first.mean().item() == pytest.approx(0, abs=1e-5) and first.square().mean().item() == pytest.approx(1)
    assert torch.equal(first, again)
    assert abs((first * other).mean().item()) < 0.9


def test_an_input_that_never_changes_makes_no_difference():
    constant = torch.cat([INPUTS, torch.full((300, 1), 5.0)], dim=1)
    assert random_targets(constant, 0).isfinite().all()


def test_minibatches_go_through_all_samples_before_any_comes_again():
    """Ten samples of which the first module sees two at a time: five steps see each once."""
    seen = []
    body = nn.Linear(1, 1)
    body.register_forward_pre_hook(lambda _, given: seen.append(given[0].flatten().tolist()))
    inputs = torch.arange(10.0).unsqueeze(1)
    fit(body, inputs, inputs, lambda parameters: torch.optim.SGD(parameters, lr=0.0), 5, 2, seed=0)
    batches = seen[1:-1]  # the first call asks for the width, the last one for the error
    assert [len(batch) for batch in batches] == [2] * 5
    assert {value for batch in batches for value in batch} == set(range(10))


def test_a_fitting_that_diverges_has_a_finite_error():
    error = fit(build(0), INPUTS, random_targets(INPUTS, 0), lambda p: torch.optim.SGD(p, lr=1e6), 20, 32, 0)
    assert error == DIVERGED and math.isfinite(error)


def test_ratios_are_taken_target_by_target():
    assert Fitting(trained=(0.4, 0.3), fresh=(0.1, 0.6)).ratios == (4.0, 0.5)


@pytest.mark.parametrize("name", ["n_targets", "n_steps", "batch_size"])
def test_numbers_below_1_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}=0 is not allowed: it must be at least 1"):
        compare_fitting(build(0), build, INPUTS, **{name: 0})
