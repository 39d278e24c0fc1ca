"""Runs a module to observe it, and leaves it as it was."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from cppo.layers.norms import is_norm
from cppo.layers.snapshot import Snapshot


@contextmanager
def observing(module: nn.Module, training: bool = False, before: Snapshot | None = None) -> Iterator[Snapshot]:
    """Run a module uncompiled inside this context: all that it holds and all random generators are put back.

    So is what its hooks hold: those that are to remember something are registered inside.

    :param module: the module
    :param training: whether to run it in training mode; normalisations stay in evaluation mode even then, which lets
        them take a batch of one
    :param before: what the module holds, where that is known already
    :return: what is put back
    """
    before = before or Snapshot(module)
    devices = {parameter.device for parameter in module.parameters() if parameter.is_cuda}
    try:
        for submodule in module.modules():
            submodule.training = training and not is_norm(submodule)
        with torch.random.fork_rng(list(devices)), _uncompiled:
            yield before
    finally:
        before.put_back()


class _Uncompiled:
    """Lets compiled modules and functions run as they are written.

    That is a setting of the whole process. Of several threads the first one in sets it, and the last one out resets it.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._setting: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._setting = torch.compiler.set_stance("force_eager")
                self._setting.__enter__()
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._setting.__exit__(None, None, None)


_uncompiled = _Uncompiled()


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside of ``torch.compile`` and (distributed) data parallelism, which share its parameters."""
    while True:
        if isinstance(module, (nn.parallel.DistributedDataParallel, nn.parallel.DataParallel)):
            module = module.module
        elif isinstance(compiled := getattr(module, "_orig_mod", None), nn.Module):
            module = compiled
        else:
            return module
