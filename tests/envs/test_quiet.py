"""What PyBullet prints when it is imported stays off the screen; errors don't."""

import subprocess
import sys

import pytest


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_importing_pybullet_prints_nothing():
    pytest.importorskip("pybullet")
    done = run("import cppo_envs.bullet_world")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_only_the_block_is_silent():
    done = run(
        "import os; from cppo_envs.quiet import silent_stderr\n"
        "with silent_stderr(): os.write(2, b'inside')\n"
        "os.write(2, b'after')\n"
        "with silent_stderr(): raise ValueError('out of it')"
    )
    assert done.stderr.startswith("after")
    assert done.stderr.rstrip().endswith("ValueError: out of it")
