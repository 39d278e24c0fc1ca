"""The usual remedies against loss of plasticity, one module each; docs/remedies.md lists them with their sources."""

from cppo.remedies.architecture import remodel
from cppo.remedies.ccbp import CCBP
from cppo.remedies.crelu import CReLU
from cppo.remedies.l2 import L2
from cppo.remedies.online_norm import OnlineNorm
from cppo.remedies.redo import ReDo
from cppo.remedies.regenerative import RegenerativeRegularization
from cppo.remedies.registry import REMEDIES, check_combination
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
