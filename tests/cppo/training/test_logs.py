"""The table of figures keeps its columns in order, and its rows each once."""

import csv
import errno
import os
import time

import numpy as np
import pytest
import torch

from cppo.training.logs import CsvLog, RunLogs


def add(log, **figures):
    log.write(figures, {name: None for name in figures})


def table(path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "progress.csv"


def test_columns_are_in_alphabetical_order_and_new_ones_come_last(path):
    log = CsvLog(path)
    add(log, loss=0.5, fps=3)
    add(log, loss=0.25, fps=4, ended=1, best=2)
    add(log, ended=2)
    assert table(path) == [
        ["fps", "loss", "best", "ended"],
        ["3", "0.5", "", ""],
        ["4", "0.25", "2", "1"],
        ["", "", "", "2"],
    ]


def test_numbers_can_be_read_back_exactly(path):
    values = [0.1, np.float32(0.1), np.float64(1 / 3), torch.tensor(0.1), float("nan"), 2**60, np.int64(-1)]
    log = CsvLog(path)
    add(log, **{f"x{number}": value for number, value in enumerate(values)})
    read = [float(cell) for cell in table(path)[1]]
    assert np.array_equal(read, [float(value) for value in values], equal_nan=True)


def test_text_with_commas_and_figures_for_tensorboard_alone(path):
    log = CsvLog(path)
    log.write({"met": 'a, "b"', "curve": 1}, {"met": ("tensorboard",), "curve": ("csv",)})
    assert table(path) == [["met"], ['a, "b"']]


def test_a_table_continues_at_its_position(path):
    """After the position a row, a column and half a row were added, as by a process that was killed."""
    log = CsvLog(path)
    add(log, a=1, b=1)
    add(log, a=2, b=2)
    position = log.position
    whole = path.read_bytes()
    add(log, a=3, c=3)
    log.close()
    with path.open("ab") as file:
        file.write(b"4,4" + bytes(5000) + b"\xff\n")  # as a power cut leaves it
    again = CsvLog(path, position)
    assert path.read_bytes() == whole
    add(again, a=3, b=4)
    assert table(path)[-1] == ["3", "4"]


@pytest.mark.parametrize("content", ["a,b\n1,1\n", "a,c\n1,1\n2,2\n", "", "b,a\n1,1\n2,2\n"])
def test_another_table_is_refused(path, content):
    path.write_text(content)
    with pytest.raises(ValueError, match=r"progress\.csv is not the table that the checkpoint belongs to"):
        CsvLog(path, {"columns": ["a", "b"], "rows": 2})
    assert path.read_text() == content


@pytest.mark.parametrize("change", [(b"1,1\n2,2", b"2,2\n1,1"), (b"1,1", b"1,7"), (b"2,2", b'2,"2"x')])
def test_changed_figures_are_refused_if_they_were_signed_for(path, change):
    log = CsvLog(path)
    add(log, a=1, b=1)
    add(log, a=2, b=2)
    position = log.position
    path.write_bytes(path.read_bytes().replace(*change))
    with pytest.raises(ValueError, match=r"progress\.csv "):
        CsvLog(path, position)
    path.write_text("a,b\n1,1\n3,2\n")
    CsvLog(path, {"columns": ["a", "b"], "rows": 2})  # as earlier releases wrote it


def test_rows_out_of_order_are_refused_even_without_a_digest(path):
    """As a run of an earlier release has them."""
    path.write_text("a,time/total_timesteps\n1,20\n2,10\n3,30\n")
    position = {"columns": ["a", "time/total_timesteps"], "rows": 3}
    with pytest.raises(ValueError, match=r"progress\.csv is not the table .*: its rows are out of order"):
        CsvLog(path, position)
    assert path.read_text().startswith("a,time/total_timesteps\n1,20\n2,10")  # nothing was lost
    path.write_text("a,time/total_timesteps\n1,10\n2,20\n3,30\n")
    assert CsvLog(path, position).position["rows"] == 3


def test_a_table_that_is_gone_is_named(path):
    with pytest.raises(ValueError, match=r"progress\.csv is missing, and the checkpoint needs it"):
        CsvLog(path, {"columns": ["a"], "rows": 1})


def test_a_full_disk_leaves_no_half_row(path, monkeypatch):
    log = CsvLog(path)
    add(log, a=1)
    before, write, calls = path.read_bytes(), os.write, []

    def half(descriptor, data):
        calls.append(data)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[:1])

    with monkeypatch.context() as patch:
        patch.setattr("os.write", half)
        with pytest.raises(OSError, match="No space left"):
            add(log, a=22)
    assert path.read_bytes() == before
    add(log, a=3)
    assert table(path) == [["a"], ["1"], ["3"]]


def test_curves_continue_where_a_checkpoint_was_taken(tmp_path):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")

    def log(logs, steps):
        for step in steps:
            logs.logger.record("loss", step / 10)
            logs.logger.dump(step)

    logs = RunLogs(tmp_path)
    log(logs, [10, 20])
    position = logs.sync()
    log(logs, [30, 40])
    logs.close()
    time.sleep(1)  # TensorBoard reads files in the order of their names, which begin with the second
    again = RunLogs(tmp_path, 20, position)
    log(again, [30])
    again.close()
    events = event_accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [(10, 1.0), (20, 2.0), (30, 3.0)]
    assert table(tmp_path / "progress.csv") == [["loss"], ["1.0"], ["2.0"], ["3.0"]]
