"""What an algorithm with continual backpropagation tells its user: when it will act, and what it did."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from cppo.sb3.update_rhythm import find_rhythm, steps_until_first_replacement

if TYPE_CHECKING:
    from cppo.cbp.continual_backprop import ContinualBackprop
    from cppo.cbp.watched_layer import WatchedLayer
    from cppo.sb3.mixin import ContinualBackpropMixin

QUANTILES = {"min": 0.0, "median": 0.5, "max": 1.0}


def layer_figures(
    layers: Sequence[WatchedLayer], before: Sequence[int], now: Sequence[int]
) -> Iterator[tuple[str, float]]:
    """What to log of each layer: units replaced since the last time and so far, quantiles of age and utility.

    :param layers: the watched layers
    :param before: how many units of each were replaced when it was last logged
    :param now: how many are by now
    :return: names and values
    """
    for layer, old, new in zip(layers, before, now, strict=True):
        name = f"cbp_{layer.name.removeprefix('mlp_extractor.')}"
        yield f"{name}/replaced", new - old
        yield f"{name}/total_replaced", new
        for key, values in (("age", layer.age.float()), ("utility", layer.utility)):
            levels = torch.tensor(list(QUANTILES.values()), device=values.device)
            for quantile, value in zip(QUANTILES, values.quantile(levels).tolist(), strict=True):
                yield f"{name}/{key}_{quantile}", value


def announce_first_replacement(
    model: ContinualBackpropMixin, networks: Mapping[str, ContinualBackprop], total_timesteps: int, n_steps_done: int
) -> bool:
    """Say when the first replacement is due; warn if it won't come, or if maturity leaves nothing to choose from.

    :return: whether a warning said that no unit will be replaced
    """
    active = {name: network for name, network in networks.items() if network.replacement_rate > 0}
    if not active:
        return False
    _warn_of_haste(model)
    if model.continual_backprop.total_replaced:
        return False
    rhythm = find_rhythm(model, n_steps_done)
    optimizer_steps = {name: steps_until_first_replacement(network) for name, network in active.items()}
    if rhythm is None:
        _say(model, min(optimizer_steps.values()), "optimizer")
        return False
    due = min(rhythm.env_steps(steps, name) for name, steps in optimizer_steps.items())
    _say(model, due, "environment")
    if due <= total_timesteps:
        return False
    warnings.warn(
        f"no unit will be replaced in {total_timesteps:,} environment steps: the first is due after {due:,} "
        f"(maturity_threshold={model.maturity_threshold} counts optimizer steps)",
        stacklevel=4,
    )
    return True


def _warn_of_haste(model: ContinualBackpropMixin) -> None:
    smallest = min(layer.hidden_layer.n_units for layer in model.continual_backprop.layers)
    if model.replacement_rate == 1 or smallest < 1 + model.replacement_rate * model.maturity_threshold:
        warnings.warn(
            f"replacement_rate={model.replacement_rate} replaces all mature units at once: with a maturity of "
            f"{model.maturity_threshold} steps a layer of {smallest} units has fewer than one to choose from",
            stacklevel=5,
        )


def _say(model: ContinualBackpropMixin, due: int, unit: str) -> None:
    if model.verbose >= 1:
        print(f"Continual backpropagation replaces its first unit after {due:,} {unit} steps")
