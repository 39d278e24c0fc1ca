from __future__ import annotations

import csv

import pytest
import yaml

from cppo.benchmarks.command import main
from cppo.runs.folder import RunFolder

SHORT = ["--seeds", "2", "--steps", "400", "--bin-steps", "200", "--change-every", "100"]


def regression(action, *flags):
    return main(["regression", action, *flags])


def rows_of(folder):
    with (folder / "progress.csv").open() as file:
        return list(csv.DictReader(file))


def test_run_writes_a_run_folder(tmp_path, capsys):
    assert regression("run", "--learner", "cbp", *SHORT, "--output", str(tmp_path)) == 0
    (folder,) = tmp_path.iterdir()
    record = yaml.safe_load((folder / "config.yaml").read_text())
    assert (record["problem"], record["settings"]["replacement_rate"]) == ("regression", 1e-3)
    assert [(row["seed"], row["step"]) for row in rows_of(folder)] == [
        ("0", "200"),
        ("0", "400"),
        ("1", "200"),
        ("1", "400"),
    ]
    assert "| cbp | 2 |" in capsys.readouterr().out


def test_sweep_runs_each_combination_once_and_resumes(tmp_path, capsys):
    flags = ["--learner", "bp", "linear", "--activation", "relu", "tanh", *SHORT, "--output", str(tmp_path)]
    assert regression("sweep", *flags) == 0
    folders = sorted(tmp_path.iterdir())
    assert len(folders) == 3  # the linear learner has no activation
    written = [(folder / "progress.csv").stat().st_mtime_ns for folder in folders]
    assert regression("sweep", *flags) == 0
    assert [(folder / "progress.csv").stat().st_mtime_ns for folder in folders] == written
    assert "done before" in capsys.readouterr().err


def test_more_seeds_are_added_and_equal_those_run_at_once(tmp_path):
    for name, counts in (("apart", "12"), ("at-once", "2")):
        for count in counts:
            regression("run", *SHORT, "--seeds", count, "--output", str(tmp_path / name))
    apart, at_once = (rows_of(next((tmp_path / name).iterdir())) for name in ("apart", "at-once"))
    assert apart == at_once


def test_a_setting_that_another_process_works_on_is_refused(tmp_path, capsys):
    regression("run", *SHORT, "--output", str(tmp_path))
    (folder,) = tmp_path.iterdir()
    before = rows_of(folder)
    lock = RunFolder(folder).lock
    lock.acquire()
    with pytest.raises(SystemExit) as end:
        regression("run", *SHORT, "--seeds", "3", "--output", str(tmp_path))
    lock.release()
    assert end.value.code == 2 and f"{folder} is in use" in capsys.readouterr().err
    assert rows_of(folder) == before


def test_a_seed_that_has_other_rows_than_its_steps_ask_for_is_trained_anew(tmp_path, capsys):
    """Of seed 0 the second row is gone, seed 1 is there twice: neither is done, and a table shows neither."""
    regression("run", *SHORT, "--output", str(tmp_path))
    (folder,) = tmp_path.iterdir()
    whole = rows_of(folder)
    header, *lines = (folder / "progress.csv").read_text().splitlines()
    for damaged in ([header, *lines[:1], *lines[2:]], [header, *lines[:2], *lines[2:], *lines[2:]]):
        (folder / "progress.csv").write_text("\n".join([*damaged, ""]))
        capsys.readouterr()
        regression("run", *SHORT, "--output", str(tmp_path))
        assert rows_of(folder) == whole
        assert "it is left out, and a run trains it anew" in capsys.readouterr().err


def test_results_of_another_length_get_a_folder_of_their_own(tmp_path):
    for steps in ("400", "200"):
        regression("run", *SHORT, "--steps", steps, "--output", str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2


def test_plot_writes_table_and_figure(tmp_path, capsys):
    regression("sweep", "--learner", "bp", "cbp", "linear", *SHORT, "--output", str(tmp_path))
    assert regression("plot", "--results", str(tmp_path), "--only", "learner=bp,cbp") == 0
    assert (tmp_path / "results.png").stat().st_size > 10_000
    table = (tmp_path / "results.md").read_text()
    assert "| cbp |" in table and "| linear |" not in table


DAMAGES = {
    "heading": ("progress.csv", "step", "stop", "it has no column step"),
    "figure": ("progress.csv", "200", "many", "can't be read: could not convert string to float: 'many'"),
    "type": ("config.yaml", "units: 5", "units: [5]", r"--units [5] is not allowed: it must be of type int"),
    "nothing": ("config.yaml", "units: 5", "units:", r"--units needs a value"),
    "text": ("config.yaml", "settings:", "settings: [", "can't be read"),
}


@pytest.mark.parametrize(("name", "old", "new", "reason"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_results_are_left_out_with_a_word(tmp_path, capsys, name, old, new, reason):
    regression("sweep", "--learner", "bp", "linear", *SHORT, "--output", str(tmp_path))
    damaged = min(tmp_path.iterdir())
    assert damaged.name.startswith("bp")
    text = (damaged / name).read_text()
    (damaged / name).write_text(text.replace(old, new, 1))
    capsys.readouterr()
    assert regression("plot", "--results", str(tmp_path)) == 0
    out, err = capsys.readouterr()
    assert "| linear |" in out and "| bp |" not in out
    (line,) = err.splitlines()
    assert line.startswith(f"python -m cppo.benchmarks: warning: {damaged} is left out: ") and reason in line


def test_a_table_or_figure_that_cannot_be_made_is_one_line(tmp_path, capsys):
    regression("run", *SHORT, "--output", str(tmp_path))
    (tmp_path / "results.md").mkdir()
    for flags, reason in {
        ("--bin-width", "9"): "--bin-width 9 is not allowed: there are results of 2 times",
        (): "results.md can't be written: it is not a file",
    }.items():
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            regression("plot", "--results", str(tmp_path), *flags)
        (line,) = capsys.readouterr().err.splitlines()
        assert end.value.code == 2 and reason in line


def test_list_names_problems_and_learners(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert "regression: " in out and "  cbp " in out


def test_without_numba_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("cppo.benchmarks.running.numba", None)
    with pytest.raises(SystemExit):
        regression("run", *SHORT, "--output", str(tmp_path / "results"))
    assert "pip install 'cppo[fast]'" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["chess"], "problem 'chess' is unknown; choose one of regression"),
        (["regresion"], "did you mean regression?"),
        (["regression", "fly"], "action 'fly' is unknown; choose one of run, sweep, plot"),
        (["regression", "run", "--learner", "magic"], "--learner 'magic' is unknown"),
        (["mnist", "run", "--data-dir", "nowhere"], "--data-dir nowhere holds no train-images-idx3-ubyte"),
        (["images", "run", "--data-dir", "nowhere"], "--data-dir nowhere holds no classes"),
        (["regression", "run", "--jobs", "0"], "--jobs 0 is not allowed"),
        (["regression", "run", "--stepsize", "1"], "--stepsize"),
        (["regression", "plot", "--results", "nowhere"], "nowhere holds no results of regression"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(args, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(args)
    assert end.value.code == 2
    err = capsys.readouterr().err
    assert message in err and len(err.strip().splitlines()) == 1
