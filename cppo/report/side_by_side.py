"""Films of one agent, or of several side by side: the same ground, the same episode seed, the same clock."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import numpy as np

from cppo.report.film import PICTURE_SIZE, SECONDS_HELD, Clock, Shot, annotate, figures, shots, told, write_film
from cppo.report.trained_agent import TrainedAgent

MOST_IN_A_ROW = 3


def together(agents: Sequence[TrainedAgent]) -> dict[str, TrainedAgent]:
    """Name agents that are to be compared: by method and seed, or by folder where that doesn't tell them apart.

    :raises ValueError: for agents of different environments, and for one given twice
    """
    environments = sorted({agent.settings.env for agent in agents})
    if len(environments) > 1:
        raise ValueError(f"--compare needs agents of one environment, got those of {', '.join(environments)}")
    names = [f"{agent.settings.algo}, seed {agent.settings.seed}" for agent in agents]
    if len(set(names)) < len(names):
        names = [str(agent.folder.path) for agent in agents]
    if len(set(names)) < len(names):
        raise ValueError("--compare needs different runs, got one twice")
    return dict(zip(names, agents, strict=True))


def shared_grounds(agents: Mapping[str, TrainedAgent], frictions: Sequence[float] | None) -> list[float | None]:
    """The frictions to evaluate all agents at, each once.

    :param frictions: as asked for; None: those that any of them met in training, in the order met
    """
    grounds = [agent.grounds(frictions) for agent in agents.values()]
    return list(dict.fromkeys(friction for met in grounds for friction in met))


def make_film(
    agents: Mapping[str, TrainedAgent],
    frictions: Sequence[float | None],
    path: Path,
    seed: int,
    steps: int,
    deterministic: bool = True,
) -> None:
    """Film an episode of every agent at each friction, one after the other, and tell the progress on stderr.

    :param agents: by name, which is written into the picture where there are several
    :param frictions: None: the environment's own ground
    :param steps: after which an episode is cut
    """
    with next(iter(agents.values())).make_env(frictions[0], PICTURE_SIZE) as env:
        frames_per_second = Clock.of(env).frames_per_second
    held = round(SECONDS_HELD * frames_per_second)
    frames = (frame for friction in frictions for frame in _frames(agents, friction, seed, steps, held, deterministic))
    write_film(path, told(path, frames), frames_per_second)


def _frames(
    agents: Mapping[str, TrainedAgent], friction: float | None, seed: int, steps: int, held: int, deterministic: bool
) -> Iterator[np.ndarray]:
    """The episodes frame by frame; one that has ended stays at its last picture until all have."""
    with contextlib.ExitStack() as stack:
        films = []
        for name, agent in agents.items():
            env = stack.enter_context(agent.make_env(friction, PICTURE_SIZE))
            taken = shots(agent, env, seed, steps, deterministic)
            ground = getattr(env.unwrapped, "ground_friction", friction)
            films.append(_panels(taken, ground, name if len(agents) > 1 else None))
        panels: list[np.ndarray] = []
        for now in zip_longest(*films):
            panels = [panel if panel is not None else panels[place] for place, panel in enumerate(now)]
            frame = tile(panels)
            yield frame
        for _ in range(held):
            yield frame


def _panels(taken: Iterator[Shot], friction: float | None, name: str | None) -> Iterator[np.ndarray]:
    for picture, moment in taken:
        yield annotate(picture, figures(moment, friction), name)


def tile(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Put pictures of one size next to each other, in rows of at most three; empty places are black.

    :param pictures: uint8 of shape (height, width, 3)
    """
    columns = len(pictures) if len(pictures) <= MOST_IN_A_ROW else -(-len(pictures) // 2)
    columns = min(columns, MOST_IN_A_ROW)
    missing = -len(pictures) % columns
    places = [*pictures, *[np.zeros_like(pictures[0])] * missing]
    return np.vstack([np.hstack(places[start : start + columns]) for start in range(0, len(places), columns)])
