"""Puts continual backpropagation into a stable-baselines3 algorithm."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from cppo.continual_backprop import ContinualBackprop, check_hyperparameters
from cppo.initializers import Initializer, find_initializer
from cppo.per_optimizer import ContinualBackpropPerOptimizer, watch_policy
from cppo.policy_layers import find_policy_layers
from cppo.update_rhythm import find_rhythm, steps_until_first_replacement
from cppo.utilities import Utility, find_utility

if TYPE_CHECKING:
    Algorithm = BaseAlgorithm
else:
    Algorithm = object

QUANTILES = {"min": 0.0, "median": 0.5, "max": 1.0}


class ContinualBackpropMixin(Algorithm):
    """Continual backpropagation for an algorithm of stable-baselines3: inherit from it first, the algorithm second.

    Example::

        class ContinualTQC(ContinualBackpropMixin, TQC): ...

        model = ContinualTQC("MlpPolicy", env, replacement_rate=1e-4, maturity_threshold=1000)

    ``model.continual_backprop`` is a ``ContinualBackprop`` where the policy has one optimizer. Where it has several it
    maps the name of each network to its own: ``model.continual_backprop["critic"]``. Target networks are never touched:
    they follow their networks as ever. Ages, utilities and the generator of new units are saved with the model and
    restored by ``load``. The units of an LSTM stay as they are, and so do those of the layer that feeds it; the layers
    behind it are replaced. ``model.layers_left_out`` says which layers are left out, and why.

    :param replacement_rate: share of the mature units of a layer replaced per optimizer step; 0 switches it off
    :param maturity_threshold: optimizer steps (not environment steps) for which a new unit is protected
    :param decay_rate: decay of the running averages of utility and activation
    :param utility: how useful a unit is, see ``cppo.utilities.UTILITIES``
    :param initializer: where a new unit's weights come from, see ``cppo.initializers.INITIALIZERS``;
        None means as the policy drew its own: orthogonal, or torch's default with ``ortho_init=False``
    :param bias_transfer: move a replaced unit's mean contribution to the biases of its readers
    :param reset_optimizer_state: give a new unit's weights the optimizer state of new parameters
    :raises ValueError: for a value out of range, an unknown name, and a policy without hidden layers or optimizer
    :raises TypeError: for a class that doesn't name the mixin first and an algorithm second
    """

    continual_backprop: ContinualBackprop | ContinualBackpropPerOptimizer

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for parent in cls.__mro__[: cls.__mro__.index(ContinualBackpropMixin)]:
            if issubclass(parent, BaseAlgorithm) and not issubclass(parent, ContinualBackpropMixin):
                raise TypeError(
                    f"name the mixin first: class {cls.__name__}(ContinualBackpropMixin, {parent.__name__}); "
                    f"behind {parent.__name__} it would do nothing"
                )

    def __init__(
        self,
        *args: Any,
        replacement_rate: float = 1e-4,
        maturity_threshold: int = 10_000,
        decay_rate: float = 0.99,
        utility: str | Utility = "contribution",
        initializer: str | Initializer | None = None,
        bias_transfer: bool = True,
        reset_optimizer_state: bool = True,
        **kwargs: Any,
    ) -> None:
        if not isinstance(self, BaseAlgorithm):
            raise TypeError(
                f"class {type(self).__name__}(ContinualBackpropMixin, ...) needs an algorithm behind the mixin"
            )
        check_hyperparameters(replacement_rate, maturity_threshold, decay_rate)
        find_utility(utility)
        if initializer is not None:
            find_initializer(initializer)
        self.replacement_rate = replacement_rate
        self.maturity_threshold = maturity_threshold
        self.decay_rate = decay_rate
        self.utility = utility
        self.initializer = initializer
        self.bias_transfer = bias_transfer
        self.reset_optimizer_state = reset_optimizer_state
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()  # type: ignore[safe-super]
        initializer = self.initializer
        if initializer is None:
            initializer = "orthogonal" if getattr(self.policy, "ortho_init", False) else "torch_default"
        layers = find_policy_layers(self.policy)
        self.layers_left_out = layers.left_out
        self.continual_backprop = watch_policy(
            self.policy,
            layers,
            self.seed,
            replacement_rate=self.replacement_rate,
            maturity_threshold=self.maturity_threshold,
            decay_rate=self.decay_rate,
            utility=self.utility,
            initializer=initializer,
            bias_transfer=self.bias_transfer,
            reset_optimizer_state=self.reset_optimizer_state,
        )

    def _networks(self) -> Iterator[tuple[str, ContinualBackprop]]:
        """What is at work in each network that has an optimizer of its own."""
        if isinstance(self.continual_backprop, ContinualBackprop):
            yield "policy", self.continual_backprop
        else:
            yield from self.continual_backprop.networks()

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "continual_backprop", "layers_left_out", "_replaced_when_logged"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, tensors = super()._get_torch_save_params()
        return [*state_dicts, "continual_backprop"], tensors

    def learn(self, total_timesteps: int, *args: Any, **kwargs: Any) -> Any:
        """Learn as the algorithm does, and warn when generate-and-test can't or didn't act (see the parent class)."""
        self._apply_settings()
        call = inspect.signature(super().learn).bind(total_timesteps, *args, **kwargs)  # type: ignore[safe-super]
        fresh = call.arguments.get("reset_num_timesteps", True)
        warned = self._announce_first_replacement(total_timesteps, 0 if fresh else self.num_timesteps)
        self._replaced_when_logged = self.continual_backprop.n_replaced.tolist()
        super().learn(total_timesteps, *args, **kwargs)  # type: ignore[safe-super]
        if not warned and self.replacement_rate > 0 and self.continual_backprop.total_replaced == 0:
            warnings.warn("learning ended without a single replaced unit", stacklevel=2)
        return self

    def _apply_settings(self) -> None:
        """Let what was set on the model since the last time take effect, as SB3's own hyperparameters do."""
        check_hyperparameters(self.replacement_rate, self.maturity_threshold, self.decay_rate)
        for _, network in self._networks():
            network.replacement_rate = self.replacement_rate
            network.maturity_threshold = self.maturity_threshold
            network.decay_rate = self.decay_rate

    def dump_logs(self, *args: Any, **kwargs: Any) -> None:
        """Add to the log what generate-and-test did since the last time, then write it as the algorithm does."""
        self._log_continual_backprop()
        super().dump_logs(*args, **kwargs)

    def _log_continual_backprop(self) -> None:
        layers = self.continual_backprop.layers
        before, now = self._replaced_when_logged, self.continual_backprop.n_replaced.tolist()
        self._replaced_when_logged = now
        self.logger.record("cbp/replaced", sum(now) - sum(before))
        self.logger.record("cbp/total_replaced", sum(now))
        for layer, old, new in zip(layers, before, now, strict=True):
            name = f"cbp_{layer.name.removeprefix('mlp_extractor.')}"
            figures = {"replaced": new - old, "total_replaced": new}
            for key, values in (("age", layer.age.float()), ("utility", layer.utility)):
                levels = torch.tensor(list(QUANTILES.values()), device=values.device)
                for quantile, value in zip(QUANTILES, values.quantile(levels).tolist(), strict=True):
                    figures[f"{key}_{quantile}"] = value
            for key, value in figures.items():
                self.logger.record(f"{name}/{key}", value, exclude="stdout")

    def _announce_first_replacement(self, total_timesteps: int, n_steps_done: int) -> bool:
        """Say when the first replacement is due; warn if it won't come, or if maturity leaves nothing to choose from.

        :return: whether a warning said that no unit will be replaced
        """
        active = {name: network for name, network in self._networks() if network.replacement_rate > 0}
        if not active:
            return False
        smallest = min(layer.record.n_units for layer in self.continual_backprop.layers)
        if self.replacement_rate == 1 or smallest < 1 + self.replacement_rate * self.maturity_threshold:
            warnings.warn(
                f"replacement_rate={self.replacement_rate} replaces all mature units at once: with a maturity of "
                f"{self.maturity_threshold} steps a layer of {smallest} units has fewer than one to choose from",
                stacklevel=3,
            )
        if self.continual_backprop.total_replaced:
            return False
        rhythm = find_rhythm(self, n_steps_done)
        optimizer_steps = {name: steps_until_first_replacement(network) for name, network in active.items()}
        if rhythm is None:
            self._say_first_replacement(min(optimizer_steps.values()), "optimizer")
            return False
        due = min(rhythm.env_steps(steps, name) for name, steps in optimizer_steps.items())
        self._say_first_replacement(due, "environment")
        if due <= total_timesteps:
            return False
        warnings.warn(
            f"no unit will be replaced in {total_timesteps:,} environment steps: the first is due after {due:,} "
            f"(maturity_threshold={self.maturity_threshold} counts optimizer steps)",
            stacklevel=3,
        )
        return True

    def _say_first_replacement(self, due: int, unit: str) -> None:
        if self.verbose >= 1:
            print(f"Continual backpropagation replaces its first unit after {due:,} {unit} steps")
