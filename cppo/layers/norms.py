"""The normalisations that keep a slice for each unit, and what a new unit's slice is."""

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

NORMS = (_NormBase, nn.LayerNorm, nn.RMSNorm)
"""Normalisations that keep a slice for each unit (batch, instance, layer, root mean square); see also ``is_norm``."""

SEPARATING_NORMS = (_NormBase,)
"""Those that work on each unit by itself; the statistics of the others depend on all units."""

VALUES_OF_NEW_NORMS = {
    "weight": 1.0,
    "scale": 1.0,
    "bias": 0.0,
    "running_mean": 0.0,
    "running_var": 1.0,
    "ra_mean": 0.0,
    "ra_var": 1.0,
    "control_mean": 0.0,
    "control_var": 0.0,
}
"""Initial values of a normalisation: names as in torch's modules, sb3-contrib's ``BatchRenorm``, ``OnlineNorm``."""

NORMS_BY_NAME = {"BatchRenorm", "OnlineNorm"}


def is_norm(module: nn.Module) -> bool:
    """Whether a module is a normalisation that keeps a slice for each unit; some go by their name."""
    return isinstance(module, NORMS) or any(kind.__name__ in NORMS_BY_NAME for kind in type(module).__mro__)


def norm_width(norm: nn.Module) -> int:
    """Number of features (channels) a normalisation is for; of a shape, the first axis counts."""
    shape = getattr(norm, "normalized_shape", None) or getattr(norm, "num_features", None)
    if shape is None:  # it doesn't say, but its slices do
        slices = (getattr(norm, name, None) for name in VALUES_OF_NEW_NORMS)
        shape = next((each.shape for each in slices if isinstance(each, Tensor) and each.ndim), 0)
    return int(shape if isinstance(shape, int) else shape[0])
