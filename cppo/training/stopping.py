"""Lets Ctrl-C and SIGTERM stop a training in order."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType, TracebackType

from typing_extensions import Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest(KeyboardInterrupt):
    """A second Ctrl-C or SIGTERM: stop now, wherever the training is.

    A ``KeyboardInterrupt``, so that nothing takes it for an error that can be dealt with.
    """


class Stopper:
    """Notes the first Ctrl-C or SIGTERM, for the training to stop after the update at work; the second one stops it.

    An exception in the middle of a step would leave an optimizer step half done, and the answer of a worker process
    half read, for which closing would then wait forever. Where locks are held it would leave them so, upon which the
    next one who wants them waits forever: there the second one waits as well, see ``holding_locks``. Handlers are put
    back at the end of the ``with`` block.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._is_urgent = self._holds_locks = False

    @property
    def exit_code(self) -> int:
        """What a shell shows for a command ended by the signal: 130 for Ctrl-C, 143 for SIGTERM; 0 without one."""
        return 0 if self.signal is None else 128 + self.signal

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            self._is_urgent = True
            self._stop_if_urgent()
            return
        self.signal = number
        print("\nstopping after this rollout and its update; once more stops at once", file=sys.stderr, flush=True)

    def _stop_if_urgent(self) -> None:
        if self._is_urgent and not self._holds_locks:
            raise StopRequest

    @contextlib.contextmanager
    def holding_locks(self) -> Iterator[None]:
        """Let a second signal wait until the end of the block, which is to be short.

        :raises StopRequest: at its end, if there was one
        """
        self._holds_locks = True
        try:
            yield
        finally:
            self._holds_locks = False
        self._stop_if_urgent()

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
