"""The flags of ``evaluate.py``, and what they ask for."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cppo.command_line import BAD_INPUT
from cppo.files import check_ours, check_writable
from cppo.report.film import check_film
from cppo.report.friction_plot import check_plot
from cppo.report.side_by_side import shared_grounds, together
from cppo.report.trained_agent import TrainedAgent
from cppo.settings.limits import NoEffectError, check_range, flag
from cppo.settings.settings import split_env
from cppo_envs.arguments import whole_number

BELONG_TO = {"probe_targets": "probe", "probe_steps": "probe", "video_steps": "video"}
"""Flags without effect unless another one is given."""


@dataclasses.dataclass(frozen=True)
class EvaluateFlags:
    """Flags of the command."""

    run: Annotated[Positional[Path | None], arg(metavar="RUN")] = None
    """Folder of a training run, or a file that CPPO.save wrote."""
    compare: Annotated[tuple[Path, ...], arg(metavar="RUN_A RUN_B ...")] = ()
    """Several of them instead of one: the same frictions and seeds for all, films side by side."""
    env: Annotated[str | None, arg(metavar="ID|MODULE:ID")] = None
    """Environment of the agent in a file; a run's folder names its own."""
    episodes: int = 10
    """Episodes at each friction."""
    friction: Annotated[tuple[float, ...], arg(metavar="F1 F2 ...")] = ()
    """Ground frictions; by default those of the training."""
    stochastic: bool = False
    """Draw actions as in training, instead of taking the most likely ones."""
    env_module: str | None = None
    """Module to import, which registers the environment, as it was given to train.py."""
    episode_steps: int = 20_000
    """Cut an episode after so many steps: in an environment without a time limit it may have no end."""
    seed: int = 1000
    """Seed of the first episode; the next ones count up, and each friction sees the same."""
    probe: bool = False
    """Test plasticity: how well the networks fit new targets, against freshly initialised ones."""
    probe_targets: int = 10
    """New targets of the probe, each with a fresh network."""
    probe_steps: int = 500
    """Optimizer steps of the probe towards each target."""
    json: Annotated[Path | None, arg(metavar="FILE")] = None
    """Write all figures, those of each episode included, to this file."""
    plot: Annotated[Path | None, arg(metavar="FILE.png")] = None
    """Draw the return against friction, now and at the end of training there; FILE.svg too."""
    video: Annotated[Path | None, arg(metavar="FILE.mp4")] = None
    """Film the first episode at each friction."""
    video_steps: int = 1000
    """Film at most so many steps of each."""

    def check(self) -> None:
        """Check each flag by itself.

        :raises TypeError: for a value that is no whole number
        :raises ValueError: for one out of range, a flag without effect, and runs that are too few or too many
        """
        for key in ("episodes", "episode_steps", *BELONG_TO):
            whole_number(flag(key), getattr(self, key), minimum=1)
        check_range("seed", self.seed)
        if (self.run is None) == (not self.compare) or len(self.compare) == 1:
            raise ValueError("give one run, or --compare and at least two")
        for key, other in BELONG_TO.items():
            if getattr(self, key) != getattr(EvaluateFlags, key) and not getattr(self, other):
                raise NoEffectError(key, f"without {flag(other)}")
        if self.env is not None and all(path.is_dir() for path in self.paths):
            raise NoEffectError("env", "with the folder of a run, which names its own")

    @property
    def paths(self) -> tuple[Path, ...]:
        """The runs asked for."""
        return self.compare if self.run is None else (self.run,)

    def agent(self, path: Path) -> TrainedAgent:
        """Read the agent of a run's folder, or of a file.

        :raises ValueError: if the file's environment wasn't given
        """
        if path.is_dir() or (self.env is None and not path.is_file()):
            return TrainedAgent.load(path, self.env_module)
        if self.env is None:
            raise ValueError(f"give --env: {path} doesn't tell the environment of its agent")
        if self.probe:
            raise ValueError(f"--probe needs the folder of a run: {path} doesn't tell how its agent was trained")
        module, env_id = split_env(self.env)
        return TrainedAgent.load_saved(path, env_id, self.env_module or module)


def readable(flags: EvaluateFlags) -> Iterator[TrainedAgent]:
    """Read the agents, those of a comparison that can be.

    :raises Exception: one of ``BAD_INPUT``, where none can
    """
    failed: list[tuple[Path, Exception]] = []
    for path in flags.paths:
        try:
            yield flags.agent(path)
        except BAD_INPUT as error:
            failed.append((path, error))
    if len(failed) == len(flags.paths):
        raise failed[0][1]
    for path, reason in failed:
        warnings.warn(f"{path} is left out: {reason}", stacklevel=2)


def prepare(flags: EvaluateFlags) -> tuple[dict[str, TrainedAgent], list[float | None]]:
    """Read agents and frictions; finds bad input of any kind before the long work starts.

    Of several agents those that can't be read are left out, with a warning that says why.
    """
    flags.check()
    if flags.json is not None:
        check_writable(flags.json)
        check_ours(flags.json)
    if flags.plot is not None:
        check_plot(flags.plot)
    agents = together(list(readable(flags)))
    frictions = shared_grounds(agents, flags.friction)
    if flags.plot is not None and frictions[0] is None:
        raise ValueError("--plot shows the return against friction, which this environment hasn't")
    if flags.video is not None:
        check_film(next(iter(agents.values())), frictions[0], flags.video)
    return agents, frictions
