"""Takes up a run that was stopped, killed, or failed."""

from __future__ import annotations

from cppo.runs.folder import RunFolder
from cppo.settings.limits import flag
from cppo.settings.settings import Settings

CHANGEABLE = ("total_timesteps", "keep_checkpoints", "restart_workers", "update")
"""Settings that leave what has been trained so far as it is."""


def continued(folder: RunFolder, given: Settings) -> Settings:
    """The settings to resume a run with.

    :param folder: the run
    :param given: the settings asked for
    :return: resolved settings
    :raises FileNotFoundError: if there is no run in the folder
    :raises ValueError: if they contradict those of the run
    """
    own, new = folder.settings().as_dict(), given.as_dict()
    changed = [name for name in own if own[name] != new[name] and name not in CHANGEABLE]
    if changed:
        contradictions = ", ".join(f"{flag(name)} {own[name]}, not {new[name]}" for name in changed)
        raise ValueError(f"{folder.path} was trained with {contradictions}; a run is resumed with its own settings")
    if new["total_timesteps"] < own["total_timesteps"]:
        raise ValueError(
            f"--total-timesteps {new['total_timesteps']} is less than the {own['total_timesteps']} of {folder.path}; "
            "it can only be raised"
        )
    return Settings.from_dict({name: new[name] for name in own}).resolved()
