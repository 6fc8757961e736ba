"""The public summary of training content that the EU's AI Act asks for.

Numbers and lists are filled in from the ledger; what only a person can say, each yes
or no among it, comes from a file that a person fills, and is called open until then.
Nothing is inferred: that works lie on many hosts is no answer to "were crawlers used?".
The ledger's are the works that the UNet learnt from; what its other parts learnt from
is told beside them, since a release holds them too.
Source: AI Act, Article 53(1)(d); the Commission's template of 24 July 2025.
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from commoncanvas.analysis import tables
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.text import is_seen, markdown_text
from commoncanvas.licenses import takedown
from commoncanvas.release import inherited
from commoncanvas.release.credited import (
    by_domain,
    by_source,
    captioners_of,
    dates_of,
)
from commoncanvas.release.inherited import STARTED_FROM, Part, parts_of
from commoncanvas.release.questions import SECTIONS, TITLE, items

LARGE = 0.03  # share of the modality's data from which a set is listed by name
DOMAINS = 1000  # of the works' pages, listed at most
BANDS = {
    "image": (
        (1e6, "less than 1 million images"),
        (1e9, "1 million to 1 billion images"),
        (float("inf"), "more than 1 billion images"),
    ),
    "text": (
        (1e9, "less than 1 billion tokens"),
        (1e13, "1 billion to 10 trillion tokens"),
        (float("inf"), "more than 10 trillion tokens"),
    ),
}
CHAPTERS = {
    "1": "General information",
    "2": "List of data sources",
    "3": "Data processing aspects",
}


def from_ledger(
    works: pd.DataFrame, scale: str, variant: str, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the ledger and the release's manifest say, {key: text or rows}."""
    sets = by_source(works)
    bound = facts["max_tokens"] * len(works) * len(captioners_of(facts))
    images = f"{_band('image', len(works))}: {len(works):,}"
    words = f"{_band('text', bound)}: {bound:,} at most"
    kinds = ", ".join(one["name"] for one in sets[:20])
    rows = [
        {
            "set": one["name"],
            "link": one["link"],
            "modality": "image",
            "works": one["works"],
            "share": f"{one['share']:.1%}",
            "licences": ", ".join(title for title, *_ in one["licenses"]),
        }
        for one in sets
    ]
    licenses = works.groupby("license").size().sort_values(ascending=False)
    parts = parts_of(facts)
    num_listed = len(takedown.read_list())
    return {
        "model": f"{variant} at {scale}, UNet {facts['unet'][:12]}",
        "dependencies": [
            {
                "part": part.role,
                "model": part.name,
                "trained by": "this project" if part.sets else "others",
            }
            for part in parts
        ],
        "modalities": [
            {"modality": "image", "size": images, "content": f"works of {kinds}"},
            {"modality": "text", "size": words, "content": "captions of the works"},
            *_parts_modalities(parts),
            {"modality": "audio", "size": "none", "content": ""},
            {"modality": "video", "size": "none", "content": ""},
        ],
        "dates_seen": dates_of(works["date_seen"]),
        "characteristics": [
            {"licence": title, "works": num} for title, num in licenses.items()
        ],
        "large_sets": rows_of(rows, sets, True),
        "other_sets": rows_of(rows, sets, False) or "none",
        "part_sets": _part_sets(parts) or "none: no other part is known",
        "domains": [
            {"domain": host, "works": num} for host, num in by_domain(works)[:DOMAINS]
        ],
        "captioners": [
            {"caption source": source, "captioner": name}
            for source, name in captioners_of(facts).items()
        ],
        "reservations": "The UNet was trained only on works whose source states an "
        f"open licence for each ({', '.join(licenses.index)}); a work without one was "
        "rejected. Works that were to be taken down are left out; the list has "
        f"{num_listed} entries. " + inherited.told(parts),
    }  # fmt: skip


def _parts_modalities(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return what the parts of this project's own learnt from, by modality."""
    found = []
    for modality, what, own in (
        ("image", "drawings", [part for part in parts if part.sets]),
        ("text", "names of drawings", [p for p in parts if p.reads_names]),
    ):
        if own:
            content = f"{what} of web icon sets, named in 2.1, for {_roles(own)}"
            found.append(
                {"modality": modality, "size": "not recorded", "content": content}
            )
    return found


def _roles(parts: Sequence[Part]) -> str:
    """Return the roles of parts, as text; captioners are one."""
    return " and ".join(dict.fromkeys(part.role.partition(",")[0] for part in parts))


def _part_sets(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Return the sets that the parts learnt from, one a row; of others' what is known.

    How many drawings were taken of each, and when it was packed, is not in a release.
    """
    own = [part for part in parts if part.sets]
    modality = "image, text" if any(part.reads_names for part in own) else "image"
    rows = [
        {
            "set": f"{one.name} {one.version}",
            "link": one.link,
            "modality": modality,
            "licences": one.license,
            "part": _roles(own),
        }
        for one in (own[0].sets if own else ())
    ]
    others = [f"{part.role}, {part.name}" for part in parts if not part.sets]
    others += [
        f"{_roles([part])}, which starts from {STARTED_FROM}"
        for part in own
        if part.reads_names
    ]
    stated = "stated by its authors"
    return rows + [
        {"set": stated, "link": "", "modality": "", "licences": stated, "part": part}
        for part in others
    ]


def check_against(
    answers: Mapping[str, str], facts: Mapping[str, Any], date: str
) -> None:
    """Refuse answers that the release itself, or the calendar, contradicts.

    Args:
        facts: of the release's manifest.
        date: of publication, ISO.

    Raises:
        ParameterError: machine captions are called none, or data were acquired after
            the summary.
    """
    machines = [part for part in parts_of(facts) if part.role.startswith("captioner")]
    if machines and answers.get("synthetic_data") == "no":
        raise ParameterError(
            f"synthetic_data is no, and {machines[0].name} wrote captions that the "
            "model was trained on; expected yes; correct it, or leave it empty."
        )
    latest = answers.get("latest_date", "")
    month = "-".join(reversed(latest.split("/"))) if "/" in latest else latest
    if month > date[: len(month)]:
        raise ParameterError(
            f"latest_date is {latest}, and the summary is of {date}; expected no later "
            "day; correct it, or leave it empty."
        )


def rows_of(
    rows: Sequence[dict[str, Any]], sets: Sequence[Mapping[str, Any]], is_large: bool
) -> list[dict[str, Any]]:
    """Return the rows of the sets that have, or have not, `LARGE` of the works."""
    pairs = zip(rows, sets, strict=True)
    return [row for row, one in pairs if (one["share"] >= LARGE) == is_large]


def _band(modality: str, num: float) -> str:
    return next(name for end, name in BANDS[modality] if num < end)


def summarise(
    ledger: Mapping[str, Any], answers: Mapping[str, str], date: str
) -> dict[str, Any]:
    """Return the summary: every field with its answer, who gave it, and what is open.

    A field has asked, answer and by ("ledger", "person", or None where it is open or
    was not to be asked); where both speak, the ledger's is in from_ledger.
    """
    sections, open_ = [], []
    for title, section in SECTIONS.items():
        fields = {}
        for item in section:
            told, known = answers.get(item.key), ledger.get(item.key)
            answer = told if told is not None else known
            by = "person" if told is not None else "ledger" if known else None
            fields[item.key] = {"asked": item.asked, "answer": answer, "by": by}
            if told is not None and known is not None:
                fields[item.key]["from_ledger"] = known
            is_asked = not item.after or answers.get(item.after) == "yes"
            if answer is None and is_asked and not item.optional:
                open_.append(item.key)
        sections.append({"section": title, "fields": fields})
    dt.date.fromisoformat(date)
    return {
        "template": "AI Act, Article 53(1)(d), template of July 2025",
        "version": "1",
        "last_update": date,
        "is_complete": not open_,
        "open": open_,
        "sections": sections,
    }


def as_markdown(summary: Mapping[str, Any]) -> str:
    """Return the summary under the template's headings, strangers' words escaped."""
    lines = [f"# {TITLE}", "", f"Version {summary['version']} of the summary, last "]
    lines[-1] += f"update {summary['last_update']}. {summary['template']}."
    if summary["open"]:
        lines += ["", f"**Not complete.** {len(summary['open'])} answers of a person "]
        lines[-1] += f"are open: {', '.join(f'`{key}`' for key in summary['open'])}."
    chapter, optional = "", {item.key for item in items() if item.optional}
    for section in summary["sections"]:
        title = section["section"]
        if title[0] != chapter:
            chapter = title[0]
            lines += ["", f"## {chapter}. {CHAPTERS[chapter]}"]
        lines += ["", f"### {title}"]
        for key, field in section["fields"].items():
            told, is_open = field["answer"], key in summary["open"]
            is_asked = is_open or told is not None or key in optional
            if is_asked:
                lines += ["", f"#### {field['asked']}", "", _shown(told, is_open)]
            if "from_ledger" in field:
                lines += ["", "By the ledger:", "", _shown(field["from_ledger"], False)]
    return "\n".join(lines) + "\n"


def _shown(told: Any, is_open: bool) -> str:
    if is_open:
        return "*Open: a person has not answered.*"
    if told is None:
        return "–"
    if isinstance(told, list):
        cells = [
            [f"{c:,}" if isinstance(c, int) else markdown_text(c) for c in row.values()]
            for row in told
        ]
        return tables.table(list(told[0]), cells)
    # A line stays a line: a backslash breaks one, an empty one begins a paragraph.
    paragraphs: list[list[str]] = [[]]
    for line in str(told).splitlines():
        if is_seen(line):
            paragraphs[-1].append(markdown_text(line))
        else:
            paragraphs.append([])
    return "\n\n".join("\\\n".join(lines) for lines in paragraphs if lines)
