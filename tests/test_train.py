"""The command as its user meets it: ``python train.py`` in a process of its own."""

import csv
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import yaml

from cppo import CPPO
from cppo.runs.folder import RunFolder
from tests.commands import TRAIN, run_here

TINY = ["--net-arch", "8", "8", "--n-steps", "32", "--batch-size", "32", "--n-epochs", "2"]
PATIENCE = 120.0
"""Seconds to wait for what takes a few on a quiet machine."""


def train(*flags, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, str(TRAIN), *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, **options)


def train_here(monkeypatch, *flags) -> int:
    """The same in this process; the exit code."""
    return run_here(monkeypatch, TRAIN, *flags)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[RunFolder, subprocess.CompletedProcess]:
    """Two environments and 640 steps in 10 rollouts; phases of 100, a rollout of 64 makes 4 optimizer steps."""
    pytest.importorskip("pybullet")
    folder = tmp_path_factory.mktemp("runs") / "ant"
    schedule = ["--change-every", "100", "--change-at", "step", "--frictions", "0.5", "1.5", "0.25"]
    continual = ["--replacement-rate", "0.05", "--maturity-threshold", "4"]
    flags = ["--seed", 3, "--n-envs", 2, "--total-timesteps", 640, *schedule, *continual]
    done = train("--output", folder, *flags, *TINY)
    assert done.returncode == 0, done.stderr
    return RunFolder(folder), done


def test_a_training_says_what_it_did_and_where_the_files_are(trained):
    folder, done = trained
    assert f"trained for 640 steps; agent saved in {folder.model}" in done.stdout
    assert re.search(r"phase 6, friction 0\.5: ", done.stdout)  # 640 // 100 = 6, the first friction for the third time
    assert done.stderr == ""  # nothing to warn of, and too short for a line of progress


def test_the_configuration_is_whole(trained):
    record = yaml.safe_load(trained[0].config.read_text())
    settings = trained[0].settings()
    assert (settings.seed, settings.net_arch, settings.frictions) == (3, (8, 8), (0.5, 1.5, 0.25))
    assert (settings.learning_rate, settings.betas) == (1e-4, (0.99, 0.99))  # those of the default protocol, nature
    assert record["versions"]["torch"] and record["versions"]["pybullet"]
    assert "--frictions" in record["command"]


def test_the_table_of_figures(trained):
    with trained[0].progress.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["time/total_timesteps"]) for row in rows] == list(range(64, 641, 64))
    # After 64 k steps the phase at work is that of the last step taken: (64 k - 2) // 100.
    phases = [(64 * k - 2) // 100 for k in range(1, 11)]
    assert [int(row["environment/phase"]) for row in rows] == phases
    assert [float(row["environment/friction"]) for row in rows] == [(0.5, 1.5, 0.25)[phase % 3] for phase in phases]
    last = rows[-1]
    for key in ("rollout/ep_rew_mean", "rollout/ep_len_mean", "train/value_loss", "train/approx_kl", "time/fps"):
        assert float(last[key]) == float(last[key]), key
    # 10 updates of 4 optimizer steps are logged. In a layer of 8 units all are mature from step 5 on, and replaced ones
    # wait 4 steps; the accumulated share .05 * 8 = .4 a step is at most 35 * .4 = 14 in each of 4 layers.
    assert [int(row["train/n_updates"]) for row in rows] == list(range(2, 21, 2))
    assert 0 < float(last["cbp/total_replaced"]) <= 4 * 14
    layers = {key.split("/")[1] for key in last if key.startswith("cbp/") and key.count("/") == 2}
    assert layers == {"actor.0", "actor.1", "critic.0", "critic.1"}
    assert sum(float(last[f"cbp/{layer}/total_replaced"]) for layer in layers) == float(last["cbp/total_replaced"])


def test_tensorboard_shows_the_same_figures(trained):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = event_accumulator.EventAccumulator(str(trained[0].path))
    events.Reload()
    names = set(events.Tags()["scalars"])
    assert {"environment/friction", "environment/phase", "rollout/ep_rew_mean", "train/loss", "cbp/replaced"} <= names
    friction = events.Scalars("environment/friction")
    assert [event.step for event in friction] == list(range(64, 641, 64))
    assert {event.value for event in friction} == {0.5, 1.5, 0.25}


def test_the_agent_can_be_loaded(trained):
    model = CPPO.load(trained[0].model, device="cpu")
    assert model.num_timesteps == 640 and model.replacement_rate == 0.05
    assert trained[0].steps_done() == 640


def test_a_run_that_exists_is_refused_and_left_unchanged(trained, monkeypatch, capsys):
    before = contents(trained[0].path)
    assert train_here(monkeypatch, "--output", trained[0].path, "--seed", "9", *TINY) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert f"{trained[0].path} holds a run already; continue it with --resume {trained[0].path}, choose" in err
    assert contents(trained[0].path) == before


def test_help_shows_every_setting_with_the_defaults_of_the_protocol(monkeypatch, capsys):
    def default(flag: str, *flags: str) -> str:
        assert train_here(monkeypatch, *flags, "--help") == 0
        text = " ".join(capsys.readouterr().out.replace("│", " ").split())
        described = text[text.index(f" --{flag} ") :]
        return re.search(r"\(default: (.*?)\)", described).group(1)

    assert default("total-timesteps") == "20000000"
    assert default("total-timesteps", "--protocol", "talk") == "100000000"
    assert default("activation", "--protocol", "talk") == "tanh"
    assert default("activation", "--protocol=nature") == "relu"
    assert default("friction-range", "--protocol", "talk") == "0.0001 10000.0"
    assert default("friction-range") == "0.02 2.0"
    assert default("betas", "--algo", "ppo") == "0.9 0.999"
    assert default("betas", "--algo", "cppo") == "0.99 0.99"
    assert default("weight-decay", "--algo", "ppo-l2") == "0.001"


BAD_FLAGS = {
    "an unknown algorithm": (["--algo", "dqn"], ["'dqn'", "cppo-l2"]),
    "an unknown protocol": (["--protocol", "quickly"], ["'quickly'", "talk"]),
    "an unknown flag": (["--learning-rat", "1"], ["--learning-rat"]),
    "a closed form of gSDE": (
        ["--update", "closed-form", "--use-sde", "--env", "Pendulum-v1"],
        ["gSDE", "--update autograd"],
    ),
    "a stray word": (["fast"], ["fast"]),
    "a flag without a value": (["--seed"], ["--seed"]),
    "a negative count": (["--total-timesteps", "-5"], ["--total-timesteps -5", "at least 1"]),
    "a count in words": (["--total-timesteps", "many"], ["--total-timesteps", "'many'"]),
    "no environments": (["--n-envs", "0"], ["--n-envs 0", "at least 1"]),
    "an infinite rate": (["--learning-rate", "inf"], ["--learning-rate inf", "at most 1e+30"]),
    "a rate that is no number": (["--learning-rate", "nan"], ["--learning-rate nan"]),
    "a beta of 1": (["--betas", "0.9", "1"], ["--betas 1.0", "below 1"]),
    "an unknown utility": (["--utility", "contributions"], ["'contributions'", "contribution"]),
    "a flag for another algorithm": (["--algo", "ppo", "--utility", "weight"], ["--utility has no effect", "ppo"]),
    "a flag for another environment": (["--env", "CartPole-v1", "--change-every", "9"], ["--change-every", "CartPole"]),
    "an unknown environment": (["--env", "NoSuch-v0"], ["NoSuch"]),
    "an environment of no package": (["--env", "no_such:Env-v0"], ["no_such"]),
    "a device that is not there": (["--device", "cuda:99"], ["--device cuda:99"]),
    "nothing to replace": (["--env", "CartPole-v1", "--net-arch"], ["net_arch", "hidden layer"]),
    "a rollout larger than the memory": (
        ["--env", "CartPole-v1", "--n-steps", "1000000000000"],
        ["Unable to allocate"],
    ),
}
BAD_FRICTIONS = {
    "a friction of 0": (["--friction-range", "0", "1"], ["friction_range", "above 0", "0.0"]),
    "frictions upside down": (["--friction-range", "2", "1"], ["friction_range", "low <= high", "(2.0, 1.0)"]),
    "half a range": (["--friction-range", "2"], ["--friction-range"]),
    "a negative friction": (["--frictions", "1", "-1"], ["frictions", "-1.0"]),
}


def check_refusal(code: int, out: str, err: str, words: list[str], output: Path) -> None:
    assert code == 2 and out == ""
    assert err.startswith("train.py: error: ") and err.count("\n") == 1 and err.endswith("\n")
    assert all(word in err for word in words), err
    assert not output.exists()


@pytest.mark.parametrize("flags_and_words", BAD_FLAGS.values(), ids=BAD_FLAGS)
def test_bad_input_is_one_line(flags_and_words, monkeypatch, capsys, tmp_path):
    flags, words = flags_and_words
    code = train_here(monkeypatch, "--output", tmp_path / "run", *flags)
    check_refusal(code, *capsys.readouterr(), words, tmp_path / "run")


@pytest.mark.parametrize("flags_and_words", BAD_FRICTIONS.values(), ids=BAD_FRICTIONS)
def test_bad_frictions_are_one_line(flags_and_words, monkeypatch, capsys, tmp_path):
    pytest.importorskip("pybullet")
    flags, words = flags_and_words
    code = train_here(monkeypatch, "--output", tmp_path / "run", *flags)
    check_refusal(code, *capsys.readouterr(), words, tmp_path / "run")


def test_a_bad_flag_is_one_line_where_the_terminal_cannot_show_a_box(tmp_path):
    flags, words = BAD_FLAGS["an unknown algorithm"]
    done = train("--output", tmp_path / "run", *flags, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    check_refusal(done.returncode, done.stdout, done.stderr, words, tmp_path / "run")


def test_an_output_that_cannot_be_made_is_one_line(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    output = tmp_path / "file" / "run"
    code = train_here(monkeypatch, "--env", "CartPole-v1", "--output", output, *TINY)
    check_refusal(code, *capsys.readouterr(), ["run can't be written: Not a directory"], output)


def test_by_default_a_run_is_named_by_what_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = [*TINY, "--n-envs", "1", "--total-timesteps", "32"]
    assert train_here(monkeypatch, "--env", "CartPole-v1", "--algo", "ppo", "--seed", "7", *small) == 0
    assert RunFolder(tmp_path / "runs" / "nature-CartPole-v1-ppo-seed7").model.is_file()


def test_a_warning_is_one_line_without_a_place_in_the_code(tmp_path, monkeypatch, capsys):
    small = [*TINY, "--n-envs", "1", "--total-timesteps", "32", "--env", "CartPole-v1", "--algo", "cppo"]
    assert train_here(monkeypatch, "--output", tmp_path / "run", *small) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("train.py: warning: no unit will be replaced in 32 environment steps")


def processes_of(group: int) -> list[int]:
    """Processes of a process group that are at work, zombies left out."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # ended meanwhile
            continue
        if int(its_group) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_until(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, "the training ended by itself"
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux to list the processes of a group")
@pytest.mark.parametrize("where", ["in one process, on a terminal", "in processes"])
def test_ctrl_c_saves_the_agent_and_leaves_no_process_behind(tmp_path, where):
    """A terminal sends Ctrl-C to all processes of the command; so does this test."""
    pytest.importorskip("pybullet")
    in_processes = where == "in processes"
    folder = RunFolder(tmp_path / "run")
    flags = ["--n-envs", "2", "--processes", str(in_processes), "--total-timesteps", "100000000", *TINY]
    main_side, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))  # without a size there is no bar
    running = subprocess.Popen(
        [sys.executable, str(TRAIN), "--output", str(folder.path), *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if in_processes else terminal,
        text=True,
        start_new_session=True,
    )
    os.close(terminal)
    try:
        wait_until(lambda: folder.steps_done() > 0, running)
        assert (len(processes_of(running.pid)) > 2) is in_processes
        os.killpg(running.pid, signal.SIGINT)
        out, err = running.communicate(timeout=PATIENCE)
        err = err if in_processes else read_all(main_side)
        assert running.returncode == 130
        assert re.search(
            rf"interrupted after ([\d,]+) steps; to continue from step \1: .* --resume {folder.path}\n", out
        )
        assert "stopping after this rollout and its update" in err and "Traceback" not in err
        assert ("%|" in err and "friction" in err) is not in_processes  # a bar on a terminal only
        deadline = time.monotonic() + PATIENCE
        while processes_of(running.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert processes_of(running.pid) == []
    finally:
        os.close(main_side)
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    assert CPPO.load(folder.model, device="cpu").num_timesteps >= folder.steps_done() > 0


def read_all(terminal: int) -> str:
    """What was written to a terminal whose other side is closed."""
    text = b""
    while True:
        try:
            block = os.read(terminal, 65536)
        except OSError:  # how Linux says that nobody can write to it any more
            break
        if not block:
            break
        text += block
    return text.decode(errors="replace")


def test_flags_that_contradict_a_run_to_resume_are_named(trained, monkeypatch, capsys):
    before = contents(trained[0].path)
    assert train_here(monkeypatch, "--resume", trained[0].path, "--gamma", "0.5", "--algo", "ppo") == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert "--algo cppo-l2, not ppo, --gamma 0.99, not 0.5; a run is resumed with its own settings" in err
    for flags, words in [
        (["--total-timesteps", "639"], "--total-timesteps 639 is less than the 640 of"),
        (["--output", "elsewhere"], "--output has no effect with --resume"),
    ]:
        assert train_here(monkeypatch, "--resume", trained[0].path, *flags) == 2
        assert words in capsys.readouterr().err
    assert contents(trained[0].path) == before


def test_there_is_no_run_to_resume(tmp_path, monkeypatch, capsys):
    assert train_here(monkeypatch, "--resume", tmp_path) == 2
    assert f"{tmp_path} is no training run: it has no config.yaml" in capsys.readouterr().err
