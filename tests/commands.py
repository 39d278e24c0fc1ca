"""Runs a command of ours in the tests' process, which saves the seconds of imports."""

import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TRAIN, EVALUATE = ROOT / "train.py", ROOT / "evaluate.py"


def run_here(monkeypatch: pytest.MonkeyPatch, script: Path, *flags: object) -> int:
    """Run a script as the main program; its exit code."""
    monkeypatch.setattr(sys, "argv", [script.name, *map(str, flags)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    return end.value.code or 0
