"""Tells how a training goes: returns, friction and phase in the logs, a bar or lines on the screen."""

import math
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, NamedTuple

from stable_baselines3.common.callbacks import BaseCallback
from tqdm import tqdm

from cppo_envs.properties import PROPERTIES

SECONDS_BETWEEN_LINES = 10.0
EPISODES_AVERAGED = 100
END_OF_PHASE = 0.1
"""The share of a phase's steps at its end over which returns are averaged."""


class RolloutReturns(NamedTuple):
    """The episodes of the present phase that ended in a rollout.

    :param step: environment steps in all after the rollout
    :param ended: how many episodes
    :param mean: of their returns; 0 without any
    """

    step: int
    ended: int
    mean: float


@dataclass
class PhaseReturns:
    """The last returns of one phase.

    :param phase: its number; None where the environment has no phases
    :param friction: the ground friction, or the value of what else changes, likewise
    :param changing: the name of what changes
    """

    phase: int | None
    friction: float | None
    changing: str = "friction"
    returns: deque[float] = field(default_factory=lambda: deque(maxlen=EPISODES_AVERAGED))
    end: list[RolloutReturns] = field(default_factory=list)
    """Those in the last tenth of a phase, so far; one for all once the next phase has begun."""

    def add(self, rollout: RolloutReturns, window: float) -> None:
        """Take in a rollout and let go of those that lie further back than the window, in steps."""
        self.end = [each for each in [*self.end, rollout] if each.step > rollout.step - window]

    def close(self) -> None:
        """Sum up the end of the phase: there will be no further rollout in it."""
        if self.end:
            ended = sum(each.ended for each in self.end)
            self.end = [RolloutReturns(self.end[-1].step, ended, mean_at_end(self.end) if ended else 0.0)]

    @property
    def mean(self) -> float:
        """Mean return of the last episodes, NaN before the first."""
        return sum(self.returns) / len(self.returns) if self.returns else float("nan")

    def __str__(self) -> str:
        value = "" if self.friction is None else f", {self.changing} {self.friction:.4g}"
        where = "" if self.phase is None else f"phase {self.phase}{value}: "
        if not self.returns:
            return f"{where}no episode has ended"
        return f"{where}return {self.mean:.1f} (mean of the last {len(self.returns)} episodes)"


class _Episode(NamedTuple):
    phase: int | None
    total_reward: float
    distance: float | None


class Progress(BaseCallback):
    """Logs friction, phase and returns with each update, and shows the progress: a bar on a terminal, lines elsewhere.

    ``episodes/return`` is the mean return of the ``episodes/ended`` episodes of the present phase that ended in this
    rollout: every episode counts once, and none of another phase, as happens to ``rollout/ep_rew_mean``, the mean of
    the last hundred. ``episodes/distance`` is the mean of how far the same episodes came, in metres along x, where the
    environment tells ``info["x_position"]``. ``environment/phases_met`` names the phases begun in this rollout.

    :param bar: whether to draw a bar; None: if stderr is a terminal
    :param phase_steps: of a phase; None where there are none
    """

    def __init__(self, bar: bool | None = None, phase_steps: int | None = None) -> None:
        super().__init__()
        self._window = max(1, END_OF_PHASE * (phase_steps or 0))
        self._phases: dict[int | None, PhaseReturns] = {}
        self._rollout: list[_Episode] = []  # those that ended in it
        self._n_phases_logged = 0
        self._show_bar = sys.stderr.isatty() if bar is None else bar
        self._bar: tqdm | None = None

    @property
    def phases(self) -> list[PhaseReturns]:
        """What was seen of each phase, in the order they began."""
        return list(self._phases.values())

    def state_dict(self) -> dict[str, Any]:
        """What was seen so far, for a run that continues."""
        phases = [
            {name: getattr(seen, name) for name in ("phase", "friction", "changing")}
            | {"returns": list(seen.returns), "end": [list(each) for each in seen.end]}
            for seen in self.phases
        ]
        return {"phases": phases, "logged": self._n_phases_logged}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what another had seen."""
        self._n_phases_logged = int(state["logged"])
        for seen in state["phases"]:
            phase, friction = (None if seen[name] is None else float(seen[name]) for name in ("phase", "friction"))
            phase = None if phase is None else int(phase)
            self._phases[phase] = PhaseReturns(phase, friction, str(seen.get("changing", PhaseReturns.changing)))
            self._phases[phase].returns.extend(map(float, seen["returns"]))
            self._phases[phase].end = rollouts_of(seen)

    def _on_training_start(self) -> None:
        self._total = self.locals["total_timesteps"]
        self._started = self._last_line = time.monotonic()
        self._first_step = self.num_timesteps
        if self._show_bar:
            self._bar = tqdm(total=self._total, initial=self.num_timesteps, unit=" steps", unit_scale=True)

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            # Parallel environments enter a phase at different times: one may finish an episode of an earlier phase.
            phase = info.get("phase")
            if phase not in self._phases:
                self._phases[phase] = _begun(phase, info)
            seen = self._phases[phase]
            if "episode" in info:
                seen.returns.append(float(info["episode"]["r"]))
                self._rollout.append(_Episode(phase, seen.returns[-1], info.get("x_position")))
        return True

    def _on_rollout_end(self) -> None:
        now = self.phases[-1]
        self._log(now)
        if self._bar is not None:
            self._bar.set_postfix_str(str(now).split(" (")[0])
            self._bar.update(self.num_timesteps - self._bar.n)
        elif time.monotonic() - self._last_line > SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            speed = (self.num_timesteps - self._first_step) / (self._last_line - self._started)
            print(f"{self.num_timesteps:,} of {self._total:,} steps, {speed:.0f}/s, {now}", file=sys.stderr, flush=True)

    def _log(self, now: PhaseReturns) -> None:
        ended = [episode for episode in self._rollout if episode.phase == now.phase]
        self._rollout.clear()
        self.logger.record("episodes/ended", len(ended))
        mean = fmean(episode.total_reward for episode in ended) if ended else 0.0
        now.add(RolloutReturns(self.num_timesteps, len(ended), mean), self._window)
        if ended:
            self.logger.record("episodes/return", mean)
        distances = [episode.distance for episode in ended if episode.distance is not None]
        if distances:
            self.logger.record("episodes/distance", fmean(distances))
        if now.phase is not None:
            if now.friction is not None:
                self.logger.record(f"environment/{now.changing}", now.friction)
            self.logger.record("environment/phase", now.phase)
            met = " ".join(str(seen.phase) for seen in self.phases[self._n_phases_logged :])
            self.logger.record("environment/phases_met", met, exclude="tensorboard")
            for seen in self.phases[:-1] if met else ():
                seen.close()
            self._n_phases_logged = len(self._phases)

    def close(self) -> None:
        """Finish the bar, also when training was interrupted."""
        if self._bar is not None:
            self._bar.close()


def _begun(phase: int | None, info: dict[str, Any]) -> PhaseReturns:
    """A phase that this step's info tells of, and what has changed with it."""
    changing = next((name for name in PROPERTIES if name in info), None)
    return PhaseReturns(phase, None) if changing is None else PhaseReturns(phase, info[changing], changing)


def mean_at_end(rollouts: Sequence[RolloutReturns], window: float = math.inf) -> float:
    """Mean return of all episodes that ended in the last steps of a phase.

    :param window: how many steps
    :return: NaN if no episode ended
    """
    last = [each for each in rollouts if each.step > rollouts[-1].step - window]
    ended = sum(each.ended for each in last)
    return sum(each.ended * each.mean for each in last) / ended if ended else math.nan


def rollouts_of(phase: dict[str, Any]) -> list[RolloutReturns]:
    """The rollouts at the end of a phase as a checkpoint has them; none in one of an earlier release.

    :raises TypeError: if they are something else
    :raises ValueError: likewise
    """
    return [RolloutReturns(int(step), int(ended), float(mean)) for step, ended, mean in phase.get("end", [])]
