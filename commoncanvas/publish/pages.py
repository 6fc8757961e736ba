"""One executed notebook as the parts of a page: text, tables, contents, hashes.

Used by `report.py` alone. Markdown is rendered with raw HTML escaped, formulas become
MathML while the page is built, and every id on a page is made unique.
"""

import ast
import html
import io
import re
import tokenize

import nbformat
from latex2mathml.converter import convert
from nbconvert.filters import ansi2html
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from commoncanvas.core import paths
from commoncanvas.core.errors import CommonCanvasError
from commoncanvas.core.files import sha256_of, shown
from commoncanvas.core.manifest import NAME, read_manifest

BASE_VARIANT = "cc_synthetic"
DROPPED = {"injected-parameters", "remove-cell", "papermill-error-cell-tag"}
OWN_IDS = {"main", "provenance"}
RESOURCE = re.compile(
    r"<(?:img|script|link|iframe|source|video|audio|embed|object|image|use)\b"
    r"[^>]*?\s(?:src|srcset|href|data)\s*=\s*[\"']?\s*(?:\w+:)?//",
    re.IGNORECASE,
)


class PageRenderer(IPythonRenderer):
    """Markdown to HTML with unique heading ids, MathML and no raw HTML."""

    def __init__(self, taken):
        super().__init__(
            escape=True, allow_harmful_protocols=False, exclude_anchor_links=True
        )
        self.taken, self.headings = taken, []

    def heading(self, text, level, **attrs):
        """Give a heading an id of its own; `##` headings are the contents."""
        plain = html.unescape(re.sub(r"<[^>]+>", "", text))
        identity = _free(re.sub(r"\W+", "-", plain.lower()).strip("-"), self.taken)
        if level == 2:
            self.headings.append({"id": identity, "text": plain})
        return f'<h{level} id="{identity}">{text}</h{level}>\n'

    def inline_math(self, body):
        """Turn `$…$` into MathML."""
        return _mathml(body, "inline")

    def block_math(self, body):
        """Turn `$$…$$` into MathML on a line of its own."""
        return f'<div class="formula">{_mathml(body, "block")}</div>\n'

    def latex_environment(self, name, body):
        """Turn a LaTeX environment into MathML on a line of its own."""
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")

    def image(self, text, url, title=None):
        """Show a picture only where it lies in the page and is described."""
        if not text or not url.startswith(("data:", "attachment:")):
            raise CommonCanvasError(
                f"a text cell shows the picture {url[:60]!r} with alt text {text!r}; a"
                " page fetches nothing. Show it by commoncanvas.figures."
            )
        return super().image(text, url, title)


def read_page(path, scale):
    """Turn one executed notebook into what the template needs.

    Args:
        path: executed notebook, `NN_slug[-variant].ipynb`.
        scale: name of the profile.

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
    table = parameters_table(notebook.cells)
    cells, checks = [], {"passed": 0, "total": 0}
    rest = nbformat.v4.new_markdown_cell("".join(lede[1:]), id="cell-1-rest")
    for cell in [*([rest] if rest.source else []), *notebook.cells[1:]]:
        tags = set(cell.metadata.get("tags", []))
        if tags & DROPPED:
            continue
        if cell.cell_type == "markdown":
            cell.source = _prose(cell.source, renderer)
        elif "parameters" in tags:
            cell = nbformat.v4.new_markdown_cell(table, id=cell.id)
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
        "lede": _prose(lede[0], renderer),
        "sentence": _first_sentence(lede[0]),
        "headings": renderer.headings,
        "checks": checks,
        "provenance": _provenance(path, slug, variant or None, scale),
    }  # fmt: skip
    return notebook, page


def link_stages(text, files):
    """Lead links between notebooks to pages; a stage without one, to the index.

    Args:
        text: HTML of a page.
        files: {slug: name of the page that stands for the stage}.
    """
    return re.sub(
        r'href="(\d\d_\w+)(?:\.html|\.ipynb)(?=["#])',
        lambda link: f'href="{files.get(link[1], "../index.html")}',
        text,
    )


def parameters_table(cells):
    """Set the parameters cell as a table: name, our value, default, meaning.

    Args:
        cells: cells of an executed notebook.

    Returns:
        HTML; rows whose value differs from the default are marked. Empty without a
        parameters cell.
    """
    tagged = {tag: c for c in cells for tag in c.metadata.get("tags", [])}
    if "parameters" not in tagged:
        return ""
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
        changed = ' class="changed"' if value != default else ""
        rows.append(
            f'<tr{changed}><th scope="row"><code>{name}</code></th><td><code>'
            f"{html.escape(value)}</code></td><td><code>{html.escape(default)}</code>"
            f"</td><td>{html.escape(comments.get(line, ''))}</td></tr>"
        )
    heads = "".join(
        f'<th scope="col">{head}</th>'
        for head in ("Parameter", "Here", "Default", "Meaning")
    )
    return (
        '<div class="cc-table"><table class="parameters"><caption>Parameters of this'
        f" run</caption><thead><tr>{heads}</tr></thead><tbody>{''.join(rows)}</tbody>"
        "</table></div>"
    )


def _assigned(source):
    found = {}
    for node in ast.parse(source).body:
        target = getattr(node, "target", None) or getattr(node, "targets", [None])[0]
        if isinstance(target, ast.Name) and node.value is not None:
            text = ast.unparse(node.value)
            found[target.id] = (text, node.end_lineno)
    return found


def _prose(source, renderer):
    text = MarkdownWithMath(renderer=renderer).render(source)
    for voice in ("Paper", "Here"):
        text = re.sub(
            rf"<p>(?=<strong>{voice} ·)", f'<p class="voice {voice.lower()}">', text
        )
    text = text.replace("<table>", '<div class="cc-table"><table>')
    return text.replace("</table>", "</table></div>")


def _output(output, renderer, where):
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
            " Show it by commoncanvas.figures."
        )
    if "text/markdown" in data:
        return _prose(data["text/markdown"], renderer)
    return f'<pre class="stream">{html.escape(data.get("text/plain", ""))}</pre>'


def _mark_checks(text, checks):
    for sign, kind in (("✓", "yes"), ("✗", "no")):
        found = text.count(f"<td>{sign}</td>")
        checks["total"] += found
        checks["passed"] += found if kind == "yes" else 0
        text = text.replace(f"<td>{sign}</td>", f'<td class="{kind}">{sign}</td>')
    return text


def _unique_ids(text, prefix, taken):
    own = set(re.findall(r'\sid="([^"]+)"', text))
    for identity in sorted(own & taken):
        new, old = _free(f"{prefix}-{identity}", taken), re.escape(identity)
        text = re.sub(rf'(\sid="|href="#|url\(#){old}(?=["\)])', rf"\g<1>{new}", text)
    taken |= own
    return text


def _free(wanted, taken):
    wanted = wanted or "section"
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}-{count}"
    taken.add(name)
    return name


def _mathml(body, display):
    try:
        formula = convert(body.strip(), display=display)
    except Exception:  # latex2mathml raises many kinds, none with a common base
        formula = "\\"
    if "\\" in formula:  # a command that it does not know stays as it was
        raise CommonCanvasError(
            f"the formula {body.strip()!r} cannot be set; LaTeX that latex2mathml"
            " reads is expected. Write it more simply."
        )
    return formula.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")


def _first_sentence(markdown):
    plain = " ".join(re.sub(r"[*`_#]|\[([^]]*)\]\([^)]*\)", r"\1", markdown).split())
    return re.split(r"(?<=[.!?])\s", plain, maxsplit=1)[0]


def _provenance(path, slug, variant, scale):
    rows = [("Executed notebook", sha256_of(path)[:12])]
    if (source := paths.NOTEBOOKS / f"{slug}.ipynb").is_file():
        rows.insert(0, (f"Notebook {slug}", sha256_of(source)[:12]))
    frozen = slug.startswith("00_")
    folder = paths.PRETRAINED if frozen else paths.stage_dir(scale, slug, variant)
    if frozen and not (folder / NAME).is_file():
        return rows
    manifest = read_manifest(folder)
    rows.append((f"Output {shown(folder)}", sha256_of(folder / NAME)[:12]))
    inputs = manifest["facts"].get("inputs", {})
    named = inputs.items() if isinstance(inputs, dict) else []
    return rows + [(f"Input {name}", str(digest)[:12]) for name, digest in named]
