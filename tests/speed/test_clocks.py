"""Clocks, counts and names of machines say what they mean."""

import pyarrow as pa
import pytest
from toys import UNET

from commoncanvas.models.unets import make_unet
from commoncanvas.speed import clocks

TEXT = (6, 8)


def test_flops_of_a_convolution_are_counted_forward_and_backward():
    full = clocks.flops_per_image(make_unet(UNET, 4, 2, 8, 0), TEXT)
    out = 2 * 4 * 8 * 9 * 2 * 2  # products of the last convolution, forward
    assert full > 3 * out
    wide = make_unet(UNET | {"block_out_channels": [16]}, 4, 2, 8, 0)
    assert 2 < clocks.flops_per_image(wide, TEXT) / full < 4


def test_the_rate_counts_every_item():
    seen = []
    assert clocks.rate_of(seen.append, range(5), 3) > 0
    assert seen == [0, 1, 2, 3, 4]


class Parrot:
    """A captioner that says the picture, and the batch's length if asked to."""

    def __init__(self, is_moody=False):
        self.is_moody = is_moody

    def table(self, rows):
        mood = str(len(rows) > 1) * self.is_moody
        texts = [f"{data.decode()} {mood}" for _, data in rows]
        keys = [key for key, _ in rows]
        return pa.table({"key": keys, "caption_raw": texts})


@pytest.mark.parametrize(("is_moody", "same"), [(False, 4), (True, 0)])
def test_captions_that_depend_on_the_batch_are_found(is_moody, same):
    works = [(str(i), f"picture {i}".encode()) for i in range(4)]
    rates, found = clocks.measure_captioner(Parrot(is_moody), works, 2)
    assert found == same
    assert [len(values) for values in rates.values()] == [2, 2]


def test_the_peak_says_where_it_comes_from():
    peak, source = clocks.peak_flops()
    assert peak > 1e8
    assert "this run" in source or "data sheet" in source


def test_the_machine_is_named_with_its_threads():
    assert clocks.hardware()["threads"] == 1
    assert clocks.hardware()["device"]
