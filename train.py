"""Train agents from the command line: ``python train.py --help``; the same as ``cppo train``."""

from cppo.command_line import run
from cppo.grids.train_command import main

if __name__ == "__main__":
    run(main)
