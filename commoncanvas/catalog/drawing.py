"""Drawing: the catalogue's rows as pixels, or the reason why a row has none."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from commoncanvas.core.errors import PictureError
from commoncanvas.core.pictures import decode_picture, largest_center_crop
from commoncanvas.core.svg import svg_to_pixels

MAX_RATIO = 4  # between the sides of a picture stored in its own shape
Row = dict[str, Any]


def draw_rows(
    rows: Sequence[Row], size: int, num_threads: int = 2, keep_shape: bool = False
) -> tuple[Any, list[str]]:
    """Draw the rows' SVGs, or decode their photographs and cut the centre square.

    Threads draw at the same time, since resvg releases the interpreter.

    Returns:
        (pixels, reasons): (n, size, size, 4) uint8, or with `keep_shape` a list of
        (h, w, 4); and one reason a row, "" where the picture was drawn; rows with a
        reason have an empty picture.
    """

    def draw(row: Row) -> tuple[np.ndarray, str]:
        try:
            return draw_row(row, size, keep_shape), ""
        except PictureError as error:
            return np.zeros((size, size, 4), np.uint8), str(error)

    shape = (len(rows), size, size, 4)
    pixels: Any = [None] * len(rows) if keep_shape else np.zeros(shape, np.uint8)
    reasons = []
    with ThreadPoolExecutor(num_threads) as pool:
        drawn = tqdm(pool.map(draw, rows), "drawing", len(rows), unit="img")
        for place, (picture, reason) in enumerate(drawn):
            pixels[place] = picture
            reasons.append(reason)
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
        is_file = isinstance(row.get("path"), str)
        data = Path(row["path"]).read_bytes() if is_file else row["picture"]
    except OSError as error:
        raise PictureError(f"file cannot be read ({error.strerror})") from None
    picture, width, height = decode_picture(data), size, size
    if keep_shape:
        ratio = picture.width / picture.height
        width = round(size * min(max(1, ratio), MAX_RATIO))
        height = round(size * min(max(1, 1 / ratio), MAX_RATIO))
    pixels = largest_center_crop(picture, width, height)
    return np.dstack([pixels, np.full((height, width), 255, np.uint8)])
