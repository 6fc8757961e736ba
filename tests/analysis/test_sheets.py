"""Contact sheets hold their tiles apart, and give them back."""

import numpy as np
import pytest

from commoncanvas.analysis import sheets
from commoncanvas.core.errors import ShapeError


def test_a_sheet_keeps_tiles_apart_and_in_their_place():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    tiles = [np.full((10, 12, 3), colour, np.uint8) for colour in colours]
    found = sheets.contact_sheet(tiles, ["a", "b", "c"], columns=2).convert("RGB")
    width, height = 2 * 12 + sheets.GAP, 2 * (10 + sheets.LINE) + sheets.GAP
    assert found.size == (width, height)
    down, right = 10 + sheets.LINE + sheets.GAP, 12 + sheets.GAP
    for (x, y), colour in zip([(0, 0), (right, 0), (0, down)], colours, strict=True):
        assert found.getpixel((x + 6, y + sheets.LINE + 5)) == colour
    assert found.getpixel((12 + sheets.GAP // 2, 20)) == (255, 255, 255)
    bare = sheets.contact_sheet(tiles, ["", "b", "c"], columns=2).convert("RGB")
    rows, places = np.nonzero((np.asarray(found) != np.asarray(bare)).any(2))
    assert 0 < len(rows) and rows.max() < sheets.LINE and places.max() < 12 + sheets.GAP


@pytest.mark.parametrize(("num", "columns"), [(3, 8), (5, 2), (6, 3)])
def test_tiles_are_cut_as_they_were_laid(num, columns):
    tiles = [np.full((10, 12, 3), 30 * i, np.uint8) for i in range(num)]
    sheet = sheets.contact_sheet(tiles, ["a long label"] * num, columns)
    assert (sheets.cut_tiles(sheet, num, columns) == np.stack(tiles)).all()


def test_a_picture_that_is_no_sheet_is_refused():
    sheet = sheets.contact_sheet([np.zeros((10, 12, 3), np.uint8)] * 4, [""] * 4, 2)
    with pytest.raises(ShapeError, match="4 tiles"):
        sheets.cut_tiles(sheet.crop((0, 0, 31, 40)), 4, 2)
