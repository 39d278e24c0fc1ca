"""A trained agent, the grounds it can walk on, and the episodes it plays there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import torch
from stable_baselines3.common.policies import ActorCriticPolicy

import cppo_envs
from cppo.runs.folder import RunFolder
from cppo.settings.settings import Settings
from cppo.training.environments import environment_arguments, make_environment
from cppo.training.progress import END_OF_PHASE, mean_at_end, rollouts_of
from cppo.training.trained_policy import read_policy, read_saved
from cppo_envs.arguments import friction_coefficient
from cppo_envs.friction import FrictionSchedule

MOST_PHASES = 1000
"""More of them aren't told apart in an evaluation or a report, which would take days."""


class Moment(NamedTuple):
    """How far an episode is.

    :param step: steps taken, 0 at the start
    :param total_reward: sum of the rewards so far: at the end, the return
    :param distance: metres walked along x since the start; None where the environment doesn't tell
    :param terminated: whether the task has ended the episode: the ant fell
    :param truncated: whether the time limit has
    """

    step: int
    total_reward: float
    distance: float | None
    terminated: bool
    truncated: bool


@dataclass(frozen=True)
class TrainedAgent:
    """The agent that a training run has made.

    :param phases_met: numbers of the phases of its training; None: not known, all that were due
    :param phase_ends: mean return of the training episodes in the last tenth of each of them that was finished; None:
        its checkpoint doesn't tell
    :param env_module: the module to import, which registers the environment
    """

    folder: RunFolder
    settings: Settings
    steps_trained: int
    policy: ActorCriticPolicy
    phases_met: set[int] | None = None
    phase_ends: dict[int, float] | None = None
    env_module: str | None = None

    @classmethod
    def load(cls, path: Path, env_module: str | None = None) -> TrainedAgent:
        """Read the agent of a run.

        :param env_module: the module to import, which registers the environment; what the run says isn't imported
        :raises ImportError: if it can't be imported
        :raises OSError: if the run or its model is missing
        :raises ValueError: if a file of it can't be read, or the model is of another environment or not finite
        :raises gymnasium.error.Error: if its environment can't be made here
        """
        folder = RunFolder(path)
        settings = folder.settings()
        folder.check_env_module(env_module)
        torch.set_num_threads(settings.torch_threads)
        with make_environment(settings.env, environment_arguments(settings), env_module) as env:
            policy, steps, remembered = read_policy(folder, env)
        met, ends = _phases(folder, remembered, steps, settings)
        return cls(folder, settings, steps or folder.steps_done(), policy, met, ends, env_module)

    @classmethod
    def load_saved(cls, path: Path, env_id: str, env_module: str | None = None) -> TrainedAgent:
        """Read the agent of a file that ``CPPO.save`` wrote.

        :param env_id: the environment it is for, which the file doesn't tell
        :raises ImportError: if the module can't be imported
        :raises OSError: if there is no such file
        :raises ValueError: if it can't be read, or the model is of another environment or not finite
        :raises gymnasium.error.Error: if the environment can't be made here
        """
        with make_environment(env_id, {}, env_module) as env:
            policy, settings = read_saved(path, env, env_id)
        return cls(RunFolder(path), settings, settings.total_timesteps, policy, set(), None, env_module)

    @property
    def last_friction(self) -> float | None:
        """The ground friction it was trained on last; None without a friction schedule."""
        if not self.settings.is_slippery or self.phases_met == set():
            return None
        schedule = friction_schedule(self.settings)
        return schedule.friction(max(self.phases_met) if self.phases_met else self._last_due(schedule))

    def _last_due(self, schedule: FrictionSchedule) -> int:
        return schedule.phase(max(self.steps_trained - 1, 0))

    def _frictions_met(self) -> list[float]:
        """The ground frictions of its training, each once, in the order met; empty without a friction schedule.

        :raises ValueError: if they are too many to evaluate it on each
        """
        if not self.settings.is_slippery:
            return []
        schedule = friction_schedule(self.settings)
        phases = range(self._last_due(schedule) + 1) if self.phases_met is None else sorted(self.phases_met)
        if schedule.values is not None and self.phases_met is None:
            phases = phases[: len(schedule.values)]  # then they come back
        if len(phases) > MOST_PHASES:
            raise ValueError(f"give --friction: the agent of {self.folder.path} was trained on {len(phases):,} of them")
        return list(dict.fromkeys(map(schedule.friction, phases)))

    def grounds(self, frictions: Sequence[float] | None) -> list[float | None]:
        """The frictions to evaluate at, each once.

        :param frictions: as asked for; None: those of the training
        :return: frictions; one None where the environment's ground is not ours to choose
        :raises ValueError: for a friction that is not a finite number above 0, or where there is none to choose
        """
        if not frictions:
            met = self._frictions_met()
            if self.settings.is_slippery and not met:
                raise ValueError(f"give --friction: {self.folder.path} doesn't tell on which its agent was trained")
            return [*met] or [None]
        if not (self.settings.is_slippery or self._is_fast_ant):
            ours = ", ".join((*cppo_envs.CHANGING, "FastAnt-v0"))
            raise ValueError(f"--friction has no effect in {self.settings.env}; it is for {ours}")
        return list(dict.fromkeys(friction_coefficient("--friction", value, allow_zero=False) for value in frictions))

    def make_env(self, friction: float | None, picture_size: tuple[int, int] | None = None) -> gym.Env:
        """Make the agent's environment with a ground that stays as it is.

        :param friction: of the ground; None: the environment's own
        :param picture_size: width and height, if it is to be filmed; environments other than ours choose their own
        """
        arguments: dict[str, Any] = {}
        if self.settings.is_slippery and friction is not None:
            arguments |= {"frictions": [friction], "change_every": None}
        elif friction is not None:
            arguments["ground_friction"] = friction
        if picture_size is not None:
            arguments["render_mode"] = "rgb_array"
            if self.settings.env in cppo_envs.ENTRY_POINTS:
                arguments["width"], arguments["height"] = picture_size
        return make_environment(self.settings.env, arguments, self.env_module)

    def play(self, env: gym.Env, seed: int, deterministic: bool = True) -> Iterator[Moment]:
        """Play an episode; the same seed plays the same one.

        :param seed: of the episode's start and, if not deterministic, of the actions
        :param deterministic: take the most likely action instead of drawing one
        :return: the moment of the start, then one after each step; the environment stands at that moment
        """
        torch.manual_seed(seed)
        if self.policy.use_sde and not deterministic:
            self.policy.reset_noise()
        observation, info = env.reset(seed=seed)
        start = info.get("x_position")
        moment = Moment(0, 0.0, None if start is None else 0.0, False, False)
        yield moment
        while not (moment.terminated or moment.truncated):
            action, _ = self.policy.predict(observation, deterministic=deterministic)
            observation, reward, terminated, truncated, info = env.step(action)
            distance = None if start is None else float(info["x_position"] - start)
            total = moment.total_reward + float(reward)
            moment = Moment(moment.step + 1, total, distance, bool(terminated), bool(truncated))
            yield moment

    @property
    def _is_fast_ant(self) -> bool:
        return self.settings.env.startswith("FastAnt")


def _phases(
    folder: RunFolder, remembered: dict[str, Any], steps: int, settings: Settings
) -> tuple[set[int] | None, dict[int, float] | None]:
    """Find out which phases an agent met, and how it ended those it finished.

    A checkpoint tells without a look into the table, which may have a million rows.

    :param remembered: of its checkpoint, by the names of callbacks
    :raises UnreadableError: if neither can be read
    """
    try:
        seen = remembered["Progress"]["phases"]
        rollouts = {int(each["phase"]): rollouts_of(each) for each in seen if each["phase"] is not None}
    except (KeyError, OverflowError, TypeError, ValueError):
        rollouts = {}
    if not any(rollouts.values()):
        return folder.phases_met(), None
    ends = {}
    for phase, found in rollouts.items():
        start, end = phase_steps(settings, phase)
        if found and steps >= end:
            ends[phase] = mean_at_end(found, max(1, END_OF_PHASE * (end - start)))
    return set(rollouts), ends


def phase_steps(settings: Settings, phase: int) -> tuple[int, int]:
    """The step of a run after which a phase is due, and its last one."""
    total = settings.total_timesteps
    length = settings.change_every or total
    return phase * length, min((phase + 1) * length, total)


def friction_schedule(settings: Settings) -> FrictionSchedule:
    """The sequence of frictions of a run on slippery ground."""
    names = ("change_every", "friction_range", "schedule_seed", "frictions")
    values = {name.removeprefix("schedule_"): getattr(settings, name) for name in names}
    return FrictionSchedule(**{name: value for name, value in values.items() if value is not None})
