"""When the ground's friction changes, and to what."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cppo_envs.arguments import friction_coefficient, plain, whole_number

DEFAULT_CHANGE_EVERY = 10_000_000
DEFAULT_FRICTION_RANGE = (1e-4, 1e4)


@dataclass(frozen=True)
class FrictionSchedule:
    """A sequence of ground frictions, one per phase of ``change_every`` environment steps.

    The friction of a phase depends on the seed and the phase's number and on nothing else: not on which phases were
    asked for before, not on the episodes' seeds. A resumed run and parallel environments therefore see one sequence.

    ``FrictionSchedule(seed=0).friction(3)`` is the friction of the fourth phase; each phase's is drawn log-uniformly
    from ``friction_range``, or taken from ``frictions`` in turn, starting again after the last one.

    Args:
        change_every: Steps of one phase, summed over all environments; ``None`` or infinity: a single endless phase.
        friction_range: Lowest and highest friction to draw, both above 0.
        seed: Seed of the draws, a whole number of at least 0.
        frictions: The sequence by hand; it takes the place of ``friction_range`` and ``seed``.

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: if an argument is out of its range.
    """

    change_every: int | float | None = DEFAULT_CHANGE_EVERY
    friction_range: tuple[float, float] = DEFAULT_FRICTION_RANGE
    seed: int = 0
    frictions: Sequence[float] | None = None

    def __post_init__(self) -> None:
        """Check the arguments and bring them into their plain types."""
        endless = self.change_every is None or self.change_every == math.inf
        change_every = None if endless else whole_number("change_every", self.change_every, minimum=1)
        object.__setattr__(self, "change_every", change_every)
        object.__setattr__(self, "friction_range", _checked_range(self.friction_range))
        object.__setattr__(self, "seed", whole_number("schedule seed", self.seed, minimum=0))
        if self.frictions is not None:
            object.__setattr__(self, "frictions", _checked_sequence(self.frictions))

    def arguments(self) -> dict[str, Any]:
        """The arguments that make the same schedule, as plain values that go through JSON."""
        return plain(asdict(self))

    def phase(self, total_steps: int) -> int:
        """Number of the phase, counted from 0, that is due after ``total_steps`` steps of all environments together."""
        return 0 if self.change_every is None else int(total_steps // self.change_every)

    def friction(self, phase: int) -> float:
        """Ground friction of a phase, a Bullet friction coefficient without unit.

        Raises:
            TypeError: if ``phase`` is not a whole number.
            ValueError: if ``phase`` is negative.
        """
        phase = whole_number("phase", phase, minimum=0)
        if self.frictions is not None:
            return self.frictions[phase % len(self.frictions)]
        low, high = self.friction_range
        # SeedSequence promises the same words in every numpy version, which the methods of Generator do not.
        word = np.random.SeedSequence(self.seed, spawn_key=(phase,)).generate_state(1, np.uint64)[0]
        uniform = (int(word) >> 11) * 2.0**-53
        friction = math.exp(math.log(low) + uniform * (math.log(high) - math.log(low)))
        return min(max(friction, low), high)


def _checked_range(friction_range: object) -> tuple[float, float]:
    allowed = "two numbers (low, high) with 0 < low <= high"
    if isinstance(friction_range, str) or not isinstance(friction_range, Sequence | np.ndarray):
        raise TypeError(f"friction_range must be {allowed}, got {friction_range!r}")
    if len(friction_range) != 2:
        raise ValueError(f"friction_range must be {allowed}, got {friction_range!r}")
    low, high = (friction_coefficient("friction_range's bounds", bound, allow_zero=False) for bound in friction_range)
    if low > high:
        raise ValueError(f"friction_range must be {allowed}, got {friction_range!r}")
    return low, high


def _checked_sequence(frictions: object) -> tuple[float, ...]:
    allowed = "a non-empty sequence of finite numbers of at least 0"
    if isinstance(frictions, str) or not isinstance(frictions, Sequence | np.ndarray):
        raise TypeError(f"frictions must be {allowed}, got {frictions!r}")
    if len(frictions) == 0:
        raise ValueError(f"frictions must be {allowed}, got {frictions!r}")
    return tuple(friction_coefficient("each of frictions", friction) for friction in frictions)
