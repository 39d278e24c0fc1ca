"""Lists all remedies by name."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from cppo.remedies.architecture import CHANGES
from cppo.remedies.ccbp import CCBP
from cppo.remedies.combinations import CBP, check_combination
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
