"""Slippery Ant: a walker on ground whose friction changes every so many steps."""

from collections.abc import Sequence

from cppo_envs.ant import FastAnt
from cppo_envs.bullet_world import ModelName
from cppo_envs.changing import ChangeAt, Changing
from cppo_envs.friction import DEFAULT_CHANGE_EVERY, DEFAULT_FRICTION_RANGE, FrictionSchedule

ChangingFriction = Changing
"""Its first name, which stored specs of environments hold."""


def slippery_ant(
    change_every: int | float | None = DEFAULT_CHANGE_EVERY,
    friction_range: tuple[float, float] = DEFAULT_FRICTION_RANGE,
    schedule_seed: int = 0,
    frictions: Sequence[float] | None = None,
    change_at: ChangeAt = "episode",
    n_envs: int = 1,
    start_step: int = 0,
    render_mode: str | None = None,
    width: int = 320,
    height: int = 240,
    model: ModelName = "merged",
) -> Changing:
    """Make ``SlipperyAnt-v0``: the ant of :class:`cppo_envs.ant.FastAnt` on ground whose friction changes.

    The task of R. Sutton's CoLLAs 2022 talk and of Dohare, Sutton and Mahmood (arXiv 2108.06325): the friction changes
    abruptly every 10 million steps to a value drawn log-uniformly from 1e-4 to 1e4. Observations, actions,
    rewards and ends of episodes are those of FastAnt with the same ``model``; the agent is not told the friction.

    Bullet multiplies the frictions of two touching bodies and clamps the product at 10. The ant's links have 1.5, so
    every ground friction above 6.67 is the same task: with the default range about 40 % of the phases.

    Args:
        change_every: Steps of a phase, summed over the ``n_envs`` environments; ``None`` or infinity: no change.
        friction_range: Lowest and highest friction to draw.
        schedule_seed: Seed of the sequence of frictions; independent of the seed given to ``reset``.
        frictions: The sequence by hand, repeated; takes the place of ``friction_range`` and ``schedule_seed``.
        change_at: ``"episode"`` or ``"step"``: when a change that is due takes effect.
        n_envs: Number of environments stepped in lockstep.
        start_step: Steps this environment has taken before, in a run that continues.
        render_mode: None, ``"rgb_array"`` or ``"human"``.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        model: ``"merged"``: PyBullet's links without mass are merged away, which changes a step's result by
            rounding errors and takes 28 % off its time; ``"original"``: to the last bit the physics of FastAnt's
            default and AntBulletEnv-v0. See docs/speed.md.

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: if an argument is out of its range.
    """
    schedule = FrictionSchedule(change_every, friction_range, schedule_seed, frictions)
    ant = FastAnt(render_mode=render_mode, width=width, height=height, model=model)
    try:
        return Changing(ant, schedule, change_at=change_at, n_envs=n_envs, start_step=start_step)
    except Exception:
        ant.close()
        raise
