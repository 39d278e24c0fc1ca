"""The remedies of a run: which settings steer them, and what they are called in ``cppo.remedies``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cppo.remedies.registry import CBP, check_combination
from cppo.settings.choices import REMEDY_FIELDS

if TYPE_CHECKING:
    from cppo.settings.settings import Settings

DRAWING = ("redo", "ccbp", "reset-last")
"""The remedies that draw new weights; they do so as the run drew its first ones."""


def remedies_of(settings: Settings) -> dict[str, dict[str, Any]]:
    """The remedies of a run as ``RemediesMixin`` takes them.

    :param settings: resolved settings
    """
    return {
        name: {argument: getattr(settings, key) for key, argument in REMEDY_FIELDS.get(name, {}).items()}
        | ({"initializer": settings.weight_init} if name in DRAWING else {})
        for name in settings.remedies
    }


def check_remedies_of(settings: Settings) -> None:
    """Check that what a run does against loss of plasticity goes together.

    :param settings: resolved settings
    :raises ValueError: names what doesn't
    """
    if twice := [name for name in settings.remedies if settings.remedies.count(name) > 1]:
        raise ValueError(f"--remedies names {twice[0]} twice")
    besides = [CBP] * settings.is_continual + ["l2"] * (settings.weight_decay > 0)
    check_combination([*settings.remedies, *besides])
