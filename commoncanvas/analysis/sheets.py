"""Contact sheets as picture files, and the tiles that are cut from them again."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from commoncanvas.core.errors import ShapeError

GAP, LINE = 8, 14  # between tiles; of a label [pixels]
COLUMNS = 8
NUM_COLOURS = 192  # of a sheet: even of noise it stays under 400 kB


def contact_sheet(
    tiles: Sequence[np.ndarray], labels: Sequence[str], columns: int = COLUMNS
) -> Image.Image:
    """Lay tiles in rows, each below its label, in so few colours that it stays small.

    Args:
        tiles: (h, w, 3) uint8 pixels each, all of one shape.
        labels: their texts, cut where they are wider than a tile.
        columns: tiles in a row, at most.
    """
    height, width, _ = tiles[0].shape
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    size = columns * (width + GAP) - GAP, rows * (height + LINE + GAP) - GAP
    sheet, font = Image.new("RGB", size, "white"), ImageFont.load_default(11)
    pen = ImageDraw.Draw(sheet)
    for i, (tile, label) in enumerate(zip(tiles, labels, strict=True)):
        row, column = divmod(i, columns)
        left, top = column * (width + GAP), row * (height + LINE + GAP)
        while pen.textlength(label, font) > width + GAP:
            label = label.rstrip("…")[:-1] + "…"
        pen.text((left + width / 2, top), label, "black", font, anchor="ma")
        sheet.paste(Image.fromarray(tile), (left, top + LINE))
    return sheet.quantize(NUM_COLOURS, dither=Image.Dither.NONE)


def cut_tiles(sheet: Image.Image, num: int, columns: int = COLUMNS) -> np.ndarray:
    """Return the (num, h, w, 3) uint8 tiles that `contact_sheet` laid, without labels.

    Args:
        num: of the tiles that were laid, all of them.
        columns: as they were laid with.

    Raises:
        ShapeError: the picture is no sheet of so many tiles.
    """
    columns = min(columns, num)
    rows = -(-num // columns)
    width, rest = divmod(sheet.width + GAP, columns)
    height, more = divmod(sheet.height + GAP, rows)
    width, height = width - GAP, height - GAP - LINE
    if rest or more or min(width, height) < 1:
        raise ShapeError(
            f"a sheet of {sheet.width} × {sheet.height} pixels cannot hold {num} tiles "
            f"in {columns} columns; expected one that `contact_sheet` laid; draw it "
            "again."
        )
    pixels = np.asarray(sheet.convert("RGB"))
    tiles = []
    for i in range(num):
        row, column = divmod(i, columns)
        left, top = column * (width + GAP), row * (height + LINE + GAP) + LINE
        tiles.append(pixels[top : top + height, left : left + width])
    return np.stack(tiles)
