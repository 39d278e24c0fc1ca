"""Look at training runs from the command line: ``python -m cppo.runs --help``."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path
from typing import Annotated

import yaml
from tyro.conf import Positional, arg, subcommand

from cppo.command_line import check_word, or_fail, parse, run
from cppo.reading import shown
from cppo.runs.folder import RunFolder
from cppo.runs.overview import Overview, age, listing

PROGRAM, DESCRIPTION = "python -m cppo.runs", "Look at training runs, also while they are at work."


@dataclasses.dataclass(frozen=True)
class ListFlags:
    """List runs with their state, steps, last return and friction; last the folders that can't be read."""

    folders: Annotated[Positional[tuple[Path, ...]], arg(metavar="FOLDER ...")] = (Path("runs"),)
    """Runs, and folders of runs."""

    def text(self) -> str:
        """One line a run.

        :raises FileNotFoundError: if there is no such folder
        """
        for folder in self.folders:
            if not folder.is_dir():
                raise FileNotFoundError(f"{folder} is no folder")
        return listing(self.folders)


@dataclasses.dataclass(frozen=True)
class ShowFlags:
    """Show all there is to say of a run: where it stands, its settings, versions and command."""

    run: Annotated[Positional[Path], arg(metavar="RUN")]
    """Folder of a training run."""

    def text(self) -> str:
        """Where it stands, then its configuration.

        :raises OSError: if it is no run
        :raises ValueError: if it can't be read
        """
        folder = RunFolder(self.run)
        overview, ending = Overview.read(folder), folder.ending()
        state, steps, last_return, friction = overview.cells()
        standing = {"run": str(folder.path), "state": state, "steps": steps, "return": last_return}
        standing |= {"friction": friction, "updated": age(time.time(), overview.updated)}
        if ending is not None and ending.reason:
            standing["reason"] = ending.reason
        lines = [f"{name + ':':<10}{shown(value)}" for name, value in standing.items()]
        return "\n".join([*lines, "", yaml.safe_dump(folder.record(), sort_keys=False).rstrip()])


COMMANDS = Annotated[ListFlags, subcommand("list")] | Annotated[ShowFlags, subcommand("show")]


def main(args: list[str] | None = None) -> None:
    """Parse, read, print."""
    words = sys.argv[1:] if args is None else args
    if words and not words[0].startswith("-"):
        check_word(PROGRAM, "command", words[0], ("list", "show"))
    flags = parse(COMMANDS, PROGRAM, DESCRIPTION, args=args)  # type: ignore[arg-type, var-annotated]
    print(or_fail(PROGRAM, flags.text))


if __name__ == "__main__":
    run(main)
