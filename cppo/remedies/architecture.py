"""Remedies that are part of the network: put into its hidden layers in place, before it is trained."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from cppo.checks import LARGEST, check_number
from cppo.layers.examples import on_example
from cppo.layers.function_rules import ACTIVATIONS
from cppo.layers.gradient_graph import find_depths
from cppo.layers.hidden_layer import LAYERS_WITH_UNITS, UnitModule
from cppo.layers.observe import unwrapped
from cppo.remedies.crelu import CReLU
from cppo.remedies.online_norm import OnlineNorm

ACTIVATION_MODULES = {name.replace("_", "") for name in ACTIVATIONS}


class Slot(NamedTuple):
    """A hidden layer and the place of its activation, ``sequential[place]``.

    :param sequential: what both are in
    :param place: of the activation
    :param stack: the modules that will stand there, the activation at first
    """

    name: str
    layer: UnitModule
    sequential: nn.Sequential
    place: int
    stack: list[nn.Module]

    @property
    def is_linear(self) -> bool:
        """Whether the units are those of a linear layer, not the channels of a convolution."""
        return isinstance(self.layer, nn.Linear)

    @property
    def n_units(self) -> int:
        """Number of hidden units."""
        return self.layer.weight.shape[0]


def crelu(slot: Slot) -> None:
    """Replace ReLU by ``CReLU`` and halve the units, so that there are as many features as before."""
    if not isinstance(slot.stack[0], nn.ReLU):
        raise ValueError(f"{slot.name}: crelu takes the place of ReLU, not of {type(slot.stack[0]).__name__}")
    if slot.n_units % 2:
        raise ValueError(f"{slot.name}: crelu makes two features a unit, so {slot.n_units} must be an even number")
    half = slot.n_units // 2
    for parameter in slot.layer.parameters():
        parameter.data = parameter.data[:half].clone()
    setattr(slot.layer, "out_features" if slot.is_linear else "out_channels", half)
    slot.stack[0] = CReLU(-1 if slot.is_linear else 1)


def layer_norm(slot: Slot, eps: float = 1e-5) -> None:
    """Normalise over the units of each sample, before the activation; for a convolution over positions as well.

    Ba, Kiros & Hinton, "Layer Normalization", arXiv 1607.06450; against loss of plasticity: Lyle et al., "Understanding
    Plasticity in Neural Networks", ICML 2023.
    """
    check_number("eps", eps, 0, LARGEST, "a number, 0 or more")
    slot.stack.insert(0, nn.LayerNorm(slot.n_units, eps) if slot.is_linear else nn.GroupNorm(1, slot.n_units, eps))


def online_norm(slot: Slot, forward_decay: float = 0.999, backward_decay: float = 0.99) -> None:
    """Normalise by running statistics, before the activation (see ``OnlineNorm``)."""
    slot.stack.insert(0, OnlineNorm(slot.n_units, forward_decay, backward_decay))


def dropout(slot: Slot, p: float = 0.1) -> None:
    """Set features to zero by chance while training (Srivastava et al., JMLR 15, 2014)."""
    check_number("p", p, 0, 1, "a number from 0 to 1")
    slot.stack.append(nn.Dropout(p))


Change = Callable[..., None]
CHANGES: dict[str, Change] = {"crelu": crelu, "layer-norm": layer_norm, "online-norm": online_norm, "dropout": dropout}
"""The changes by name, in the order in which they are made: the one that changes the number of units comes first."""


def remodel(
    module: nn.Module,
    changes: Mapping[str, Mapping[str, Any]],
    optimizers: Iterable[torch.optim.Optimizer] = (),
    example_input: Any = None,
) -> nn.Module:
    """Change the hidden layers of a module in place: ``remodel(net, {"layer-norm": {}, "dropout": {"p": 0.1}})``.

    Hidden layers are those that another layer reads. Each must stand in an ``nn.Sequential`` with an activation module
    behind it. All weights stay as they are, and so does every random generator.

    :param changes: settings by name, see ``CHANGES``
    :param optimizers: optimizers it has already; they are given the new parameters
    :param example_input: what to run the module with (see ``find_hidden_layers``)
    :return: the module
    :raises ValueError: for changes that don't exist or don't fit the module
    """
    if unknown := sorted(set(changes) - set(CHANGES)):
        raise ValueError(f"{unknown[0]!r} is no change of a network; choose from {', '.join(CHANGES)}")
    inner = unwrapped(module)
    if changes:
        depths = on_example(inner, example_input, lambda run: find_depths(inner, [run]))
        change_hidden_layers(inner, changes, depths, optimizers)
    return module


def change_hidden_layers(
    module: nn.Module,
    changes: Mapping[str, Mapping[str, Any]],
    depths: Mapping[nn.Module, int],
    optimizers: Iterable[torch.optim.Optimizer],
) -> None:
    """Change hidden layers as ``remodel`` does, given the layers' depths; target networks are found by their names."""
    slots = _find_slots(module, _hidden(module, depths))
    for slot in slots:
        for name, change in CHANGES.items():
            if name in changes:
                change(slot, **changes[name])
    for slot in slots:
        new = slot.stack[0] if len(slot.stack) == 1 else nn.Sequential(*slot.stack)
        slot.sequential[slot.place] = new.to(slot.layer.weight)
        for optimizer in optimizers:
            _train_too(optimizer, slot.layer, list(new.parameters()))


def _hidden(module: nn.Module, depths: Mapping[nn.Module, int]) -> dict[nn.Module, str]:
    """Find the names of the hidden layers; those of target networks are included."""
    names: dict[str, nn.Module] = dict(module.named_modules())
    hidden = {}
    for name, layer in names.items():
        leader = names.get(name.replace("_target", "", 1), layer)
        if depths.get(leader, 0) > 1:
            hidden[layer] = name
    return hidden


def _find_slots(module: nn.Module, hidden: Mapping[nn.Module, str]) -> list[Slot]:
    slots = []
    for sequential in module.modules():
        if isinstance(sequential, nn.Sequential):
            for place, (layer, activation) in enumerate(itertools.pairwise(sequential), start=1):
                is_activation = type(activation).__name__.lower() in ACTIVATION_MODULES
                if isinstance(layer, LAYERS_WITH_UNITS) and layer in hidden and is_activation:
                    slots.append(Slot(hidden[layer], layer, sequential, place, [activation]))
    missing = [name for layer, name in hidden.items() if layer not in {slot.layer for slot in slots}]
    if missing or not slots:
        raise ValueError(
            f"{type(module).__name__} can't be remodelled: a hidden layer must have its activation module right behind "
            f"it in an nn.Sequential, which is not so for {', '.join(missing) or 'any'}; write norms, dropout or CReLU "
            "into the network by hand"
        )
    return slots


def _train_too(optimizer: torch.optim.Optimizer, layer: UnitModule, new: list[nn.Parameter]) -> None:
    """Let an optimizer train new parameters in the group in which it trains a layer."""
    for group in optimizer.param_groups:
        if any(parameter is layer.weight for parameter in group["params"]):
            group["params"].extend(new)
