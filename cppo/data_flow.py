"""Follows hidden units through a module while it runs: which functions they pass, which modules read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from cppo import functions
from cppo.hidden_layers import CONVOLUTIONS, LAYERS_WITH_UNITS, UnitModule, is_norm
from cppo.labels import OTHER, Place, along, find_places, layers_in, new_labels, padded, reduced, spread
from cppo.traced_units import Call, Located, Path, Reading, Step, TracedUnits


class DataFlow(TorchFunctionMode):
    """Watches the torch functions a module calls and notes which module reads which units.

    Whatever isn't understood takes the units it is given out of those that can be replaced.

    :param module: the module about to run
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.names = {submodule: name for name, submodule in module.named_modules()}
        self.owners = {
            id(submodule.weight): submodule
            for submodule in self.names
            if isinstance(submodule, LAYERS_WITH_UNITS) and "weight" in submodule._parameters
        }
        self.running: list[tuple[nn.Module, Tensor | None]] = []
        self.traced: dict[nn.Module, TracedUnits] = {}
        self.uses: Counter[nn.Module] = Counter()
        self.used_by_others: dict[nn.Module, str] = {}
        self.located: dict[int, Located] = {}
        self._norm: nn.Module | None = None

    # Modules ----------------------------------------------------------------------------------------------------------

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """A module begins to run; a norm is followed as a whole, a scripted module can't be."""
        given = args[0] if args and isinstance(args[0], Tensor) else None
        self.running.append((module, given))
        if given is not None and self._norm is None and is_norm(module):
            self._norm = module
        if isinstance(module, torch.jit.ScriptModule):
            self._leave_out(self._sources(args), "read by a scripted module, which can't be followed")

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """A module has run."""
        given = self.running.pop()[1]
        if module is self._norm and given is not None:
            self._norm = None
            self.uses[module] += 1
            for source in self._sources((given,)):
                self._normalise(source, module, output)

    def _normalise(self, source: Located, norm: nn.Module, output: Tensor) -> None:
        shape = getattr(norm, "normalized_shape", None)
        axis = output.ndim - len(shape) if shape else 1 if hasattr(norm, "running_mean") else -1
        vector = along(source.labels, axis)
        if vector is None:
            return self._leave_out([source], f"{type(norm).__name__} normalises along another axis than its units'")
        paths = dict(source.paths)
        for place in self._places(vector, norm):
            paths[place.layer] += (Step("norm", (norm, place.start, place.block), norm),)
        self._locate(output, source.labels, paths)

    # Functions --------------------------------------------------------------------------------------------------------

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self._norm is None:
            name = getattr(func, "__name__", str(func))
            # A property is read by a function that only its owner names.
            name = getattr(getattr(func, "__self__", None), "__name__", "") if name == "__get__" else name.strip("_")
            outputs = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
            call = Call(func, name, args, kwargs, outputs, self._sources((args, kwargs)))
            if name in functions.LAYERS:
                self._layer(call)
                return result
            for value in tree_leaves((args, kwargs)) if outputs else ():
                if id(value) in self.owners:
                    self.used_by_others[self.owners[id(value)]] = name
            if call.sources and (outputs or name in functions.WITHOUT_OUTPUT):
                self._follow(call)
        return result

    def _follow(self, call: Call) -> None:
        """A function that is no layer reads units: hand them on to its output where it keeps them apart."""
        for names, follow in (
            (functions.HARMLESS, lambda call: None),
            (functions.PASS_THROUGH, self._pass_on),
            (functions.LAYOUT, self._move),
            (functions.ELEMENTWISE, self._change),
            (functions.POOLING, self._pool),
            (functions.REDUCTIONS, self._reduce),
        ):
            if call.name in names:
                try:
                    return follow(call)
                except (RuntimeError, TypeError, ValueError, IndexError):
                    break  # called in a way that can't be done to labels: the units are lost sight of
        return self._give_up(call)

    def _give_up(self, call: Call) -> None:
        self._leave_out(call.sources, functions.MEANINGS.get(call.name, f"read by {call.name}"))

    def _layer(self, call: Call) -> None:
        """A linear layer or convolution reads the units of its input and computes units of its own."""
        given, weight = (
            {**dict(zip(("input", "weight"), call.args, strict=False)), **call.kwargs}[key]
            for key in ("input", "weight")
        )
        module = self.owners.get(id(weight), self.running[-1][0] if self.running else None)
        if not isinstance(module, LAYERS_WITH_UNITS) or (
            id(weight) not in self.owners and "weight" in module._parameters
        ):
            return self._leave_out(call.sources, "read by a weight that belongs to no linear layer or convolution")
        self.uses[module] += 1
        obstacle = self._obstacle(module, given)
        for source in call.sources:
            self._read(source, module, obstacle if source.tensor is given else "used as a weight")
        if module not in self.traced:
            units = self.traced[module] = TracedUnits(module, self.names.get(module, ""), len(self.traced))
            if obstacle:
                units.leave_out(obstacle)
            output = call.outputs[0]
            labels = new_labels(units.number, output.shape, output.ndim - module.weight.ndim + 1)
            self._locate(output, labels, {units.number: ()})

    def _obstacle(self, module: UnitModule, given: Tensor) -> str | None:
        """What keeps a module's weights from being replaced, or its input from being seen."""
        name = self.names.get(module) or type(module).__name__
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
            self._leave_out([source], obstacle)
        elif vector is None:
            self._leave_out([source], f"{type(module).__name__} reads it along another axis than its units'")
        else:
            for place in self._places(vector, module):
                units = self._units(place.layer)
                units.readers.append(Reading(module, place.start, place.block, source.paths[place.layer]))

    def _places(self, vector: Tensor, module: nn.Module) -> list[Place]:
        """Where whole layers lie along an axis; the units of others are left out."""
        places, scattered = find_places(vector, {each.number: each.n_units for each in self.traced.values()})
        for number in scattered:
            name = self.names.get(module) or type(module).__name__
            self._units(number).leave_out(f"{name} reads its units in part, in another order or at several places")
        return places

    def _pass_on(self, call: Call) -> None:
        self._locate(call.outputs[0], call.sources[0].labels, call.sources[0].paths)

    def _move(self, call: Call) -> None:
        """Elements are moved: move the labels in the same way."""
        func = padded if call.name == "pad" else call.func
        args, kwargs = tree_map(lambda value: self._labels_of(value, call.name), (call.args, call.kwargs))
        moved = tree_leaves(func(*args, **kwargs))
        paths: dict[int, Path] = {}
        for source in call.sources:
            for layer, path in source.paths.items():
                if paths.setdefault(layer, path) != path:
                    self._units(layer).leave_out(f"different functions of its units are joined by {call.name}")
        if [each.shape for each in moved] != [each.shape for each in call.outputs]:
            return self._give_up(call)
        for output, labels in zip(call.outputs, moved, strict=True):
            self._locate(output, labels, {layer: paths[layer] for layer in layers_in(labels)})

    def _labels_of(self, value: Any, name: str) -> Any:
        """What stands for an argument where the labels are moved in place of the elements."""
        if not isinstance(value, Tensor):
            return value
        if id(value) in self.located:
            return self.located[id(value)].labels.contiguous()
        return torch.full(value.shape, OTHER, dtype=torch.float64) if name in functions.JOINING else value.cpu()

    def _change(self, call: Call) -> None:
        """Each element is changed by itself, given nothing else than the unit and constants."""
        labels, output = call.sources[0].labels, call.outputs[0]
        leaves = tree_leaves((call.args, call.kwargs))
        others = [value for value in leaves if isinstance(value, Tensor) and id(value) not in self.located]
        alike = all(torch.equal(labels, source.labels) for source in call.sources)
        if (others and call.name != "prelu") or not alike or output.shape != labels.shape:
            return self._give_up(call)
        # Whether it works in place is no part of what it does, and the only switch these functions have.
        constants = (repr(value) for value in leaves if not isinstance(value, (bool, Tensor)))
        settings = (*constants, *(id(value) for value in others))
        return self._extend(call, labels, Step(call.name, settings, self._called(call.func)))

    def _pool(self, call: Call) -> None:
        axis = call.outputs[0].ndim - functions.POOLING[call.name] - 1
        vector = along(call.sources[0].labels, axis)
        self._condense(call, None if vector is None else spread(vector, call.outputs[0].shape, axis))

    def _reduce(self, call: Call) -> None:
        axes = {
            "dim" if key == "axis" else key: value
            for key, value in call.kwargs.items()
            if key not in ("dtype", "input")
        }
        self._condense(call, reduced(call.sources[0].labels, *call.args[1:], **axes))

    def _condense(self, call: Call, labels: Tensor | None) -> None:
        """Each unit's features at several positions become one or a few."""
        if labels is None or labels.shape != call.outputs[0].shape:
            return self._give_up(call)
        settings = tree_leaves((call.args, call.kwargs))
        constants = (repr(value) for value in settings if not isinstance(value, Tensor))
        return self._extend(call, labels, Step(call.name, tuple(constants)))

    def _extend(self, call: Call, labels: Tensor, step: Step) -> None:
        """Add a step to the paths of the units in a tensor, and in its views where it is changed in place."""
        output, sources = call.outputs[0], call.sources
        paths: dict[int, Path] = {}
        for layer in sources[0].paths:
            known = dict.fromkeys(each for source in sources for each in source.paths[layer])
            settings = (*step.settings, *(source.paths[layer] for source in sources[1:]))
            paths[layer] = (*known, Step(step.name, settings, step.what))
        if any(output is source.tensor for source in sources):
            for other in self.located.values():
                if _share_memory(output, other.tensor):
                    if other.tensor.numel() != output.numel():
                        self._leave_out([other, *sources], f"changed in part, in place, by {step.name}")
                    other.paths = {layer: paths.get(layer, path) for layer, path in other.paths.items()}
        self._locate(output, labels, paths)

    # Notes ------------------------------------------------------------------------------------------------------------

    def _called(self, func: Callable) -> Any:
        """The module whose only work a function is, or the function."""
        module = self.running[-1][0] if self.running else None
        is_leaf = module is not None and not list(module.children()) and not list(module.parameters())
        return module if is_leaf or isinstance(module, nn.PReLU) else func

    def _sources(self, values: Any) -> list[Located]:
        found = {id(value): self.located[id(value)] for value in tree_leaves(values) if id(value) in self.located}
        return list(found.values())

    def _locate(self, tensor: Tensor, labels: Tensor, paths: dict[int, Path]) -> None:
        self.located[id(tensor)] = Located(tensor, labels, paths)

    def _units(self, number: int) -> TracedUnits:
        return next(units for units in self.traced.values() if units.number == number)

    def _leave_out(self, sources: Iterable[Located], reason: str) -> None:
        for source in sources:
            for layer in layers_in(source.labels):
                self._units(layer).leave_out(reason)

    def conclude(self, outputs: Iterable[Any]) -> list[TracedUnits]:
        """Leave out what leaves the network or is used twice.

        :param outputs: everything the module returned
        :return: the units of every layer that ran, in the order in which they ran
        """
        self._leave_out(self._sources(list(outputs)), "its units leave the network")
        for units in self.traced.values():
            norms = (step.what for reading in units.readers for step in reading.path if step.name == "norm")
            for module in (units.incoming, *(reading.module for reading in units.readers), *norms):
                name = self.names.get(module) or type(module).__name__
                if module in self.used_by_others:
                    units.leave_out(f"the weight of {name} is also used by {self.used_by_others[module]}")
                if self.uses[module] > 1:
                    what = "it" if module is units.incoming else f"read by {name}, which"
                    units.leave_out(f"{what} is used {self.uses[module]} times in one forward pass")
            units.left_out = units.obstacle if units.readers else units.left_out
        return list(self.traced.values())


def _share_memory(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
