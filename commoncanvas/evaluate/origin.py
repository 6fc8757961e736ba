"""The origin of a generated picture, written in its PNG file, where viewers show it."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

XMP = "XML:com.adobe.xmp"  # the name that XMP has among a PNG's texts
# What viewers and platforms take for "made by a trained model".
# Source: IPTC, digital source type NewsCodes; AI Act, Article 50(2).
TRAINED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
SYNTHETIC = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about=""
 xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="{TRAINED}"/>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def write_png(
    path: Path | BinaryIO,
    pixels: np.ndarray,
    prompt: str,
    thanks: str,
    model: str,
    seed: int | str,
    comment: str = "",
) -> None:
    """Write a generated picture with its origin in the file, where viewers show it.

    The text names what made it, and the XMP says that a trained model did.

    Args:
        path: of the file, or a file that is open.
        pixels: (h, w, 3) uint8.
        model: what made it, e.g. "mini cc_synthetic".
        seed: of the starting noise.
        comment: other settings; "" is left out.
    """
    texts = {"Title": prompt, "Copyright": thanks, "Source": model, "Seed": str(seed)}
    info = marked(texts | ({"Comment": comment} if comment else {}))
    Image.fromarray(pixels).save(path, "PNG", pnginfo=info)


def marked(texts: dict[str, str] | None = None) -> PngInfo:
    """Return {name: text} and the mark of generated pictures, for Pillow to save."""
    info = PngInfo()
    for name, text in {**(texts or {}), XMP: SYNTHETIC}.items():
        info.add_itxt(name, text)  # UTF-8, which the older tEXt is not
    return info


def read_png(path: Path | str) -> tuple[np.ndarray, dict[str, str]]:
    """Return ((h, w, 3) uint8 pixels, {name: text}) of a file; its XMP is left out."""
    with Image.open(path) as picture:
        texts: dict[str, str] = getattr(picture, "text", {})  # PNG files alone have it
        kept = {name: text for name, text in texts.items() if name != XMP}
        return np.asarray(picture.convert("RGB")), kept


def model_in(path: Path | str) -> str:
    """Return the model that a picture file says drew it; "" if it says nothing.

    Only what stands before the pixels is read, as `write_png` writes it.
    """
    try:
        with Image.open(path) as picture:
            return str(picture.info.get("Source", ""))
    except Exception:  # strangers' files fail in many ways, and then say nothing
        return ""
