"""The state of a gymnasium environment on MuJoCo, taken in the middle of an episode, from which another goes on.

For any of them, ``Ant-v5`` as well as our own. MuJoCo's ``mjSTATE_INTEGRATION`` is all that its next step depends on
(its documentation, "Computation", the state); the rest is what gymnasium's environments read before they step.
"""

from typing import Any

import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv

OF_THE_MODEL = ("geom_friction", "pair_friction", "actuator_gear", "jnt_stiffness", "dof_damping")
"""What :class:`cppo_envs.changing.Changing` sets besides gravity."""
OF_THE_STEP_BEFORE = ("xpos", "xipos")
"""Places of bodies, which a step computes from the state *before* its last substep, so that the state doesn't hold
them; a walker's speed is the difference to those after the next step."""


def mujoco_state(env: MujocoEnv) -> dict[str, Any]:
    """Everything that the next steps and episodes depend on, as plain values and arrays."""
    model, data = env.model, env.data
    return {
        "state": _integration_state(env),
        "before": {name: getattr(data, name).copy() for name in OF_THE_STEP_BEFORE},
        "model": {name: getattr(model, name).copy() for name in OF_THE_MODEL} | {"gravity": model.opt.gravity.copy()},
        "fields": {name: getattr(env, name).copy() for name in _own_fields(env)},
        "random": env.np_random.bit_generator.state,
    }


def load_mujoco_state(env: MujocoEnv, state: dict[str, Any]) -> None:
    """Go on from the state of another environment of this kind; every step equals that one's to the last bit.

    Raises:
        ValueError: if it is the state of something else.
    """
    arrays = _arrays_to_fill(env)
    for part, of_part in arrays.items():
        for name, array in of_part.items():
            if name not in state[part] or state[part][name].shape != array.shape:
                raise ValueError(f"{type(env).__name__} can't go on from the state of another environment ({name})")
    if state["state"].shape != _integration_state(env).shape:
        raise ValueError(f"{type(env).__name__} can't go on from the state of another environment")
    for name, array in arrays["model"].items():
        array[:] = state["model"][name]
    _set_integration_state(env, state["state"])
    mujoco.mj_forward(env.model, env.data)  # what is derived from the state, such as where to draw the bodies
    _set_integration_state(env, state["state"])  # with what the solver starts from, which that has changed
    for part in ("before", "fields"):
        for name, array in arrays[part].items():
            array[:] = state[part][name]
    env.np_random.bit_generator.state = state["random"]


def _arrays_to_fill(env: MujocoEnv) -> dict[str, dict[str, np.ndarray]]:
    return {
        "model": {name: getattr(env.model, name) for name in OF_THE_MODEL} | {"gravity": env.model.opt.gravity},
        "before": {name: getattr(env.data, name) for name in OF_THE_STEP_BEFORE},
        "fields": {name: getattr(env, name) for name in _own_fields(env)},
    }


def _own_fields(env: MujocoEnv) -> list[str]:
    """Names of the arrays that the environment itself remembers, such as a goal; views of the physics are not its."""
    return [name for name, value in vars(env).items() if isinstance(value, np.ndarray) and value.flags.owndata]


def _integration_state(env: MujocoEnv) -> np.ndarray:
    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(env.model, kind))
    mujoco.mj_getState(env.model, env.data, state, kind)
    return state


def _set_integration_state(env: MujocoEnv, state: np.ndarray) -> None:
    mujoco.mj_setState(env.model, env.data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
