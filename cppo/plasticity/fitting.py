"""A direct test of plasticity: how well a trained network still fits something new, against a freshly initialised one.

After the target-fitting capacity of Lyle, Rowland & Dabney, "Understanding and Preventing Capacity Loss in
Reinforcement Learning", ICLR 2022: a copy of the network is trained for a fixed number of steps towards the outputs of
a random network, and the error that is left is measured.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

HIDDEN = 64
"""Hidden units of the random networks whose outputs are the targets."""

GAIN = 2.0
"""How much larger their weights are than those that keep the variance: the larger, the more the targets bend."""

DIVERGED = 1e6
"""The error of a fitting that diverged, and the largest one there is."""

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class Fitting:
    """What was left of each target's variance, 0 to about 1, after the steps of fitting it.

    :param trained: by copies of the trained network
    :param fresh: by freshly initialised ones, target for target
    """

    trained: tuple[float, ...]
    fresh: tuple[float, ...]

    @property
    def ratios(self) -> tuple[float, ...]:
        """The trained network's error over the fresh one's, by target; above 1 it has lost plasticity."""
        return tuple(trained / fresh for trained, fresh in zip(self.trained, self.fresh, strict=True))


def compare_fitting(
    trained: nn.Module,
    fresh: Callable[[int], nn.Module],
    inputs: Tensor,
    make_optimizer: MakeOptimizer = torch.optim.Adam,
    n_targets: int = 10,
    n_steps: int = 500,
    batch_size: int = 128,
    seed: int = 0,
) -> Fitting:
    """Let copies of a trained network and fresh networks of its kind fit the same new targets.

    Both get the same new linear output layer, the same minibatches in the same order and the same optimizer, fresh.
    The module given isn't touched, nor is any global random generator.

    Example::

        fitting = compare_fitting(net, lambda seed: build_net(seed), observations)
        print(fitting.ratios)

    :param trained: maps inputs to features; what it adds behind the last hidden layer is fitted along
    :param fresh: makes a freshly initialised module of the same kind from a seed
    :param inputs: shape (samples, ...), what the network is used to see
    :param make_optimizer: makes the optimizer of the parameters it is given
    :param n_targets: number of targets, each with a fresh network of its own
    :param seed: of the first target; the next ones count up
    :raises ValueError: for a number below 1
    """
    for name, value in {"n_targets": n_targets, "n_steps": n_steps, "batch_size": batch_size}.items():
        if value < 1:
            raise ValueError(f"{name}={value!r} is not allowed: it must be at least 1")
    left: tuple[list[float], list[float]] = [], []
    with torch.random.fork_rng([inputs.device] if inputs.is_cuda else []):
        for number in range(seed, seed + n_targets):
            targets = random_targets(inputs, number)
            for errors, body in zip(left, (copy.deepcopy(trained), fresh(number)), strict=True):
                torch.manual_seed(number)  # for a dropout
                errors.append(fit(body, inputs, targets, make_optimizer, n_steps, batch_size, number))
    return Fitting(tuple(left[0]), tuple(left[1]))


def random_targets(inputs: Tensor, seed: int) -> Tensor:
    """The outputs of a random network of one hidden layer of tanh, standardised.

    :param inputs: shape (samples, ...); they are flattened and standardised for it
    :return: shape (samples, 1), of mean 0 and variance 1
    """
    generator = torch.Generator().manual_seed(seed)
    given = _standardised(inputs.detach().flatten(1).float().cpu())
    width = given.shape[1]
    hidden = given @ torch.randn(width, HIDDEN, generator=generator) * (GAIN / width**0.5)
    hidden += torch.randn(HIDDEN, generator=generator)
    return _standardised(hidden.tanh() @ torch.randn(HIDDEN, 1, generator=generator)).to(inputs.device)


def fit(
    body: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    make_optimizer: MakeOptimizer,
    n_steps: int,
    batch_size: int,
    seed: int,
) -> float:
    """Train a network with a new output layer towards targets.

    :param body: maps inputs to features; it is changed
    :param targets: shape (samples, 1), of variance 1
    :param seed: of the output layer and of the minibatches
    :return: mean squared error on all inputs afterwards; ``DIVERGED`` at most
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        head = _new_output(body(inputs[:2]), generator)
    optimizer = make_optimizer([*body.parameters(), *head.parameters()])
    body.train()
    for chosen in _minibatches(len(inputs), min(batch_size, len(inputs)), n_steps, generator):
        loss = (head(body(inputs[chosen])) - targets[chosen]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    body.eval()
    with torch.no_grad():
        error = (head(body(inputs)) - targets).square().mean().item()
    return min(error, DIVERGED) if math.isfinite(error) else DIVERGED


def _new_output(features: Tensor, generator: torch.Generator) -> nn.Linear:
    """An output layer whose outputs have about the variance of the features (LeCun's uniform distribution)."""
    head = nn.utils.skip_init(nn.Linear, features.shape[1], 1, device=features.device)
    bound = (3 / features.shape[1]) ** 0.5
    head.weight.data.copy_((2 * torch.rand(head.weight.shape, generator=generator) - 1) * bound)
    head.bias.data.zero_()
    return head


def _minibatches(count: int, size: int, number: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of minibatches: a new order of all samples whenever the last one is used up."""
    order = torch.empty(0, dtype=torch.int64)
    for _ in range(number):
        if len(order) < size:
            order = torch.randperm(count, generator=generator)
        chosen, order = order[:size], order[size:]
        yield chosen


def _standardised(values: Tensor) -> Tensor:
    centred = values - values.mean(dim=0)
    return centred / centred.square().mean(dim=0).sqrt().clamp_min(1e-6)
