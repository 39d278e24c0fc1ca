"""Checkpoints are whole or not there, verified, the last ones kept, and never code."""

import io
import json
import os
import pickle
import stat

import numpy as np
import pytest
import torch

from cppo.runs import checkpoints as checkpoints_module
from cppo.runs.checkpoints import Checkpoints, pack, read, unpack


@pytest.fixture
def checkpoints(tmp_path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints")


def state(steps: int) -> dict:
    return {"steps": steps, "weights": torch.full((3,), float(steps)), "observations": np.ones((2, 2), np.float32)}


def test_what_is_written_is_read(checkpoints):
    assert checkpoints.newest() is None
    path = checkpoints.write(500, state(500), keep=2)
    newest = checkpoints.newest()
    assert (newest.path, newest.steps) == (path, 500)
    assert torch.equal(newest.state["weights"], state(500)["weights"])
    assert np.array_equal(newest.state["observations"], np.ones((2, 2)))


def test_the_last_ones_are_kept(checkpoints):
    for steps in (90, 1000, 200, 1100):
        checkpoints.write(steps, state(steps), keep=2)
    assert [path.name for path in checkpoints.paths()] == ["step-000001000", "step-000001100"]
    assert len(list(checkpoints.path.iterdir())) == 2


def test_their_order_is_that_of_their_steps(checkpoints):
    for steps in (999_999_000, 1_000_000_000, 12_000_000_000):
        checkpoints.write(steps, state(steps), keep=2)
    assert [path.name for path in checkpoints.paths()] == ["step-1000000000", "step-12000000000"]
    assert checkpoints.newest().steps == 12_000_000_000


def test_a_checkpoint_of_the_same_step_is_replaced(checkpoints):
    checkpoints.write(5, state(1), keep=1)
    checkpoints.write(5, state(2), keep=1)
    assert checkpoints.newest().state["steps"] == 2


@pytest.mark.parametrize("moment", ["os.fsync", "os.replace"])
def test_one_that_cannot_be_written_leaves_the_older_one_and_nothing_else(checkpoints, monkeypatch, moment):
    path = checkpoints.write(5, state(5), keep=1)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(moment, full)
        with pytest.raises(OSError, match=r"step-000000006 can't be written: No space left on device"):
            checkpoints.write(6, state(6), keep=1)
    assert list(checkpoints.path.iterdir()) == [path]
    assert checkpoints.newest().steps == 5


def test_what_a_killed_process_left_is_no_checkpoint_and_is_removed(checkpoints):
    checkpoints.write(5, state(5), keep=2)
    left = checkpoints.path / ".step-000000006.77.partial"
    left.mkdir()
    (left / "state.pt").write_bytes(b"half")
    assert checkpoints.newest().steps == 5
    checkpoints.write(7, state(7), keep=2)
    assert not left.exists()


def test_what_does_not_belong_there_blocks_nothing(checkpoints, tmp_path):
    """Stray files, a partial one, a file and a link under names of checkpoints: gone, or left alone and passed over."""
    checkpoints.write(5, state(5), keep=2)
    (tmp_path / "elsewhere").mkdir()
    (checkpoints.path / ".step-000000006.77.partial").write_text("no folder")
    (checkpoints.path / "step-000000007").write_text("no folder")
    (checkpoints.path / ".step-000000008.8.partial").symlink_to(tmp_path / "elsewhere")
    for name in ("step-", "step-last", "step-1e9"):
        (checkpoints.path / name).mkdir()
    for steps in (6, 7, 8):
        checkpoints.write(steps, state(steps), keep=2)
    assert [path.name for path in checkpoints.paths()] == ["step-000000007", "step-000000008"]
    assert (tmp_path / "elsewhere").exists()


def test_only_the_users_own_are_trusted(checkpoints, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "mine"))
    own = checkpoints.write(5, state(5), keep=3)
    assert stat.S_IMODE((tmp_path / "mine" / "cppo" / "key").stat().st_mode) == 0o600
    assert read(own).is_own is True
    manifest = json.loads((own / "manifest.json").read_text())
    (own / "manifest.json").write_text(json.dumps(manifest | {"steps": 6}))
    assert read(own).is_own is False
    del manifest["signature"]  # as earlier releases wrote it
    (own / "manifest.json").write_text(json.dumps(manifest))
    assert read(own).is_own is None
    other = checkpoints.write(7, state(7), keep=3)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "theirs"))
    assert read(other).is_own is False


def test_without_a_key_they_are_written_all_the_same(checkpoints, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match=r"are written without your signature \(.*key can't be written: Not a dir"):
        path = checkpoints.write(5, state(5), keep=2)
    assert (read(path).steps, read(path).is_own) == (5, None)


def damage_state(path):
    content = bytearray((path / "state.pt").read_bytes())
    content[100] ^= 255
    (path / "state.pt").write_bytes(content)


DAMAGES = {
    "a changed byte": (damage_state, "its state.pt is not what was written"),
    "a cut file": (lambda path: os.truncate(path / "state.pt", 50), "its state.pt is not what was written"),
    "no file": (lambda path: (path / "state.pt").unlink(), "state.pt is missing"),
    "no manifest": (lambda path: (path / "manifest.json").unlink(), "manifest.json is missing"),
    "a cut manifest": (lambda path: os.truncate(path / "manifest.json", 20), "manifest.json can't be read: "),
    "another manifest": (lambda path: (path / "manifest.json").write_text("[1]"), "manifest.json can't be read: "),
    "a size without end": (
        lambda path: (path / "manifest.json").write_text('{"format": 1, "steps": 1e999, "sha256": ""}'),
        "steps is inf; it must be int",
    ),
    "another format": (
        lambda path: (path / "manifest.json").write_text('{"format": 2, "steps": 1, "sha256": ""}'),
        "is of format 2; this release reads format 1",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damage_is_found_and_an_older_checkpoint_taken(checkpoints, damage, message):
    checkpoints.write(5, state(5), keep=2)
    damage(checkpoints.write(6, state(6), keep=2))
    with pytest.warns(UserWarning, match=rf"step-000000006 .*{message}.*; it is passed over"):
        assert checkpoints.newest().steps == 5


@pytest.mark.filterwarnings("ignore:checkpoint")
def test_without_an_undamaged_one_there_is_an_error(checkpoints):
    damage_state(checkpoints.write(5, state(5), keep=2))
    with pytest.raises(ValueError, match=r"is damaged: .*, and there is no other checkpoint to continue from"):
        checkpoints.newest()


def correct_checksum(path):
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["sha256"] = checkpoints_module.hashlib.sha256((path / "state.pt").read_bytes()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("write", [torch.save, lambda trap, path: path.write_bytes(pickle.dumps(trap))])
def test_no_code_of_a_checkpoint_is_run(checkpoints, tmp_path, write):
    """Its checksum is right, as whoever plants a trap would see to."""
    path = checkpoints.write(5, state(5), keep=2)
    write({"networks": Trap(tmp_path / "sprung")}, path / "state.pt")
    correct_checksum(path)
    with pytest.raises(ValueError, match=r"holds something else than plain values and tensors$"):
        read(path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "planted",
    [
        [1],
        {"a": {"numpy scalar": "int8", "value": 10**6}},
        {"a": {"numpy scalar": "V8", "value": 10**15}},  # so many bytes
        {"a": {"numpy scalar": "no kind", "value": 1}},
        {"a": {"numpy array": 5}},
        {"a": {"numpy array": torch.zeros(2, device="meta")}},
        {"a": {"numpy array": torch.zeros(2).to_sparse()}},
    ],
)
def test_values_that_nothing_can_be_made_of_are_refused(checkpoints, planted):
    path = checkpoints.write(5, state(5), keep=2)
    torch.save(planted, path / "state.pt")
    correct_checksum(path)
    with pytest.raises(ValueError, match=r"holds something else than plain values and tensors$"):
        read(path)


def test_objects_are_refused_before_anything_is_written(checkpoints):
    with pytest.raises(TypeError, match=r"state\['environment'\] is a object, which a checkpoint can't hold"):
        checkpoints.write(5, {"environment": object()}, keep=1)
    assert checkpoints.paths() == []


def through_a_file(value):
    file = io.BytesIO()
    torch.save(pack(value), file)
    file.seek(0)
    return unpack(torch.load(file, weights_only=True))


@pytest.mark.parametrize(
    "value",
    [
        {"steps": 3, 0: [1.5, None, True, "x"], "pair": (2**127, float("inf"))},
        np.random.default_rng(0).bit_generator.state,
        [np.float32(0.1), np.float64(0.1), np.int32(-5), np.bool_(True)],
    ],
)
def test_values_keep_their_kind(value):
    back = through_a_file(value)
    assert back == value
    assert repr(back) == repr(value)  # an np.float32 isn't a float, and their means differ


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint8, np.uint32, np.bool_])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (), (0, 4)])
def test_arrays_keep_kind_and_shape(dtype, shape):
    array = np.ones(shape, dtype)
    back = through_a_file({"a": array})["a"]
    assert isinstance(back, np.ndarray)
    assert back.dtype == array.dtype and back.shape == array.shape and np.array_equal(back, array)


def test_tensors_stay_tensors():
    back = through_a_file([torch.arange(3)])
    assert torch.equal(back[0], torch.arange(3))


@pytest.mark.parametrize("value", [object(), lambda: 1, np.array([object()]), np.array(["a"]), {1, 2}, b"x"])
def test_anything_else_is_refused_by_name(value):
    with pytest.raises(TypeError, match=r"state\['environments'\]\[1\] is a .*, which a checkpoint can't hold"):
        pack({"environments": [0, value]})
