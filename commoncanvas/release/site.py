"""A finished run's pages as a static site, small enough for git.

`commoncanvas site --scale full` copies the front page and the pages of the experiment's
rows, as they were built, into `results/full/site`; pages of other seeds are left out,
and what led to them becomes plain text or is left out. Any static host can serve the
folder.
"""

import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from commoncanvas.core import paths
from commoncanvas.core.errors import CommonCanvasError
from commoncanvas.core.files import shown, write_text
from commoncanvas.core.settings import names_of
from commoncanvas.release.folders import swapping

MAX_BYTES = 12_000_000
ABSENT = "These pages were kept without this one"
FRONT = "index.html"
# An executed notebook's page is named `05_evaluate-cc_human-18`: stage, row, seed.
ROW = re.compile(r"^\d\d_[a-z]+-(?P<row>\w+?)(?P<seed>-\d+)?$")
LINK = re.compile(
    r"<a\b[^>]*?\bhref=\"(?P<href>[^\"]*)\"[^>]*>(?P<words>.*?)</a>", re.S
)
ROWS = re.compile(r'<nav class="siblings".*?</nav>', re.S)  # links to a stage's rows
ELSEWHERE = re.compile(r"^([a-z]+:|//|#)", re.IGNORECASE)


def write_site(
    scale: str, rows: Sequence[str] = (), out: Path | None = None
) -> tuple[Path, int]:
    """Write a run's pages as a site, which replaces an earlier one.

    Args:
        scale: whose pages lie in reports/html, the front page too.
        rows: of the experiment; none of them for all.
        out: a folder; None is `results/<scale>/site`.

    Returns:
        The folder, and the bytes of its files.

    Raises:
        CommonCanvasError: the pages are not there, the front page is of another scale,
            a row has no page, or the site would have more than 12 MB. Nothing is
            written then.
    """
    out = out or paths.RESULTS / scale / "site"
    pages = _pages(scale, rows)
    texts = {name: path.read_text(encoding="utf-8") for name, path in pages.items()}
    files = {name: _unlinked(name, text, {*texts}) for name, text in texts.items()}
    size = sum(len(text.encode()) for text in files.values())
    if size > MAX_BYTES:
        raise CommonCanvasError(
            f"the site would have {size / 1e6:.1f} MB; at most {MAX_BYTES / 1e6:.0f} "
            "are kept; name fewer rows with --rows."
        )
    with swapping(out) as folder:
        for name, text in files.items():
            write_text(folder / name, text)
    return out, size


def _pages(scale: str, rows: Sequence[str]) -> dict[str, Path]:
    """Return {name in the site: file} of the pages that it holds, the front page first.

    Raises: CommonCanvasError as `write_site`.
    """
    front = paths.HTML / FRONT
    found = {path.stem: path for path in sorted((paths.HTML / scale).glob("*.html"))}
    if not front.is_file() or not found:
        raise CommonCanvasError(
            f"{shown(paths.HTML)} lacks {FRONT} or pages of {scale}; a site is made of "
            f"them; run `commoncanvas repro index@{scale}`."
        )
    if f'href="{scale}/' not in front.read_text(encoding="utf-8"):
        raise CommonCanvasError(
            f"{shown(front)} is of another scale than {scale}; run `commoncanvas index "
            f"--scale {scale}`."
        )
    rows_of = {stem: found_row for stem in found if (found_row := ROW.match(stem))}
    known = {one["row"] for one in rows_of.values() if not one["seed"]}
    if unknown := {*rows} - known:
        raise CommonCanvasError(
            f"there is no page of {names_of(unknown)}; {scale} has those of "
            f"{names_of(known)}."
        )
    wanted = {*rows} or known
    kept = {
        f"{scale}/{path.name}": path
        for stem, path in found.items()
        if stem not in rows_of
        or (rows_of[stem]["row"] in wanted and not rows_of[stem]["seed"])
    }
    return {FRONT: front, **kept}


def _unlinked(name: str, text: str, names: set[str]) -> str:
    """Turn links to pages that are not in the site into their words.

    Among the rows of a stage they are left out, since nothing but links stands there.
    """
    here = posixpath.dirname(name)

    def is_kept(href: str) -> bool:
        path = posixpath.join(here, unquote(href.partition("#")[0]))
        return bool(ELSEWHERE.match(href)) or posixpath.normpath(path) in names

    def kept(link: re.Match[str]) -> str:
        if is_kept(link["href"]):
            return link[0]
        return f'<span class="absent" title="{ABSENT}">{link["words"]}</span>'

    def kept_rows(rows: re.Match[str]) -> str:
        return LINK.sub(lambda row: row[0] * is_kept(row["href"]), rows[0])

    return LINK.sub(kept, ROWS.sub(kept_rows, text))


def report(scale: str, rows: str, out: Path | None) -> None:
    """Write the site and say where it is and how large.

    Args:
        rows: names with commas between; "" for all of the experiment.
    """
    folder, size = write_site(scale, [name for name in rows.split(",") if name], out)
    print(f"{shown(folder)}: {size / 1e6:.1f} MB")
