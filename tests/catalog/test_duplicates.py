"""Copies are marked with their first member, exact and near, and others are not."""

import numpy as np
import pandas as pd
import pytest

from commoncanvas.catalog import duplicates

RNG = np.random.default_rng(0)


def drawing(seed=0, size=96):
    """Return flat shapes on white, as icons are."""
    rng = np.random.default_rng(seed)
    pixels = np.full((size, size, 3), 255, np.uint8)
    for _ in range(4):
        top, left = rng.integers(0, size // 2, 2)
        pixels[top : top + size // 3, left : left + size // 3] = rng.integers(0, 256, 3)
    return pixels


def groups(*pictures):
    return duplicates.near_leaders(np.stack(pictures)).tolist()


def test_copies_bear_the_name_of_their_first_and_others_their_own():
    pixels = RNG.integers(0, 256, (4, 16, 16, 3), np.uint8)
    pixels[2] = pixels[0]
    pixels[3] = pixels[0]
    pixels[3, 0, 0, 0] ^= 1
    rows = pd.DataFrame({"key": list("abcd")})
    marked = duplicates.mark_duplicates(rows, pixels)
    assert marked["exact_group"].tolist() == ["a", "b", "a", "d"]
    assert marked["near_group"].tolist() == ["a", "b", "a", "a"]


@pytest.mark.parametrize("size", [64, 96, 100])
def test_slight_noise_makes_a_near_copy_at_every_size(size):
    first = drawing(1, size)
    noisy = np.clip(first + RNG.normal(0, 6, first.shape), 0, 255).astype(np.uint8)
    assert groups(first, drawing(2, size), noisy) == [0, 1, 0]


def test_one_small_part_that_differs_makes_another_work():
    first = drawing(1)
    other = first.copy()
    other[40:48, 40:48] = 255 - other[40:48, 40:48]
    assert groups(first, other) == [0, 1]


def test_the_same_shape_in_another_colour_is_another_work():
    first = drawing(1)
    assert groups(first, first[..., ::-1].copy()) == [0, 1]


def test_a_mirrored_picture_is_a_copy_and_a_turned_one_is_not():
    first = drawing(1)
    assert groups(first, first[:, ::-1]) == [0, 0]
    assert groups(first, first[::-1]) == [0, 1]


def test_faint_drawings_are_told_apart_by_their_own_contrast():
    faint = [255 - (255 - drawing(seed)) // 16 for seed in (1, 2)]
    assert groups(*faint) == [0, 1]


def test_blank_pictures_are_copies_of_one_another_only():
    blank = np.full((96, 96, 3), 255, np.uint8)
    assert groups(drawing(1), blank, drawing(2), blank) == [0, 1, 2, 1]


def test_a_leader_copies_nobody_and_comes_first():
    pixels = np.stack([drawing(seed % 3) for seed in range(9)])
    leaders = duplicates.near_leaders(pixels)
    assert (leaders[leaders] == leaders).all() and (leaders <= np.arange(9)).all()


def test_no_pictures_are_no_groups():
    assert duplicates.near_leaders(np.zeros((0, 8, 8, 3), np.uint8)).tolist() == []
