"""Holds together what belongs to a run: its configuration, its checkpoints, and who wrote them."""

from __future__ import annotations

import warnings

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
    now, then = settings.as_dict(), checkpoint.state.get("session", {}).get("settings") or {}
    changed = [name for name in now if now[name] != then.get(name, now[name]) and name not in CHANGEABLE]
    if changed:
        contradictions = ", ".join(f"{flag(name)} {then[name]}, not {now[name]}" for name in changed)
        raise ValueError(f"{checkpoint.path} was trained with {contradictions}, as config.yaml says now")


def check_origin(checkpoint: Checkpoint, trust_state: bool) -> bool:
    """Find out whether the environments may read their states from a checkpoint, and warn if they may not.

    :param trust_state: whether the user says so, whoever wrote it
    """
    session, environments = (checkpoint.state.get(name) for name in ("session", "environments"))
    trusted = trust_state or bool(checkpoint.is_own)
    notes = []
    if isinstance(session, dict) and "settings" not in session:
        notes.append("an earlier release wrote it, so nothing shows that config.yaml and progress.csv belong to it")
    if environments is not None and not trusted:
        signature = "no signature" if checkpoint.is_own is None else "not your signature"
        notes.append(f"it has {signature}, so its environments begin new episodes; --trust-state takes their state")
    if notes:
        warnings.warn(f"checkpoint {checkpoint.path}: {'; '.join(notes)}", stacklevel=2)
    return trusted
