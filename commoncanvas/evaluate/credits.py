"""Credits: the closest training works of a picture, with author, licence and link.

`python -m commoncanvas credits picture.png` names them. Closeness is what
`nearest`
measures; it says whom a picture resembles, not whom the model learnt it from.
"""

import json
from pathlib import Path

import mistune
import numpy as np
import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from commoncanvas.analysis import figures
from commoncanvas.core.errors import ManifestError, ParameterError
from commoncanvas.core.images import decode_picture, largest_center_square, pictures_of
from commoncanvas.core.manifest import read_manifest
from commoncanvas.core.paths import stage_dir
from commoncanvas.evaluate.nearest import Works, nearest
from commoncanvas.licenses import attribution

CHANGES = "A model learnt from it and generated a picture close to it."
TILE = 96  # edge of a thumbnail [pixels]


def credits_of(pixels, works, threshold, k=5):
    """Return the closest works of one picture, with all that a credit needs.

    Args:
        pixels: (h, w, 3) uint8.
        works: the `Works` that its model trained on.
        threshold: similarity above which it is a copy; see `copies.Control`.
        k: works to name.

    Returns:
        DataFrame of the ledger's columns, similarity and is_copy, closest first; ready
        for `ledger.attribution_text`.
    """
    places, similarity = nearest(pixels[None], works, k)
    keys = works.keys[places[0]].tolist()
    file = works.folder / "catalog.parquet"
    rows = pd.read_parquet(file, filters=[("key", "in", keys)]).set_index("key")
    found = attribution.ledger(rows.loc[keys].reset_index(), CHANGES)
    is_copy = similarity[0] > threshold
    return found.assign(similarity=similarity[0], is_copy=is_copy)


def write_png(path, pixels, prompt, credits, model, seed):
    """Write a picture with its origin in the file, where viewers show it.

    Args:
        path: the PNG file.
        pixels: (h, w, 3) uint8.
        prompt: becomes Title.
        credits: from `credits_of`; its attribution text becomes Copyright.
        model: what made it, e.g. "mini cc_synthetic"; becomes Source.
        seed: of the starting noise; becomes Seed.
    """
    thanks = attribution.attribution_text(credits)
    texts = {"Title": prompt, "Copyright": thanks, "Source": model, "Seed": str(seed)}
    write_texts(path, pixels, texts)


def write_texts(path, pixels, texts):
    """Write a picture with {name: text} in the file, which `read_png` reads."""
    info = PngInfo()
    for name, text in texts.items():
        info.add_itxt(name, text)  # UTF-8, which the older tEXt is not
    Image.fromarray(pixels).save(path, "PNG", pnginfo=info)


def read_png(path):
    """Return ((h, w, 3) uint8 pixels, {name: text}) of a file written here."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")), dict(picture.text)


def page(pixels, credits, works):
    """Return one HTML page with the picture, its closest works and the attribution.

    Args:
        pixels: (h, w, 3) uint8, square.
        credits: from `credits_of`.
        works: the same `Works`.
    """
    own = largest_center_square(Image.fromarray(pixels), TILE)
    tiles = np.concatenate([own[None], pictures_of(works.folder, credits["key"], TILE)])
    labels = [("the picture", "")]
    labels += [(w.title or "untitled", _mark(w)) for w in credits.itertuples()]
    alt = "The picture and the training works closest to it"
    sheet = figures.sheet(tiles, labels, columns=6, alt=alt)
    thanks = mistune.html(attribution.attribution_text(credits))
    return attribution.PAGE.format(sheet.data + thanks)


def open_works(scale, variant):
    """Return (`Works`, copy threshold) of a variant whose stage 05 has run.

    Raises:
        ManifestError: a stage has not run; the message says which.
    """
    licenses, trained = stage_dir(scale, "01_licenses"), stage_dir(scale, "04_train")
    evaluated = stage_dir(scale, "05_evaluate", variant)
    for folder in (licenses, trained / variant, evaluated):
        read_manifest(folder)
    metrics = json.loads((evaluated / "metrics.json").read_text(encoding="utf-8"))
    if "copies" not in metrics:
        raise ManifestError(
            f"05_evaluate of {variant} has no copy threshold; expected copies in its "
            f"metrics.json; run `dvc repro 05_evaluate@{scale}-{variant}`."
        )
    keys = pd.read_parquet(trained / variant / "works.parquet")["key"]
    return Works(licenses, keys), metrics["copies"]["threshold"]


def read_picture(path):
    """Return the (s, s, 3) uint8 centre square of a picture file from anyone.

    Raises:
        ParameterError: there is no such file.
        PictureError: it is no picture that can be decoded safely.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ParameterError(
            f"{path} cannot be read ({error.strerror}); expected a picture file; "
            "correct the path."
        ) from None
    picture = decode_picture(data)
    return largest_center_square(picture, min(picture.size))


def report(path, scale, variant, k, html=None):
    """Print a picture's credits, and write their page where one is asked for.

    Raises:
        CommonCanvasError: no such picture or stage, or k is below 1.
    """
    if k < 1:
        raise ParameterError(f"-k is {k}; expected 1 or more works; give another.")
    pixels = read_picture(path)
    works, threshold = open_works(scale, variant)
    credits = credits_of(pixels, works, threshold, k)
    print(f"The closest of {len(works):,} works that {variant} of {scale} learnt from:")
    for work in credits.itertuples():
        print(f"  {_mark(work)}: {work.title!r} by {work.author!r}")
        print(f"    {work.license} <{work.license_url}>, {work.source_url!r}")
    print(f"A copy is above {threshold:.4f}. To give credit:\n")
    thanks = attribution.attribution_text(credits)
    # A stranger's title may hold what a terminal would obey.
    print("".join(c for c in thanks if c.isprintable() or c == "\n"))
    if html:
        Path(html).write_text(page(pixels, credits, works), encoding="utf-8")


def _mark(work):
    return f"{work.similarity:.4f}" + (" (a copy)" if work.is_copy else "")
