"""Pictures of a walker, made on the CPU: PyBullet's TinyRenderer draws the walker, numpy the ground under it.

TinyRenderer draws the stadium's plane without smoothing, so that it flickers towards the horizon, and without a
shadow. The plane stays as it is for the physics; the camera only makes it invisible and paints a smooth chequered one,
which costs less. None of this happens before the first picture is asked for.
"""

import time

import numpy as np

from cppo_envs.bullet_world import BulletWorld
from cppo_envs.engine import pybullet

DISTANCE, YAW, PITCH, FIELD_OF_VIEW = 3.4, 20.0, -19.0, 45.0
LOOK_AT_HEIGHT = 0.3
TILE_METRES = 1.0
LIGHT_TILE = np.array([228, 233, 240], np.float32)
DARK_TILE = np.array([140, 163, 194], np.float32)
SKY_TOP, SKY_HORIZON = np.array([120, 170, 224], np.float32), np.array([214, 228, 242], np.float32)
TORSO_COLOR, LIMB_COLOR, FOOT_COLOR = (1.0, 0.62, 0.2, 1), (0.9, 0.38, 0.22, 1), (0.62, 0.2, 0.24, 1)
HIDDEN = (1, 1, 1, 0)
SHADOW_CELLS, SHADOW_METRES = 192, 3.2
SHADOW_DARKNESS, SHADOW_BLUR, SHADOW_BLUR_PER_METRE = 0.5, 0.07, 0.25


class FollowCamera:
    """A camera that keeps beside a walker at a fixed height, so that the ground moves past and does not sway.

    Args:
        world: The world with the walker in it.
        width: Width of the picture in pixels.
        height: Height of the picture in pixels.
    """

    def __init__(self, world: BulletWorld, width: int, height: int) -> None:
        """Colour the walker, hide the ground and lay out the painted one."""
        self._client, self._robot = world.client, world.robot
        self._width, self._height = width, height
        self._solid_links = [link for link in world.links if world.has_shape(link)]
        self._paint(world)
        aspect = width / height
        self._projection = pybullet.computeProjectionMatrixFOV(FIELD_OF_VIEW, aspect, 0.1, 100.0)
        self._lay_out_ground(_view((0.0, 0.0)), aspect)

    def picture(self) -> np.ndarray:
        """Return the picture of this moment, uint8 of shape (height, width, 3)."""
        x, y, _ = pybullet.getBasePositionAndOrientation(self._robot, self._client)[0]
        _, _, pixels, _, bodies = pybullet.getCameraImage(
            self._width,
            self._height,
            _view((x, y)),
            self._projection,
            lightDirection=(1, -1.5, 3),
            lightAmbientCoeff=0.55,
            lightDiffuseCoeff=0.5,
            lightSpecularCoeff=0.15,
            shadow=0,
            renderer=pybullet.ER_TINY_RENDERER,
            physicsClientId=self._client,
        )
        shape = (self._height, self._width)
        picture = self._background.copy()
        picture[self._is_ground] = self._ground(x, y)
        is_robot = np.reshape(bodies, shape) == self._robot
        picture[is_robot] = np.reshape(pixels, (*shape, 4))[is_robot, :3]
        return picture

    def _paint(self, world: BulletWorld) -> None:
        for link in (-1, *self._solid_links):
            color = TORSO_COLOR if link == -1 else FOOT_COLOR if link in world.feet else LIMB_COLOR
            pybullet.changeVisualShape(self._robot, link, rgbaColor=color, physicsClientId=self._client)
        pybullet.changeVisualShape(world.ground, -1, rgbaColor=HIDDEN, physicsClientId=self._client)

    def _lay_out_ground(self, view: tuple[float, ...], aspect: float) -> None:
        """Find, for each pixel, the place on the ground relative to the walker; this never changes."""
        matrix = np.reshape(view, (4, 4)).T
        rotation, eye = matrix[:3, :3].T, -matrix[:3, :3].T @ matrix[:3, 3]
        half = np.tan(np.radians(FIELD_OF_VIEW) / 2)
        right, up = np.meshgrid(
            half * aspect * ((np.arange(self._width) + 0.5) / self._width * 2 - 1),
            half * (1 - (np.arange(self._height) + 0.5) / self._height * 2),
        )
        rays = np.stack([right, up, -np.ones_like(up)], axis=-1) @ rotation.T
        self._is_ground = rays[..., 2] < -1e-3
        sky = np.clip(rays[..., 2:] * 3, 0, 1)
        self._background = (SKY_HORIZON + (SKY_TOP - SKY_HORIZON) * sky).astype(np.uint8)
        down = np.minimum(rays[..., 2], -1e-3)
        places = [(eye[axis] - eye[2] / down * rays[..., axis]) / TILE_METRES for axis in (0, 1)]
        self._places = [place[self._is_ground].astype(np.float32) for place in places]
        self._footprints = [_footprint(place)[self._is_ground].astype(np.float32) for place in places]
        cells = [np.floor((place * TILE_METRES / SHADOW_METRES + 0.5) * SHADOW_CELLS) for place in self._places]
        inside = [(cell >= 0) & (cell < SHADOW_CELLS) for cell in cells]
        self._in_shadow_map = np.flatnonzero(inside[0] & inside[1])
        self._shadow_cells = tuple(cell[self._in_shadow_map].astype(np.intp) for cell in cells)
        haze = np.hypot(*self._places) * TILE_METRES / 60
        self._haze = np.clip(haze, 0, 1)[:, None].astype(np.float32)

    def _ground(self, x: float, y: float) -> np.ndarray:
        """Colours of the ground's pixels when the walker is at (x, y)."""
        waves = [
            _smooth_square_wave(place + np.float32(origin / TILE_METRES % 2), footprint)
            for place, footprint, origin in zip(self._places, self._footprints, (x, y), strict=True)
        ]
        lightness = 0.5 + 0.5 * waves[0] * waves[1]
        colors = DARK_TILE + (LIGHT_TILE - DARK_TILE) * lightness[:, None]
        colors[self._in_shadow_map] *= self._shadow_map(x, y)[self._shadow_cells][:, None]
        return colors + (SKY_HORIZON - colors) * self._haze

    def _shadow_map(self, x: float, y: float) -> np.ndarray:
        """Light that reaches each cell of a square around the walker: under every part a blot, softer when high."""
        states = pybullet.getLinkStates(self._robot, self._solid_links, physicsClientId=self._client)
        torso = pybullet.getBasePositionAndOrientation(self._robot, self._client)[0]
        centres, frames = np.array([state[0] for state in states]), np.array([state[4] for state in states])
        # A link's frame is at its upper end and its centre in the middle, so these points run along it.
        along_links = [frames + fraction * (centres - frames) for fraction in (0.5, 1.25, 2.0)]
        points = np.concatenate([*along_links, [torso]])
        blur = SHADOW_BLUR + SHADOW_BLUR_PER_METRE * np.maximum(points[:, 2], 0)
        grid = ((np.arange(SHADOW_CELLS) + 0.5) / SHADOW_CELLS - 0.5) * SHADOW_METRES
        across, along = (
            np.exp(-0.5 * ((grid[:, None] + origin - points[:, axis]) / blur) ** 2).astype(np.float32)
            for axis, origin in ((0, x), (1, y))
        )
        # Not a BLAS product: its threads would fight over the cores with the other environments.
        density = np.einsum("xp,yp,p->xy", across, along, ((SHADOW_BLUR / blur) ** 2).astype(np.float32))
        return 1 - SHADOW_DARKNESS * (1 - np.exp(-density))


def follow_in_window(client: int, robot: int, seconds: float) -> None:
    """Move the camera of the window along with the walker, and wait as long as a step lasts."""
    x, y, _ = pybullet.getBasePositionAndOrientation(robot, client)[0]
    pybullet.resetDebugVisualizerCamera(DISTANCE, YAW, PITCH, (x, y, LOOK_AT_HEIGHT), physicsClientId=client)
    time.sleep(seconds)


def _view(place: tuple[float, float]) -> tuple[float, ...]:
    return pybullet.computeViewMatrixFromYawPitchRoll((*place, LOOK_AT_HEIGHT), DISTANCE, YAW, PITCH, 0, 2)


def _footprint(place: np.ndarray) -> np.ndarray:
    """Width of the strip of ground that a pixel sees, in tiles."""
    return np.maximum(sum(np.abs(np.gradient(place, axis=axis)) for axis in (0, 1)), 1e-4)


def _smooth_square_wave(place: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Mean over ``width`` around ``place`` of the square wave that is 1 and -1 on the tiles in turn."""
    return (_integral(place + width / 2) - _integral(place - width / 2)) / width


def _integral(place: np.ndarray) -> np.ndarray:
    half = place * 0.5
    return 1 - np.abs(2 * (half - np.floor(half)) - 1)
