"""A world of which one property changes every so many steps."""

from collections.abc import Mapping
from typing import Any, Literal, SupportsFloat

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs

from cppo_envs.arguments import whole_number
from cppo_envs.friction import FrictionSchedule, Schedule
from cppo_envs.properties import PROPERTIES

ChangeAt = Literal["episode", "step"]


class Changing(gym.Wrapper[np.ndarray, np.ndarray, np.ndarray, np.ndarray], RecordConstructorArgs):
    """Changes a property of the world as a schedule says.

    The phase due is ``schedule.phase(n_envs * steps_taken)``. ``info["phase"]`` and the value under the property's
    name, such as ``info["friction"]``, of ``reset`` and of every step tell what the physics uses at that moment. The
    wrapper counts the steps of all episodes.

    | property | of | values |
    |---|---|---|
    | ``friction`` | PyBullet's walkers: the ground; MuJoCo: all geoms, floor included, sliding | coefficient |
    | ``gravity`` | MuJoCo | m/s², downwards |
    | ``gear`` | MuJoCo: the strength of all actuators | times the model's own |
    | ``stiffness`` | MuJoCo: all joints' | times the model's own |
    | ``damping`` | MuJoCo: all joints' | times the model's own |

    Example:
        >>> import gymnasium as gym
        >>> from cppo_envs.friction import Schedule
        >>> env = gym.make("HalfCheetah-v5")
        >>> env = Changing(env, property="stiffness", schedule=Schedule(change_every=1000, values=[1.0, 0.25]))
        >>> observation, info = env.reset(seed=0)
        >>> info["phase"], info["stiffness"]
        (0, 1.0)
        >>> env.close()

    Args:
        env: An environment on MuJoCo, or a walker whose unwrapped environment has a settable ``ground_friction``.
        schedule: The values and the length of a phase; as a schedule or as the arguments that make it, which is how
            ``env.spec`` holds it.
        change_at: ``"episode"``: a change waits for the next start of an episode; ``"step"``: it comes with the first
            step of its phase, in the middle of an episode if need be.
        n_envs: Number of environments stepped in lockstep, this one included. A change is due when the sum of their
            steps passes a multiple of ``schedule.change_every``.
        start_step: Steps this environment has taken before, in a run that continues.
        property: Name of what changes.

    Raises:
        TypeError: if the environment has no such property, or an argument is of the wrong type.
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        env: gym.Env[np.ndarray, np.ndarray],
        schedule: Schedule | Mapping[str, Any],
        change_at: ChangeAt = "episode",
        n_envs: int = 1,
        start_step: int = 0,
        property: str = "friction",
    ) -> None:
        """Wrap the environment and set the value that is due."""
        gym.Wrapper.__init__(self, env)
        if property not in PROPERTIES:
            raise ValueError(f"property must be one of {', '.join(PROPERTIES)}, got {property!r}")
        self.property = property
        self._world: Any = env.unwrapped
        self._own = PROPERTIES[property].own(self._world)
        if change_at not in ("episode", "step"):
            raise ValueError(f'change_at must be "episode" or "step", got {change_at!r}')
        self.schedule = schedule if isinstance(schedule, Schedule) else _schedule(property, schedule)
        self.change_at = change_at
        self.n_envs = whole_number("n_envs", n_envs, minimum=1)
        self._steps_taken = whole_number("start_step", start_step, minimum=0)
        RecordConstructorArgs.__init__(
            self,
            schedule=self.schedule.arguments(),
            change_at=change_at,
            n_envs=self.n_envs,
            start_step=self._steps_taken,
            property=property,
        )
        self._phase = -1
        self._start_due_phase()

    @property
    def steps_taken(self) -> int:
        """Steps this environment has taken in all episodes; set it to continue an earlier run.

        A change that the new number makes due comes as ``change_at`` says.
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
        """Start an episode, with the value that is due."""
        self._start_due_phase()
        observation, info = self.env.reset(seed=seed, options=options)
        return observation, self._tell(info)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, SupportsFloat, bool, bool, dict[str, Any]]:
        """Take a step, with ``change_at="step"`` at the value that is due."""
        self.before_step()
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.after_step(info)
        return observation, reward, terminated, truncated, info

    def before_step(self) -> None:
        """Start the phase that is due if it need not wait; for those who step the world themselves."""
        if self.change_at == "step":
            self._start_due_phase()

    def after_step(self, info: dict[str, Any]) -> None:
        """Count a step taken and add to its ``info``; likewise."""
        self._steps_taken += 1
        self._tell(info)

    def state_dict(self) -> dict[str, Any]:
        """The wrapper's own memory, for a run that continues; the world has its own."""
        return {"steps_taken": self._steps_taken, "phase": self._phase}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where another wrapper was; give the world its own state as well, which holds the property."""
        self._steps_taken, self._phase = state["steps_taken"], state["phase"]
        self._value = self.schedule.value(self._phase)

    def _start_due_phase(self) -> None:
        phase = self.schedule.phase(self._steps_taken * self.n_envs)
        if phase != self._phase:
            self._value = self.schedule.value(phase)
            PROPERTIES[self.property].set(self._world, self._own, self._value)
            self._phase = phase

    def _tell(self, info: dict[str, Any]) -> dict[str, Any]:
        info[self.property] = self._value
        info["phase"] = self._phase
        return info


def _schedule(property: str, arguments: Mapping[str, Any]) -> Schedule:
    """The schedule that the arguments make: frictions have names of their own."""
    has_own_names = property == "friction" and not arguments.keys() & {Schedule.range_name, Schedule.values_name}
    return FrictionSchedule(**arguments) if has_own_names else Schedule(**arguments)
