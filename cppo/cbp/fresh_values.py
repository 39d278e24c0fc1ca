"""What the tensors in a new parameter's optimizer state start from: known, given by the user, or seen when made."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cppo.layers.hidden_layer import UnitWeights

Fresh = float | Tensor | Callable[[nn.Parameter], "float | Tensor"]
"""A number, or a function of the parameter that returns a number or a tensor of the parameter's shape."""

KNOWN = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.RMSprop,
    torch.optim.Adadelta,
    torch.optim.Adagrad,
    torch.optim.Rprop,
)

ZERO_WHEN_NEW = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg", "grad_avg"}
"""Names that torch gives running averages and that others took over."""


class FreshValues:
    """Makes the optimizer state of single weights what it was when it was made.

    The states of an optimizer that it doesn't know are looked at as they are made, in the first step: there a tensor
    that is the same everywhere starts from that number, and one that equals its parameter starts as a copy of it.

    :param optimizer: the optimizer
    :param parameters: those of which single weights are made new
    :param given: what the user says that state tensors start from, by their names
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Sequence[nn.Parameter],
        given: Mapping[str, Fresh] | None = None,
    ) -> None:
        self.optimizer, self.parameters, self.given = optimizer, list(parameters), dict(given or {})
        self.is_known = is_known(optimizer)
        self.is_curious = not self.is_known
        self.numbers: dict[str, list[float | None]] = {}
        """What each tensor starts from, by its name and for each parameter; None where it wasn't seen."""
        self.copies: list[str] = []
        """Names of tensors that start as copies of their parameters."""
        self._seen: dict[str, list[tuple[float | None, bool] | None]] = {}
        self._has_said: set[str] = set()
        self._states: defaultdict[Any, Any] | None = None

    def restart(self, part: UnitWeights, units: Tensor, name: str, tensor: Tensor) -> None:
        """Give some units' weights the value that a tensor of the state starts from."""
        view, parameter = part.view(tensor), part.parameter
        start = self._start(name, parameter)
        if isinstance(start, Tensor) and start.ndim:
            start = part.view(start.detach()).index_select(part.axis, units).to(view)
            view.index_copy_(part.axis, units, start)
        else:
            view.index_fill_(part.axis, units, float(start))

    def follow(self, parameter: Tensor, change: Tensor) -> None:
        """Change the copies of a parameter in its state by what it was just changed by itself."""
        for name in self.copies:
            copy = self.optimizer.state.get(parameter, {}).get(name)
            if isinstance(copy, Tensor) and copy.shape == parameter.shape:
                copy.add_(change.to(copy))

    def _start(self, name: str, parameter: nn.Parameter) -> float | Tensor:
        if name in self.given:
            fresh = self.given[name]
            return fresh(parameter) if callable(fresh) else fresh
        if name in self.copies:
            return parameter
        if name in self.numbers:
            number = self.numbers[name][self._position(parameter)]
            return 0.0 if number is None else number
        if are_slow_weights(name):  # where they lie among the moments
            return parameter
        return _known_start(self.optimizer, parameter, name)

    def _position(self, parameter: Any) -> int:
        return next((at for at, each in enumerate(self.parameters) if each is parameter), -1)

    # Seeing what a state is made of -----------------------------------------------------------------------------------

    def look(self) -> None:
        """Look at the states that are there, and at those to be made in the next step."""
        if self._states is not None:
            return
        for parameter in self.parameters:
            for name, value in self.optimizer.state.get(parameter, {}).items():
                self._note(parameter, name, value)
        self._states = self.optimizer.state
        self.optimizer.state = _States(self._states, self._note)

    def conclude(self) -> list[str]:
        """Draw conclusions once the step is taken; return the names of tensors of which it isn't known."""
        if self._states is None:
            self.look()
        made, states = self.optimizer.state, self._states
        assert states is not None
        if isinstance(made, _States):
            states.update({key: dict(value) if type(value) is _Entries else value for key, value in made.items()})
            for key in states.keys() - made.keys():
                del states[key]
            self.optimizer.state = states
        self._states = None
        self.is_curious = not all(states.get(parameter) for parameter in self.parameters)
        return self._judge()

    def _judge(self) -> list[str]:
        """Say of each tensor seen so far what it starts from; return the names of those that were seen too late."""
        unknown = []
        for name, of_parameters in self._seen.items():
            found = [each for each in of_parameters if each is not None]
            numbers = [number for number, _ in found]
            if all(is_copy for _, is_copy in found) and None in numbers:
                self.copies = sorted({*self.copies, name})
                continue
            self.numbers[name] = [each and each[0] for each in of_parameters]
            if None in numbers and not ({name} & (self._has_said | ZERO_WHEN_NEW | self.given.keys())):
                unknown.append(name)
        self._has_said |= set(unknown)
        return unknown

    def made_late(self, names: Iterable[str]) -> list[str]:
        """The tensors of which it was never seen what they start from, as they came after the first step; once each."""
        if self.is_known:
            return []
        seen = {*self.numbers, *self.copies, *self.given, *ZERO_WHEN_NEW, *self._has_said}
        late = [name for name in names if name not in seen and not are_slow_weights(name)]
        self._has_said |= set(late)
        return late

    def _note(self, parameter: Any, name: str, value: Any) -> None:
        position = self._position(parameter)
        if position < 0 or not isinstance(value, Tensor) or value.shape != parameter.shape or not value.numel():
            return
        entries = self._seen.setdefault(name, [None] * len(self.parameters))
        if entries[position] is None:
            first = value.flatten()[0]
            entries[position] = (
                float(first) if bool((value == first).all()) else None,
                torch.equal(value, parameter.detach().to(value)),
            )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_states": None}

    # Files ------------------------------------------------------------------------------------------------------------

    def to_save(self) -> dict[str, Any]:
        """What was seen of an optimizer that isn't known, for a training that goes on; empty for others."""
        return {"numbers": self.numbers, "copies": self.copies} if self.numbers or self.copies else {}

    def load(self, saved: Mapping[str, Any]) -> None:
        """Take over what was seen before."""
        self.numbers, self.copies, self.is_curious = dict(saved["numbers"]), list(saved["copies"]), False


def are_slow_weights(name: str) -> bool:
    """Whether a tensor goes by a name that implementations of Lookahead give their slow weights."""
    return name.startswith(("slow", "_slow", "lookahead_slow", "cached_params"))


class _Entries(dict[str, Any]):
    """The state of one parameter, which shows each value as it is put there."""

    def __init__(self, parameter: Any, note: Callable[[Any, str, Any], None]) -> None:
        super().__init__()
        self.parameter, self.note = parameter, note

    def __setitem__(self, name: str, value: Any) -> None:
        self.note(self.parameter, name, value)
        super().__setitem__(name, value)

    def update(self, *entries: Any, **more: Any) -> None:
        for name, value in dict(*entries, **more).items():
            self[name] = value

    def setdefault(self, name: str, default: Any = None) -> Any:
        if name not in self:
            self[name] = default
        return self[name]

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)


class _States(defaultdict[Any, Any]):
    """The states of all parameters, which shows what new ones are made of."""

    def __init__(self, states: Mapping[Any, Any], note: Callable[[Any, str, Any], None]) -> None:
        super().__init__(dict, states)
        self.note = note

    def __missing__(self, parameter: Any) -> Any:
        entries = _Entries(parameter, self.note)
        super().__setitem__(parameter, entries)
        return entries

    def __setitem__(self, parameter: Any, state: Any) -> None:
        if isinstance(state, dict):
            entries = _Entries(parameter, self.note)
            entries.update(state)
            state = entries
        super().__setitem__(parameter, state)

    def setdefault(self, parameter: Any, default: Any = None) -> Any:
        if parameter not in self:
            self[parameter] = default
        return self[parameter]

    def __reduce__(self) -> tuple[Any, ...]:
        return defaultdict, (dict, dict(self))


def is_known(optimizer: torch.optim.Optimizer) -> bool:
    """Whether all of the state that the optimizer keeps of a parameter is known here."""
    is_torch_s = type(optimizer).__module__.startswith("torch.optim")
    return (isinstance(optimizer, KNOWN) and is_torch_s) or is_tf_like(optimizer)


def is_tf_like(optimizer: torch.optim.Optimizer) -> bool:
    """Stable-baselines3's RMSprop in the manner of TensorFlow, known by name: this module knows nothing of RL."""
    return any(kind.__name__ == "RMSpropTFLike" for kind in type(optimizer).__mro__)


def _known_start(optimizer: torch.optim.Optimizer, parameter: nn.Parameter, name: str) -> float:
    if name == "sum" and isinstance(optimizer, torch.optim.Adagrad):
        return float(optimizer.defaults["initial_accumulator_value"])
    if name == "step_size" and isinstance(optimizer, torch.optim.Rprop):
        groups = optimizer.param_groups
        return float(next(group["lr"] for group in groups if any(each is parameter for each in group["params"])))
    return 1.0 if name == "square_avg" and is_tf_like(optimizer) else 0.0
