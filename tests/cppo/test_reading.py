"""Whatever lies in a file, a reader returns what was asked for or says in one line what is wrong with which file."""

import io
import os
import zipfile

import pytest
import torch

from cppo.reading import (
    ROW_BYTES,
    TEXT_BYTES,
    UnreadableError,
    one_line,
    parse_json,
    parse_tensors,
    read_columns,
    read_json,
    read_member,
    read_rows,
    read_yaml,
    shown,
)

READERS = {
    "yaml": lambda path: read_yaml(path, {}),
    "json": lambda path: read_json(path, {}),
    "rows": lambda path: list(read_rows(path)),
    "columns": lambda path: list(read_columns(path, bool)),
    "member": lambda path: read_member(path, "data"),
}


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
def test_only_regular_files_are_read(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "device", "folder"):
        with pytest.raises(UnreadableError, match=rf"{name} can't be read: it is no regular file"):
            read(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="nothing is missing"):
        read(tmp_path / "nothing")


BOMB = "a: &a [1]\nb: &b [*a, *a]\n"
TEXTS = {
    "alias": ("yaml", BOMB, "it has an alias"),
    "deep yaml": ("yaml", "a: " + "[" * 900 + "]" * 900, "nested deeper than 32"),
    "tag": ("yaml", "a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    "odd tag": ("yaml", "a: !!bool perhaps", "perhaps is missing"),
    "big yaml": ("yaml", "#" * (TEXT_BYTES + 1), "at most 4,194,304 are read"),
    "list": ("yaml", "- 1", "it is no mapping of names to values but a list"),
    "deep json": ("json", '{"a":' + "[" * 100_000 + "]" * 100_000 + "}", "recursion"),
    "less deep json": ("json", '{"a":' + "[" * 40 + "1" + "]" * 40 + "}", "nested deeper than 32"),
    "inf": ("json", '{"a": Infinity}', "Infinity is no finite number"),
    "digits": ("json", '{"a": ' + "9" * 5000 + "}", "limit"),
    "field": ("rows", "a,b\n1," + "x" * 140_000 + "\n", "field larger than field limit"),
    "line": ("rows", "a,b\n" + "1," * ROW_BYTES, "a line has more than 1,048,576 bytes"),
    "no zip": ("member", "PK\x03\x04", "not a zip file"),
}


@pytest.mark.parametrize(("kind", "text", "reason"), TEXTS.values(), ids=TEXTS)
def test_what_is_wrong_is_said_in_one_line(tmp_path, kind, text, reason):
    path = tmp_path / "file\x1b[2J"
    path.write_text(text)
    with pytest.raises(UnreadableError, match=rf"file\\x1b\[2J can't be read: .*{reason}") as error:
        READERS[kind](path)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"steps": true}', "steps is True; it must be int"),
        ('{"steps": 1.5}', "steps is 1.5; it must be int"),
        ('{"steps": {}}', "steps is a mapping; it must be int"),
        ("{}", "steps is missing; it must be int"),
        ('{"steps": 1, "note": 2}', r"note is 2; it must be str \| None"),
    ],
)
def test_the_shape_is_checked(text, reason):
    shape = {"steps": int, "note": str | None}
    assert parse_json(b'{"steps": 3, "more": 1}', "it", shape) == {"steps": 3, "more": 1}
    with pytest.raises(UnreadableError, match=rf"it can't be read: {reason}$"):
        parse_json(text.encode(), "it", shape)


def test_whole_rows_are_read(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('a,b\n1,"x, y"\n2,"half wri')
    assert list(read_rows(path)) == [["a", "b"], ["1", "x, y"]]
    path.write_bytes(b"a\n\xff\n")
    rows = read_rows(path)
    assert next(rows) == ["a"]
    with pytest.raises(UnreadableError, match=r"table\.csv can't be read: .*decode"):
        next(rows)


def test_wanted_columns_of_whole_rows_are_read(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text('a,b,c\n1,2,3\n\n4,5\n"6, 7",,"8"\r\n9,10,1')
    assert list(read_columns(path, lambda name: name != "b")) == [["a", "c"], ["1", "3"], ["6, 7", "8"]]
    assert list(read_columns(path, lambda name: False)) == [[], [], []]
    path.write_text("a,a,b\n1,2,3\n")
    assert list(read_columns(path, "b".__eq__)) == [["b"], ["3"]]
    with pytest.raises(UnreadableError, match="it has two columns of one name"):
        next(read_columns(path, "a".__eq__))


def test_a_name_that_is_not_utf_8_is_read_as_it_was_written(tmp_path):
    (tmp_path / "config.yaml").write_text('command: ["runs/\\uDCFF"]\n')
    assert read_yaml(tmp_path / "config.yaml", {"command": list}) == {"command": ["runs/\udcff"]}


def test_a_member_is_read_up_to_its_size(tmp_path):
    path = tmp_path / "model.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", b"0" * 100_000)
    assert read_member(path, "data") == b"0" * 100_000
    with pytest.raises(UnreadableError, match=r"data has 100,000 bytes; at most 10 are read"):
        read_member(path, "data", most=10)
    with pytest.raises(UnreadableError, match=r"no item named 'policy.pth'"):
        read_member(path, "policy.pth")


def saved(value) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def test_tensors_are_plain_and_stand_there_once():
    assert torch.equal(parse_tensors(saved({"a": [torch.ones(2)]}), "it")["a"][0], torch.ones(2))
    endless: list = []
    endless.append(endless)
    deep: list = [1]
    for _ in range(40):
        deep = [deep]
    twice = [1]
    for bad in (endless, deep, [twice, twice], {"a": object()}):
        with pytest.raises(UnreadableError, match=r"it can't be read: it holds something else than plain values"):
            parse_tensors(saved(bad), "it")
    with pytest.raises(UnreadableError):
        parse_tensors(b"no tensors", "it")


def test_nothing_reaches_a_terminal_that_steers_it():
    assert shown("a\x1b]0;x\x07\x9b\u202e b\udcff é") == r"a\x1b]0;x\x07\x9b\u202e b\udcff é"
    assert one_line("two\nlines\r\x1b[1A") == r"two lines \x1b[1A"
    assert len(one_line("\x1b" * 10**6)) == 2000 and one_line("x" * 2000).endswith("x...")
