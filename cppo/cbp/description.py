"""Tells in a table which layers are watched, and which aren't and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from cppo.cbp.watched_layer import WatchedLayer
from cppo.layers.hidden_layer import LAYERS_WITH_UNITS, HiddenLayer
from cppo.layers.traced_units import LeftOut

HEADINGS = ("layer", "units", "read by", "replaced", "")


class Description:
    """Names for what is watched, and reasons for what isn't.

    :param readers: for each watched layer, how its readers are called
    :param left_out: why other layers are not watched, by name
    """

    def __init__(self, readers: Sequence[str], left_out: Mapping[str, str]) -> None:
        self.readers = list(readers)
        self.left_out = dict(left_out)

    @classmethod
    def of(cls, module: nn.Module, hidden_layers: Sequence[HiddenLayer], left_out: Sequence[LeftOut]) -> Description:
        """Describe a module by the names its parts have.

        :param module: the module
        :param hidden_layers: its watched layers
        :param left_out: layers that are not watched; of others it says that nobody named them
        """
        known = {layer.incoming for layer in hidden_layers} | {each.module for each in left_out}
        unnamed = {
            name or type(part).__name__: "not among the layers named"
            for name, part in module.named_modules()
            if isinstance(part, LAYERS_WITH_UNITS) and part not in known
        }
        return cls(names_of_readers(module, hidden_layers), {each.name: each.reason for each in left_out} | unnamed)

    def table(self, layers: Sequence[WatchedLayer] = ()) -> str:
        """One line a layer: those watched as they are now, then those left out."""
        rows = [
            (layer.name, str(layer.hidden_layer.n_units), readers, str(layer.total_replaced), _state(layer))
            for layer, readers in zip(layers, self.readers, strict=True)
        ]
        rows += [(name, "", "", "", f"left out: {reason}") for name, reason in self.left_out.items()]
        widths = [max(len(row[column]) for row in [HEADINGS, *rows]) for column in range(len(HEADINGS))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [HEADINGS, *rows]
        ]
        return "\n".join(line.rstrip() for line in lines)


def names_of_readers(module: nn.Module, hidden_layers: Sequence[HiddenLayer]) -> list[str]:
    """How the readers of some layers are called in a module."""
    names = {part: name or type(part).__name__ for name, part in module.named_modules()}
    return [", ".join(names.get(reader, str(reader)) for reader in layer.outgoing) for layer in hidden_layers]


def _state(layer: WatchedLayer) -> str:
    return "watched" if layer.is_trainable() else "watched, but frozen now"
