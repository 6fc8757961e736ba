"""What is done ahead comes in order, and no further ahead than asked."""

import threading
import time

import pytest
import torch

from commoncanvas.core.ahead import ahead


@pytest.mark.parametrize("num", [1, 3, 100])
def test_results_come_in_the_order_of_the_items(num):
    torch.set_num_threads(3)

    def slow(item):
        time.sleep(0.01 * (item % 3))
        return item * 2

    assert list(ahead(slow, range(10), num)) == [2 * i for i in range(10)]


def test_it_runs_ahead_of_its_reader_and_not_too_far():
    begun, reached = [], threading.Event()

    def note(item):
        begun.append(item)
        if len(begun) == 4:
            reached.set()
        return item

    results = ahead(note, range(50), 4)
    assert next(results) == 0
    assert reached.wait(5) and len(begun) <= 5
    results.close()


def test_what_fails_fails_in_its_turn():
    def fails(item):
        return 1 // (2 - item)

    results = ahead(fails, range(5), 5)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
