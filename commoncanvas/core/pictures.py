"""Raster pictures from anyone: safe decoding and centre crops, without torch.

Pictures from strangers are refused with a reason rather than repaired; each becomes a
row of the rejected list.
"""

import functools
import io
import re
import warnings
from typing import Any

import numpy as np

# The last two are imported for what they register; else Pillow asks all its readers.
from PIL import (
    ExifTags,
    Image,
    ImageChops,
    ImageCms,
    TiffImagePlugin,  # noqa: F401
    WebPImagePlugin,  # noqa: F401
)

from commoncanvas.core.errors import PictureError
from commoncanvas.core.metadata import (
    is_cut_jpeg,
    with_noise_at_its_end,
    without_metadata,
)

MAX_PIXELS = 64_000_000  # an 8K photograph; larger files are taken for bombs
MAX_BYTES = 4 * MAX_PIXELS + 2**22  # of a file: no more than without compression
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP")  # MPO is read as JPEG
# What other files are, by what they begin with.
OTHERS = {
    b"ftypavi": "AVIF",
    b"ftyphei": "HEIC",
    b"ftypmif1": "HEIC",
    b"%!PS": "PostScript",
    b"%PDF": "PDF",
    b"8BPS": "PSD",
    b"<svg": "SVG",
    b"<?xml": "XML",
}
ORIENTATION = ExifTags.Base.Orientation
_TURNS = "FLIP_LEFT_RIGHT ROTATE_180 FLIP_TOP_BOTTOM TRANSPOSE ROTATE_270 TRANSVERSE"
TURNS = {
    place: Image.Transpose[name]
    for place, name in enumerate([*_TURNS.split(), "ROTATE_90"], 2)
}
SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # of profiles -> modes


def decode_picture(data: bytes) -> Image.Image:
    """Decode a raster picture from anyone to sRGB, upright (EXIF applied), on white.

    What is beside the picture never decides: a preview frame, a comment, an odd tag or
    a colour profile that cannot be read is left out.

    Raises:
        PictureError: empty, truncated, too large, animated or 16-bit, or no picture in
            one of `FORMATS`.
    """
    if not data:
        raise PictureError("file is empty")
    if len(data) > MAX_BYTES:
        raise PictureError(f"file is larger than {MAX_BYTES // 2**20} MiB")
    try:
        return _decode(data)
    except (PictureError, MemoryError):
        raise
    except Exception as error:
        # Pillow's readers raise whatever their parsers do: TypeError, struct.error, ...
        failed = error
    for with_colours in (True, False):
        bare = without_metadata(data, with_colours)
        if bare != data:
            try:
                return _decode(bare)
            except (PictureError, MemoryError):
                raise
            except Exception as error:
                failed = error
    name = next((n for mark, n in OTHERS.items() if mark in data[:12]), "")
    name = name or type(failed).__name__
    raise PictureError(f"not a readable picture ({name})") from None


def _decode(data: bytes) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd tags
        opened = Image.open(io.BytesIO(data), formats=FORMATS)
    if opened.width * opened.height > MAX_PIXELS:
        raise PictureError(f"more than {MAX_PIXELS // 10**6} million pixels")
    # Not `n_frames`, which walks through all. The first of an MPO is the photograph.
    if opened.format != "MPO" and getattr(opened, "is_animated", False):
        raise PictureError("animated or of several pages")
    if opened.mode.startswith(("I", "F")):
        raise PictureError(f"mode {opened.mode} is not 8 bits a channel")
    # Pillow halves 16-bit colour silently; only the raw mode shows it.
    if any(re.search(r";16[BLNS]", str(tile)) for tile in opened.tile):
        raise PictureError("16 bits a channel, expected 8")
    picture = _upright(opened)
    if opened.format in ("JPEG", "MPO") and _is_cut(data, opened):
        raise PictureError("cut off before its end")
    picture = _on_white(picture)
    picture.info = {}  # else orientation and profile might be applied again
    return picture


def _upright(opened: Image.Image) -> Image.Image:
    """Turn a picture as its EXIF says; what else EXIF holds may be broken."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        opened.load()
        try:
            turn = TURNS.get(opened.getexif().get(ORIENTATION, 1))
        except Exception:
            turn = None
    return opened if turn is None else opened.transpose(turn)


def _on_white(picture: Image.Image) -> Image.Image:
    """Return a picture of any mode as RGB, its colours as sRGB, on white."""
    if picture.mode == "LAB":
        return picture.convert("RGB")
    colours = _in_srgb(picture)
    if not picture.has_transparency_data:
        return colours or picture.convert("RGB")
    layer = picture.convert("RGBA")
    if colours:
        colours.putalpha(layer.getchannel("A"))
        layer = colours
    white = Image.new("RGBA", layer.size, "white")
    white.alpha_composite(layer)
    return white.convert("RGB")


def _in_srgb(picture: Image.Image) -> Image.Image | None:
    """Return the colours as sRGB; None if they are, or their profile is of no use."""
    profile = picture.info.get("icc_profile")
    if not profile:
        return None
    is_grey = picture.mode in ("1", "L", "LA", "La")
    native = "L" if is_grey else "CMYK" if picture.mode == "CMYK" else "RGB"
    try:
        for mode in dict.fromkeys([native, "RGB" if is_grey else native]):
            if (transform := _transform(profile, mode)) is not None:
                plain = picture.convert("RGBA") if picture.mode != mode else picture
                return transform.apply(plain.convert(mode))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        pass  # as a viewer does that knows no profiles
    return None


@functools.lru_cache(16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return what turns a mode's colours into sRGB; None where nothing would change."""
    opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    if SPACES.get(opened.profile.xcolor_space.strip()) != mode:
        return None
    transform = ImageCms.buildTransform(
        opened, ImageCms.createProfile("sRGB"), mode, "RGB"
    )
    if mode != "CMYK":
        levels = np.linspace(0, 255, 18).astype(np.uint8)
        grid = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)
        colours = Image.fromarray(grid).convert(mode)
        changed = np.asarray(transform.apply(colours)).astype(int)
        # Cameras write sRGB in several roundings, which differ by a level.
        if np.abs(changed - np.asarray(colours.convert("RGB"))).max() <= 2:
            return None
    return transform


def _is_cut(data: bytes, picture: Image.Image) -> bool:
    """Tell whether a JPEG was cut and then properly ended.

    Its reader fills what is missing with mid-grey and says nothing. So if the last
    pixel is that, bytes are put at the end of the data, which change a cut picture.
    """
    if is_cut_jpeg(data):
        return True
    corner = picture.crop((picture.width - 1, picture.height - 1, *picture.size))
    is_cmyk = corner.mode == "CMYK"
    grey = corner.getchannel("K") if is_cmyk else corner.convert("L")
    if abs(int(np.asarray(grey)[0, 0]) - 128) > 2:
        return False
    longer = Image.open(io.BytesIO(with_noise_at_its_end(data)), formats=["JPEG"])
    return ImageChops.difference(longer, picture).getbbox() is not None


def largest_center_crop(picture: Image.Image, width: int, height: int) -> np.ndarray:
    """Cut the largest centre part of an RGB picture and resize it with antialiasing.

    Returns (height, width, 3) uint8.
    Source: mosaicml-diffusion, LargestCenterSquare, for squares.
    """
    w = min(picture.width, picture.height * width / height)
    h = min(picture.height, picture.width * height / width)
    left, top = (picture.width - w) / 2, (picture.height - h) / 2
    # Cropped while resizing: a strip of 1 x 60 million pixels is never scaled up whole.
    box = (left, top, left + w, top + h)
    return np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC, box))


def largest_center_square(picture: Image.Image, size: int) -> np.ndarray:
    """Return the (size, size, 3) uint8 centre square; see `largest_center_crop`."""
    return largest_center_crop(picture, size, size)


def flatten(pixels: np.ndarray, background: Any = 255) -> np.ndarray:
    """Lay (..., h, w, 4) uint8 pixels on a background; return (..., h, w, 3) uint8.

    The background is a grey level 0 … 255, or an array that broadcasts to (..., 3).
    """
    alpha = pixels[..., 3:].astype(np.float32) / 255
    mixed = pixels[..., :3] * alpha + np.asarray(background, np.float32) * (1 - alpha)
    return np.rint(mixed).astype(np.uint8)


def encode_png(pixels: np.ndarray) -> bytes:
    """Return PNG bytes of (h, w, 3) uint8 pixels; the same pixels, the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def check_picture(data: bytes) -> None:
    """Decode a picture and keep nothing of it; raises as `decode_picture` does."""
    decode_picture(data)
