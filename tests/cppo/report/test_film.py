"""Films: which steps they show, what is written into them, and that a browser plays them."""

import resource

import numpy as np
import pytest

pytest.importorskip("imageio_ffmpeg")
Image = pytest.importorskip("PIL.Image")
imageio = pytest.importorskip("imageio.v2")

from cppo.files import CannotWriteError  # noqa: E402
from cppo.report.film import Clock, annotate, check_film, figures, shots, write_film  # noqa: E402
from cppo.report.side_by_side import make_film  # noqa: E402
from cppo.report.trained_agent import Moment, TrainedAgent  # noqa: E402


class World:
    def __init__(self, **metadata):
        self.metadata = metadata


@pytest.mark.parametrize(
    ("fps", "clock"), [(60, (2, 30)), (50, (2, 25)), (30, (1, 30)), (15, (1, 15)), (400, (13, 400 / 13))]
)
def test_a_film_runs_as_fast_as_its_world(fps, clock):
    assert Clock.of(World(render_fps=fps)) == clock


def test_a_world_that_does_not_tell_its_speed_is_filmed_step_by_step():
    assert Clock.of(World()) == (1, 30)


@pytest.mark.parametrize(
    ("seed", "steps", "filmed"),
    [(2, 100, [0, 2, 4]), (1, 100, [0, 2, 3]), (2, 3, [0, 2, 3]), (2, 1, [0, 1])],
)
def test_every_second_step_is_filmed_and_the_last_one_whenever_it_comes(make_run, seed, steps, filmed):
    agent = TrainedAgent.load(make_run().path)
    with agent.make_env(None, (480, 360)) as env:
        taken = list(shots(agent, env, seed, steps))
    assert [moment.step for _, moment in taken] == filmed
    # the corridor is 10 levels lighter with each step
    assert [picture[0, 0, 0] for picture, _ in taken] == [10 * step for step in filmed]


def test_filming_changes_nothing_in_the_ants_world(make_run):
    pytest.importorskip("pybullet")
    agent = TrainedAgent.load(make_run("SlipperyAnt-v0").path)
    with agent.make_env(0.4) as plain, agent.make_env(0.4, (64, 48)) as filmed:
        expected = [moment for moment, _ in zip(agent.play(plain, 1000), range(41), strict=False)]
        taken = [moment for _, moment in shots(agent, filmed, 1000, steps=40)]
    assert taken == expected[::2]


def test_figures_name_what_there_is():
    moment = Moment(12, 345.678, -0.04, False, False)
    assert figures(moment, 0.12345) == {"friction": "0.123", "step": "12", "return": "345.7", "distance": "0.0 m"}
    assert figures(moment._replace(distance=None), None) == {"step": "12", "return": "345.7"}


@pytest.mark.parametrize("lightness", [0, 128, 255])
def test_figures_are_legible_on_any_picture_and_leave_the_rest_of_it_alone(lightness):
    picture = np.full((360, 480, 3), lightness, np.uint8)
    written = annotate(picture, {"step": "888", "return": "888.8"})
    bar = written[:52]
    assert bar.max() > 240 and np.median(bar) < 80  # light letters on a dark bar
    np.testing.assert_array_equal(written[60:], picture[60:])
    assert (picture == lightness).all()
    # each of the two columns has letters of its own
    assert bar[:, :240].max() > 240 and bar[:, 240:].max() > 240


def test_other_values_give_another_picture():
    picture = np.zeros((360, 480, 3), np.uint8)
    assert (annotate(picture, {"step": "1"}) != annotate(picture, {"step": "2"})).any()


def test_a_film_for_which_the_disk_has_no_place_keeps_the_one_before(tmp_path):
    """A file may grow to half of it, or to all but its last byte, which is written when all pictures are encoded."""
    path, whole = tmp_path / "film.mp4", tmp_path / "whole.mp4"
    pictures = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), np.uint8)
    write_film(whole, pictures, 25)
    path.write_text("the one before")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most in (whole.stat().st_size // 2, whole.stat().st_size - 1):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
        try:
            with pytest.raises(CannotWriteError, match=r"film\.mp4 can't be written: "):
                write_film(path, pictures, 25)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_text() == "the one before" and len(list(tmp_path.iterdir())) == 2


def test_a_film_is_one_that_browsers_play(tmp_path):
    path = tmp_path / "film.mp4"
    write_film(path, [np.full((120, 160, 3), 20 * i, np.uint8) for i in range(10)], 25)
    with imageio.get_reader(path, format="FFMPEG") as film:
        about = film.get_meta_data()
        pictures = [picture for picture in film]  # list() would ask for its infinite length
    assert about["codec"] == "h264" and about["pix_fmt"].startswith("yuv420p")
    assert about["size"] == (160, 120) and about["fps"] == 25
    assert [round(picture.mean() / 20) for picture in pictures] == list(range(10))
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # the index first: it starts before it is loaded
    assert list(tmp_path.iterdir()) == [path]


def test_an_episode_a_friction_and_a_second_to_read_the_last_figures(make_run, tmp_path):
    agent = TrainedAgent.load(make_run().path)
    make_film({"agent": agent}, [None, None], tmp_path / "film.mp4", seed=2, steps=100)
    with imageio.get_reader(tmp_path / "film.mp4", format="FFMPEG") as film:
        pictures = [picture for picture in film]  # list() would ask for its infinite length
    assert len(pictures) == 2 * (3 + 30)  # steps 0, 2, 4 and a second of 30 frames, twice
    # 333 x 201, each side rounded down to an even number
    assert pictures[0].shape == (200, 332, 3)
    assert pictures[0][-1].mean() < 5 and abs(pictures[32][-1].mean() - 40) < 5 and pictures[33][-1].mean() < 5


def test_a_film_that_fails_leaves_the_old_one(tmp_path):
    path = tmp_path / "film.mp4"
    path.write_bytes(b"old")

    def frames():
        yield np.zeros((120, 160, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_film(path, frames(), 25)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_small_picture_is_enlarged_until_the_figures_fit(make_run):
    pytest.importorskip("pybullet")
    agent = TrainedAgent.load(make_run("FastAnt-v0").path)
    with agent.make_env(None, (100, 75)) as env:
        first = next(shots(agent, env, 0, 1))
    assert first.picture.shape == (300, 400, 3)  # four times: 3 x 100 is narrower than 320


def test_what_can_not_be_filmed_is_found_out_before(make_run, tmp_path):
    agent = TrainedAgent.load(make_run("TestBlindCorridor-v0").path)
    with pytest.raises(ValueError, match=r"TestBlindCorridor-v0 can't be filmed: it has no rgb_array pictures"):
        check_film(agent, None, tmp_path / "film.mp4")
    with pytest.raises(ValueError, match=r"film\.gif must end in \.mp4"):
        check_film(agent, None, tmp_path / "film.gif")
    with pytest.raises(OSError, match="can't be written"):
        check_film(agent, None, tmp_path / "run-TestBlindCorridor-v0" / "config.yaml" / "film.mp4")
