"""Gymnasium's MuJoCo ant, written for speed, and the one of the published Slippery Ant."""

import math
from typing import Any

import mujoco
import numpy as np
from gymnasium.envs.mujoco.ant_v5 import AntEnv
from gymnasium.spaces import Box

from cppo_envs.mujoco_walker import MujocoWalker


class MujocoAnt(MujocoWalker, AntEnv):
    """Gymnasium's ``Ant-v5``, step for step and to the last bit, in less time.

    A four-legged robot with a round torso is to walk as fast as it can along x. One step is 0.05 s, simulated in five
    substeps. ``SlipperyAnt-v5`` is this ant with changing friction; the arguments are those of ``Ant-v5``.

    ## Actions: ``Box(-1, 1, (8,), float32)``

    | index | joint | joint type | value 1 means |
    |---|---|---|---|
    | 0, 1 | hip and ankle of the back right leg | hinge | a torque of 150 N m |
    | 2, 3 | hip and ankle of the front left leg | hinge | a torque of 150 N m |
    | 4, 5 | hip and ankle of the front right leg | hinge | a torque of 150 N m |
    | 6, 7 | hip and ankle of the back left leg | hinge | a torque of 150 N m |

    Torques of actions out of range are clipped; the control cost counts the action as it was given.

    ## Observations: ``Box(-inf, inf, (105,), float64)``

    | index | observation | unit |
    |---|---|---|
    | 0 | height of the torso's centre | m |
    | 1, ..., 4 | orientation of the torso, a quaternion | - |
    | 5, ..., 12 | angles of hip and ankle: front left, front right, back left, back right leg | rad |
    | 13, 14, 15 | velocity of the torso along x, y, z | m/s |
    | 16, 17, 18 | angular velocity of the torso about x, y, z | rad/s |
    | 19, ..., 26 | angular velocities of the joints in the order of 5, ..., 12 | rad/s |
    | 27, ..., 104 | torque and force of the contacts on each of 13 bodies, clipped to [-1, 1] | N m, N |

    ## Reward: the sum of

    | term | value | in ``info`` |
    |---|---|---|
    | forward | speed of the torso along x, in m/s | ``reward_forward`` |
    | healthy | 1 while the ant is healthy | ``reward_survive`` |
    | control | -0.5 x sum of squared actions | ``reward_ctrl`` |
    | contact | -0.0005 x sum of squared contact forces, clipped as above | ``reward_contact`` |

    ``info`` also tells ``x_position``, ``y_position``, ``distance_from_origin``, ``x_velocity`` and ``y_velocity``.

    ## Start and end of an episode

    The ant starts 0.75 m high; to each position uniform noise from [-0.1, 0.1] is added, to each velocity normal noise
    of standard deviation 0.1. The episode terminates when the ant is not healthy: its torso lower than 0.2 m or
    higher than 1 m, or a number of its state not finite; ``gymnasium.make`` truncates it after 1000 steps.
    """

    _first_body = 1
    _paid_for_the_last_step = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make gymnasium's ant, and look up once what every step needs; the arguments are its."""
        super().__init__(*args, **kwargs)
        data = self.data
        self._ctrl, self._qpos, self._qvel, self._cfrc_ext = data.ctrl, data.qpos, data.qvel, data.cfrc_ext
        self._xy, self._xyz, self._torso_xy = data.qpos[:2], data.qpos[:3], data.body(self._main_body).xpos[:2]
        self._ctrl_shape, self._options = data.ctrl.shape, self.model.opt
        self._skipped = 2 * self._exclude_current_positions_from_observation

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.float64, bool, bool, dict[str, Any]]:
        """Apply the torques of ``action`` for 0.05 s; see the class for what is returned.

        Raises:
            ValueError: if the action has another shape.
        """
        if not isinstance(action, np.ndarray):
            action = np.asarray(action)
        if action.shape != self._ctrl_shape:
            raise ValueError(f"action must have the shape {self._ctrl_shape}, got {action.shape}")
        add = np.add.reduce
        x_before, y_before = self._torso_xy.tolist()
        self._ctrl[:] = action
        mujoco.mj_step(self.model, self.data, nstep=self.frame_skip)
        mujoco.mj_rnePostConstraint(self.model, self.data)
        x_after, y_after = self._torso_xy.tolist()
        seconds = self._options.timestep * self.frame_skip
        x_velocity, y_velocity = (x_after - x_before) / seconds, (y_after - y_before) / seconds

        forces = self.contact_forces
        observation = self._observation(forces)
        x_position, y_position, height = self._xyz.tolist()
        # A number that is not finite makes the sum so; where the sum only overflows, the original's test decides.
        is_finite = math.isfinite(add(observation) + x_position + y_position) or np.isfinite(self.state_vector()).all()
        healthy = bool(is_finite) and self._healthy_z_range[0] <= height <= self._healthy_z_range[1]
        terminated = self._terminate_when_unhealthy and not healthy
        forward = x_velocity * self._forward_reward_weight
        survive = (healthy or (self._paid_for_the_last_step and terminated)) * self._healthy_reward
        control = self._ctrl_cost_weight * add(np.square(action), None)
        contact = self._contact_cost_weight * add(np.square(forces), None)
        info = {
            "x_position": x_position,
            "y_position": y_position,
            "distance_from_origin": math.sqrt(self._xy.dot(self._xy)),
            "x_velocity": x_velocity,
            "y_velocity": y_velocity,
            "reward_forward": forward,
            "reward_ctrl": -control,
            "reward_contact": -contact,
            "reward_survive": survive,
        }
        if self.render_mode == "human":
            self.render()
        return observation, forward + survive - (control + contact), terminated, False, info

    @property
    def contact_forces(self) -> np.ndarray:
        """Torque and force of the contacts on each body, clipped, of shape (14, 6)."""
        low, high = self._contact_force_range
        return np.maximum(np.minimum(self._cfrc_ext, high), low)

    def _get_obs(self) -> np.ndarray:
        return self._observation(self.contact_forces)

    def _observation(self, forces: np.ndarray) -> np.ndarray:
        parts = [self._qpos[self._skipped :], self._qvel]
        if self._include_cfrc_ext_in_observation:
            parts.append(forces[self._first_body :].ravel())
        return np.concatenate(parts)


class PublishedAnt(MujocoAnt):
    """The ant of Nature's Slippery Ant: ``Ant-v3`` of gym 0.23 with free-mujoco-py 2.1.6, on today's MuJoCo.

    It is :class:`MujocoAnt` but for three things, in which ``Ant-v5`` has departed from ``Ant-v3``:

    - An observation has 111 numbers: the contact forces on the world itself come before those on the 13 bodies.
    - The contact forces of that release were 0 always (openai/gym, issue 1541). ``SlipperyAnt-v3`` has them so, by the
      argument ``contact_force_range=(0.0, 0.0)``; another range lets them in.
    - The step in which the ant falls is paid 1 for its health like every other.
    """

    _first_body = 0
    _paid_for_the_last_step = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make the ant; the arguments are those of ``Ant-v5``."""
        super().__init__(*args, **kwargs)
        self.observation_space = Box(-np.inf, np.inf, self._get_obs().shape, np.float64)
        self.observation_structure["cfrc_ext"] = self.data.cfrc_ext.size * self._include_cfrc_ext_in_observation
