"""Executed notebooks to offline pages, and the index that opens them.

`python -m commoncanvas.report pages --scale mini` writes one HTML file per executed
notebook; `... index --scale mini` writes the first page. Both are leaves of the graph:
a change of style never runs a stage again. The same inputs give the same bytes.
"""

import argparse
import base64
import hashlib
import io
import json
import re
import sys

import jinja2
from markupsafe import Markup
from nbconvert.exporters import TemplateExporter
from nbconvert.filters import Highlight2HTML
from PIL import Image

from commoncanvas import paths
from commoncanvas.checkpoints import write_atomically
from commoncanvas.errors import CommonCanvasError
from commoncanvas.manifest import read_manifest, shown
from commoncanvas.pages import BASE_VARIANT, RESOURCE, link_stages, read_page
from commoncanvas.plots import VARIANT_COLOURS
from commoncanvas.verdicts import REFERENCE, VERDICTS, need, read_claims, summary

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


def main(arguments=None):
    """Write the pages or the index of one scale; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["pages", "index"])
    parser.add_argument("--scale", required=True, help="name of a file in profiles/")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.what == "pages":
            print(f"wrote {len(write_pages(chosen.scale))} pages")
        else:
            print(f"wrote {shown(write_index(chosen.scale))}")
    except CommonCanvasError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
