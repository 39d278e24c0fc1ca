"""A grid of runs: every combination of the settings that have several values."""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cppo.settings.limits import RANGES, NoEffectError
from cppo.settings.settings import Settings

MOST_RUNS = 10_000
"""Of one grid; more are a slip of the keyboard."""


@dataclass(frozen=True)
class PlannedRun:
    """A run of a grid.

    :param name: of its folder
    :param settings: resolved settings
    :param env_module: the module to import, which registers the environment
    """

    name: str
    settings: Settings
    env_module: str | None = None


def seeds(words: Iterable[str | int]) -> list[int]:
    """Read seeds given as numbers and as ranges: ``0:10`` is 0 to 9.

    :return: the seeds, each once
    :raises ValueError: for anything else, and for an empty or endless list
    """
    found: dict[int, None] = {}
    for word in words:
        first, colon, end = str(word).partition(":")
        if not (_is_seed(first) and (_is_seed(end) if colon else True)):
            raise ValueError(
                f"--seed {word} is not allowed: it must be a seed from 0 to {2**32 - 1} or a range FIRST:END, "
                f"like 0:10 for 0 to 9"
            )
        span = range(int(first), int(end) if colon else int(first) + 1)
        if not 1 <= len(span) <= MOST_RUNS:
            raise ValueError(f"--seed {word} is not allowed: a range has at least 1 and at most {MOST_RUNS} seeds")
        found |= dict.fromkeys(span)
    if not found:
        raise ValueError("--seed needs a number or a range like 0:10")
    return list(found)


def _is_seed(word: str) -> bool:
    return word.isascii() and word.isdigit() and int(word) <= RANGES["seed"].highest


def expand(bases: Sequence[Settings], lists: Mapping[str, Sequence[Any]]) -> list[PlannedRun]:
    """Combine every base with every value of each list.

    A setting that has no effect with some of the algorithms or environments is left out there; runs that become equal
    by that are one.

    :param bases: settings, not resolved yet, one for each combination of protocol and algorithm
    :raises ValueError: for values that are refused, a setting that has an effect nowhere, or too many runs
    """
    count = len(bases)
    for values in lists.values():
        count *= len(values)
    if not 1 <= count <= MOST_RUNS:
        raise ValueError(f"a grid has at least 1 and at most {MOST_RUNS} runs, this one has {count}")
    planned: dict[Settings, PlannedRun] = {}
    useless: dict[str, NoEffectError] = {}
    useful: set[str] = set()
    for base in bases:
        for values in itertools.product(*lists.values()):
            settings, left_out = _effective(dataclasses.replace(base, **dict(zip(lists, values, strict=True))))
            planned.setdefault(settings, PlannedRun(run_name(settings, lists), settings))
            useless |= left_out
            useful |= {field.name for field in dataclasses.fields(settings)} - set(left_out)
    for key in set(useless) - useful:
        raise useless[key]
    return list(planned.values())


def _effective(settings: Settings) -> tuple[Settings, dict[str, NoEffectError]]:
    """Resolve settings without those that have no effect; return them and what was left out."""
    left_out: dict[str, NoEffectError] = {}
    while True:
        preset = Settings.from_preset(settings.protocol, settings.algo)
        back = {key: getattr(preset, key) for key in left_out}
        try:
            resolved = dataclasses.replace(settings, **back).resolved()
        except NoEffectError as error:
            if error.key in left_out:
                raise
            left_out[error.key] = error
            continue
        # Many runs share the cores, so that processes of its own would only slow each of them down.
        alone = False if resolved.processes is None else resolved.processes
        return dataclasses.replace(resolved, processes=alone), left_out


def run_name(settings: Settings, listed: Iterable[str]) -> str:
    """Name a run by what it is and by every other setting that has several values, ``listed``."""
    parts = [settings.default_name]
    for key in listed:
        value = getattr(settings, key)
        if key not in ("protocol", "env", "algo", "remedies", "seed") and value is not None:
            parts.append(f"{key}={'x'.join(map(str, value)) or 'none' if isinstance(value, tuple) else value}")
    return "-".join(parts).replace("/", "-")
