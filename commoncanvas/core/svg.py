"""SVGs from anyone: what they may refer to, and how they are drawn, without torch."""

import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import resvg_py
from PIL import Image

from commoncanvas.core.errors import PictureError

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
