"""Every test runs on one torch thread, and with torch's distributions as they are when a process starts."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _distributions_refuse_what_is_not_finite(monkeypatch):
    """``torch.compile`` switches that off for the whole process, and with it what other tests look for."""
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)


@pytest.fixture(autouse=True, scope="session")
def _the_user_has_a_key_of_the_tests(tmp_path_factory):
    """With which checkpoints are signed, also by the commands that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield
