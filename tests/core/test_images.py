"""Pictures of strangers are drawn, decoded and cut as promised, or refused."""

import base64
import io
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from commoncanvas.core import images
from commoncanvas.core.errors import PictureError

NAMESPACES = (
    'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
)
RED = '<rect width="10" height="10" fill="#f00"/>'


def svg(body, w=10, h=10):
    return f'<svg {NAMESPACES} width="{w}" height="{h}">{body}</svg>'


def file_of(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def wide_png(colour_type, channels, edge=4):
    """Return a PNG of 16 bits a channel, which Pillow itself cannot write."""

    def chunk(name, data):
        checked = name + data
        return (
            struct.pack(">I", len(data))
            + checked
            + struct.pack(">I", zlib.crc32(checked))
        )

    head = struct.pack(">IIBBBBB", edge, edge, 16, colour_type, 0, 0, 0)
    rows = (b"\0" + b"\x12\x34" * channels * edge) * edge
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


# A left half of red and a right half of blue, so that every turn shows.
HALVES = Image.new("RGB", (16, 8), "red")
HALVES.paste("blue", (8, 0, 16, 8))


def test_an_svg_fills_its_square():
    drawn = images.svg_to_pixels(svg(RED), 12)
    assert drawn.shape == (12, 12, 4) and drawn.dtype == np.uint8
    assert (drawn == [255, 0, 0, 255]).all()


@pytest.mark.parametrize(("w", "h"), [(10, 5), (5, 10)])
def test_an_svg_that_is_not_square_is_centred_on_nothing(w, h):
    opaque = images.svg_to_pixels(svg(RED, w, h), 16)[..., 3] > 127
    assert opaque.sum() == 128
    assert (opaque == opaque[::-1, ::-1]).all()


@pytest.mark.parametrize(
    "body",
    [
        '<image href="photo.png"/>',
        '<image xlink:href="file:///etc/passwd"/>',
        "<image xlink:href = 'https://example.org/a.png'/>",
        '<use href="other.svg#part"/>',
        '<image href="&#102;ile.png"/>',
        '<image href="data:text/html,x"/>',
        '<rect fill="url(https://example.org/a.svg#b)"/>',
        "<rect style=\"fill:url('other.svg#b')\"/>",
        "<style>@import 'other.css';</style>",
        "<style>@IMPORT url(other.css);</style>",
        "<style>@font-face{src:url(//example.org/f.woff)}</style>",
    ],
)
def test_an_svg_that_points_elsewhere_is_refused(body):
    with pytest.raises(PictureError, match="another file or address"):
        images.svg_to_pixels(svg(body + RED), 8)


@pytest.mark.parametrize("entity", ["SYSTEM 'file:///etc/passwd'", "'text'"])
def test_an_svg_with_entities_of_its_own_is_refused(entity):
    text = f"<!DOCTYPE svg [<!ENTITY e {entity}>]>" + svg("<text>&e;</text>")
    with pytest.raises(PictureError, match="another file or address"):
        images.svg_to_pixels(text, 8)


@pytest.mark.parametrize(
    "body",
    [
        '<g id="a">' + RED + '</g><use href="#a"/>',
        '<linearGradient id="a"><stop stop-color="#f00"/></linearGradient>'
        '<rect width="10" height="10" fill="url(#a)"/>',
        RED + '<g id="a"><use xlink:href="#a"/></g>',
    ],
)
def test_an_svg_may_point_at_its_own_parts(body):
    assert (images.svg_to_pixels(svg(body), 8)[..., 0] == 255).all()


@pytest.mark.parametrize("kind", ["image/png", ""])
def test_an_svg_may_carry_a_picture(kind):
    data = base64.b64encode(file_of(Image.new("RGB", (4, 4), "red"))).decode()
    body = f'<image width="10" height="10" href="data:{kind};base64,{data}"/>'
    assert (images.svg_to_pixels(svg(body), 8)[4, 4] == [255, 0, 0, 255]).all()


def bomb(reference, levels=9, times=10):
    """Return a short SVG whose parts each repeat the one before ten times."""
    parts = [f'<g id="p0">{RED}</g>']
    for i in range(1, levels):
        parts.append(f'<g id="p{i}">{reference.format(i - 1) * times}</g>')
    return svg(f"<defs>{''.join(parts)}</defs>" + reference.format(levels - 1))


@pytest.mark.parametrize(
    "reference", ['<use href="#p{}"/>', '<rect fill="url(#p{})"/>']
)
def test_an_svg_that_repeats_itself_a_billion_times_is_refused(reference):
    text = bomb(reference)
    assert len(text) < 5000
    with pytest.raises(PictureError, match="repeats itself"):
        images.svg_to_pixels(text, 8)


def test_an_svg_bomb_behind_a_style_sheet_is_refused():
    styled = bomb('<rect class="c{}"/>')
    rules = "".join(f".c{i}{{fill:url(#p{i})}}" for i in range(9))
    text = styled.replace("<defs>", f"<defs><style>{rules}</style>")
    with pytest.raises(PictureError, match="repeats itself"):
        images.svg_to_pixels(text, 8)


@pytest.mark.parametrize(
    "text",
    ["", "words", "<html/>", svg("<g>"), svg(RED, 0, 0), svg(RED, "nan", "1e39")]
    + [svg("<g>" * 5000 + "</g>" * 5000)],
    ids=["empty", "words", "html", "open tag", "no size", "no number", "deep"],
)
def test_an_svg_that_cannot_be_drawn_is_refused(text):
    with pytest.raises(PictureError, match="cannot be drawn"):
        images.svg_to_pixels(text, 8)


def test_an_svg_of_a_million_pixels_takes_no_more_than_its_square():
    wide = svg('<rect width="1000000" height="1000000"/>', 10**6, 10**6)
    assert images.svg_to_pixels(wide, 8).shape == (8, 8, 4)


@pytest.mark.parametrize("unit", ["in", "pt", "mm", "cm"])
def test_an_svg_may_measure_itself_in_other_units_than_pixels(unit):
    drawn = images.svg_to_pixels(
        svg('<path d="M0 0H999V999H0Z"/>', *[f"5{unit}"] * 2), 8
    )
    assert (drawn[..., 3] == 255).all()


@pytest.mark.parametrize("body", ["", f"<defs>{RED}</defs>", "<text>word</text>"])
def test_an_svg_that_draws_nothing_is_refused(body):
    with pytest.raises(PictureError, match="draws nothing"):
        images.svg_to_pixels(svg(body), 8)


LEVELS = st.integers(0, 255)


@given(alpha=LEVELS, colour=LEVELS, ground=LEVELS)
def test_flattening_stays_between_picture_and_background(alpha, colour, ground):
    pixel = np.array([[[colour, colour, colour, alpha]]], np.uint8)
    flat = images.flatten(pixel, ground)
    low, high = sorted((colour, ground))
    assert flat.shape == (1, 1, 3) and ((low <= flat) & (flat <= high)).all()
    assert alpha != 255 or (flat == colour).all()
    assert alpha != 0 or (flat == ground).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_common_formats_are_decoded_to_rgb(kind):
    picture = images.decode_picture(file_of(Image.new("RGB", (9, 7), "white"), kind))
    assert (picture.mode, picture.size) == ("RGB", (9, 7))
    assert picture.getextrema() == ((255, 255),) * 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA"])
def test_every_small_mode_becomes_rgb(mode):
    picture = images.decode_picture(file_of(Image.new(mode, (4, 4))))
    assert picture.mode == "RGB"


def test_cmyk_keeps_its_colour():
    data = file_of(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    assert images.decode_picture(data).getpixel((4, 4)) == (255, 0, 0)


def test_transparent_pixels_become_white():
    data = file_of(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))
    assert images.decode_picture(data).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_rotation_is_applied_and_gone(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = images.decode_picture(file_of(HALVES, "PNG", exif=exif))
    # Where the stored left edge shows, by the EXIF standard.
    edge = {1: "l", 2: "r", 3: "r", 4: "l", 5: "t", 6: "t", 7: "b", 8: "b"}[orientation]
    w, h = picture.size
    at = {"l": (0, h // 2), "r": (w - 1, h // 2), "t": (w // 2, 0)}
    assert picture.getpixel(at.get(edge, (w // 2, h - 1))) == (255, 0, 0)
    assert (w > h) == (edge in "lr") and 0x0112 not in picture.getexif()


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_a_channel_are_refused(colour_type, channels):
    with pytest.raises(PictureError, match="bits a channel"):
        images.decode_picture(wide_png(colour_type, channels))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animated_and_paged_files_are_refused(kind):
    pages = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = file_of(pages[0], kind, save_all=True, append_images=pages[1:])
    with pytest.raises(PictureError, match="animated or of several pages"):
        images.decode_picture(data)


def test_an_empty_file_is_refused():
    with pytest.raises(PictureError, match="empty"):
        images.decode_picture(b"")


@pytest.mark.parametrize("data", [b"GIF89a", b"<html></html>", b"\0" * 100])
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(PictureError, match="not a readable picture"):
        images.decode_picture(data)


@pytest.mark.parametrize("edge", [8_200, 20_000])
def test_a_decompression_bomb_is_refused_before_it_unfolds(edge):
    small = file_of(Image.new("1", (8, 8)))
    at = small.index(b"IHDR")
    head = b"IHDR" + struct.pack(">II", edge, edge) + small[at + 12 : at + 17]
    bomb = small[:at] + head + struct.pack(">I", zlib.crc32(head)) + small[at + 21 :]
    with pytest.raises(PictureError, match="million pixels|Bomb"):
        images.decode_picture(bomb)


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), "uint8"))
WHOLE = {kind: file_of(NOISE, kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF")}


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@given(share=st.floats(0.01, 0.9))
@settings(max_examples=20, deadline=None)
def test_a_truncated_file_is_refused(kind, share):
    data = WHOLE[kind]
    with pytest.raises(PictureError):
        images.decode_picture(data[: int(len(data) * share)])


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # odd tags
@given(st.sampled_from(sorted(WHOLE)), st.integers(0, 10**6), st.binary(max_size=4))
@settings(max_examples=150, deadline=None)
def test_a_damaged_file_is_a_picture_or_a_reason(kind, place, damage):
    data = bytearray(WHOLE[kind])
    place %= min(len(data), 400)
    data[place : place + len(damage)] = damage
    try:
        assert images.decode_picture(bytes(data)).mode == "RGB"
    except PictureError as error:
        assert "\n" not in str(error)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 32))
@settings(max_examples=40, deadline=None)
def test_the_square_has_the_asked_edge_whatever_goes_in(w, h, size):
    square = images.largest_center_square(Image.new("RGB", (w, h), "red"), size)
    assert square.shape == (size, size, 3) and (square == [255, 0, 0]).all()


@pytest.mark.parametrize("is_tall", [False, True])
def test_the_square_is_the_middle(is_tall):
    strip = Image.new("RGB", (30, 10), "black")
    strip.paste("white", (10, 0, 20, 10))
    strip = strip.rotate(90, expand=True) if is_tall else strip
    assert (images.largest_center_square(strip, 10) == 255).all()


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 32), st.integers(1, 32))
@settings(max_examples=40, deadline=None)
def test_a_crop_has_the_asked_sides_whatever_goes_in(w, h, width, height):
    crop = images.largest_center_crop(Image.new("RGB", (w, h), "red"), width, height)
    assert crop.shape == (height, width, 3) and (crop == [255, 0, 0]).all()


@pytest.mark.parametrize("is_tall", [False, True])
def test_a_crop_is_the_middle_and_the_largest_of_its_shape(is_tall):
    strip = Image.new("RGB", (30, 10), "black")
    strip.paste("white", (5, 0, 25, 10))
    strip = strip.rotate(90, expand=True) if is_tall else strip
    shape = (10, 20) if is_tall else (20, 10)
    assert (images.largest_center_crop(strip, *shape) == 255).all()


def test_a_stored_picture_is_seen_as_a_square_or_in_the_shape_asked():
    strip = Image.fromarray(np.array(NOISE)[:, :12])
    data = file_of(strip)
    square, whole = images.stored_pixels(data, 12), images.stored_pixels(data, 12, 24)
    assert (square == np.asarray(strip)[6:18]).all()
    assert (whole == np.asarray(strip)).all()


def test_a_square_picture_of_the_right_size_is_not_touched():
    assert (images.largest_center_square(NOISE, 24) == np.asarray(NOISE)).all()


def test_a_thin_strip_is_never_scaled_up_whole():
    square = images.largest_center_square(Image.new("RGB", (1, 1_000_000), "red"), 64)
    assert square.shape == (64, 64, 3)


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


@pytest.mark.parametrize("error", [TypeError, struct.error, MemoryError])
def test_whatever_a_reader_raises_is_a_reason(monkeypatch, error):
    def fail(_):
        raise error("in a parser")

    monkeypatch.setattr(images.Image, "open", fail)
    with pytest.raises(PictureError, match=f"not a readable picture .{error.__name__}"):
        images.decode_picture(b"data")
