"""Every command of the package under one name: ``cppo train``, or ``python -m cppo train``; see ``cppo --help``."""

import importlib
import sys

from cppo.command_line import aligned, check_word, run

COMMANDS = {
    "train": ("cppo.grids.train_command", "train an agent, or a grid of them"),
    "evaluate": ("cppo.report.evaluate_command", "evaluate, compare and film trained agents"),
    "report": ("cppo.report.__main__", "compare many runs by method: curves, statistics, one HTML page"),
    "runs": ("cppo.runs.__main__", "list runs and show one, also while they train"),
    "benchmarks": ("cppo.benchmarks.command", "the supervised problems on which loss of plasticity was first shown"),
}
"""By name, the module whose ``main`` it is, imported only if asked for, and what it does."""


def main() -> int | None:
    """Run the command that was typed."""
    name, *words = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        rows = [(f"  {command}", does) for command, (_, does) in COMMANDS.items()]
        print(f"usage: cppo COMMAND ...\n\n{aligned(rows)}\n\ncppo COMMAND --help tells more of each.")
        return 0
    check_word("cppo", "command", name, COMMANDS)
    code: int | None = importlib.import_module(COMMANDS[name][0]).main(words)
    return code


def command() -> None:
    """What the installed script runs."""
    run(main)


if __name__ == "__main__":
    command()
