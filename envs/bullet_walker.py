"""A walker in PyBullet on the stadium's plane, written for speed."""

import dataclasses
import math
import weakref
from typing import Any, ClassVar, get_args

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from cppo_envs.arguments import friction_coefficient, plain, whole_number
from cppo_envs.bullet_world import STEP_SECONDS, BulletWorld, ModelName, WalkerModel
from cppo_envs.camera import FollowCamera, follow_in_window
from cppo_envs.engine import connect, pybullet
from cppo_envs.summation import means_of_power_and_heat

STADIUM_FRICTION = 0.8
TARGET_X = 1e3
"""The walker is to go to a point this many metres along x, and never gets there."""

OBSERVATION_LIMIT = 5.0
ELECTRICITY_COST = -2.0
STALL_TORQUE_COST = -0.1
JOINT_LIMIT_COST = -0.1
# The original compares single-precision positions with the single-precision 0.99; a double is rounded to one above
# that exactly when it lies above the middle between it and its upper neighbour.
_LIMIT = np.float32(0.99)
AT_LIMIT = (float(_LIMIT) + float(np.nextafter(_LIMIT, np.float32(1)))) / 2


STATE_OF_EPISODE = ("feet_contact", "start_height", "potential", "x_position")
"""What a walker remembers from step to step besides the physics."""
OF_CLIENT = ("_client", "_disconnect", "_world", "_robot", "_joints", "_camera")
"""What belongs to a walker's own physics client and is of no use to another."""


class BulletWalker(gym.Env[np.ndarray, np.ndarray]):
    """Base of walkers that are paid for their speed along x; subclasses set ``model``.

    Observations and rewards are those of ``pybullet_envs_gymnasium``, to the last bit. What makes it fast is that all
    joints and all links are read with one call each, all torques are set with one, and one asks for the contacts.

    A copy, by ``copy.deepcopy`` or pickle, also in another process, is a walker with a physics client of its own, and
    goes on from where this one is to the last bit.

    Args:
        ground_friction: Friction coefficient of the ground.
        render_mode: None, ``"rgb_array"`` or ``"human"``.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
        model: ``"original"``: the MJCF file as PyBullet loads it; ``"merged"``: the same without its massless links,
            see ``envs/merged_model.py``.

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: if an argument is out of its range.
        gymnasium.error.DependencyNotInstalled: if ``"human"`` is asked for where there is no display.
    """

    model: ClassVar[WalkerModel]
    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["human", "rgb_array"],
        "render_fps": 1 / STEP_SECONDS,
    }

    def __init__(
        self,
        ground_friction: float = STADIUM_FRICTION,
        render_mode: str | None = None,
        width: int = 320,
        height: int = 240,
        model: ModelName = "original",
    ) -> None:
        """Check the arguments and load the walker into a physics client of its own."""
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f'render_mode must be None, "human" or "rgb_array", got {render_mode!r}')
        if model not in get_args(ModelName):
            raise ValueError(f'model must be "original" or "merged", got {model!r}')
        self.render_mode = render_mode
        self.width = whole_number("width", width, minimum=1)
        self.height = whole_number("height", height, minimum=1)
        self._ground_friction = friction_coefficient("ground_friction", ground_friction)
        self._merged = model == "merged"
        self._spec: EnvSpec | None = None
        self._open()
        self._world.set_ground_friction(self._ground_friction)
        n_joints, n_feet = len(self._joints), len(self._world.feet)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (n_joints,), np.float32)
        self.observation_space = gym.spaces.Box(
            -OBSERVATION_LIMIT, OBSERVATION_LIMIT, (8 + 2 * n_joints + n_feet,), np.float32
        )
        self._to_target = np.empty(2)
        self._speed_entries = slice(9, 9 + 2 * n_joints, 2)

    def _open(self) -> None:
        """Open a physics client and load the walker into it."""
        self._client = connect(window=self.render_mode == "human")
        # Also runs when the environment is forgotten without close(), so that no world is left behind.
        self._disconnect = weakref.finalize(self, pybullet.disconnect, self._client)
        self._world = BulletWorld(self._client, self.model, merged=self._merged)
        self._camera: FollowCamera | None = None
        # Attributes of the world that every step needs.
        self._robot, self._joints = self._world.robot, self._world.joints

    def __getstate__(self) -> dict[str, Any]:
        kept = {name: value for name, value in self.__dict__.items() if name not in OF_CLIENT}
        return kept | {"physics": self._world.save() if self._disconnect.alive else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update({name: value for name, value in state.items() if name != "physics"})
        self._open()
        if state["physics"] is None:
            self.close()  # as the one copied was
            return
        self._world.restore(state["physics"])
        self._world.set_ground_friction(self._ground_friction)

    @property
    def spec(self) -> EnvSpec | None:
        """What ``gymnasium.make`` made the environment from, its arguments as plain values that go through JSON."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        self._spec = None if spec is None else dataclasses.replace(spec, kwargs=plain(spec.kwargs))

    @property
    def ground_friction(self) -> float:
        """Friction coefficient of the ground, without unit; setting it takes effect with the next step."""
        return self._ground_friction

    @ground_friction.setter
    def ground_friction(self, friction: float) -> None:
        self._ground_friction = friction_coefficient("ground_friction", friction)
        self._world.set_ground_friction(self._ground_friction)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Put the walker back to its start, its joints bent by up to 0.1 rad at random; no ``options`` are known."""
        super().reset(seed=seed)
        world = self._world
        world.restore_start()
        world.set_ground_friction(self._ground_friction)
        for joint, angle in zip(self._joints, self.np_random.uniform(-0.1, 0.1, len(self._joints)), strict=True):
            pybullet.resetJointState(self._robot, joint, angle, 0.0, physicsClientId=self._client)
            world.disable_motor(joint)
        self._feet_contact = [0.0] * len(world.feet)
        self._start_height = pybullet.getBasePositionAndOrientation(self._robot, self._client)[0][2]
        observation = self._observe()[0]
        return observation, {"x_position": self._x_position}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Apply the torques of ``action`` for 0.0165 s; see the class for what is returned.

        Raises:
            ValueError: if the action has another shape, a NaN or an infinity.
        """
        action, torques = self._torques(action)
        pybullet.setJointMotorControlArray(
            self._robot, self._joints, pybullet.TORQUE_CONTROL, forces=torques, physicsClientId=self._client
        )
        pybullet.stepSimulation(self._client)

        old_potential = self._potential
        observation, height, joint_speeds, joints_at_limit, pitch = self._observe()
        # After the observation, which therefore holds the contacts of the step before, as the original's does.
        self._feet_contact = self._read_feet_contact()

        alive = 1.0 if self.model.is_alive(height, pitch) else -1.0
        progress = self._potential - old_potential
        power, heat = means_of_power_and_heat(action, joint_speeds)
        electricity = ELECTRICITY_COST * power + STALL_TORQUE_COST * heat
        joint_limits = JOINT_LIMIT_COST * joints_at_limit
        info = {
            "x_position": self._x_position,
            "reward_alive": alive,
            "reward_progress": progress,
            "reward_electricity": electricity,
            "reward_joint_limits": joint_limits,
        }
        if self.render_mode == "human":
            self.render()
        terminated = alive < 0 or not self._is_finite
        return observation, alive + progress + electricity + joint_limits, terminated, False, info

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next steps and episodes depend on, as plain values and arrays."""
        return {
            "world": np.frombuffer(self._world.save(), np.uint8),
            "random": self.np_random.bit_generator.state,
            "ground_friction": self._ground_friction,
            **{name: getattr(self, f"_{name}") for name in STATE_OF_EPISODE},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the state of another walker of this kind; every step equals that walker's to the last bit.

        Raises:
            ValueError: if it is the state of something else.
        """
        world = state["world"]
        if not isinstance(world, np.ndarray) or (world.dtype, world.ndim) != (np.uint8, 1):
            raise ValueError("this is not the state of a walker: its world is no array of bytes")
        self._world.restore(world.tobytes())
        self.np_random.bit_generator.state = state["random"]
        self.ground_friction = state["ground_friction"]
        for name in STATE_OF_EPISODE:
            setattr(self, f"_{name}", state[name])

    def render(self) -> np.ndarray | None:
        """Return a picture, uint8 of shape (height, width, 3); in mode ``"human"`` move the window's camera along."""
        if self.render_mode == "human":
            follow_in_window(self._client, self._robot, STEP_SECONDS)
        if self.render_mode != "rgb_array":
            return None
        if self._camera is None:
            self._camera = FollowCamera(self._world, self.width, self.height)
        return self._camera.picture()

    def close(self) -> None:
        """Free the physics client; once is enough, again does no harm."""
        self._disconnect()
        self._client = self._world.client = -1  # PyBullet gives the number to the next client

    def _torques(self, action: np.ndarray) -> tuple[np.ndarray, list[float]]:
        if not isinstance(action, np.ndarray):
            action = np.asarray(action, dtype=np.float64)
        if action.shape != self.action_space.shape:
            raise ValueError(f"action must have the shape {self.action_space.shape}, got {action.shape}")
        values = action.tolist()
        if not math.isfinite(sum(values)) and not np.isfinite(action).all():
            raise ValueError(f"action must be finite, got {values}")
        torque = self.model.torque
        return action, [torque * (-1.0 if value < -1.0 else 1.0 if value > 1.0 else value) for value in values]

    def _observe(self) -> tuple[np.ndarray, float, list[float], int, float]:
        """Read the physics: the observation and, for the reward, height, joint speeds, joints at a limit and pitch.

        Height and speeds are in single precision, as the original takes them from its arrays; speeds are not clipped.
        """
        (x, y, z), orientation = pybullet.getBasePositionAndOrientation(self._robot, self._client)
        (vx, vy, vz), _ = pybullet.getBaseVelocity(self._robot, self._client)
        roll, pitch, yaw = pybullet.getEulerFromQuaternion(orientation)
        self._x_position = x
        angle = self._locate((x, y, z)) - yaw
        cosine, sine = math.cos(yaw), math.sin(yaw)
        joints, joints_at_limit = self._read_joints()
        values = [
            z - self._start_height,
            math.sin(angle),
            math.cos(angle),
            0.3 * (cosine * vx + sine * vy),
            0.3 * (cosine * vy - sine * vx),
            0.3 * vz,
            roll,
            pitch,
            *joints,
            *self._feet_contact,
        ]
        observation = np.array(values, np.float32)
        singles = observation.tolist()
        joint_speeds = singles[self._speed_entries]
        if max(values) > OBSERVATION_LIMIT or min(values) < -OBSERVATION_LIMIT:
            observation = np.clip(observation, -OBSERVATION_LIMIT, OBSERVATION_LIMIT)
        self._is_finite = math.isfinite(sum(values)) or bool(np.isfinite(observation).all())
        height = min(max(singles[0], -OBSERVATION_LIMIT), OBSERVATION_LIMIT) + self._start_height
        return observation, height, joint_speeds, joints_at_limit, pitch

    def _locate(self, torso: tuple[float, float, float]) -> float:
        """Find the walker's place, the mean over its parts, and from it the potential; return the target's bearing."""
        mean_x, mean_y = self._world.mean_place(torso)
        to_x, to_y = TARGET_X - mean_x, -mean_y
        # The original's norm is a product of BLAS, whose last bit differs from that of sqrt(x * x + y * y).
        to_target = self._to_target
        to_target[0], to_target[1] = to_y, to_x
        self._potential = -math.sqrt(to_target.dot(to_target)) / STEP_SECONDS
        return math.atan2(to_y, to_x)

    def _read_joints(self) -> tuple[list[float], int]:
        """Positions, scaled to [-1, 1] between the limits, and scaled speeds in turn; and how many are at a limit."""
        readings: list[float] = []
        at_limit = 0
        states = pybullet.getJointStates(self._robot, self._joints, self._client)
        for (angle, speed, _, _), (lower, extent) in zip(states, self._world.joint_ranges, strict=True):
            position = 2 * (angle - lower) / extent - 1.0
            at_limit += position > AT_LIMIT or position < -AT_LIMIT
            readings += (position, 0.1 * speed)
        return readings, at_limit

    def _read_feet_contact(self) -> list[float]:
        contacts = pybullet.getContactPoints(self._robot, self._world.ground, physicsClientId=self._client)
        touching = {contact[3] for contact in contacts}
        return [1.0 if foot in touching else 0.0 for foot in self._world.feet]
