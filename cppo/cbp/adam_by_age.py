"""Adam in which each weight has a step count of its own, in a compiled loop that takes the optimizer's steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cppo import compiled
from cppo.cbp.adam_loop import Births, Places, Rules, step_adam
from cppo.cbp.births import BirthMap

KINDS = (torch.optim.Adam, torch.optim.AdamW)
NEGLIGIBLE = 1e-5
"""Adam's bias corrections no longer count once they change an update by less than this share."""

Group = dict[str, Any]
"""A parameter group of an optimizer: its hyperparameters by name."""


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
    """The parameters of a group that have a gradient, as the loop takes them.

    :param idle: the group's other parameters
    :param sources: see ``BirthMap.sources``, of all members' rows and of all their columns
    :param counts: views of the members' step counts
    """

    group: Group
    members: list[_Member]
    idle: list[nn.Parameter]
    places: Places
    sources: tuple[np.ndarray, np.ndarray]
    counts: list[Any]

    def gradients(self) -> np.ndarray | None:
        """Where the gradients lie; None if the loop can't take one, or if other parameters have one than before."""
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
    """Takes Adam's steps, each weight corrected for its own number of steps, in the time of torch's fused kernel.

    Where it can't (another optimizer or device, AMSGrad, an implementation that the user chose, a parameter that has no
    state yet) the optimizer takes its step itself.

    :param optimizer: the optimizer
    :param birth_map: tells which rows and columns belong to which unit
    """

    def __init__(self, optimizer: torch.optim.Optimizer, birth_map: BirthMap) -> None:
        self.optimizer = optimizer
        self.birth_map = birth_map
        self.took_step = False
        """Whether the step that was redirected last was taken here."""
        self._cohorts: list[_Cohort] = []
        self._births: list[Births] = []
        self._nothing_to_do: torch.optim.Optimizer | None = None

    def is_current(self) -> bool:
        """Whether all parameters, states and groups are those that were looked up."""
        groups, states = self.optimizer.param_groups, self.optimizer.state
        return (
            bool(self._cohorts)
            and len(self._cohorts) == len(groups)
            and all(cohort.is_current(group, states) for cohort, group in zip(self._cohorts, groups, strict=True))
            and all(map(_is_plain, groups))
            and getattr(self.optimizer, "grad_scale", None) is None
        )

    def look_up(self) -> bool:
        """Find the parameters, their states and units; say whether the loop can take the next step."""
        self.forget()
        if type(self.optimizer) not in KINDS or getattr(self.optimizer, "grad_scale", None) is not None:
            return False
        cohorts = []
        for group in self.optimizer.param_groups:
            members = self._members([each for each in group["params"] if each.grad is not None])
            if members is None or not _is_plain(group):
                return False
            cohorts.append(self._cohort(group, members))
        self._cohorts = cohorts
        return any(cohort.members for cohort in cohorts)

    def forget(self) -> None:
        """Have everything looked up again before the next step."""
        self._cohorts, self._births = [], []

    def forget_births(self) -> None:
        """Have births looked up again before the next step."""
        self._births = []

    def redirect_step(self, born: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what a step pre-hook returns to have torch call ``take_step`` where it would call the optimizer.

        torch calls ``step`` with what the last hook returned: another optimizer as ``self``, which has nothing to do,
        and a closure, which it calls first. All hooks run as ever.

        :param born: see ``BirthMap``
        """
        if self._nothing_to_do is None:
            self._nothing_to_do = type(self.optimizer)([torch.zeros(1)])  # type: ignore[call-arg]
        return (self._nothing_to_do, lambda: self.take_step(born)), {}

    def take_step(self, born: Tensor) -> None:
        """Take a step; leave it to the optimizer where a later hook has exchanged a gradient."""
        gradients = [found for cohort in self._cohorts if (found := cohort.gradients()) is not None]
        self.took_step = len(gradients) == len(self._cohorts)
        if not self.took_step:
            type(self.optimizer).step.__wrapped__(self.optimizer)  # type: ignore[attr-defined] # its hooks have run
            return
        if not self._births:
            padded = np.append(born.numpy(), 0)
            self._births = [Births(*(padded[each].max(axis=0) for each in cohort.sources)) for cohort in self._cohorts]
        for cohort, of_cohort, births in zip(self._cohorts, gradients, self._births, strict=True):
            if cohort.members:
                _step(cohort, of_cohort, births)

    def _members(self, parameters: Sequence[nn.Parameter]) -> list[_Member] | None:
        members = []
        for parameter in parameters:
            state, gradient = self.optimizer.state.get(parameter), parameter.grad
            if not state or gradient is None or not parameter.numel():
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
        sources = [self._sources_of_matrix(parameter) for parameter in parameters]
        shapes = [(rows.shape[1], columns.shape[1]) for rows, columns in sources]
        places = Places(
            np.array(shapes, np.int64).reshape(-1, 2),
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
        )

    def _sources_of_matrix(self, parameter: nn.Parameter) -> tuple[np.ndarray, np.ndarray]:
        """See ``BirthMap.sources``, of a parameter seen as a matrix: its first axis by all others."""
        rows, columns = self.birth_map.sources(parameter)
        positions = parameter.numel() // (rows.shape[1] * columns.shape[1])
        return rows, np.repeat(columns, positions, axis=1)

    def __getstate__(self) -> dict[str, Any]:
        """A copy looks everything up itself: what was found lies in the original."""
        return self.__dict__ | {"_cohorts": [], "_births": []}


def steps_to_forget(group: Group) -> float:
    """Steps after which Adam's corrections are negligible: those of the slower moment count longest."""
    return _steps_for(*map(float, group["betas"]))


@lru_cache(maxsize=64)
def _steps_for(*betas: float) -> float:
    slowest = max(beta for beta in betas if beta < 1)
    return float(np.log(NEGLIGIBLE) / np.log(slowest)) if slowest > 0 else 1.0


def _step(cohort: _Cohort, gradients: np.ndarray, births: Births) -> None:
    for count in cohort.counts:
        count[()] += 1
    now = np.array([count[()] for count in cohort.counts], np.int64)
    rules = _rules(cohort.group)
    steps = int(steps_to_forget(cohort.group))
    corrections = _corrections(rules.beta1, rules.beta2, steps, cohort.places.kind.dtype)
    step_adam(cohort.places, gradients, births, now, corrections, rules)
    torch.autograd.graph.increment_version([member.parameter for member in cohort.members])


def _side_by_side(lines: Sequence[np.ndarray]) -> np.ndarray:
    """Join matrices along their rows; those with fewer get their first one, which holds nothing, again and again."""
    most = max(map(len, lines), default=0)
    padded = [np.concatenate([each, np.repeat(each[:1], most - len(each), axis=0)]) for each in lines]
    return np.concatenate(padded, axis=1) if padded else np.zeros((1, 0), np.int64)


def _is_plain(group: Group) -> bool:
    """Whether a group's steps are those of Adam's plain or fused implementation, which the loop equals to rounding."""
    others = ("foreach", "amsgrad", "capturable", "differentiable")
    numbers = (group["lr"], group["eps"], *group["betas"])
    return not any(group[name] for name in others) and not any(map(torch.is_tensor, numbers))


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
def _corrections(beta1: float, beta2: float, most_steps: int, kind: np.dtype) -> np.ndarray:
    """Tabulate Adam's corrections after 0, 1, 2, ... steps."""
    steps = np.arange(most_steps + 1, dtype=np.float64)
    return np.stack([1 - beta1**steps, np.sqrt(1 - beta2**steps)]).astype(kind)


def _addresses(tensors: Iterable[Tensor]) -> np.ndarray:
    return np.array([tensor.data_ptr() for tensor in tensors], np.int64)
