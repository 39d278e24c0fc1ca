"""Adam that knows how old each weight is, for the time in which some weights are younger than their parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cppo import compiled
from cppo.cbp.adam_loop import Births, Places, Rules, are_finite, step_adam
from cppo.cbp.optimizer_families import Group, steps_to_forget

if TYPE_CHECKING:
    from cppo.cbp.optimizer_state import FreshOptimizerState

KINDS = (torch.optim.Adam, torch.optim.AdamW)


class _Member(NamedTuple):
    """A parameter, what the optimizer keeps of it, and where it lies."""

    parameter: nn.Parameter
    state: dict[str, Any]
    moments: tuple[Tensor, Tensor]
    steps: Tensor
    address: int

    def is_current(self, state: dict[str, Any] | None) -> bool:
        """Whether everything is where it was."""
        return (
            state is self.state
            and state["exp_avg"] is self.moments[0]
            and state["exp_avg_sq"] is self.moments[1]
            and state["step"] is self.steps
            and self.parameter.data_ptr() == self.address
        )


class _Cohort(NamedTuple):
    """The parameters of a group that have a gradient, as the loops take them.

    :param idle: the group's other parameters
    :param sources: of each row of each matrix, and of each column, where among the units of all parts its own is; one
        line for each layer of units that may be read there, the last place of all for none
    """

    group: Group
    members: list[_Member]
    idle: list[nn.Parameter]
    places: Places
    sources: tuple[np.ndarray, np.ndarray]
    counts: list[Any]
    checked: np.ndarray

    def gradients(self) -> np.ndarray | None:
        """Where the gradients lie; None if the loops can't take one, or if other parameters have one than before."""
        found = [member.parameter.grad for member in self.members]
        if any(each.grad is not None for each in self.idle):
            return None
        addresses = [each.data_ptr() for each in found if type(each) is Tensor and each.is_contiguous()]
        return np.array(addresses, np.int64) if len(addresses) == len(found) else None

    def is_current(self, group: Group, states: Any) -> bool:
        """Whether this is the group, as it was."""
        return (
            group is self.group
            and len(group["params"]) == len(self.members) + len(self.idle)
            and all(member.is_current(states.get(member.parameter)) for member in self.members)
            and self.gradients() is not None
        )


class AdamByAge:
    """Takes the steps of an optimizer in its stead, each weight corrected for its own number of steps.

    A compiled loop takes a step in the time of torch's fused kernel, the weights' own ages included. So nothing has to
    be corrected afterwards. Where it can't be done (another optimizer or device, AMSGrad, an implementation that the
    user chose, a parameter that has no state yet) the optimizer takes its step itself.

    :param owner: the ``FreshOptimizerState`` that knows when units were replaced
    """

    def __init__(self, owner: FreshOptimizerState) -> None:
        self.owner = owner
        self._cohorts: list[_Cohort] = []
        self._births: list[Births] = []
        self._nothing_to_do: torch.optim.Optimizer | None = None

    def is_possible(self) -> bool:
        """Whether the next step can be taken here; looks everything up that has changed since the last one."""
        optimizer = self.owner.optimizer
        if type(optimizer) not in KINDS or getattr(optimizer, "grad_scale", None) is not None:
            return False
        groups = optimizer.param_groups
        if not all(map(_is_plain, groups)):
            return False
        pairs = zip(self._cohorts, groups, strict=False)
        is_current = len(self._cohorts) == len(groups) and all(
            cohort.is_current(group, optimizer.state) for cohort, group in pairs
        )
        return is_current or self._look_up()

    def forget(self) -> None:
        """Look everything up again before the next step."""
        self._cohorts, self._births = [], []

    def forget_births(self) -> None:
        """Look up again when units were replaced before the next step: some have just been."""
        self._births = []

    def take_step(self, refuse: Callable[[], None]) -> None:
        """Take the step; call it if it is possible.

        :param refuse: raises what says which gradient isn't finite; called before anything is changed
        """
        gradients = [found for cohort in self._cohorts if (found := cohort.gradients()) is not None]
        if len(gradients) < len(self._cohorts):  # a hook after ours has exchanged one
            self.owner.let_optimizer_step(refuse)
            return
        for cohort, of_cohort in zip(self._cohorts, gradients, strict=True):
            if not are_finite(cohort.places, of_cohort, cohort.checked):
                refuse()
        if not self._births:
            replaced_at = np.append(self.owner.replaced_at.numpy(), 0)
            self._births = [
                Births(*(replaced_at[each].max(axis=0) for each in cohort.sources)) for cohort in self._cohorts
            ]
        for cohort, of_cohort, births in zip(self._cohorts, gradients, self._births, strict=True):
            if cohort.members:
                self._step(cohort, of_cohort, births)

    def _step(self, cohort: _Cohort, gradients: np.ndarray, births: Births) -> None:
        for count in cohort.counts:
            count[()] += 1
        now = np.array([count[()] for count in cohort.counts], np.int64)
        rules = _rules(cohort.group)
        corrections = _corrections(rules.beta1, rules.beta2, cohort.places.kind.dtype)
        step_adam(cohort.places, gradients, births, now, corrections, rules)
        torch.autograd.graph.increment_version([member.parameter for member in cohort.members])

    def in_its_stead(self, refuse: Callable[[], None]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What a pre-hook has torch call ``step`` with: an optimizer with nothing to do, and a closure.

        torch calls the closure when all hooks before the step have run, and all after it run as ever.
        """
        if self._nothing_to_do is None:
            self._nothing_to_do = type(self.owner.optimizer)([torch.zeros(1)])  # type: ignore[call-arg]
        return (self._nothing_to_do, lambda: self.take_step(refuse)), {}

    def _look_up(self) -> bool:
        """Find the parameters, their states and ages; say whether the loops can work on all of them."""
        self.forget()
        cohorts = []
        for group in self.owner.optimizer.param_groups:
            members = self._members([each for each in group["params"] if each.grad is not None])
            if members is None:
                return False
            cohorts.append(self._cohort(group, members))
        self._cohorts = cohorts
        return any(cohort.members for cohort in cohorts)

    def _members(self, parameters: Sequence[nn.Parameter]) -> list[_Member] | None:
        members = []
        for parameter in parameters:
            state, gradient = self.owner.optimizer.state.get(parameter), parameter.grad
            if not state or gradient is None:
                return None
            moments = state["exp_avg"], state["exp_avg_sq"]
            tensors = parameter, gradient, *moments
            is_even = all(each.dtype == parameters[0].dtype and each.shape == parameter.shape for each in tensors)
            if not (is_even and all(map(compiled.can_take, tensors)) and type(gradient) is Tensor):
                return None
            members.append(_Member(parameter, state, moments, state["step"], parameter.data_ptr()))
        return members

    def _cohort(self, group: Group, members: list[_Member]) -> _Cohort:
        parameters = [member.parameter for member in members]
        parts: dict[nn.Parameter, list[int]] = {parameter: [] for parameter in parameters}
        for number, part in enumerate(self.owner.parts):
            if part.parameter in parts:
                parts[part.parameter].append(number)
        sources = [self._sources(member, parts[member.parameter]) for member in members]
        places = Places(
            np.array([_shape_of_matrix(each) for each in parameters], np.int64).reshape(-1, 2),
            _addresses(parameters),
            _addresses([member.moments[0] for member in members]),
            _addresses([member.moments[1] for member in members]),
            np.empty(0, members[0].moments[0].numpy().dtype if members else np.float32),
        )
        return _Cohort(
            group,
            members,
            [each for each in group["params"] if each.grad is None],
            places,
            (_side_by_side([rows for rows, _ in sources]), _side_by_side([columns for _, columns in sources])),
            [memoryview(member.steps.numpy()) for member in members],  # type: ignore[arg-type]
            np.array([bool(parts[each]) for each in parameters]),
        )

    def _sources(self, member: _Member, parts: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """For the rows and for the columns of a parameter: lines of places among the units of all parts."""
        parameter, now = member.parameter, int(member.state["step"])
        shape = _shape_of_matrix(parameter)
        none = len(self.owner.replaced_at)
        lines: tuple[list[np.ndarray], list[np.ndarray]] = ([np.full(shape[0], none)], [np.full(shape[1], none)])
        for number in parts:
            part, span = self.owner.parts[number], self.owner.spans[number]
            replaced_at = self.owner.replaced_at[span]
            replaced_at[replaced_at > now] = 0  # the state is a younger one, in which this never happened
            axis = part.axis if parameter.ndim > 1 else 1  # a vector is one row
            positions = shape[1] // parameter.shape[1] if axis == 1 and parameter.ndim > 1 else 1  # of a convolution
            of_units = np.repeat(np.arange(span.start, span.stop), part.block * positions)
            line, start = np.full(shape[axis], none), part.start * positions
            line[start : start + len(of_units)] = of_units
            lines[axis].append(line)
        return np.stack(lines[0]), np.stack(lines[1])


def _side_by_side(lines: Sequence[np.ndarray]) -> np.ndarray:
    """Join matrices along their rows; those with fewer get their first one, which holds nothing, again and again."""
    most = max(map(len, lines), default=0)
    padded = [np.concatenate([each, np.repeat(each[:1], most - len(each), axis=0)]) for each in lines]
    return np.concatenate(padded, axis=1) if padded else np.zeros((1, 0), np.int64)


def _is_plain(group: Group) -> bool:
    """Whether a group's steps are Adam's as the user left it."""
    others = ("foreach", "fused", "amsgrad", "capturable", "differentiable")
    numbers = (group["lr"], group["eps"], *group["betas"])
    return bool(group["params"]) and not any(group[name] for name in others) and not any(map(torch.is_tensor, numbers))


def _rules(group: Group) -> Rules:
    beta1, beta2 = group["betas"]
    return Rules(
        float(group["lr"]),
        float(beta1),
        float(beta2),
        float(group["eps"]),
        float(group["weight_decay"]),
        bool(group["decoupled_weight_decay"]),
        bool(group["maximize"]),
    )


@lru_cache(maxsize=16)
def _corrections(beta1: float, beta2: float, kind: np.dtype) -> np.ndarray:
    """Adam's corrections after 0, 1, 2, ... steps, up to where they no longer matter."""
    steps = np.arange(int(steps_to_forget(beta1, beta2)) + 1, dtype=np.float64)
    return np.stack([1 - beta1**steps, np.sqrt(1 - beta2**steps)]).astype(kind)


def _shape_of_matrix(tensor: Tensor) -> tuple[int, int]:
    """A tensor's as a matrix: the first axis by all others; a vector is one row."""
    return (1, tensor.numel()) if tensor.ndim < 2 else (tensor.shape[0], tensor.numel() // tensor.shape[0])


def _addresses(tensors: Iterable[Tensor]) -> np.ndarray:
    return np.array([tensor.data_ptr() for tensor in tensors], np.int64)
