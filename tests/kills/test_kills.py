"""A few of the kills that ``python -m tests.kills`` tries by the dozen; the environment's processes are left alone."""

import pytest

from cppo.runs.folder import RunFolder
from tests.kills.__main__ import FLAGS, kill_until_done, start
from tests.kills.compare import differences

SHORT = [*FLAGS, "--total-timesteps", "1536", "--checkpoint-every", "256"]


@pytest.mark.slow
def test_a_run_that_is_killed_three_times_ends_as_one_that_is_not(tmp_path):
    pytest.importorskip("pybullet")
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    assert start(whole, SHORT).wait() == 0
    assert kill_until_done(killed, SHORT, kills=3).total() >= 2  # a short run may have ended before the third
    assert differences(killed.path, whole.path) == []
