"""Holds together what belongs to a run: its configuration, its checkpoints, and who wrote them."""

import warnings
from typing import Any

from cppo.runs.checkpoints import Checkpoint
from cppo.settings.limits import flag
from cppo.settings.settings import Settings

CHANGEABLE = ("total_timesteps", "keep_checkpoints", "restart_workers", "update")
"""Settings that leave what has been trained so far as it is."""


def check_settings(settings: Settings, checkpoint: Checkpoint) -> None:
    """Compare the configuration of a run with the one that a checkpoint of it was trained with.

    :param settings: of ``config.yaml``
    :raises ValueError: names each setting that was changed since; a checkpoint of an earlier release doesn't tell
    """
    now, then = settings.as_dict(), _part(_part(checkpoint.state, "session"), "settings")
    try:
        changed = [name for name in now if now[name] != then.get(name, now[name]) and name not in CHANGEABLE]
    except RuntimeError as error:  # of tensors in their places
        raise ValueError(f"{checkpoint.path} does not say with which settings it was trained") from error
    if changed:
        contradictions = ", ".join(f"{flag(name)} {then[name]}, not {now[name]}" for name in changed)
        raise ValueError(f"{checkpoint.path} was trained with {contradictions}, as config.yaml says now")


def check_origin(checkpoint: Checkpoint, trust_state: bool) -> bool:
    """Find out whether the environments may read their states from a checkpoint, and warn if they may not.

    :param trust_state: whether the user says so, whoever wrote it
    """
    trusted = trust_state or bool(checkpoint.is_own)
    notes = []
    if not _part(_part(checkpoint.state, "session"), "settings"):
        notes.append("an earlier release wrote it, so nothing shows that config.yaml and progress.csv belong to it")
    if _part(checkpoint.state, "environments") and not trusted:
        signature = "no signature" if checkpoint.is_own is None else "not your signature"
        notes.append(f"it has {signature}, so its environments begin new episodes; --trust-state takes their state")
    if notes:
        warnings.warn(f"checkpoint {checkpoint.path}: {'; '.join(notes)}", stacklevel=2)
    return trusted


def _part(state: Any, name: str) -> dict[str, Any]:
    """A part of a state; empty where there is none, or something else."""
    part = state.get(name) if isinstance(state, dict) else None
    return part if isinstance(part, dict) else {}
