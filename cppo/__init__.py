"""Agents that keep their plasticity: continual PPO, Slippery Ant, continual backpropagation for any torch module."""

from __future__ import annotations

import importlib
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if signal.getsignal(signal.SIGINT) is signal.default_int_handler and (
    (sys.argv[:1] == ["-m"] and any(word.partition(".")[0] == "cppo" for word in sys.orig_argv))
    or Path(*sys.argv[:1]).name == "cppo"
    or Path(*sys.argv[:1]).resolve() in map(Path(__file__).resolve().parents[1].joinpath, ("train.py", "evaluate.py"))
):  # a command of ours imports for seconds: until command_line.run takes over, Ctrl-C ends it at once
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import cppo_envs  # noqa: F401  registers FastAnt-v0 and SlipperyAnt-v0

if TYPE_CHECKING:
    from cppo.cbp.continual_backprop import ContinualBackprop
    from cppo.layers.find import find_hidden_layers
    from cppo.layers.hidden_layer import HiddenLayer
    from cppo.plasticity.callback import PlasticityCallback
    from cppo.sb3.algorithms import ContinualA2C, ContinualDDPG, ContinualDQN, ContinualSAC, ContinualTD3
    from cppo.sb3.mixin import ContinualBackpropMixin
    from cppo.sb3.ppo import CPPO

__all__ = [
    "CPPO",
    "ContinualA2C",
    "ContinualBackprop",
    "ContinualBackpropMixin",
    "ContinualDDPG",
    "ContinualDQN",
    "ContinualSAC",
    "ContinualTD3",
    "HiddenLayer",
    "PlasticityCallback",
    "find_hidden_layers",
]

_MODULES = {
    "CPPO": "cppo.sb3.ppo",
    "ContinualA2C": "cppo.sb3.algorithms",
    "ContinualBackprop": "cppo.cbp.continual_backprop",
    "ContinualBackpropMixin": "cppo.sb3.mixin",
    "ContinualDDPG": "cppo.sb3.algorithms",
    "ContinualDQN": "cppo.sb3.algorithms",
    "ContinualSAC": "cppo.sb3.algorithms",
    "ContinualTD3": "cppo.sb3.algorithms",
    "HiddenLayer": "cppo.layers.hidden_layer",
    "PlasticityCallback": "cppo.plasticity.callback",
    "find_hidden_layers": "cppo.layers.find",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: torch takes seconds to import, and not everybody needs it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
