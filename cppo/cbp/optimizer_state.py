"""A new unit's optimizer state starts afresh, the step count included.

Setting the state of a replaced weight to that of a new parameter is easy. Its step count is not: torch keeps one a
parameter, so Adam would no longer correct the bias of the weight's young moments and its first updates would be wrong
by a factor of 3 (betas .9, .999). There are three ways to take Adam's step here: torch's own, as long as no unit was
replaced; a compiled loop that knows each weight's age (``adam_by_age.py``); and, where that can't run, torch's own with
the young weights' updates corrected afterwards.

So the next updates of a replaced weight are those of a new optimizer for SGD without dampening, Adam, AdamW, RMSprop,
Adadelta, Adagrad without ``lr_decay``, Rprop (their subclasses included) and stable-baselines3's ``RMSpropTFLike``,
with every option and implementation. Any other optimizer is named by a warning at its first step: for the replaced
weights its state tensors of a parameter's shape become what they were when they were made, and its step count goes on.
What is out of reach (the state of an optimizer inside of the one given) is said at once.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cppo.cbp.adam_by_age import AdamByAge, Group, steps_to_forget
from cppo.cbp.births import BirthMap
from cppo.cbp.fresh_values import Fresh, FreshValues
from cppo.cbp.optimizer_limits import find_wrapped, what_lies_elsewhere, what_stays_old, what_was_unseen
from cppo.layers.hidden_layer import UnitWeights

State = dict[str, Any]
"""What an optimizer keeps of one parameter."""


def step_was_skipped(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the step that an optimizer has just taken changed nothing: a fused one under AMP's ``GradScaler``.

    To be asked in the optimizer's step hooks; other optimizers aren't even stepped when a gradient isn't finite.
    """
    found_inf = getattr(optimizer, "found_inf", None)
    return found_inf is not None and bool(found_inf)


class FreshOptimizerState(nn.Module):
    """Gives the weights of replaced units the optimizer state of new parameters, and keeps it that way.

    Its buffer holds, for each part and unit, the parameter's step count at which the unit was last replaced.

    :param optimizer: the optimizer whose state is meant
    :param parts: every set of weights that belongs to the units of a layer
    :param fresh_state: what the optimizer's state tensors start from, where that can't be known
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        parts: Sequence[UnitWeights],
        fresh_state: Mapping[str, Fresh] | None = None,
    ) -> None:
        super().__init__()
        self.replaced_at: Tensor
        self.optimizer = optimizer
        self.birth_map = BirthMap(parts)
        device = parts[0].parameter.device if parts else None
        self.register_buffer("replaced_at", torch.zeros(self.birth_map.n_units, dtype=torch.int64, device=device))
        self._is_adam = isinstance(optimizer, torch.optim.Adam)
        self._is_lbfgs = isinstance(optimizer, torch.optim.LBFGS)
        self._by_age = AdamByAge(optimizer, self.birth_map)
        self._has_replaced: bool | None = None
        self._births: dict[Tensor, tuple[Tensor, Tensor, int]] = {}
        self.fresh_values = FreshValues(optimizer, list(self.birth_map.parameters), fresh_state)
        self._warning = what_stays_old(optimizer)
        self._is_wrapper = find_wrapped(optimizer) is not None
        if self._is_wrapper:
            warnings.warn(str(self._warning), stacklevel=3)
            self._warning, self.fresh_values.is_curious = None, False

    @torch.no_grad()
    def restart(self, part: UnitWeights, units: Tensor) -> None:
        """Make the state of some units' weights that of a new parameter.

        :param part: the weights
        :param units: indices of the replaced units
        """
        state = self.optimizer.state.get(part.parameter)
        if not state or self._is_wrapper:
            return
        tensors = {
            name: value
            for name, value in state.items()
            if isinstance(value, Tensor) and value.shape == part.parameter.shape
        }
        if late := self.fresh_values.made_late(tensors):
            warnings.warn(what_was_unseen(self.optimizer, late), stacklevel=2)
        for name, value in tensors.items():
            self.fresh_values.restart(part, units, name, value)
        if self._is_adam:
            self.replaced_at[self.birth_map.spans[part]][units] = int(state["step"])
            self._forget_births()

    def fast_step(self, has_closure: bool) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Say what a step pre-hook has to return so that the compiled loop takes the step; None where it can't.

        :param has_closure: whether the optimizer is going to compute the gradient anew
        """
        self._by_age.took_step = False
        if self.fresh_values.is_curious:
            self.fresh_values.look()
        if not self._is_adam or has_closure or not self._has_young():
            return None
        if not self._by_age.is_current():
            self._forget_births_to_come()  # the states may be those of a younger training
            if not self._by_age.look_up():
                return None
        return self._by_age.redirect_step(self.replaced_at)

    @torch.no_grad()
    def correct(self) -> None:
        """Correct the update that the optimizer just gave the young weights; call it once after every step."""
        if self.fresh_values.is_curious and (unseen := self.fresh_values.conclude()):
            warnings.warn(what_was_unseen(self.optimizer, unseen), stacklevel=2)
        if self._warning is not None:
            elsewhere = "" if self._is_lbfgs else what_lies_elsewhere(self.optimizer, self.birth_map.parameters)
            warnings.warn(self._warning + elsewhere, stacklevel=2)
            self._warning = None
        taken_by_age, self._by_age.took_step = self._by_age.took_step, False
        if taken_by_age or not self._is_adam or step_was_skipped(self.optimizer) or not self._has_young():
            return
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                state = self.optimizer.state.get(parameter, {})
                if parameter in self.birth_map.parameters and parameter.grad is not None and "exp_avg" in state:
                    self._correct(parameter, group, state)

    def _has_young(self) -> bool:
        """Whether any unit was ever replaced."""
        if self._has_replaced is None:
            self._has_replaced = bool(self.replaced_at.any())
        return self._has_replaced

    def _correct(self, parameter: nn.Parameter, group: Group, state: State) -> None:
        """Take back the step of the parameter's age from its young weights, and give them that of their own.

        With c the corrections after a number of steps, Adam's step is -lr * m / (c1 * (sqrt(v) / c2 + eps)). They grow
        with age, so a weight's are the smaller ones of its row's and its column's.
        """
        now = int(state["step"])
        rows, columns, last = self._births_of(parameter)
        if last >= now:  # the state is that of a younger training
            self._forget_births_to_come(before_step=False)
            rows, columns, last = self._births_of(parameter)
        if not last or now - last > steps_to_forget(group):
            return
        precision = torch.promote_types(parameter.dtype, torch.float32)
        mean, square = state["exp_avg"], state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"]
        root, eps = square.to(precision).sqrt(), float(group["eps"])
        update = torch.zeros_like(root)
        for sign, ages in ((1, None), (-1, (now - rows, now - columns))):
            first, second = (
                _correction(float(beta), now, ages, births=(rows, columns), like=root) for beta in group["betas"]
            )
            update.addcdiv_(mean.to(precision), first * (root / second.sqrt() + eps), value=sign)
        parameter.add_(update.mul_(group["lr"]).to(parameter.dtype))

    def _births_of(self, parameter: nn.Parameter) -> tuple[Tensor, Tensor, int]:
        """Look up when rows and columns of a parameter were made new, and the last time; kept until a replacement."""
        known = self._births.get(parameter)
        if known is None or known[0].device != parameter.device:
            rows, columns = self.birth_map.births(parameter, self.replaced_at)
            known = self._births[parameter] = rows, columns, int(max(rows.max(), columns.max()))
        return known

    def _forget_births_to_come(self, before_step: bool = True) -> None:
        """Strike births that lie ahead of a parameter's step count: in its optimizer's state they never happened."""
        for parameter in self.birth_map.parameters:
            now = int(self.optimizer.state.get(parameter, {}).get("step", 0))
            for span in self.birth_map.spans_of(parameter):
                born = self.replaced_at[span]
                born[born >= now + before_step] = 0
        self._forget_births()

    def _forget_births(self) -> None:
        self._births, self._has_replaced = {}, None
        self._by_age.forget_births()

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if seen := self.fresh_values.to_save():
            destination[f"{prefix}fresh_values"] = seen

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        if seen := state_dict.pop(f"{prefix}fresh_values", None):
            self.fresh_values.load(seen)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        self._forget_births()
        self._by_age.forget()

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles look births up themselves: the keys found here are the original's parameters."""
        return {**self.__dict__, "_births": {}}


def _correction(
    beta: float, now: int, ages: tuple[Tensor, Tensor] | None, births: tuple[Tensor, Tensor], like: Tensor
) -> Tensor:
    """Adam's bias correction 1 - beta^age: of a parameter's age, or of each weight's own, as it broadcasts to it."""
    of_parameter = 1 - torch.tensor(beta, dtype=torch.float64, device=like.device) ** now
    if ages is None:
        return of_parameter.to(like.dtype)
    rows, columns = (
        torch.where(born > 0, 1 - beta ** age.double(), of_parameter).to(like.dtype)
        for born, age in zip(births, ages, strict=True)
    )
    if like.ndim < 2:
        return rows.reshape(like.shape)
    return torch.minimum(rows[:, None], columns[None, :]).reshape(*like.shape[:2], *[1] * (like.ndim - 2))
