"""What an audit of a source found: a few tables on the terminal, and a page."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from commoncanvas.analysis import figures, plots
from commoncanvas.catalog import audit as auditing
from commoncanvas.catalog.audit import Audit
from commoncanvas.core.images import stored_pixels
from commoncanvas.core.templates import assets, page_template
from commoncanvas.core.text import markdown_text, printable

SPLIT_NAMES = {
    "c": "C: open to commercial use and adaptation",
    "nc": "NC: non-commercial only",
    "nd": "ND: no derivatives, never trained on",
    "rejected": "rejected, each with its reason",
}
TILE_PX = 96


def as_markdown(found: Audit) -> str:
    """Return the audit as Markdown that shows strangers' words as text."""
    parts = [f"# {printable(found.source)}", "", summary(found), ""]
    for title, head, rows in _tables(found):
        # Names stand first, and may be strangers'; numbers are ours.
        texts = [
            [markdown_text(name), *(plots.as_text(cell, 3) for cell in others)]
            for name, *others in rows
        ]
        lines = [head, ["---"] * len(head), *texts]
        parts += [f"## {title}", "", *(f"| {' | '.join(x)} |" for x in lines), ""]
    return "\n".join(parts)


def summary(found: Audit) -> str:
    """Say in a few sentences what matters most."""
    kept = found.splits["c"] + found.splits["nc"]
    owed = found.credits[auditing.SUFFICIENT]
    lacking = sum(n for why, n in found.credits.items() if why.startswith("lacks"))
    lines = [
        f"{found.rows:,} rows; {kept:,} ({_share(kept, found.rows)}) may be trained "
        f"on, {found.splits['c']:,} of them for every use."
    ]
    if owed + lacking:
        lines.append(
            f"Where the licence asks for a credit, it suffices for {owed:,} of "
            f"{owed + lacking:,} works ({_share(owed, owed + lacking)})."
        )
    if found.repeated:
        lines.append(f"{found.repeated:,} rows have the key of an earlier one.")
    return " ".join([*lines, copies_in_words(found)])


def copies_in_words(found: Audit) -> str:
    """Say how many pictures copy an earlier one, or that none was compared."""
    copies = found.copies
    if not copies.num_compared:
        return "No picture was compared: none lies here, or none was asked for."
    lost = sum(copies.unreadable.values())
    return (
        f"Of {copies.num_compared:,} pictures, {copies.exact:,} are exact copies of "
        f"an earlier one and {copies.near:,} exact or near copies; {lost:,} more "
        "cannot be drawn."
    )


def as_page(found: Audit) -> str:
    """Return the audit as one HTML page that needs nothing else."""
    rendered = [
        {"title": title, "html": Markup(_html(head, rows))}
        for title, head, rows in _tables(found)
    ]
    return page_template("audit.html.j2").render(
        assets={name: Markup(text) for name, text in assets().items()},
        source=printable(found.source),
        summary=summary(found),
        bars=[Markup(html) for html in _bars(found)],
        tables=rendered,
        pictures=Markup(_sheet(found)),
    )


def _tables(found: Audit) -> Iterator[tuple[str, list[str], list[tuple[Any, ...]]]]:
    """Yield title, head and rows of each table; every count has its share."""

    def counted(counts: Mapping[str, int], most: int = 12) -> list[tuple[Any, ...]]:
        listed = auditing.shares(Counter(counts), most)
        return [(name, n, _share(n, found.rows)) for name, n in listed]

    splits = {SPLIT_NAMES[s]: found.splits[s] for s in auditing.SPLITS}
    rows = [(name, n, _share(n, found.rows)) for name, n in splits.items()]
    yield "What the rows may be used for", ["split", "rows", "share"], rows
    licences = sorted(found.licenses.items(), key=lambda item: (-item[1], item[0]))
    read: list[tuple[Any, ...]] = []
    for (title, split), n in licences[:30]:
        use = SPLIT_NAMES[split].partition(":")[0].partition(",")[0]
        read.append((title, use, n, _share(n, found.rows)))
    yield "Licences, as read", ["licence", "split", "rows", "share"], read
    yield "Versions of licences", ["version", "rows", "share"], counted(found.versions)
    yield "Credits", ["credit", "rows", "share"], counted(found.credits)
    yield (
        "Whose words the captions are",
        ["captioner", "rows", "share"],
        counted(found.whose),
    )
    if found.reasons:
        head = ["reason", "rows", "share"]
        yield "Why rows were rejected", head, counted(found.reasons, 20)
    if found.copies.unreadable:
        head = ["reason", "pictures", "share"]
        yield "Pictures that cannot be drawn", head, counted(found.copies.unreadable)


def _html(head: list[str], rows: list[tuple[Any, ...]]) -> str:
    return str(figures.table(pd.DataFrame(rows, columns=head)).data)


def _bars(found: Audit) -> Iterator[str]:
    names = [SPLIT_NAMES[split] for split in auditing.SPLITS]
    counts = [found.splits[split] for split in auditing.SPLITS]
    alt = "Number of rows by what they may be used for"
    yield str(plots.bars(names, {"here": counts}, alt, alt, x_label="rows").data)
    for counter, alt in (
        (found.credits, "Number of rows by whether their credit suffices"),
        (found.whose, "Number of rows by who wrote their caption"),
    ):
        listed = auditing.shares(counter, 8)
        labels = [name[:60] for name, _ in listed]
        values = {"here": [number for _, number in listed]}
        yield str(plots.bars(labels, values, alt, alt, x_label="rows").data)


def _sheet(found: Audit) -> str:
    tiles = [stored_pixels(one.picture, TILE_PX) for one in found.shown]
    labels = [(printable(one.credit)[:90], one.license) for one in found.shown]
    alt = "The first works that are kept, each with its credit and licence"
    return str(figures.sheet(tiles, labels, columns=6, alt=alt, caption=alt).data)


def _share(number: int, whole: int) -> str:
    return f"{100 * number / whole:.1f} %" if whole else "–"
