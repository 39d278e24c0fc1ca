"""Pictures of MuJoCo's worlds where there may be no screen."""

import contextlib
import os
import sys
from collections.abc import Iterator
from importlib import import_module

from gymnasium.error import DependencyNotInstalled

SHADOW_PIXELS = 1024
"""MuJoCo's default of 4096, with its smoothing of edges, takes 4 times as long where no graphics card draws."""


@contextlib.contextmanager
def without_screen() -> Iterator[None]:
    """Have gymnasium's renderer, within, draw with EGL where there is no screen and ``MUJOCO_GL`` says nothing else.

    Raises:
        gymnasium.error.DependencyNotInstalled: if there is nothing to draw with, or not what ``MUJOCO_GL`` asks for.
    """
    asked = os.environ.get("MUJOCO_GL")
    has_screen = not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY"))
    if asked is None and has_screen:
        yield
        return
    backend = asked or "egl"
    _check(backend, has_screen)
    os.environ["MUJOCO_GL"] = backend
    try:
        yield
    finally:
        if asked is None:
            del os.environ["MUJOCO_GL"]


def _check(backend: str, has_screen: bool) -> None:
    """Open and close a context: gymnasium's renderer would fail with another error, and once more when it is freed."""
    try:
        if backend == "glfw" and not has_screen:
            raise OSError("there is no display")
        import_module(f"mujoco.{backend}").GLContext(1, 1).free()
    except Exception as error:  # of PyOpenGL, of the libraries it loads, of a missing module
        reason = " ".join(str(error).split())
        raise DependencyNotInstalled(
            f"no pictures with MUJOCO_GL={backend}: {reason}; without a screen MuJoCo draws with MUJOCO_GL=egl "
            "(on Debian: apt install libegl1) or MUJOCO_GL=osmesa (libosmesa6)"
        ) from error
