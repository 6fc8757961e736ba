"""The explorer: one offline page that sets samples of several variants side by side.

A reader chooses prompt, sample, guidance scale and variants. Beside each sample stand
the training works of its variant that it resembles, with their credits. All pictures
are in the page, so it holds the first prompts of each set, as many as fit.
"""

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from PIL import Image

from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError
from commoncanvas.core.picture_store import stored_pictures
from commoncanvas.core.pictures import largest_center_square
from commoncanvas.core.templates import assets, page_template
from commoncanvas.core.text import is_page, printable
from commoncanvas.evaluate.prompts import read_prompts
from commoncanvas.publish.beside import Near, find_near
from commoncanvas.publish.pages import EXPLORER, MAX_PAGE_BYTES, write_page
from commoncanvas.publish.rows import NUM_PROMPTS, Row, read_rows

FEWER = (NUM_PROMPTS, 16, 12, 8, 6, 4, 3, 2, 1)  # prompts of a set: the most that fit
MOST_SAMPLES = 1500  # on a page; with their works they are about twice as many kB
TILE_PX = 128  # edge of a picture at most
OPEN_AT_FIRST = 4  # variants side by side, and the most that can be
# Kinds of prompt sets, in words; in the first two an id is the key of a work.
OF_WORKS = ("names", "telephoned")
KINDS = {
    "names": "names that people gave to works",
    "telephoned": "a captioner's words for works",
    "coco": "captions of COCO",
    "parti": "PartiPrompts",
    "gate": "a fixed list",
    "gpic": "captions of GPIC",
}


def write_explorer(scale: str) -> Path | None:
    """Write `explorer.html` beside the pages of a scale; None where nothing was drawn.

    Raises:
        CommonCanvasError: stage 05 of a variant has other prompts than the others', a
            stage before it has not run, or one prompt alone makes too large a page.
    """
    rows = read_rows(scale)
    if not rows:
        return None
    per_prompt = sum(len(drawn) for row in rows for drawn in row.drawn.values())
    fits = [num for num in FEWER if num * per_prompt <= MOST_SAMPLES] or [1]
    rows = [row.first(fits[0]) for row in rows]
    named = {name: _named(rows, name, scale) for name in _sets(rows)}
    near, text = find_near(scale, rows), ""
    works = _works(scale, named, near)
    for num in fits:
        shown = [row.first(num) for row in rows]
        text = _render(scale, shown, named, near, works)
        if len(text.encode()) < MAX_PAGE_BYTES:
            break
    return write_page(paths.HTML / scale / EXPLORER, text)


def _sets(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return {prompt set: its prompts}, in the profile's order, of all rows."""
    found = {name: asked for row in rows for name, asked in row.prompts.items()}
    order = list(rows[0].protocol["prompts"])
    return {name: found[name] for name in order if name in found}


def _named(rows: Sequence[Row], name: str, scale: str) -> list[str]:
    """Return the key of the work that each prompt of a set names; "" for none.

    Raises:
        ManifestError: stage 03 has other works than when the prompts were chosen.
    """
    protocol, prompts = rows[0].protocol, _sets(rows)[name]
    own = protocol["prompts"][name]
    if own["kind"] not in OF_WORKS:
        return [""] * len(prompts)
    folder = paths.stage_dir(scale, "03_latents")
    given = {"folder": folder, "seed": protocol["seed"], "sources": protocol["sources"]}
    chosen = read_prompts(**given | own).head(len(prompts))
    if chosen["prompt"].tolist() != prompts:
        raise ManifestError(
            f"the prompts `{name}` of 05_evaluate are not those of 03_latents now; "
            f"expected the same; run `dvc repro 05_evaluate@{scale}-{rows[0].name}`."
        )
    return chosen["id"].tolist()


def _works(
    scale: str, named: Mapping[str, Iterable[str]], near: Mapping[str, Near | None]
) -> dict[str, list[str]]:
    """Return {key: title, author, licence, its address, the work's page, its picture}.

    Texts are strangers', and shown as text; an address that is no page is "".
    """
    wanted = {key for keys in named.values() for key in keys} - {""}
    for found in filter(None, near.values()):
        wanted |= {key for many in found.values() for one in many for key, _ in one}
    folder, keys = paths.stage_dir(scale, "01_licenses"), sorted(wanted)
    columns = ["key", "title", "author", "license_title", "license_deed", "pageurl"]
    file, chosen = folder / "catalog.parquet", [("key", "in", keys)]
    rows = pd.read_parquet(file, columns=columns, filters=chosen).set_index("key")
    pictures = stored_pictures(folder, keys, TILE_PX // 2)
    works = {}
    for key, picture in zip(keys, pictures, strict=True):
        texts = [printable(text or "") for text in rows.loc[key]]
        texts[3:] = [text if is_page(text) else "" for text in texts[3:]]
        works[key] = [*texts, _tile(picture)]
    return works


def _render(
    scale: str,
    rows: Sequence[Row],
    named: Mapping[str, Sequence[str]],
    near: Mapping[str, Near | None],
    works: Mapping[str, list[str]],
) -> str:
    """Return the page of these rows; it holds each picture once."""
    places: dict[str, int] = {}

    def place(key: str) -> int:
        return places.setdefault(key, len(places)) if key else -1

    settings, sets = rows[0].protocol["prompts"], _sets(rows)
    shown_sets = [
        {
            "name": name,
            "words": KINDS.get(settings[name]["kind"], settings[name]["kind"]),
            "prompts": list(map(printable, prompts)),
            "named": [place(key) for key in named[name][: len(prompts)]],
        }
        for name, prompts in sets.items()
    ]
    shown_rows = [_shown(row, near[row.name], place) for row in rows]
    content = {
        "sets": shown_sets,
        "rows": shown_rows,
        "works": [works[key] for key in places],
        "seed": rows[0].protocol["seed"],
        "most": OPEN_AT_FIRST,
    }
    # As text of an element: no `<` may end it, whatever a stranger's title is.
    told = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    told = told.replace("&", "\\u0026").replace("<", "\\u003c")
    ours = assets("explorer")
    return page_template("explorer.html.j2").render(
        assets={name: Markup(text) for name, text in ours.items()},
        scale=scale,
        content=Markup(told),
        num=max(map(len, sets.values())),
        most=OPEN_AT_FIRST,
        rows=[row.name for row in rows],
    )


def _shown(row: Row, near: Near | None, place: Any) -> dict[str, Any]:
    """Return what the page's script knows of a row."""
    drawn: dict[str, dict[str, list]] = {}
    for (name, scale), pictures in row.requests().items():
        beside = near[name, scale] if near else [[]] * len(pictures)
        drawn.setdefault(name, {})[f"{scale:g}"] = [
            [_tile(pixels), [[place(key), score] for key, score in works]]
            for pixels, works in zip(pictures, beside, strict=False)  # fewer are shown
        ]
    told = {"name": row.name, "guidance": f"{row.guidance:g}", "drawn": drawn}
    return {**told, "threshold": row.threshold, "searched": near is not None}


def _tile(pixels: np.ndarray) -> str:
    """Return an (h, w, 3) uint8 picture as a WebP of at most 128 px, in base64."""
    picture = Image.fromarray(pixels)
    if max(picture.size) > TILE_PX:
        picture = Image.fromarray(largest_center_square(picture, TILE_PX))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=80, method=4)
    return base64.b64encode(buffer.getvalue()).decode("ascii")
