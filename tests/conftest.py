"""What several test files run under."""

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread():
    """Compute with one thread, as stages do: two round some sums otherwise."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
