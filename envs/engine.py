"""PyBullet, imported without its greeting, and connections to it."""

import os
import sys

from gymnasium.error import DependencyNotInstalled

from cppo_envs.quiet import silent_stderr

try:
    with silent_stderr():  # PyBullet greets every process with the time of its build
        import pybullet
        import pybullet_data
except ImportError as error:
    raise DependencyNotInstalled(
        'This environment needs PyBullet: pip install "cppo[pybullet]" (there are wheels for Python up to 3.11).'
    ) from error

__all__ = ["connect", "pybullet", "pybullet_data"]


def connect(window: bool = False) -> int:
    """Open a physics client of its own, with or without a window, and return its number.

    Raises:
        gymnasium.error.DependencyNotInstalled: if a window is asked for where there is no display.
        RuntimeError: if PyBullet has no client left to give.
    """
    if window and sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        # PyBullet would end the process.
        raise DependencyNotInstalled('render_mode="human" needs a display; "rgb_array" works without one')
    client = int(pybullet.connect(pybullet.GUI if window else pybullet.DIRECT))
    if client < 0:
        raise RuntimeError("PyBullet opened no physics client; close environments that are no longer used")
    return client
