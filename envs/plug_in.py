"""Makes the environments known to gymnasium, whoever imports it.

Gymnasium loaded the entry points of the group ``gymnasium.envs`` until 1.0 took that out. So the file that
``envs/start_up.py`` installs has Python import ``cppo_envs`` when it starts. That must cost next to nothing and succeed
in programs that have nothing to do with us: nothing is imported here, and gymnasium is only waited for.
"""

import sys

MAX_EPISODE_STEPS = 1000
"""Steps after which an episode is truncated, as in ``AntBulletEnv-v0`` and gymnasium's walkers."""

MUJOCO_WALKERS = ("Ant-v3", "Ant-v5", "HalfCheetah-v5", "Hopper-v5", "Humanoid-v5", "Walker2d-v5")
ENTRY_POINTS = {"FastAnt-v0": "cppo_envs.ant:FastAnt", "SlipperyAnt-v0": "cppo_envs.slippery:slippery_ant"} | {
    f"Slippery{walker}": "cppo_envs.mujoco_slippery:slippery_walker" for walker in MUJOCO_WALKERS
}
KEYWORD_ARGUMENTS = {f"Slippery{walker}": {"walker": walker} for walker in MUJOCO_WALKERS}
CHANGING = {environment_id: "friction" for environment_id in ENTRY_POINTS if environment_id.startswith("Slippery")}
"""The environments that take a schedule, and the property that it changes."""

REGISTERING = "gymnasium.envs"
"""The module that registers gymnasium's own environments when it is imported."""


def register_environments() -> None:
    """Make the environments known to ``gymnasium.make``; calling it again changes nothing."""
    from gymnasium.envs.registration import register, registry

    for environment_id, entry_point in ENTRY_POINTS.items():
        if environment_id not in registry:
            # gymnasium's passive checker would cost more per step than the observation; the tests run the full one.
            register(
                environment_id,
                entry_point=entry_point,
                kwargs=KEYWORD_ARGUMENTS.get(environment_id, {}),
                max_episode_steps=MAX_EPISODE_STEPS,
                disable_env_checker=True,
            )
            if f"{registry[environment_id].name}-v0" in ENTRY_POINTS:
                # An ant of another engine is no newer version; gymnasium would call SlipperyAnt-v0 out of date.
                registry[environment_id].version = 0


def register_when_imported() -> None:
    """Register the environments now if gymnasium is imported, else right after its own when it is."""
    if REGISTERING in sys.modules:
        register_environments()
    elif not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


class _Waiting:
    """A finder on ``sys.meta_path`` that has gymnasium found as ever and stands aside for all else."""

    def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        """Return what the other finders say, with a loader that registers ours afterwards."""
        if name != REGISTERING:
            return None
        others = (finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec"))
        spec = next((found for finder in others if (found := finder.find_spec(name, path, target))), None)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _RegisteringLoader(spec.loader, self)  # type: ignore[assignment]
        return spec


class _RegisteringLoader:
    """Loads a module as another loader does, and then registers the environments."""

    def __init__(self, loader, waiting) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        self._loader, self._waiting = loader, waiting

    def create_module(self, spec):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        return self._loader.create_module(spec)

    def exec_module(self, module) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        """Leave no trace in the module but the environments."""
        module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        if self._waiting in sys.meta_path:
            sys.meta_path.remove(self._waiting)
        register_environments()
