"""Remembers all that running a module may change, and puts it back."""

import copy
import random
from array import array as packed_array
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from functools import partial
from types import CellType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cppo.layers.reach import VALUES, address, contents_of, hooks_of, is_place, parts_of, reachable, slots_of

MOST_BYTES = 2**26
"""The largest array that is remembered unless it is a module's buffer: a larger one is a data set."""

PutBack = Callable[[], None]


class Snapshot:
    """What a module and what can be reached from it hold now: attributes, containers, tensors, arrays, generators.

    Its parameters are remembered too, as some modules constrain them, or count in them, when they run.

    :param module: the module
    :param also: what else is remembered, with all that can be reached from it
    """

    def __init__(self, module: nn.Module, *also: Any) -> None:
        self.values: list[Any] = []
        self._containers: list[Any] = []
        self._held: dict[int, Any] = {}
        self._undo: list[PutBack] = list(_global_generators())
        buffers = {id(buffer) for buffer in module.buffers()}
        for thing in reachable(module, *also, *hooks_of(module)):
            if isinstance(thing, VALUES):
                continue
            self._held[id(thing)] = thing
            if isinstance(thing, Tensor):
                self._undo += _tensor(thing, is_buffer=id(thing) in buffers)
            else:
                self._undo += _anything(thing)
            is_value = isinstance(thing, (Tensor, np.ndarray))
            (self.values if is_value else self._containers).append(thing)

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors that were there."""
        return [each for each in self.values if isinstance(each, Tensor)]

    def news(self) -> Iterator[Any]:
        """What is held now and was not before; and all numbers and text."""
        for container in self._containers:
            yield from (part for part in parts_of(container) if id(part) not in self._held)

    @torch.no_grad()
    def put_back(self) -> None:
        """Make everything what it was; what hasn't changed isn't touched."""
        for undo in self._undo:
            undo()


def _global_generators() -> Iterator[PutBack]:
    yield from (_if_changed(random.getstate, random.setstate), _if_changed(np.random.get_state, np.random.set_state))


def _tensor(tensor: Tensor, is_buffer: bool) -> Iterator[PutBack]:
    if not _can_compare(tensor):
        return
    if isinstance(tensor, nn.Parameter):
        yield partial(_put_back_parameter, tensor, tensor.requires_grad, tensor.grad)
    if is_buffer or tensor.numel() * tensor.element_size() <= MOST_BYTES:
        yield partial(_put_back_values, tensor, tensor.detach(), tensor.detach().clone())


def _can_compare(tensor: Tensor) -> bool:
    """Whether a tensor's values can be compared: those of lazy, sparse, nested, fake and other such tensors can't."""
    try:
        return not nn.parameter.is_lazy(tensor) and torch.equal(tensor, tensor) in (True, False)
    except Exception:
        return False


def _put_back_parameter(parameter: nn.Parameter, requires_grad: bool, gradient: Tensor | None) -> None:
    if parameter.requires_grad != requires_grad:
        parameter.requires_grad_(requires_grad)
    if parameter.grad is not gradient:
        parameter.grad = gradient


def _put_back_values(tensor: Tensor, place: Tensor, values: Tensor) -> None:
    """Let a tensor have its values again, in the memory where they were."""
    if (tensor.shape, tensor.dtype) != (place.shape, place.dtype) or address(tensor) != address(place):
        tensor.data = place
    if not torch.equal(tensor, values):
        tensor.copy_(values)


def _anything(thing: Any) -> Iterator[PutBack]:
    """How to put back what an object holds by itself."""
    if isinstance(thing, nn.Module):
        thing = vars(thing)
    for kind, undo in _UNDO:
        if isinstance(thing, kind):
            yield undo(thing)
            return
    if slots := slots_of(thing):
        yield partial(_put_back_slots, thing, slots)


def _items(mapping: dict) -> PutBack:
    return partial(_put_back_items, mapping, _with_own_iterators(mapping))


def _with_own_iterators(mapping: dict) -> dict:
    return {key: copy.copy(value) if is_place(value) else value for key, value in dict.items(mapping)}


def _array(array: np.ndarray) -> PutBack:
    return partial(_put_back_array, array, array.copy() if array.nbytes <= MOST_BYTES else array)


def _if_changed(get: Callable[[], Any], put: Callable[[Any], Any]) -> PutBack:
    """Set a state back only if it was moved: meanwhile another thread may draw."""
    before = get()

    def undo() -> None:
        if not _same_state(get(), before):
            put(before)

    return undo


def _same_state(one: Any, other: Any) -> bool:
    if isinstance(one, tuple) and any(isinstance(each, np.ndarray) for each in one):  # numpy's
        return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    return one == other


def _put_back_items(mapping: dict, items: dict) -> None:
    now = dict.items(mapping)
    if len(now) != len(items) or any(
        key is not was or value is not held for (key, value), (was, held) in zip(now, items.items(), strict=True)
    ):
        kind: Any = OrderedDict if isinstance(mapping, OrderedDict) else dict
        kind.clear(mapping)
        kind.update(mapping, _with_own_iterators(items))


def _put_back_sequence(sequence: Any, items: tuple) -> None:
    if len(sequence) != len(items) or any(one is not other for one, other in zip(sequence, items, strict=True)):
        kind: Any = list if isinstance(sequence, list) else deque
        kind.clear(sequence)
        kind.extend(sequence, items)


def _put_back_set(members: set, before: frozenset) -> None:
    if members != before:
        set.clear(members)
        set.update(members, before)


def _put_back_array(array: np.ndarray, values: np.ndarray) -> None:
    if array is not values and array.shape == values.shape and array.flags.writeable:
        np.copyto(array, values)


def _put_back_bytes(sequence: Any, values: Any) -> None:
    if sequence != values:
        sequence[:] = values


def _put_back_cell(cell: CellType, contents: tuple[Any, ...]) -> None:
    if contents:
        cell.cell_contents = contents[0]


def _put_back_slots(thing: Any, slots: dict[str, Any]) -> None:
    for name, value in slots.items():
        if getattr(thing, name, None) is not value:
            object.__setattr__(thing, name, value)


_UNDO: tuple[tuple[Any, Callable[[Any], PutBack]], ...] = (
    (dict, _items),
    ((list, deque), lambda thing: partial(_put_back_sequence, thing, tuple(thing))),
    (set, lambda thing: partial(_put_back_set, thing, frozenset(thing))),
    ((bytearray, packed_array), lambda thing: partial(_put_back_bytes, thing, thing[:])),
    (np.ndarray, _array),
    (CellType, lambda cell: partial(_put_back_cell, cell, contents_of(cell))),
    (np.random.BitGenerator, lambda bits: partial(setattr, bits, "state", bits.state)),
    (np.random.Generator, lambda thing: partial(setattr, thing.bit_generator, "state", thing.bit_generator.state)),
    (np.random.RandomState, lambda thing: _if_changed(thing.get_state, thing.set_state)),
    (random.Random, lambda thing: _if_changed(thing.getstate, thing.setstate)),
    (torch.Generator, lambda thing: partial(thing.set_state, thing.get_state())),
)
"""For each kind of object what remembers it."""
