"""The base class of all remedies that act at optimizer steps: it holds the hooks, a step count and a generator."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from cppo.cbp.optimizer_state import step_was_skipped
from cppo.cbp.ranks import Ranks
from cppo.checks import check_modules, check_seed
from cppo.layers.observe import unwrapped


class Remedy(nn.Module):
    """A remedy against loss of plasticity that acts on a module at its optimizer's steps.

    The training loop stays as it is::

        remedy = ShrinkAndPerturb(module, optimizer)
        loss.backward()
        optimizer.step()  # the remedy has acted

    Weights are changed in place: the optimizer goes on holding the parameters it holds. State is in buffers and, like
    the step count and the generator, in ``state_dict()``, so training that is saved and resumed continues exactly.
    A remedy can be copied or pickled together with module and optimizer: the copy acts on the copy.
    A step that AMP makes a fused optimizer skip doesn't count.

    :param module: the network
    :param optimizer: the optimizer that trains it
    :param seed: of whatever is drawn; None derives it from torch's own seed
    :raises TypeError: if the module or the optimizer is none
    :raises ValueError: if the optimizer trains none of the module's parameters, or for a value out of range
    """

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, seed: int | None = None) -> None:
        super().__init__()
        check_modules(module, optimizer)
        check_seed(seed)
        trained = {parameter for group in optimizer.param_groups for parameter in group["params"]}
        self.parameters_at_work = [parameter for parameter in unwrapped(module).parameters() if parameter in trained]
        """The module's parameters that the optimizer trains."""
        if not self.parameters_at_work:
            raise ValueError(f"the optimizer trains no parameter of {type(module).__name__}")
        self.ranks = Ranks()
        self.n_steps = 0
        """Optimizer steps seen."""
        first_seed = self.ranks.share_seed(torch.initial_seed() if seed is None else seed)
        self.generator = torch.Generator().manual_seed(first_seed)
        self._device_of_state = self.device
        self._optimizer = optimizer
        self._hook_optimizer()

    @property
    def device(self) -> torch.device:
        """The device of the parameters."""
        return self.parameters_at_work[0].device

    def begin(self) -> None:
        """Called before the first step, while the module is as it was initialised."""

    def before_step(self) -> None:
        """Called before each step, when the gradients are final."""

    def after_step(self) -> None:
        """Called after each step, which ``n_steps`` has counted."""

    def figures(self) -> dict[str, float]:
        """The figures to log."""
        return {}

    def remove(self) -> None:
        """Stop acting; module and optimizer stay as they are."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def trained_now(self) -> list[nn.Parameter]:
        """The parameters that aren't frozen at the moment."""
        return [parameter for parameter in self.parameters_at_work if parameter.requires_grad]

    def generator_on_device(self) -> torch.Generator:
        """Make a generator on the parameters' device, seeded by the one in the state."""
        if self.device.type == "cpu":
            return self.generator
        seed = int(torch.randint(2**62, (), generator=self.generator))
        return torch.Generator(self.device).manual_seed(seed)

    def _hook_optimizer(self) -> None:
        self._handles: list[Any] = [
            self._optimizer.register_step_pre_hook(self._before_optimizer_step),
            self._optimizer.register_step_post_hook(self._after_optimizer_step),
        ]

    @torch.no_grad()
    def _before_optimizer_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if step_was_skipped(optimizer):
            return None
        if self._device_of_state != self.device:
            self._device_of_state = self.device
            self.to(self.device)
        if self.n_steps == 0:
            self.begin()
        self.before_step()
        return None

    @torch.no_grad()
    def _after_optimizer_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if not step_was_skipped(optimizer):
            self.n_steps += 1
            self.after_step()

    def get_extra_state(self) -> dict[str, Any]:
        """The step count and the generator, as part of ``state_dict()``."""
        return {"n_steps": self.n_steps, "generator": self.generator.get_state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore them, as part of ``load_state_dict()``."""
        self.n_steps = state["n_steps"]
        self.generator.set_state(state["generator"].cpu())

    def __getstate__(self) -> dict[str, Any]:
        # An optimizer's hooks are neither copied nor pickled with it; whether there were any is what a copy must know.
        return self.__dict__ | {"_handles": [None for _ in self._handles]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if self._handles:
            self._hook_optimizer()


class GradientPull(Remedy, ABC):
    """A remedy that pulls weights somewhere by adding to their gradient, as a penalty in the loss does.

    It acts on all parameters that the optimizer trains and that have a gradient. The gradient must be there when the
    optimizer's step begins: a step with a closure is refused.
    """

    strength_of_pull: float

    def before_step(self) -> None:
        """Add the pull to the gradients, in the scale in which the optimizer expects them."""
        if not self.strength_of_pull:
            return
        scale = getattr(self._optimizer, "grad_scale", None)  # AMP lets a fused optimizer divide by it
        strength = self.strength_of_pull * (1 if scale is None else float(scale))
        for number, parameter in enumerate(self.parameters_at_work):
            if parameter.grad is not None and parameter.requires_grad:
                parameter.grad.add_(self.direction(number, parameter), alpha=strength)

    @abstractmethod
    def direction(self, number: int, parameter: nn.Parameter) -> Tensor:
        """Give what is added to a parameter's gradient, times the strength.

        :param number: which of ``parameters_at_work``
        """

    @torch.no_grad()
    def _before_optimizer_step(
        self, optimizer: torch.optim.Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if any(value is not None for value in (*args[1:], *kwargs.values())):
            raise ValueError(
                f"{type(self).__name__} adds to the gradient before a step; one with a closure makes its own"
            )
        return super()._before_optimizer_step(optimizer, args, kwargs)
