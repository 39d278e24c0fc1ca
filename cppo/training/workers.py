"""Runs environments in processes of their own, and names or replaces a process that dies."""

import atexit
import contextlib
import multiprocessing
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import CloudpickleWrapper, SubprocVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from stable_baselines3.common.vec_env.subproc_vec_env import _stack_obs, _worker

BROKEN = (EOFError, BrokenPipeError, ConnectionError)
"""What a pipe to a process that is gone says."""
SECONDS_TO_END = 5.0
START_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


class WorkerDied(RuntimeError):
    """A process with an environment is gone; the message says which and how."""


class Workers(SubprocVecEnv):
    """A ``SubprocVecEnv`` that says which process died, and can replace it.

    In place of the answer of a process that died stands the truncation of its episode where it last was, with no
    reward. The new environment begins the next episode with a seed of its own, and is told how many steps were taken.

    :param env_fns: make the environments, which are ``Restorable``
    """

    def __init__(self, env_fns: Sequence[Callable[[], gym.Env]], restart: bool = False) -> None:
        self._env_fns, self._restart = list(env_fns), restart
        self._first_seed: int | None = None
        self._steps_taken = 0
        self._last_observations: Any = None
        self._pending: dict[int, tuple[Any, ...]] = {}  # answers to the next step, of processes already replaced
        # The imports, which take seconds, are done once, by the server that all workers are forked from.
        multiprocessing.get_context(START_METHOD).set_forkserver_preload(["cppo.training.environments"])
        super().__init__(list(env_fns), START_METHOD)
        # Workers ignore the SIGTERM with which multiprocessing ends those that are left, and would be waited for.
        self._at_exit = partial(_close, weakref.ref(self))
        atexit.register(self._at_exit)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the environments' next reset; later ones of replaced processes get seeds derived from it."""
        self._first_seed = seed
        return super().seed(seed)

    def reset(self) -> VecEnvObs:
        """Start an episode in each environment.

        :raises WorkerDied: if a process died and isn't to be replaced
        """
        self._pending.clear()
        answers = self._ask(lambda n: ("reset", (self._seeds[n], self._options[n])), self._begin_anew)
        self._reset_seeds()
        self._reset_options()
        observations, self.reset_infos = zip(*answers, strict=True)  # type: ignore[assignment]
        self._last_observations = _stack_obs(observations, self.observation_space)
        return self._last_observations

    def step_async(self, actions: np.ndarray) -> None:
        """Hand each process its action."""
        for number, (remote, action) in enumerate(zip(self.remotes, actions, strict=True)):
            with contextlib.suppress(*BROKEN):  # reading its answer tells
                if number not in self._pending:
                    remote.send(("step", action))
        self.waiting = True

    def step_wait(self) -> VecEnvStepReturn:
        """Collect the answers.

        :raises WorkerDied: if a process died and isn't to be replaced
        """
        answers = []
        for number, remote in enumerate(self.remotes):
            try:
                answers.append(self._pending.pop(number) if number in self._pending else remote.recv())
            except BROKEN:
                answers.append(self._replace(number))
        self.waiting = False
        self._steps_taken += 1
        observations, rewards, dones, infos, self.reset_infos = zip(*answers, strict=True)  # type: ignore[assignment]
        self._last_observations = _stack_obs(observations, self.observation_space)
        return self._last_observations, np.stack(rewards), np.stack(dones), infos  # type: ignore[return-value]

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call a method of environments.

        :raises WorkerDied: if a process died
        """
        with self._naming():
            return super().env_method(method_name, *args, indices=indices, **kwargs)

    def state_dict(self) -> dict[str, Any] | None:
        """The states of the environments, and what is needed to replace one; None if they can't tell theirs.

        :raises WorkerDied: if a process died and isn't to be replaced
        """
        states = self._ask(lambda _: ("env_method", ("state_dict", (), {})), self._state_of_new)
        if any(state is None for state in states):
            return None
        return {
            "environments": states,
            "steps_taken": self._steps_taken,
            "observations": self._last_observations,
            "pending": self._pending,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from such a state."""
        for number, its_own in enumerate(state["environments"]):
            self.env_method("load_state_dict", its_own, indices=number)
        self._steps_taken, self._last_observations = state["steps_taken"], state["observations"]
        self._pending = dict(state["pending"])

    def continue_after(self, steps: int) -> None:
        """Tell the environments how many steps each has taken."""
        self._steps_taken = steps
        self.env_method("continue_after", steps)

    def close(self) -> None:
        """End all processes, also those that don't answer any more."""
        if self.closed:
            return
        for remote in self.remotes:
            with contextlib.suppress(*BROKEN, OSError):
                if self.waiting and remote.poll(SECONDS_TO_END):
                    remote.recv()
                remote.send(("close", None))
        for remote, process in zip(self.remotes, self.processes, strict=True):
            process.join(SECONDS_TO_END)
            if process.is_alive():
                process.kill()
                process.join()
            remote.close()
        self.closed = True
        atexit.unregister(self._at_exit)

    def _ask(self, question: Callable[[int], tuple[str, Any]], ask_new: Callable[[int], Any]) -> list[Any]:
        """Ask all processes, then collect the answers; those of dead ones come from processes in their places.

        :param question: to the process with a number
        :param ask_new: starts a process in the place of one with a number, and returns its answer
        """
        for number, remote in enumerate(self.remotes):
            with contextlib.suppress(*BROKEN):  # reading its answer tells
                remote.send(question(number))
        answers = []
        for number, remote in enumerate(self.remotes):
            try:
                answers.append(remote.recv())
            except BROKEN:
                answers.append(ask_new(number))
        return answers

    def _state_of_new(self, number: int) -> Any:
        """Replace a process that died when it was asked for its state; its answer is to the next step."""
        self._pending[number] = self._replace(number)
        (state,) = self.env_method("state_dict", indices=number)
        return state

    def _replace(self, number: int) -> tuple[Any, ...]:
        """Start a process in the place of one that died, and return its answer to the step."""
        observation, reset_info = self._begin_anew(number)
        last = self._last_observations
        last = {key: each[number] for key, each in last.items()} if isinstance(last, dict) else last[number]
        info = {"TimeLimit.truncated": True, "terminal_observation": last}
        return observation, np.float32(0), True, info, reset_info

    def _begin_anew(self, number: int) -> tuple[Any, ...]:
        """Start a process in the place of one that died, and an episode in it.

        :return: its first observation, and what was said with it
        """
        how = self._how_it_ended(number)
        if not self._restart:
            raise WorkerDied(how)
        print(f"\n{how}; another takes its place", file=sys.stderr, flush=True)
        context = multiprocessing.get_context(START_METHOD)
        remote, work_remote = context.Pipe()
        arguments = (work_remote, remote, CloudpickleWrapper(self._env_fns[number]))
        process = context.Process(target=_worker, args=arguments, daemon=True)  # type: ignore[attr-defined]
        process.start()
        work_remote.close()
        self.remotes[number].close()
        self.remotes = (*self.remotes[:number], remote, *self.remotes[number + 1 :])
        self.processes[number] = process
        with self._naming():
            remote.send(("env_method", ("continue_after", (self._steps_taken + 1,), {})))
            remote.recv()
            remote.send(("reset", (self._seed_of_new(number), {})))
            return remote.recv()

    def _seed_of_new(self, number: int) -> int | None:
        if self._first_seed is None:
            return None
        return int(np.random.SeedSequence([self._first_seed, number, self._steps_taken]).generate_state(1)[0])

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """Name the process whose pipe is broken."""
        try:
            yield
        except BROKEN as error:
            for process in self.processes:
                process.join(0.2)
            dead = [number for number, process in enumerate(self.processes) if not process.is_alive()]
            raise WorkerDied(self._how_it_ended(dead[0]) if dead else "an environment's process is gone") from error

    def _how_it_ended(self, number: int) -> str:
        process = self.processes[number]
        process.join(SECONDS_TO_END)
        code = process.exitcode
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        return (
            f"environment {number} of {self.num_envs} died after {self._steps_taken:,} of its steps: its process {how}"
        )


def _close(workers: weakref.ref[Workers]) -> None:
    if (left := workers()) is not None:
        left.close()
