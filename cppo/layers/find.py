"""Finds the hidden layers of a module by following its data, not by the order of its submodules.

The module is run on an example, once in evaluation mode and once in training mode. A linear layer or convolution gives
its output new units; activations, normalisations and pooling hand them on; flattening, slicing and concatenation move
them; another linear layer or convolution reads them. A unit is never replaced if anything else reads it (an addition,
the module's caller) or if the module keeps it in an attribute.

A unit is watched only if nothing of unknown origin could carry it: where a function is given a tensor that the trace
did not see made, what was computed before is left out. Then ``cppo.layers.leaks`` checks the layers by numbers.

A reader that only other code calls isn't seen; ``ContinualBackprop`` warns of it once it gives new units a gradient. A
new unit gets new slices of the normalisations it passes; the slope of an ``nn.PReLU`` stays its predecessor's. Batch
norm and the like work on each unit by itself. Layer norm mixes units: through its mean and variance a new unit moves
the others a little, whatever its own outgoing weights.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cppo.layers.data_flow import DataFlow
from cppo.layers.examples import BY_HAND, CouldNotRun, on_example
from cppo.layers.hidden_layer import LAYERS_WITH_UNITS, HiddenLayer, check_distinct
from cppo.layers.leaks import LEAK, Way, find_leaking, leave_out_what_leaks
from cppo.layers.norms import is_norm
from cppo.layers.observe import observing, unwrapped
from cppo.layers.snapshot import Snapshot
from cppo.layers.sort_out import replaceable, sort_out
from cppo.layers.traced_units import NEVER_RAN, LeftOut, TracedUnits, merge

UNITLESS = (nn.PReLU, nn.GroupNorm)
"""Modules with parameters that have no units of their own."""


@torch.no_grad()
def trace(
    module: nn.Module, run: Callable[[], Any], training: bool = False, before: Snapshot | None = None
) -> list[TracedUnits]:
    """Run the module under observation, and leave it and all random generators as they were.

    Where it uses tensors of unknown origin, it is run once more: a tensor that is the same object in both runs was
    there before, like a constant in a global name, and carries no units.

    :param module: the module whose layers are looked for
    :param run: calls the module on an example
    :param training: whether to run it in training mode
    :param before: what the module and what runs it hold, where that is known already
    :return: the units of every linear layer and convolution that ran, in the order in which they ran
    :raises ValueError: for tied weights, for lazy modules without weights, and where all weights are complex
    """
    _refuse_lazy_modules(module)
    _refuse_tied_weights(module)
    _refuse_complex_weights(module)
    before = before or Snapshot(module, run)
    traced, strangers = _trace_once(module, run, training, before)
    return _trace_once(module, run, training, before, strangers)[0] if strangers else traced


def _trace_once(
    module: nn.Module, run: Callable[[], Any], training: bool, before: Snapshot, constants: Sequence[Tensor] = ()
) -> tuple[list[TracedUnits], list[Tensor]]:
    """Run the module once; return its units, and the tensors of unknown origin."""
    with observing(module, training, before):
        flow = DataFlow(module, [*before.tensors, *constants])
        with flow:
            outputs = run()
        traced = flow.conclude(outputs, before)
        del outputs
        flow.units.notice_outliving()
        return traced, flow.origins.strangers


def _refuse_scripted_modules(module: nn.Module) -> None:
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError(f"{type(module).__name__} is scripted and can't be followed: give what it was made of")


def _refuse_lazy_modules(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if nn.parameter.is_lazy(parameter):
            raise ValueError(f"{name} has no shape yet: run the module once before you build its optimizer")


def _refuse_tied_weights(module: nn.Module) -> None:
    owners: dict[nn.Parameter, tuple[str, nn.Module]] = {}
    for prefix, submodule in module.named_modules():
        for name, parameter in submodule.named_parameters(recurse=False):
            where = f"{prefix}.{name}".lstrip(".")
            first, other = owners.setdefault(parameter, (where, submodule))
            if other is not submodule and any(isinstance(each, LAYERS_WITH_UNITS) for each in (other, submodule)):
                raise ValueError(
                    f"tied weights: {first} and {where} are one parameter, so a unit's weights can't be replaced "
                    f"without changing others; untie them, or {BY_HAND}"
                )


def _refuse_complex_weights(module: nn.Module) -> None:
    weights = [layer.weight for layer in module.modules() if isinstance(layer, LAYERS_WITH_UNITS)]
    if weights and all(weight.is_complex() for weight in weights):
        raise ValueError(f"{type(module).__name__} has complex weights; only units of real weights can be replaced")


def find_hidden_layers(module: nn.Module, example_input: Any = None) -> list[HiddenLayer]:
    """Find the hidden layers of a module by running it once and following its data.

    :param module: any module of linear layers and convolutions; compiled or data-parallel ones are looked into
    :param example_input: what the module can be called with: a tensor, a tuple of arguments (the last may be a dict of
        keyword arguments), or a dict of keyword arguments or observations; it is moved to the module's device and
        number format. It may be left out where the module takes a single vector, or a single square image of a
        typical size (84, 64, 32, 28, ...): these are tried until the module runs.
    :return: the layers whose units can be replaced, in the order in which they are computed
    :raises ValueError: if the module can't be run on the example, has tied weights, or nothing in it can be replaced;
        the message says what was found and how to pass ``hidden_layers=`` by hand
    """
    return find_layers(module, example_input)[0]


def find_layers(module: nn.Module, example_input: Any = None) -> tuple[list[HiddenLayer], list[LeftOut]]:
    """Find the hidden layers of a module, and those that have to be left out, with the reasons.

    :param module: as for ``find_hidden_layers``
    :param example_input: as for ``find_hidden_layers``
    :raises ValueError: as ``find_hidden_layers``
    """
    module = unwrapped(module)
    _refuse_scripted_modules(module)
    traced, runs = on_example(module, example_input, partial(_trace_both_modes, module))
    leave_out_what_leaks(module, traced, runs)
    replaceable(traced, type(module).__name__)
    layers, left_out = sort_out(traced)
    return layers, left_out + list(never_seen(module, traced))


def _trace_both_modes(module: nn.Module, run: Callable[[], Any]) -> tuple[list[TracedUnits], list[Way]]:
    before = Snapshot(module, run)
    evaluated = trace(module, run, before=before)
    try:
        return merge([evaluated, trace(module, run, training=True, before=before)]), [Way(run, False), Way(run, True)]
    except (CouldNotRun, ValueError) as error:
        warnings.warn(
            f"{type(module).__name__} could not be run in training mode on the example ({error}), so a reader of "
            f"units that runs in training mode only would not be seen; if there is one, {BY_HAND}",
            stacklevel=5,
        )
        return evaluated, [Way(run, False)]


def find_trained_layers(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    hidden_layers: Sequence[HiddenLayer] | None = None,
    example_input: Any = None,
) -> tuple[list[HiddenLayer], list[LeftOut]]:
    """Find the hidden layers of a module, or check those named by hand, and keep those that an optimizer trains whole.

    :param module: as for ``find_hidden_layers``
    :param optimizer: the optimizer
    :param hidden_layers: the layers, where tracing can't tell
    :param example_input: as for ``find_hidden_layers``; layers named by hand are checked with it by numbers
    :return: the layers, and those left out
    :raises TypeError: for layers that are none
    :raises ValueError: if there is none, where more reads a layer named by hand, and as ``find_hidden_layers``
    """
    left_out: list[LeftOut] = []
    if hidden_layers is not None:
        found = _check_layers(hidden_layers)
        if example_input is not None:
            _refuse_leaks(unwrapped(module), found, example_input)
    else:
        found, left_out = find_layers(module, example_input)
    trained, untrained = _trained_by(optimizer, found)
    check_distinct(trained)
    return trained, left_out + untrained


def _check_layers(layers: object) -> list[HiddenLayer]:
    """Check layers that were named by hand.

    :raises TypeError: if they aren't a sequence of ``HiddenLayer``
    :raises ValueError: if there is none
    """
    if not isinstance(layers, Sequence) or not all(isinstance(layer, HiddenLayer) for layer in layers):
        given = [type(each).__name__ for each in layers] if isinstance(layers, Sequence) else type(layers).__name__
        raise TypeError(
            f"hidden_layers must be a list of HiddenLayer(incoming=..., outgoing=[...], activation=...), not {given}"
        )
    if not layers:
        raise ValueError("hidden_layers names no layer; leave it out to have them found")
    return list(layers)


def _refuse_leaks(module: nn.Module, layers: Sequence[HiddenLayer], example_input: Any) -> None:
    """Check by numbers that the outgoing layers that were named by hand are all that depends on the units.

    :raises ValueError: if they aren't
    """
    both = lambda run: find_leaking(module, layers, [Way(run, False), Way(run, True)])  # noqa: E731
    if leaking := on_example(module, example_input, both):
        names = ", ".join(layer.name for layer in leaking)
        raise ValueError(f"{names}: {LEAK}; if that is by design leave out example_input, with which it was checked")


def _trained_by(
    optimizer: torch.optim.Optimizer, layers: Sequence[HiddenLayer]
) -> tuple[list[HiddenLayer], list[LeftOut]]:
    """Keep the layers all of whose weights the optimizer trains.

    :return: those layers, and the others with the reason
    :raises ValueError: if none is left
    """
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    trained = {parameter for parameter in parameters if parameter.requires_grad}
    kept: list[HiddenLayer] = []
    left_out: list[LeftOut] = []
    for layer in layers:
        untrained = [part for part in layer.parts() if part.parameter not in trained]
        if untrained:
            reads = untrained[0].module in layer.outgoing
            whose = "a reader's" if reads else "its own" if untrained[0].module is layer.incoming else "its norm's"
            reason = f"the optimizer does not train {whose} {untrained[0].name}"
            left_out.append(LeftOut(layer.name, layer.n_units, reason, layer.incoming))
        else:
            kept.append(layer)
    if not kept:
        reasons = "; ".join(f"{each.name}: {each.reason}" for each in left_out)
        raise ValueError(f"the optimizer trains none of the hidden layers whole ({reasons or 'none given'})")
    return kept, left_out


def never_seen(module: nn.Module, traced: Sequence[TracedUnits]) -> Iterator[LeftOut]:
    """Layers that did not run on the example, and modules whose units are of another kind."""
    seen = {units.incoming for units in traced}
    for name, submodule in module.named_modules():
        if isinstance(submodule, LAYERS_WITH_UNITS):
            if submodule not in seen:
                yield LeftOut(name, submodule.weight.shape[0], NEVER_RAN, submodule)
        elif list(submodule.parameters(recurse=False)) and not (is_norm(submodule) or isinstance(submodule, UNITLESS)):
            kind = type(submodule).__name__
            yield LeftOut(name or kind, None, f"{kind}: only linear layers and convolutions are watched", submodule)
