"""Gymnasium environments: the PyBullet ant written for speed, and the ant whose ground friction changes.

``FastAnt-v0`` and ``SlipperyAnt-v0`` are registered as soon as both gymnasium and this package are imported. Where the
package is installed, Python imports it when it starts, so ``gymnasium.make`` finds the environments by name everywhere.
PyBullet is imported only when one of them is made, so that the package works where PyBullet has no wheel.
"""

from cppo_envs.plug_in import ENTRY_POINTS, MAX_EPISODE_STEPS, register_environments, register_when_imported

__all__ = ["ENTRY_POINTS", "MAX_EPISODE_STEPS", "register_environments"]

if __name__ != "cppo_envs":  # the folder of a checkout, found by its own name: every class would be there twice
    raise ImportError('import "cppo_envs": "envs" is only the name of its folder in the repository of cppo')

register_when_imported()
