"""Reads files that anybody may have written, one reader per format.

Each reads regular files only, up to a stated size and depth, runs nothing, and checks the shape of what it finds.
A file that isn't there is a ``FileNotFoundError``; all else that is wrong is an ``UnreadableError``.
"""

import contextlib
import csv
import io
import json
import os
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, BinaryIO, NoReturn

import yaml

TEXT_BYTES = 4 * 2**20
"""Largest file of YAML or JSON; a run's have kilobytes."""
TENSOR_BYTES = 4 * 2**30
"""Largest file or zip member of tensors, as it is and unpacked."""
ROW_BYTES = 2**20
"""Longest line of a table; a run's have hundreds."""
MOST_CHARACTERS = 2000
"""Of a message; values that are quoted in one may have millions."""
DEPTH = 32
"""Deepest nesting; a checkpoint of several wrapped environments has about 12."""
YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Shape = Mapping[str, type | UnionType]
"""What a mapping must hold: the type of each value by name. One whose type admits None may be missing."""


class UnreadableError(ValueError):
    """A file can't be read or is not what it should be; the message names it and says why, in one line.

    :param what: the file
    """

    def __init__(self, what: object, reason: object) -> None:
        super().__init__(one_line(f"{what} can't be read: {reason}"))
        self.reason = one_line(reason)


def shown(text: str) -> str:
    """Text for a terminal: what could steer one (escapes, control characters, odd bytes of a name) is shown escaped."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def one_line(message: object) -> str:
    """A message or error as one line for a terminal, cut where it is no longer read."""
    line = shown(" ".join(str(message)[:MOST_CHARACTERS].split()))
    return line if len(line) < MOST_CHARACTERS else line[: MOST_CHARACTERS - 3] + "..."


@contextlib.contextmanager
def opened(path: Path, most: int | None = None) -> Iterator[BinaryIO]:
    """Open a regular file to read it; a pipe, a device or a folder is refused at once.

    :param most: bytes it may have
    :raises FileNotFoundError: if it isn't there
    :raises UnreadableError: for anything else
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError as error:
        raise FileNotFoundError(one_line(f"{path} is missing")) from error
    except OSError as error:
        raise UnreadableError(path, error.strerror or error) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise UnreadableError(path, "it is no regular file")
    with open(descriptor, "rb") as file:
        if most is not None and status.st_size > most:
            raise UnreadableError(path, f"it has {status.st_size:,} bytes; at most {most:,} are read")
        yield file


def read_bytes(path: Path, most: int) -> bytes:
    """Read a whole file.

    :param most: bytes it may have
    :raises FileNotFoundError: if it isn't there
    :raises UnreadableError: if it can't be read
    """
    with opened(path, most) as file, _reading(path):
        return file.read(most)


def read_yaml(path: Path, shape: Shape) -> dict[str, Any]:
    """Read a mapping from a file of YAML without tags and aliases.

    :raises FileNotFoundError: if it isn't there
    :raises UnreadableError: if it can't be read, or hasn't the shape
    """
    content = read_bytes(path, TEXT_BYTES)
    with _reading(path):
        text = content.decode()
        loader = yaml.SafeLoader if "\\uD" in text else YAML_LOADER  # libyaml refuses names that aren't UTF-8
        depth = 0
        for event in yaml.parse(text, loader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it has an alias")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            _check_depth(depth)
        return of_shape(yaml.load(text, loader), shape)


def read_json(path: Path, shape: Shape) -> dict[str, Any]:
    """Read a mapping from a file of JSON; see ``parse_json``.

    :raises FileNotFoundError: if it isn't there
    """
    return parse_json(read_bytes(path, TEXT_BYTES), path, shape)


def parse_json(content: bytes, what: object, shape: Shape, finite: bool = True) -> dict[str, Any]:
    """Read a mapping from JSON.

    :param what: names it in an error
    :param finite: whether all its numbers must be
    :raises UnreadableError: if it can't be read, or hasn't the shape
    """
    with _reading(what):
        return of_shape(_plain(json.loads(content, parse_constant=_no_number if finite else None)), shape)


def read_rows(path: Path) -> Iterator[list[str]]:
    """Read the rows of a CSV table one by one, the headings first; a last line without its end is left out.

    :raises FileNotFoundError: if it isn't there
    :raises UnreadableError: if it can't be read, when the row is reached
    """
    with opened(path) as file, _reading(path):
        yield from csv.reader(_lines(file), strict=True)


def read_columns(path: Path, wanted: Callable[[str], bool]) -> Iterator[list[str]]:
    """Read some columns of a CSV table row by row, their headings first; rows that aren't whole are left out.

    :param wanted: tells of a heading whether its column is
    :raises FileNotFoundError: if it isn't there
    :raises UnreadableError: if it can't be read, when the row is reached
    """
    with opened(path) as file, _reading(path):
        lines = _lines(file)
        names = next(csv.reader(lines, strict=True), [])
        places = [place for place, name in enumerate(names) if wanted(name)]
        if len({names[place] for place in places}) < len(places):
            raise ValueError("it has two columns of one name")
        yield [names[place] for place in places]
        for line in lines:
            # Splitting takes a third of the time of a reader that knows quotes.
            cells = next(csv.reader([line], strict=True)) if '"' in line else line.rstrip("\r\n").split(",")
            if len(cells) == len(names):
                yield [cells[place] for place in places]


def _lines(file: BinaryIO) -> Iterator[str]:
    while (line := file.readline(ROW_BYTES)).endswith(b"\n"):
        yield line.decode()
    if len(line) == ROW_BYTES:
        raise ValueError(f"a line has more than {ROW_BYTES:,} bytes")


def read_member(path: Path, name: str, most: int = TENSOR_BYTES) -> bytes:
    """Read a file that lies in a zip file.

    :param most: bytes it may have, unpacked
    :raises FileNotFoundError: if the zip file isn't there
    :raises UnreadableError: if it can't be read, or has no such file
    """
    with opened(path, TENSOR_BYTES) as file, _reading(path), zipfile.ZipFile(file) as archive:
        size = archive.getinfo(name).file_size
        if size > most:
            raise ValueError(f"{name} has {size:,} bytes; at most {most:,} are read")
        return archive.read(name)


def parse_tensors(content: bytes, what: object, device: str | None = "cpu") -> Any:
    """Read what ``torch.save`` wrote: nested plain values and tensors, and nothing else.

    :param what: names it in an error
    :param device: where the tensors go; None: where they were
    :raises UnreadableError: if it can't be read, or holds something else
    """
    import torch  # takes seconds; who reads tables and settings only doesn't need it

    with _reading(what, "it holds something else than plain values and tensors"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(member.file_size for member in archive.infolist()) > TENSOR_BYTES:
                raise ValueError("it unpacks to too many bytes")
        return _plain(torch.load(io.BytesIO(content), map_location=device, weights_only=True))


@contextlib.contextmanager
def _reading(what: object, reason: str = "") -> Iterator[None]:
    """Turn every error, of which parsers of bad bytes have many, into one that names the file.

    :param reason: in place of the error's own, where that gives bad advice
    """
    try:
        yield
    except UnreadableError:
        raise
    except Exception as error:
        own = f"{error.args[0]} is missing" if isinstance(error, KeyError) else error
        raise UnreadableError(what, reason or str(own) or type(error).__name__) from error


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no finite number")


def _check_depth(depth: int) -> None:
    if depth > DEPTH:
        raise ValueError(f"it is nested deeper than {DEPTH}")


def _plain(value: Any) -> Any:
    """The value, once it is known to be finite in depth and in size: nothing in it stands there twice."""
    met: set[int] = set()
    left = [(value, 1)]
    while left:
        each, depth = left.pop()
        if not isinstance(each, dict | list | tuple) or not each:
            continue
        _check_depth(depth)
        if id(each) in met:
            raise ValueError("a part of it stands there twice")
        met.add(id(each))
        left += [(part, depth + 1) for part in (each.values() if isinstance(each, dict) else each)]
    return value


def of_shape(value: Any, shape: Shape) -> dict[str, Any]:
    """Check that a value is a mapping of a shape, and return it.

    :raises ValueError: says what is missing or of another type
    """
    if not isinstance(value, dict):
        raise ValueError(f"it is no mapping of names to values but {_named(value)}")
    for name, kind in shape.items():
        found = value.get(name)
        if not isinstance(found, kind) or (isinstance(found, bool) and kind is int):
            missing = f"{name} is missing" if name not in value else f"{name} is {_named(found)}"
            raise ValueError(f"{missing}; it must be {getattr(kind, '__name__', kind)}")
    return value


def _named(value: Any) -> str:
    return "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else repr(value)[:100]
