"""Texts beside the chapters: documents of `docs/` as pages, and whom works are owed to.

They lie in the folder of a scale's pages, so that a folder of pages is complete.
"""

import re
import shutil
from html import escape
from typing import Any

import pandas as pd
from markupsafe import Markup

from commoncanvas.core import paths
from commoncanvas.core.files import writing
from commoncanvas.core.templates import page_template
from commoncanvas.core.text import is_page
from commoncanvas.publish.links import Places, with_links
from commoncanvas.publish.markdown import PageRenderer, prose

# Document -> its page.
DOCUMENTS = {
    "DEVIATIONS.md": "deviations.html",
    "CLAIMS.md": "claims.html",
    "GLOSSARY.md": "glossary.html",
}
# Page -> what the index says of it.
ABOUT = {
    "claims.html": ("Claims", "what the paper says, and how each claim is tested"),
    "deviations.html": ("Deviations", "where this differs from the paper, and why"),
    "glossary.html": ("Glossary", "words that are ours, or mean something special"),
    "attribution.html": ("Attribution", "every work by set, author and licence"),
    "review.html": ("Review of captions", "judge captions by hand; votes are exported"),
    "preference.html": ("Which do you like better?", "vote on pairs of samples"),
}
# Pages that stages wrote for people, copied beside the chapters.
FOR_PEOPLE = {"review.html": "02_captions", "preference.html": "06_figures"}
LEDGER = "ledger.parquet"
MOST = 12_000  # works of one set on a page; the ledger holds all
DEVIATION = re.compile(r"^\| (D\d+) \| (.+?) \|", re.MULTILINE)


def places_of(scale: str) -> Places:
    """Return where the words of a scale's chapters lead."""
    file, deviations = paths.DOCS / "DEVIATIONS.md", {}
    if file.is_file():
        rows = DEVIATION.findall(file.read_text(encoding="utf-8"))
        deviations = {name: re.sub(r"[`*]", "", what) for name, what in rows}
    files = {f"docs/{name}": page for name, page in DOCUMENTS.items()}
    files = {name: page for name, page in files.items() if _has(name)}
    if "docs/CLAIMS.md" in files:
        files["docs/paper.yaml"] = files["docs/CLAIMS.md"]
    for name, slug in FOR_PEOPLE.items():
        if (paths.stage_dir(scale, slug) / name).is_file():
            files[name] = name
    if (paths.stage_dir(scale, "01_licenses") / LEDGER).is_file():
        files["attribution.html"] = "attribution.html"
    return Places("../index.html", deviations, files)


def texts_of(scale: str) -> list[dict[str, str]]:
    """Return title, what it is and address of the texts of a scale, for the index."""
    return [
        {"title": title, "what": what, "href": f"{scale}/{name}"}
        for name, (title, what) in ABOUT.items()
        if (paths.HTML / scale / name).is_file()
    ]


def text_pages(scale: str, assets: dict[str, Any]) -> dict[str, str]:
    """Return {file name: HTML} of documents and attribution, where they exist."""
    places = places_of(scale)
    pages = {}
    for name, file in DOCUMENTS.items():
        if _has(f"docs/{name}"):
            pages[file] = _document(name, places, assets)
    ledger = paths.stage_dir(scale, "01_licenses") / LEDGER
    if ledger.is_file():
        pages |= _attribution(pd.read_parquet(ledger).fillna(""), scale, assets)
    return pages


def copy_for_people(scale: str) -> None:
    """Copy the pages on which people vote beside the chapters."""
    for name, slug in FOR_PEOPLE.items():
        source = paths.stage_dir(scale, slug) / name
        if source.is_file():
            target = paths.HTML / scale / name
            with writing(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)


def _has(name: str) -> bool:
    return (paths.DOCS / name.removeprefix("docs/")).is_file()


def _document(name: str, places: Places, assets: dict[str, Any]) -> str:
    """Return a document as a page; links between documents lead to their pages."""
    text = (paths.DOCS / name).read_text(encoding="utf-8")
    heading, _, rest = text.partition("\n")
    renderer = PageRenderer({"main"})
    body = with_links(_between_documents(prose(rest, renderer)), places)
    # A deviation's row, and a claim's heading, are what other pages link to.
    body = re.sub(
        r"<td>(?:<a[^>]*>)?(D\d+)(?:</a>)?</td>",
        lambda row: f'<td id="{row[1].lower()}">{row[1]}</td>',
        body,
    )
    return _page(heading.lstrip("# "), body, renderer.headings, assets)


def _between_documents(body: str) -> str:
    """Lead links to other documents to their pages; without one, leave the words."""

    def led(link: re.Match[str]) -> str:
        href, words = link[1], link[2]
        file, _, anchor = href.partition("#")
        if re.match(r"\w+:", href) or not file:
            return link[0]
        page = DOCUMENTS.get(file)
        if not page or not _has(f"docs/{file}"):
            return words
        return f'<a href="{page}{"#" + anchor if anchor else ""}">{words}</a>'

    return re.sub(r'<a href="([^"]*)"[^>]*>(.*?)</a>', led, body, flags=re.DOTALL)


def _attribution(
    ledger: pd.DataFrame, scale: str, assets: dict[str, Any]
) -> dict[str, str]:
    """Return the attribution: contents by set, and a page of works for each set."""
    pages, rows = {}, []
    for source, works in ledger.groupby("source"):
        name = f"attribution-{re.sub(r'[^A-Za-z0-9-]+', '-', str(source))}.html"
        authors, licenses = (works[column].unique() for column in ("author", "license"))
        who = escape(authors[0]) if len(authors) == 1 else f"{len(authors):,} authors"
        rows.append(
            f'<tr><th scope="row"><a href="{name}">{escape(str(source))}</a></th>'
            f"<td>{who}</td><td>{escape(', '.join(sorted(licenses)))}</td>"
            f'<td class="number">{len(works):,}</td></tr>'
        )
        body = '<p><a href="attribution.html">All sets</a></p>' + _works(works)
        pages[name] = _page(f"Attribution: {source}", body, [], assets)
    head = "".join(f'<th scope="col">{h}</th>' for h in ("Set", "By", "Licence"))
    table = (
        f'<div class="cc-table"><table><thead><tr>{head}<th scope="col" class="number">'
        f"Works</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
    lede = (
        f"<p>The {len(ledger):,} works that models of scale <b>{escape(scale)}</b> may "
        "be trained on, by the set that they come from. The whole ledger is "
        f"<code>ledger.parquet</code> in the data folder of stage 01.</p>"
    )
    pages["attribution.html"] = _page("Attribution", lede + table, [], assets)
    return pages


def _works(works: pd.DataFrame) -> str:
    """Return the works of one set as HTML, by author and licence."""
    parts, left = [], MOST
    columns = ["author", "author_url", "license", "license_url", "changes"]
    for (author, author_url, title, deed, changes), group in works.groupby(columns):
        listed = group.head(max(left, 0))
        left -= len(listed)
        by, under = (
            _linked(author or "an unnamed author", author_url),
            _linked(title, deed),
        )
        parts.append(
            f"<h2>{by}</h2><p>{under}. {escape(changes)} {len(group):,} works.</p>"
        )
        names = zip(listed["title"], listed["source_url"], strict=True)
        items = "".join(f"<li>{_linked(n or 'untitled', url)}</li>" for n, url in names)
        parts.append(f'<ul class="works">{items}</ul>')
        if rest := len(group) - len(listed):
            parts.append(f"<p>{rest:,} more are in ledger.parquet.</p>")
    return "".join(parts)


def _linked(words: str, url: str) -> str:
    if not is_page(url):
        return escape(words)
    return f'<a href="{escape(url)}">{escape(words)}</a>'


def _page(
    title: str, body: str, headings: list[dict[str, str]], assets: dict[str, Any]
) -> str:
    return page_template("text.html.j2").render(
        assets={name: Markup(text) for name, text in assets.items()},
        title=title,
        body=Markup(body),
        headings=headings,
    )
