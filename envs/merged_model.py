"""A walker's MJCF model with the massless links merged away, as URDF.

PyBullet loads a jointed MJCF body as two links: a massless one that turns and, fixed to it, the body. The ant is so
made of a torso and 20 links. Merged, each massless link becomes the frame of the body fixed to it: 12 links, of which 8
turn, and a step of the physics takes three quarters of the time.

Everything that moves stays as it was: masses, inertias, centres, joints, limits, shapes, frictions. The four links that
are fixed to the torso stay links, though they could be part of it: Bullet's damping grows with the square of each
link's own speed, so one body in place of five is damped otherwise (by 0.003 rad/s a step in a fast tumble).
"""

import math
import os
import tempfile
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.spatial.transform import Rotation

from cppo_envs.engine import connect, pybullet, pybullet_data

URDF_MARGIN = 0.001
"""What PyBullet adds on each side of the box around a link that it loads from URDF."""
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Link:
    """A link with mass of a loaded body, in its rest pose; all vectors in the world's axes.

    Args:
        name: Its name.
        parent: Number of the link that it is fixed to or turns against, itself one with mass or the base, -1.
        joint: What ``getJointInfo`` says of the joint that moves it; of its own joint if it is fixed.
        origin: Where its joint is.
        center: Its centre of mass.
        mass: In kg.
        inertia: Moments of inertia about its centre of mass.
        friction: Its friction coefficient.
        shape: ``getVisualShapeData``'s type and sizes.
        bounding_radius: Of Bullet's box around its shape.
    """

    name: str
    parent: int
    joint: tuple | None
    origin: np.ndarray
    center: np.ndarray
    mass: float
    inertia: tuple[float, float, float]
    friction: float
    shape: tuple[int, tuple[float, float, float]]
    bounding_radius: float


@lru_cache
def merged_urdf(model_file: str) -> tuple[str, tuple[float, float, float]]:
    """The text of a URDF model that moves as an MJCF model does, and where that one stands.

    Args:
        model_file: MJCF file with a single body, relative to ``pybullet_data``.

    Raises:
        ValueError: if the model has what this translation doesn't know.
    """
    client = connect()
    try:
        (body,) = pybullet.loadMJCF(os.path.join(pybullet_data.getDataPath(), model_file), physicsClientId=client)
        links = _read_links(body, client)
    finally:
        pybullet.disconnect(client)
    lines = [text for link in links.values() for text in (_link_text(link), _joint_text(link, links))]
    return "\n".join(['<robot name="merged">', *lines, "</robot>"]), tuple(links[-1].origin.tolist())


def load_merged(model_file: str, flags: int, client: int) -> int:
    """Load the merged model where the MJCF one would stand, and return the body's number."""
    text, place = merged_urdf(model_file)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "merged.urdf")
        with open(path, "w") as file:
            file.write(text)
        flags |= pybullet.URDF_USE_INERTIA_FROM_FILE
        body = pybullet.loadURDF(path, basePosition=place, flags=flags, physicsClientId=client)
    return int(body)


def weights_of_centers(body: int, client: int) -> list[float]:
    """Weights of the centres of the base and of a merged model's links in the mean over the MJCF model's parts.

    The parts are the base, the links, the massless ones too, and the ground, which stands at 0. A massless link lies
    where the capsule of the parent ends, as far from its centre as it begins; those fixed to the base begin at the
    base's centre. (PyBullet would tell where the joints are, but in single precision.)
    """
    n_links = pybullet.getNumJoints(body, client)
    unit = np.eye(1 + n_links)
    begins: dict[int, np.ndarray] = {}
    total = unit[0].copy()
    for link in range(n_links):
        joint = pybullet.getJointInfo(body, link, client)
        moves, parent = joint[2] != pybullet.JOINT_FIXED, joint[16]
        begins[link] = 2 * unit[1 + parent] - begins[parent] if moves else unit[0]
        total += unit[1 + link] + (begins[link] if moves else 0)
    return (total / (total.sum() + 1)).tolist()


def _read_links(body: int, client: int) -> dict[int, Link]:
    joints = {link: pybullet.getJointInfo(body, link, client) for link in range(pybullet.getNumJoints(body, client))}
    masses = {link: pybullet.getDynamicsInfo(body, link, client)[0] for link in (-1, *joints)}
    shapes = {shape[1]: shape[2:4] for shape in pybullet.getVisualShapeData(body, physicsClientId=client)}
    links = {}
    for link in (-1, *joints):
        if masses[link] > 0:
            joint = joints.get(link)
            if joint is not None and masses[joint[16]] == 0:
                joint = joints[joint[16]]
            links[link] = _read_link(body, link, joint, shapes[link], client)
    return links


def _read_link(body: int, link: int, joint: tuple | None, shape: tuple, client: int) -> Link:
    mass, friction, inertia, from_frame, turned = pybullet.getDynamicsInfo(body, link, client)[:5]
    if joint is None:
        name, parent = pybullet.getBodyInfo(body, client)[0], -1
        center, turn = pybullet.getBasePositionAndOrientation(body, client)
        origin = np.subtract(center, from_frame)
    else:
        name, parent = pybullet.getJointInfo(body, link, client)[12], joint[16]
        center, turn = pybullet.getLinkState(body, link, physicsClientId=client)[:2]
        # The frame of the joint's own link; a fixed link's is at its joint too.
        own = pybullet.getLinkState(body, joint[0], physicsClientId=client)
        origin = np.subtract(own[0], pybullet.getDynamicsInfo(body, joint[0], client)[3])
    if not np.allclose([turned, turn], [0, 0, 0, 1], atol=TOLERANCE):
        raise ValueError(f"link {name.decode()} is turned in its rest pose, which can't be merged")
    low, high = np.array(pybullet.getAABB(body, link, client))
    radius = float(np.linalg.norm(high - low) / 2)
    return Link(name.decode(), parent, joint, origin, np.array(center), mass, inertia, friction, shape, radius)


def _link_text(link: Link) -> str:
    mass, (ixx, iyy, izz) = float(link.mass), link.inertia
    shape = _shape_text(link)
    return (
        f'<link name="{link.name}"><contact><lateral_friction value="{link.friction!r}"/></contact>'
        f'<inertial><origin xyz="{_numbers(link.center - link.origin)}"/><mass value="{mass!r}"/>'
        f'<inertia ixx="{ixx!r}" iyy="{iyy!r}" izz="{izz!r}" ixy="0" ixz="0" iyz="0"/></inertial>'
        f"<collision>{shape}</collision><visual>{shape}</visual></link>"
    )


def _shape_text(link: Link) -> str:
    kind, (length, radius, _) = link.shape
    place = f'xyz="{_numbers(link.center - link.origin)}"'
    if kind == pybullet.GEOM_SPHERE:
        return f'<origin {place}/><geometry><sphere radius="{length!r}"/></geometry>'
    if kind != pybullet.GEOM_CAPSULE or abs(2 * np.linalg.norm(link.center - link.origin) - length) > TOLERANCE:
        raise ValueError(f"link {link.name} is no sphere and no capsule that begins at its joint; it can't be merged")
    angles = _capsule_turn(link, length, radius).as_euler("xyz")
    return (
        f'<origin {place} rpy="{_numbers(angles)}"/>'
        f'<geometry><capsule radius="{radius!r}" length="{length!r}"/></geometry>'
    )


def _capsule_turn(link: Link, length: float, radius: float) -> Rotation:
    """Turn a capsule from the z axis into place, and about its own axis until Bullet's box around it is as large.

    Bullet feels a contact that comes nearer than 2 % of the radius of that box; the observation tells of it.
    """
    x, y, z = link.center - link.origin
    direction = [math.atan2(y, x), math.acos(z / math.hypot(x, y, z))]
    sides = np.array([radius, radius, length / 2 + radius])

    def turned(spin: float) -> Rotation:
        return Rotation.from_euler("ZYZ", [*direction, spin])

    def excess(spin: float) -> float:
        box = np.abs(turned(spin).as_matrix()) @ sides + URDF_MARGIN
        return float(np.linalg.norm(box)) - link.bounding_radius

    return turned(float(brentq(excess, 0, math.pi / 4, xtol=1e-15)))


def _joint_text(link: Link, links: dict[int, Link]) -> str:
    joint = link.joint
    if joint is None:
        return ""
    parent = links[link.parent]
    between = f'<parent link="{parent.name}"/><child link="{link.name}"/>'
    place = f'<origin xyz="{_numbers(link.origin - parent.origin)}"/>'
    if joint[2] == pybullet.JOINT_FIXED:
        return f'<joint name="{joint[1].decode()}" type="fixed">{between}{place}</joint>'
    if joint[2] != pybullet.JOINT_REVOLUTE:
        raise ValueError(f"joint {joint[1].decode()} is no hinge; it can't be merged")
    # PyBullet keeps the length of the axis, by which it multiplies speed and torque; the ankles' is 1.41.
    return (
        f'<joint name="{joint[1].decode()}" type="revolute">{between}{place}<axis xyz="{_numbers(joint[13])}"/>'
        f'<limit lower="{joint[8]!r}" upper="{joint[9]!r}" effort="{joint[10]!r}" velocity="{joint[11]!r}"/>'
        f'<dynamics damping="{joint[6]!r}" friction="{joint[7]!r}"/></joint>'
    )


def _numbers(values: np.ndarray | tuple[float, ...]) -> str:
    return " ".join(repr(float(value)) for value in values)
