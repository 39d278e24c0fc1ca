"""Every test runs on one torch thread, and with torch's distributions as they are when a process starts."""

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _distributions_refuse_what_is_not_finite(monkeypatch):
    """``torch.compile`` switches that off for the whole process, and with it what other tests look for."""
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)
