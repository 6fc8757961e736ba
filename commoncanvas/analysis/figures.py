"""What notebooks show: plots, contact sheets of pictures, tables; and what they say.

Each function returns an object with `_repr_html_`, so the last line of a cell displays
it; `show` displays from the middle of a cell. The same input always gives the same
bytes, and all text is escaped, because titles and authors come from strangers. `alt`
and `caption` are as in `plots`.
"""

import base64
import io
import re
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import HTML, display
from matplotlib.figure import Figure
from PIL import Image

from commoncanvas.analysis.plots import (
    ACCENT,
    as_figure,
    as_text,
    need_alt,
    nothing,
    plate,
)
from commoncanvas.core.errors import ShapeError
from commoncanvas.core.text import printable

MOST_NARROW = 7  # columns with heads that a narrow screen still shows side by side
TABBED = ' tabindex="0"'  # what scrolls can be scrolled by keyboard
# Written into each tile, so that a sheet also reads well in JupyterLab.
SMALL = "display:block;font-size:0.8rem;line-height:1.35;overflow-wrap:anywhere"


def show(thing: Any, alt: str | None = None, caption: str | None = None) -> None:
    """Display a matplotlib figure, which needs `alt`, or anything else right now."""
    display(plate(thing, alt, caption) if isinstance(thing, Figure) else thing)


class Finding(HTML):
    """A figure and below it the sentence that reads it, made from the figure's values.

    Args:
        figure: what another function of this module or of `plots` returned; None for
            a sentence by itself.
        sentence: plain text, kept as `sentence` for the notebook's end.
    """

    def __init__(self, figure: HTML | None, sentence: str) -> None:
        self.sentence = sentence
        shown = f'<p class="finding">{escape(printable(sentence))}</p>'
        super().__init__((figure.data if figure else "") + shown)


def findings(sentences: Sequence[str]) -> HTML:
    """Return sentences as the list that says at a notebook's end what was seen."""
    lines = "".join(f"<li>{escape(printable(line))}</li>" for line in sentences)
    return HTML(f'<ul class="findings">{lines}</ul>')


def sheet(
    pictures: Any,
    labels: Sequence[Any] | None = None,
    columns: int = 12,
    alt: str | None = None,
    caption: str | None = None,
    tile_px: int = 96,
    heads: Sequence[Any] | None = None,
) -> HTML:
    """Return a contact sheet: equal gaps, real text below each tile.

    Without pictures it is a sentence that says so. The number of columns falls on
    narrow screens unless `heads` give the columns a meaning.

    Args:
        pictures: (n, h, w, 3), uint8, 0 … 255.
        labels: n texts, or n pairs (text, second line); the second line is set
            in the accent colour.
        columns: tiles side by side.
        tile_px: displayed width of a tile; larger pictures are embedded at twice that.
        heads: one title per column, for example variants.

    Raises:
        ShapeError: pictures are not (n, h, w, 3) uint8, or labels are not n.
        ParameterError: `alt` is empty.
    """
    label = need_alt(alt)
    if not len(pictures):
        return nothing(alt)
    pictures = _need_pictures(pictures)
    wanted = (("labels", labels, len(pictures)), ("heads", heads, columns))
    for name, texts, expected in wanted:
        if texts is not None and len(texts) != expected:
            raise ShapeError(
                f"a sheet got {len(texts)} {name}, expected {expected};"
                " pass one for each, or None."
            )
    tiles = _heads(heads or [])
    for i, picture in enumerate(pictures):
        given = labels[i] if labels is not None else ()
        lines = [given] if isinstance(given, str) else given
        lines = [printable(line) for line in lines]
        name = lines[0] if lines else f"{printable(alt)}, {i + 1} of {len(pictures)}"
        text = "".join(
            f'<span style="{SMALL}{colour}">{escape(line)}</span>'
            for line, colour in zip(lines, ("", f";color:{ACCENT}"), strict=False)
        )
        tiles.append(_tile(picture, name, text, tile_px))
    gaps = 8 * (columns - 1)
    smallest = f"max({min(tile_px, 72)}px, calc((100% - {gaps}px) / {columns}))"
    tracks = f"{columns}" if heads else "auto-fill"
    track = "minmax(0, 1fr)" if heads else f"minmax({smallest}, 1fr)"
    if heads and columns > MOST_NARROW:  # sooner than that tiles are too small to see
        track = "minmax(56px, 1fr)"
    return _grid(tiles, columns, tracks, track, label, caption, tile_px)


def rows(
    pictures: Sequence[Sequence[Any]],
    labels: Sequence[Any],
    heads: Sequence[Any],
    alt: str | None = None,
    caption: str | None = None,
    tile_px: int = 96,
) -> HTML:
    """Return pictures in rows: one label above each row, one head above each column.

    Args:
        pictures: for each row, one (h, w, 3) uint8 picture a column, or None for a gap.
        labels: one text a row, for example the prompt.
        heads: one title a column, for example variants.

    Raises:
        ShapeError: labels are not one a row, a row has not one picture a head, or one
            is not (h, w, 3) uint8.
        ParameterError: `alt` is empty.
    """
    label = need_alt(alt)
    if not len(pictures):
        return nothing(alt)
    columns = len(heads)
    widths = {len(row) for row in pictures}
    if widths != {columns} or len(labels) != len(pictures):
        raise ShapeError(
            f"rows of {sorted(widths)} pictures got {len(labels)} labels and {columns} "
            f"heads, expected {len(pictures)} labels and a head for each picture of a "
            "row; pass None for a gap."
        )
    tiles = _heads(heads)
    for row, given in zip(pictures, labels, strict=True):
        name = printable(given)
        # In view, too, where the row is scrolled.
        place = "grid-column:1/-1;justify-self:start;position:sticky;left:0"
        tiles.append(f'<span style="{SMALL};{place}">{escape(name)}</span>')
        for head, picture in zip(heads, row, strict=True):
            if picture is None:
                tiles.append('<span class="tile"></span>')
                continue
            (pixels,) = _need_pictures([picture])
            tiles.append(_tile(pixels, f"{name}: {printable(head)}", "", tile_px))
    track = "minmax(56px, 1fr)" if columns > MOST_NARROW else "minmax(0, 1fr)"
    return _grid(tiles, columns, str(columns), track, label, caption, tile_px)


def table(frame: pd.DataFrame, caption: str | None = None, digits: int = 3) -> HTML:
    """Return a data frame as an HTML table: numbers align right, the caption is above.

    An index is shown when it is named; floats have `digits` significant digits, and
    what stands between backticks is set as code.
    """
    if frame.index.names != [None]:
        frame = frame.reset_index()
    kinds = [dtype.kind in "iuf" for dtype in frame.dtypes]
    align = [' class="number" style="text-align:right"' if k else "" for k in kinds]
    heads = "".join(
        f'<th scope="col"{a}>{escape(printable(name))}</th>'
        for name, a in zip(frame.columns, align, strict=True)
    )
    rows = ""
    for row in frame.itertuples(index=False, name=None):
        cells = [
            f"<td{a}>{_marked(printable(as_text(value, digits)))}</td>"
            for value, a in zip(row, align, strict=True)
        ]
        rows += f"<tr>{''.join(cells)}</tr>"
    title = f"<caption>{escape(printable(caption))}</caption>" if caption else ""
    return HTML(
        f'<div class="cc-table"><table>{title}<thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _marked(text: str) -> str:
    """Return a cell's text as HTML, `code` set as such."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _heads(heads: Sequence[Any]) -> list[str]:
    return [f'<b style="{SMALL}">{escape(printable(head))}</b>' for head in heads]


def _tile(picture: np.ndarray, name: str, below: str, tile_px: int) -> str:
    """Return one tile of a sheet: a picture called `name`, and HTML below it."""
    pixels = _shrunk(picture, 2 * tile_px)
    return (
        f'<div class="tile"><img src="{data_uri(pixels)}" alt="{escape(name)}"'
        f' width="{pixels.shape[1]}" height="{pixels.shape[0]}" loading="lazy"'
        f' style="width:100%;height:auto;display:block">{below}</div>'
    )


def _grid(
    tiles: Sequence[str],
    columns: int,
    tracks: str,
    track: str,
    label: str,
    caption: str | None,
    tile_px: int,
) -> HTML:
    """Lay tiles out as a figure; it scrolls sideways where its tracks cannot shrink.

    Args:
        columns: that are wanted.
        tracks, track: number and size of the columns, as CSS.
        label: alt text, escaped.
    """
    width = columns * tile_px + 8 * (columns - 1)
    scrolls = columns > MOST_NARROW and tracks == str(columns)
    body = (
        f'<div class="sheet" role="group" aria-label="{label}" style="display:grid;'
        f"gap:8px;max-width:{width}px;{'overflow-x:auto;' if scrolls else ''}"
        f'grid-template-columns:repeat({tracks}, {track})"'
        f"{TABBED if scrolls else ''}>"
        f"{''.join(tiles)}</div>"
    )
    return as_figure(body, caption, "pictures wide" if width > 720 else "pictures")


def _need_pictures(pictures: Any) -> np.ndarray:
    pictures = np.asarray(pictures)
    if pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != np.uint8:
        raise ShapeError(
            f"a sheet got {pictures.dtype} {pictures.shape}; it expects uint8"
            " (n, h, w, 3); convert the pictures with `core.images` first."
        )
    return pictures


def _shrunk(pixels: np.ndarray, width: int) -> np.ndarray:
    """Return a picture of at most that width, its shape kept."""
    if pixels.shape[1] <= width:
        return pixels
    height = round(pixels.shape[0] * width / pixels.shape[1])
    small = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(small)


def data_uri(pixels: np.ndarray) -> str:
    """Return (h, w, 3) uint8 pixels as the address of a WebP that lies in the page."""
    # Small pictograms stay lossless; photographs would be several times larger.
    exact, small = io.BytesIO(), io.BytesIO()
    image = Image.fromarray(pixels)
    image.save(exact, "WEBP", lossless=True, method=4)
    image.save(small, "WEBP", quality=90, method=4)
    fits = exact.tell() <= max(1.5 * small.tell(), 2048)
    data = base64.b64encode((exact if fits else small).getvalue()).decode("ascii")
    return f"data:image/webp;base64,{data}"
