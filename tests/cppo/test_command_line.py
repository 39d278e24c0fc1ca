"""Bad input is one line on stderr and exit code 2; good input arrives typed."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import gymnasium as gym
import pytest
import torch

from cppo.command_line import aligned, or_fail, parse, run


@dataclass(frozen=True)
class Flags:
    """Flags of a command."""

    count: int = 3
    """How many."""
    colour: Literal["red", "green"] = "red"
    """Which one."""


def test_flags_arrive_typed_and_defaults_can_come_from_elsewhere():
    assert parse(Flags, "prog", "", args=["--count", "5"]) == Flags(5, "red")
    assert parse(Flags, "prog", "", Flags(7, "green"), args=[]) == Flags(7, "green")


@pytest.mark.parametrize("word", ["1000000", "1e6", "1_000_000", "1.0E+6"])
def test_whole_numbers_are_read_as_people_write_them(word):
    assert parse(Flags, "prog", "", args=["--count", word]) == Flags(1_000_000)
    assert type(parse(Flags, "prog", "", args=["--count", word]).count) is int


def test_help_tells_meaning_and_defaults_on_stdout(capsys):
    with pytest.raises(SystemExit) as end:
        parse(Flags, "prog", "What it does.", Flags(7), args=["--help"])
    assert end.value.code == 0
    out, err = capsys.readouterr()
    assert "What it does." in out and "How many. (default: 7)" in out and err == ""


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--count", "many"], ["--count", "'many'"]),
        (["--count"], ["--count"]),
        (["--colour", "blue"], ["--colour", "'blue'", "'red', 'green'"]),
        (["--flavour", "sweet"], ["--flavour"]),
        (["stray"], ["stray"]),
        (["--colou", "red"], ["--colou", "did you mean --colour?"]),
        (["--count", "1.5"], ["--count", "'1.5' is no whole number"]),
        (["--count", "1e999999999"], ["--count", "'1e999999999' is no whole number"]),
        (["--count", "nan"], ["--count", "'nan' is no whole number"]),
    ],
)
def test_bad_flags(args, words, capsys):
    with pytest.raises(SystemExit) as end:
        parse(Flags, "prog", "", args=args)
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("prog: error: ") and err.count("\n") == 1
    assert all(word in err for word in words)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("too\n  much"),
        FileNotFoundError("too much"),
        gym.error.NameNotFound("too much"),
        ModuleNotFoundError("too much"),
        MemoryError("too much"),
    ],
)
def test_what_building_raises_is_one_line(error, capsys):
    def build(_):
        raise error

    with pytest.raises(SystemExit) as end:
        or_fail("prog", build, 1)
    assert end.value.code == 2
    assert capsys.readouterr().err == "prog: error: too much\n"


def test_memory_that_torch_does_not_get_is_one_line(capsys):
    with pytest.raises(SystemExit) as end:
        or_fail("prog", torch.empty, 2**60)
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("prog: error: there is not enough memory: ") and err.count("\n") == 1


def test_an_error_without_words_is_named(capsys):
    def build():
        raise AssertionError

    with pytest.raises(SystemExit):
        or_fail("prog", build)
    assert capsys.readouterr().err == "prog: error: AssertionError\n"


def test_what_building_returns_is_returned():
    assert or_fail("prog", divmod, 17, 5) == (3, 2)


def test_ctrl_c_while_building_ends_with_its_exit_code(capsys):
    def build():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        or_fail("prog", build)
    assert end.value.code == 130 and capsys.readouterr().err == ""


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, 130), (SystemExit(3), 3), (None, 0)])
def test_a_command_ends_with_its_code(error, code):
    def main():
        if error is not None:
            raise error

    with pytest.raises(SystemExit) as end:
        run(main)
    assert (end.value.code or 0) == code


ROOT = Path(__file__).parents[2]
COMMANDS = [["train.py"], ["evaluate.py"], ["-m", "cppo.report"], ["-m", "cppo.runs"], ["-m", "cppo.benchmarks"]]


def start(command: list[str], **environment: str) -> subprocess.Popen[str]:
    """Start a command whose output nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [sys.executable, *command, "--help"],
        cwd=ROOT,
        env=os.environ | environment,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # ignored in the background
    )
    os.close(writer)
    return process


def test_ctrl_c_while_importing_and_a_closed_pipe_end_a_command_without_a_word(tmp_path):
    """A planted gymnasium is where Ctrl-C comes; without it, the help finds no reader."""
    (tmp_path / "gymnasium.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nraise SystemExit(7)\n"
    )
    interrupted = [start(command, PYTHONPATH=str(tmp_path)) for command in COMMANDS]
    unread = start(COMMANDS[3])
    assert [process.communicate(timeout=120)[1] for process in (*interrupted, unread)] == [""] * 6
    assert {process.returncode for process in interrupted} == {-signal.SIGINT}
    assert unread.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize("code", [0, None, 3, "bye"])
def test_what_ends_the_process_is_bad_input_whatever_its_code(code, capsys):
    with pytest.raises(SystemExit) as end:
        or_fail("prog", sys.exit, code)
    assert end.value.code == 2
    assert capsys.readouterr().err == f"prog: error: the environment, or a module, called sys.exit({code!r})\n"


def test_a_defect_of_the_program_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        or_fail("prog", divmod, 1, 0)


def test_columns_are_aligned():
    assert aligned([("run", "state", "steps"), ("a", "b", "10")]) == "run  state  steps\na    b         10"
