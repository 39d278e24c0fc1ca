"""Evaluate, compare and film trained agents: ``python evaluate.py --help``; the same as ``cppo evaluate``."""

from cppo.command_line import run
from cppo.report.evaluate_command import main

if __name__ == "__main__":
    run(main)
