"""Registering the environments needs no PyBullet; making one without it says how to get it."""

import subprocess
import sys

import gymnasium as gym

import cppo_envs


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def test_import_registers_without_importing_pybullet() -> None:
    result = run_python(
        "import sys, gymnasium, cppo_envs\n"
        "assert {'FastAnt-v0', 'SlipperyAnt-v0'} <= set(gymnasium.registry)\n"
        "assert not any(name.startswith('pybullet') for name in sys.modules)\n"
    )
    assert result.returncode == 0, result.stderr


def test_registering_again_changes_and_warns_nothing(recwarn) -> None:
    before = dict(gym.registry)
    cppo_envs.register_environments()
    assert dict(gym.registry) == before
    assert not recwarn.list


def test_episodes_are_limited_to_1000_steps() -> None:
    assert {gym.spec(environment_id).max_episode_steps for environment_id in cppo_envs.ENTRY_POINTS} == {1000}


def test_without_pybullet_making_an_environment_tells_how_to_get_it() -> None:
    for environment_id in cppo_envs.ENTRY_POINTS:
        result = run_python(
            "import sys\n"
            "sys.modules['pybullet'] = None\n"
            "import gymnasium, cppo_envs\n"
            "from gymnasium.error import DependencyNotInstalled\n"
            "try:\n"
            f"    gymnasium.make('{environment_id}')\n"
            "except DependencyNotInstalled as error:\n"
            "    print(error)\n"
        )
        assert result.returncode == 0, result.stderr
        (line,) = result.stdout.splitlines()
        assert 'pip install "cppo[pybullet]"' in line
