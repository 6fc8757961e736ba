"""Each row is drawn or has its reason, and one bad row costs itself alone."""

import io

import numpy as np
import pytest
from PIL import Image

from commoncanvas.catalog import drawing
from commoncanvas.core.images import encode_png, stored_pixels

BODY = '<rect width="16" height="16"/>'


def png(colour, size=(12, 8)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_picture_that_cannot_be_drawn_has_a_reason_and_no_pixels():
    namespace = 'xmlns="http://www.w3.org/2000/svg"'
    good = f'<svg {namespace} width="16" height="16">{BODY}</svg>'
    rows = [{"svg": good}, {"svg": "<svg"}, {"svg": good}]
    pixels, reasons = drawing.draw_rows(rows, 8)
    assert pixels.shape == (3, 8, 8, 4) and pixels.dtype == np.uint8
    assert [bool(reason) for reason in reasons] == [False, True, False]
    assert not pixels[1].any() and (pixels[0] == pixels[2]).all() and pixels[0].any()


def test_no_rows_are_no_pixels():
    pixels, reasons = drawing.draw_rows([], 8)
    assert pixels.shape == (0, 8, 8, 4) and pixels.dtype == np.uint8 and reasons == []


@pytest.mark.parametrize(
    ("size", "shape"),
    [
        ((12, 8), (4, 6)),
        ((8, 12), (6, 4)),
        ((9, 9), (4, 4)),
        ((90, 10), (4, 16)),
        ((10, 90), (16, 4)),
        ((1, 1), (4, 4)),
    ],
)
def test_a_photograph_may_keep_its_shape_up_to_four_to_one(size, shape):
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">{BODY}</svg>'
    rows = [{"picture": png("blue", size)}, {"svg": svg}, {"picture": b"none"}]
    (whole, drawn, lost), reasons = drawing.draw_rows(rows, 4, keep_shape=True)
    assert whole.shape == (*shape, 4) and (whole == (0, 0, 255, 255)).all()
    assert drawn.shape == lost.shape == (4, 4, 4) and drawn.any() and not lost.any()
    assert reasons[:2] == ["", ""] and reasons[2]


@pytest.mark.parametrize("is_tall", [False, True])
@pytest.mark.parametrize(("length", "part"), [(16, slice(16)), (60, slice(10, 50))])
def test_a_whole_photograph_has_its_ends_and_a_long_one_its_middle(
    length, part, is_tall
):
    noise = np.random.default_rng(0).integers(0, 256, (10, length, 3), np.uint8)
    wanted = noise[:, part]
    if is_tall:
        noise, wanted = noise.swapaxes(0, 1), wanted.swapaxes(0, 1)
    pixels = drawing.draw_row({"picture": encode_png(noise)}, 10, keep_shape=True)
    assert (pixels[..., :3] == wanted).all() and (pixels[..., 3] == 255).all()


def test_the_centre_square_of_a_whole_photograph_is_the_square_that_was_cut():
    noise = np.random.default_rng(0).integers(0, 256, (10, 16, 3), np.uint8)
    row = {"picture": encode_png(noise)}
    whole = drawing.draw_row(row, 10, keep_shape=True)[..., :3]
    square = drawing.draw_row(row, 10)[..., :3]
    assert (stored_pixels(encode_png(whole), 10) == square).all()


def test_a_row_that_ends_its_process_costs_itself_alone():
    head = '<svg xmlns="http://www.w3.org/2000/svg" width="16" height="16">'
    blur = '<filter id="f"><feGaussianBlur stdDeviation="1"/></filter>'
    deep = head + blur + '<g filter="url(#f)">' * 470 + BODY + "</g>" * 470 + "</svg>"
    good = {"svg": f"{head}{BODY}</svg>"}
    pixels, reasons = drawing.draw_rows([good, {"svg": deep}, good], 8)
    assert reasons == ["", "ends its process (SIGSEGV)", ""]
    assert pixels[0].any() and (pixels[0] == pixels[2]).all() and not pixels[1].any()


def test_a_rotation_turns_a_picture_counterclockwise_and_is_never_stored_as_it_came(
    tmp_path,
):
    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[:, 6:] = 255  # white on the right
    path = tmp_path / "a.png"
    path.write_bytes(encode_png(pixels))
    rows = [{"path": str(path), "rotation": degrees} for degrees in (0, 90, np.nan)]
    plain, turned, other = (drawing.draw_picture(row, 8, True) for row in rows)
    assert plain == other and plain.changes == drawing.KEPT
    assert turned.changes != drawing.KEPT
    drawn = drawing.draw_row(rows[1], 8, keep_shape=True)
    assert drawn.shape == (12, 8, 4)
    assert drawn[0, :, 0].min() > 200 and drawn[-1, :, 0].max() < 50  # white on top
