"""A PyBullet world of its own with the stadium's ground and one robot."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal, NoReturn

from cppo_envs.engine import pybullet, pybullet_data
from cppo_envs.merged_model import load_merged, weights_of_centers
from cppo_envs.summation import pairwise_sum

SUBSTEPS = 4
STEP_SECONDS = 0.0165 / 4 * SUBSTEPS
GROUND_GROUP, ROBOT_GROUP = 1, 2
STATE_BYTES = 2**20
"""Largest state that is read; an ant's has 57 kB at most."""
HEADER_BYTES = 16
"""Of a state: Bullet's version and number format."""

ModelName = Literal["original", "merged"]
Place = tuple[float, float, float]


@dataclass(frozen=True)
class WalkerModel:
    """What tells one walker from another.

    Args:
        model_file: MJCF file, relative to ``pybullet_data``; its base link must be the walker's torso.
        feet: Names of the links whose ground contacts are observed.
        torque: Torque in N m of an action of 1.
        self_collision: Whether the file lets any two links of the walker collide. Without it their pairs are not looked
            at, which makes a step 5 % faster and changes no bit of it.
        is_alive: Tells from the torso's height in m and its pitch in rad whether the episode goes on.
    """

    model_file: str
    feet: tuple[str, ...]
    torque: float
    self_collision: bool
    is_alive: Callable[[float, float], bool]


@contextlib.contextmanager
def _file_for_bullet() -> Iterator[tuple[str, BinaryIO]]:
    """Make a file that Bullet can open by its name: in memory, where there are such files, as a disk can be full."""
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryDirectory() as folder, open(os.path.join(folder, "world.bullet"), "w+b") as file:
            yield file.name, file
        return
    with open(os.memfd_create("world.bullet"), "w+b") as file:
        yield f"/proc/self/fd/{file.fileno()}", file


class BulletWorld:
    """Ground and robot in a physics client, loaded as ``AntBulletEnv-v0`` loads them.

    With ``merged`` the robot has no massless links, see ``envs/merged_model.py``.

    Attributes:
        ground, robot: Numbers of the two bodies.
        links: Numbers of the robot's links; its base, the torso, is not among them.
        joints: Numbers of the joints that move.
        joint_ranges: For each of them its lower limit and the extent of its range, in rad.
        feet: Numbers of the links that are feet.
    """

    def __init__(self, client: int, model: WalkerModel, merged: bool = False) -> None:
        """Load the world into an empty client."""
        self.client = client
        self._set_up_physics()
        data = pybullet_data.getDataPath()
        (self.ground,) = pybullet.loadSDF(os.path.join(data, "plane_stadium.sdf"), physicsClientId=client)
        pybullet.changeDynamics(self.ground, -1, restitution=0.5, physicsClientId=client)
        flags = pybullet.URDF_USE_SELF_COLLISION | pybullet.URDF_USE_SELF_COLLISION_EXCLUDE_ALL_PARENTS
        if merged:
            self.robot = load_merged(model.model_file, flags, client)
        else:
            model_file = os.path.join(data, model.model_file)
            (self.robot,) = pybullet.loadMJCF(model_file, flags=flags, physicsClientId=client)
        self._read_robot(model)
        self._torso_weight, *self._weights = weights_of_centers(self.robot, client) if merged else [0.0]
        for link in self.links:
            self.disable_motor(link)
        if not model.self_collision:
            self._collide_with_ground_only()
        self._start = pybullet.saveState(physicsClientId=client)

    def __reduce__(self) -> NoReturn:
        raise TypeError("the world of a physics client can't be copied or pickled by itself; its walker can")

    def restore_start(self) -> None:
        """Put all bodies back to where they were when loaded."""
        pybullet.restoreState(self._start, physicsClientId=self.client)

    def save(self) -> bytes:
        """The state of the whole physics, from which a world loaded in the same way goes on to the last bit."""
        with _file_for_bullet() as (path, file):
            pybullet.saveBullet(path, physicsClientId=self.client)
            return file.read()

    def restore(self, state: bytes) -> None:
        """Go on from what another world saved.

        Bullet's reader trusts its bytes: only a state from one's own hands may come here.

        Raises:
            ValueError: if it is not the state of such a world, as far as can be told.
        """
        if not HEADER_BYTES < len(state) <= STATE_BYTES or state[:HEADER_BYTES] != self.save()[:HEADER_BYTES]:
            raise ValueError("this is not the state of a world of this version of Bullet")
        with _file_for_bullet() as (path, file):
            file.write(state)
            file.flush()
            try:
                pybullet.restoreState(fileName=path, physicsClientId=self.client)
            except pybullet.error as error:
                raise ValueError("this is not the state of a world with this robot") from error

    def mean_place(self, torso: Place) -> tuple[float, float]:
        """Mean x and y over the parts of the original's robot and its ground, whose centre is at 0.

        Args:
            torso: Where the torso's centre is.
        """
        states = pybullet.getLinkStates(self.robot, self.links, physicsClientId=self.client)
        if self._weights:
            x, y = self._torso_weight * torso[0], self._torso_weight * torso[1]
            for weight, state in zip(self._weights, states, strict=True):
                position = state[0]
                x += weight * position[0]
                y += weight * position[1]
            return x, y
        positions = [state[0] for state in states]
        # In the original's order: the first link, the torso, the other links and the ground.
        positions.insert(1, torso)
        positions.append((0.0, 0.0, 0.0))
        xs, ys, _ = zip(*positions, strict=True)
        return pairwise_sum(xs) / len(xs), pairwise_sum(ys) / len(ys)

    def has_shape(self, link: int) -> bool:
        """Whether a link can be touched and seen; those without mass are mere joints."""
        return bool(pybullet.getDynamicsInfo(self.robot, link, self.client)[0] > 0)

    def disable_motor(self, joint: int) -> None:
        """Switch off the motor that PyBullet gives to every joint and that brakes it."""
        pybullet.setJointMotorControl2(
            self.robot, joint, pybullet.POSITION_CONTROL, force=0, physicsClientId=self.client
        )

    def set_ground_friction(self, friction: float) -> None:
        """Give the ground a friction coefficient, from the next step on."""
        pybullet.changeDynamics(self.ground, -1, lateralFriction=friction, physicsClientId=self.client)

    def _set_up_physics(self) -> None:
        pybullet.setPhysicsEngineParameter(deterministicOverlappingPairs=1, physicsClientId=self.client)
        pybullet.setGravity(0, 0, -9.8, physicsClientId=self.client)
        pybullet.setDefaultContactERP(0.9, physicsClientId=self.client)
        pybullet.setPhysicsEngineParameter(
            fixedTimeStep=STEP_SECONDS, numSolverIterations=5, numSubSteps=SUBSTEPS, physicsClientId=self.client
        )

    def _read_robot(self, model: WalkerModel) -> None:
        links = range(pybullet.getNumJoints(self.robot, self.client))
        infos = [pybullet.getJointInfo(self.robot, link, self.client) for link in links]
        link_of_name = {info[12].decode(): info[0] for info in infos}
        moving = [info for info in infos if info[2] != pybullet.JOINT_FIXED]
        self.links = list(links)
        self.joints = [info[0] for info in moving]
        self.joint_ranges = [(info[8], info[9] - info[8]) for info in moving]
        self.feet = [link_of_name[foot] for foot in model.feet]

    def _collide_with_ground_only(self) -> None:
        pybullet.setCollisionFilterGroupMask(self.ground, -1, GROUND_GROUP, ROBOT_GROUP, physicsClientId=self.client)
        for link in (-1, *self.links):
            group, mask = (ROBOT_GROUP, GROUND_GROUP) if self.has_shape(link) else (0, 0)
            pybullet.setCollisionFilterGroupMask(self.robot, link, group, mask, physicsClientId=self.client)
