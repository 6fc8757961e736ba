"""The front page: finding, samples, one work's way, scorecard and links.

Everything on it comes from the files of a run, and of the reference run in `results/`.
"""

import functools
import os
from pathlib import Path
from typing import Any

from markupsafe import Markup

from commoncanvas.captions.names import captioners_of
from commoncanvas.claims.outcomes import headline
from commoncanvas.core import paths
from commoncanvas.core.files import shown
from commoncanvas.core.manifest import read_manifest
from commoncanvas.core.templates import assets, page_template
from commoncanvas.core.works import count_works
from commoncanvas.parameters import planned_rows
from commoncanvas.publish.journey import for_page, journey_of
from commoncanvas.publish.links import PAPER, Places, in_prose
from commoncanvas.publish.pages import (
    EXPLORER,
    main_line,
    read_all,
    write_page,
)
from commoncanvas.publish.scorecard import (
    REFERENCE,
    compared,
    grouped,
    read_claims,
)
from commoncanvas.publish.side_by_side import side_by_side
from commoncanvas.publish.texts import texts_of

RELEASED = ("c", "nc", "nd")  # splits; the captioned web is not ours to give
SMALL_WORLDS = ("tiny", "mini", "full")
MAX_INDEX_BYTES = 1_500_000


def write_index(scale: str) -> Path:
    """Write `reports/html/index.html`: finding, samples, pipeline, scorecard, links.

    Raises:
        CommonCanvasError: a stage has not been run; the message names it.
    """
    pages = [page for _, page in read_all(scale)]
    stages = [_stage(page, pages, scale) for page in main_line(pages)]
    claims = read_claims(scale, {stage["slug"]: stage for stage in stages})
    journey, texts = journey_of(scale), texts_of(scale)
    known = {text["href"].rpartition("/")[2]: text["href"] for text in texts}
    here = Places()
    prose = functools.partial(in_prose, places=here)
    template = page_template("contents.html.j2", prose=prose)
    text = template.render(
        assets={name: Markup(text) for name, text in assets().items()},
        scale=scale,
        small=scale in SMALL_WORLDS,
        summary=headline(claims),
        num_missing=_num_missing(scale, pages),
        beside=side_by_side(scale),
        journey=journey and for_page(journey),
        stages=stages,
        by_slug={stage["slug"]: stage for stage in stages},
        groups=grouped(claims),
        compared=compared(claims, scale),
        rights=_rights(scale),
        reference=REFERENCE if any(claim["reference"] for claim in claims) else "",
        paper=here.paper.sources[PAPER].url,
        texts=texts,
        attribution=known.get("attribution.html", ""),
        has_claims=known.get("claims.html", ""),
        explorer=_explorer(scale),
        other_scales=_other_scales(scale),
        reference_site=_reference_site(scale),
    )
    return write_page(paths.HTML / "index.html", text, MAX_INDEX_BYTES)


def _num_missing(scale: str, pages: list[dict[str, Any]]) -> int:
    """Count the rows that the scale's profile plans and that have no chapter 05."""
    evaluated = {page["variant"] for page in pages if page["slug"] == "05_evaluate"}
    return len({*planned_rows(scale)} - evaluated)


def _rights(scale: str) -> dict[str, Any] | None:
    """Return works by licence and split, and captioners; None without a catalogue."""
    folder = paths.stage_dir(scale, "01_licenses")
    if not (folder / "catalog.parquet").is_file():
        return None
    counts = count_works(folder, ["split", "license_title", "license_deed"])
    told = read_manifest(paths.stage_dir(scale, "02_captions"), verify=False)["facts"]
    return {
        "licenses": counts[counts["split"].isin(RELEASED)].to_dict("records"),
        "captioners": ", ".join(sorted(set(captioners_of(told).values()))),
        "ledger": shown(folder / "ledger.parquet"),
    }


def _explorer(scale: str) -> str:
    """Return the address of a scale's explorer, "" if there is none."""
    is_there = (paths.HTML / scale / EXPLORER).is_file()
    return f"{scale}/{EXPLORER}" if is_there else ""


def _other_scales(scale: str) -> list[dict[str, str]]:
    """Return names and first chapters of the other scales that have pages."""
    others = []
    for folder in sorted(paths.HTML.glob("*/")):
        first = next(iter(sorted(folder.glob("01_*.html"))), None)
        if folder.name != scale and first:
            others.append({"name": folder.name, "href": f"{folder.name}/{first.name}"})
    return others


def _reference_site(scale: str) -> str:
    """Return the address of the reference run's pages, "" on its own or without any."""
    site = paths.RESULTS / REFERENCE / "site" / "index.html"
    if scale == REFERENCE or not site.is_file():
        return ""
    return Path(os.path.relpath(site, paths.HTML)).as_posix()


def _stage(page: dict[str, Any], pages: list[dict], scale: str) -> dict[str, Any]:
    """Return what the index shows of a stage, all its variants together.

    Raises:
        ManifestError: the stage of a page has not run.
    """
    family = [p for p in pages if p["slug"] == page["slug"]]
    if not page["slug"].startswith("00_"):
        for one in family:
            folder = paths.stage_dir(scale, one["slug"], one["variant"])
            read_manifest(folder, verify=False)
    return {
        **{key: page[key] for key in ("slug", "number", "title", "sentence")},
        "href": f"{scale}/{page['file']}",
        "variants": [
            {"name": p["variant"], "href": f"{scale}/{p['file']}"}
            for p in family
            if p["variant"]
        ],
    }
