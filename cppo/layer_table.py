"""A table of the layers that are watched and of those that are left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import nn

from cppo.checks import unwrapped
from cppo.hidden_layers import HiddenLayer


class LeftOut(NamedTuple):
    """A layer whose units are never replaced.

    :param name: its name in the module
    :param n_units: how many units it has, where that can be told
    :param reason: why they stay
    :param module: the layer
    """

    name: str
    n_units: int | None
    reason: str
    module: nn.Module


def describe(layers: Sequence[HiddenLayer], left_out: Sequence[LeftOut] = (), module: nn.Module | None = None) -> str:
    """A table of the watched layers, followed by one of those left out, with the reasons.

    :param layers: what is watched
    :param left_out: what isn't
    :param module: where the names of readers and norms are looked up
    """
    names: dict[nn.Module, str] = {layer.incoming: layer.name for layer in layers}
    names |= {each.module: each.name for each in left_out}
    if module is not None:
        names |= {submodule: name for name, submodule in unwrapped(module).named_modules() if name}
    rows = [("layer", "units", "activation", "read by (inputs)", "norms")]
    rows += [_row(layer, names) for layer in layers]
    if left_out:
        rows += [("", "", "", "", ""), ("left out", "units", "reason", "", "")]
        rows += [
            (each.name, "-" if each.n_units is None else str(each.n_units), each.reason, "", "") for each in left_out
        ]
    return _table(rows)


def _row(layer: HiddenLayer, names: Mapping[nn.Module, str]) -> tuple[str, str, str, str, str]:
    kind = layer.activation
    activation = type(kind).__name__ if isinstance(kind, nn.Module) else getattr(kind, "__name__", "none")
    readers = _places(layer.outgoing, layer.columns, layer.n_units, names)
    norms = _places(layer.norms, layer.norm_columns, layer.n_units, names)
    return layer.name, str(layer.n_units), activation, readers, norms or "none"


def _places(
    modules: Sequence[nn.Module], columns: Sequence[tuple[int, int]], n_units: int, names: Mapping[nn.Module, str]
) -> str:
    return ", ".join(
        f"{names.get(module) or type(module).__name__} ({start} to {start + n_units * block - 1})"
        for module, (start, block) in zip(modules, columns, strict=True)
    )


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as they have to be; a reason may run on over the columns behind it."""
    widths = [max(len(row[column]) for row in rows if any(row[column + 1 :]) or column < 2) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)
