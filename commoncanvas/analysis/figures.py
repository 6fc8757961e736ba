"""What notebooks show: plots, contact sheets of pictures, tables; and what they say.

Each function returns an object with `_repr_html_`, so the last line of a cell displays
it; `show` displays from the middle of a cell. The same input always gives the same
bytes, and all text is escaped, because titles and authors come from strangers. `alt`
and `caption` are as in `plots`.
"""

import base64
import io
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
    tiles = [
        f'<b style="{SMALL}">{escape(printable(head))}</b>' for head in heads or []
    ]
    for i, pixels in enumerate(_shrunk(picture, 2 * tile_px) for picture in pictures):
        given = labels[i] if labels is not None else ()
        lines = [given] if isinstance(given, str) else given
        lines = [printable(line) for line in lines]
        name = escape(lines[0]) if lines else f"{label}, {i + 1} of {len(pictures)}"
        text = "".join(
            f'<span style="{SMALL}{colour}">{escape(line)}</span>'
            for line, colour in zip(lines, ("", f";color:{ACCENT}"), strict=False)
        )
        tiles.append(
            f'<div class="tile"><img src="{data_uri(pixels)}" alt="{name}"'
            f' width="{pixels.shape[1]}" height="{pixels.shape[0]}" loading="lazy"'
            f' style="width:100%;height:auto;display:block">{text}</div>'
        )
    gaps = 8 * (columns - 1)
    smallest = f"max({min(tile_px, 72)}px, calc((100% - {gaps}px) / {columns}))"
    tracks = f"{columns}" if heads else "auto-fill"
    track = "minmax(0, 1fr)" if heads else f"minmax({smallest}, 1fr)"
    scroll = ""
    if heads and columns > MOST_NARROW:  # sooner than that tiles are too small to see
        track, scroll = "minmax(56px, 1fr)", ' tabindex="0"'
    body = (
        f'<div class="sheet" role="group" aria-label="{label}" style="display:grid;'
        f"gap:8px;max-width:{columns * tile_px + gaps}px;"
        f"{'overflow-x:auto;' if scroll else ''}"
        f'grid-template-columns:repeat({tracks}, {track})"{scroll}>{"".join(tiles)}'
        "</div>"
    )
    wide = columns * tile_px + gaps > 720
    return as_figure(body, caption, "pictures wide" if wide else "pictures")


def table(frame: pd.DataFrame, caption: str | None = None, digits: int = 3) -> HTML:
    """Return a data frame as an HTML table: numbers align right, the caption is above.

    An index is shown when it is named; floats have `digits` significant digits.
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
            f"<td{a}>{escape(printable(as_text(value, digits)))}</td>"
            for value, a in zip(row, align, strict=True)
        ]
        rows += f"<tr>{''.join(cells)}</tr>"
    title = f"<caption>{escape(printable(caption))}</caption>" if caption else ""
    return HTML(
        f'<div class="cc-table"><table>{title}<thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


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
