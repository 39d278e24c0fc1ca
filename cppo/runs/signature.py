"""Signs what this user's trainings write, with a key that lies in the user's own folder.

The state of an environment can hold bytes for its engine's own reader, which bad ones may crash or worse. It is taken
only from a checkpoint with this user's signature.
"""

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import warnings
from pathlib import Path
from typing import Any

from cppo.files import naming, partial_name, sync
from cppo.reading import read_bytes

KEY_BYTES = 32
NO_KEY = (OSError, ValueError, RuntimeError)  # the last where the user has no home


def key_path() -> Path:
    """Where the user's key lies."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "cppo" / "key"


def sign(facts: dict[str, Any]) -> dict[str, Any]:
    """Add the user's signature to some facts; where the user can have no key they stay without, with a warning."""
    try:
        path = key_path()
        if not path.exists():
            _make_key(path)
        return facts | {"signature": _signature(facts, _read_key(path))}
    except NO_KEY as error:
        warnings.warn(
            f"checkpoints are written without your signature ({error}): resuming one begins new episodes", stacklevel=2
        )
        return facts


def signed_by_us(facts: dict[str, Any]) -> bool | None:
    """Whether the signature of some facts is this user's.

    :return: None if there is none
    """
    signature = facts.get("signature")
    if not signature:
        return None
    try:
        key = _read_key(key_path())
    except NO_KEY:
        return False
    signed = {name: value for name, value in facts.items() if name != "signature"}
    return hmac.compare_digest(_signature(signed, key).encode(), signature.encode(errors="replace"))


def _signature(facts: dict[str, Any], key: bytes) -> str:
    return hmac.new(key, json.dumps(facts, sort_keys=True).encode(), hashlib.sha256).hexdigest()


def _read_key(path: Path) -> bytes:
    key = read_bytes(path, KEY_BYTES)
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path} has {len(key)} bytes instead of {KEY_BYTES}; remove it")
    return key


def _make_key(path: Path) -> None:
    """Make a key that only the user can read; of several processes that do so at once the first prevails."""
    with naming(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = partial_name(path)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with contextlib.ExitStack() as undo:
            undo.callback(partial.unlink, missing_ok=True)
            with open(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
            sync(partial)
            with contextlib.suppress(FileExistsError):
                os.link(partial, path)
