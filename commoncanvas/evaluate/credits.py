"""Credits: the closest training works of a picture, with author, licence and link.

`commoncanvas credits picture.png` names them. A work that is close is no proof that
the model learned the picture from it.
"""

import os
import sys
from pathlib import Path

import mistune
import numpy as np
import pandas as pd
from markupsafe import Markup, escape
from PIL import Image

from commoncanvas.analysis import figures
from commoncanvas.core import paths
from commoncanvas.core.bounded import Bounded
from commoncanvas.core.errors import ManifestError, ParameterError
from commoncanvas.core.files import read_json, regular
from commoncanvas.core.manifest import read_manifest
from commoncanvas.core.paths import stage_dir
from commoncanvas.core.picture_store import pictures_of
from commoncanvas.core.pictures import decode_picture, largest_center_square
from commoncanvas.core.templates import assets, page_template
from commoncanvas.core.text import is_page, is_seen, printable
from commoncanvas.evaluate.nearest import TrainingWorks, nearest
from commoncanvas.evaluate.origin import TRAINED as TRAINED
from commoncanvas.evaluate.origin import model_in
from commoncanvas.evaluate.origin import read_png as read_png
from commoncanvas.evaluate.origin import write_png as write_png
from commoncanvas.licenses import attribution

# What a credit says was done with a work. Whether a model learnt from it is not known.
RESEMBLES = "A generated picture resembles it."
COPIED = "A generated picture is a near copy of it."
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
        At most k rows of the ledger's columns, similarity, is_copy and closeness (the
        two in words), closest first;
        ready for `attribution.attribution_text`.
    """
    if found is None:
        found = tuple(rows[0] for rows in nearest(pixels[None], works, k))
    places, similarity = found
    keys = works.keys[places].tolist()
    file = works.folder / "catalog.parquet"
    rows = pd.read_parquet(file, filters=[("key", "in", keys)]).set_index("key")
    is_copy = similarity > threshold
    changes = pd.Series(np.where(is_copy, COPIED, RESEMBLES))
    credited = attribution.ledger(rows.loc[keys].reset_index(), changes)
    told = [closeness(score, threshold) for score in similarity.tolist()]
    return credited.assign(similarity=similarity, is_copy=is_copy, closeness=told)


def closeness(similarity: float, threshold: float) -> str:
    """Say how close a work is, and on which side of a near copy's threshold.

    Two decimals, or four where two would not tell one from the other.
    """
    digits = 2 if f"{similarity:.2f}" != f"{threshold:.2f}" else 4
    side = "above" if similarity > threshold else "below"
    return (
        f"{'a near copy' if similarity > threshold else 'resembles'}; similarity "
        f"{similarity:.{digits}f}, {side} the threshold of a near copy "
        f"({threshold:.{digits}f})"
    )


def page(
    pixels: np.ndarray, credits: pd.DataFrame, works: TrainingWorks, back: str = ""
) -> str:
    """Return one HTML page with the picture, its closest works and the attribution.

    Args:
        pixels: (h, w, 3) uint8, square.
        credits: from `credits_of` with the same works.
        back: address of the page that tells of its model; "" where there is none.
    """
    shown = assets()
    tiles = pictures_of(works.folder, credits["key"], 2 * TILE)
    told = credits.fillna("").to_dict("records")
    for work, tile in zip(told, tiles, strict=True):
        work["picture"] = figures.data_uri(tile)
    own = largest_center_square(Image.fromarray(pixels), 2 * TILE)
    # Below this page's own headings; what strangers wrote begins no line.
    listed = attribution.attribution_text(credits).partition("\n")[2]
    thanks = mistune.html(listed.replace("\n## ", "\n### "))
    return page_template("credits.html.j2").render(
        assets={name: Markup(text) for name, text in shown.items()},
        picture=figures.data_uri(own),
        works=told,
        thanks=Markup(thanks),
        num_works=len(works),
        back=back,
        tile=TILE,
        linked=_linked,
    )


def _linked(words: str, url: str, instead: str = "") -> Markup:
    """Return a stranger's words as HTML, a link where their address is a page.

    `instead` is shown where a reader would see nothing of the words.
    """
    text = escape(printable(words) if is_seen(words) else instead)
    return Markup('<a href="{}">{}</a>').format(url, text) if is_page(url) else text


def _page_of(scale: str, variant: str, beside: Path) -> str:
    """Return the address of a variant's page from a file, "" where it has none."""
    found = paths.HTML / scale / f"05_evaluate-{variant}.html"
    if not found.is_file():
        return ""
    return Path(os.path.relpath(found, beside.resolve().parent)).as_posix()


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

    Warns where the file says that another model drew it.

    Raises:
        CommonCanvasError: no such picture or stage, or k is below 1.
    """
    if k < 1:
        raise ParameterError(f"-k is {k}; expected 1 or more works; give another.")
    pixels = read_picture(path)
    works, threshold = open_works(scale, variant)
    drawn_by = printable(model_in(path))
    if drawn_by not in ("", f"{scale} {variant}"):
        print(
            f"{path} says that another model drew it, {drawn_by!r}: the works below "
            f"are not that model's; name its --scale and --variant.",
            file=sys.stderr,
        )
    credits = credits_of(pixels, works, threshold, k)
    print(f"The closest of {len(works):,} works that {variant} of {scale} trained on:")
    for work in credits.itertuples():
        print(f"  {work.closeness}: {work.title!r} by {work.author!r}")
        license = printable(f"{work.license} <{work.license_url}>")
        print(f"    {license}, {work.source_url!r}")
    print("Similarity does not show that a model learnt from a work. To give credit:\n")
    print(attribution.attribution_text(credits))
    if html:
        back = _page_of(scale, variant, Path(html))
        text = page(pixels, credits, works, back)
        Path(html).write_text(text, encoding="utf-8")
