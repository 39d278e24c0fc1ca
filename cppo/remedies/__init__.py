"""The usual remedies against loss of plasticity, one module each; docs/remedies.md lists them with their sources."""

from cppo.remedies.architecture import remodel
from cppo.remedies.base import Intervention
from cppo.remedies.ccbp import CCBP
from cppo.remedies.crelu import CReLU
from cppo.remedies.l2 import L2
from cppo.remedies.mixin import RemediedCPPO, RemediedPPO, RemediesMixin
from cppo.remedies.online_norm import OnlineNorm
from cppo.remedies.redo import ReDo
from cppo.remedies.regenerative import RegenerativeRegularization
from cppo.remedies.registry import REMEDIES, check_combination
from cppo.remedies.reset_last_layers import ResetLastLayers
from cppo.remedies.shrink_and_perturb import ShrinkAndPerturb

__all__ = [
    "CCBP",
    "L2",
    "REMEDIES",
    "CReLU",
    "Intervention",
    "OnlineNorm",
    "ReDo",
    "RegenerativeRegularization",
    "RemediedCPPO",
    "RemediedPPO",
    "RemediesMixin",
    "ResetLastLayers",
    "ShrinkAndPerturb",
    "check_combination",
    "remodel",
]
