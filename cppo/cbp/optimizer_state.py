"""A new unit's optimizer state starts afresh, the step count included.

Setting the state of a replaced weight to that of a new parameter is easy. Its step count is not: torch keeps one a
parameter, so Adam would no longer correct the bias of the weight's young moments and its first updates would be wrong
by a factor of 3 (betas .9, .999). So a compiled loop takes Adam's step in its stead, with each weight's own step count
(``adam_by_age.py``); where that can't be, and for other optimizers, the young weights' update is corrected after each
step to the one their own step count gives.

That makes the next updates of a replaced weight those of a new optimizer for SGD, Adam, AdamW, NAdam, RMSprop,
Adadelta, Adagrad without ``lr_decay``, Rprop (their subclasses included) and stable-baselines3's ``RMSpropTFLike``,
with every option and implementation. Any other optimizer is named by a warning at its first step: the state tensors of
a parameter's shape are set to zero for the replaced weights, and its step count goes on.
"""

from __future__ import annotations

import itertools
import math
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cppo import compiled
from cppo.cbp.adam_by_age import AdamByAge
from cppo.cbp.optimizer_families import Group, StepTaken, find_family, initial_value, what_stays_old
from cppo.cbp.young_weights import Cohort, YoungWeights, flat
from cppo.fast.fused_steps import FusedSteps
from cppo.layers.hidden_layer import UnitWeights


def step_was_skipped(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the step that an optimizer has just taken changed nothing: a fused one under AMP's ``GradScaler``.

    To be asked in the optimizer's step hooks; other optimizers aren't even stepped when a gradient isn't finite.
    """
    found_inf = getattr(optimizer, "found_inf", None)
    return found_inf is not None and bool(found_inf)


MULTIPLE = 64
"""Tables have lengths divisible by it: torch computes the elements beyond the last whole vector in another way, and a
coefficient must not depend on how long the table has grown, or a resumed training would not equal one that wasn't."""


def last_grown(now: int, steps_until_grown: float) -> int:
    """Birth of the latest weights that are no longer young, in step counts of their parameter.

    Looking for young weights costs time, so some stay with them a quarter longer than need be. Which ones is a function
    of the step count alone, so that a state that is loaded goes on as if it had never been saved.

    :param now: the parameter's step count
    :param steps_until_grown: steps after which a weight's own count no longer matters
    """
    if now <= steps_until_grown:
        return 0
    quarter = max(1, int(steps_until_grown / 4))
    return (now - math.ceil(steps_until_grown)) // quarter * quarter


class FreshOptimizerState(nn.Module):
    """Gives the weights of replaced units the optimizer state of new parameters, and keeps it that way.

    Its buffer holds, for each part and unit, the parameter's step count at which the unit was last replaced. Apart from
    that it keeps an index and a birth for each young weight: at most as much as two tensors of the parameter's size.

    :param optimizer: the optimizer whose state is meant
    :param parts: every set of weights that belongs to the units of a layer
    """

    def __init__(self, optimizer: torch.optim.Optimizer, parts: Sequence[UnitWeights]) -> None:
        super().__init__()
        self.replaced_at: Tensor
        self.optimizer = optimizer
        self.parts = list(parts)
        ends = torch.tensor([0] + [part.n_units for part in self.parts]).cumsum(0).tolist()
        self.spans = [slice(start, end) for start, end in itertools.pairwise(ends)]
        self._parameters_of_units = list({part.parameter: None for part in self.parts})
        device = self._parameters_of_units[0].device if self.parts else None
        self.register_buffer("replaced_at", torch.zeros(ends[-1], dtype=torch.int64, device=device))
        self._family = find_family(optimizer)
        self._fused_steps = FusedSteps(optimizer)
        self._by_age = AdamByAge(self)
        self._steps_by_age = False
        self._warning = what_stays_old(optimizer)
        self._young: dict[nn.Parameter, YoungWeights] = {}
        self._looked_at: list[YoungWeights] = []
        self._cohorts: list[Cohort] = []
        self._tables: dict[tuple[object, ...], tuple[Tensor, ...]] = {}
        self._stepped: list[bool] | None = None
        self._has_replaced: bool | None = None
        self._grown: list[float] = []
        self._before: dict[nn.Parameter, Tensor] = {}
        self._handle: torch.utils.hooks.RemovableHandle | None = None
        self._keep_weights_before_steps()

    @torch.no_grad()
    def restart(self, part: int, units: Tensor) -> None:
        """Make the state of some units' weights that of a new parameter.

        :param part: which of ``parts``
        :param units: indices of the replaced units
        """
        weights = self.parts[part]
        state = self.optimizer.state.get(weights.parameter)
        if not state:
            return
        group = self.optimizer.param_groups[self._group_numbers()[weights.parameter]]
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == weights.parameter.shape:
                start = initial_value(self.optimizer, group, name)
                weights.view(value).index_fill_(weights.axis, units, start)
        if self._family is not None and self._family.steps_until_grown(group):
            self.replaced_at[self.spans[part]][units] = self._family.clock(state)
            self._young.pop(weights.parameter, None)
            self._stepped = self._has_replaced = None
            self._by_age.forget_births()

    def stand_in(self, has_closure: bool) -> AdamByAge | None:
        """What is to take the next step in the optimizer's stead, if anything is and can; ask before each step.

        :param has_closure: whether the optimizer is going to compute the gradient anew
        """
        if self._has_replaced is None:
            self._has_replaced = bool(self.replaced_at.any())
        self._steps_by_age = self._has_replaced and not has_closure and self._by_age.is_possible()
        return self._by_age if self._steps_by_age else None

    def let_optimizer_step(self, refuse: Callable[[], None]) -> None:
        """Have the optimizer take its step after all, and correct it afterwards.

        :param refuse: raises if a gradient isn't finite
        """
        refuse()
        self._steps_by_age = False
        self.before_step()
        type(self.optimizer).step.__wrapped__(self.optimizer)  # type: ignore[attr-defined] # its hooks have run

    def before_step(self) -> None:
        """Make up for the time that corrections cost, once a unit has been replaced; call it if nothing stands in."""
        if self._has_replaced:
            self._fused_steps.begin()

    @torch.no_grad()
    def correct(self) -> None:
        """Correct the update that the optimizer just gave the young weights; call it once after every step."""
        self._fused_steps.end()
        if self._warning is not None:
            warnings.warn(self._warning, stacklevel=2)
            self._warning = None
        if self._family is None or self._steps_by_age or step_was_skipped(self.optimizer):
            return
        self._find_young()
        for cohort in self._cohorts:
            self._correct(cohort)
        self._before.clear()

    def _correct(self, cohort: Cohort) -> None:
        """Correct a cohort as one vector: with few young weights a parameter, calls cost more than arithmetic."""
        assert self._family is not None
        group, state = self.optimizer.param_groups[cohort.group], cohort.members[0].state
        assert state is not None
        now = self._family.clock(state)
        table = self._coefficients(group, now - cohort.oldest, cohort.precision, cohort.births.device)
        given = self._family.given(group, state)
        if self._family.loop is not None and cohort.arrays is not None:
            columns = [column.numpy() for column in table]
            for arrays in cohort.arrays:
                self._family.loop(*arrays, now, given, *columns, float(group["lr"]))
            return
        moments = [cohort.gather(name) for name in self._family.moments(group)]
        own_steps = now - cohort.births
        weights = (lambda: cohort.pick(self._before.get)) if self._before else (lambda: cohort.gather(""))
        own = tuple(column.index_select(0, own_steps) for column in table)
        step = StepTaken(
            group,
            state,
            given,
            own,
            moments,
            lambda: cohort.pick(lambda parameter: parameter.grad),
            weights,
        )
        missing, of_moment = self._family.missing(step)
        cohort.add("", missing.mul_(float(group["lr"])))
        if of_moment is not None:
            self._correct_moments(cohort, self._family.moments(group)[0], of_moment)

    def _correct_moments(self, cohort: Cohort, name: str, missing: Tensor) -> None:
        """Correct a first moment that started wrong; from now on it goes right by itself."""
        cohort.add(name, missing)
        for young in cohort.members:
            self._young.pop(young.parameter)
            for _, replaced_at in self._births_of_units(young.parameter):
                replaced_at.zero_()
        self._stepped = None

    def _coefficients(
        self, group: Group, most_steps: int, precision: torch.dtype, device: torch.device
    ) -> tuple[Tensor, ...]:
        """Tabulate the optimizer's coefficients by number of steps; kept until a hyperparameter changes."""
        assert self._family is not None
        key = (self._family.hyperparameters(group), precision, device)
        table = self._tables.get(key)
        if table is None or (table and len(table[0]) <= most_steps):
            if len(self._tables) > len(self.optimizer.param_groups):
                self._tables.clear()
            length = MULTIPLE * (2 * most_steps // MULTIPLE + 1)
            steps = torch.arange(length, dtype=torch.float64, device=device)
            table = tuple(column.to(precision) for column in self._family.coefficients(group, steps))
            self._tables[key] = table
        return table

    def _find_young(self) -> None:
        """Look for the weights whose own step count still matters, where something has changed since the last step."""
        assert self._family is not None
        grown = [self._family.steps_until_grown(group) for group in self.optimizer.param_groups]
        if grown != self._grown or any(map(self._is_outgrown, self._cohorts)):
            self._forget_young()
        stepped = [parameter.grad is not None for parameter in self._parameters_of_units]
        entry = self.optimizer.state.get
        if stepped != self._stepped or not all(young.is_current(entry(young.parameter)) for young in self._looked_at):
            self._find_cohorts(list(itertools.compress(self._parameters_of_units, stepped)))
            self._grown, self._stepped = grown, stepped

    def _is_outgrown(self, cohort: Cohort) -> bool:
        """Whether it is time to look which weights of a cohort are still young."""
        assert self._family is not None and cohort.members[0].state is not None
        return cohort.oldest <= last_grown(self._family.clock(cohort.members[0].state), self._grown[cohort.group])

    def _find_cohorts(self, parameters: Sequence[nn.Parameter]) -> None:
        """Look for young weights in the parameters that took the last step, and sort them by what corrects them."""
        assert self._family is not None
        together: dict[tuple[int, int, torch.dtype, torch.device], list[YoungWeights]] = {}
        self._looked_at, numbers = [], self._group_numbers()
        for parameter in parameters:
            state = self.optimizer.state.get(parameter)
            young = self._young.get(parameter)
            if young is None or not young.is_current(state):
                group = self.optimizer.param_groups[numbers[parameter]]
                young = self._young[parameter] = self._find_young_of(parameter, state, group)
            self._looked_at.append(young)
            if state and len(young.index):
                key = (numbers[parameter], self._family.clock(state), parameter.dtype, parameter.device)
                together.setdefault(key, []).append(young)
        self._cohorts = [Cohort(key[0], members) for key, members in together.items()]

    def _find_young_of(self, parameter: nn.Parameter, state: dict[str, Any] | None, group: Group) -> YoungWeights:
        """Look for the young weights of one parameter."""
        assert self._family is not None
        births = torch.zeros(parameter.shape, dtype=torch.int32, device=parameter.device)
        names = self._family.moments(group)
        if state is None or not set(names) <= state.keys():
            nothing = births.flatten()[:0]
            return YoungWeights(parameter, state, {}, nothing, nothing)
        now = self._family.clock(state)
        oldest = last_grown(now, self._family.steps_until_grown(group))
        for part, replaced_at in self._births_of_units(parameter):
            if self._family.counts_steps:
                replaced_at[replaced_at >= now] = 0  # the state is a younger one, in which this never happened
            view = part.view(births)
            units = [-1 if axis == part.axis else 1 for axis in range(view.ndim)]
            young = torch.where(replaced_at > oldest, replaced_at, 0).to(births)
            torch.maximum(view, young.reshape(units), out=view)
        births = births.flatten()
        if compiled.can_take(parameter.detach()):
            index, births = map(torch.from_numpy, compiled.find_positive(births.numpy()))
        else:
            index = births.nonzero().squeeze(1)
            births = births.index_select(0, index)
        if 3 * len(index) > 2 * parameter.numel():
            index = index.int()  # two tensors' memory is the limit for index and births
        tensors = {"": flat(parameter.detach()), **{name: flat(state[name]) for name in names}}
        return YoungWeights(parameter, state, tensors, index, births)

    def _births_of_units(self, parameter: nn.Parameter) -> list[tuple[UnitWeights, Tensor]]:
        """Take the parameter's parts and views of when their units were last replaced."""
        parts = zip(self.parts, self.spans, strict=True)
        return [(part, self.replaced_at[span]) for part, span in parts if part.parameter is parameter]

    def _group_numbers(self) -> dict[Tensor, int]:
        """Tell in which group of the optimizer each parameter is."""
        groups = enumerate(self.optimizer.param_groups)
        return {parameter: number for number, group in groups for parameter in group["params"]}

    def _forget_young(self) -> None:
        self._young, self._looked_at, self._cohorts, self._stepped, self._has_replaced = {}, [], [], None, None
        self._by_age.forget()

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._forget_young()

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles look for the young weights themselves: those found here lie in the original."""
        self._forget_young()
        return {**self.__dict__, "_before": {}, "_handle": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The copy of an optimizer has no hooks."""
        super().__setstate__(state)
        self._keep_weights_before_steps()

    def remove(self) -> None:
        """Take back the hook into the optimizer, if there is one."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _keep_weights_before_steps(self) -> None:
        """Hook into the optimizer where its update can't be told from the weights it leaves; owners may forget us."""
        hook = weakref.WeakMethod(self._keep_weights)
        if self._family is not None and any(map(self._family.weights_before, self.optimizer.param_groups)):
            self._handle = self.optimizer.register_step_pre_hook(lambda *_: (keep := hook()) and keep())

    def _keep_weights(self) -> None:
        self._before = {parameter: parameter.detach().clone() for parameter in self._parameters_of_units}
