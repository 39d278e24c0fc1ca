"""Puts continual backpropagation into an algorithm of stable-baselines3, and says when it acts and what it did."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from cppo.cbp.continual_backprop import ContinualBackprop
from cppo.cbp.fresh_values import Fresh
from cppo.cbp.initializers import Initializer, find_initializer
from cppo.cbp.utilities import Utility, find_utility
from cppo.cbp.watched_layer import WatchedLayer
from cppo.checks import check_hyperparameters
from cppo.sb3.announcements import Announcements
from cppo.sb3.layer_names import layer_names
from cppo.sb3.own_files import STATE, NotForPlain, is_loading, setting
from cppo.sb3.per_optimizer import ContinualBackpropPerOptimizer, watch_policy
from cppo.sb3.policy_layers import LayersOf, find_policy_layers, layers_by_hand, trained_networks

if TYPE_CHECKING:
    Algorithm = BaseAlgorithm
else:
    Algorithm = object

QUANTILES = {"min": 0.0, "median": 0.5, "max": 1.0}
_is_saving_without_state: ContextVar[bool] = ContextVar("is_saving_without_state", default=False)


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
    :param utility: how useful a unit is, see ``cppo.cbp.utilities.UTILITIES``
    :param initializer: where a new unit's weights come from, see ``cppo.cbp.initializers.INITIALIZERS``;
        None means as the policy drew its own: orthogonal, or torch's default with ``ortho_init=False``
    :param bias_transfer: move a replaced unit's mean contribution to the biases of its readers
    :param reset_optimizer_state: give a new unit's weights the optimizer state of new parameters
    :param fresh_state: what tensors in the state of an optimizer of one's own start from, see ``ContinualBackprop``
    :param hidden_layers: where tracing can't tell: a function of the policy that returns all layers to watch, a list of
        ``HiddenLayer``, or lists by network ("actor", "critic") where there are several optimizers. It isn't saved:
        give it to ``load`` again.
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
        fresh_state: Mapping[str, Fresh] | None = None,
        hidden_layers: LayersOf | None = None,
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
        self.fresh_state = fresh_state
        self.hidden_layers = hidden_layers
        self.had_hidden_layers = hidden_layers is not None
        super().__init__(*args, **kwargs)

    def _setup_model(self) -> None:
        check_hyperparameters(self.replacement_rate, self.maturity_threshold, self.decay_rate, self.seed)
        super()._setup_model()  # type: ignore[safe-super]
        self.set_up_continual_backprop()

    def set_up_continual_backprop(self) -> None:
        """Put continual backpropagation into the policy as it is now, with fresh ages and utilities.

        Call it after you have exchanged one of the policy's optimizers or modules for another; a new module needs an
        optimizer that trains it.
        """
        if hasattr(self, "continual_backprop"):
            self.continual_backprop.remove()
        initializer = self.initializer
        if initializer is None:
            initializer = "orthogonal" if getattr(self.policy, "ortho_init", False) else "torch_default"
        if is_loading.get() and self.hidden_layers is None and self.had_hidden_layers:
            raise ValueError(
                "the layers of this agent were named by hand, by a function that isn't saved: "
                f"give it again, {type(self).__name__}.load(..., hidden_layers=...)"
            )
        self.had_hidden_layers = self.hidden_layers is not None
        if self.hidden_layers is None:
            layers = find_policy_layers(self.policy)
        else:
            layers = layers_by_hand(self.policy, self.hidden_layers)
        for warning in layers.unwatched if self.replacement_rate > 0 else ():
            warnings.warn(warning, stacklevel=2)
        self._announcements = Announcements(self)
        self.layers_left_out = layers.left_out
        self._watched_networks = trained_networks(self.policy)
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
            fresh_state=self.fresh_state,
        )

    def _check_policy(self) -> None:
        """Refuse to learn if a part of the policy was exchanged since continual backpropagation was set up."""
        exchanged = [
            f"the {'optimizer' if watched and watched.network is trained.network else 'network'} of {name!r}"
            for name, trained in trained_networks(self.policy).items()
            if (watched := self._watched_networks.get(name)) != trained
        ]
        exchanged += [what for _, network in self._networks() if (what := network.integrity.find_exchanged())]
        if exchanged:
            raise RuntimeError(
                f"{exchanged[0]} was exchanged or taken away since continual backpropagation was set up: once the "
                "policy is as it shall be (a new module needs a new optimizer, too) call set_up_continual_backprop()"
            )

    def _networks(self) -> Iterator[tuple[str, ContinualBackprop]]:
        """Yield the name of each network that has an optimizer of its own, and what is at work in it."""
        if isinstance(self.continual_backprop, ContinualBackprop):
            yield "policy", self.continual_backprop
        else:
            yield from self.continual_backprop.networks()

    def _excluded_save_params(self) -> list[str]:
        own = [
            STATE,
            "hidden_layers",
            "layers_left_out",
            "_watched_networks",
            "_announcements",
            "_replaced_when_logged",
        ]
        return [*super()._excluded_save_params(), *own]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, tensors = super()._get_torch_save_params()
        return ([*state_dicts] if _is_saving_without_state.get() else [*state_dicts, STATE]), tensors

    def save(self, path: Any, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None) -> None:
        """Save the model as the algorithm does, the state of continual backpropagation included.

        :param exclude: what to leave out. With ``["continual_backprop"]`` the file holds nothing but what the parent
            algorithm knows, so that ``SAC.load`` takes the file of a ``ContinualSAC``.
        """
        exclude = list(exclude or ())
        if STATE not in exclude:
            self._not_for_plain = NotForPlain(type(self).__name__)
        try:
            with setting(_is_saving_without_state, STATE in exclude):
                super().save(path, exclude, include)
        finally:
            self.__dict__.pop("_not_for_plain", None)

    @classmethod
    def load(cls, *args: Any, **kwargs: Any) -> Any:
        """Load a model as the algorithm does.

        From a file of the plain algorithm, or one that was saved with ``exclude=["continual_backprop"]``, all units
        begin at age 0; a warning says so. Settings may be given as keywords, and ``hidden_layers`` must be if the agent
        had it.
        """
        with setting(is_loading, True):
            return super().load(*args, **kwargs)

    def set_parameters(self, load_path_or_dict: Any, exact_match: bool = True, device: Any = "auto") -> None:
        """Take over the parameters of another model as the algorithm does, the state of all units included."""
        if is_loading.get() and STATE not in load_path_or_dict:
            warnings.warn(
                "the file holds no state of continual backpropagation: all units begin at age 0, with the settings "
                f"replacement_rate={self.replacement_rate}, maturity_threshold={self.maturity_threshold}",
                stacklevel=4,
            )
            load_path_or_dict = load_path_or_dict | {STATE: self.continual_backprop.state_dict()}
        super().set_parameters(load_path_or_dict, exact_match, device)

    def learn(self, total_timesteps: int, *args: Any, **kwargs: Any) -> Any:
        """Learn as the algorithm does; warn if no unit will be replaced, or none was (see the parent class)."""
        self._check_policy()
        self._apply_settings()
        call = inspect.signature(super().learn).bind(total_timesteps, *args, **kwargs)  # type: ignore[safe-super]
        fresh = call.arguments.get("reset_num_timesteps", True)
        n_steps_done = 0 if fresh else self.num_timesteps
        warned = self._announcements.before(self._networks(), total_timesteps, n_steps_done)
        self._replaced_when_logged = self.continual_backprop.n_replaced.tolist()
        super().learn(total_timesteps, *args, **kwargs)  # type: ignore[safe-super]
        if not warned:
            self._announcements.after()
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
        before, now = self._replaced_when_logged, self.continual_backprop.n_replaced.tolist()
        self._replaced_when_logged = now
        self.logger.record("cbp/replaced", sum(now) - sum(before))
        self.logger.record("cbp/total_replaced", sum(now))
        names = layer_names(self.policy)
        for layer, *counts in zip(self.continual_backprop.layers, before, now, strict=True):
            name = names.get(layer.hidden_layer.incoming, layer.name)
            for figure, value in _layer_figures(layer, *counts):
                self.logger.record(f"cbp/{name}/{figure}", value, exclude="stdout")
        super().dump_logs(*args, **kwargs)


def _layer_figures(layer: WatchedLayer, before: int, now: int) -> Iterator[tuple[str, float]]:
    """Yield what to log of a layer: units replaced since the last time and so far, quantiles of age and utility."""
    yield "replaced", now - before
    yield "total_replaced", now
    for key, values in (("age", layer.age.float()), ("utility", layer.utility)):
        levels = torch.tensor(list(QUANTILES.values()), device=values.device)
        for quantile, value in zip(QUANTILES, values.quantile(levels).tolist(), strict=True):
            yield f"{key}_{quantile}", value
