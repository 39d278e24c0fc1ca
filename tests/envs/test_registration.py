"""The environments are found by name, with nothing imported for it; making one without PyBullet says how to get it."""

import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest

import cppo_envs

IDS = ("FastAnt-v0", "SlipperyAnt-v0")
MUJOCO_IDS = tuple(environment_id for environment_id in cppo_envs.ENTRY_POINTS if environment_id not in IDS)


def run_python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python as installed: the checkout is not on the path."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=clean, capture_output=True, text=True, check=False)


def output(*arguments: str, cwd: Path | None = None) -> str:
    """What Python prints, which must be all that happens."""
    done = run_python(*arguments, cwd=cwd)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_importing_gymnasium_is_enough_and_imports_nothing_else(tmp_path: Path) -> None:
    code = (
        "import sys, gymnasium\n"
        f"assert set({IDS + MUJOCO_IDS}) <= set(gymnasium.registry)\n"
        "foreign = {'torch', 'pybullet', 'mujoco', 'cppo', 'scipy'}\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & foreign))"
    )
    assert output("-c", code, cwd=tmp_path) == "[]\n"


def test_python_starts_with_nothing_but_the_waiting(tmp_path: Path) -> None:
    code = "import sys; print(sorted(name for name in sys.modules if name.startswith(('cppo', 'gymnasium', 'numpy'))))"
    assert output("-c", code, cwd=tmp_path) == "['cppo_envs', 'cppo_envs.plug_in']\n"


@pytest.mark.parametrize(
    "imports",
    [
        "import gymnasium",
        "import gymnasium, cppo_envs",
        "import cppo_envs, gymnasium",
        "import cppo",
        "import gymnasium, cppo",
        "from gymnasium.envs.registration import make",
        "import cppo_envs.friction, gymnasium; cppo_envs.register_environments()",
        "import gymnasium; [point.load()() for point in entry_points(group='gymnasium.envs')]",
    ],
)
def test_in_whatever_order_things_are_imported_it_happens_once(imports: str, tmp_path: Path) -> None:
    code = (
        "import sys, warnings\n"
        "from importlib.metadata import entry_points\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        f"    {imports}\n"
        "print([str(each.message) for each in caught if 'nviron' in str(each.message)])\n"
        "import gymnasium\n"
        "print([name for name in gymnasium.registry if 'Ant-v0' in name])\n"
        "print(any('cppo' in type(finder).__module__ for finder in sys.meta_path))\n"
    )
    assert output("-c", code, cwd=tmp_path) == f"[]\n{list(IDS)}\nFalse\n"


def test_gymnasium_is_loaded_as_ever(tmp_path: Path) -> None:
    code = (
        "import inspect, gymnasium.envs as envs\n"
        "assert type(envs.__loader__).__name__ == type(envs.__spec__.loader).__name__ == 'SourceFileLoader'\n"
        "assert 'CartPole-v1' in inspect.getsource(envs)\n"
    )
    assert output("-c", code, cwd=tmp_path) == ""


def test_a_program_without_gymnasium_is_left_alone(tmp_path: Path) -> None:
    code = (
        "import importlib.util, sys\n"
        "sys.modules['gymnasium'] = None\n"
        "try: import gymnasium\n"
        "except ModuleNotFoundError: print('none')\n"
        "print(importlib.util.find_spec('json') is not None)\n"
    )
    assert output("-c", code, cwd=tmp_path) == "none\nTrue\n"


def test_without_the_file_that_python_reads_at_its_start_the_module_is_named(tmp_path: Path) -> None:
    """As where only PYTHONPATH leads to the packages."""
    pytest.importorskip("pybullet")
    (tmp_path / "cppo_envs").symlink_to(Path(cppo_envs.__file__).parent)
    packages = str(Path(gym.__file__).parents[1])
    code = (
        f"import sys; sys.path += [{str(tmp_path)!r}, {packages!r}]\n"
        "import gymnasium\n"
        "assert 'FastAnt-v0' not in gymnasium.registry\n"
        "print(gymnasium.make('cppo_envs:FastAnt-v0').spec.id)"
    )
    assert output("-S", "-c", code, cwd=tmp_path) == "FastAnt-v0\n"


def test_registering_again_changes_and_warns_nothing(recwarn: pytest.WarningsRecorder) -> None:
    before = dict(gym.registry)
    cppo_envs.register_environments()
    assert dict(gym.registry) == before
    assert not recwarn.list


def test_episodes_are_limited_to_1000_steps() -> None:
    assert {gym.spec(environment_id).max_episode_steps for environment_id in cppo_envs.ENTRY_POINTS} == {1000}


GUARDED = """
import sys
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv
if __name__ == "__main__":
    how = {"start_method": sys.argv[1]}
    envs = make_vec_env("SlipperyAnt-v0", 1, vec_env_cls=SubprocVecEnv, vec_env_kwargs=how)
    print(envs.reset().shape)
    envs.close()
"""


@pytest.mark.parametrize("how", [["script.py", "forkserver"], ["-m", "script", "spawn"]])
def test_workers_started_afresh_find_them(how: list[str], tmp_path: Path) -> None:
    pytest.importorskip("pybullet")
    (tmp_path / "script.py").write_text(GUARDED)
    assert output(*how, cwd=tmp_path) == "(1, 28)\n"


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_gymnasiums_own_workers_find_them(start_method: str) -> None:
    pytest.importorskip("pybullet")
    envs = gym.make_vec("FastAnt-v0", 2, "async", {"context": start_method})
    assert envs.reset(seed=0)[0].shape == (2, 28)
    envs.close()


@pytest.mark.parametrize("file", ["envs/__init__.py", "envs/mine.py", "envs.py"])
def test_an_envs_of_the_users_own_stands_beside_ours(file: str, tmp_path: Path) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine = True\n")
    code = (
        "import envs, cppo_envs, gymnasium\n"
        "from cppo_envs.friction import FrictionSchedule\n"
        f"assert {file == 'envs/mine.py'} or envs.mine\n"
        f"assert set({IDS}) <= set(gymnasium.registry)\n"
    )
    (tmp_path / "script.py").write_text(code)
    assert output("script.py", cwd=tmp_path) == ""


def test_the_folder_of_the_checkout_is_no_second_package(tmp_path: Path) -> None:
    folder = Path(cppo_envs.__file__).parent
    if folder.name != "envs":
        pytest.skip("not in a checkout")
    done = run_python("-c", "import envs.ant", cwd=folder.parent)
    assert 'ImportError: import "cppo_envs"' in done.stderr


def test_without_its_engine_making_an_environment_tells_how_to_get_it() -> None:
    extras = dict.fromkeys(IDS, "pybullet") | dict.fromkeys(MUJOCO_IDS, "mujoco")
    code = (
        "import sys\n"
        "sys.modules['pybullet'] = sys.modules['mujoco'] = None\n"
        "import gymnasium\n"
        "from gymnasium.error import DependencyNotInstalled\n"
        f"for environment_id in {list(extras)}:\n"
        "    try:\n"
        "        gymnasium.make(environment_id)\n"
        "    except DependencyNotInstalled as error:\n"
        "        print(error)\n"
    )
    told = output("-c", code).splitlines()
    assert len(told) == len(extras) == len(cppo_envs.ENTRY_POINTS)
    for line, extra in zip(told, extras.values(), strict=True):
        assert f'pip install "cppo[{extra}]"' in line


def test_an_ant_of_another_engine_is_no_newer_version(recwarn: pytest.WarningsRecorder) -> None:
    """Gymnasium would call SlipperyAnt-v0 out of date, and take SlipperyAnt-v5 for SlipperyAnt."""
    from gymnasium.envs.registration import find_highest_version

    assert find_highest_version(None, "SlipperyAnt") == 0 and not recwarn.list
