"""Gymnasium environments: the PyBullet ant written for speed, and the ant whose ground friction changes.

Importing this package registers ``FastAnt-v0`` and ``SlipperyAnt-v0`` and nothing else: PyBullet is imported only when
one of them is made, so that the package works where PyBullet has no wheel.
"""

from gymnasium.envs.registration import register, registry

MAX_EPISODE_STEPS = 1000
"""Steps after which an episode is truncated, as in ``AntBulletEnv-v0``."""

ENTRY_POINTS = {"FastAnt-v0": "cppo_envs.ant:FastAnt", "SlipperyAnt-v0": "cppo_envs.slippery:slippery_ant"}


def register_environments() -> None:
    """Make the environments known to ``gymnasium.make``; calling it again changes nothing."""
    for environment_id, entry_point in ENTRY_POINTS.items():
        if environment_id not in registry:
            # gymnasium's passive checker would cost more per step than the observation; the tests run the full one.
            register(
                environment_id,
                entry_point=entry_point,
                max_episode_steps=MAX_EPISODE_STEPS,
                disable_env_checker=True,
            )


register_environments()
