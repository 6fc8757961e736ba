"""Drawing: the catalogue's rows as pixels, or the reason why a row has none."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from commoncanvas.core.bounded import Bounded
from commoncanvas.core.errors import PictureError
from commoncanvas.core.pictures import MAX_BYTES, decode_picture, largest_center_crop
from commoncanvas.core.svg import svg_to_pixels

MAX_RATIO = 4  # between the sides of a picture stored in its own shape
Row = dict[str, Any]


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
    shape = (len(rows), size, size, 4)
    pixels: Any = [None] * len(rows) if keep_shape else np.zeros(shape, np.uint8)
    reasons = []
    draw = partial(draw_row, size=size, keep_shape=keep_shape)
    sent = ({k: row[k] for k in ("svg", "path", "picture") if k in row} for row in rows)
    with Bounded(num_workers) as pool:
        drawn = tqdm(pool.map(draw, sent), "drawing", len(rows), unit="img")
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
        PictureError: the file is missing, or no picture.
    """
    if isinstance(row.get("svg"), str):  # NaN in a table of several sources
        return svg_to_pixels(row["svg"], size)
    try:
        if isinstance(row.get("path"), str):
            with Path(row["path"]).open("rb") as file:
                data = file.read(MAX_BYTES + 1)  # one more is refused
        else:
            data = row["picture"]
    except OSError as error:
        raise PictureError(f"file cannot be read ({error.strerror})") from None
    picture, width, height = decode_picture(data), size, size
    if keep_shape:
        ratio = picture.width / picture.height
        width = round(size * min(max(1, ratio), MAX_RATIO))
        height = round(size * min(max(1, 1 / ratio), MAX_RATIO))
    pixels = largest_center_crop(picture, width, height)
    return np.dstack([pixels, np.full((height, width), 255, np.uint8)])
