"""Pictures of strangers are decoded and cut as promised, or refused."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin
from pixels import HALVES, NOISE, file_of

from commoncanvas.core import pictures
from commoncanvas.core.errors import PictureError


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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_common_formats_are_decoded_to_rgb(kind):
    picture = pictures.decode_picture(file_of(Image.new("RGB", (9, 7), "white"), kind))
    assert (picture.mode, picture.size) == ("RGB", (9, 7))
    assert picture.getextrema() == ((255, 255),) * 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA"])
def test_every_small_mode_becomes_rgb(mode):
    picture = pictures.decode_picture(file_of(Image.new(mode, (4, 4))))
    assert picture.mode == "RGB"


def test_cmyk_keeps_its_colour():
    data = file_of(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    assert pictures.decode_picture(data).getpixel((4, 4)) == (255, 0, 0)


def test_transparent_pixels_become_white():
    data = file_of(Image.new("RGBA", (4, 4), (0, 0, 0, 0)))
    assert pictures.decode_picture(data).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_rotation_is_applied_and_gone(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = pictures.decode_picture(file_of(HALVES, "PNG", exif=exif))
    # Where the stored left edge shows, by the EXIF standard.
    edge = {1: "l", 2: "r", 3: "r", 4: "l", 5: "t", 6: "t", 7: "b", 8: "b"}[orientation]
    w, h = picture.size
    at = {"l": (0, h // 2), "r": (w - 1, h // 2), "t": (w // 2, 0)}
    assert picture.getpixel(at.get(edge, (w // 2, h - 1))) == (255, 0, 0)
    assert (w > h) == (edge in "lr") and 0x0112 not in picture.getexif()


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_sixteen_bits_a_channel_are_refused(colour_type, channels):
    with pytest.raises(PictureError, match="bits a channel"):
        pictures.decode_picture(wide_png(colour_type, channels))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animated_and_paged_files_are_refused(kind):
    pages = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = file_of(pages[0], kind, save_all=True, append_images=pages[1:])
    with pytest.raises(PictureError, match="animated or of several pages"):
        pictures.decode_picture(data)


def test_an_empty_file_is_refused():
    with pytest.raises(PictureError, match="empty"):
        pictures.decode_picture(b"")


@pytest.mark.parametrize("data", [b"GIF89a", b"<html></html>", b"\0" * 100])
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(PictureError, match="not a readable picture"):
        pictures.decode_picture(data)


@pytest.mark.parametrize("edge", [8_200, 20_000])
def test_a_decompression_bomb_is_refused_before_it_unfolds(edge):
    small = file_of(Image.new("1", (8, 8)))
    at = small.index(b"IHDR")
    head = b"IHDR" + struct.pack(">II", edge, edge) + small[at + 12 : at + 17]
    bomb = small[:at] + head + struct.pack(">I", zlib.crc32(head)) + small[at + 21 :]
    with pytest.raises(PictureError, match="million pixels|Bomb"):
        pictures.decode_picture(bomb)


WHOLE = {kind: file_of(NOISE, kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF")}


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@given(share=st.floats(0.01, 0.9))
@settings(max_examples=20, deadline=None)
def test_a_truncated_file_is_refused(kind, share):
    data = WHOLE[kind]
    with pytest.raises(PictureError):
        pictures.decode_picture(data[: int(len(data) * share)])


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # odd tags
@given(st.sampled_from(sorted(WHOLE)), st.integers(0, 10**6), st.binary(max_size=4))
@settings(max_examples=150, deadline=None)
def test_a_damaged_file_is_a_picture_or_a_reason(kind, place, damage):
    data = bytearray(WHOLE[kind])
    place %= min(len(data), 400)
    data[place : place + len(damage)] = damage
    try:
        assert pictures.decode_picture(bytes(data)).mode == "RGB"
    except PictureError as error:
        assert "\n" not in str(error)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 32))
@settings(max_examples=40, deadline=None)
def test_the_square_has_the_asked_edge_whatever_goes_in(w, h, size):
    square = pictures.largest_center_square(Image.new("RGB", (w, h), "red"), size)
    assert square.shape == (size, size, 3) and (square == [255, 0, 0]).all()


@pytest.mark.parametrize("is_tall", [False, True])
def test_the_square_is_the_middle(is_tall):
    strip = Image.new("RGB", (30, 10), "black")
    strip.paste("white", (10, 0, 20, 10))
    strip = strip.rotate(90, expand=True) if is_tall else strip
    assert (pictures.largest_center_square(strip, 10) == 255).all()


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 32), st.integers(1, 32))
@settings(max_examples=40, deadline=None)
def test_a_crop_has_the_asked_sides_whatever_goes_in(w, h, width, height):
    crop = pictures.largest_center_crop(Image.new("RGB", (w, h), "red"), width, height)
    assert crop.shape == (height, width, 3) and (crop == [255, 0, 0]).all()


@pytest.mark.parametrize("is_tall", [False, True])
def test_a_crop_is_the_middle_and_the_largest_of_its_shape(is_tall):
    strip = Image.new("RGB", (30, 10), "black")
    strip.paste("white", (5, 0, 25, 10))
    strip = strip.rotate(90, expand=True) if is_tall else strip
    shape = (10, 20) if is_tall else (20, 10)
    assert (pictures.largest_center_crop(strip, *shape) == 255).all()


def test_a_square_picture_of_the_right_size_is_not_touched():
    assert (pictures.largest_center_square(NOISE, 24) == np.asarray(NOISE)).all()


def test_a_thin_strip_is_never_scaled_up_whole():
    square = pictures.largest_center_square(Image.new("RGB", (1, 1_000_000), "red"), 64)
    assert square.shape == (64, 64, 3)


@pytest.mark.parametrize("error", [TypeError, struct.error, KeyError])
def test_whatever_a_reader_raises_is_a_reason(monkeypatch, error):
    def fail(_, formats):
        raise error("in a parser")

    monkeypatch.setattr(pictures.Image, "open", fail)
    with pytest.raises(PictureError, match=f"not a readable picture .{error.__name__}"):
        pictures.decode_picture(b"data")


def cut(data, share):
    return data[: int(len(data) * share)] + b"\xff\xd9"


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_a_jpeg_that_was_cut_and_properly_ended_is_refused(mode, options, share):
    big = NOISE.resize((160, 120), Image.Resampling.BICUBIC).convert(mode)
    whole = file_of(big, "JPEG", **options)
    assert pictures.decode_picture(whole).size == big.size
    with pytest.raises(PictureError, match="cut off"):
        pictures.decode_picture(cut(whole, share))


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6])
def test_a_progressive_jpeg_that_lacks_scans_is_refused(share):
    big = NOISE.resize((160, 120), Image.Resampling.BICUBIC)
    whole = file_of(big, "JPEG", progressive=True)
    assert pictures.decode_picture(whole).size == big.size
    with pytest.raises(PictureError):
        pictures.decode_picture(cut(whole, share))


@pytest.mark.parametrize("is_progressive", [False, True])
def test_a_jpeg_that_is_grey_to_its_end_is_whole(is_progressive):
    grey = Image.new("RGB", (40, 40), (128, 128, 128))
    data = file_of(grey, "JPEG", progressive=is_progressive)
    assert pictures.decode_picture(data).getpixel((39, 39)) == (128, 128, 128)


def test_the_first_frame_of_a_camera_s_jpeg_counts_not_its_preview():
    preview = Image.new("RGB", (8, 4), "red")
    data = file_of(HALVES, "MPO", save_all=True, append_images=[preview])
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.format == "MPO" and opened.n_frames == 2
    assert pictures.decode_picture(data).size == HALVES.size


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("tag", [0x011A, 0x8825, 0x9999])  # resolution, GPS, none
def test_an_odd_tag_does_not_decide(kind, tag):
    turned = struct.pack("<HHII", 0x0112, 3, 1, 6)
    odd = struct.pack("<HHI4s", tag, 2, 3, b"72\0\0")  # text
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + turned + odd + bytes(4)
    data = file_of(HALVES, kind, exif=exif)
    assert pictures.decode_picture(data).size == HALVES.size[::-1]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_that_is_broken_as_a_whole_does_not_decide(kind):
    data = file_of(HALVES, kind, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert pictures.decode_picture(data).size == HALVES.size


def test_a_large_comment_does_not_decide():
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "x" * 3_000_000, zip=True)
    data = file_of(HALVES, pnginfo=info)
    assert pictures.decode_picture(data).tobytes() == HALVES.tobytes()


LAB = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("profile", [SRGB, LAB, b"none", SRGB[:200]])
def test_srgb_and_a_profile_of_no_use_leave_pixels_as_they_are(profile):
    data = file_of(NOISE, icc_profile=profile)
    assert pictures.decode_picture(data).tobytes() == NOISE.tobytes()


def swapped(profile):
    """Return a profile whose red and blue primaries have changed places."""
    return (
        profile.replace(b"rXYZ", b"????")
        .replace(b"bXYZ", b"rXYZ")
        .replace(b"????", b"bXYZ")
    )


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_are_those_that_the_profile_says(mode):
    red = Image.new("RGB", (4, 4), "red").convert(mode)
    data = file_of(red, icc_profile=swapped(SRGB))
    assert pictures.decode_picture(data).getpixel((0, 0)) == (0, 0, 255)


@pytest.mark.parametrize("kind", ["EPS", "PPM", "ICO", "TGA", "AVIF"])
def test_other_formats_are_not_opened(kind):
    with pytest.raises(PictureError, match="not a readable picture"):
        pictures.decode_picture(file_of(NOISE, kind))


def test_a_larger_file_is_not_read(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_BYTES", 100)
    with pytest.raises(PictureError, match="file is larger"):
        pictures.decode_picture(file_of(NOISE))
