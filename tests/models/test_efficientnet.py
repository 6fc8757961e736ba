"""A picture's features are the same bits whoever comes with it."""

import itertools

import numpy as np
import pytest
import torch

from commoncanvas.analysis import distances, kernels
from commoncanvas.models import efficientnet

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), np.uint8)
OTHERS = np.random.default_rng(1).integers(0, 256, (5, 32, 32, 3), np.uint8)


def in_parts(pixels, size):
    parts = [pixels[i : i + size] for i in range(0, len(pixels), size)]
    return np.concatenate([efficientnet.image_features(part) for part in parts])


@pytest.fixture(scope="module")
def rows():
    return efficientnet.image_features(PIXELS)


@pytest.mark.parametrize("num", [1, 7, 16, 37])
def test_a_row_does_not_depend_on_how_many_follow(rows, num):
    assert np.array_equal(efficientnet.image_features(PIXELS[:num]), rows[:num])


def test_a_generator_is_as_good_as_an_array(rows):
    assert np.array_equal(efficientnet.image_features(p for p in PIXELS), rows)


def test_distances_do_not_depend_on_the_batches_of_the_caller(rows):
    few, other = PIXELS[:8], efficientnet.image_features(OTHERS)
    streams = [(in_parts(few, n), in_parts(OTHERS, n)) for n in (1, 7, 64)]
    for metric in (distances.frechet_distance, kernels.kernel_distance):
        expected = metric(rows[:8], other)
        found = [metric(*stream) for stream in streams]
        assert found == pytest.approx([expected] * 3, rel=1e-9)


def test_every_batch_is_of_one_size_and_nothing_is_made_up():
    sizes = []

    def embed(items):
        sizes.append(len(items))
        return torch.tensor(items, dtype=torch.float32)[:, None]

    rows = list(efficientnet.in_batches(embed, iter(range(37))))
    assert sizes == [efficientnet.BATCH_SIZE] * 3
    assert np.concatenate(rows)[:, 0].tolist() == list(range(37))
    assert all(row.dtype == np.float64 for row in rows)


def test_pictures_are_read_a_batch_at_a_time():
    counter = itertools.count()
    stream = efficientnet.in_batches(lambda items: torch.zeros(len(items), 1), counter)
    next(stream)
    assert next(counter) == efficientnet.BATCH_SIZE


def test_no_pictures_are_no_rows():
    assert efficientnet.image_features([]).shape == (0, efficientnet.NUM_FEATURES)
