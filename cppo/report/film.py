"""Films of episodes: H.264 in an mp4 file that a browser plays, with the figures written into the picture.

A film is a stream of pictures: ``shots`` takes them from an episode, ``annotate`` writes figures into one, and
``write_film`` makes the file of any stream. All shots of an environment keep the same clock, so that streams of several
agents can be put side by side.

The packages for it, ``pip install "cppo[video]"``, are imported only where they are used: not everybody films.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import re
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.error import DependencyNotInstalled
from tqdm import tqdm

from cppo.files import MARK, CannotWriteError, check_ours, check_writable, replacing
from cppo.report.trained_agent import Moment, TrainedAgent

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont, ImageFont

PICTURE_SIZE = (640, 480)
FRAMES_PER_SECOND = 30
SECONDS_HELD = 1.0
"""How long the last picture of an episode stays, so that its figures can be read."""
LOWEST_WIDTH = 320
"""Narrower pictures are enlarged, so that the figures fit in."""
LABEL_COLOR, VALUE_COLOR, BAR_BRIGHTNESS = (190, 200, 212), (255, 255, 255), 0.28
ENCODING = ["-an", "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "27", "-preset", "veryfast"]
ENCODING += ["-movflags", "+faststart", "-metadata", f"comment={MARK}"]


class Shot(NamedTuple):
    """A picture of an episode.

    :param picture: uint8 of shape (height, width, 3)
    """

    picture: np.ndarray
    moment: Moment


class Clock(NamedTuple):
    """Which steps are filmed so that the film runs as fast as the simulated world."""

    steps_per_frame: int
    frames_per_second: float

    @classmethod
    def of(cls, env: gym.Env) -> Clock:
        """The clock of an environment, of about 30 frames per second."""
        steps_per_second = env.metadata.get("render_fps") or FRAMES_PER_SECOND
        steps_per_frame = max(1, round(steps_per_second / FRAMES_PER_SECOND))
        return cls(steps_per_frame, steps_per_second / steps_per_frame)


def shots(agent: TrainedAgent, env: gym.Env, seed: int, steps: int, deterministic: bool = True) -> Iterator[Shot]:
    """Film an episode: the start, every frame of the clock, and the last moment whenever it comes.

    :param env: made with a picture size
    :param steps: after which the film stops, if the episode goes on
    """
    every = Clock.of(env).steps_per_frame
    for moment in agent.play(env, seed, deterministic):
        is_last = moment.terminated or moment.truncated or moment.step >= steps
        if is_last or moment.step % every == 0:
            yield Shot(_picture(env), moment)
        if is_last:
            return


def figures(moment: Moment, friction: float | None) -> dict[str, str]:
    """What is written into the picture of a moment: labels and values."""
    written = {} if friction is None else {"friction": f"{friction:.3g}"}
    written |= {"step": str(moment.step), "return": f"{moment.total_reward:.1f}"}
    return written if moment.distance is None else written | {"distance": f"{round(moment.distance, 1) + 0.0:.1f} m"}


def annotate(picture: np.ndarray, values: Mapping[str, str], caption: str | None = None) -> np.ndarray:
    """Write labelled values next to each other on a darkened bar at the top, and a line on one at the bottom.

    :param picture: uint8 of shape (height, width, 3)
    :return: a new picture
    """
    from PIL import Image, ImageDraw

    height, width = picture.shape[:2]
    size = max(10, min(height // 20, width // 26))
    picture = picture.copy()
    for bar in [slice(round(2.9 * size))] + [slice(height - round(1.7 * size), None)] * (caption is not None):
        picture[bar] = picture[bar] * BAR_BRIGHTNESS
    image = Image.fromarray(picture)
    draw = ImageDraw.Draw(image)
    for column, (label, value) in enumerate(values.items()):
        x = size * 0.8 + column * (width - size * 0.8) / len(values)
        draw.text((x, 0.35 * size), label, LABEL_COLOR, _font(round(0.75 * size)))
        draw.text((x, 1.3 * size), value, VALUE_COLOR, _font(size))
    draw.text((0.8 * size, height - 1.4 * size), caption or "", VALUE_COLOR, _font(size))
    return np.asarray(image)


def told(path: Path, frames: Iterable[np.ndarray]) -> Iterable[np.ndarray]:
    """Tell the progress of filming on stderr."""
    if not sys.stderr.isatty():
        print(f"filming {path}", file=sys.stderr, flush=True)
    return tqdm(frames, "film", unit=" frames", disable=None)


def write_film(path: Path, frames: Iterable[np.ndarray], frames_per_second: float) -> None:
    """Write an mp4 file that is whole or not there.

    :param frames: at least one uint8 picture, all of one shape (height, width, 3), both even
    :raises OSError: if the file can't be written
    """
    frames = iter(frames)
    first = next(frames)
    height, width = first.shape[:2]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(frames_per_second), "-i", "-"]
    with replacing(path) as partial:
        with subprocess.Popen(
            [_ffmpeg(), "-y", "-v", "error", *raw, *ENCODING, str(partial)],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # a terminal's Ctrl-C is for this process
        ) as ffmpeg:
            assert ffmpeg.stdin is not None
            try:
                with contextlib.suppress(BrokenPipeError):  # it tells why at its end
                    for frame in itertools.chain([first], frames):
                        ffmpeg.stdin.write(frame.tobytes())
                _, said = ffmpeg.communicate()
            except BaseException:
                ffmpeg.kill()
                raise
        if ffmpeg.returncode:
            lines = re.sub(r"\[.*?\] ", "", said.decode(errors="replace")).split("\n")[:-1]
            raise CannotWriteError(
                f"{path} can't be written: {lines[-1] if lines else f'ffmpeg ended with {ffmpeg.returncode}'}"
            )


def _ffmpeg() -> str:
    """The program that encodes films.

    :raises ImportError: if the package for it is missing
    :raises RuntimeError: if there is none
    """
    from imageio_ffmpeg import get_ffmpeg_exe

    return get_ffmpeg_exe()


def check_film(agent: TrainedAgent, friction: float | None, path: Path) -> None:
    """Find out before the work starts whether a film can be made.

    :raises OSError: if the file can't be written or there is no ffmpeg
    :raises ValueError: if its name doesn't end in .mp4, or the environment makes no pictures
    :raises gymnasium.error.DependencyNotInstalled: if a package for films is missing
    """
    if path.suffix != ".mp4":
        raise ValueError(f"--video {path} must end in .mp4")
    check_writable(path)
    check_ours(path)
    try:
        import PIL  # noqa: F401

        _ffmpeg()
    except ImportError as error:
        raise DependencyNotInstalled('--video needs more packages: pip install "cppo[video]"') from error
    except RuntimeError as error:
        raise OSError(f"--video needs ffmpeg: {error}") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # gymnasium's that there are no pictures; the error says it
            with agent.make_env(friction, PICTURE_SIZE) as env:
                env.reset(seed=0)
                _picture(env)
    except Exception as error:  # whatever a foreign environment's renderer raises
        raise ValueError(f"{agent.settings.env} can't be filmed: {error}") from error


def _picture(env: gym.Env) -> np.ndarray:
    """The environment's picture, enlarged to a width that can be written on, its sides made even for the encoder."""
    picture = env.render()
    if not isinstance(picture, np.ndarray) or picture.ndim != 3:
        raise ValueError("it has no rgb_array pictures")
    times = -(-LOWEST_WIDTH // picture.shape[1])
    picture = picture.repeat(times, axis=0).repeat(times, axis=1)
    return picture[: picture.shape[0] // 2 * 2, : picture.shape[1] // 2 * 2]


@functools.cache
def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)
