"""Pictures in and out: safe decoding, SVG drawing, centre crops, tensors.

Pictures from strangers are refused with a reason rather than repaired; each becomes a
row of the rejected list.
"""

import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import resvg_py
import torch
from PIL import Image, ImageOps

from commoncanvas.core.errors import PictureError

MAX_PIXELS = 64_000_000  # an 8K photograph; larger files are taken for bombs
# An SVG may point at its own parts and carry data, never at files or the network.
FOREIGN = re.compile(
    r"""href\s*=\s*["'](?!\#|data:(?:image/|;base64,))|url\(\s*["']?(?!\#|["'])|@import|<!ENTITY""",
    re.IGNORECASE,
)
OWN = re.compile(r"url\(\s*[\"']?#([^\"')]+)")  # a reference to a part of the same SVG
MAX_ELEMENTS = 50_000  # after every reference is followed; drawn in a tenth of a second


def svg_to_pixels(svg: str, size: int) -> np.ndarray:
    """Draw an SVG in the middle of a transparent square of `size` [pixels].

    Returns:
        (size, size, 4) uint8, straight alpha.

    Raises:
        PictureError: the document refers to other files, cannot be drawn, or is empty.
    """
    if FOREIGN.search(svg):
        raise PictureError("SVG refers to another file or address")
    if num_elements(svg) > MAX_ELEMENTS:
        raise PictureError(f"SVG repeats itself to more than {MAX_ELEMENTS} elements")
    try:
        png = resvg_py.svg_to_bytes(
            svg_string=svg,
            width=size,
            height=size,
            dpi=96,  # of CSS; without it, inches and points come to nothing
            skip_system_fonts=True,
        )
    except ValueError as error:
        raise PictureError(f"SVG cannot be drawn ({error})") from None
    drawn = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
    canvas = Image.new("RGBA", (size, size))
    if not drawn.getchannel("A").getbbox():
        raise PictureError("SVG draws nothing")
    drawn.thumbnail((size, size))
    canvas.paste(drawn, ((size - drawn.width) // 2, (size - drawn.height) // 2))
    return np.asarray(canvas)


def num_elements(svg: str) -> int:
    """Count an SVG's elements as often as its own references repeat them.

    Ten parts that each use the one before ten times are a short file that would be
    drawn for days.
    """
    try:
        root = ET.fromstring(svg)
        named = {node.get("id"): node for node in root.iter() if node.get("id")}
        styles = [n.text or "" for n in root.iter() if n.tag.endswith("style")]
        counts: dict[ET.Element, int] = {}

        def count(node: ET.Element) -> int:
            if node not in counts:
                counts[node] = 0  # a part that refers to itself is not drawn again
                texts = [v for k, v in node.attrib.items() if "href" not in k]
                names = OWN.findall(" ".join(texts + styles))
                names += [v[1:] for k, v in node.attrib.items() if k.endswith("href")]
                inner = [*node, *(named[name] for name in names if name in named)]
                counts[node] = 1 + sum(count(child) for child in inner)
            return counts[node]

        return count(root)
    except (ET.ParseError, RecursionError) as error:
        raise PictureError(f"SVG cannot be drawn ({type(error).__name__})") from None


def flatten(pixels: np.ndarray, background: Any = 255) -> np.ndarray:
    """Lay (..., h, w, 4) uint8 pixels on a background; return (..., h, w, 3) uint8.

    The background is a grey level 0 … 255, or an array that broadcasts to (..., 3).
    """
    alpha = pixels[..., 3:].astype(np.float32) / 255
    mixed = pixels[..., :3] * alpha + np.asarray(background, np.float32) * (1 - alpha)
    return np.rint(mixed).astype(np.uint8)


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


def stored_pixels(data: bytes, width: int, height: int | None = None) -> np.ndarray:
    """Return the (height or width, width, 3) uint8 centre crop of a stored picture."""
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    return largest_center_crop(picture, width, height or width)


def encode_png(pixels: np.ndarray) -> bytes:
    """Return PNG bytes of (h, w, 3) uint8 pixels; the same pixels, the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def pixels_to_images(pixels: np.ndarray, size: int | None = None) -> torch.Tensor:
    """Turn (batch, h, w, 3) uint8 into (batch, 3, h, w) float32 in [−1, 1].

    With a size, h and w become that, resized with antialiasing.
    """
    # (batch, h, w, channels) -> (batch, channels, h, w)
    images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float()
    if size and tuple(images.shape[-2:]) != (size, size):
        images = torch.nn.functional.interpolate(
            images, (size, size), mode="bilinear", antialias=True, align_corners=False
        )
    return images.div_(127.5).sub_(1.0)


def images_to_pixels(images: torch.Tensor) -> np.ndarray:
    """Turn (batch, 3, h, w) images in [−1, 1] into (batch, h, w, 3) uint8 pixels."""
    scaled = images.detach().float().clamp(-1, 1).add(1).mul(127.5).round()
    return scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def stored_pictures(
    licenses_folder: Path, keys: Iterable[str], size: int
) -> Iterator[np.ndarray]:
    """Yield (size, size, 3) uint8 pictures of catalogue keys, one at a time."""
    file = licenses_folder / "pictures.parquet"
    # Row by row from the file: memory holds the pictures asked for, not all there are.
    stored = pd.read_parquet(file, filters=[("key", "in", list(keys))])
    stored = stored.set_index("key")["png"]
    for key in keys:
        yield stored_pixels(stored[key], size)


def pictures_of(licenses_folder: Path, keys: Iterable[str], size: int) -> np.ndarray:
    """Return (n, size, size, 3) uint8 pictures of catalogue keys."""
    return np.stack(list(stored_pictures(licenses_folder, keys, size)))
