"""The usual remedies against loss of plasticity, one module each; docs/remedies.md lists them with their sources."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cppo.remedies.architecture import remodel
    from cppo.remedies.ccbp import CCBP
    from cppo.remedies.combinations import check_combination
    from cppo.remedies.crelu import CReLU
    from cppo.remedies.l2 import L2
    from cppo.remedies.online_norm import OnlineNorm
    from cppo.remedies.redo import ReDo
    from cppo.remedies.regenerative import RegenerativeRegularization
    from cppo.remedies.registry import REMEDIES
    from cppo.remedies.remedy import Remedy
    from cppo.remedies.reset_last_layers import ResetLastLayers
    from cppo.remedies.sb3_mixin import RemediedCPPO, RemediedPPO, RemediesMixin
    from cppo.remedies.shrink_and_perturb import ShrinkAndPerturb

__all__ = [
    "CCBP",
    "L2",
    "REMEDIES",
    "CReLU",
    "OnlineNorm",
    "ReDo",
    "RegenerativeRegularization",
    "RemediedCPPO",
    "RemediedPPO",
    "RemediesMixin",
    "Remedy",
    "ResetLastLayers",
    "ShrinkAndPerturb",
    "check_combination",
    "remodel",
]

_MODULES = {
    "CCBP": "cppo.remedies.ccbp",
    "CReLU": "cppo.remedies.crelu",
    "L2": "cppo.remedies.l2",
    "OnlineNorm": "cppo.remedies.online_norm",
    "REMEDIES": "cppo.remedies.registry",
    "ReDo": "cppo.remedies.redo",
    "RegenerativeRegularization": "cppo.remedies.regenerative",
    "RemediedCPPO": "cppo.remedies.sb3_mixin",
    "RemediedPPO": "cppo.remedies.sb3_mixin",
    "RemediesMixin": "cppo.remedies.sb3_mixin",
    "Remedy": "cppo.remedies.remedy",
    "ResetLastLayers": "cppo.remedies.reset_last_layers",
    "ShrinkAndPerturb": "cppo.remedies.shrink_and_perturb",
    "check_combination": "cppo.remedies.combinations",
    "remodel": "cppo.remedies.architecture",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: torch takes seconds to import, and not everybody needs it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
