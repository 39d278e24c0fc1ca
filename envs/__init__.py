"""Gymnasium environments: the PyBullet ant written for speed, and walkers whose ground's friction changes.

``FastAnt-v0``, ``SlipperyAnt-v0`` and, on MuJoCo, ``SlipperyAnt-v5`` and others are registered as soon as both
gymnasium and this package are imported. Where the package is installed, Python imports it when it starts, so
``gymnasium.make`` finds the environments by name everywhere. PyBullet and MuJoCo are imported only when an environment
on them is made, so that the package works where there is only one of them, or none.
"""

from cppo_envs.plug_in import CHANGING, ENTRY_POINTS, MAX_EPISODE_STEPS, register_environments, register_when_imported

__all__ = ["CHANGING", "ENTRY_POINTS", "MAX_EPISODE_STEPS", "register_environments"]

if __name__ != "cppo_envs":  # the folder of a checkout, found by its own name: every class would be there twice
    raise ImportError('import "cppo_envs": "envs" is only the name of its folder in the repository of cppo')

register_when_imported()
