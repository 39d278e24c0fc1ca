"""Keeps track of the tensors that hold a module's hidden units while it runs."""

import gc
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from cppo.layers.hidden_layer import UnitModule
from cppo.layers.labels import OTHER, Place, find_places, layers_in
from cppo.layers.origins import UNSEEN, Origins
from cppo.layers.reach import VALUES, address, reachable
from cppo.layers.traced_units import Located, Path, TracedUnits


class UnitMap:
    """The units of all layers that have run, and the tensors that hold them.

    :param names: the modules' names, for messages
    """

    def __init__(self, names: dict[nn.Module, str]) -> None:
        self.names = names
        self.traced: dict[nn.Module, TracedUnits] = {}
        self.located: dict[int, Located] = {}
        self._memory: dict[int, Located] = {}

    def name(self, module: nn.Module) -> str:
        """The name of a module in messages."""
        return self.names.get(module) or type(module).__name__

    def add(self, module: UnitModule) -> TracedUnits:
        """Add the units of a layer that has run for the first time."""
        units = self.traced[module] = TracedUnits(module, self.names.get(module, ""), len(self.traced))
        return units

    def units(self, number: int) -> TracedUnits:
        """The units of a layer by its number."""
        return next(units for units in self.traced.values() if units.number == number)

    def locate(self, tensor: Tensor, labels: Tensor, paths: dict[int, Path]) -> None:
        """Note which units a tensor holds."""
        self.located[id(tensor)] = Located(tensor, labels, paths)
        self._memory.setdefault(address(tensor), self.located[id(tensor)])

    def same(self, one: Tensor, other: Tensor) -> bool:
        """Whether two tensors are one and the same function of the same units, or else of the input."""
        first, second = self.located.get(id(one)), self.located.get(id(other))
        if first is None and second is None:
            return one is other or (torch.equal(one, other) and bool((one != one.flatten()[:1]).any()))
        if first is None or second is None or first.paths != second.paths:
            return False
        return torch.equal(first.labels, second.labels) and (OTHER not in first.labels or torch.equal(one, other))

    def sources(self, values: Any) -> list[Located]:
        """The tensors that hold units among some values, nested or not."""
        found = {id(value): self.located[id(value)] for value in tree_leaves(values) if id(value) in self.located}
        return list(found.values())

    def places(self, vector: Tensor, module: nn.Module) -> list[Place]:
        """Find where whole layers lie along an axis that a module reads; layers that lie otherwise are left out."""
        places, scattered = find_places(vector, {each.number: each.n_units for each in self.traced.values()})
        for number in scattered:
            self.units(number).leave_out(
                f"{self.name(module)} reads its units in part, in another order or at several places"
            )
        return places

    def leave_out(self, sources: Iterable[Located], reason: str) -> None:
        """Note why the units in some tensors can't be replaced."""
        for source in sources:
            for layer in layers_in(source.labels):
                self.units(layer).leave_out(reason)

    def leave_out_all(self, reason: str) -> None:
        """Note why none of the units computed so far can be replaced."""
        for units in self.traced.values():
            units.leave_out(reason)

    def aliases(self, values: Iterable[Any]) -> list[Located]:
        """The tensors that hold units and share their memory with others, which hold none, among some values."""
        others = [each for each in values if isinstance(each, Tensor) and id(each) not in self.located]
        found = (self._memory.get(place) for each in others if (place := address(each)))
        return [each for each in found if each is not None]

    def notice_kept(self, module: nn.Module, origins: Origins) -> None:
        """Leave out the units that a module has kept in an attribute, where anybody may read them later."""
        for part in module.modules():
            for key, value in vars(part).items():
                if key == "_modules" or isinstance(value, VALUES):
                    continue
                tensors = [thing for thing in reachable(value) if isinstance(thing, Tensor)]
                where = f"{self.names.get(part, '')}.{key}".lstrip(".")
                self.leave_out(self.sources(tensors), f"its features are kept as {where}, to be read later")
                if origins.of_unknown(tensors):
                    self.leave_out_all(f"{where} is a tensor {UNSEEN}: it may carry its units")

    def notice_outliving(self) -> None:
        """Leave out the units whose features outlive the run, and forget all others; to be called at the very end.

        Whoever has kept them, out of sight (in a class, a global name), may read them later.
        """
        held = [
            (weakref.ref(each.tensor), units)
            for each in self.located.values()
            for layer in layers_in(each.labels)
            if (units := self.units(layer)).left_out is None
        ]
        self.located.clear()
        self._memory.clear()
        for generation in range(3):  # some that nobody holds refer to each other; the last takes a quarter of a second
            if any(tensor() is not None for tensor, _ in held):
                gc.collect(generation)
        for tensor, units in held:
            if tensor() is not None:
                units.leave_out(
                    "its features outlive the forward pass, kept in a class, a global name or such, to be read later"
                )
