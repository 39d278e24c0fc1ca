"""Measures how plastic a trained agent still is: how well its networks fit new targets, against fresh networks."""

import copy
import dataclasses
import sys
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from gymnasium.wrappers import TransformObservation
from torch import nn

from cppo.command_line import aligned
from cppo.plasticity.fitting import Fitting, compare_fitting
from cppo.report.trained_agent import TrainedAgent
from cppo.statistics import bootstrap_interval, interquartile_mean
from cppo.training.agent import new_policy

OBSERVATIONS = 2000
"""Inputs the networks are fitted on: what the agent sees while it acts as in training."""

BODIES = {"actor": "policy_net", "critic": "value_net"}
"""The networks compared, by their name in ``policy.mlp_extractor``: all hidden layers, without the output layer."""

COLUMNS = ("network", "targets", "error", "error of a fresh one", "ratio, IQM", "95 % interval")


@dataclass(frozen=True)
class Probe:
    """The result of a probe.

    :param friction: of the ground on which the inputs were gathered; None where there is none
    :param n_steps: optimizer steps towards each target
    """

    friction: float | None
    n_steps: int
    fittings: dict[str, Fitting]

    def table(self) -> str:
        """What the figures mean, a line of headings, and one line a network."""
        rows = [COLUMNS, *(_row(name, fitting) for name, fitting in self.fittings.items())]
        return "\n".join(
            [
                f"plasticity: share of a new target's variance left after {self.n_steps} steps of fitting it;",
                "a ratio above 1 says that the trained network learns worse than a freshly initialised one",
                aligned(rows, n_left=0),
            ]
        )

    def as_dict(self) -> dict[str, Any]:
        """Statistics and errors as plain values."""
        networks = {name: _figures(fitting) for name, fitting in self.fittings.items()}
        return {"friction": self.friction, "steps": self.n_steps, "networks": networks}


def probe(agent: TrainedAgent, friction: float | None, n_targets: int, n_steps: int, seed: int) -> Probe:
    """Let copies of the agent's networks fit new targets, and tell the progress on stderr.

    Steps are taken with the run's optimizer, its learning rate, weight decay and minibatch size; continual
    backpropagation and other remedies that act between steps rest, as the network's own plasticity is in question.

    :param friction: of the ground on which the inputs are gathered; None: the environment's own
    :param n_targets: number of new targets, each with a fresh network
    :param seed: of the first episode and of the first target
    """
    settings, policy = agent.settings, agent.policy
    observations = gather_observations(agent, friction, seed)
    inputs: Any = policy.extract_features(observations, policy.features_extractor)
    optimizer: Any = policy.optimizer_class

    def fresh(body: str, number: int) -> nn.Module:
        other = dataclasses.replace(settings, seed=number)
        return getattr(new_policy(other, policy.observation_space, policy.action_space).mlp_extractor, body)

    found = {}
    for name, body in BODIES.items():
        print(f"probing the {name}: {n_targets} targets, {n_steps} steps each", file=sys.stderr, flush=True)
        found[name] = compare_fitting(
            copy.deepcopy(getattr(policy.mlp_extractor, body)).requires_grad_(True),
            partial(fresh, body),
            inputs.detach(),
            partial(optimizer, lr=settings.learning_rate, **policy.optimizer_kwargs),
            n_targets,
            n_steps,
            settings.batch_size,
            seed,
        )
    return Probe(friction, n_steps, found)


def gather_observations(agent: TrainedAgent, friction: float | None, seed: int) -> Any:
    """Let the agent act as in training, and take down what it sees.

    :param seed: of the first episode; the next ones count up
    :return: a tensor, or a dict of tensors
    """
    seen: list[Any] = []

    def see(observation: Any) -> Any:
        seen.append(observation)
        return observation

    with agent.make_env(friction) as bare, TransformObservation(bare, see, None) as env:
        while len(seen) < OBSERVATIONS:
            for _ in agent.play(env, seed, deterministic=False):
                if len(seen) >= OBSERVATIONS:
                    break
            seed += 1
    seen = seen[:OBSERVATIONS]
    rows = (
        {key: np.stack([each[key] for each in seen]) for key in seen[0]}
        if isinstance(seen[0], dict)
        else np.stack(seen)
    )
    return agent.policy.obs_to_tensor(rows)[0]


def _row(name: str, fitting: Fitting) -> tuple[str, ...]:
    figures = _figures(fitting)
    interval = figures["ratio_interval"]
    return (
        name,
        str(len(fitting.trained)),
        f"{figures['mean_error']:.3f}",
        f"{figures['mean_error_fresh']:.3f}",
        f"{figures['ratio_iqm']:.2f}",
        "-" if interval is None else f"[{interval[0]:.2f}, {interval[1]:.2f}]",
    )


def _figures(fitting: Fitting) -> dict[str, Any]:
    ratios = np.array(fitting.ratios)
    interval = bootstrap_interval(ratios)
    return {
        "mean_error": float(np.mean(fitting.trained)),
        "mean_error_fresh": float(np.mean(fitting.fresh)),
        "ratio_iqm": interquartile_mean(ratios),
        "ratio_interval": None if interval is None else list(interval),
        "errors": list(fitting.trained),
        "errors_fresh": list(fitting.fresh),
    }
