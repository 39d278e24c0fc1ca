"""What doesn't belong to a run is neither trusted nor written to, and one line says so."""

import json
import os
import shutil
import sys

import numpy as np
import pytest

from cppo.command_line import or_fail
from cppo.files import CannotWriteError
from cppo.report.trained_agent import TrainedAgent
from cppo.runs import checkpoints as checkpoints_module
from cppo.runs.checkpoints import Checkpoints, read
from cppo.runs.folder import Ending, RunFolder
from cppo.settings.settings import Settings
from cppo.training.starting import prepare, resume
from cppo.training.training import report, train

SMALL = {"algo": "ppo", "net_arch": (4, 4), "n_envs": 2, "n_steps": 16, "batch_size": 32, "n_epochs": 1}
SMALL |= {"total_timesteps": 64, "checkpoint_every": 32, "env": "CartPole-v1"}


def trained(path, **more) -> RunFolder:
    folder = RunFolder(path)
    assert train(prepare(Settings(**(SMALL | more)).resolved(), folder, ["test"])).exit_code == 0
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> RunFolder:
    """A finished run, to be copied."""
    return trained(tmp_path_factory.mktemp("original") / "run")


@pytest.fixture
def run(original, tmp_path) -> RunFolder:
    """A copy of it."""
    shutil.copytree(original.path, tmp_path / "run")
    return RunFolder(tmp_path / "run")


def go_on(folder: RunFolder, **how):
    return resume(folder.settings(), folder, ["test"], **how)


def edit(folder: RunFolder, old: str, new: str) -> None:
    text = folder.config.read_text()
    assert old in text
    folder.config.write_text(text.replace(old, new))


def rewrite(folder: RunFolder, change) -> None:
    """Change the newest checkpoint's state and manifest as an earlier release would have written them."""
    (path,) = Checkpoints(folder.checkpoints).paths()[-1:]
    checkpoint = read(path)
    shutil.rmtree(path)
    path.mkdir()
    checkpoints_module._write(path, checkpoint.steps, change(checkpoint.state))
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["signature"]
    (path / "manifest.json").write_text(json.dumps(manifest))


def without_bindings(state: dict) -> dict:
    table = {name: state["session"]["table"][name] for name in ("columns", "rows")}
    session = {name: state["session"][name] for name in ("seconds", "iterations")}
    return state | {"session": session | {"table": table}}


def test_a_setting_edited_in_the_configuration_is_refused(run):
    edit(run, "gamma: 0.99", "gamma: 0.5")
    for use in (go_on, lambda folder: TrainedAgent.load(folder.path)):
        with pytest.raises(ValueError, match=r"was trained with --gamma 0\.99, not 0\.5, as config\.yaml says now"):
            use(run)
    assert not run.lock.is_held() and run.state() == "finished"


def test_figures_that_were_changed_are_refused(run):
    content = bytearray(run.progress.read_bytes())
    content[-5] ^= 1
    run.progress.write_bytes(content)
    with pytest.raises(ValueError, match=r"progress\.csv is not the table that the checkpoint belongs to"):
        go_on(run)
    assert run.progress.read_bytes() == content


def test_the_model_of_another_run_is_refused(run, tmp_path):
    other = trained(tmp_path / "other", seed=1)
    shutil.copy(other.model, run.model)
    with pytest.raises(ValueError, match=r"model\.zip is not the one that this run wrote"):
        TrainedAgent.load(run.path)


def test_a_run_of_an_earlier_release_goes_on_with_one_line(run, recwarn):
    rewrite(run, without_bindings)
    run.write_ending(None)
    training = go_on(run)
    (told,) = [str(each.message) for each in recwarn if "checkpoint" in str(each.message)]
    assert "an earlier release wrote it, so nothing shows that config.yaml and progress.csv belong to it" in told
    assert train(training).ending.state == "finished"


@pytest.mark.parametrize("name", ["config.yaml", "progress.csv", "ending.yaml", "run.lock", "model.zip"])
def test_nothing_is_written_through_a_link(run, tmp_path, name):
    """Neither to a file elsewhere nor to a device."""
    target = tmp_path / "elsewhere"
    shutil.move(run.path / name, target)
    before = target.read_bytes()
    for place in (target, "/dev/null"):
        (run.path / name).unlink(missing_ok=True)
        (run.path / name).symlink_to(place)
        with pytest.raises((CannotWriteError, ValueError), match=rf"{name} "):
            resume(Settings(**SMALL).resolved(), run, [])
    assert target.read_bytes() == before


@pytest.mark.parametrize("name", ["checkpoints", "step-000000064", "events"])
def test_folders_and_curves_are_no_links_either(run, tmp_path, name):
    (path,) = run.path.rglob("events.out*") if name == "events" else run.path.rglob(name)
    shutil.move(path, tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CannotWriteError, match=rf"{path.name} can't be written: it is not a (file|folder) but a link"):
        go_on(run)
    assert (tmp_path / "elsewhere").exists()


def test_what_killed_trainings_left_is_swept(run):
    (run.path / ".progress.123.partial.csv").write_text("a,b\n")
    (run.checkpoints / ".step-000000064.0a1b.partial").mkdir()
    train(go_on(run))
    assert not [path for path in run.path.rglob(".*partial*")]


def test_a_training_whose_lock_is_removed_or_whose_folder_is_renamed_stops_in_one_line(tmp_path, capsys):
    """After that it leaves the folder as it is: another training may have begun there."""
    for number, spoil in enumerate((lambda f: f.lock.path.unlink(), lambda f: f.path.rename(tmp_path / "elsewhere"))):
        folder = RunFolder(tmp_path / f"run{number}")
        training = prepare(Settings(**SMALL).resolved(), folder, [])
        spoil(folder)
        outcome = train(training)
        assert (outcome.ending.state, outcome.exit_code, outcome.steps_saved) == ("failed", 1, None)
        assert "run.lock was moved" in outcome.ending.reason or "run1/progress.csv can't be" in outcome.ending.reason
        assert folder.ending() is None and not folder.model.exists()


def test_versions_that_are_empty_and_extremes_are_no_obstacle(run):
    record = run.record() | {"versions": None, "resumed": [None]}
    del record["settings"]
    run.write_settings(run.settings(), record)
    assert train(go_on(run)).exit_code == 0


@pytest.mark.filterwarnings("ignore:checkpoint")
@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("counters", "num_timesteps"), "64"),
        (("observations", "_last_obs"), [1]),
        (("episodes", "ep_info_buffer"), ["x"]),
        (("networks", "policy.optimizer", "param_groups", 0, "betas"), ("x", 0.9)),
        (("networks", "policy.optimizer", "state", 0, "exp_avg"), np.zeros(3)),
        (("callbacks", "Progress", "logged"), None),
        (("callbacks", "PlasticityCallback", "updates", "totals"), {}),
        (("session", "seconds"), "long"),
        (("session",), 5),
    ],
)
def test_values_of_other_types_are_refused(run, place, value):
    def change(state):
        return put(state, place, value)

    def put(part, place, value):
        if not place:
            return value
        parts = dict(part) if isinstance(part, dict) else list(part)
        parts[place[0]] = put(parts[place[0]], place[1:], value)
        return parts

    rewrite(run, change)
    with pytest.raises(ValueError, match=r"^the checkpoint does not fit the run's settings: "):
        go_on(run)


def test_only_ones_own_environments_states_are_trusted(tmp_path, monkeypatch):
    """From elsewhere new episodes begin, on the friction that is due: 2 x 16 steps of 20 a phase are in phase 1."""
    pytest.importorskip("pybullet")
    settings = {"env": "SlipperyAnt-v0", "change_every": 20, "frictions": (0.5, 1.5), "total_timesteps": 32}
    folder = trained(tmp_path / "run", **settings)
    restored: list[int] = []
    monkeypatch.setattr("cppo_envs.bullet_world.BulletWorld.restore", lambda world, state: restored.append(len(state)))
    own = go_on(folder)
    own.close(Ending("stopped", 32))
    assert len(restored) == 2
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "another user"))
    with pytest.warns(UserWarning, match=r"it has not your signature, so its environments begin new .*; --trust-state"):
        foreign = go_on(folder)
    assert len(restored) == 2
    assert foreign.model.env.get_attr("steps_taken") == [16, 16]
    assert foreign.model.env.get_attr("ground_friction") == [1.5, 1.5]
    foreign.close(Ending("stopped", 32))
    go_on(folder, trust_state=True).close(Ending("stopped", 32))
    assert len(restored) == 4


MODULE = """
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv
gym.register("Planted-v0", CartPoleEnv, max_episode_steps=20)
open({sprung!r}, "a").write("x")
"""


@pytest.mark.parametrize("as_before", [False, True])
def test_a_run_has_nothing_imported(tmp_path, monkeypatch, as_before):
    """Its module lies in its folder; only a name on the command line has it imported, in workers too."""
    sprung, name = tmp_path / "sprung", f"planted_{as_before}"
    (tmp_path / f"{name}.py").write_text(MODULE.format(sprung=str(sprung)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    folder = RunFolder(tmp_path / "run")
    settings = Settings(**(SMALL | {"env": "Planted-v0", "processes": not as_before})).resolved()
    folder.create(settings, [], name).release()
    if as_before:
        edit(folder, f"env_module: {name}\n", "")
        edit(folder, "env: Planted-v0", f"env: {name}:Planted-v0")
    for use in (go_on, lambda folder: TrainedAgent.load(folder.path)):
        with pytest.raises(
            ValueError, match=rf"registered by the module {name}; give it as --env-module {name} if you"
        ):
            use(folder)
    assert not sprung.exists() and name not in sys.modules
    assert train(go_on(folder, env_module=name)).exit_code == 0
    assert sprung.read_text() == ("x" if as_before else "xxx")
    assert TrainedAgent.load(folder.path, name).settings.env == "Planted-v0"
    assert folder.record().get("env_module") == (None if as_before else name)


def test_a_name_that_is_not_utf_8_or_holds_a_dollar(run, tmp_path, capsys):
    dollar = RunFolder(run.path.rename(tmp_path / "$HOME $x$ ${A}"))
    report(train(go_on(dollar)), dollar)
    assert f"agent saved in {dollar.model}" in capsys.readouterr().out
    odd = RunFolder(dollar.path.rename(tmp_path / os.fsdecode(b"\xff")))
    record = odd.record() | {"command": ["train.py", "--output", str(odd.path)]}
    del record["settings"]
    odd.write_settings(odd.settings(), record)
    assert TrainedAgent.load(odd.path).steps_trained == 64
    for use in (go_on, lambda folder: prepare(folder.settings(), folder, [])):
        with pytest.raises(ValueError, match="is no name in UTF-8, which TensorBoard needs"):
            use(odd)
    with pytest.raises(SystemExit):
        or_fail("train.py", go_on, odd)
    assert "\\udcff is no name in UTF-8" in capsys.readouterr().err
