"""What an audit of a source found: plain tables on the terminal, and a page."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup, escape

from commoncanvas.analysis import figures
from commoncanvas.catalog import audit as auditing
from commoncanvas.catalog.audit import Audit
from commoncanvas.core.images import stored_pixels
from commoncanvas.core.templates import assets, page_template
from commoncanvas.core.text import printable

SPLIT_NAMES = {
    "c": "C: open to commercial use and adaptation",
    "nc": "NC: non-commercial only",
    "nd": "ND: no derivatives, never trained on",
    "rejected": "rejected, each with its reason",
}
TILE_PX = 96
BREAKS = re.compile(r"(?<=[/:,=])")  # where a long source may go on in the next line


@dataclass
class Table:
    """Counts by name; `aside` is a second column of words, such as keys of rows."""

    title: str
    name: str  # of what is counted, the head of its column
    rows: list[tuple[str, str, int]]  # name, aside, count
    whole: int  # of which the shares are
    aside: str = ""
    note: str = ""
    lines: list[dict[str, Any]] = field(init=False)  # as they are shown

    def __post_init__(self) -> None:
        self.lines = [
            {
                "name": printable(name),
                "aside": printable(aside),
                "number": f"{count:,}",
                "share": _share(count, self.whole),
                "percent": f"{100 * count / self.whole:.1f}" if self.whole else "0",
            }
            for name, aside, count in self.rows
        ]


def as_text(found: Audit) -> str:
    """Return the audit for a terminal; strangers' words steer nothing there."""
    parts = [printable(found.source), "", summary(found)]
    for table in _tables(found):
        parts += ["", table.title, *([f"({table.note})"] if table.note else [])]
        widest = max(len(line["number"]) for line in table.lines)
        for line in table.lines:
            aside = f"  [{line['aside']}]" if line["aside"] else ""
            number = line["number"].rjust(widest)
            parts.append(f"  {number} {line['share']:>8}  {line['name']}{aside}")
    return "\n".join(parts)


def summary(found: Audit) -> str:
    """Say in a few sentences what matters most."""
    kept = _kept(found)
    owed = found.credits[auditing.SUFFICIENT]
    lacking = sum(n for why, n in found.credits.items() if why.startswith("lacks"))
    lines = [
        f"{found.rows:,} rows; {kept:,} ({_share(kept, found.rows)}) may be trained "
        f"on, {found.splits['c']:,} of them for every use."
    ]
    if lost := found.allowed - kept:
        lines.append(
            f"Licence and credit allow {found.allowed:,}, {lost:,} of them without a "
            "picture here that can be opened."
        )
    if owed + lacking:
        lines.append(
            f"Where the licence asks for a credit, it suffices for {owed:,} of "
            f"{owed + lacking:,} works ({_share(owed, owed + lacking)})."
        )
    return " ".join([*lines, copies_in_words(found)])


def copies_in_words(found: Audit) -> str:
    """Say how many pictures were looked at and copy an earlier one."""
    copies = found.copies
    if not found.is_looked_at:
        return "No picture was looked at, as none was asked for."
    if not copies.num_looked:
        return "No picture was looked at: none of a usable row lies here."
    opened = copies.num_opened
    start = f"Pictures looked at: {copies.num_looked:,}; {opened:,} could be opened"
    if not opened:
        return f"{start}."
    if not copies.exact + copies.near:
        return f"{start}, and none copies an earlier one."
    return (
        f"{start}. Exact copies of an earlier picture: {copies.exact:,}; near copies: "
        f"{copies.near:,}."
    )


def as_page(found: Audit) -> str:
    """Return the audit as one HTML page that needs nothing else."""
    parts = map(escape, BREAKS.split(printable(found.source)))
    return page_template("audit.html.j2").render(
        assets={name: Markup(text) for name, text in assets().items()},
        source=printable(found.source),
        broken=Markup("<wbr>").join(parts),
        rows=f"{found.rows:,}",
        kept=f"{_kept(found):,}",
        summary=summary(found),
        tables=list(_tables(found)),
        pictures=Markup(_sheet(found)) if found.shown else "",
    )


def _tables(found: Audit) -> Iterator[Table]:
    def counted(
        title: str, name: str, counts: Mapping[str, int], most: int = 12, **words: str
    ) -> Table:
        listed = auditing.shares(Counter(counts), most)
        rows = [(one, _keys(found, one), n) for one, n in listed]
        return Table(title, name, rows, found.rows, **words)

    splits = [(SPLIT_NAMES[s], "", found.splits[s]) for s in auditing.SPLITS]
    yield Table("What the rows may be used for", "split", splits, found.rows)
    if found.reasons:
        # Second, since it is what somebody can mend.
        title, aside = "Why rows were rejected", "for example"
        yield counted(title, "reason", found.reasons, 20, aside=aside)
    licences = sorted(found.licenses.items(), key=lambda item: (-item[1], item[0]))
    read = []
    for (title, split), n in licences[:30]:
        use = SPLIT_NAMES[split].partition(":")[0].partition(",")[0]
        read.append((title, use, n))
    yield Table("Licences, as read", "licence", read, found.rows, "split")
    yield counted("Versions of licences", "version", found.versions)
    yield counted("Credits", "credit", found.credits)
    note = ""
    if (words := found.whose.total()) > found.rows:
        note = (
            "Rows with words by their author and a caption by somebody else are "
            f"counted twice: {words - found.rows:,}."
        )
    title = "Whose words the captions are"
    yield counted(title, "captioner", found.whose, note=note)
    copies = found.copies
    if copies.num_looked:
        pictures = [
            ("could be opened", "", copies.num_opened),
            ("exact copies of an earlier one", _pairs(copies.exact_keys), copies.exact),
            ("near copies of an earlier one", _pairs(copies.near_keys), copies.near),
        ]
        title, aside = "Pictures looked at", "for example"
        yield Table(title, "pictures", pictures, copies.num_looked, aside)


def _keys(found: Audit, reason: str) -> str:
    """Return the first rows of a reason, with an ellipsis if there are more."""
    keys = found.keys.get(reason, [])
    return _listed(keys, found.reasons[reason] > len(keys))


def _pairs(keys: Iterable[tuple[str, str]]) -> str:
    return _listed(f"{copy} of {first}" for copy, first in keys)


def _listed(keys: Iterable[str], has_more: bool = False) -> str:
    return ", ".join([*keys, *(["…"] if has_more else [])])


def _sheet(found: Audit) -> str:
    tiles = [stored_pixels(one.picture, TILE_PX) for one in found.shown]
    labels = [(printable(one.credit)[:90], one.license) for one in found.shown]
    alt = "The first works that are kept, each with its credit and licence"
    return str(figures.sheet(tiles, labels, columns=6, alt=alt, caption=alt).data)


def _kept(found: Audit) -> int:
    return sum(found.splits[split] for split in auditing.TRAINED)


def _share(number: int, whole: int) -> str:
    return f"{100 * number / whole:.1f} %" if whole else "–"
