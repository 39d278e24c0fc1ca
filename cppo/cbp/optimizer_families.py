"""How each kind of optimizer treats a new parameter differently from an old one: starting values and step counts.

A replaced weight's state is set to the values a new parameter starts with. For SGD, RMSprop, Adadelta, Adagrad and
Rprop that is all it takes. Adam and NAdam also count a parameter's steps, and SGD with dampening treats the first one
differently; a ``Family`` knows what its update would have been after a weight's own number of steps.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from cppo import compiled

NEGLIGIBLE = 1e-5
"""A weight is young until its own step count changes the update by less than this share."""

Group = dict[str, Any]
"""A parameter group of an optimizer: its hyperparameters by name."""


@dataclass
class StepTaken:
    """What is known of some weights after an optimizer step; all tensors are vectors with one entry a weight.

    :param group: the hyperparameters of the step
    :param state: the optimizer's state of one of the parameters they belong to
    :param given: the coefficients that the optimizer used, after the parameter's number of steps
    :param own: the coefficients after each weight's own number of steps
    :param moments: the moments that the step left
    :param gradient: gives the gradient
    :param weights: gives the weights before the step where the family asks for them, else those that the step left
    """

    group: Group
    state: dict[str, Tensor]
    given: tuple[float, ...]
    own: tuple[Tensor, ...]
    moments: list[Tensor]
    gradient: Callable[[], Tensor]
    weights: Callable[[], Tensor]

    def gradient_with_decay(self, decay: bool) -> Tensor:
        """The gradient in the direction of the step, with the L2 of the weights if it is part of that."""
        gradient = -self.gradient() if self.group["maximize"] else self.gradient()
        return gradient.add(self.weights(), alpha=float(self.group["weight_decay"])) if decay else gradient


class Family(ABC):
    """A kind of optimizer whose update depends on how many steps a parameter has taken."""

    counts_steps = True
    """Whether ``clock`` goes on."""

    loop: Callable[..., None] | None = None
    """Does what ``missing`` is for in one pass over the weights of a parameter, see ``compiled.correct_adam``."""

    @abstractmethod
    def steps_until_grown(self, group: Group) -> float:
        """Steps after which a weight's own count no longer matters; 0 where it never does."""

    @abstractmethod
    def moments(self, group: Group) -> tuple[str, ...]:
        """Names of the state that the update is computed from."""

    def clock(self, state: dict[str, Any]) -> int:
        """Number of steps that a parameter has taken."""
        return int(state["step"])

    def weights_before(self, group: Group) -> bool:
        """Whether the update can't be told without the weights before the step."""
        return False

    def hyperparameters(self, group: Group) -> tuple[float, ...]:
        """Everything in a group that the coefficients depend on."""
        return ()

    def coefficients(self, group: Group, steps: Tensor) -> tuple[Tensor, ...]:
        """The coefficients of the update after each of the numbers of steps 0, 1, 2, ..., as doubles."""
        return ()

    def given(self, group: Group, state: dict[str, Tensor]) -> tuple[float, ...]:
        """The coefficients that the optimizer used in the step it has just taken."""
        return ()

    @abstractmethod
    def missing(self, step: StepTaken) -> tuple[Tensor, Tensor | None]:
        """What has to be added to the weights, divided by the learning rate, and to the first moment if anything."""


class AdamFamily(Family):
    """Adam, AdamW: -lr * m / (c1 * (sqrt(v / c2) + eps)) with c = 1 - beta^s after s steps; decoupled decay apart.

    Its coefficients are the denominator's factor of sqrt(v) and its offset.
    """

    loop = staticmethod(compiled.correct_adam)

    def steps_until_grown(self, group: Group) -> float:
        """The slower moment's bias correction counts longest."""
        return steps_to_forget(*group["betas"])

    def moments(self, group: Group) -> tuple[str, ...]:
        """The mean of the gradient, and of its square or the largest such mean."""
        return "exp_avg", "max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"

    def hyperparameters(self, group: Group) -> tuple[float, ...]:
        """Both betas and epsilon."""
        beta1, beta2 = group["betas"]
        return float(beta1), float(beta2), float(group["eps"])

    def coefficients(self, group: Group, steps: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        beta1, beta2, eps = self.hyperparameters(group)
        correction = 1 - beta1**steps
        return correction * (1 - beta2**steps).rsqrt(), correction * eps

    def given(self, group: Group, state: dict[str, Tensor]) -> tuple[float, ...]:
        """The same for the parameter's own step count."""
        beta1, beta2, eps = self.hyperparameters(group)
        steps = self.clock(state)
        correction = 1 - beta1**steps
        return correction / math.sqrt(1 - beta2**steps), correction * eps

    def missing(self, step: StepTaken) -> tuple[Tensor, Tensor | None]:
        """What the optimizer gave minus what it should have given."""
        mean, root = step.moments[0], step.moments[1].sqrt_()
        (factor, offset), (factor_given, offset_given) = step.own, step.given
        own = torch.addcmul(offset, factor, root)
        if factor_given != 1:
            root = root.mul_(factor_given)
        return mean.div(root.add_(offset_given)).addcdiv_(mean, own, value=-1), None


class NAdamFamily(Family):
    """NAdam: -lr * (a * g + b * m) / (sqrt(v / c2) + eps); the coefficients are a, b and 1 / sqrt(c2).

    With the momentum mu_s = beta1 * (1 - 0.96^(s * decay) / 2) and the product P_s of those so far,
    a = (1 - mu_s) / (1 - P_s) and b = mu_(s + 1) / (1 - P_(s + 1)).
    """

    def steps_until_grown(self, group: Group) -> float:
        """The momentum may settle later than the moments."""
        return steps_to_forget(*group["betas"], 0.96 ** float(group["momentum_decay"]))

    def moments(self, group: Group) -> tuple[str, ...]:
        """The means of the gradient and of its square."""
        return "exp_avg", "exp_avg_sq"

    def weights_before(self, group: Group) -> bool:
        """L2 acted on them, and undoing the step doesn't find them: its size hardly depends on a weight near zero."""
        return bool(group["weight_decay"]) and not group["decoupled_weight_decay"]

    def hyperparameters(self, group: Group) -> tuple[float, ...]:
        """Both betas and the momentum's decay."""
        beta1, beta2 = group["betas"]
        return float(beta1), float(beta2), float(group["momentum_decay"])

    def coefficients(self, group: Group, steps: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        beta1, beta2, decay = self.hyperparameters(group)
        momentum = beta1 * (1 - 0.5 * 0.96 ** (steps * decay))
        product = torch.cat([torch.ones_like(momentum[:1]), momentum[1:]]).cumprod(0)
        following = beta1 * (1 - 0.5 * 0.96 ** ((steps + 1) * decay))
        return (1 - momentum) / (1 - product), following / (1 - product * following), (1 - beta2**steps).rsqrt()

    def given(self, group: Group, state: dict[str, Tensor]) -> tuple[float, ...]:
        """The same for the parameter's own step count."""
        beta1, beta2, decay = self.hyperparameters(group)
        steps, product = self.clock(state), float(state["mu_product"])
        momentum, following = (beta1 * (1 - 0.5 * 0.96 ** (number * decay)) for number in (steps, steps + 1))
        return (1 - momentum) / (1 - product), following / (1 - product * following), (1 - beta2**steps) ** -0.5

    def missing(self, step: StepTaken) -> tuple[Tensor, Tensor | None]:
        """The same as for Adam; the gradient acts also by itself."""
        mean, root = step.moments[0], step.moments[1].sqrt_()
        eps = float(step.group["eps"])
        (of_gradient, of_mean, factor), (of_gradient_own, of_mean_own, factor_own) = step.given, step.own
        gradient = step.gradient_with_decay(self.weights_before(step.group))
        given = (mean * of_mean).add_(gradient, alpha=of_gradient).div_((root * factor).add_(eps))
        own = (mean * of_mean_own).addcmul_(gradient, of_gradient_own).div_(root.mul_(factor_own).add_(eps))
        return given.sub_(own), None


class DampedSGD(Family):
    """SGD with momentum and dampening: a new parameter's first momentum is its gradient, undamped."""

    counts_steps = False

    def steps_until_grown(self, group: Group) -> float:
        """The first step is the one that differs."""
        return 1.0 if group["momentum"] and group["dampening"] else 0.0

    def moments(self, group: Group) -> tuple[str, ...]:
        """The momentum."""
        return ("momentum_buffer",)

    def clock(self, state: dict[str, Any]) -> int:
        """SGD doesn't count: a new weight has one step to go, whenever that comes."""
        return 1

    def missing(self, step: StepTaken) -> tuple[Tensor, Tensor | None]:
        """The part of the first gradient that was damped away."""
        momentum, kept = step.moments[0], 1 - float(step.group["dampening"])
        # where all of it was, nothing has moved the weights, so they are those that L2 acted on
        gradient = momentum / kept if kept else step.gradient_with_decay(bool(step.group["weight_decay"]))
        change = gradient - momentum
        return -change, change


def find_family(optimizer: torch.optim.Optimizer) -> Family | None:
    """The family of an optimizer whose update depends on the step count; None if it doesn't or isn't known."""
    kinds: tuple[tuple[type, type[Family]], ...] = (
        (torch.optim.Adam, AdamFamily),
        (torch.optim.NAdam, NAdamFamily),
        (torch.optim.SGD, DampedSGD),
    )
    return next((family() for kind, family in kinds if isinstance(optimizer, kind)), None)


def what_stays_old(optimizer: torch.optim.Optimizer) -> str | None:
    """Say what of a weight's state can't be made that of a new parameter; None if all of it can."""
    kind = type(optimizer).__name__
    if isinstance(optimizer, torch.optim.LBFGS):
        return f"{kind} keeps one history for all weights together: it goes on when units are replaced"
    if isinstance(optimizer, torch.optim.Adagrad):
        if not any(group["lr_decay"] for group in optimizer.param_groups):
            return None
        kind += " with lr_decay"
    by_value = (torch.optim.RMSprop, torch.optim.Adadelta, torch.optim.Rprop)
    if find_family(optimizer) is not None or isinstance(optimizer, by_value) or _is_tf_like(optimizer):
        return None
    return (
        f"{kind} is not an optimizer whose state can be made new for single weights: for the weights of replaced units "
        "its state tensors of the parameter's shape are set to zero, and its step count goes on"
    )


def mend_copy(optimizer: torch.optim.Optimizer) -> None:
    """Give the copy of an optimizer back what torch forgets to copy or pickle: LBFGS' own list of its parameters."""
    if isinstance(optimizer, torch.optim.LBFGS) and not hasattr(optimizer, "_params"):
        optimizer._params, optimizer._numel_cache = optimizer.param_groups[0]["params"], None


def initial_value(optimizer: torch.optim.Optimizer, group: Group, name: str) -> float:
    """What an entry of a new parameter's state starts from."""
    if name == "sum" and isinstance(optimizer, torch.optim.Adagrad):
        return float(optimizer.defaults["initial_accumulator_value"])
    if name == "step_size" and isinstance(optimizer, torch.optim.Rprop):
        return float(group["lr"])
    return 1.0 if name == "square_avg" and _is_tf_like(optimizer) else 0.0


def steps_to_forget(*rates: float | Tensor) -> float:
    """Steps until the slowest of some exponential decays is negligible."""
    return _steps_for(*map(float, rates))


@lru_cache(maxsize=64)
def _steps_for(*rates: float) -> float:
    slowest = max(rate for rate in rates if rate < 1)
    return math.log(NEGLIGIBLE) / math.log(slowest) if slowest > 0 else 1.0


def _is_tf_like(optimizer: torch.optim.Optimizer) -> bool:
    """Stable-baselines3's RMSprop in the manner of TensorFlow, known by name: this module knows nothing of RL."""
    return any(kind.__name__ == "RMSpropTFLike" for kind in type(optimizer).__mro__)
