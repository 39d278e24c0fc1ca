"""Turns what a trace found into records: the layers whose units can be replaced, and the others with reasons."""

from collections.abc import Iterable, Sequence

from cppo.layers.examples import BY_HAND
from cppo.layers.function_rules import ACTIVATIONS
from cppo.layers.hidden_layer import HiddenLayer
from cppo.layers.traced_units import LeftOut, TracedUnits


def replaceable(traced: Sequence[TracedUnits], what: str, advice: str = BY_HAND) -> list[HiddenLayer]:
    """Turn what a trace found into the hidden layers whose units can be replaced.

    :param traced: what ``trace`` found
    :param what: how the error calls the module
    :param advice: what the error tells the user to do
    :raises ValueError: if there is none, with the reason for each layer found
    """
    layers, left_out = sort_out(traced)
    if not layers:
        found = "; ".join(f"{each.name}: {each.reason}" for each in left_out)
        raise ValueError(
            f"{what} has no hidden layer whose units could be replaced (found: "
            f"{found or 'no linear layer or convolution that ran by itself in this thread'}); {advice}"
        )
    return layers


def sort_out(traced: Iterable[TracedUnits]) -> tuple[list[HiddenLayer], list[LeftOut]]:
    """Turn what a trace found into the hidden layers whose units can be replaced, and into the others with reasons."""
    layers: list[HiddenLayer] = []
    left_out: list[LeftOut] = []
    for units in traced:
        name = units.name or type(units.incoming).__name__
        obstacle = units.obstacle
        if obstacle is None:
            try:
                layers.append(_hidden_layer(units, name))
            except (TypeError, ValueError) as error:
                obstacle = str(error)
        if obstacle is not None:
            left_out.append(LeftOut(name, units.n_units, obstacle, units.incoming))
    return layers, left_out


def _hidden_layer(units: TracedUnits, name: str) -> HiddenLayer:
    path = units.readers[0].path
    norms = [step.settings for step in path if step.name == "norm"]
    return HiddenLayer(
        incoming=units.incoming,
        outgoing=[reading.module for reading in units.readers],
        activation=next((step.what for step in path if step.name in ACTIVATIONS), None),
        columns=[(reading.start, reading.block) for reading in units.readers],
        name=name,
        norms=[norm for norm, _, _ in norms],
        norm_columns=[(start, block) for _, start, block in norms],
    )
