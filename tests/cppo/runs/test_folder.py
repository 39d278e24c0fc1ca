"""The folder of a run: never overwritten, and read back with clear errors."""

import pytest
import yaml

from cppo.runs.folder import Ending, RunFolder, versions
from cppo.settings.settings import Settings

SETTINGS = Settings(algo="cppo", seed=3).resolved()


@pytest.fixture
def run(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path / "made" / "run")
    folder.create(SETTINGS, ["train.py", "--seed", "3"]).release()
    return folder


def test_a_run_is_recorded_and_read_back(run):
    assert run.settings() == SETTINGS
    record = yaml.safe_load(run.config.read_text())
    assert record["command"] == ["train.py", "--seed", "3"]
    assert record["settings"]["seed"] == record["settings"]["schedule_seed"] == 3
    for package in ("python", "torch", "stable_baselines3", "gymnasium", "numpy"):
        assert record["versions"][package][0].isdigit()


def test_a_package_that_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr("cppo.runs.folder.PACKAGES", ("no_such_package",))
    assert versions()["no_such_package"] is None


def test_a_run_is_never_overwritten(run):
    before = run.config.read_bytes()
    with pytest.raises(
        FileExistsError, match=r"holds a run already; continue it with --resume .*, choose another --output or "
    ):
        run.create(Settings().resolved(), [])
    assert run.config.read_bytes() == before


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(FileExistsError, match="holds something else already"):
        RunFolder(tmp_path).create(SETTINGS, [])
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_the_folder_is_left_alone(tmp_path):
    (tmp_path / "run").write_text("precious")
    with pytest.raises(FileExistsError, match="holds something else already"):
        RunFolder(tmp_path / "run").create(SETTINGS, [])
    assert (tmp_path / "run").read_text() == "precious"


def test_a_folder_left_by_a_process_killed_before_its_run_began_is_used(tmp_path):
    (tmp_path / "run.lock").touch()
    (tmp_path / ".config.123.partial.yaml").write_text("settings: {al")
    RunFolder(tmp_path).create(SETTINGS, []).release()
    assert RunFolder(tmp_path).settings() == SETTINGS


def test_an_empty_folder_is_used(tmp_path):
    RunFolder(tmp_path).create(SETTINGS, [])
    assert RunFolder(tmp_path).settings() == SETTINGS


def test_a_folder_that_cannot_be_written(tmp_path):
    """A folder under a file: refused to everybody, the superuser of a container included."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="run can't be written: Not a directory"):
        RunFolder(tmp_path / "file" / "run").create(SETTINGS, [])


def test_a_folder_without_configuration_is_no_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"is no training run: it has no config\.yaml"):
        RunFolder(tmp_path).settings()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"- 1\n",
        b"settings: 5\n",
        b"settings: {",
        b"\xff\xfe\x00\x80",
        b"versions: {}\n",
        b"settings: {gamme: 0.9}\n",
        b"settings: {activation: sigmoid}\n",
        b"settings: {learning_rate: fast}\n",
        b"settings: {gamma: 2}\n",
        b"settings: {algo: dqn}\n",
        b"settings: {net_arch: 64}\n",
        b"settings: {env: null}\n",
    ],
)
def test_an_unreadable_configuration_is_named(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.yaml is not the configuration of a run: .") as error:
        RunFolder(tmp_path).settings()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("rows", "steps"),
    [
        ("", 0),
        ("time/total_timesteps,x\n", 0),
        ("x,time/total_timesteps\n1,128\n2,256\n", 256),
        ("time/total_timesteps,x\n128.0,1\n,2\n", 128),  # a row of figures without a number of steps
        ("x\n1\n", 0),
    ],
)
def test_steps_done(tmp_path, rows, steps):
    (tmp_path / "progress.csv").write_text(rows)
    assert RunFolder(tmp_path).steps_done() == steps


def test_no_steps_are_done_before_the_first_row(run):
    assert run.steps_done() == 0


def test_the_state_of_a_run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.state() == "empty"
    lock = folder.create(SETTINGS, [])
    assert folder.state() == "running"
    lock.release()
    assert (folder.state(), folder.ending()) == ("stopped", None)  # as a process that is killed leaves it


@pytest.mark.parametrize("state", ["stopped", "finished", "failed"])
def test_how_a_run_ended_is_kept_until_it_continues(run, state):
    run.write_ending(Ending(state, 128, "the disk is full"))
    assert run.state() == state
    assert run.ending() == Ending(state, 128, "the disk is full")
    run.write_ending(None)
    assert (run.state(), run.ending()) == ("stopped", None)


@pytest.mark.parametrize(
    "content", [b"", b"state: good\nsteps: 1\n", b"state: finished\nsteps: .inf\n", b"\xff\x00", b"state: {"]
)
def test_an_ending_that_cannot_be_read_counts_as_a_kill(run, content):
    (run.path / "ending.yaml").write_bytes(content)
    assert (run.state(), run.ending()) == ("stopped", None)
