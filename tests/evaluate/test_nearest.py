"""The source of a copy is found, whatever was done to it and however it is sought."""

import numpy as np
import pytest
from PIL import Image
from toys import write_real_world

from commoncanvas.core.errors import ManifestError
from commoncanvas.core.picture_store import pictures_of
from commoncanvas.evaluate.copies import CHANGES
from commoncanvas.evaluate.nearest import TrainingWorks, nearest

NUM = 12  # pictures sought at a time


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A stage 01 folder, its works to train on, and pictures of a few of them."""
    folder = tmp_path_factory.mktemp("01_licenses")
    frame = write_real_world(folder, ["twemoji", "openmoji"], 100)
    keys = frame.loc[~frame["is_holdout"], "key"].tolist()
    works = TrainingWorks(folder, keys)
    alone = [k for k, group in zip(works.keys, works.groups, strict=True) if k == group]
    sought = alone[:: len(alone) // NUM][:NUM]
    return works, sought, pictures_of(folder, sought, 64)


def named(world, pixels, **options):
    works, _, _ = world
    places, similarity = nearest(pixels, works, **options)
    return works.keys[places[:, 0]].tolist(), similarity[:, 0]


def test_a_work_is_closest_to_itself(world):
    keys, similarity = named(world, world[2])
    assert keys == world[1] and similarity.min() == 1


@pytest.mark.parametrize("kind", CHANGES)
def test_a_changed_work_is_named(world, kind):
    rng = np.random.default_rng(0)
    pixels = [CHANGES[kind](Image.fromarray(p), rng) for p in world[2]]
    pixels = np.stack([np.asarray(p) for p in pixels])
    assert (pixels != world[2]).any((1, 2, 3)).sum() >= NUM - 2  # some are symmetric
    keys, similarity = named(world, pixels)
    assert sum(a == b for a, b in zip(keys, world[1], strict=True)) >= NUM - 1
    assert np.median(similarity) > 0.95


def test_brightness_contrast_and_a_cast_do_not_count_but_a_colour_does(world):
    _, _, pixels = world
    faded = (pixels * 0.5 + [20, 60, 90]).astype(np.uint8)
    keys, similarity = named(world, faded)
    assert keys == world[1] and similarity.min() > 0.999
    coloured = pixels.std(axis=3).max((1, 2)) > 60
    _, turned = named(world, pixels[coloured][..., [2, 0, 1]])
    assert coloured.sum() >= 4 and turned.max() < 0.995


def test_order_and_chunks_change_nothing(world):
    works, keys, pixels = world
    expected = nearest(pixels, works)
    back = slice(None, None, -1)
    other = TrainingWorks(works.folder, works.keys[back].tolist(), chunk_size=7)
    assert other.keys.tolist() == works.keys.tolist()
    found = nearest(pixels[back], other)
    for a, b in zip(expected, found, strict=True):
        assert np.abs(a - b[back]).max() <= 1e-4
    assert np.array_equal(nearest(pixels[3:4], works)[0], expected[0][3:4])


def test_the_closest_come_first_and_none_twice(world):
    works, _, pixels = world
    places, similarity = nearest(pixels, works, k=9)
    assert places.shape == similarity.shape == (NUM, 9)
    assert (np.diff(similarity) <= 0).all()
    assert all(len(set(row)) == 9 for row in places.tolist())


def test_fewer_works_than_asked_for_are_all_named(world):
    works, keys, pixels = world
    few = TrainingWorks(works.folder, keys[:3])
    places, _ = nearest(pixels[:3], few)
    assert places[:, 0].tolist() == [0, 1, 2] and places.shape == (3, 3)


def test_works_of_the_own_group_are_left_out(world):
    works, keys, pixels = world
    found, similarity = named(world, pixels, groups=keys)
    assert not set(zip(found, keys, strict=True)) & set(zip(keys, keys, strict=True))
    assert similarity.max() < 1
    alone = TrainingWorks(works.folder, keys[:1])
    assert nearest(pixels[:1], alone, groups=keys[:1])[1].tolist() == [[-1]]


def test_a_blank_picture_is_close_to_nothing(world):
    blank = np.full((2, 64, 64, 3), [[[[255]]], [[[90]]]], np.uint8)
    assert np.abs(named(world, blank)[1]).max() < 0.1


def test_a_large_sample_is_compared_as_a_small_one(world):
    keys, similarity = named(world, world[2].repeat(2, 1).repeat(2, 2))
    assert keys == world[1] and similarity.min() > 0.99


def test_a_work_without_a_picture_is_an_error(world):
    with pytest.raises(ManifestError, match="1 of 2 works have no picture"):
        TrainingWorks(world[0].folder, [world[1][0], "toy/none"])
