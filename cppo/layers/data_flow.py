"""Follows hidden units through a module while it runs, from function to function, up to the modules that read them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torch.utils.hooks import RemovableHandle

from cppo.layers.function_rules import LAYERS, METADATA, NORM_FUNCTIONS, FunctionRules
from cppo.layers.hidden_layer import CONVOLUTIONS, LAYERS_WITH_UNITS, UnitModule, input_of
from cppo.layers.labels import along, new_labels
from cppo.layers.norms import NORMS, NORMS_BY_NAME
from cppo.layers.origins import UNSEEN, Origins
from cppo.layers.reach import reachable
from cppo.layers.snapshot import Snapshot
from cppo.layers.traced_units import LEAVES, Call, Located, Reading, Step, TracedUnits
from cppo.layers.unit_map import UnitMap


class DataFlow(TorchFunctionMode):
    """Watches the torch functions a module calls and notes which module reads which units.

    Units that go into a function which isn't understood are left out: they can't be replaced. So are all units computed
    before a tensor of unknown origin is used, as it may carry them. It follows no other module and no other thread.

    :param module: the module about to run
    :param known: tensors that were there before
    """

    def __init__(self, module: nn.Module, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.module = module
        self.units = UnitMap({submodule: name for name, submodule in module.named_modules()})
        self.rules = FunctionRules(self.units)
        self.origins = Origins(known)
        self.owners = {
            id(submodule.weight): submodule
            for submodule in self.units.names
            if isinstance(submodule, LAYERS_WITH_UNITS) and "weight" in submodule._parameters
        }
        self.running: list[tuple[nn.Module, Tensor | None]] = []
        self.inputs: dict[nn.Module, list[Tensor]] = {}
        self.used_by_others: dict[nn.Module, str] = {}
        self._whole: nn.Module | None = None
        self._thread = threading.get_ident()
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> DataFlow:
        for module in self.units.names:
            # a scripted module's own methods of these names refuse
            self._hooks += [
                nn.Module.register_forward_pre_hook(module, self.enter, prepend=True, with_kwargs=True),
                nn.Module.register_forward_hook(module, self.leave, prepend=True),
            ]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    # Modules ----------------------------------------------------------------------------------------------------------

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Called when a module begins to run."""
        with torch._C.DisableTorchFunction():
            self._enter(module, args, kwargs)

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if threading.get_ident() != self._thread:
            return self.units.leave_out(self.units.sources((args, kwargs)), "read in another thread")
        self.running.append((module, input_of(args, kwargs)))
        if self._whole is None and _is_followed_whole(module, args, kwargs):
            self._whole = module
        elif isinstance(module, torch.jit.ScriptModule):
            reason = "read by a scripted module, which can't be followed"
            self.units.leave_out(self.units.sources((args, kwargs)), reason)

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Called when a module has run."""
        if threading.get_ident() != self._thread:
            return
        given = None
        while self.running:  # one that failed, where its caller went on, is still there
            entered, given = self.running.pop()
            if entered is module:
                break
        if module is self._whole and given is not None:
            self._whole = None
            self.origins.add(output)
            with torch._C.DisableTorchFunction():
                self._normalise(module, given, output)

    def _normalise(self, norm: nn.Module, given: Tensor, output: Tensor) -> None:
        self._is_repeated(norm, given)
        for source in self.units.sources((given,)):
            shape = getattr(norm, "normalized_shape", None)
            axis = output.ndim - len(shape) if shape else 1 if given.ndim > 1 else -1
            vector = along(source.labels, axis)
            if vector is None or output.shape != given.shape:
                reason = f"{type(norm).__name__} normalises along another axis than its units'"
                self.units.leave_out([source], reason)
                continue
            paths = dict(source.paths)
            for place in self.units.places(vector, norm):
                paths[place.layer] += (Step("norm", (norm, place.start, place.block), norm),)
            self.units.locate(output, source.labels, paths)

    # Functions --------------------------------------------------------------------------------------------------------

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        given = tree_leaves((args, kwargs))
        name = getattr(func, "__name__", str(func))
        owner = getattr(getattr(func, "__self__", None), "__name__", "")  # a property's functions don't name it
        is_property = name == "__get__" or (name == "__set__" and owner != "data")
        name = owner if is_property else name.strip("_")
        if self._whole is None:
            self._suspect(given, name)
        sources = self.units.sources(given)
        result = func(*args, **kwargs)
        outputs = [value for value in tree_leaves(result) if isinstance(value, Tensor)]
        for output in outputs:
            self.origins.add(output)
        if self._whole is None:
            call = Call(func, name, args, kwargs, given, outputs, sources, self._called(func))
            if name in LAYERS:
                self._layer(call)
            else:
                self._follow(call, is_property)
        return result

    def _suspect(self, given: list[Any], name: str) -> None:
        """Leave out the units that a tensor may carry, unseen."""
        if self.origins.of_unknown(given):
            self.units.leave_out_all(f"{name} is given a tensor {UNSEEN}: it may carry its units")
        self.units.leave_out(self.units.aliases(given), f"{name} is given other views of the memory its units lie in")

    def _follow(self, call: Call, is_property: bool) -> None:
        for value in call.given if call.outputs else ():
            if id(value) in self.owners:
                self.used_by_others[self.owners[id(value)]] = call.name
        norm = self._norm_of(call)
        if norm is not None:
            self._normalise(norm, call.args[0], call.outputs[0])
        elif call.sources and (call.outputs or not (is_property or call.name in METADATA)):
            self.rules.follow(call)

    def _norm_of(self, call: Call) -> nn.Module | None:
        """The norm that runs now, if the function is its own: what it is given is one input and its own parameters."""
        norm = self.running[-1][0] if self.running and call.name in NORM_FUNCTIONS else None
        if not isinstance(norm, NORMS) or not call.args:
            return None
        its_own = {id(each) for each in (*norm._parameters.values(), *norm._buffers.values())}
        others = [each for each in call.given[1:] if isinstance(each, Tensor) and id(each) not in its_own]
        return None if others else norm

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
        caller = self.running[-1][0] if self.running else None
        module = self.owners.get(id(weight), caller)
        if not isinstance(module, LAYERS_WITH_UNITS) or module not in self.units.names:
            reason = "read by a weight that belongs to no linear layer or convolution"
            return self.units.leave_out(call.sources, reason)
        if id(weight) not in self.owners and "weight" in module._parameters:
            reason = f"{self.units.name(module)} computes with another weight than its own"
            self.units.leave_out(call.sources, reason)
            return (self.units.traced.get(module) or self.units.add(module)).leave_out(reason)
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
        if module.weight.is_complex():
            return f"the weight of {name} is complex"
        if caller is not module:
            return f"the weight of {name} is used outside of {name}"
        if not given.numel():
            return f"{name} was given an empty batch of the example: pass an example_input that reaches it"
        pads = isinstance(module, CONVOLUTIONS) and module.padding_mode != "zeros"
        if callers_input is None:
            return f"{name} is not given its input as one tensor"
        if callers_input is not given and not pads:
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

    def _may_be_units(self, thing: Any) -> bool:
        return isinstance(thing, Tensor) and (id(thing) in self.units.located or not self.origins.know(thing))

    def conclude(self, outputs: Any, before: Snapshot) -> list[TracedUnits]:
        """Leave out units that leave the network, are kept in an attribute, or are computed or read twice.

        :param outputs: what the module returned
        :param before: what it held
        :return: the units of every layer that ran, in the order in which they ran
        """
        returned = [thing for thing in reachable(outputs) if isinstance(thing, Tensor)]
        self.units.leave_out(self.units.sources(returned), LEAVES)
        if any(map(self._may_be_units, reachable(*before.news()))) or self.units.aliases(before.tensors):
            self.units.notice_kept(self.module, self.origins)
        if self.origins.of_unknown(returned):
            self.units.leave_out_all(f"the network returns a tensor {UNSEEN}: it may carry its units")
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
        self.inputs.clear()
        self.running.clear()
        return traced


def _is_followed_whole(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a module is a norm made of many functions, known by its name, that is given one tensor and no more.

    A subclass that does something of its own is followed function by function, and so is one with hooks before it.
    """
    made_by = next((kind.__name__ for kind in type(module).__mro__ if "forward" in vars(kind)), "")
    is_whole = made_by in NORMS_BY_NAME and "forward" not in vars(module) and len(module._forward_pre_hooks) == 1
    return is_whole and len(args) == 1 and not kwargs and isinstance(args[0], Tensor)
