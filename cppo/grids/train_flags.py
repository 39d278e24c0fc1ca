"""The flags of ``train.py``: those of one run, and those that make a grid of runs of it."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, get_args

from tyro.conf import arg

from cppo.command_line import fail, or_fail, parse, parse_known, program
from cppo.grids.grid import PlannedRun, expand, seeds
from cppo.grids.grid_file import read_grid
from cppo.runs.folder import RunFolder
from cppo.settings.settings import Algorithm, Protocol, Settings, split_env

PROGRAM = program("train")
DESCRIPTION = """Train a PPO or continual PPO agent and write its run to a folder; several values of --algo or --seed,
or a --grid, train a grid of runs, and the same command again trains what is missing of it.

The defaults shown are those of the chosen --protocol and --algo: add them to --help to see others."""


@dataclass(frozen=True)
class Listed:
    """The flags that may have several values."""

    algo: tuple[Algorithm, ...] = ()
    seed: tuple[str, ...] = ()

    @property
    def is_grid(self) -> bool:
        """Whether they make a grid; a range does, even one of a single seed."""
        return len(self.algo) > 1 or len(self.seed) > 1 or ":" in "".join(self.seed)


@dataclass(frozen=True)
class Source:
    """The flags that give all others their defaults."""

    protocol: Protocol = Settings.protocol
    resume: Path | None = None


@dataclass(frozen=True)
class PlaceFlags:
    """Flags that say where runs are written and trained, and where their environment comes from."""

    env_module: str | None = None
    """Module to import, which registers the environment; --env MODULE:ID is the same."""
    output: Path | None = None
    """Folder of the run, by default runs/PROTOCOL-ENV-ALGO-seedSEED; of a grid, where the folders of its runs go."""
    grid: Annotated[Path | None, arg(metavar="FILE.yaml")] = None
    """Train the grid of runs that this file names, see cppo/grids/grid_file.py; it holds all settings."""
    jobs: int = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    """Runs of a grid trained at a time on this machine; by default as many as there are cores."""
    executor: Literal["local", "ray"] = "local"
    """Train a grid on this machine or on a Ray cluster, a core for each run."""
    ray_address: str | None = None
    """Of the cluster: HOST:PORT, or auto for the one this machine is in; by default this machine alone."""


@dataclass(frozen=True)
class TrainFlags(PlaceFlags, Settings):
    """All flags of the command."""

    algo: Annotated[Algorithm, arg(metavar=f"{{{','.join(get_args(Algorithm))}}} ...")] = Settings.algo
    """PPO, PPO with one remedy, or continual PPO, see README.md and docs/remedies.md; several make a grid."""
    seed: Annotated[int, arg(metavar="SEED|FIRST:END ...")] = Settings.seed
    """Seed of networks, exploration, episodes, and frictions unless --schedule-seed is given; 0:10 is a grid of ten."""
    resume: Annotated[Path | None, arg(metavar="RUN")] = None
    """Folder of a run to continue; all settings are its own, and only --total-timesteps can be raised."""
    trust_state: bool = False
    """With --resume: let environments read their states from checkpoints that you haven't written yourself."""

    @property
    def module(self) -> str | None:
        """The module to import, which registers the environment."""
        return self.env_module or split_env(self.env)[0]

    def settings(self) -> Settings:
        """The settings alone, not resolved yet."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(Settings)}
        return Settings(**values | {"env": split_env(self.env)[1]})

    def folder(self) -> RunFolder:
        """Where a single run goes."""
        return RunFolder(self.resume or self.output or Path("runs") / self.settings().default_name)


def read_flags(args: Sequence[str] | None = None) -> tuple[TrainFlags, list[PlannedRun] | None]:
    """Read the command line; bad input ends the program.

    :param args: by default those of the program
    :return: the flags, those of its first run if it is a grid, and the runs of the grid; None for a single run
    """
    args = sys.argv[1:] if args is None else args
    listed, others = parse_known(Listed, PROGRAM, args)
    for flag in ("algo", "seed"):
        if f"--{flag}" in args and not getattr(listed, flag):
            fail(PROGRAM, f"--{flag} needs a value")
    source, _ = parse_known(Source, PROGRAM, others)
    several = or_fail(PROGRAM, seeds, listed.seed or [Settings.seed])
    defaults = or_fail(PROGRAM, _defaults, source, listed, several[0])
    flags = [parse(TrainFlags, PROGRAM, DESCRIPTION, default, others) for default in defaults]
    or_fail(PROGRAM, _check, flags[0], listed, args)
    if flags[0].grid is not None:
        return flags[0], or_fail(PROGRAM, read_grid, flags[0].grid, flags[0].env_module)
    if not listed.is_grid and flags[0].executor == "local":
        return flags[0], None
    runs = or_fail(PROGRAM, expand, [one.settings() for one in flags], {"seed": several})
    return flags[0], [dataclasses.replace(run, env_module=flags[0].module) for run in runs]


def _defaults(source: Source, listed: Listed, seed: int) -> list[TrainFlags]:
    """The defaults of all flags, for each algorithm: those of the run to resume, or of the protocol."""
    if source.resume is None:
        algos = dict.fromkeys(listed.algo or [Settings.algo])
        return [TrainFlags.from_preset(source.protocol, algo, seed=seed) for algo in algos]
    own = dataclasses.asdict(RunFolder(source.resume).settings())
    given = ({"algo": listed.algo[0]} if listed.algo else {}) | ({"seed": seed} if listed.seed else {})
    return [TrainFlags(**(own | given), resume=source.resume)]


def _check(flags: TrainFlags, listed: Listed, args: Sequence[str]) -> None:
    """Refuse flags that contradict each other."""
    _check_trust(flags)
    if flags.jobs < 1:
        raise ValueError(f"--jobs {flags.jobs} is not allowed: it must be at least 1")
    if flags.ray_address is not None and flags.executor != "ray":
        raise ValueError("--ray-address has no effect without --executor ray")
    if flags.grid is not None:
        _, others = parse_known(PlaceFlags, PROGRAM, args)
        if others:
            raise ValueError(f"{others[0]} has no effect with --grid: {flags.grid} holds all settings of its runs")
    if flags.resume is not None and (listed.is_grid or flags.executor != "local"):
        raise ValueError("--resume continues one run, here; a grid is continued by the command that began it")
    if flags.resume is not None and flags.output is not None:
        raise ValueError("--output has no effect with --resume: the run stays in its folder")


def _check_trust(flags: TrainFlags) -> None:
    """Refuse flags that contradict each other in what is imported and believed."""
    module, _ = split_env(flags.env)
    if module is not None and flags.env_module not in (None, module):
        raise ValueError(f"--env {flags.env} names another module than --env-module {flags.env_module}")
    if flags.trust_state and flags.resume is None:
        raise ValueError("--trust-state has no effect without --resume")
