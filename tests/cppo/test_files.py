"""Files are written whole or not at all."""

import pytest

from cppo.files import MARK, MARK_BYTES, check_ours, check_writable, is_partial, replacing


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "film.mp4"
    with replacing(path) as partial:
        assert partial.suffix == ".mp4" and is_partial(partial)
        partial.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_there_stays_if_writing_fails(tmp_path):
    path = tmp_path / "figures.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as partial:
        partial.write_text("ha")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_keeps_pointing_to_what_is_replaced(tmp_path):
    (tmp_path / "real").write_text("old")
    link = tmp_path / "link"
    link.symlink_to("real")
    with replacing(link) as partial:
        partial.write_text("new")
    assert link.is_symlink() and (tmp_path / "real").read_text() == "new"


def test_checking_makes_the_folder_and_nothing_else(tmp_path):
    path = tmp_path / "made" / "too" / "figures.json"
    check_writable(path)
    assert path.parent.is_dir() and not list(path.parent.iterdir())


@pytest.mark.parametrize("path", ["file/x.json", ".", "/dev/null", "/proc/nowhere/x.json"])
def test_a_place_that_can_not_be_written_is_refused_by_name(tmp_path, path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="can't be written: ") as error:
        check_writable(tmp_path / path)
    assert str(tmp_path / path) in str(error.value)


@pytest.mark.parametrize("content", [b"", MARK.encode() + b" " * MARK_BYTES * 3, b" " * MARK_BYTES * 3 + MARK.encode()])
def test_what_holds_the_mark_or_nothing_may_be_overwritten(content, tmp_path):
    path = tmp_path / "figures.json"
    check_ours(path)
    path.write_bytes(content)
    check_ours(path)


@pytest.mark.parametrize("content", [b"{}", b" " * MARK_BYTES * 3])
def test_what_somebody_else_wrote_is_not_overwritten(content, tmp_path):
    path = tmp_path / "figures.json"
    path.write_bytes(content)
    with pytest.raises(OSError, match=r"figures.json can't be written: this program didn't write what is there"):
        check_ours(path)
    check_ours(path, mark=content[:2].decode())
