"""The flags of ``evaluate.py``, and what they ask for."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from cppo.files import check_writable
from cppo.report.film import check_film
from cppo.report.friction_plot import check_plot
from cppo.report.side_by_side import shared_grounds, together
from cppo.report.trained_agent import TrainedAgent
from cppo_envs.arguments import whole_number


@dataclasses.dataclass(frozen=True)
class EvaluateFlags:
    """Flags of the command."""

    run: Annotated[Positional[Path | None], arg(metavar="RUN")] = None
    """Folder of a training run."""
    compare: Annotated[tuple[Path, ...], arg(metavar="RUN_A RUN_B ...")] = ()
    """Folders of several runs instead of one: the same frictions and seeds for all, films side by side."""
    episodes: int = 10
    """Episodes at each friction."""
    friction: Annotated[tuple[float, ...], arg(metavar="F1 F2 ...")] = ()
    """Ground frictions; by default those of the training."""
    stochastic: bool = False
    """Draw actions as in training, instead of taking the most likely ones."""
    env_module: str | None = None
    """Module to import, which registers the environment, as it was given to train.py."""
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


def prepare(flags: EvaluateFlags) -> tuple[dict[str, TrainedAgent], list[float | None]]:
    """Read agents and frictions; finds bad input of any kind before the long work starts."""
    for name, minimum in {"episodes": 1, "video_steps": 1, "probe_targets": 1, "probe_steps": 1, "seed": 0}.items():
        whole_number("--" + name.replace("_", "-"), getattr(flags, name), minimum=minimum)
    if (flags.run is None) == (not flags.compare) or len(flags.compare) == 1:
        raise ValueError("give the folder of one run, or --compare and the folders of at least two")
    if flags.json is not None:
        check_writable(flags.json)
    if flags.plot is not None:
        check_plot(flags.plot)
    agents = together(
        [TrainedAgent.load(path, flags.env_module) for path in flags.compare or (flags.run,) if path is not None]
    )
    frictions = shared_grounds(agents, flags.friction)
    if flags.plot is not None and frictions[0] is None:
        raise ValueError("--plot shows the return against friction, which this environment hasn't")
    if flags.video is not None:
        check_film(next(iter(agents.values())), frictions[0], flags.video)
    return agents, frictions
