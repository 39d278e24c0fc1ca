"""Labels that show where hidden units lie in a tensor: one number for each element, moved along as the elements are."""

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

OTHER = -1.0
"""Label of whatever isn't a hidden unit."""

CONSTANT = -2.0
"""Label of padding: like OTHER, but it says nothing that a reader could depend on."""

SPACING = 2.0**32
"""Distance between the labels of two layers; double precision holds all below 2**53 exactly."""


class Place(NamedTuple):
    """Where all units of one layer lie along an axis, one after another.

    :param layer: number of the layer
    :param start: index of the first unit
    :param block: indices per unit
    """

    layer: int
    start: int
    block: int


def new_labels(layer: int, shape: Sequence[int], axis: int) -> Tensor:
    """Labels of the units of a layer that lie along one axis of a tensor."""
    labels = torch.arange(shape[axis], dtype=torch.float64) + layer * SPACING
    return spread(labels, shape, axis)


def spread(vector: Tensor, shape: Sequence[int], axis: int) -> Tensor:
    """Give a tensor of some shape the labels of a vector along one axis."""
    return vector.reshape([-1 if each == axis % len(shape) else 1 for each in range(len(shape))]).expand(*shape)


def along(labels: Tensor, axis: int) -> Tensor | None:
    """The labels along one axis, as a vector; None if an index of it holds more than one unit, or none."""
    if not labels.numel():
        return None
    rows = labels.movedim(axis, 0).flatten(1) if labels.ndim > 1 else labels.unsqueeze(1)
    vector = rows.amax(dim=1)
    alike = (rows == vector.unsqueeze(1)) | (rows == CONSTANT)
    return vector if alike.all() else None


def reduced(labels: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor | None:
    """The labels that are left when an axis is reduced; None if that mixes units."""
    if dim is None or isinstance(dim, Tensor):
        return None
    highest = labels.amax(dim, keepdim)
    return highest if torch.equal(highest, labels.amin(dim, keepdim)) else None


def padded(labels: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """The labels padded as ``torch.nn.functional.pad`` does it."""
    fill = CONSTANT if mode == "constant" else value
    return torch.nn.functional.pad(labels, pad, mode, fill)


def layers_in(labels: Tensor) -> set[int]:
    """Numbers of the layers whose units are labelled, all or some."""
    return {int(number) for number in (labels[labels >= 0] / SPACING).floor().unique().tolist()}


def find_places(vector: Tensor, n_units: dict[int, int]) -> tuple[list[Place], set[int]]:
    """Read off where the units lie along an axis.

    :param vector: their labels
    :param n_units: number of units of each layer
    :return: a place for each layer that has one, and the layers whose units lie there otherwise: in part, in another
        order, or several times
    """
    runs, counts = (each.tolist() for each in torch.unique_consecutive(vector, return_counts=True))
    starts = [0, *itertools.accumulate(counts)]
    places: list[Place] = []
    scattered: set[int] = set()
    for layer in layers_in(vector):
        size = n_units[layer]
        mine = [run for run, label in enumerate(runs) if label // SPACING == layer]
        order = [runs[run] % SPACING for run in mine]
        blocks = {counts[run] for run in mine}
        if order == list(range(size)) and mine == list(range(mine[0], mine[0] + size)) and len(blocks) == 1:
            places.append(Place(layer, starts[mine[0]], blocks.pop()))
        else:
            scattered.add(layer)
    return places, scattered
