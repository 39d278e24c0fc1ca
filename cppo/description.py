"""Tells in a table which layers are watched, and which aren't and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from torch import nn

from cppo.hidden_layers import LAYERS_WITH_UNITS, HiddenLayer

if TYPE_CHECKING:
    from cppo.watched_layer import WatchedLayer

HEADINGS = ("layer", "units", "read by", "replaced", "")


class Description:
    """Names for what a module is made of, taken down when the module is at hand.

    :param module: the module
    :param records: its watched layers
    :param left_out: why other layers are not watched, by name
    """

    def __init__(self, module: nn.Module, records: Sequence[HiddenLayer], left_out: Mapping[str, str]) -> None:
        names = {part: name or type(part).__name__ for name, part in module.named_modules()}
        self.readers = [", ".join(names.get(reader, str(reader)) for reader in record.outgoing) for record in records]
        watched = {record.incoming for record in records}
        self.left_out = dict(left_out)
        for part, name in names.items():
            if isinstance(part, LAYERS_WITH_UNITS) and part not in watched:
                self.left_out.setdefault(name, "not among the layers named")

    def table(self, layers: Sequence[WatchedLayer]) -> str:
        """One line a layer: those watched as they are now, then those left out."""
        rows = [
            (layer.name, str(layer.record.n_units), readers, str(layer.total_replaced), _state(layer))
            for layer, readers in zip(layers, self.readers, strict=True)
        ]
        rows += [(name, "", "", "", f"left out: {reason}") for name, reason in self.left_out.items()]
        widths = [max(len(row[column]) for row in [HEADINGS, *rows]) for column in range(len(HEADINGS))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [HEADINGS, *rows]
        ]
        return "\n".join(line.rstrip() for line in lines)


def _state(layer: WatchedLayer) -> str:
    return "watched" if layer.is_trainable() else "watched, but frozen now"
