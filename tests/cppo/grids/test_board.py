"""Lines kept in place on a terminal, plain ones elsewhere."""

import pytest

from cppo.grids import board
from cppo.grids.board import Board


@pytest.fixture
def small_terminal(monkeypatch):
    """A terminal of 20 columns and 5 lines."""
    monkeypatch.setattr(board.os, "get_terminal_size", lambda _: (20, 5))


def screen(text: str) -> list[str]:
    """What a terminal shows of it: ``ESC[nF`` goes n lines up, ``ESC[J`` clears from there on."""
    lines = [""]
    for piece in text.replace("\x1b[J", "").split("\x1b["):
        up, _, rest = piece.partition("F") if lines != [""] else ("0", "", piece)
        lines = lines[: len(lines) - 1 - int(up)] + rest.split("\n")
    return lines[:-1]


def test_elsewhere_lines_are_written_one_after_another(capsys):
    lines = Board(terminal=False)
    lines.show(["a 1", "2 runs"])
    lines.say("b failed")
    lines.show(["a 2", "2 runs"])
    lines.clear()
    assert capsys.readouterr().err.splitlines() == ["a 1", "2 runs", "b failed", "a 2", "2 runs"]


def test_on_a_terminal_lines_that_change_stay_below_those_that_stay(capsys, small_terminal):
    lines = Board(terminal=True)
    lines.show(["a 1", "b 1", "2 runs"])
    lines.show(["a 2", "b 2", "2 runs"])
    lines.say("b failed")
    lines.show(["a 3", "1 run"])
    assert screen(capsys.readouterr().err) == ["b failed", "a 3", "1 run"]


def test_lines_that_change_go_in_the_end(capsys, small_terminal):
    lines = Board(terminal=True)
    lines.say("began")
    lines.show(["a", "b"])
    lines.clear()
    assert screen(capsys.readouterr().err) == ["began"]


def test_more_lines_than_there_is_room_for(capfd, small_terminal):
    """Of 5 lines one is the cursor's and one the last line's, which always shows; columns beyond 19 would wrap."""
    Board(terminal=True).show(["a" * 30, "b", "c", "d", "e", "5 runs"])
    assert screen(capfd.readouterr().err) == ["a" * 19, "b", "c", "5 runs"]


def test_lines_are_due_from_time_to_time(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(board.time, "monotonic", lambda: now[0])
    lines = Board(terminal=False)
    now[0] = board.SECONDS_BETWEEN_LINES - 0.1
    assert not lines.is_due
    now[0] = board.SECONDS_BETWEEN_LINES
    assert lines.is_due
    lines.show(["a"])
    assert not lines.is_due


def test_on_a_terminal_lines_are_due_again_after_one_that_stays(capsys):
    lines = Board(terminal=True)
    lines.show(["a"])
    assert not lines.is_due
    lines.say("b failed")
    assert lines.is_due
