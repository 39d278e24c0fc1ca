"""Train an agent from the command line: ``python train.py --help``."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import tyro

from cppo.runs.command_line import or_fail, parse, show_warnings_plainly
from cppo.runs.folder import RunFolder
from cppo.runs.settings import Algorithm, Protocol, Settings
from cppo.runs.training import prepare, report, train

PROGRAM = "train.py"
DESCRIPTION = """Train a PPO or continual PPO agent and write its run to a folder.

The defaults shown are those of the chosen --protocol and --algo: add them to --help to see others."""


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The two flags that give all others their defaults."""

    algo: Algorithm = Settings.algo
    protocol: Protocol = Settings.protocol


@dataclasses.dataclass(frozen=True)
class TrainFlags(Settings):
    """Flags of the command: the settings of a run, and where it goes."""

    output: Path | None = None
    """Folder of the run; by default runs/PROTOCOL-ENV-ALGO-seedSEED."""

    def settings(self) -> Settings:
        """The settings without the folder, complete."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(Settings)}
        return Settings(**values).resolved()

    def folder(self) -> RunFolder:
        """Where the run goes."""
        name = f"{self.protocol}-{self.env}-{self.algo}-seed{self.seed}".replace("/", "-")
        return RunFolder(self.output or Path("runs") / name)


def read_flags() -> TrainFlags:
    """Read the protocol and the algorithm first: they give all other flags their defaults, in ``--help`` too."""
    try:
        chosen, _ = tyro.cli(Chosen, return_unknown_args=True, add_help=False, console_outputs=False)
    except SystemExit:
        chosen = Chosen()  # parsing all flags says what is wrong with these
    return parse(TrainFlags, PROGRAM, DESCRIPTION, TrainFlags.from_preset(chosen.protocol, chosen.algo))


def main() -> int:
    """Parse, build, train; the exit code is 130 when the user interrupted."""
    show_warnings_plainly(PROGRAM)
    flags = read_flags()
    settings = or_fail(PROGRAM, flags.settings)
    folder = flags.folder()
    model = or_fail(PROGRAM, prepare, settings, folder, sys.argv)
    outcome = train(model, settings, folder)
    report(outcome, folder)
    return 130 if outcome.interrupted else 0


if __name__ == "__main__":
    sys.exit(main())
