"""Gymnasium's MuJoCo walkers on ground whose friction changes every so many steps."""

from collections.abc import Sequence
from typing import Any

from gymnasium.error import DependencyNotInstalled

try:
    import mujoco  # noqa: F401  gymnasium's own message names its extra
except ImportError as error:
    raise DependencyNotInstalled('This environment needs MuJoCo: pip install "cppo[mujoco]"') from error

from cppo_envs.changing import ChangeAt, Changing
from cppo_envs.friction import FrictionSchedule
from cppo_envs.mujoco_ant import MujocoAnt, PublishedAnt
from cppo_envs.mujoco_walker import HalfCheetah, Hopper, Humanoid, MujocoWalker, Walker2d

PUBLISHED_CHANGE_EVERY = 2_000_000
PUBLISHED_FRICTION_RANGE = (0.02, 2.0)
WALKERS: dict[str, type[MujocoWalker]] = {
    "Ant-v3": PublishedAnt,
    "Ant-v5": MujocoAnt,
    "HalfCheetah-v5": HalfCheetah,
    "Hopper-v5": Hopper,
    "Humanoid-v5": Humanoid,
    "Walker2d-v5": Walker2d,
}
DEFAULTS: dict[str, dict[str, Any]] = {"Ant-v3": {"contact_force_range": (0.0, 0.0)}}
"""Arguments of a walker that differ from its class's."""


def slippery_walker(
    walker: str,
    change_every: int | float | None = PUBLISHED_CHANGE_EVERY,
    friction_range: tuple[float, float] = PUBLISHED_FRICTION_RANGE,
    schedule_seed: int = 0,
    frictions: Sequence[float] | None = None,
    change_at: ChangeAt = "episode",
    n_envs: int = 1,
    start_step: int = 0,
    **arguments: Any,
) -> Changing:
    """Make ``SlipperyAnt-v5`` or another walker of gymnasium's on MuJoCo whose friction changes.

    ``SlipperyAnt-v3`` is the task of Dohare et al. in Nature 632 (2024), see
    :class:`cppo_envs.mujoco_ant.PublishedAnt`; ``SlipperyAnt-v5`` the same on today's ``Ant-v5``;
    ``SlipperyHalfCheetah-v5``, ``SlipperyHopper-v5``, ``SlipperyHumanoid-v5`` and ``SlipperyWalker2d-v5`` likewise. The
    friction changes to a value drawn log-uniformly from .02 to 2. The agent is not told.

    The friction is the sliding friction of all geoms, floor included; torsional and rolling friction stay as they are
    (.5 in the ant's model). So does the published environment, which writes "friction .5 .5" into the model's default
    geom (github.com/shibhansh/loss-of-plasticity, ``lop/envs/slippery_ant.py``). MuJoCo takes the larger friction of
    two touching geoms (its documentation, "Modeling", contact parameters), here the same for all.

    Args:
        walker: Name of the walker, such as ``"Ant-v5"``; the ids set it.
        change_every: Steps of a phase, summed over the ``n_envs`` environments; ``None`` or infinity: no change.
        friction_range: Lowest and highest friction to draw.
        schedule_seed: Seed of the sequence of frictions; independent of the seed given to ``reset``.
        frictions: The sequence by hand, repeated; takes the place of ``friction_range`` and ``schedule_seed``.
        change_at: ``"episode"`` or ``"step"``: when a change that is due takes effect.
        n_envs: Number of environments stepped in lockstep.
        start_step: Steps this environment has taken before, in a run that continues.
        arguments: Those of gymnasium's walker: ``render_mode``, ``width``, ``height``, weights of rewards, ...

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: if an argument is out of its range.
    """
    schedule = FrictionSchedule(change_every, friction_range, schedule_seed, frictions)
    env = WALKERS[walker](**DEFAULTS.get(walker, {}) | arguments)
    return Changing(env, schedule, change_at=change_at, n_envs=n_envs, start_step=start_step)
