"""Raster pictures from anyone: safe decoding and centre crops, without torch.

Pictures from strangers are refused with a reason rather than repaired; each becomes a
row of the rejected list.
"""

import io
import re
import warnings

import numpy as np
from PIL import Image, ImageOps

from commoncanvas.core.errors import PictureError

MAX_PIXELS = 64_000_000  # an 8K photograph; larger files are taken for bombs


def decode_picture(data: bytes) -> Image.Image:
    """Decode a raster picture from anyone to RGB, upright (EXIF applied), on white.

    Raises:
        PictureError: empty, truncated, too large, animated or 16-bit, or no picture.
    """
    if not data:
        raise PictureError("file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(data))
            if opened.width * opened.height > MAX_PIXELS:
                raise PictureError(f"more than {MAX_PIXELS // 10**6} million pixels")
            if getattr(opened, "n_frames", 1) > 1:
                raise PictureError("animated or of several pages")
            if opened.mode.startswith(("I", "F")):
                raise PictureError(f"mode {opened.mode} is not 8 bits a channel")
            # Pillow halves 16-bit colour silently; only the raw mode shows it.
            if any(re.search(r";16[BLNS]", str(tile)) for tile in opened.tile):
                raise PictureError("16 bits a channel, expected 8")
            picture = ImageOps.exif_transpose(opened).convert("RGBA")
    except PictureError:
        raise
    except Exception as e:
        # Pillow's readers raise whatever their parsers do: TypeError, struct.error, ...
        raise PictureError(f"not a readable picture ({type(e).__name__})") from None
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")


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
