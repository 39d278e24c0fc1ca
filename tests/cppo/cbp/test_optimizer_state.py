"""The state of replaced weights through skipped steps, loading, copying, moving; see also test_optimizer_families."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn

from cppo import ContinualBackprop, HiddenLayer
from cppo.cbp.optimizer_state import FreshOptimizerState, step_was_skipped
from cppo.cbp.watched_layer import replace as replace_chosen


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 12), nn.Tanh(), nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 3))


def train(net, optimizer, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        (net(torch.randn(16, 7)) - torch.randn(16, 3)).square().mean().backward()
        optimizer.step()
        yield


def replace(cbp, layer, unit):
    """Replace one unit now, by hand: the phases of a step on a choice of our own."""
    cbp.layers[layer].replaced = torch.tensor([unit])
    optimizer_state = cbp.optimizer_state if cbp.reset_optimizer_state else None
    replace_chosen([cbp.layers[layer]], cbp.initializer, bias_transfer=False, optimizer_state=optimizer_state)


def test_the_first_update_of_a_new_weight_is_the_learning_rate():
    """Adam's first update is lr * g / (|g| + eps) whatever came before; uncorrected it would be .1 / sqrt(.001) as big.

    A new unit's incoming weights have no gradient in the first step, because nothing reads it yet.
    """
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, eps=1e-12)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.0)
    for _ in train(net, optimizer, 500):
        pass
    replace(cbp, 0, 4)
    before = net[2].weight[:, 4].detach().clone()
    for _ in train(net, optimizer, 1):
        pass
    changed = (net[2].weight[:, 4] - before).abs()[net[2].weight.grad[:, 4] != 0]
    assert len(changed)
    torch.testing.assert_close(changed, torch.full_like(changed, 1e-3), atol=1e-7, rtol=0)


def test_without_the_reset_the_old_state_stays():
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.0, reset_optimizer_state=False)
    for _ in train(net, optimizer, 20):
        pass
    before = {key: value.clone() for key, value in optimizer.state[net[0].weight].items()}
    replace(cbp, 0, 4)
    assert all(torch.equal(before[key], value) for key, value in optimizer.state[net[0].weight].items())


def test_moments_of_replaced_weights_are_zero_and_no_others():
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.0)
    for _ in train(net, optimizer, 20):
        pass
    replace(cbp, 0, 4)
    for moment in ("exp_avg", "exp_avg_sq"):
        assert (optimizer.state[net[0].weight][moment] == 0).all(dim=1).nonzero().flatten().tolist() == [4]
        assert (optimizer.state[net[2].weight][moment] == 0).all(dim=0).nonzero().flatten().tolist() == [4]
        assert optimizer.state[net[0].bias][moment][4] == 0


def test_a_parameter_without_gradient_is_not_moved():
    """A head that isn't part of the loss for a while isn't stepped by Adam, so nothing of it may be corrected."""
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.0)
    for _ in train(net, optimizer, 20):
        pass
    replace(cbp, 1, 6)
    for _ in train(net, optimizer, 1):
        pass
    before = net[4].weight.detach().clone()
    optimizer.zero_grad()
    net[:3](torch.randn(16, 7)).square().mean().backward()
    optimizer.step()
    assert torch.equal(net[4].weight, before)


def test_the_learning_rate_of_each_step_counts():
    net = network()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    cbp = ContinualBackprop(net, optimizer, replacement_rate=0.0)
    for _ in train(net, optimizer, 3):
        scheduler.step()
    replace(cbp, 0, 4)
    before = net[2].weight[:, 4].detach().clone()
    for _ in train(net, optimizer, 1):
        pass
    changed = (net[2].weight[:, 4] - before).abs()[net[2].weight.grad[:, 4].abs() > 1e-3]
    assert len(changed)
    torch.testing.assert_close(changed, torch.full_like(changed, 1e-3 / 8), atol=1e-7, rtol=0)


class Trainer:
    """Two layers under one optimizer, with fresh states and nothing else of continual backpropagation."""

    def __init__(self, kind=torch.optim.Adam, **options):
        self.net = network()
        self.optimizer = kind(self.net.parameters(), **options)
        layers = [HiddenLayer(self.net[0], [self.net[2]]), HiddenLayer(self.net[2], [self.net[4]])]
        self.fresh = FreshOptimizerState(self.optimizer, [part for layer in layers for part in layer.parts()])

    def train(self, steps, seed=0):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.net(torch.randn(16, 7, generator=generator)).sub(1).square().mean().backward()
            self.optimizer.step()
            self.fresh.correct()
        return self

    def replace(self, unit=4):
        """Restart the state of a unit of each layer."""
        for part in self.fresh.birth_map.spans:
            self.fresh.restart(part, torch.tensor([unit]))
        return self

    def weights(self):
        return nn.utils.parameters_to_vector(self.net.parameters()).detach().clone()


FAMILIES = [
    (torch.optim.Adam, {}),
    (torch.optim.Adam, {"fused": True, "amsgrad": True}),
    (torch.optim.AdamW, {"foreach": True}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
]


@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda trainer: pickle.loads(pickle.dumps(trainer))], ids=["copy", "pickle"]
)
@pytest.mark.parametrize(("kind", "options"), FAMILIES)
def test_a_copy_goes_on_by_itself_as_the_original_does(kind, options, way):
    trainer = Trainer(kind, **options).train(20).replace().train(3).replace(5)
    twin = way(trainer)
    before = trainer.weights()
    twin.train(10)
    assert torch.equal(trainer.weights(), before)
    assert not torch.equal(twin.weights(), before)
    assert torch.equal(trainer.train(10).weights(), twin.weights())


@pytest.mark.parametrize(("kind", "options"), FAMILIES)
def test_loading_states_brings_back_what_was_young(kind, options):
    """What was young after the loaded state was saved is forgotten, what was young then is young again."""
    trainer = Trainer(kind, **options).train(20).replace()
    saved = copy.deepcopy([part.state_dict() for part in (trainer.net, trainer.optimizer, trainer.fresh)])
    expected = trainer.train(10).weights()
    trainer.train(10, seed=1).replace(7).train(2)
    for part, state in zip((trainer.net, trainer.optimizer, trainer.fresh), saved, strict=True):
        part.load_state_dict(state)
    assert torch.equal(trainer.train(10).weights(), expected)


@pytest.mark.parametrize("drop", ["load", "clear"])
def test_an_optimizer_begun_anew_has_no_young_weights(drop):
    """Without any hook: the optimizer alone is loaded or cleared, and its step count begins again."""
    trainer, plain = Trainer(), Trainer()
    begun = copy.deepcopy(trainer.optimizer.state_dict())
    trainer.train(20).replace().train(2)
    if drop == "load":
        trainer.optimizer.load_state_dict(begun)
    else:
        trainer.optimizer.state.clear()
    plain.net.load_state_dict(trainer.net.state_dict())
    assert torch.equal(trainer.train(40).weights(), plain.train(40).weights())


def test_state_moved_elsewhere_is_found_again():
    """As when a module and its optimizer's state move to another device: same objects, other memory."""
    trainer, moved = (Trainer().train(20).replace().train(3) for _ in range(2))
    for state in moved.optimizer.state.values():
        for tensor in state.values():
            tensor.data = tensor.data.clone()
    for parameter in moved.net.parameters():
        parameter.data = parameter.data.clone()
    assert torch.equal(moved.train(10).weights(), trainer.train(10).weights())


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.SGD])
def test_a_step_skipped_by_the_gradient_scaler_changes_nothing(kind):
    """A fused optimizer is stepped even so; it changes nothing, and neither may the correction."""
    options = {"momentum": 0.9} if kind is torch.optim.SGD else {}
    trainer = Trainer(kind, fused=True, lr=1e-3, **options).train(20).replace()
    undisturbed = copy.deepcopy(trainer)
    skipped = []
    trainer.optimizer.register_step_post_hook(lambda *_: skipped.append(step_was_skipped(trainer.optimizer)))
    trainer.optimizer.register_step_post_hook(lambda *_: trainer.fresh.correct())
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    for scale in (float("inf"), 1.0):
        trainer.optimizer.zero_grad()
        scaler.scale(trainer.net(torch.ones(16, 7)).square().mean()).backward()
        trainer.net[0].weight.grad *= scale
        before = trainer.weights()
        scaler.step(trainer.optimizer)
        scaler.update()
        assert torch.equal(trainer.weights(), before) == (scale != 1)
    assert skipped == [True, False]
    assert not step_was_skipped(trainer.optimizer)
    undisturbed.optimizer.zero_grad()
    undisturbed.net(torch.ones(16, 7)).square().mean().backward()
    undisturbed.optimizer.step()
    undisturbed.fresh.correct()
    torch.testing.assert_close(trainer.weights(), undisturbed.weights(), atol=1e-7, rtol=0)


def test_convolutions_in_any_memory_format():
    """A parameter that isn't contiguous is corrected like one that is."""
    after = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3)).to(memory_format=layout)
        optimizer = torch.optim.Adam(net.parameters())
        cbp = ContinualBackprop(net, optimizer, replacement_rate=0.0, seed=0, example_input=torch.zeros(1, 3, 8, 8))
        for step in range(40):
            optimizer.zero_grad()
            net(torch.randn(2, 3, 8, 8)).square().mean().backward()
            optimizer.step()
            if step == 20:
                replace(cbp, 0, 2)
        after.append(net[2].weight.detach().clone())
    torch.testing.assert_close(*after, atol=1e-6, rtol=0)


def test_an_unknown_optimizer_is_named_once_and_its_moments_are_zeroed():
    trainer = Trainer(torch.optim.Adamax)
    with pytest.warns(UserWarning, match="Adamax"):
        trainer.train(20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.train(2).replace().train(1)
    trainer.replace()
    moments = trainer.optimizer.state[trainer.net[0].weight]
    for name in ("exp_avg", "exp_inf"):
        assert (moments[name] == 0).all(dim=1).nonzero().flatten().tolist() == [4]


@pytest.mark.parametrize(
    ("kind", "options", "named"),
    [
        (torch.optim.Adagrad, {"lr_decay": 0.1}, "Adagrad with lr_decay"),
        (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}, "SGD with dampening"),
        (torch.optim.NAdam, {}, "NAdam"),
    ],
)
def test_optimizers_whose_step_count_goes_on_are_named(kind, options, named):
    with pytest.warns(UserWarning, match=f"^{named} is not an optimizer whose state can be made new"):
        Trainer(kind, **options).train(1)
