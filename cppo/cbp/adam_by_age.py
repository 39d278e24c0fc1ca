"""Adam in which each weight has a step count of its own, in a compiled loop that takes the optimizer's steps."""

import operator
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
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


class _Cohort(NamedTuple):
    """The parameters of a group that have a gradient, as the loop takes them.

    :param idle: the group's other parameters
    :param addresses: of the parameters
    :param sources: see ``BirthMap.sources``, of all parameters' rows and of all their columns
    :param counts: views of their step counts
    """

    group: Group
    parameters: list[nn.Parameter]
    idle: list[nn.Parameter]
    addresses: list[int]
    places: Places
    sources: tuple[np.ndarray, np.ndarray]
    counts: list[Any]

    def gradients(self) -> list[int] | None:
        """Where the gradients lie; None if the loop can't take one, or if other parameters have one than before."""
        found: list[Any] = [parameter.grad for parameter in self.parameters]
        is_plain = set(map(type, found)) <= {Tensor} and all(map(Tensor.is_contiguous, found))
        return [*map(Tensor.data_ptr, found)] if is_plain and all(each.grad is None for each in self.idle) else None

    def is_current(self, group: Group) -> bool:
        """Whether this is the group, as it was."""
        return (
            group is self.group
            and len(group["params"]) == len(self.parameters) + len(self.idle)
            and [*map(Tensor.data_ptr, self.parameters)] == self.addresses
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
        """Whether the optimizer's last step was taken here."""
        self._cohorts: list[_Cohort] = []
        self._held: list[Any] = []
        self._births: list[Births] = []
        self._nothing_to_do: torch.optim.Optimizer | None = None

    def is_current(self) -> bool:
        """Whether all parameters, states and groups are those that were looked up."""
        groups, held = self.optimizer.param_groups, _held_by(self.optimizer)
        return (
            bool(self._cohorts)
            and len(self._cohorts) == len(groups)
            and len(self._held) == len(held)
            and all(map(operator.is_, self._held, held))
            and all(cohort.is_current(group) for cohort, group in zip(self._cohorts, groups, strict=True))
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
            parameters = [each for each in group["params"] if each.grad is not None]
            if not _is_plain(group) or not self._can_step(parameters):
                return False
            cohorts.append(self._cohort(group, parameters))
        self._cohorts, self._held = cohorts, _held_by(self.optimizer)
        return any(cohort.parameters for cohort in cohorts)

    def forget(self) -> None:
        """Have everything looked up again before the next step."""
        self._cohorts, self._held, self._births = [], [], []

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
            if cohort.parameters:
                _step(cohort, np.array(of_cohort, np.int64), births)

    def _can_step(self, parameters: Sequence[nn.Parameter]) -> bool:
        """Whether parameters, gradients and moments are what the loop can take."""
        for parameter in parameters:
            state, gradient = self.optimizer.state.get(parameter), parameter.grad
            if not state or gradient is None or not parameter.numel():
                return False
            tensors = parameter, gradient, state["exp_avg"], state["exp_avg_sq"]
            is_even = all(each.dtype == parameters[0].dtype and each.shape == parameter.shape for each in tensors)
            if not (is_even and all(map(compiled.can_take, tensors)) and type(gradient) is Tensor):
                return False
        return True

    def _cohort(self, group: Group, parameters: list[nn.Parameter]) -> _Cohort:
        states = [self.optimizer.state[parameter] for parameter in parameters]
        sources = [self._sources_of_matrix(parameter) for parameter in parameters]
        shapes = [(rows.shape[1], columns.shape[1]) for rows, columns in sources]
        addresses = [parameter.data_ptr() for parameter in parameters]
        means, squares = (
            np.array([state[name].data_ptr() for state in states], np.int64) for name in ("exp_avg", "exp_avg_sq")
        )
        kind = np.empty(0, parameters[0].detach().numpy().dtype if parameters else np.float32)
        return _Cohort(
            group,
            parameters,
            [each for each in group["params"] if each.grad is None],
            addresses,
            Places(np.array(shapes, np.int64).reshape(-1, 2), np.array(addresses, np.int64), means, squares, kind),
            (_side_by_side([rows for rows, _ in sources]), _side_by_side([columns for _, columns in sources])),
            [memoryview(state["step"].numpy()) for state in states],
        )

    def _sources_of_matrix(self, parameter: nn.Parameter) -> tuple[np.ndarray, np.ndarray]:
        """See ``BirthMap.sources``, of a parameter seen as a matrix: its first axis by all others."""
        rows, columns = self.birth_map.sources(parameter)
        positions = parameter.numel() // (rows.shape[1] * columns.shape[1])
        return rows, np.repeat(columns, positions, axis=1)

    def __getstate__(self) -> dict[str, Any]:
        """A copy looks everything up itself: what was found lies in the original."""
        return self.__dict__ | {"_cohorts": [], "_held": [], "_births": []}


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
    torch.autograd.graph.increment_version(cohort.parameters)


def _held_by(optimizer: torch.optim.Optimizer) -> list[Any]:
    """All states of an optimizer's parameters and what is in them, so that one sees whether any was exchanged."""
    states = optimizer.state.values()
    return [*states, *chain.from_iterable(state.values() for state in states)]


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
