"""SVGs from anyone: what they may refer to, and how they are drawn, without torch."""

import functools
import importlib.util
import io
import re
import xml.etree.ElementTree as ET
from base64 import b64decode
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
import resvg_py
from PIL import Image, ImageFont

from commoncanvas.core.errors import PictureError
from commoncanvas.core.pictures import decode_picture

# An SVG may point at its own parts and carry data, never at files or the network.
FOREIGN_HREF = re.compile(r"(?!\s*$|\s*#|\s*data:(?:image/|;base64,))", re.IGNORECASE)
FOREIGN_STYLE = re.compile(r"url\(\s*[\"']?(?!\s*[#\"'])|@import", re.IGNORECASE)
FOREIGN_HEAD = re.compile(r"<!ENTITY|<\?xml-stylesheet", re.IGNORECASE)
OWN = re.compile(r"url\(\s*[\"']?#([^\"')]+)")  # a reference to a part of the same SVG
MAX_ELEMENTS = 50_000  # after every reference is followed; drawn in a tenth of a second
FONT = "DejaVu Sans"  # comes with matplotlib, so that words look alike everywhere
# Elements that hold words and are in no drawing, as few viewers know them.
UNDRAWN = ("foreignObject", "flowRoot")


def svg_to_pixels(svg: str, size: int) -> np.ndarray:
    """Draw an SVG in the middle of a transparent square of `size` [pixels].

    Returns:
        (size, size, 4) uint8, straight alpha.

    Raises:
        PictureError: the document refers to other files, cannot be drawn, is empty, or
            holds words that would be left out.
    """
    if FOREIGN_HEAD.search(svg):
        raise PictureError("SVG refers to another file or address")
    try:
        root = ET.fromstring(svg)
    except (ET.ParseError, ValueError) as error:  # a lone surrogate is a ValueError
        raise PictureError(f"SVG cannot be drawn ({type(error).__name__})") from None
    if any(_is_foreign(node) for node in root.iter()):
        raise PictureError("SVG refers to another file or address")
    if num_elements(root) > MAX_ELEMENTS:
        raise PictureError(f"SVG repeats itself to more than {MAX_ELEMENTS} elements")
    check_carried(root)
    try:
        png = resvg_py.svg_to_bytes(
            svg_string=svg,
            width=size,
            height=size,
            dpi=96,  # of CSS; without it, inches and points come to nothing
            skip_system_fonts=True,
            **_fonts(words_of(root)),
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


def _name(node: ET.Element) -> str:
    return node.tag.rpartition("}")[2]


def _is_foreign(node: ET.Element) -> bool:
    """Tell whether drawing an element would read a file or address."""
    for name, value in node.attrib.items():
        # A link is followed by who clicks on it.
        is_href = name.rpartition("}")[2] == "href" and _name(node) != "a"
        if FOREIGN_HREF.match(value) if is_href else FOREIGN_STYLE.search(value):
            return True
    is_style = _name(node) == "style"
    return is_style and bool(FOREIGN_STYLE.search("".join(node.itertext())))


def num_elements(root: ET.Element) -> int:
    """Count an SVG's elements as often as its own references repeat them.

    Ten parts that each use the one before ten times are a short file that would be
    drawn for days.
    """
    named = {node.get("id"): node for node in root.iter() if node.get("id")}
    styles = [n.text or "" for n in root.iter() if n.tag.endswith("style")]
    styled = OWN.findall(" ".join(styles))
    counts: dict[ET.Element, int] = {}

    def count(node: ET.Element) -> int:
        if node not in counts:
            counts[node] = 0  # a part that refers to itself is not drawn again
            texts = [v for k, v in node.attrib.items() if "href" not in k]
            names = OWN.findall(" ".join(texts)) + styled
            names += [v[1:] for k, v in node.attrib.items() if k.endswith("href")]
            inner = [*node, *(named[name] for name in names if name in named)]
            counts[node] = 1 + sum(count(child) for child in inner)
        return counts[node]

    try:
        return count(root)
    except RecursionError:
        raise PictureError("SVG cannot be drawn (RecursionError)") from None


def check_carried(root: ET.Element) -> None:
    """Refuse an SVG that carries a picture which would be left out of the drawing.

    Raises:
        PictureError: a picture of its `data:` addresses cannot be read, or is an SVG.
    """
    pictures = [node for node in root.iter() if _name(node) in ("image", "feImage")]
    for name, value in (pair for node in pictures for pair in node.attrib.items()):
        head, _, body = value.strip().partition(",")
        if name.rpartition("}")[2] != "href" or not head.lower().startswith("data:"):
            continue
        if "svg" in head.lower():
            raise PictureError("SVG carries another SVG")
        try:
            data = unquote_to_bytes(body)
            decode_picture(b64decode(data) if "base64" in head.lower() else data)
        except (ValueError, PictureError) as error:
            raise PictureError(
                f"SVG carries a picture that is broken ({error})"
            ) from None


def words_of(root: ET.Element) -> str:
    """Return the words that an SVG shows, "" for none.

    Raises:
        PictureError: some are in elements that are not drawn.
    """
    for node in root.iter():
        if _name(node) in UNDRAWN and "".join(node.itertext()).strip():
            raise PictureError(f"SVG has words in {_name(node)}, which is not drawn")
    texts = [node for node in root.iter() if _name(node) == "text"]
    return "".join(text for node in texts for text in node.itertext()).strip()


def _fonts(words: str) -> dict[str, Any]:
    """Return resvg's settings for some words, so that one font writes them all."""
    if not words:
        return {}
    file = _font_file()
    if not file.is_file():
        raise PictureError("SVG has words, and no font is at hand")
    if lost := "".join(c for c in sorted(set(words)) if not _is_written(file, c)):
        raise PictureError(f"SVG has words with signs that {FONT} lacks ({lost[:9]!a})")
    kinds = ("font", "serif", "sans_serif", "cursive", "fantasy", "monospace")
    return {f"{kind}_family": FONT for kind in kinds} | {"font_files": [str(file)]}


@functools.cache
def _font_file() -> Path:
    found = importlib.util.find_spec("matplotlib")  # not imported: half a second
    home = Path(found.origin if found and found.origin else "matplotlib").parent
    return home / "mpl-data/fonts/ttf/DejaVuSans.ttf"


@functools.cache
def _is_written(file: Path, sign: str) -> bool:
    """Tell whether a font has a sign of its own for a character."""
    if sign.isspace() or not sign.isprintable():
        return True  # nothing is to be seen of it
    font = ImageFont.truetype(str(file), 24)
    return bytes(font.getmask(sign)) != bytes(font.getmask("\uffff"))
