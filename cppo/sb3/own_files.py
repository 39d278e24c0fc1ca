"""What a saved agent's file says to whom it isn't for."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

STATE = "continual_backprop"
"""Under this name the state of continual backpropagation is saved."""
is_loading: ContextVar[bool] = ContextVar("is_loading", default=False)
"""Whether an algorithm with continual backpropagation loads a file now."""


class NotForPlain:
    """Lies in a file that holds the state of continual backpropagation.

    stable-baselines3's ``load`` makes an object of each attribute in a file before it looks at the state, which its own
    classes have no place for. This one refuses to be made there and says what to do.

    :param saved_by: name of the class that saved the file
    """

    def __init__(self, saved_by: str) -> None:
        self.saved_by = saved_by

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse_plain, (self.saved_by,)


def _refuse_plain(saved_by: str) -> NotForPlain:
    if not is_loading.get():
        raise ValueError(
            "this file holds the state of continual backpropagation: load it with the class that saved it "
            f"({saved_by}; for a run of train.py CPPO does), or, for a file that stable-baselines3's own class loads, "
            f"save with exclude=[{STATE!r}]"
        )
    return NotForPlain(saved_by)


@contextmanager
def setting(variable: ContextVar[bool], value: bool) -> Iterator[None]:
    """Give a variable a value within a ``with`` block."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)
