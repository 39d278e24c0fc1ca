"""What happens to a run around the command: full disks, signals, other processes, planted files."""

import base64
import hashlib
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import torch
import yaml

from cppo.runs.checkpoints import Checkpoints
from cppo.runs.folder import RunFolder
from cppo.settings.settings import Settings
from cppo.training.starting import prepare
from cppo.training.training import train
from tests.commands import EVALUATE, TRAIN, run_here

ENDLESS = ["--env", "CartPole-v1", "--algo", "ppo", "--net-arch", "8", "8", "--n-envs", "1", "--n-steps", "64"]
ENDLESS += ["--batch-size", "64", "--n-epochs", "1", "--total-timesteps", "100000000", "--checkpoint-every", "64"]
PATIENCE = 120.0


@pytest.fixture
def running(tmp_path):
    """A training with a checkpoint behind it."""
    folder = RunFolder(tmp_path / "run")
    command = [sys.executable, TRAIN, "--output", folder.path, *ENDLESS]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + PATIENCE
    while not Checkpoints(folder.checkpoints).paths():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1]
        time.sleep(0.02)
    yield process, folder
    process.kill()
    process.communicate()


def test_a_second_training_is_refused_and_sigterm_writes_a_checkpoint_and_says_how_to_go_on(
    running, monkeypatch, capsys
):
    process, folder = running
    assert run_here(monkeypatch, TRAIN, "--resume", folder.path) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert f"{folder.path} is in use: process {process.pid} on " in err
    assert process.poll() is None and folder.state() == "running"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 143
    assert f"--resume {folder.path}" in out
    steps = Checkpoints(folder.checkpoints).newest().steps
    assert f"interrupted after {steps:,} steps; to continue from step {steps:,}: " in out
    assert folder.state() == "stopped" and len([*folder.column("time/total_timesteps")]) == steps // 64


def test_a_full_disk_stops_the_run_and_leaves_a_good_checkpoint(running):
    """The system is told that no file may grow beyond 2 KiB: a checkpoint has more."""
    process, folder = running
    before = Checkpoints(folder.checkpoints).newest().steps
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (2048, 2048))
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and out == ""
    assert err.count("\n") == 1 and "can't be written: File too large; saved after" in err
    assert folder.state() == "failed"
    assert Checkpoints(folder.checkpoints).newest().steps >= before


class Trap:
    """Makes a folder when it is unpickled, and stays a trap when it is pickled again."""

    def __init__(self, path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.makedirs, (self.path, 0o777, True)


def plant_everywhere(folder: RunFolder, sprung: Path) -> None:
    """Put a pickle that makes a folder in every place where a run's folder can hold one; checksums are right."""
    trap = Trap(sprung)
    for name in ("policy.pth", "policy.optimizer.pth", "pytorch_variables.pth", "continual_backprop.pth"):
        torch.save(trap, folder.path / name)
    with zipfile.ZipFile(folder.model) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(contents["data"])
    encoded = base64.b64encode(pickle.dumps(trap)).decode()
    contents["data"] = json.dumps({key: {":type:": "x", ":serialized:": encoded} for key in data}).encode()
    contents |= {name: (folder.path / "policy.pth").read_bytes() for name in contents if name.endswith(".pth")}
    with zipfile.ZipFile(folder.model, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    for checkpoint in Checkpoints(folder.checkpoints).paths():
        torch.save({"networks": {"policy": trap}, "session": trap}, checkpoint / "state.pt")
        checksum = hashlib.sha256((checkpoint / "state.pt").read_bytes()).hexdigest()
        manifest = json.loads((checkpoint / "manifest.json").read_text()) | {"sha256": checksum}
        (checkpoint / "manifest.json").write_text(json.dumps(manifest))
        for name in ("state.pkl", "vec_normalize.pkl"):
            (checkpoint / name).write_bytes(pickle.dumps(trap))
    for name in ("state.pkl", "replay_buffer.pkl", "vec_normalize.pkl", "config.yaml.pkl", "notes.npy"):
        (folder.path / name).write_bytes(pickle.dumps(trap))
    tag = f"!!python/object/apply:os.makedirs ['{sprung}']\n"
    for name in ("ending.yaml", "run.lock"):
        (folder.path / name).write_text(tag)


@pytest.fixture
def trapped(tmp_path):
    """A finished run full of traps, and the folder that any of them would make."""
    folder = RunFolder(tmp_path / "run")
    small = {"net_arch": (8, 8), "n_envs": 1, "n_steps": 64, "batch_size": 64, "n_epochs": 1, "total_timesteps": 128}
    assert train(prepare(Settings(env="CartPole-v1", algo="ppo", **small).resolved(), folder, [])).exit_code == 0
    plant_everywhere(folder, tmp_path / "sprung")
    return folder, tmp_path / "sprung"


def test_no_command_runs_code_from_a_run(trapped, monkeypatch, capsys):
    folder, sprung = trapped
    for script, *flags in ((EVALUATE, folder.path, "--episodes", "1"), (TRAIN, "--resume", folder.path)):
        code = run_here(monkeypatch, script, *flags)
        assert not sprung.exists(), (script, flags)
        *_, error = capsys.readouterr().err.splitlines()  # before it, that the checkpoint is passed over
        assert code == 2
        assert "holds something else than plain values and tensors" in error
    folder.state()
    folder.lock.owner()
    assert not sprung.exists()


def test_the_traps_are_good_ones(trapped):
    """What reads pickles walks into them."""
    folder, sprung = trapped
    torch.load(folder.checkpoints / "step-000000128" / "state.pt", weights_only=False)
    assert sprung.exists()
    sprung.rmdir()
    yaml.unsafe_load((folder.path / "ending.yaml").read_text())
    assert sprung.exists()


def test_a_configuration_with_code_is_refused(trapped):
    folder, sprung = trapped
    folder.config.write_text(f"settings: !!python/object/apply:os.makedirs ['{sprung}']\n")
    with pytest.raises(ValueError, match=r"config\.yaml is not the configuration of a run"):
        folder.settings()
    assert not sprung.exists()
