"""Runs a module to observe it, and leaves it as it was."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from cppo.layers.hidden_layer import is_norm


@contextmanager
def observing(module: nn.Module, training: bool = False) -> Iterator[None]:
    """Run a module uncompiled inside this context: its modes, its buffers and all random generators are restored.

    :param module: the module
    :param training: whether to run it in training mode; normalisations stay in evaluation mode even then, which lets
        them take a batch of one
    """
    modes = {submodule: submodule.training for submodule in module.modules()}
    buffers = [
        (submodule, name, buffer, buffer.clone())
        for submodule in modes
        for name, buffer in submodule._buffers.items()
        if buffer is not None
    ]
    devices = {parameter.device for parameter in module.parameters() if parameter.is_cuda}
    try:
        for submodule in modes:
            submodule.training = training and not is_norm(submodule)
        with torch.random.fork_rng(list(devices)), torch.compiler.set_stance("force_eager"), warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"Using `torch\.compile\(module\)` when there are global hooks")
            yield
    finally:
        for submodule, mode in modes.items():
            submodule.training = mode
        with torch.no_grad():
            for submodule, name, buffer, value in buffers:
                submodule._buffers[name] = buffer.copy_(value)


def unwrapped(module: nn.Module) -> nn.Module:
    """The module inside of ``torch.compile`` and (distributed) data parallelism, which share its parameters."""
    while True:
        if isinstance(module, (nn.parallel.DistributedDataParallel, nn.parallel.DataParallel)):
            module = module.module
        elif isinstance(compiled := getattr(module, "_orig_mod", None), nn.Module):
            module = compiled
        else:
            return module
