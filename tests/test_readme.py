"""The snippets of the README and of the pages run as they stand."""

import os
import re
import subprocess
import sys
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
def test_a_snippet_runs(snippet, tmp_path):
    if "SlipperyAnt" in snippet:
        pytest.importorskip("pybullet")
    if "HalfCheetah" in snippet:
        pytest.importorskip("mujoco")
    done = subprocess.run(
        [sys.executable, "-c", snippet],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
