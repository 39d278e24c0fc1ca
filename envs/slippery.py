"""Slippery Ant: a walker on ground whose friction changes every so many steps."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from cppo_envs.ant import FastAnt
from cppo_envs.arguments import whole_number
from cppo_envs.bullet_world import ModelName
from cppo_envs.friction import DEFAULT_CHANGE_EVERY, DEFAULT_FRICTION_RANGE, FrictionSchedule

ChangeAt = Literal["episode", "step"]


class ChangingFriction(gym.Wrapper[np.ndarray, np.ndarray, np.ndarray, np.ndarray], RecordConstructorArgs):
    """Changes the ground friction of a walker as a schedule says.

    The phase due is ``schedule.phase(n_envs * steps_taken)``. ``info["friction"]`` and ``info["phase"]`` of ``reset``
    and of every step tell what the physics uses at that moment. The wrapper counts the steps of all episodes.

    Example:
        >>> from cppo_envs.ant import FastAnt
        >>> env = ChangingFriction(FastAnt(), FrictionSchedule(change_every=1000, frictions=[0.8, 0.1]))
        >>> observation, info = env.reset(seed=0)
        >>> info["phase"], info["friction"]
        (0, 0.8)
        >>> env.close()

    Args:
        env: A walker whose unwrapped environment has a settable ``ground_friction``.
        schedule: The frictions and the length of a phase; as a schedule or as the arguments that make it, which is how
            ``env.spec`` holds it.
        change_at: ``"episode"``: a change waits for the next start of an episode; ``"step"``: it comes with the first
            step of its phase, in the middle of an episode if need be.
        n_envs: Number of environments stepped in lockstep, this one included. A change is due when the sum of their
            steps passes a multiple of ``schedule.change_every``.
        start_step: Steps this environment has taken before, in a run that continues.

    Raises:
        TypeError: if the walker has no ``ground_friction``, or an argument is of the wrong type.
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        env: gym.Env[np.ndarray, np.ndarray],
        schedule: FrictionSchedule | Mapping[str, Any],
        change_at: ChangeAt = "episode",
        n_envs: int = 1,
        start_step: int = 0,
    ) -> None:
        """Wrap the walker and put it on the friction that is due."""
        gym.Wrapper.__init__(self, env)
        if not hasattr(env.unwrapped, "ground_friction"):
            raise TypeError(f"env must have a settable ground_friction, which {type(env.unwrapped).__name__} has not")
        if change_at not in ("episode", "step"):
            raise ValueError(f'change_at must be "episode" or "step", got {change_at!r}')
        self.schedule = schedule if isinstance(schedule, FrictionSchedule) else FrictionSchedule(**schedule)
        self.change_at = change_at
        self.n_envs = whole_number("n_envs", n_envs, minimum=1)
        self._steps_taken = whole_number("start_step", start_step, minimum=0)
        RecordConstructorArgs.__init__(
            self,
            schedule=self.schedule.arguments(),
            change_at=change_at,
            n_envs=self.n_envs,
            start_step=self._steps_taken,
        )
        self._phase = -1
        self._walker: Any = env.unwrapped
        self._start_due_phase()

    @property
    def steps_taken(self) -> int:
        """Steps this environment has taken in all episodes; set it to continue an earlier run.

        A change of friction that the new number makes due comes as ``change_at`` says.
        """
        return self._steps_taken

    @steps_taken.setter
    def steps_taken(self, steps: int) -> None:
        self._steps_taken = whole_number("steps_taken", steps, minimum=0)

    @property
    def phase(self) -> int:
        """Number of the phase at work, counted from 0; with ``change_at="episode"`` it can lag behind the one due."""
        return self._phase

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode, on the friction that is due."""
        self._start_due_phase()
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, self._with_friction(info)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step, with ``change_at="step"`` on the friction that is due."""
        self.before_step()
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.after_step(info)
        return observation, reward, terminated, truncated, info

    def before_step(self) -> None:
        """Start the phase that is due if it need not wait; for those who step the walker themselves."""
        if self.change_at == "step":
            self._start_due_phase()

    def after_step(self, info: dict[str, Any]) -> None:
        """Count a step taken and add to its ``info``; likewise."""
        self._steps_taken += 1
        self._with_friction(info)

    def state_dict(self) -> dict[str, Any]:
        """The wrapper's own memory, for a run that continues; the walker has its own."""
        return {"steps_taken": self._steps_taken, "phase": self._phase}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another wrapper was; give the walker its own state as well, which holds the friction."""
        self._steps_taken, self._phase = state["steps_taken"], state["phase"]

    def _start_due_phase(self) -> None:
        phase = self.schedule.phase(self._steps_taken * self.n_envs)
        if phase != self._phase:
            self._walker.ground_friction = self.schedule.friction(phase)
            self._phase = phase

    def _with_friction(self, info: dict[str, Any]) -> dict[str, Any]:
        info["friction"] = self._walker.ground_friction
        info["phase"] = self._phase
        return info


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
) -> ChangingFriction:
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
        return ChangingFriction(ant, schedule, change_at=change_at, n_envs=n_envs, start_step=start_step)
    except Exception:
        ant.close()
        raise
