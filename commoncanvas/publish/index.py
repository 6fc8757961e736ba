"""The front page: pipeline, scorecard and links, made from the files of a run."""

import base64
import io
import math
from pathlib import Path
from typing import Any

from markupsafe import Markup
from PIL import Image

from commoncanvas.analysis.estimates import Estimate
from commoncanvas.captions.names import captioners_of
from commoncanvas.claims.outcomes import (
    BY_CONSTRUCTION,
    DOES_NOT,
    INCONCLUSIVE,
    NO_TEST,
    TRANSFERS,
    UNINFORMATIVE,
    headline,
)
from commoncanvas.core import paths
from commoncanvas.core.errors import CommonCanvasError
from commoncanvas.core.files import read_json, shown
from commoncanvas.core.manifest import read_manifest
from commoncanvas.core.settings import load_yaml
from commoncanvas.core.templates import page_template
from commoncanvas.core.works import count_works
from commoncanvas.publish.pages import (
    EXPLORER,
    assets,
    main_line,
    read_all,
    write_page,
)

# How each outcome looks: colour and sign.
SHOWN = {
    TRANSFERS: ("yes", "✓"),
    DOES_NOT: ("no", "✗"),
    INCONCLUSIVE: ("open", "◐"),
    UNINFORMATIVE: ("open", "⊘"),
    BY_CONSTRUCTION: ("open", "="),
    NO_TEST: ("open", "○"),
}
REFERENCE = "full"  # the scale whose scorecard in results/ stands beside a run's own
RELEASED = ("c", "nc", "nd")  # splits; the captioned web is not ours to give
SMALL_WORLDS = ("tiny", "mini", "full")


def read_claims(scale: str, stages: dict[str, dict]) -> list[dict[str, Any]]:
    """Read the scorecard of a run, in the paper's order, as the index shows it.

    Args:
        stages: {slug: stage} of the index, to link to.

    Raises:
        CommonCanvasError: a stage has not run, or an outcome is unknown.
    """
    claims, references = read_rows(scale), _references()
    for claim in claims:
        _with_looks(claim)
        stage = stages.get(claim["stage"], {})
        claim["href"], claim["stage_title"] = stage.get("href"), stage.get("title")
        claim["reference"] = references.get(claim["claim_id"])
    return claims


def read_rows(scale: str) -> list[dict[str, Any]]:
    """Return the rows that stages 06 and 07 of a scale wrote, in the paper's order.

    Raises:
        CommonCanvasError: a stage has not run.
    """
    rows = []
    for slug in ("06_figures", "07_speed"):
        path = paths.stage_dir(scale, slug) / "claims.json"
        rows += read_json(needed(path, scale, slug))
    paper = paths.DOCS / "paper.yaml"
    known = list(load_yaml(paper).get("claims", {})) if paper.is_file() else []
    rank = {claim_id: place for place, claim_id in enumerate(known)}
    return sorted(rows, key=lambda row: rank.get(row["claim_id"], len(rank)))


def _references() -> dict[str, dict]:
    """Return {claim_id: row} of the reference run; none where none is kept."""
    path = paths.RESULTS / REFERENCE / "claims.json"
    rows = read_json(path) if path.is_file() else []
    return {row["claim_id"]: _with_looks(row) for row in rows}


def _with_looks(claim: dict[str, Any]) -> dict[str, Any]:
    """Give a scorecard's row what the template shows: looks, and tests in words."""
    if claim["outcome"] not in SHOWN:
        raise CommonCanvasError(
            f"claim {claim['claim_id']} has the outcome {claim['outcome']!r}; known"
            f" are {', '.join(SHOWN)}. Run stages 06 and 07 of this scale again."
        )
    claim["kind"], claim["icon"] = SHOWN[claim["outcome"]]
    claim["measured"] = [_measured(test) for test in claim["tests"] if test["interval"]]
    return claim


def _measured(test: dict[str, Any]) -> dict[str, Any]:
    """Return one test as words, and where its interval lies on an axis 0 to 100.

    The axis holds 0, the margin and the control's effect; None without a control.
    """
    if test["unit"] == "counts":
        return {"words": test["text"], "bar": None, "result": test["result"]}
    words = f"{test['metric'].partition(',')[0]}: {Estimate.from_dict(test):+.4g}"
    words += f", n = {test['n']:,} {test['unit']}"
    if test["trainings"]:
        num = test["trainings"]
        words += f", {num} training{'s' if num > 1 else ''}"
    bar = None
    if test["control"] and test["control"]["value"]:
        bad, margin = test["control"]["value"], test["margin"]
        words += f"; margin {margin:.3g}, the known-bad model {bad:+.3g}"
        marks = [0.0, bad, *test["interval"], math.copysign(margin, bad)]
        low, high = min(marks), max(marks)
        wide = (high - low) or 1.0
        zero, control, start, end, limit = (100 * (x - low) / wide for x in marks)
        bar = {"zero": zero, "control": control, "start": start, "end": end}
        bar |= {"limit": limit, "value": 100 * (test["value"] - low) / wide}
    return {"words": words, "bar": bar, "result": test["result"]}


def needed(path: Path, scale: str, slug: str) -> Path:
    """Return the path of a file that exists, or say which stage writes it."""
    if not path.is_file():
        raise CommonCanvasError(
            f"{shown(path)} is missing; the index shows it. Run"
            f" `dvc repro {slug}@{scale}`."
        )
    return path


def write_index(scale: str) -> Path:
    """Write `reports/html/index.html`: outcomes, pipeline, scorecard, links.

    Raises:
        CommonCanvasError: a stage has not been run; the message names it.
    """
    pages = [page for _, page in read_all(scale)]
    stages = [_stage(page, pages, scale) for page in main_line(pages)]
    claims = read_claims(scale, {stage["slug"]: stage for stage in stages})
    tally = {name: sum(c["outcome"] == name for c in claims) for name in SHOWN}
    text = page_template("contents.html.j2").render(
        assets={name: Markup(text) for name, text in assets().items()},
        scale=scale,
        small=scale in SMALL_WORLDS,
        summary=headline(claims),
        outcomes=[
            {"name": name, "count": tally[name], "kind": kind, "icon": icon}
            for name, (kind, icon) in SHOWN.items()
            if tally[name]
        ],
        strip=_strip(scale),
        stages=stages,
        claims=claims,
        rights=_rights(scale),
        reference=REFERENCE if any(claim["reference"] for claim in claims) else "",
        explorer=_explorer(scale),
        other_scales=_other_scales(scale),
    )
    return write_page(paths.HTML / "index.html", text)


def _rights(scale: str) -> dict[str, Any] | None:
    """Return works by licence and split, and captioners; None without a catalogue."""
    folder = paths.stage_dir(scale, "01_licenses")
    if not (folder / "catalog.parquet").is_file():
        return None
    counts = count_works(folder, ["split", "license_title"])
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
    """Return names and first pages of the other scales that have pages."""
    others = []
    for folder in sorted(paths.HTML.glob("*/")):
        files = sorted(folder.glob("*.html"))
        if folder.name != scale and files:
            href = f"{folder.name}/{files[0].name}"
            others.append({"name": folder.name, "href": href})
    return others


def _stage(page: dict[str, Any], pages: list[dict], scale: str) -> dict[str, Any]:
    """Return what the index shows of a stage, all its variants together."""
    family = [p for p in pages if p["slug"] == page["slug"]]
    folders = [paths.stage_dir(scale, p["slug"], p["variant"]) for p in family]
    counts = None
    if not page["slug"].startswith("00_"):
        manifests = [read_manifest(folder, verify=False) for folder in folders]
        counts = _counts([manifest["counts"] for manifest in manifests])
    return {
        **{key: page[key] for key in ("slug", "number", "title", "sentence")},
        "href": f"{scale}/{page['file']}",
        "counts": counts,
        "variants": [
            {"name": p["variant"], "href": f"{scale}/{p['file']}"}
            for p in family
            if p["variant"]
        ],
    }


def _counts(counts: list[dict[str, Any]]) -> dict[str, str]:
    """Add up the rows of a stage's variants, with the commonest reason for a loss."""
    rows_in, rows_out = (sum(c[key] for c in counts) for key in ("in", "out"))
    reasons: dict[str, int] = {}
    for one in counts:
        for reason, rows in one["rejected"].items():
            reasons[reason] = reasons.get(reason, 0) + rows
    left = "nothing left out"
    if any(reasons.values()):
        rows, reason = max((rows, reason) for reason, rows in reasons.items())
        left = f"left out: {rows:,} {reason}"
        if others := sum(reasons.values()) - rows:
            left += f", {others:,} other"
    return {
        "in": f"{rows_in:,}",
        "out": f"{rows_out:,}",
        "percent": f"{100 * rows_out / rows_in if rows_in else 0:.1f}",
        "left": left,
    }


def _strip(scale: str) -> dict[str, Any]:
    """Return the samples that stage 06 chose to show, as a data address."""
    folder = paths.stage_dir(scale, "06_figures")
    found = [p for p in (folder / "strip.webp", folder / "strip.png") if p.is_file()]
    path = needed([*found, folder / "strip.webp"][0], scale, "06_figures")
    data = path.read_bytes()
    caption = read_json(needed(folder / "strip.json", scale, "06_figures"))["caption"]
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
    uri = f"data:image/{path.suffix[1:]};base64,{base64.b64encode(data).decode()}"
    return {"uri": uri, "caption": caption, "width": width, "height": height}
