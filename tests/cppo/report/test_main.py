"""The command: a report of the runs that can be read, and one clear line for each that can't."""

import csv
import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from cppo.report.__main__ import main

PICTURES = {"learning_curve", "phases", "aggregates", "superiority"}
INSIDES = {"plasticity_dead_share", "plasticity_effective_rank", "cbp_replaced", "cbp_age_median"}
TABLES = {"summary", "superiority", "phases", "curve", "insides"}


def refusal(args: list[str], capsys) -> str:
    with pytest.raises(SystemExit) as end:
        main(args)
    out, err = capsys.readouterr()
    assert end.value.code == 2 and out == ""
    (line,) = err.splitlines()
    assert line.startswith("cppo.report: error: ")
    return line


def rows(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_report_has_pictures_tables_and_a_page(stories, tmp_path, capsys):
    output = tmp_path / "new" / "report"
    main([*map(str, stories), "--output", str(output)])
    out, err = capsys.readouterr()
    assert err == ""
    assert [line.split()[:2] for line in out.splitlines()[:4]] == [
        ["method", "runs"],
        ["ppo", "2"],
        ["ppo-l2", "2"],
        ["cppo-l2", "2"],
    ]
    for ending, signature in {"png": b"\x89PNG", "svg": b"<?xml"}.items():
        assert {path.stem for path in output.glob(f"*.{ending}")} == PICTURES
        assert {path.stem for path in output.glob(f"insides/*.{ending}")} == INSIDES
        assert all(path.read_bytes().startswith(signature) for path in output.rglob(f"*.{ending}"))
    assert {path.stem for path in output.glob("*.csv")} == TABLES
    assert (output / "index.html").is_file()


@pytest.mark.usefixtures("one_picture")
def test_tables_hold_what_was_computed(write_story, tmp_path, capsys):
    main([*map(str, write_story(seeds=1)), "--output", str(tmp_path / "report")])
    told = capsys.readouterr().out.splitlines()[1].split()
    phases = [row for row in rows(tmp_path / "report" / "phases.csv") if row["method"] == "ppo"]
    assert [(row["seed"], row["phase"]) for row in phases] == [("0", str(number)) for number in range(4)]
    summary = {row["score"]: row for row in rows(tmp_path / "report" / "summary.csv") if row["method"] == "ppo"}
    assert summary["end of phase 2"]["iqm"] == phases[2]["return_at_end"]
    # a single run: no interval, and the mean of the four ends without the best and the worst
    assert (summary["ends of all phases"]["runs"], summary["ends of all phases"]["low"]) == ("1", "")
    _, *middle, _ = sorted(float(row["return_at_end"]) for row in phases)
    assert float(summary["ends of all phases"]["iqm"]) == pytest.approx(sum(middle) / 2, rel=1e-5)
    assert told[2:] == [
        word
        for name in ("last third of the steps", "ends of all phases")
        for word in (f"{float(summary[name]['iqm']):.1f}", "(n=1)")
    ]


@pytest.mark.usefixtures("one_picture")
def test_runs_that_cannot_be_read_are_told_and_the_report_covers_the_rest(write_story, write_run, tmp_path, capsys):
    good, half, foreign, other = (
        write_story(seeds=1)[0],
        tmp_path / "ppo-l2-0",
        tmp_path / "foreign",
        tmp_path / "other",
    )
    shutil.copytree(good, tmp_path / "again")
    (half / "config.yaml").write_text((half / "config.yaml").read_text()[:200])
    foreign.mkdir()
    write_run("other", rows(good / "progress.csv"), env="Pendulum-v1")
    runs = [good, half, foreign, other, tmp_path / "again", tmp_path / "nowhere"]
    main([*map(str, runs), "--output", str(tmp_path / "report")])
    out, err = capsys.readouterr()
    told = dict(line.removeprefix("cppo.report: ").split(" is left out: ") for line in err.splitlines())
    assert told.keys() == {str(path) for path in runs[1:]}
    assert "is not the configuration of a run" in told[str(half)]
    assert "no config.yaml" in told[str(foreign)] and "no config.yaml" in told[str(tmp_path / "nowhere")]
    assert "it is of another task" in told[str(other)]
    assert "it has the settings and the seed of" in told[str(tmp_path / "again")]
    assert out.splitlines()[1].split()[:2] == ["ppo", "1"]
    page = (tmp_path / "report" / "index.html").read_text()
    assert all(reason.split(":")[0] in page for reason in told.values())


def test_phases_without_end_are_refused(write_story, write_run, tmp_path, capsys):
    story = rows(write_story(seeds=1)[0] / "progress.csv")
    run = write_run("endless", story, total_timesteps=10**15, change_every=1)
    line = refusal([str(run), "--output", str(tmp_path / "report")], capsys)
    assert "these runs have 1,000,000,000,000,000 phases; a report shows at most 1,000" in line


@pytest.mark.usefixtures("one_picture")
def test_files_of_somebody_else_are_not_overwritten_and_its_own_are(write_story, tmp_path, capsys):
    args = [*(str(run) for run in write_story(seeds=1) if "cppo" in run.name), "--output", str(tmp_path / "report")]
    for name in ("index.html", "summary.csv", "insides/cbp_replaced.svg"):
        theirs = tmp_path / "report" / name
        theirs.parent.mkdir(parents=True, exist_ok=True)
        theirs.write_text("method,thoughts\nmine,precious\n")
        assert f"{theirs} can't be written: this program didn't write what is there" in refusal(args, capsys)
        assert theirs.read_text() == "method,thoughts\nmine,precious\n"
        theirs.unlink()
    main(args)


@pytest.mark.usefixtures("one_picture")
def test_odd_names_and_a_damaged_table_are_shown_and_named(write_story, tmp_path, capsys):
    """A name with what mathematics and HTML are made of, and one of bytes that are no text."""
    good, damaged, *_ = write_story(seeds=1)
    odd = good.rename(Path(os.fsdecode(os.fsencode(tmp_path) + b"/$x_1$<b>\xff")))
    (damaged / "progress.csv").write_bytes(b"\x00" * 2_000_000)
    main([str(odd), str(damaged), "--output", str(tmp_path / "report")])
    err = capsys.readouterr().err
    assert f"{damaged} is left out: " in err and err.count("\n") == 1
    phases = rows(tmp_path / "report" / "phases.csv")
    assert {row["run"] for row in phases} == {f"{tmp_path}/$x_1$<b>\\udcff"}


@pytest.mark.usefixtures("one_picture")
def test_a_folder_of_runs_stands_for_its_runs(write_story, tmp_path, capsys):
    write_story(seeds=1)
    (tmp_path / "notes").mkdir()
    main([str(tmp_path), "--output", str(tmp_path / "report")])
    out, err = capsys.readouterr()
    assert (len(out.splitlines()), err) == (6, "")


def test_bad_input_is_one_line(write_story, tmp_path, capsys):
    (run, *_) = map(str, write_story(seeds=1))
    assert "at least one run" in refusal(["--output", str(tmp_path / "report")], capsys)
    assert "none of the runs can be read" in refusal([str(tmp_path / "nowhere"), "--output", str(tmp_path)], capsys)
    assert "can't be written" in refusal([run, "--output", "/proc/nowhere"], capsys)
    assert "--film-steps must be" in refusal([run, "--film-steps", "0"], capsys)
    assert "--film" in refusal([run, "--film", "slippery"], capsys)


@pytest.mark.usefixtures("one_picture")
def test_agents_that_cannot_be_filmed_are_told(write_story, tmp_path, capsys):
    main([str(write_story(seeds=1)[0]), "--film", "0.8", "--output", str(tmp_path / "report")])
    err = capsys.readouterr().err
    assert "is not filmed: " in err and "model.zip" in err


@pytest.mark.usefixtures("one_picture")
def test_methods_are_filmed_side_by_side(make_run, tmp_path, capsys):
    pytest.importorskip("pybullet")
    imageio = pytest.importorskip("imageio.v2")
    settings = {"change_every": 2048, "total_timesteps": 2048, "frictions": (0.5,)}
    folder = make_run("SlipperyAnt-v0", **settings)
    folder.progress.write_text("time/total_timesteps,episodes/return,episodes/ended\n2048,10,1\n")
    output = tmp_path / "report"
    main([str(folder.path), "--film", "0.5", "2", "--film-steps", "10", "--output", str(output)])
    films = sorted(output.glob("*.mp4"))
    assert [film.name for film in films] == [f"{folder.path.name}-friction-{f}.mp4" for f in ("0.5", "2")]
    with imageio.get_reader(films[0], format="FFMPEG") as frames:
        assert sum(1 for _ in frames) == 6 + 30  # steps 0, 2, ..., 10, the last one held for a second
    assert (output / "index.html").read_text().count("data:video/mp4;base64,") == 2
