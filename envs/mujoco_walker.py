"""What our walkers on MuJoCo add to gymnasium's: their state, copies that go on, and pictures without a screen."""

from typing import Any

import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv
from gymnasium.envs.mujoco.hopper_v5 import HopperEnv
from gymnasium.envs.mujoco.humanoid_v5 import HumanoidEnv
from gymnasium.envs.mujoco.walker2d_v5 import Walker2dEnv

from cppo_envs.mujoco_pictures import SHADOW_PIXELS, without_screen
from cppo_envs.mujoco_state import load_mujoco_state, mujoco_state
from cppo_envs.quiet import silent_stderr
from cppo_envs.specs import PlainSpec


class MujocoWalker(PlainSpec, MujocoEnv):
    """Base of a walker, before gymnasium's class of it.

    A copy, by ``copy.deepcopy`` or pickle, also in another process, goes on from where this one is to the last bit.
    """

    _is_drawing = False

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps and episodes depend on, as plain values and arrays."""
        return mujoco_state(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the state of another walker of this kind; every step equals that walker's to the last bit.

        Raises:
            ValueError: if it is the state of something else.
        """
        load_mujoco_state(self, state)

    def render(self) -> np.ndarray | None:
        """Return a picture, uint8 of shape (height, width, 3), or what gymnasium's walkers return in another mode.

        Raises:
            gymnasium.error.DependencyNotInstalled: if there is nothing to draw with.
        """
        if self._is_drawing or self.render_mode in (None, "human"):
            return super().render()
        with without_screen():
            quality = self.model.vis.quality
            quality.shadowsize, quality.offsamples = SHADOW_PIXELS, 0
            picture = super().render()
        self._is_drawing = True
        return picture

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        with silent_stderr():  # MuJoCo warns of attributes in gymnasium's model files that it will drop
            return super()._initialize_simulation()

    def __getstate__(self) -> dict[str, Any]:
        arguments = super().__getstate__()  # type: ignore[misc]  # of EzPickle, a base of gymnasium's walkers
        return arguments | {"walker": self.state_dict(), "spec": self.spec}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[misc]  # makes a new walker from the arguments of this one
        self.load_state_dict(state["walker"])
        self.spec = state["spec"]


class HalfCheetah(MujocoWalker, HalfCheetahEnv):
    """Gymnasium's ``HalfCheetah-v5``."""


class Hopper(MujocoWalker, HopperEnv):
    """Gymnasium's ``Hopper-v5``."""


class Humanoid(MujocoWalker, HumanoidEnv):
    """Gymnasium's ``Humanoid-v5``."""


class Walker2d(MujocoWalker, Walker2dEnv):
    """Gymnasium's ``Walker2d-v5``."""
