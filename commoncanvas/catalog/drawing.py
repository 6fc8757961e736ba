"""Drawing: a work's source as pixels and as a file to store, or why it has none.

What runs in the processes of `core.bounded` stands here, so this module imports little.
"""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from commoncanvas.core.bounded import Bounded
from commoncanvas.core.errors import PictureError
from commoncanvas.core.pictures import (
    MAX_BYTES,
    decode_picture,
    encode_png,
    flatten,
    largest_center_crop,
)
from commoncanvas.core.svg import svg_to_pixels

MAX_RATIO = 4  # between the sides of a picture stored in its own shape
MAX_SCALE = 2  # times the stage's size: the shorter side of a file stored as it came
STORED = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")  # how a JPEG and a PNG begin
BLOCKS = 24  # edge of the thumbnail by which near copies are found
# What was done to a picture, for its credit. Sizes are filled in.
DRAWN = "Drawn at {size} px on white."
SQUARED = "Cut to its centre square and resized to {size} px."
RESIZED = "Resized to {size} px on its shorter side."
KEPT = "Stored as it came; cut and resized when it is read."
Row = dict[str, Any]


class Picture(NamedTuple):
    """A picture to store, and what is known of it once it is drawn."""

    picture: bytes  # of a JPEG or PNG
    sha256: str  # of its pixels at the stage's size
    source_sha256: str  # of what the source holds
    thumbnail: bytes  # (24, 24, 3) uint8
    changes: str


def draw_rows(
    rows: Sequence[Row], size: int, num_workers: int = 2, keep_shape: bool = False
) -> tuple[Any, list[str]]:
    """Draw the rows' SVGs, or decode their photographs and cut the centre square.

    Processes draw, bounded in time and memory, so that one bad row costs itself alone.

    Returns:
        (pixels, reasons): (n, size, size, 4) uint8, or with `keep_shape` a list of
        (h, w, 4); and one reason a row, "" where the picture was drawn; rows with a
        reason have an empty picture.
    """
    from commoncanvas.catalog.originals import with_originals  # not for the workers

    shape = (len(rows), size, size, 4)
    pixels: Any = [None] * len(rows) if keep_shape else np.zeros(shape, np.uint8)
    reasons = []
    draw = partial(draw_row, size=size, keep_shape=keep_shape)
    with Bounded(num_workers) as pool:
        found = pool.map(draw, with_originals(rows))
        drawn = tqdm(found, "drawing", len(rows), unit="img")
        for place, picture in enumerate(drawn):
            failed = isinstance(picture, PictureError)
            reasons.append(str(picture) if failed else "")
            pixels[place] = np.zeros(shape[1:], np.uint8) if failed else picture
    return pixels, reasons


def draw_row(row: Row, size: int, keep_shape: bool = False) -> np.ndarray:
    """Draw one row: its svg, its picture (the file's bytes) or the file at its path.

    An SVG becomes a square, `size` pixels wide; so does a photograph, unless
    `keep_shape` makes `size` its shorter side, and only what is beyond `MAX_RATIO` to
    one is cut off. Returns (h, w, 4) uint8.

    Raises:
        PictureError: the file is missing, or no picture, or the row has a reason.
    """
    if isinstance(row.get("svg"), str):  # NaN in a table of several sources
        return svg_to_pixels(row["svg"], size)
    pixels = _cut(_turned(decode_picture(_file_of(row)), row), size, keep_shape)
    return np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])


def draw_picture(row: Row, size: int, keep_shape: bool = False) -> Picture:
    """Draw one row as `draw_row` does, and say how it is stored.

    A JPEG or PNG that is at most `MAX_SCALE` times as large as the stage asks for keeps
    its bytes, since to encode it again would lose quality or room. All else becomes a
    PNG, and nothing is enlarged.
    """
    if isinstance(row.get("svg"), str):
        pixels, data = flatten(svg_to_pixels(row["svg"], size)), row["svg"].encode()
        stored, changes = encode_png(pixels), DRAWN.format(size=size)
    else:
        data = _file_of(row)
        upright = decode_picture(data)
        decoded = _turned(upright, row)
        pixels = _cut(decoded, size, keep_shape)
        if decoded is upright and _is_kept(data, decoded, size):
            stored, changes = data, KEPT
        else:
            edge = min(size, *decoded.size)
            smaller = pixels if edge == size else _cut(decoded, edge, keep_shape)
            text = RESIZED if keep_shape else SQUARED
            stored, changes = encode_png(smaller), text.format(size=edge)
    return Picture(
        stored,
        hashlib.sha256(pixels.tobytes()).hexdigest(),
        hashlib.sha256(data).hexdigest(),
        thumbnail(pixels).tobytes(),
        changes,
    )


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Return the (24, 24, 3) uint8 means of the blocks of (h, w, 3) uint8 pixels."""
    box = Image.Resampling.BOX
    return np.asarray(Image.fromarray(pixels).resize((BLOCKS, BLOCKS), box))


def _file_of(row: Row) -> bytes:
    """Return the bytes of a row's file."""
    if row.get("reason"):
        raise PictureError(row["reason"])
    if not isinstance(row.get("path"), str):
        return row["picture"]
    try:
        with Path(row["path"]).open("rb") as file:
            return file.read(MAX_BYTES + 1)  # one more is refused
    except OSError as error:
        raise PictureError(f"file cannot be read ({error.strerror})") from None


def _turned(picture: Image.Image, row: Row) -> Image.Image:
    """Turn a picture by its row's rotation [degrees, counterclockwise], if it has one.

    Other sources of the same table have NaN there.
    """
    degrees = row.get("rotation") or 0
    return picture.rotate(degrees, expand=True) if degrees > 0 else picture


def _cut(picture: Image.Image, size: int, keep_shape: bool) -> np.ndarray:
    width, height = size, size
    if keep_shape:
        ratio = picture.width / picture.height
        width = round(size * min(max(1, ratio), MAX_RATIO))
        height = round(size * min(max(1, 1 / ratio), MAX_RATIO))
    return largest_center_crop(picture, width, height)


def _is_kept(data: bytes, picture: Image.Image, size: int) -> bool:
    """Tell whether a file is stored as it came: neither too large nor too long."""
    short, long = sorted(picture.size)
    return (
        data.startswith(STORED)
        and short <= MAX_SCALE * size
        and long <= MAX_RATIO * short
        and len(data) <= 4 * short * long + 2**16  # else it holds more than a picture
    )
