"""A replaced unit's weights are stepped as by a new optimizer of any kind, and no other weight notices."""

import itertools

import pytest
import torch
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from torch import nn, optim

from cppo import ContinualBackprop
from cppo.cbp.watched_layer import replace as replace_chosen

PLAIN, FOREACH, FUSED = {"foreach": False}, {"foreach": True}, {"fused": True}
IMPLEMENTATIONS = {"plain": PLAIN, "foreach": FOREACH, "fused": FUSED}
HEAVY = {"momentum": 0.9, "lr": 0.02}
KINDS = {
    optim.SGD: {
        "without momentum": {"lr": 0.02},
        "momentum": HEAVY,
        "nesterov": {**HEAVY, "nesterov": True, "weight_decay": 0.01},
        "maximize": {**HEAVY, "maximize": True, "lr": 1e-3},
    },
    optim.Adam: {
        "default": {},
        "equal betas": {"betas": (0.99, 0.99), "eps": 1e-5},
        "soon grown": {"betas": (0.5, 0.6)},
        "no momentum": {"betas": (0.0, 0.9)},
        "amsgrad": {"amsgrad": True, "weight_decay": 0.01},
        "maximize": {"maximize": True},
    },
    optim.AdamW: {"default": {"lr": 1e-3, "weight_decay": 0.1}, "amsgrad": {"amsgrad": True, "maximize": True}},
    optim.RMSprop: {
        "default": {"lr": 1e-3, "weight_decay": 0.01},
        "centered": {"lr": 1e-3, "centered": True, "maximize": True},
        "momentum": {"lr": 1e-3, "centered": True, "momentum": 0.9, "alpha": 0.9},
    },
    optim.Adagrad: {"default": {}, "initial value": {"initial_accumulator_value": 0.1}},
    optim.Adadelta: {"default": {"weight_decay": 0.01}},
    optim.Rprop: {"default": {"lr": 1e-3}},
    RMSpropTFLike: {"default": {"lr": 1e-3}, "momentum": {"lr": 1e-3, "momentum": 0.9, "centered": True}},
}
WITHOUT_FUSED = (optim.RMSprop, optim.Adadelta, optim.Rprop)


def cases():
    for kind, variants in KINDS.items():
        for (variant, options), (name, choice) in itertools.product(variants.items(), IMPLEMENTATIONS.items()):
            if kind is RMSpropTFLike and name == "plain":
                yield pytest.param(kind, options, id=f"{kind.__name__} {variant}")
            elif kind is not RMSpropTFLike and not (name == "fused" and kind in WITHOUT_FUSED):
                yield pytest.param(kind, {**options, **choice}, id=f"{kind.__name__} {variant} {name}")
    yield pytest.param(optim.Adam, {"capturable": True, **FUSED}, id="Adam capturable fused")  # on a CPU fused alone
    for kind, choice in ((optim.Adam, PLAIN), (optim.Adam, FUSED), (optim.SGD, FUSED)):
        options = {"lr": torch.tensor(1e-3), **({"momentum": 0.9} if kind is optim.SGD else {})}
        yield pytest.param(kind, {**options, **choice}, id=f"{kind.__name__} {next(iter(choice))} tensor lr")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 12), nn.Tanh(), nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 3))


def replace(cbp, layer, unit):
    """Replace one unit now, by hand: the phases of a step on a choice of our own."""
    cbp.layers[layer].replaced = torch.tensor([unit])
    optimizer_state = cbp.optimizer_state if cbp.reset_optimizer_state else None
    replace_chosen([cbp.layers[layer]], cbp.initializer, bias_transfer=False, optimizer_state=optimizer_state)


def backward(net, step):
    (net(torch.randn(16, 7)) - torch.randn(16, 3)).square().mean().backward()


class Rival:
    """An optimizer that starts now, on copies of the weights that are given the same gradients."""

    def __init__(self, optimizer, options):
        self.copies, groups = {}, []
        for group in optimizer.param_groups:
            copies = {parameter: nn.Parameter(parameter.detach().clone()) for parameter in group["params"]}
            groups.append({**group, "params": list(copies.values())})
            self.copies.update(copies)
        self.optimizer = type(optimizer)(groups, **options)

    def step(self):
        for parameter, copy in self.copies.items():
            copy.grad = None if parameter.grad is None else parameter.grad.clone()
        self.optimizer.step()

    def check(self, parameter, where, tolerance):
        """Compare this update, not the accumulated rounding of all: the copy is set right afterwards."""
        now, copy = parameter.detach(), self.copies[parameter].detach()
        torch.testing.assert_close(now[where], copy[where], atol=tolerance, rtol=4 * torch.finfo(now.dtype).eps)
        copy.copy_(now)


def compare_with_new_optimizers(net, optimizer, options, gradients=backward, tolerance=1e-7):
    """Train while two neighbouring layers lose a unit at different times, the weight between the two twice.

    Each weight has to be stepped as by the optimizer that started when the weight was last new.
    """
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.0)
    rivals = [Rival(optimizer, options)]
    started_by = {parameter: torch.zeros_like(parameter, dtype=torch.int64) for parameter in net.parameters()}
    for step in range(45):
        optimizer.zero_grad()
        gradients(net, step)
        optimizer.step()
        for number, rival in enumerate(rivals):
            rival.step()
            for parameter, started in started_by.items():
                rival.check(parameter, started == number, tolerance)
        if step in (14, 29):
            layer, unit = (0, 4) if step == 14 else (1, 6)
            replace(cbp, layer, unit)
            incoming, outgoing = net[2 * layer], net[2 * layer + 2]
            for new in (
                started_by[incoming.weight][unit],
                started_by[incoming.bias][unit],
                started_by[outgoing.weight][:, unit],
            ):
                new.fill_(len(rivals))
            rivals.append(Rival(optimizer, options))
            for rival in rivals:
                for parameter, copy in rival.copies.items():
                    copy.data.copy_(parameter.detach())


@pytest.mark.parametrize(("kind", "options"), list(cases()))
def test_replaced_weights_are_stepped_as_by_a_new_optimizer_and_the_others_as_before(kind, options):
    net = network()
    compare_with_new_optimizers(net, kind(net.parameters(), **options), options)


@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.05}], ids=["plain", "l2"])
@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW])
def test_in_double_precision_only_what_is_negligible_is_left(kind, options):
    net = network().double()

    def gradients(net, step):
        net(torch.randn(16, 7, dtype=torch.float64)).square().mean().backward()

    compare_with_new_optimizers(net, kind(net.parameters(), **options), options, gradients, tolerance=1e-9)


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW, optim.SGD])
def test_each_parameter_group_has_its_own_hyperparameters(kind):
    net = network()
    special = {"momentum": 0.9} if kind is optim.SGD else {"betas": (0.8, 0.95)}
    first, rest = list(net[0].parameters()), [*net[2].parameters(), *net[4].parameters()]
    groups = [{"params": first, "lr": 1e-2, **special}, {"params": rest, "weight_decay": 0.01}]
    compare_with_new_optimizers(net, kind(groups, lr=1e-3), {"lr": 1e-3})


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW, optim.SGD])
def test_a_parameter_may_have_no_gradient_in_some_steps(kind):
    """The last layer learns only every third step, so that it counts fewer steps than the others."""

    def now_and_then(net, step):
        backward(net, step)
        if step % 3:
            net[4].weight.grad = net[4].bias.grad = None

    net = network()
    options = {"momentum": 0.9} if kind is optim.SGD else {}
    compare_with_new_optimizers(net, kind(net.parameters(), **options), options, now_and_then)


def test_hyperparameters_may_change_while_weights_are_young():
    """As a cyclic schedule does: a new optimizer whose betas change alike is the measure."""
    net = network()
    options = {"lr": 1e-3, "betas": (0.5, 0.6)}
    optimizer = optim.Adam(net.parameters(), **options)
    rivals = []
    create = Rival.__init__

    def remember(self, *arguments):
        create(self, *arguments)
        rivals.append(self.optimizer)

    def change(net, step):
        for each in (optimizer, *rivals):
            each.param_groups[0]["betas"] = (0.5 + 0.008 * step, 0.6 + 0.006 * step)
        backward(net, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rival, "__init__", remember)
        compare_with_new_optimizers(net, optimizer, options, change)
