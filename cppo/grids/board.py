"""Shows lines about many runs: kept in place on a terminal, written now and then elsewhere."""

import math
import os
import sys
import time
from collections.abc import Sequence

SECONDS_BETWEEN_REDRAWS = 1.0
SECONDS_BETWEEN_LINES = 30.0
ALL_ABOVE = "\x1b[{}F\x1b[J"
"""Moves the cursor some lines up, to the left, and clears everything from there on."""


class Board:
    """Shows lines that change, below lines that stay.

    :param terminal: whether lines can be kept in place; None: if stderr is a terminal
    """

    def __init__(self, terminal: bool | None = None) -> None:
        self._in_place = sys.stderr.isatty() if terminal is None else terminal
        self._drawn: list[str] = []
        self._last = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether it is time for ``show``: the lines cost a look into each run's folder."""
        pause = SECONDS_BETWEEN_REDRAWS if self._in_place else SECONDS_BETWEEN_LINES
        return time.monotonic() - self._last >= pause

    def say(self, line: str) -> None:
        """Write a line that stays."""
        self.clear()
        print(line, file=sys.stderr, flush=True)
        if self._in_place:
            self._last = -math.inf  # the lines that change are to be drawn again, below

    def show(self, lines: Sequence[str]) -> None:
        """Write the lines that change; as many of them as there is room for, the last one always."""
        self._last = time.monotonic()
        if not self._in_place:
            print(*lines, sep="\n", file=sys.stderr, flush=True)
            return
        width, height = _size()
        room = max(0, height - 2)
        fitting = [line[: width - 1] for line in [*lines[:-1][:room], lines[-1]]]
        self.clear()
        print(*fitting, sep="\n", file=sys.stderr, flush=True)
        self._drawn = fitting

    def clear(self) -> None:
        """Remove the lines that change."""
        if self._drawn:
            print(ALL_ABOVE.format(len(self._drawn)), end="", file=sys.stderr, flush=True)
        self._drawn = []


def _size() -> tuple[int, int]:
    """Columns and lines of the terminal."""
    try:
        columns, lines = os.get_terminal_size(sys.stderr.fileno())
    except (OSError, ValueError):
        columns, lines = 0, 0
    return columns or 80, lines or 24
