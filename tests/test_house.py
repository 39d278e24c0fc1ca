"""Imports run one way: from each floor only down, with no circle, also for type checking and inside functions."""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    "layers": 1,
    "cbp": 2,
    "sb3": 3,
    "fast": 3,
    "remedies": 4,
    "plasticity": 4,
    "settings": 5,
    "runs": 6,
    "training": 7,
    "report": 8,
    "grids": 8,
    "benchmarks": 8,
}
TOP = "__main__"
"""The commands under one name."""
TOOLS = {"checks", "command_line", "compiled", "files", "reading", "statistics"}
ALIASES = {"interventions", "lean_buffer", "lean_policy", "quick_policy"}
"""Modules of one line, which stand for a module that has moved."""
INSTALLED_AS = {"envs": "cppo_envs"}
"""The folder whose package has another name than its own."""

Imports = Mapping[str, set[str]]


def modules() -> dict[str, str]:
    """Every module of the product with its text."""
    files = {
        file.relative_to(ROOT): file.read_text() for room in ("cppo", "envs") for file in (ROOT / room).rglob("*.py")
    }
    return {_name(path): text for path, text in files.items()}


def _name(path: Path) -> str:
    folder, *rest = path.with_suffix("").parts
    return ".".join([INSTALLED_AS.get(folder, folder), *rest]).removesuffix(".__init__")


def imports(texts: Mapping[str, str]) -> Imports:
    """What each module imports of the others."""
    return {name: set(_imported(text, texts)) - {name} for name, text in texts.items()}


def _imported(text: str, known: Mapping[str, str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (_nearest(alias.name, known) for alias in node.names if _nearest(alias.name, known))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that one can search for them"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (found for name in inner if (found := name if name in known else _nearest(node.module, known)))


def _nearest(name: str | None, known: Mapping[str, str]) -> str:
    return name if name in known else ""


def floor(module: str) -> int:
    """Floor of a module; what stands on none is an error."""
    package, *rest = module.split(".")[1:] or [""]
    if package in FLOORS:
        return FLOORS[package]
    if package == TOP:
        return 9
    assert not rest and package in TOOLS, f"{module} stands in no room"
    return 0


def breaches(imported: Imports) -> list[str]:
    """Every import that doesn't run down, and the first circle."""
    found = []
    for name, others in imported.items():
        if name == "cppo" or name.removeprefix("cppo.") in ALIASES:
            continue  # these hand on names
        for other in others:
            if _is_in_house(other) and not (_is_in_house(name) and _runs_down(name, other)):
                found.append(f"{name} imports {other}")
    try:
        TopologicalSorter(imported).prepare()
    except CycleError as error:
        found.append(f"circle: {' -> '.join(error.args[1])}")
    return found


def _is_in_house(name: str) -> bool:
    return name.split(".")[0] == "cppo"


def _runs_down(name: str, other: str) -> bool:
    if other == "cppo":
        return False
    same_room = name.split(".")[1] == other.split(".")[1]
    return same_room or floor(name) > floor(other) or floor(name) == floor(other) == 0


def test_imports_run_down() -> None:
    assert breaches(imports(modules())) == []


def test_the_house_has_rooms_and_few_tools() -> None:
    entries = {
        path.stem for path in (ROOT / "cppo").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert entries == {"__init__", TOP} | FLOORS.keys() | TOOLS | ALIASES


def test_aliases_hold_one_line() -> None:
    for name in ALIASES:
        assert len((ROOT / "cppo" / f"{name}.py").read_text().splitlines()) == 1, name


@pytest.mark.parametrize(
    ("module", "text", "breach"),
    [
        ("cppo.layers.planted", "import cppo.cbp.utilities", "cppo.layers.planted imports cppo.cbp.utilities"),
        ("cppo.cbp.planted", "def f():\n    from cppo.sb3 import ppo", "cppo.cbp.planted imports cppo.sb3.ppo"),
        (
            "cppo.sb3.planted",
            "if TYPE_CHECKING:\n    from cppo.runs.folder import RunFolder",
            "cppo.sb3.planted imports cppo.runs.folder",
        ),
        ("cppo.fast.planted", "from cppo.sb3.ppo import CPPO", "cppo.fast.planted imports cppo.sb3.ppo"),
        ("cppo.checks", "from cppo.layers import labels", "cppo.checks imports cppo.layers.labels"),
        ("cppo_envs.planted", "from cppo.files import write", "cppo_envs.planted imports cppo.files"),
        ("cppo.training.planted", "from cppo import CPPO", "cppo.training.planted imports cppo"),
    ],
)
def test_a_planted_breach_is_found(module: str, text: str, breach: str) -> None:
    assert breach in breaches(imports(modules() | {module: text}))


def test_a_planted_circle_is_found() -> None:
    planted = {"cppo.runs.one": "from cppo.runs import two", "cppo.runs.two": "from cppo.runs.one import x"}
    assert breaches(imports(planted)) == ["circle: cppo.runs.one -> cppo.runs.two -> cppo.runs.one"]
