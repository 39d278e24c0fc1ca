"""Runs at a glance, read while they are written to."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cppo.runs.__main__ import main
from cppo.runs.folder import Ending, RunFolder
from cppo.runs.overview import Overview, age, duration, last_row, listing
from cppo.settings.settings import Settings

HEADER = "rollout/ep_rew_mean,time/total_timesteps,environment/friction\n"


def make_run(path, rows: str = "", ending: Ending | None = None) -> RunFolder:
    folder = RunFolder(path)
    folder.create(Settings(algo="ppo", total_timesteps=1000).resolved(), ["train.py"]).release()
    if rows:
        folder.progress.write_text(HEADER + rows)
    folder.write_ending(ending)
    return folder


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", {}),
        ("a,b\n", {}),
        ("a,b\n1,2\n3,4\n", {"a": 3, "b": 4}),
        ("a,b\n1,2\n3,4", {"a": 1, "b": 2}),  # the last row may still be growing
        ("a,b\n1,2\n3\n", {"a": 1, "b": 2}),
        ("a,b\n1,\n", {"a": 1}),
        ("a,b\nnan,2\n", {"b": 2}),
        ("a,b\nx,2\n", {"b": 2}),
    ],
)
def test_the_last_row(tmp_path, text, steps):
    (tmp_path / "progress.csv").write_text(text)
    assert last_row(tmp_path / "progress.csv") == steps


def test_the_last_row_of_a_table_that_is_not_there(tmp_path):
    assert last_row(tmp_path / "progress.csv") == {}


def test_the_last_row_of_a_large_table_is_found_at_its_end(tmp_path):
    path = tmp_path / "progress.csv"
    path.write_text("a,b\n" + "".join(f"{n},{2 * n}\n" for n in range(100_000)))
    assert last_row(path) == {"a": 99_999, "b": 199_998}


def test_a_run_at_a_glance(tmp_path):
    overview = Overview.read(make_run(tmp_path / "run", "12.34,500,0.25\n"))
    assert overview.cells() == ("stopped", "500 of 1,000", "12.3", "0.25")


def test_a_run_that_has_not_begun(tmp_path):
    overview = Overview.read(make_run(tmp_path / "run"))
    assert overview.cells() == ("stopped", "0 of 1,000", "-", "-") and overview.updated is None


def test_a_run_at_work_is_running(tmp_path):
    folder = make_run(tmp_path / "run")
    lock = folder.lock
    lock.acquire()
    assert Overview.read(folder).state == "running"
    lock.release()
    assert Overview.read(folder).state == "stopped"


def test_all_runs_are_listed_and_what_is_no_run_has_a_clear_line(tmp_path):
    make_run(tmp_path / "runs" / "a", "12.34,500,0.25\n")
    make_run(tmp_path / "runs" / "study" / "b", "7,1000,2\n", Ending("finished", 1000))
    (tmp_path / "runs" / "thesis").mkdir()
    make_run(tmp_path / "runs" / "broken").config.write_text("settings: {")
    (tmp_path / "runs" / "notes.txt").write_text("not a folder, of no interest")
    lines = listing([tmp_path / "runs"]).splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["run", "state", "steps", "return", "friction", "updated"],
        [str(tmp_path / "runs" / "a"), "stopped", "500", "of", "1,000", "12.3", "0.25", "0", "s", "ago"],
        [str(tmp_path / "runs" / "study" / "b"), "finished", "1,000", "of", "1,000", "7.0", "2", "0", "s", "ago"],
    ]
    broken, thesis = lines[3:]
    assert f"{tmp_path / 'runs' / 'broken' / 'config.yaml'} is not the configuration of a run: " in broken
    assert thesis == f"{tmp_path / 'runs' / 'thesis'} is no training run: it has no config.yaml"


def test_what_cannot_be_read_is_named_and_the_rest_is_listed(tmp_path, monkeypatch, capsys):
    """A folder that is closed, a table that is none, and a name of bytes that are no text."""
    make_run(tmp_path / "a", "12.34,500,0.25\n")
    make_run(tmp_path / "b").progress.mkdir()
    make_run(tmp_path / "c").progress.write_text("x" * 200_000 + "\n1\n")
    make_run(Path(os.fsdecode(os.fsencode(tmp_path) + b"/z\xff\x1b")), "7,400,2\n")
    (tmp_path / "closed").mkdir()
    read = Path.iterdir

    def iterdir(path):
        if path.name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied")
        return read(path)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    main(["list", str(tmp_path)])
    _, first, last, *bad = capsys.readouterr().out.splitlines()
    assert first.split()[:3] == [str(tmp_path / "a"), "stopped", "500"]
    assert last.split()[:3] == [str(tmp_path / "z\\udcff\\x1b"), "stopped", "400"]
    assert [line.partition(" can't be read: ")[0] for line in sorted(bad)] == [
        str(tmp_path / "b" / "progress.csv"),
        str(tmp_path / "c" / "progress.csv"),
        str(tmp_path / "closed"),
    ]
    main(["show", os.fsdecode(os.fsencode(tmp_path) + b"/z\xff\x1b")])
    assert capsys.readouterr().out.startswith(f"run:      {tmp_path}/z\\udcff\\x1b\n")


def test_looking_at_runs_imports_no_torch():
    program = "import sys, cppo.runs.__main__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[3]).returncode == 0


def test_a_folder_without_runs(tmp_path):
    assert listing([tmp_path]) == f"{tmp_path} is no training run: it has no config.yaml"


def test_the_command_lists(tmp_path, capsys):
    make_run(tmp_path / "a")
    main(["list", str(tmp_path)])
    assert capsys.readouterr().out.splitlines()[1].split()[1] == "stopped"


def test_the_command_shows_a_run(tmp_path, capsys):
    make_run(tmp_path / "a", "7,400,2\n", Ending("failed", 400, "NaN in the loss"))
    main(["show", str(tmp_path / "a")])
    out = capsys.readouterr().out
    for words in ("state:    failed", "steps:    400 of 1,000", "reason:   NaN in the loss", "algo: ppo", "versions:"):
        assert words in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["list", "no/such"], "no/such is no folder"),
        (["show", "no/such"], "no/such is no training run"),
        (["show"], "RUN"),
        (["delete"], "delete"),
        ([], "list"),
    ],
)
def test_bad_input_is_one_line(args, words, capsys):
    with pytest.raises(SystemExit) as end:
        main(args)
    out, err = capsys.readouterr()
    assert end.value.code == 2 and out == "" and err.count("\n") == 1
    assert err.startswith("python -m cppo.runs: error: ") and words in err


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 d"), (-1, "0 s")]
)
def test_durations(seconds, words):
    assert duration(seconds) == words
    assert age(100.0, 100.0 - seconds) == f"{words} ago"
