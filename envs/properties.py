"""What of a world can change: each property by its name, with functions that look it up and set it.

They need no physics engine: PyBullet's walkers set their ground's friction themselves, and MuJoCo's model is arrays.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Property(NamedTuple):
    """Something of a world that a schedule can change.

    Attributes:
        own: Takes the unwrapped environment and returns what ``set`` needs to know of it as it was made, or raises a
            TypeError where the environment has no such property.
        set: Takes the unwrapped environment, what ``own`` returned, and the value.
    """

    own: Callable[[Any], Any]
    set: Callable[[Any, Any, float], None]


def _check_friction(world: Any) -> None:
    if not hasattr(world, "ground_friction"):
        _field(world, "geom_friction", "a settable ground_friction or a MuJoCo model")


def _set_friction(world: Any, own: None, value: float) -> None:
    """Set the ground's friction in PyBullet, and the sliding friction of every geom, floor included, in MuJoCo.

    MuJoCo takes the larger friction of two touching geoms (its documentation, "Modeling", contact parameters), so the
    ground's alone would change nothing where it is lower than the feet's. Pairs written into a model have their own.
    """
    if hasattr(world, "ground_friction"):
        world.ground_friction = value
        return
    world.model.geom_friction[:, 0] = value
    world.model.pair_friction[:, :2] = value


def _set_gravity(world: Any, own: np.ndarray, value: float) -> None:
    world.model.opt.gravity[:] = own * value


def _downwards(world: Any) -> np.ndarray:
    """The direction of gravity: a vector of length 1."""
    gravity = _field(world, "opt").gravity
    length = np.linalg.norm(gravity)
    return gravity / length if length else np.array([0.0, 0.0, -1.0])


def _scaled(field: str, name: str) -> Property:
    """A property in multiples of the model's own values."""

    def own(world: Any) -> np.ndarray:
        values = _field(world, field).copy()
        if not values.any():
            raise TypeError(f"{type(world).__name__} has no {name} to change: it is 0 throughout the model")
        return values

    def set_scaled(world: Any, own: np.ndarray, value: float) -> None:
        getattr(world.model, field)[:] = own * value

    return Property(own, set_scaled)


def _field(world: Any, field: str, needed: str = "a MuJoCo model") -> Any:
    """A field of the environment's MuJoCo model."""
    if not hasattr(getattr(world, "model", None), field):
        raise TypeError(f"env must have {needed}, which {type(world).__name__} has not")
    return getattr(world.model, field)


PROPERTIES = {
    "friction": Property(_check_friction, _set_friction),
    "gravity": Property(_downwards, _set_gravity),
    "gear": _scaled("actuator_gear", "gear"),
    "stiffness": _scaled("jnt_stiffness", "stiffness"),
    "damping": _scaled("dof_damping", "damping"),
}
"""By name. ``friction``: a coefficient; ``gravity``: in m/s², downwards as the model has it; ``gear``, the strength of
the actuators, ``stiffness`` and ``damping`` of the joints: times the model's own."""
