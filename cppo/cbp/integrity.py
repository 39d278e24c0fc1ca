"""Notices when a network isn't what it was taken for: a part was exchanged, or one runs of which nothing is known."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from cppo.cbp.hooks import StayingHook
from cppo.cbp.watched_layer import WatchedLayer
from cppo.layers.hidden_layer import HiddenLayer
from cppo.layers.observe import unwrapped
from cppo.layers.traced_units import NEVER_RAN, LeftOut


class Integrity:
    """What the watched layers of a network are made of, and where in the network each part belongs.

    :param network: the network
    :param layers: its watched layers; of a module that isn't inside of the network only the parameters are looked at
    :param left_out: its other layers
    """

    def __init__(self, network: nn.Module, layers: Sequence[HiddenLayer], left_out: Sequence[LeftOut] = ()) -> None:
        self._alarms: list[Alarm] = []
        self._warned: set[str] = set()
        self.warn_if_trained((each.name, each.module) for each in left_out if each.reason == NEVER_RAN)
        watched = {module: layer.name for layer in layers for module in layer.modules()}
        paths = [(path, module) for path, module in network.named_modules() if module in watched]
        names = {module: path or type(module).__name__ for path, module in paths}
        links = {
            (parent, name): (child, path) for path, _ in paths for parent, name, child, path in _chain(network, path)
        }
        self._modules = [(parent, name, child, path) for (parent, name), (child, path) in links.items()]
        self._parameters = [
            (module, name, parameter, names.get(module, str(module)))
            for module in watched
            for name, parameter in module.named_parameters(recurse=False)
        ]

    def warn_if_trained(self, unknown: Iterable[tuple[str, nn.Module]]) -> None:
        """Warn when one of some modules is trained after all, though it never ran when the network was traced."""
        trained = [
            (name, module) for name, module in unknown if any(each.requires_grad for each in module.parameters())
        ]
        self._alarms += [Alarm(name, module) for name, module in trained]

    def warn_of_other_readers(self, layers: Iterable[WatchedLayer]) -> None:
        """Warn once of units that are read by more than was recorded, as a module outside of the network does.

        Looks at gradients in the step after a replacement; a reader whose loss another optimizer follows isn't noticed.
        """
        for layer in layers:
            if layer.name not in self._warned and layer.gets_unexplained_gradient():
                self._warned.add(layer.name)
                warnings.warn(
                    f"{layer.name}: units that were just replaced get a gradient, though their outgoing weights were "
                    "zero: something that is not among their recorded outgoing layers reads them, such as a module "
                    "outside of the one given; or gradients of earlier steps were not set to zero; or something else "
                    "changed those weights, as an optimizer's slow weights do. If another module shares the layer, "
                    "give ContinualBackprop one module that holds both and runs both",
                    stacklevel=2,
                )

    def remove(self) -> None:
        """Leave the network alone."""
        for alarm in self._alarms:
            alarm.detach()
        self._alarms.clear()

    def check(self) -> None:
        """Look whether every part is in its place; to be called before each step.

        :raises RuntimeError: if a module or a parameter was exchanged
        """
        if what := self.find_exchanged():
            raise RuntimeError(
                f"{what} was exchanged or taken away after ContinualBackprop was set up, so the step was not taken: "
                "call remove(), then build an optimizer and a ContinualBackprop for the network as it is now"
            )

    def find_exchanged(self) -> str | None:
        """Name the first part that isn't in its place any more, if there is one. It had better be quick."""
        for parent, name, child, path in self._modules:
            found = parent._modules.get(name)
            if found is not child and (found is None or unwrapped(found) is not child):
                return path
        for module, name, parameter, path in self._parameters:
            if module._parameters.get(name) is not parameter:
                return f"{path}.{name}"
        return None


class Alarm(StayingHook):
    """Warns once when a module runs in training."""

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name, self.awake = name, True
        self.attach(module)

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """See ``StayingHook``."""
        if self.awake and module.training and torch.is_grad_enabled():
            self.awake = False
            warnings.warn(
                f"{self.name} runs in training, but did not when the network was traced: units that it reads are "
                "replaced without regard to it; if there are such, run it where a trace sees it, or name the layers by "
                "hand",
                stacklevel=2,
            )


def _chain(network: nn.Module, path: str) -> list[tuple[nn.Module, str, nn.Module, str]]:
    """The steps from the network to one of its modules: parent, name, child, and the child's path."""
    steps, parent = [], network
    for depth, name in enumerate(names := path.split(".") if path else [], start=1):
        child = parent.get_submodule(name)
        steps.append((parent, name, child, ".".join(names[:depth])))
        parent = child
    return steps
