"""Steps with the fused kernel taken directly: those of torch's optimizer, bit for bit."""

import pytest
import torch
from torch import nn

from cppo.fast.fused_steps import DirectSteps

ADAM = {"lr": 0.01, "weight_decay": 0.1, "eps": 1e-5}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 40), nn.Tanh(), nn.Linear(40, 1))


def gradients(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.grad = parameter.grad if parameter.grad is not None else torch.empty_like(parameter)
        parameter.grad.normal_()


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_steps_are_those_of_the_fused_optimizer(kind: type, maximize: bool) -> None:
    theirs, ours = network(), network()
    expected = kind(theirs.parameters(), fused=True, maximize=maximize, **ADAM)
    optimizer = kind(ours.parameters(), maximize=maximize, **ADAM)
    steps = DirectSteps(optimizer)
    for model, step in ((theirs, expected.step), (ours, steps.step)):
        torch.manual_seed(1)
        for _ in range(5):
            gradients(model)
            step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)
        assert optimizer.state[one]["step"].item() == 5
    assert optimizer.param_groups[0]["fused"] is None


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_hooks_and_what_they_do_to_the_optimizer_count(kind: type) -> None:
    """A hook that stops some weights' clock with the third step, and lowers the learning rate."""
    models, seen = [network(), network()], []
    for model, direct in zip(models, (True, False), strict=True):
        optimizer = kind(model.parameters(), lr=0.01, **({} if direct or kind is torch.optim.SGD else {"fused": True}))

        def change(changed: torch.optim.Optimizer, *_: object) -> None:
            seen.append(changed)
            if seen.count(changed) == 3:
                changed.state.pop(changed.param_groups[0]["params"][0], None)
                changed.param_groups[0]["lr"] = 0.001

        optimizer.register_step_post_hook(change)
        step = DirectSteps(optimizer).step if direct else optimizer.step
        torch.manual_seed(1)
        for _ in range(6):
            gradients(model)
            step()
    assert len(seen) == 12
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)
