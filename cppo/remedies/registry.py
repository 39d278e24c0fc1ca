"""Lists all remedies by name, and checks which go together."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cppo.remedies.architecture import CHANGES
from cppo.remedies.ccbp import CCBP
from cppo.remedies.l2 import L2
from cppo.remedies.redo import ReDo
from cppo.remedies.regenerative import RegenerativeRegularization
from cppo.remedies.remedy import Remedy
from cppo.remedies.reset_last_layers import ResetLastLayers
from cppo.remedies.shrink_and_perturb import ShrinkAndPerturb

STEP_REMEDIES: dict[str, type[Remedy]] = {
    "l2": L2,
    "regenerative": RegenerativeRegularization,
    "shrink-perturb": ShrinkAndPerturb,
    "redo": ReDo,
    "ccbp": CCBP,
    "reset-last": ResetLastLayers,
}
"""The remedies that act at optimizer steps, by name."""

REMEDIES: dict[str, Callable[..., Any]] = {**STEP_REMEDIES, **CHANGES}
"""All remedies by name: those at optimizer steps and those that are part of the network."""

CBP = "continual backpropagation"
REPLACING_UNITS = ("redo", "ccbp", CBP)
NORMS = ("layer-norm", "online-norm")
PULLS = ("l2", "regenerative")
SET_BY_THE_ALGORITHM = {"module", "optimizer", "slot", "hidden_layers", "layers", "seed", "example_input"}


def check_remedies(remedies: Mapping[str, Mapping[str, Any]], with_cbp: bool) -> None:
    """Check that remedies exist, have the settings they are given, and go together.

    :param with_cbp: whether continual backpropagation is at work besides
    :raises ValueError: names what doesn't fit
    """
    for name, settings in remedies.items():
        if name not in REMEDIES:
            raise ValueError(f"remedy {name!r} is unknown; choose from {', '.join(REMEDIES)}")
        known = [each for each in inspect.signature(REMEDIES[name]).parameters if each not in SET_BY_THE_ALGORITHM]
        if unknown := sorted(set(settings) - set(known)):
            raise ValueError(f"remedy {name!r} has no setting {unknown[0]!r}; it has {', '.join(known) or 'none'}")
    check_combination([*remedies, *([CBP] if with_cbp else [])])


def check_combination(names: Iterable[str]) -> None:
    """Check that remedies, of which continual backpropagation may be one, go together.

    :raises ValueError: names the two that don't, and why
    """
    given = set(names)
    for group, why in (
        (REPLACING_UNITS, "each replaces units in its own way"),
        (NORMS, "one normalisation is enough"),
        (PULLS, "they pull the same weights to different places"),
    ):
        if len(both := [name for name in group if name in given]) > 1:
            raise ValueError(f"{both[0]} and {both[1]} can't be combined: {why}")
    if "crelu" in given and (others := [name for name in REPLACING_UNITS if name in given]):
        raise ValueError(
            f"crelu and {others[0]} can't be combined: a unit with two features has no one mean and no one utility"
        )
