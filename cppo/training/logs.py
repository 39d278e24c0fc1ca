"""Writes the figures of a run to ``progress.csv`` and TensorBoard; both continue from a checkpoint."""

import contextlib
import csv
import hashlib
import io
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stable_baselines3.common.logger import KVWriter, Logger, TensorBoardOutputFormat, filter_excluded_keys
from torch.utils.tensorboard import SummaryWriter

from cppo.files import naming, replacing, sync
from cppo.reading import read_rows

STEPS = "time/total_timesteps"
Position = dict[str, Any]
"""Where a table stood: its columns, how many rows it had, and its SHA-256, which earlier releases left out."""


class CsvLog(KVWriter):
    """A table with one row an update, whose columns keep their order.

    New figures become new columns at the end, in alphabetical order; earlier rows have nothing there.

    :param position: where to continue; later rows and columns are removed. None: begin anew
    :raises ValueError: if the file isn't the one that stood there
    :raises OSError: if it can't be written
    """

    def __init__(self, path: Path, position: Position | None = None) -> None:
        self.path = path
        self._columns: list[str] = []
        self._rows = 0
        self._descriptor: int | None = None
        self._digest = hashlib.sha256()
        rows = [] if position is None else self._read(position)
        content = self._content(rows)
        if position is not None and position.get("sha256") not in (None, hashlib.sha256(content).hexdigest()):
            raise ValueError(f"{self.path} is not the table that the checkpoint belongs to: its figures were changed")
        self._rewrite(content)

    @property
    def position(self) -> Position:
        """Where the table stands now."""
        return {"columns": list(self._columns), "rows": self._rows, "sha256": self._digest.hexdigest()}

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Add a row."""
        values = filter_excluded_keys(key_values, key_excluded, "csv")
        new = sorted(values.keys() - set(self._columns))
        if new:
            rows = self._read(self.position)
            self._columns += new
            self._rewrite(self._content(rows))
        line = _lines([[_plain(values.get(column)) for column in self._columns]])
        self._append(line)
        self._digest.update(line)
        self._rows += 1

    def sync(self) -> None:
        """Wait until all rows are on the disk."""
        sync(self.path)

    def close(self) -> None:
        """Close the file; again does no harm."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _read(self, position: Position) -> list[list[str]]:
        """The rows up to a position."""
        self._columns, self._rows = list(position["columns"]), position["rows"]
        if not self._columns:
            return []
        try:
            header, *rows = [*itertools.islice(read_rows(self.path), self._rows + 1)] or [[]]
        except FileNotFoundError as error:
            raise ValueError(f"{error}, and the checkpoint needs it") from error
        if header[: len(self._columns)] != self._columns or len(rows) < self._rows:
            raise ValueError(
                f"{self.path} is not the table that the checkpoint belongs to: rows or columns are missing"
            )
        self._check_order(rows)
        return [row[: len(self._columns)] for row in rows]

    def _check_order(self, rows: Sequence[Sequence[str]]) -> None:
        """Refuse a table whose steps don't count up; of one without a digest nothing else would show it."""
        if STEPS in self._columns:
            cells = [row[self._columns.index(STEPS)] for row in rows]
            steps = [int(cell) if cell.isdecimal() else -1 for cell in cells]
            if not all(earlier < later for earlier, later in itertools.pairwise(steps)):
                raise ValueError(
                    f"{self.path} is not the table that the checkpoint belongs to: its rows are out of order"
                )

    def _content(self, rows: list[list[str]]) -> bytes:
        """The whole table; earlier rows have nothing in new columns."""
        width = len(self._columns)
        return _lines([self._columns, *(row + [""] * (width - len(row)) for row in rows)]) if width else b""

    def _rewrite(self, content: bytes) -> None:
        with naming(self.path), replacing(self.path, follow=False) as partial:
            partial.write_bytes(content)
        self.close()
        with naming(self.path):
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        self._digest = hashlib.sha256(content)

    def _append(self, line: bytes) -> None:
        """Add a line, or nothing if the disk is full."""
        assert self._descriptor is not None
        size = os.fstat(self._descriptor).st_size
        with naming(self.path):
            try:
                written = os.write(self._descriptor, line)
                if written < len(line):
                    os.write(self._descriptor, line[written:])
            except OSError:
                os.ftruncate(self._descriptor, size)
                raise


class TensorBoardLog(TensorBoardOutputFormat):
    """Writes curves for TensorBoard.

    :param first_step: where to continue; TensorBoard drops what earlier files hold from there on. None: begin anew
    """

    def __init__(self, path: Path, first_step: int | None = None) -> None:
        self.writer = SummaryWriter(log_dir=str(path), purge_step=first_step)
        self._is_closed = False

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0) -> None:
        """Add a point to each curve."""
        with naming(Path(self.writer.log_dir)):
            super().write(key_values, key_excluded, step)


class RunLogs:
    """Writes all figures of a run.

    :param steps: environment steps done, where the run continues; None: begin anew
    :param position: of the table, where the run continues
    """

    def __init__(self, path: Path, steps: int | None = None, position: Position | None = None) -> None:
        self._path = path
        self.table = CsvLog(path / "progress.csv", position)
        self.curves = TensorBoardLog(path, None if steps is None else steps + 1)
        self.logger = Logger(str(path), [self.table, self.curves])

    def sync(self) -> Position:
        """Bring all figures to the disk, and return where the table stands."""
        with naming(self._path):
            self.curves.writer.flush()
            self.table.sync()
        return self.table.position

    def close(self) -> None:
        """Close the files; what the disk has no place for is given up."""
        with contextlib.suppress(OSError):
            self.logger.close()


def _plain(value: Any) -> Any:
    """A number of numpy or torch as Python's, whose text gives exactly the number again."""
    return value.item() if hasattr(value, "item") else value


def _lines(rows: list[list[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()
