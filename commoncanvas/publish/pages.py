"""The pages: every executed notebook as HTML that needs nothing else.

Markdown is rendered with raw HTML escaped, formulas become MathML while the page is
built, and every id on a page is made unique.
"""

import ast
import html
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters import TemplateExporter
from nbconvert.filters import Highlight2HTML, ansi2html
from nbformat import NotebookNode

from commoncanvas.analysis.plots import in_tags, variant_place
from commoncanvas.core import paths
from commoncanvas.core.errors import CommonCanvasError
from commoncanvas.core.files import sha256_of, shown, write_atomically
from commoncanvas.core.manifest import NAME, read_manifest
from commoncanvas.core.templates import assets
from commoncanvas.publish.fetches import fetches
from commoncanvas.publish.links import with_links
from commoncanvas.publish.markdown import PageRenderer, first_sentence, free, prose
from commoncanvas.publish.rows import folders_of
from commoncanvas.publish.texts import copy_for_people, places_of, text_pages

BASE_VARIANT = "cc_synthetic"
MAX_PAGE_BYTES = 3_000_000
DROPPED = {"injected-parameters", "remove-cell", "papermill-error-cell-tag"}
OWN_IDS = {"main", "provenance"}
EXPLORER = "explorer.html"  # of a scale, beside its pages
EXPLORED = ("05_evaluate", "06_figures")  # stages whose pages link to the explorer


class PageExporter(TemplateExporter):
    """nbconvert with our template, from the folder `reports/template`."""

    output_mimetype = "text/html"

    def default_filters(self) -> Iterator[tuple[str, Any]]:
        """Add the colouring of code to nbconvert's own filters."""
        yield from super().default_filters()
        yield "highlight_code", Highlight2HTML(pygments_lexer="ipython3", parent=self)


def write_pages(scale: str) -> list[Path]:
    """Write one page per executed notebook of a scale, with links between them.

    Returns:
        Paths of the pages, in reading order.

    Raises:
        CommonCanvasError: there is no executed notebook, a page would fetch
            something, or it is larger than 3 MB.
    """
    read = read_all(scale)
    pages = [page for _, page in read]
    exporter = PageExporter(
        template_name=paths.TEMPLATE.name,
        extra_template_basedirs=[str(paths.TEMPLATE.parent)],
        file_extension=".html",
    )
    shared, written = assets(), []
    places = places_of(scale)
    explorer = bool(folders_of(scale))  # written next, by `explorer.write_explorer`
    for notebook, page in read:
        line = main_line(pages, page["variant"])
        here = next(i for i, p in enumerate(line) if p["slug"] == page["slug"])
        page["previous"] = line[here - 1] if here else None
        page["next"] = line[here + 1] if here + 1 < len(line) else None
        page["last"] = max(p["number"] for p in line)
        family = [p for p in pages if p["slug"] == page["slug"]]
        page["explorer"] = explorer and page["slug"] in EXPLORED
        page["siblings"] = family if page["variant"] else []
        resources = {"page": page, "assets": shared}
        text, _ = exporter.from_notebook_node(notebook, resources=resources)
        text = link_stages(text, {p["slug"]: p["file"] for p in line})
        before, main, after = text.partition("<main")
        text = before + main + with_links(after, places)
        written.append(write_page(paths.HTML / scale / page["file"], text))
    for name, text in text_pages(scale, shared).items():
        write_page(paths.HTML / scale / name, text)
    copy_for_people(scale)
    return written


def write_page(path: Path, text: str, most: int = MAX_PAGE_BYTES) -> Path:
    """Write a page that fetches nothing and has `most` bytes, whole or not at all."""
    data = (re.sub(r"[ \t]+\n", "\n", text).strip() + "\n").encode("utf-8")
    if fetched := fetches(text):
        raise CommonCanvasError(
            f"{path.name} would fetch {fetched[0][:80]!r}; a page is complete in"
            " itself. Embed what it shows by commoncanvas.analysis.figures."
        )
    if len(data) > most:
        raise CommonCanvasError(
            f"{path.name} has {len(data):,} bytes; a page has at most"
            f" {most:,}. Show fewer or smaller pictures in its notebook."
        )
    write_atomically(path, lambda part: part.write_bytes(data))
    return path


def read_all(scale: str) -> list[tuple[NotebookNode, dict[str, Any]]]:
    """Read every executed notebook of a scale, and stage 00's, in reading order."""
    folder, frozen = paths.EXECUTED / scale, paths.EXECUTED / "00_pretrain.ipynb"
    found = [p for p in folder.glob("*.ipynb") if not p.stem.endswith(".failed")]
    if not found:
        raise CommonCanvasError(
            f"{shown(folder)} has no executed notebook; a page is made from one. Run"
            " `dvc repro`, or name another scale."
        )
    found += [frozen] if frozen.is_file() else []

    def place(path: Path) -> tuple[bool, str, bool, int, str]:
        slug, _, variant = path.stem.partition("-")
        # Stage 00 runs first and is told last: what it makes, a reader meets before.
        later = path == frozen, slug, variant != BASE_VARIANT
        return *later, variant_place(variant), variant

    return [read_page(path, scale) for path in sorted(found, key=place)]


def main_line(
    pages: list[dict[str, Any]], variant: str | None = None
) -> list[dict[str, Any]]:
    """Return one page a stage: that of a variant where it has one, else the base's.

    The base variant sorts first, and stands for its stage.
    """
    stages: dict[str, dict] = {}
    for page in pages:
        is_first = page["slug"] not in stages
        if is_first or (variant and page["variant"] == variant):
            stages[page["slug"]] = page
    return list(stages.values())


def read_page(path: Path, scale: str) -> tuple[NotebookNode, dict[str, Any]]:
    """Turn one executed notebook into what the template needs.

    Args:
        path: executed notebook, `NN_slug[-variant].ipynb`.

    Returns:
        (notebook whose sources and outputs are HTML, dict of the page's facts).

    Raises:
        CommonCanvasError: the notebook has no title, or shows a bare picture.
        ManifestError: the stage's data folder has no manifest.
    """
    notebook = nbformat.read(path, as_version=4)
    slug, _, variant = path.stem.partition("-")
    first = notebook.cells[0].source if notebook.cells else ""
    found = re.match(r"#\s+(?:\d+\s*·\s*)?(.+)", first)
    if not found:
        raise CommonCanvasError(
            f"{shown(path)} starts with {first[:40]!r}; a title such as"
            " '# 03 · Latents' is expected. Edit its notebook's first cell."
        )
    taken = set(OWN_IDS)
    renderer = PageRenderer(taken)
    lede = re.split(r"^(?=##)", first[found.end() :], maxsplit=1, flags=re.MULTILINE)
    parameters = parameter_rows(notebook.cells)
    cells: list[NotebookNode] = []
    checks = {"passed": 0, "total": 0}
    rest = nbformat.v4.new_markdown_cell("".join(lede[1:]), id="cell-1-rest")
    for cell in [*([rest] if rest.source else []), *notebook.cells[1:]]:
        tags = set(cell.metadata.get("tags", []))
        if tags & DROPPED:
            continue
        if cell.cell_type == "markdown":
            cell.source = prose(cell.source, renderer)
        elif "parameters" in tags:
            cell = nbformat.v4.new_markdown_cell(id=cell.id, metadata=cell.metadata)
        cells.append(cell)
    for place, cell in enumerate(cells):
        for output in cell.get("outputs", []):
            shown_html = _output(output, renderer, f"{shown(path)}, cell {place + 1}")
            if "check" in cell.metadata.get("tags", []):
                shown_html = _mark_checks(shown_html, checks)
            output["page_html"] = _unique_ids(shown_html, f"c{place}", taken)
    notebook.cells = cells
    title = html.unescape(found[1].strip())
    counted = f" — {checks['passed']} of {checks['total']} checks"
    page = {
        "slug": slug,
        "variant": variant or None,
        "scale": scale,
        "file": f"{path.stem}.html",
        "number": slug[:2],
        "title": title,
        "tab": f"{slug[:2]} · {title}" + (f" · {variant}" if variant else "")
        + (counted if checks["total"] else ""),
        "lede": prose(lede[0], renderer),
        "sentence": first_sentence(lede[0]),
        "headings": renderer.headings,
        "parameters": parameters,
        "checks": checks,
        "provenance": _provenance(path, slug, variant or None, scale),
    }  # fmt: skip
    return notebook, page


def link_stages(text: str, files: dict[str, str]) -> str:
    """Lead links between notebooks to pages; a stage without one, to the index.

    Args:
        files: {slug: name of the page that stands for the stage}.
    """
    return re.sub(
        r'(<a\b[^>]*\shref=")(\d\d_\w+)(?:\.html|\.ipynb)(?=["#])',
        lambda link: link[1] + files.get(link[2], "../index.html"),
        text,
    )


def parameter_rows(cells: list[NotebookNode]) -> list[dict[str, str]]:
    """Return name, value, default and meaning of every parameter, as HTML.

    Those that differ from their default come first.
    """
    tagged = {tag: c for c in cells for tag in c.metadata.get("tags", [])}
    if "parameters" not in tagged:
        return []
    source = tagged["parameters"].source
    values = _assigned(tagged.get("injected-parameters", {"source": ""})["source"])
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    rows = []
    for name, (default, line) in _assigned(source).items():
        value = values.get(name, (default, 0))[0]
        row = {"name": name, "value": value, "default": default}
        row["meaning"] = comments.get(line, "")
        rows.append({key: html.escape(text) for key, text in row.items()})
    return sorted(rows, key=lambda row: row["value"] == row["default"])


def _assigned(source: str) -> dict[str, tuple[str, int]]:
    """Return {name: (value as code, its last line)} of the source's assignments."""
    found = {}
    for node in ast.parse(source).body:
        if not isinstance(node, (ast.Assign, ast.AnnAssign)) or node.value is None:
            continue
        target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
        if isinstance(target, ast.Name):
            found[target.id] = (ast.unparse(node.value), node.end_lineno or 0)
    return found


def _output(output: NotebookNode, renderer: PageRenderer, where: str) -> str:
    if output.output_type == "stream":
        return f'<pre class="stream">{ansi2html(output.text)}</pre>'
    if output.output_type == "error":
        lines = "\n".join(output.traceback)
        return f'<pre class="stream error">{ansi2html(lines)}</pre>'
    data = output.data
    for kind in ("text/html", "image/svg+xml"):
        if kind in data:
            if re.search(r"<img(?![^>]*\salt=)", data[kind]) or "svg" in kind:
                break
            return data[kind]
    if any(kind.startswith("image/") or kind == "text/html" for kind in data):
        raise CommonCanvasError(
            f"{where} shows a picture without alt text; every picture is described."
            " Show it by commoncanvas.analysis.figures."
        )
    if "text/markdown" in data:
        return prose(data["text/markdown"], renderer)
    return f'<pre class="stream">{html.escape(data.get("text/plain", ""))}</pre>'


def _mark_checks(text: str, checks: dict[str, int]) -> str:
    for sign, kind in (("✓", "yes"), ("✗", "no")):
        found = text.count(f"<td>{sign}</td>")
        checks["total"] += found
        checks["passed"] += found if kind == "yes" else 0
        text = text.replace(f"<td>{sign}</td>", f'<td class="{kind}">{sign}</td>')
    return text


def _unique_ids(text: str, prefix: str, taken: set[str]) -> str:
    own = set(re.findall(r'<[^>]*\sid="([^"]+)"', text))
    for identity in sorted(own & taken):
        new, old = free(f"{prefix}-{identity}", taken), re.escape(identity)
        pattern = rf'(\sid="|href="#|url\(#){old}(?=["\)])'
        text = in_tags(text, pattern, rf"\g<1>{new}")
    taken |= own
    return text


def _provenance(
    path: Path, slug: str, variant: str | None, scale: str
) -> list[tuple[str, str]]:
    rows = [("Executed notebook", sha256_of(path)[:12])]
    if (source := paths.NOTEBOOKS / f"{slug}.ipynb").is_file():
        rows.insert(0, (f"Notebook {slug}", sha256_of(source)[:12]))
    frozen = slug.startswith("00_")
    folder = paths.PRETRAINED if frozen else paths.stage_dir(scale, slug, variant)
    if frozen and not (folder / NAME).is_file():
        return rows
    manifest = read_manifest(folder, verify=False)
    rows.append((f"Output {shown(folder)}", sha256_of(folder / NAME)[:12]))
    inputs = manifest["facts"].get("inputs", {})
    named = inputs.items() if isinstance(inputs, dict) else []
    return rows + [(f"Input {name}", str(digest)[:12]) for name, digest in named]
