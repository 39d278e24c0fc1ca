"""Finds the columns of ``progress.csv`` that describe the networks: plasticity and continual backpropagation."""

from collections.abc import Iterable, Iterator
from typing import Any

from cppo.report.records import GROUPS, Record, is_inside

TELLING = ("dead_share", "dormant_share", "effective_rank", "weight_magnitude")
"""The measures that come first."""
ALL_LAYERS = "all layers"


def inside_columns(records: Iterable[Record]) -> Iterator[tuple[tuple[str, str], str]]:
    """Measure and layer of each such column, with its name.

    ``plasticity/actor.0/dead_share`` is measure ``plasticity/dead_share`` of layer ``actor.0``; ``cbp/replaced`` and
    ``cbp/actor.0/replaced`` are measure ``cbp/replaced`` of all layers and of ``actor.0``, as is what earlier releases
    called ``cbp_policy_net.0/replaced``, of ``policy_net.0``.
    """
    for column in sorted({column for record in records for column in record.columns}):
        first, *layer, measure = column.split("/")
        group, _, layer_in_first = first.partition("_")
        if is_inside(column) and measure != group:
            yield (f"{group}/{measure}", "/".join(layer) or layer_in_first or ALL_LAYERS), column


def measures(keys: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Layers by measure: plasticity comes first, with the most telling measures; what is of all layers comes last."""

    def order(key: tuple[str, str]) -> tuple[Any, ...]:
        group, _, name = key[0].partition("/")
        place = TELLING.index(name) if name in TELLING else len(TELLING)
        return list(GROUPS).index(group), place, name, key[1] == ALL_LAYERS, key[1]

    found: dict[str, list[str]] = {}
    for measure, layer in sorted(set(keys), key=order):
        found.setdefault(measure, []).append(layer)
    return found


def title(measure: str) -> str:
    """How a measure is called in a picture."""
    group, _, name = measure.partition("/")
    on_probe = ", on the probe batch" if name.endswith("_probe") else ""
    return f"{GROUPS[group]}: {name.removesuffix('_probe').replace('_', ' ')}{on_probe}"
