"""Credits: the closest training works of a picture, with author, licence and link.

`commoncanvas credits picture.png` names them. A work that is close is no proof that
the model learned the picture from it.
"""

from pathlib import Path
from typing import Any

import mistune
import numpy as np
import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from commoncanvas.analysis import figures
from commoncanvas.core.bounded import Bounded
from commoncanvas.core.errors import ManifestError, ParameterError
from commoncanvas.core.files import read_json, regular
from commoncanvas.core.manifest import read_manifest
from commoncanvas.core.paths import stage_dir
from commoncanvas.core.picture_store import pictures_of
from commoncanvas.core.pictures import decode_picture, largest_center_square
from commoncanvas.core.text import printable
from commoncanvas.evaluate.nearest import TrainingWorks, nearest
from commoncanvas.licenses import attribution

CHANGES = "A model learnt from it and generated a picture close to it."
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
TILE = 96  # edge of a thumbnail [pixels]


def credits_of(
    pixels: np.ndarray,
    works: TrainingWorks,
    threshold: float,
    k: int = 5,
    found: tuple[np.ndarray, np.ndarray] | None = None,
) -> pd.DataFrame:
    """Return the closest works of an (h, w, 3) uint8 picture with what a credit needs.

    Args:
        works: the training works of its model.
        threshold: similarity above which it is a copy; see `copies.Control`.
        found: (places, similarity) of its closest works, (k,) each, if they are known.

    Returns:
        At most k rows of the ledger's columns, similarity and is_copy, closest first;
        ready for `attribution.attribution_text`.
    """
    if found is None:
        found = tuple(rows[0] for rows in nearest(pixels[None], works, k))
    places, similarity = found
    keys = works.keys[places].tolist()
    file = works.folder / "catalog.parquet"
    rows = pd.read_parquet(file, filters=[("key", "in", keys)]).set_index("key")
    credited = attribution.ledger(rows.loc[keys].reset_index(), CHANGES)
    return credited.assign(similarity=similarity, is_copy=similarity > threshold)


def write_png(
    path: Path,
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


def page(pixels: np.ndarray, credits: pd.DataFrame, works: TrainingWorks) -> str:
    """Return one HTML page with the picture, its closest works and the attribution.

    Args:
        pixels: (h, w, 3) uint8, square.
        credits: from `credits_of` with the same works.
    """
    own = largest_center_square(Image.fromarray(pixels), TILE)
    tiles = np.concatenate([own[None], pictures_of(works.folder, credits["key"], TILE)])
    labels = [("the picture", "")]
    labels += [(w.title or "untitled", _closeness(w)) for w in credits.itertuples()]
    alt = "The picture and the training works closest to it"
    sheet = figures.sheet(tiles, labels, columns=6, alt=alt)
    thanks = mistune.html(attribution.attribution_text(credits))
    return attribution.PAGE.format(sheet.data + thanks)


def open_works(scale: str, variant: str) -> tuple[TrainingWorks, float]:
    """Return (`TrainingWorks`, copy threshold) of a variant whose stage 05 has run.

    Raises:
        ManifestError: a stage has not run; the message says which.
        ParameterError: it was not trained here.
    """
    licenses, trained = stage_dir(scale, "01_licenses"), stage_dir(scale, "04_train")
    evaluated = stage_dir(scale, "05_evaluate", variant)
    for folder in (licenses, trained / variant, evaluated):
        read_manifest(folder)
    metrics = read_json(evaluated / "metrics.json")
    if "copies" not in metrics:
        raise ManifestError(
            f"05_evaluate of {variant} has no copy threshold; expected copies in its "
            f"metrics.json; run `dvc repro 05_evaluate@{scale}-{variant}`."
        )
    file = trained / variant / "works.parquet"
    if not file.exists():
        raise ParameterError(
            f"{variant} is a published model, whose works are not known here; expected "
            "one that was trained here; name another --variant."
        )
    keys = pd.read_parquet(file)["key"]
    return TrainingWorks(licenses, keys), metrics["copies"]["threshold"]


def read_picture(path: Path | str) -> np.ndarray:
    """Return the (s, s, 3) uint8 centre square of a picture file from anyone.

    Raises:
        ParameterError: there is no such file.
        PictureError: it is no picture that can be decoded safely.
    """
    try:
        data = regular(path).read_bytes()
    except OSError as error:
        raise ParameterError(
            f"{path} cannot be read ({error.strerror}); expected a picture file; "
            "correct the path."
        ) from None
    with Bounded(1) as pool:
        picture: Image.Image = pool.submit(decode_picture, data).result()
    return largest_center_square(picture, min(picture.size))


def report(
    path: Path | str, scale: str, variant: str, k: int, html: Path | str | None = None
) -> None:
    """Print a picture's credits, and write their page where one is asked for.

    Raises:
        CommonCanvasError: no such picture or stage, or k is below 1.
    """
    if k < 1:
        raise ParameterError(f"-k is {k}; expected 1 or more works; give another.")
    pixels = read_picture(path)
    works, threshold = open_works(scale, variant)
    credits = credits_of(pixels, works, threshold, k)
    print(f"The closest of {len(works):,} works that {variant} of {scale} trained on:")
    for work in credits.itertuples():
        print(f"  {_closeness(work)}: {work.title!r} by {work.author!r}")
        license = printable(f"{work.license} <{work.license_url}>")
        print(f"    {license}, {work.source_url!r}")
    print(f"A copy is above {threshold:.4f}. To give credit:\n")
    print(attribution.attribution_text(credits))
    if html:
        Path(html).write_text(page(pixels, credits, works), encoding="utf-8")


def _closeness(work: Any) -> str:
    return f"{work.similarity:.4f}" + (" (a copy)" if work.is_copy else "")
