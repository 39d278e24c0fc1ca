"""Follows hidden units through a module while it runs, from function to function, up to the modules that read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from cppo.layers.function_rules import LAYERS, WITHOUT_OUTPUT, FunctionRules
from cppo.layers.hidden_layer import CONVOLUTIONS, LAYERS_WITH_UNITS, UnitModule, is_norm
from cppo.layers.labels import along, new_labels
from cppo.layers.traced_units import LEAVES, Call, Located, Reading, Step, TracedUnits
from cppo.layers.unit_map import UnitMap


class DataFlow(TorchFunctionMode):
    """Watches the torch functions a module calls and notes which module reads which units.

    Units that go into a function which isn't understood are left out: they can't be replaced.

    :param module: the module about to run
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.units = UnitMap({submodule: name for name, submodule in module.named_modules()})
        self.rules = FunctionRules(self.units)
        self.owners = {
            id(submodule.weight): submodule
            for submodule in self.units.names
            if isinstance(submodule, LAYERS_WITH_UNITS) and "weight" in submodule._parameters
        }
        self.running: list[tuple[nn.Module, Tensor | None]] = []
        self.inputs: dict[nn.Module, list[Tensor]] = {}
        self.used_by_others: dict[nn.Module, str] = {}
        self._norm: nn.Module | None = None

    # Modules ----------------------------------------------------------------------------------------------------------

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Called when a module begins to run; a norm is followed as a whole, a scripted module can't be followed."""
        given = args[0] if args and isinstance(args[0], Tensor) else None
        self.running.append((module, given))
        if given is not None and self._norm is None and is_norm(module):
            self._norm = module
        if isinstance(module, torch.jit.ScriptModule):
            self.units.leave_out(self.units.sources(args), "read by a scripted module, which can't be followed")

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Called when a module has run."""
        given = self.running.pop()[1]
        if module is self._norm and given is not None:
            self._norm = None
            self._is_repeated(module, given)
            for source in self.units.sources((given,)):
                self._normalise(source, module, output)

    def _normalise(self, source: Located, norm: nn.Module, output: Tensor) -> None:
        shape = getattr(norm, "normalized_shape", None)
        axis = output.ndim - len(shape) if shape else 1 if hasattr(norm, "running_mean") else -1
        vector = along(source.labels, axis)
        if vector is None:
            return self.units.leave_out(
                [source], f"{type(norm).__name__} normalises along another axis than its units'"
            )
        paths = dict(source.paths)
        for place in self.units.places(vector, norm):
            paths[place.layer] += (Step("norm", (norm, place.start, place.block), norm),)
        self.units.locate(output, source.labels, paths)

    # Functions --------------------------------------------------------------------------------------------------------

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self._norm is None:
            name = getattr(func, "__name__", str(func))
            # A property is read by a function that only its owner names.
            name = getattr(getattr(func, "__self__", None), "__name__", "") if name == "__get__" else name.strip("_")
            outputs = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
            given = tree_leaves((args, kwargs))
            call = Call(func, name, args, kwargs, given, outputs, self.units.sources(given), self._called(func))
            if name in LAYERS:
                self._layer(call)
                return result
            for value in given if outputs else ():
                if id(value) in self.owners:
                    self.used_by_others[self.owners[id(value)]] = name
            if call.sources and (outputs or name in WITHOUT_OUTPUT):
                self.rules.follow(call)
        return result

    def _called(self, func: Callable) -> Any:
        """The module that does nothing but call a function, if it is one that runs now; else the function."""
        module = self.running[-1][0] if self.running else None
        is_leaf = module is not None and not list(module.children()) and not list(module.parameters())
        return module if is_leaf or isinstance(module, nn.PReLU) else func

    # Layers -----------------------------------------------------------------------------------------------------------

    def _layer(self, call: Call) -> None:
        """Note that a linear layer or convolution reads the units of its input and computes units of its own."""
        given, weight = (
            {**dict(zip(("input", "weight"), call.args, strict=False)), **call.kwargs}[key]
            for key in ("input", "weight")
        )
        module = self.owners.get(id(weight), self.running[-1][0] if self.running else None)
        if not isinstance(module, LAYERS_WITH_UNITS) or (
            id(weight) not in self.owners and "weight" in module._parameters
        ):
            reason = "read by a weight that belongs to no linear layer or convolution"
            return self.units.leave_out(call.sources, reason)
        if self._is_repeated(module, given) and module in self.units.traced:
            return self._compute(self.units.traced[module], call.outputs[0])
        obstacle = self._obstacle(module, given)
        for source in call.sources:
            self._read(source, module, obstacle if source.tensor is given else "used as a weight")
        if module not in self.units.traced:
            units = self.units.add(module)
            if obstacle:
                units.leave_out(obstacle)
            self._compute(units, call.outputs[0])

    def _compute(self, units: TracedUnits, output: Tensor) -> None:
        labels = new_labels(units.number, output.shape, output.ndim - units.incoming.weight.ndim + 1)
        self.units.locate(output, labels, {units.number: ()})

    def _is_repeated(self, module: nn.Module, given: Tensor) -> bool:
        """Whether a module has been given the same input before: to repeat a computation is no second use."""
        earlier = self.inputs.setdefault(module, [])
        if any(self.units.same(each, given) for each in earlier):
            return True
        earlier.append(given)
        return False

    def _obstacle(self, module: UnitModule, given: Tensor) -> str | None:
        """The reason why a module's weights can't be replaced or its input can't be seen; None if they can."""
        name = self.units.name(module)
        caller, callers_input = self.running[-1]
        if isinstance(module, CONVOLUTIONS) and module.groups != 1:
            return f"{name} is a grouped convolution"
        if "weight" not in module._parameters:
            return f"the weight of {name} is computed from other parameters"
        if caller is not module:
            return f"the weight of {name} is used outside of {name}"
        pads = isinstance(module, CONVOLUTIONS) and module.padding_mode != "zeros"
        if callers_input is not None and callers_input is not given and not pads:
            return f"{name} changes its input before it reads it"
        return None

    def _read(self, source: Located, module: UnitModule, obstacle: str | None) -> None:
        vector = along(source.labels, source.labels.ndim - module.weight.ndim + 1)
        if obstacle:
            self.units.leave_out([source], obstacle)
        elif vector is None:
            self.units.leave_out([source], f"{type(module).__name__} reads it along another axis than its units'")
        else:
            for place in self.units.places(vector, module):
                units = self.units.units(place.layer)
                units.readers.append(Reading(module, place.start, place.block, source.paths[place.layer]))

    # The end ----------------------------------------------------------------------------------------------------------

    def conclude(self, outputs: Iterable[Any]) -> list[TracedUnits]:
        """Leave out units that leave the network, are kept in an attribute, or are computed or read twice.

        :param outputs: everything the module returned
        :return: the units of every layer that ran, in the order in which they ran
        """
        self.units.leave_out(self.units.sources(list(outputs)), LEAVES)
        self.units.notice_kept(self.module)
        traced = list(self.units.traced.values())
        for units in traced:
            norms = (step.what for reading in units.readers for step in reading.path if step.name == "norm")
            for module in (units.incoming, *(reading.module for reading in units.readers), *norms):
                name = self.units.name(module)
                if module in self.used_by_others:
                    units.leave_out(f"the weight of {name} is also used by {self.used_by_others[module]}")
                uses = len(self.inputs.get(module, ()))
                if uses > 1:
                    what = "it" if module is units.incoming else f"read by {name}, which"
                    units.leave_out(f"{what} is used {uses} times in one forward pass")
            units.left_out = units.obstacle if units.readers else units.left_out
        return traced
