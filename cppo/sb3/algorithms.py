"""Ready names: the algorithms of stable-baselines3 with continual backpropagation. PPO's is ``CPPO``.

Each takes the arguments of its parent, then those of ``ContinualBackpropMixin``; with ``replacement_rate=0`` it is its
parent, bit for bit. An algorithm of sb3-contrib or of your own gets the same in one line::

    class ContinualTQC(ContinualBackpropMixin, TQC): ...
"""

from stable_baselines3 import A2C, DDPG, DQN, SAC, TD3

from cppo.sb3.mixin import ContinualBackpropMixin


class ContinualA2C(ContinualBackpropMixin, A2C):
    """``stable_baselines3.A2C`` with continual backpropagation in the actor and the critic."""


class ContinualDQN(ContinualBackpropMixin, DQN):
    """``stable_baselines3.DQN`` with continual backpropagation in the Q-network."""


class ContinualDDPG(ContinualBackpropMixin, DDPG):
    """``stable_baselines3.DDPG`` with continual backpropagation in the actor and, separately, in the critic."""


class ContinualTD3(ContinualBackpropMixin, TD3):
    """``stable_baselines3.TD3`` with continual backpropagation in the actor and, separately, in the critics."""


class ContinualSAC(ContinualBackpropMixin, SAC):
    """``stable_baselines3.SAC`` with continual backpropagation in the actor and, separately, in the critics."""
