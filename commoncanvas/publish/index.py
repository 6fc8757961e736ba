"""The pages and the front page, made from executed notebooks and their files."""

import base64
import hashlib
import io
import json
import re

import jinja2
from markupsafe import Markup
from nbconvert.exporters import TemplateExporter
from nbconvert.filters import Highlight2HTML
from PIL import Image

from commoncanvas.analysis.plots import VARIANT_COLOURS
from commoncanvas.core import paths
from commoncanvas.core.errors import CommonCanvasError
from commoncanvas.core.files import shown, write_atomically
from commoncanvas.core.manifest import read_manifest
from commoncanvas.core.settings import load_yaml
from commoncanvas.publish.pages import BASE_VARIANT, RESOURCE, link_stages, read_page

VERDICTS = {
    "supported": ("yes", "✓"),
    "not supported": ("no", "✗"),
    "not testable at this scale": ("open", "○"),
}
REFERENCE = "full"  # the scale whose scorecard in results/ stands beside a run's own


def read_claims(scale, stages):
    """Read the scorecard of a run, in the paper's order, as the index shows it.

    Args:
        scale: name of a profile.
        stages: {slug: stage} of the index, to link to.

    Raises:
        CommonCanvasError: a stage has not run, or a verdict is unknown.
    """
    claims, references = read_rows(scale), _references()
    for claim in claims:
        _judged(claim)
        stage = stages.get(claim["stage"], {})
        claim["href"], claim["stage_title"] = stage.get("href"), stage.get("title")
        claim["reference"] = references.get(claim["claim_id"])
    return claims


def read_rows(scale):
    """Return the rows that stages 06 and 07 of a scale wrote, in the paper's order.

    Raises:
        CommonCanvasError: a stage has not run.
    """
    rows = []
    for slug in ("06_figures", "07_speed"):
        path = paths.stage_dir(scale, slug) / "claims.json"
        rows += json.loads(need(path, scale, slug).decode("utf-8"))
    paper = paths.DOCS / "paper.yaml"
    known = list(load_yaml(paper).get("claims", {})) if paper.is_file() else []
    rank = {claim_id: place for place, claim_id in enumerate(known)}
    return sorted(rows, key=lambda row: rank.get(row["claim_id"], len(rank)))


def _references():
    """Return {claim_id: row} of the reference run; none where none is kept."""
    path = paths.RESULTS / REFERENCE / "claims.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return {row["claim_id"]: _judged(row) for row in rows}


def _judged(claim):
    """Give a scorecard's row what the template shows of its verdict."""
    if claim["verdict"] not in VERDICTS:
        raise CommonCanvasError(
            f"claim {claim['claim_id']} has the verdict {claim['verdict']!r}; known"
            f" are {', '.join(VERDICTS)}. Correct it in commoncanvas/rules.py."
        )
    claim["kind"], claim["icon"] = VERDICTS[claim["verdict"]]
    return claim


def summary(tally):
    """Say in one sentence how many claims have which verdict."""
    total = sum(tally.values())
    if not total:
        return "No claim has been tested yet."
    words = {name: f"{n} {'is' if n == 1 else 'are'}" for name, n in tally.items()}
    return (
        f"Of the paper's {total} claims looked at here, {words['supported']} supported"
        f" by what we measured, {words['not supported']} not, and"
        f" {words['not testable at this scale']} beyond what this scale can test."
    )


def need(path, scale, slug):
    """Return a file's bytes, or say which stage of the scale writes it."""
    if not path.is_file():
        raise CommonCanvasError(
            f"{shown(path)} is missing; the index shows it. Run"
            f" `dvc repro {slug}@{scale}`."
        )
    return path.read_bytes()


MAX_PAGE_BYTES = 3_000_000
SMALL_WORLDS = ("tiny", "mini", "full")


class PageExporter(TemplateExporter):
    """nbconvert with our template, from the folder `reports/template`."""

    output_mimetype = "text/html"

    def default_filters(self):
        """Add the colouring of code to nbconvert's own filters."""
        yield from super().default_filters()
        yield "highlight_code", Highlight2HTML(pygments_lexer="ipython3", parent=self)


def write_pages(scale):
    """Write one page per executed notebook of a scale, with links between them.

    Args:
        scale: name of a profile.

    Returns:
        Paths of the pages, in reading order.

    Raises:
        CommonCanvasError: there is no executed notebook, a page would fetch
            something, or it is larger than 3 MB.
    """
    read = _read_all(scale)
    facts = [page for _, page in read]
    main = _main_line(facts)
    exporter = PageExporter(
        template_name=paths.TEMPLATE.name,
        extra_template_basedirs=[str(paths.TEMPLATE.parent)],
        file_extension=".html",
    )
    assets, written = _assets(), []
    for notebook, page in read:
        here = next(i for i, p in enumerate(main) if p["slug"] == page["slug"])
        page["previous"] = main[here - 1] if here else None
        page["next"] = main[here + 1] if here + 1 < len(main) else None
        page["last"] = main[-1]["number"]
        family = [p for p in facts if p["slug"] == page["slug"]]
        page["siblings"] = family if page["variant"] else []
        resources = {"page": page, "assets": assets}
        text, _ = exporter.from_notebook_node(notebook, resources=resources)
        text = link_stages(text, {p["slug"]: p["file"] for p in main})
        written.append(_write(paths.HTML / scale / page["file"], text))
    return written


def write_index(scale):
    """Write `reports/html/index.html`: verdicts, pipeline, scorecard, links.

    Args:
        scale: name of the profile whose results are shown.

    Returns:
        Path of the index.

    Raises:
        CommonCanvasError: a stage has not been run; the message names it.
    """
    pages = [page for _, page in _read_all(scale)]
    stages = [_stage(page, pages, scale) for page in _main_line(pages)]
    claims = read_claims(scale, {stage["slug"]: stage for stage in stages})
    tally = {name: sum(c["verdict"] == name for c in claims) for name in VERDICTS}
    others = sorted(
        folder.name
        for folder in paths.HTML.glob("*/")
        if folder.name != scale and any(folder.glob("*.html"))
    )
    loader = jinja2.FileSystemLoader(paths.TEMPLATE)
    environment = jinja2.Environment(loader=loader, autoescape=True)
    text = environment.get_template("contents.html.j2").render(
        assets={name: Markup(text) for name, text in _assets().items()},
        scale=scale,
        small=scale in SMALL_WORLDS,
        summary=summary(tally),
        verdicts=[
            {"name": name, "count": tally[name], "kind": kind, "icon": icon}
            for name, (kind, icon) in VERDICTS.items()
        ],
        strip=_strip(scale),
        stages=stages,
        claims=claims,
        reference=REFERENCE if any(claim["reference"] for claim in claims) else "",
        other_scales=[
            {"name": name, "href": f"{name}/{first.name}"}
            for name in others
            for first in sorted((paths.HTML / name).glob("*.html"))[:1]
        ],
    )
    return _write(paths.HTML / "index.html", text)


def _read_all(scale):
    folder, frozen = paths.EXECUTED / scale, paths.EXECUTED / "00_pretrain.ipynb"
    found = [p for p in folder.glob("*.ipynb") if not p.stem.endswith(".failed")]
    if not found:
        raise CommonCanvasError(
            f"{shown(folder)} has no executed notebook; a page is made from one. Run"
            " `dvc repro`, or name another scale."
        )
    found += [frozen] if frozen.is_file() else []
    order = list(VARIANT_COLOURS)

    def place(path):
        slug, _, variant = path.stem.partition("-")
        known = order.index(variant) if variant in order else len(order)
        return slug, variant != BASE_VARIANT, known, variant

    return [read_page(path, scale) for path in sorted(found, key=place)]


def _main_line(pages):
    # The base variant sorts first, and stands for its stage.
    stages = {}
    for page in pages:
        stages.setdefault(page["slug"], page)
    return list(stages.values())


def _stage(page, pages, scale):
    family = [p for p in pages if p["slug"] == page["slug"]]
    folders = [paths.stage_dir(scale, p["slug"], p["variant"]) for p in family]
    counts = None
    if not page["slug"].startswith("00_"):
        counts = _counts([read_manifest(folder)["counts"] for folder in folders])
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


def _counts(counts):
    rows_in, rows_out = (sum(c[key] for c in counts) for key in ("in", "out"))
    reasons = {}
    for one in counts:
        for reason, rows in one["rejected"].items():
            reasons[reason] = reasons.get(reason, 0) + rows
    left = "nothing left out"
    if any(reasons.values()):
        rows, reason = max((rows, reason) for reason, rows in reasons.items())
        others = sum(reasons.values()) - rows
        left = f"left out: {rows:,} {reason}" + (f", {others:,} other" * bool(others))
    return {
        "in": f"{rows_in:,}",
        "out": f"{rows_out:,}",
        "percent": f"{100 * rows_out / rows_in if rows_in else 0:.1f}",
        "left": left,
    }


def _strip(scale):
    folder = paths.stage_dir(scale, "06_figures")
    found = [p for p in (folder / "strip.webp", folder / "strip.png") if p.is_file()]
    data = need(path := [*found, folder / "strip.webp"][0], scale, "06_figures")
    caption = json.loads(need(folder / "strip.json", scale, "06_figures"))["caption"]
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
    uri = f"data:image/{path.suffix[1:]};base64,{base64.b64encode(data).decode()}"
    return {"uri": uri, "caption": caption, "width": width, "height": height}


def _assets():
    style = (paths.TEMPLATE / "style.css").read_text(encoding="utf-8")
    script = (paths.TEMPLATE / "page.js").read_text(encoding="utf-8")
    digest = hashlib.sha256(script.encode("utf-8")).digest()
    # The page's own script is the only one that its security policy lets run.
    allowed = base64.b64encode(digest).decode("ascii")
    return {"style": style, "script": script, "script_hash": allowed}


def _write(path, text):
    data = (re.sub(r"[ \t]+\n", "\n", text).strip() + "\n").encode("utf-8")
    if fetched := RESOURCE.search(text):
        raise CommonCanvasError(
            f"{path.name} would fetch {fetched[0][:80]!r}; a page is complete in"
            " itself. Embed what it shows by commoncanvas.figures."
        )
    if len(data) > MAX_PAGE_BYTES:
        raise CommonCanvasError(
            f"{path.name} has {len(data):,} bytes; a page has at most"
            f" {MAX_PAGE_BYTES:,}. Show fewer or smaller pictures in its notebook."
        )
    write_atomically(path, lambda part: part.write_bytes(data))
    return path
