"""Wheel and editable installation bring ``cppo`` and ``cppo_envs`` to site-packages, and nothing called ``envs``."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import gymnasium
import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("cppo", "envs", "pyproject.toml", "README.md", "LICENSE")
STARTED = """
import sys, site
site.addsitedir({target!r})
sys.path.append({packages!r})
import cppo_envs, cppo_envs.friction, gymnasium
print(gymnasium.spec("SlipperyAnt-v0").entry_point)
print(cppo_envs.__file__)
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources to build in."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("checkout")
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    return folder


def build(checkout: Path, kind: str, target: Path) -> list[str]:
    """Build a wheel as pip has it built, unpack it as pip would, and return the names at its top."""
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(target)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=checkout, check=True, capture_output=True)
    (wheel,) = target.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
        record = next(name for name in archive.namelist() if name.endswith("RECORD"))
        assert "cppo_envs.pth" in archive.read(record).decode()  # so that it goes when the package goes
    wheel.unlink()
    return sorted(path.name for path in target.iterdir() if not path.name.endswith(".dist-info"))


def start(target: Path) -> list[str]:
    """What Python finds that has the target among its site-packages, and no other installation of ours."""
    code = STARTED.format(target=str(target), packages=str(Path(gymnasium.__file__).parents[1]))
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-S", "-c", code], cwd=target, env=clean, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_a_wheel(checkout: Path, tmp_path: Path) -> None:
    assert build(checkout, "wheel", tmp_path) == ["cppo", "cppo_envs", "cppo_envs.pth"]
    for package, folder in (("cppo", "cppo"), ("cppo_envs", "envs")):
        installed, kept = (
            {path.relative_to(at) for path in at.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
            for at in (tmp_path / package, ROOT / folder)
        )
        assert installed == kept
    assert start(tmp_path) == ["cppo_envs.slippery:slippery_ant", str(tmp_path / "cppo_envs" / "__init__.py")]


def test_an_editable_installation(checkout: Path, tmp_path: Path) -> None:
    assert "envs" not in build(checkout, "editable", tmp_path)
    assert start(tmp_path) == ["cppo_envs.slippery:slippery_ant", str(checkout / "envs" / "__init__.py")]


def test_a_checkout_that_is_gone_does_not_make_python_complain(checkout: Path, tmp_path: Path) -> None:
    build(checkout, "editable", tmp_path)
    gone = checkout.rename(checkout.with_name("gone"))
    code = f"import site; site.addsitedir({str(tmp_path)!r})"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
    gone.rename(checkout)
    assert (done.returncode, done.stderr) == (0, "")
