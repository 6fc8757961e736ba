"""Arrays, tensors and stored pictures turn into each other without loss."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pixels import HALVES, NOISE, file_of

from commoncanvas.core import images

LEVELS = st.integers(0, 255)


@given(alpha=LEVELS, colour=LEVELS, ground=LEVELS)
def test_flattening_stays_between_picture_and_background(alpha, colour, ground):
    pixel = np.array([[[colour, colour, colour, alpha]]], np.uint8)
    flat = images.flatten(pixel, ground)
    low, high = sorted((colour, ground))
    assert flat.shape == (1, 1, 3) and ((low <= flat) & (flat <= high)).all()
    assert alpha != 255 or (flat == colour).all()
    assert alpha != 0 or (flat == ground).all()


def test_a_stored_picture_is_seen_as_a_square_or_in_the_shape_asked():
    strip = Image.fromarray(np.array(NOISE)[:, :12])
    data = file_of(strip)
    square, whole = images.stored_pixels(data, 12), images.stored_pixels(data, 12, 24)
    assert (square == np.asarray(strip)[6:18]).all()
    assert (whole == np.asarray(strip)).all()


def test_png_bytes_give_the_pixels_back_and_are_always_the_same():
    pixels = np.asarray(NOISE)
    data = images.encode_png(pixels)
    assert (images.stored_pixels(data, 24) == pixels).all()
    assert images.encode_png(pixels.copy()) == data


def test_every_grey_level_survives_the_way_to_images_and_back():
    pixels = np.arange(256 * 3, dtype=np.uint8).reshape(4, 8, 8, 3)
    there = images.pixels_to_images(pixels)
    assert there.shape == (4, 3, 8, 8) and there.min() == -1 and there.max() == 1
    assert (images.images_to_pixels(there) == pixels).all()


def test_channels_are_not_mixed_up():
    there = images.pixels_to_images(np.array(HALVES)[None])
    assert there[0, :, 0, 0].tolist() == [1, -1, -1]
    assert there[0, :, 0, -1].tolist() == [-1, -1, 1]


@pytest.mark.parametrize("size", [4, 24, 33])
def test_resizing_keeps_the_range(size):
    resized = images.pixels_to_images(np.array(NOISE)[None], size)
    assert resized.shape == (1, 3, size, size)
    assert resized.min() >= -1 and resized.max() <= 1


def test_images_beyond_the_range_are_cut_not_wrapped():
    far = torch.tensor([-9.0, 9.0, 0.0]).view(1, 3, 1, 1)
    assert images.images_to_pixels(far).ravel().tolist() == [0, 255, 128]
