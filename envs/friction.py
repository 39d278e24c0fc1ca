"""When a property of the world changes, and to what: the ground's friction, or any other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from cppo_envs.arguments import friction_coefficient, plain, whole_number

DEFAULT_CHANGE_EVERY = 10_000_000
DEFAULT_FRICTION_RANGE = (1e-4, 1e4)


@dataclass(frozen=True)
class Schedule:
    """A sequence of values, one per phase of ``change_every`` environment steps.

    The value of a phase depends on the seed and the phase's number and on nothing else: not on which phases were
    asked for before, not on the episodes' seeds. A resumed run and parallel environments therefore see one sequence.

    ``Schedule(1000, (3.7, 24.8)).value(3)`` is the value of the fourth phase; each phase's is drawn log-uniformly from
    ``value_range``, or taken from ``values`` in turn, starting again after the last one.

    Args:
        change_every: Steps of one phase, summed over all environments; ``None`` or infinity: a single endless phase.
        value_range: Lowest and highest value to draw, both above 0; needed unless there are ``values``.
        seed: Seed of the draws, a whole number of at least 0.
        values: The sequence by hand; it takes the place of ``value_range`` and ``seed``.

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: if an argument is out of its range.
    """

    change_every: int | float | None = DEFAULT_CHANGE_EVERY
    value_range: tuple[float, float] | None = None
    seed: int = 0
    values: Sequence[float] | None = None

    range_name: ClassVar[str] = "value_range"
    values_name: ClassVar[str] = "values"

    def __post_init__(self) -> None:
        """Check the arguments and bring them into their plain types."""
        endless = self.change_every is None or self.change_every == math.inf
        change_every = None if endless else whole_number("change_every", self.change_every, minimum=1)
        object.__setattr__(self, "change_every", change_every)
        if self.value_range is not None or self.values is None:
            object.__setattr__(self, "value_range", _checked_range(self.range_name, self.value_range))
        object.__setattr__(self, "seed", whole_number("schedule seed", self.seed, minimum=0))
        if self.values is not None:
            object.__setattr__(self, "values", _checked_sequence(self.values_name, self.values))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.arguments().items())})"

    def arguments(self) -> dict[str, Any]:
        """The arguments that make the same schedule, as plain values that go through JSON."""
        arguments = {
            "change_every": self.change_every,
            self.range_name: self.value_range,
            "seed": self.seed,
            self.values_name: self.values,
        }
        return plain(arguments)

    def phase(self, total_steps: int) -> int:
        """Number of the phase, counted from 0, that is due after ``total_steps`` steps of all environments together."""
        return 0 if self.change_every is None else int(total_steps // self.change_every)

    def value(self, phase: int) -> float:
        """Value of a phase, in the unit of the property that changes.

        Raises:
            TypeError: if ``phase`` is not a whole number.
            ValueError: if ``phase`` is negative.
        """
        phase = whole_number("phase", phase, minimum=0)
        if self.values is not None:
            return self.values[phase % len(self.values)]
        assert self.value_range is not None
        low, high = self.value_range
        # SeedSequence promises the same words in every numpy version, which the methods of Generator do not.
        word = np.random.SeedSequence(self.seed, spawn_key=(phase,)).generate_state(1, np.uint64)[0]
        uniform = (int(word) >> 11) * 2.0**-53
        value = math.exp(math.log(low) + uniform * (math.log(high) - math.log(low)))
        return min(max(value, low), high)


class FrictionSchedule(Schedule):
    """A sequence of frictions: a :class:`Schedule` whose arguments are named after them, with a range of its own.

    ``FrictionSchedule(seed=0).friction(3)`` is the friction of the fourth phase.

    Args:
        change_every: Steps of one phase, summed over all environments; ``None`` or infinity: a single endless phase.
        friction_range: Lowest and highest friction to draw, both above 0.
        seed: Seed of the draws, a whole number of at least 0.
        frictions: The sequence by hand; it takes the place of ``friction_range`` and ``seed``.

    Raises:
        TypeError: if an argument is of the wrong type.
        ValueError: if an argument is out of its range.
    """

    range_name = "friction_range"
    values_name = "frictions"

    def __init__(
        self,
        change_every: int | float | None = DEFAULT_CHANGE_EVERY,
        friction_range: tuple[float, float] = DEFAULT_FRICTION_RANGE,
        seed: int = 0,
        frictions: Sequence[float] | None = None,
    ) -> None:
        """Hand the arguments on under the names of any schedule."""
        super().__init__(change_every, _checked_range(self.range_name, friction_range), seed, frictions)

    def friction(self, phase: int) -> float:
        """Ground friction of a phase, a coefficient without unit; see :meth:`Schedule.value`."""
        return self.value(phase)


def _checked_range(name: str, value_range: object) -> tuple[float, float]:
    allowed = "two numbers (low, high) with 0 < low <= high"
    if isinstance(value_range, str) or not isinstance(value_range, Sequence | np.ndarray):
        raise TypeError(f"{name} must be {allowed}, got {value_range!r}")
    if len(value_range) != 2:
        raise ValueError(f"{name} must be {allowed}, got {value_range!r}")
    low, high = (friction_coefficient(f"{name}'s bounds", bound, allow_zero=False) for bound in value_range)
    if low > high:
        raise ValueError(f"{name} must be {allowed}, got {value_range!r}")
    return low, high


def _checked_sequence(name: str, values: object) -> tuple[float, ...]:
    allowed = "a non-empty sequence of finite numbers of at least 0"
    if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
        raise TypeError(f"{name} must be {allowed}, got {values!r}")
    if len(values) == 0:
        raise ValueError(f"{name} must be {allowed}, got {values!r}")
    return tuple(friction_coefficient(f"each of {name}", value) for value in values)
