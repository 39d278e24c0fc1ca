"""Agents that keep their plasticity: continual PPO, Slippery Ant, continual backpropagation for any torch module."""

import signal
import sys
from pathlib import Path

if signal.getsignal(signal.SIGINT) is signal.default_int_handler and (
    (sys.argv[:1] == ["-m"] and any(word.startswith("cppo.") for word in sys.orig_argv))
    or Path(*sys.argv[:1]).resolve() in map(Path(__file__).resolve().parents[1].joinpath, ("train.py", "evaluate.py"))
):  # a command of ours imports for seconds: until command_line.run takes over, Ctrl-C ends it at once
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import cppo_envs  # noqa: F401  registers FastAnt-v0 and SlipperyAnt-v0
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
