"""Run the command: ``python -m cppo.benchmarks --help``."""

from cppo.benchmarks.command import main
from cppo.command_line import run

if __name__ == "__main__":
    run(main)
