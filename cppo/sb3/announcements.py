"""Says when an agent's first unit is due, and warns where none will be replaced, or all are at once; each once."""

import warnings
from collections.abc import Iterable
from typing import Any

from cppo.cbp.continual_backprop import ContinualBackprop
from cppo.sb3.update_rhythm import find_rhythm, steps_until_first_replacement


class Announcements:
    """What an agent says of continual backpropagation before and after it learns.

    A warning comes once for the settings it is about, however often ``learn`` is called.

    :param model: the agent
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._said: set[tuple[Any, ...]] = set()

    def before(self, networks: Iterable[tuple[str, ContinualBackprop]], total_timesteps: int, n_done: int) -> bool:
        """Say when the first replacement is due; warn if it won't come, or if maturity leaves nothing to choose from.

        :param networks: what is at work, by name
        :param total_timesteps: how long it is to learn now
        :param n_done: environment steps it has behind it
        :return: whether no unit will be replaced, as far as can be told
        """
        model = self._model
        active = {name: network for name, network in networks if network.replacement_rate > 0}
        if not active:
            return True
        self._warn_of_haste()
        if model.continual_backprop.total_replaced:
            return False
        rhythm = find_rhythm(model, n_done)
        optimizer_steps = {name: steps_until_first_replacement(network) for name, network in active.items()}
        if rhythm is None:
            due, unit = min(optimizer_steps.values()), "optimizer"
        else:
            due, unit = min(rhythm.env_steps(steps, name) for name, steps in optimizer_steps.items()), "environment"
        if model.verbose >= 1:
            print(f"Continual backpropagation replaces its first unit after {due:,} {unit} steps")
        if rhythm is None or due <= total_timesteps:
            return False
        self._warn_once(
            "none",
            f"no unit will be replaced in {total_timesteps:,} environment steps: the first is due after {due:,} "
            f"(maturity_threshold={model.maturity_threshold} counts optimizer steps)",
        )
        return True

    def after(self) -> None:
        """Warn if no unit was replaced."""
        if self._model.continual_backprop.total_replaced == 0:
            self._warn_once("none", "learning ended without a single replaced unit")

    def _warn_of_haste(self) -> None:
        model = self._model
        smallest = min(layer.hidden_layer.n_units for layer in model.continual_backprop.layers)
        if model.replacement_rate == 1 or smallest < 1 + model.replacement_rate * model.maturity_threshold:
            self._warn_once(
                "haste",
                f"replacement_rate={model.replacement_rate} replaces all mature units at once: with a maturity of "
                f"{model.maturity_threshold} steps a layer of {smallest} units has fewer than one to choose from",
            )

    def _warn_once(self, what: str, message: str) -> None:
        key = (what, self._model.replacement_rate, self._model.maturity_threshold)
        if key not in self._said:
            self._said.add(key)
            warnings.warn(message, stacklevel=5)
