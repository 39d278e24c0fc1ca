"""The snippets of the README and of the pages run as they stand."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": 3,
    "docs/plug_in.md": 5,
    "docs/plasticity.md": 3,
    "docs/remedies.md": 2,
    "docs/environments.md": 1,
}


def snippets(page):
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize(("page", "count"), PAGES.items())
def test_none_is_overlooked(page, count):
    assert len(snippets(page)) == count


@pytest.mark.parametrize(
    "snippet", [pytest.param(text, id=f"{page}-{n}") for page in PAGES for n, text in enumerate(snippets(page))]
)
def test_a_snippet_runs(snippet, tmp_path, monkeypatch, capsys):
    """In this process, which has imported what they need; ``tests/envs/test_registration.py`` starts from nothing."""
    if "SlipperyAnt" in snippet:
        pytest.importorskip("pybullet")
    if "HalfCheetah" in snippet:
        pytest.importorskip("mujoco")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "snippet.py").write_text(snippet, encoding="utf-8")
    runpy.run_path("snippet.py", run_name="__main__")
    assert capsys.readouterr().out.strip()
