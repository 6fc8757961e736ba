"""What all tests run under: one thread, and the longest files first."""

import os

# As in stages; and two workers with two threads each would wait for one another.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}

import pytest
import torch

torch.set_num_threads(1)

LONGEST = ("test_rehearsal.py", "test_end_to_end.py")  # each some minutes


@pytest.fixture(autouse=True)
def one_thread():
    """Undo what a test did to the number of threads: two round some sums otherwise."""
    yield
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that hold slow tests, so that no worker ends long after."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path.name not in LONGEST, item.path not in slow))
