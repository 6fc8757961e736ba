"""The public summary of training content that the EU's AI Act asks for.

Numbers and lists are filled in from the ledger; what only a person can say, each yes
or no among it, comes from a file that a person fills, and is called open until then.
Nothing is inferred: that works lie on many hosts is no answer to "were crawlers used?".
Source: AI Act, Article 53(1)(d); the Commission's template of 24 July 2025.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from commoncanvas.analysis import tables
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.settings import load_yaml
from commoncanvas.core.text import is_page, is_seen, is_whole, markdown_text, printable
from commoncanvas.licenses import takedown
from commoncanvas.release.credited import by_domain, by_source, captioners_of

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


@dataclass(frozen=True)
class Item:
    """One field of the template.

    by: "ledger", "person", or "choice" for a yes or no, which a person says; after: the
    choice that it is asked after, if that is yes; optional: may stay empty.
    """

    key: str
    asked: str
    by: str = "person"
    after: str = ""
    optional: bool = False


SECTIONS: dict[str, list[Item]] = {
    "1.1 Provider identification": [
        Item("provider", "Provider's name and contact details"),
        Item("representative", "Authorised representative's name and contact details"),
    ],
    "1.2 Model identification": [
        Item("model", "Versioned model name(s)", "ledger"),
        Item("page", "Page of the model", optional=True),
        Item("dependencies", "Model dependencies", "ledger"),
        Item("placed_on_market", "Date of placement on the Union market"),
    ],
    "1.3 Modalities, overall training data size and other characteristics": [
        Item("modalities", "Modalities, size and types of content", "ledger"),
        Item("latest_date", "Latest date of data acquisition or collection", "ledger"),
        Item("is_continuous", "Is it trained on new data after that date?", "choice"),
        Item("languages", "Linguistic characteristics of the training data"),
        Item("characteristics", "Other relevant characteristics", "ledger"),
    ],
    "2.1 Publicly available data sets": [
        Item("public_sets", "Were publicly available data sets used?", "choice"),
        Item("large_sets", "Sets with 3 % or more of the works", "ledger"),
        Item("other_sets", "Other sets", "ledger"),
    ],
    "2.2 Private data sets obtained from third parties": [
        Item(
            "licensing_agreements",
            "2.2.1 Were commercial licensing agreements concluded with rightsholders "
            "or their representatives?",
            "choice",
        ),
        Item("licensed_modalities", "Modalities", after="licensing_agreements"),
        Item(
            "private_sets",
            "2.2.2 Were private data sets obtained from other third parties?",
            "choice",
        ),
        Item("private_sets_told", "Their names or description", after="private_sets"),
    ],
    "2.3 Data crawled and scraped from online sources": [
        Item("crawlers", "Were crawlers used by or for the provider?", "choice"),
        Item("crawler_names", "Names and purposes", after="crawlers"),
        Item("crawler_behaviour", "Behaviour of the crawlers", after="crawlers"),
        Item("crawler_period", "Period of collection", after="crawlers"),
        Item("crawled_content", "Content and sources crawled", after="crawlers"),
        Item("domains", "Domains on which the works' pages lie", "ledger"),
    ],
    "2.4 User data": [
        Item(
            "interactions",
            "Were users' interactions with the model used to train it?",
            "choice",
        ),
        Item(
            "other_services",
            "Were data of the provider's other services used to train it?",
            "choice",
        ),
        Item("services", "Which services", after="other_services"),
    ],
    "2.5 Synthetic data": [
        Item(
            "synthetic_data",
            "Was AI-generated data made by or for the provider to train the model?",
            "choice",
        ),
        Item("synthetic_told", "Modalities and models", after="synthetic_data"),
        Item("captioners", "Who wrote the captions", "ledger"),
    ],
    "2.6 Other sources of data": [
        Item("other_sources", "Were other sources of data used?", "choice"),
        Item("other_sources_told", "Description", after="other_sources"),
    ],
    "3.1 Respect of reservations of rights from text and data mining": [
        Item(
            "code_of_practice",
            "Is the provider a signatory of the Code of Practice for general-purpose "
            "AI models?",
            "choice",
        ),
        Item("reservations", "Measures to respect reservations of rights", "ledger"),
    ],
    "3.2 Removal of illegal content": [Item("illegal_content", "Measures taken")],
    "3.3 Other information": [
        Item("other", "Other relevant information", optional=True),
    ],
}
CHAPTERS = {
    "1": "General information",
    "2": "List of data sources",
    "3": "Data processing aspects",
}
CHOICES = {"yes": "yes", "no": "no", "True": "yes", "False": "no"}
SCALARS = (str, int, float, dt.date)  # of YAML; a truth is an int
TITLE = "Public summary of training content"


def items() -> Iterator[Item]:
    """Yield every field of the template."""
    for section in SECTIONS.values():
        yield from section


def read_answers(file: Path | None) -> dict[str, str]:
    """Return what a person answered, {key: text}; choices are yes or no.

    Raises:
        ParameterError: the file is no YAML, has an unknown name, a choice is neither
            yes nor no, or the page is no address of one.
    """
    if file is None:
        return {}
    known = {item.key: item for item in items()}
    answers = {}
    for key, told in load_yaml(file).items():
        if key not in known:
            raise ParameterError(
                f"{file.name} answers {key!r}, which nobody asked; expected some of "
                f"{', '.join(known)}; correct the name."
            )
        if told is None:
            continue
        is_long = (
            isinstance(told, int) and told.bit_length() > 64
        )  # str() may refuse it
        if not isinstance(told, SCALARS) or is_long:
            raise ParameterError(
                f"{file.name}: {key} is a {type(told).__name__}; expected text; write "
                "it in a line, or in several behind a bar."
            )
        if not is_seen(text := str(told).strip()):
            continue
        if not is_whole(text):
            raise ParameterError(
                f"{file.name}: {key} has half a character; expected whole ones; "
                "write it again."
            )
        if key == "page" and not is_page(text):
            raise ParameterError(
                f"{file.name}: page is {printable(text)[:80]!r}; expected an address "
                "that begins with https:// or http://; correct it, or leave it empty."
            )
        if known[key].by == "choice":
            if text not in CHOICES:
                raise ParameterError(
                    f"{file.name}: {key} is {text[:40]!r}; expected yes or no; "
                    "correct it, or leave it empty."
                )
            text = CHOICES[text]
        answers[key] = text
    return answers


def questionnaire(answers: Mapping[str, str]) -> str:
    """Return the file that a person fills, with what is answered already."""
    lines = [
        f"# {TITLE}: what only a person can say. Leave empty what is not decided.",
        "# Choices are yes or no. A text may go on behind | in lines of two spaces.",
    ]
    for title, section in SECTIONS.items():
        lines += ["", f"# {title}"]
        for item in section:
            asked = item.asked + (f" (if {item.after} is yes)" if item.after else "")
            told = answers.get(item.key, "")
            if item.by == "ledger" and not told:
                lines.append(f"# {asked}: the ledger's is filled in, after yours")
                lines.append(f"# {item.key}:")
                continue
            value = told if item.by == "choice" else _as_yaml(told)
            lines += [f"# {asked}", f"{item.key}: {value}".rstrip()]
    return "\n".join(lines) + "\n"


def _as_yaml(text: str) -> str:
    """Return text as YAML reads it back: in lines, or in quotes with what is not seen.

    A tab, an escape or a line's end of another system would not come back from lines.
    """
    lines = text.split("\n")
    if all(line.isprintable() for line in lines):
        return "|" + "".join(f"\n  {line}" for line in lines) if text else ""
    plain = (c if c.isprintable() and c not in '"\\' else _escaped(c) for c in text)
    return f'"{"".join(plain)}"'


def _escaped(character: str) -> str:
    return f"\\U{ord(character):08x}"


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
    last = works["date_seen"].max()
    num_listed = len(takedown.read_list())
    return {
        "model": f"{variant} at {scale}, UNet {facts['unet'][:12]}",
        "dependencies": [{"part": p, "model": name} for p, name in facts["parts"]],
        "modalities": [
            {"modality": "image", "size": images, "content": f"works of {kinds}"},
            {"modality": "text", "size": words, "content": "captions of the works"},
            {"modality": "audio", "size": "none", "content": ""},
            {"modality": "video", "size": "none", "content": ""},
        ],
        "latest_date": f"{last[5:7]}/{last[:4]}" if last else "not recorded",
        "characteristics": [
            {"licence": title, "works": num} for title, num in licenses.items()
        ],
        "large_sets": rows_of(rows, sets, True),
        "other_sets": rows_of(rows, sets, False) or "none",
        "domains": [
            {"domain": host, "works": num} for host, num in by_domain(works)[:DOMAINS]
        ],
        "captioners": [
            {"caption source": source, "captioner": name}
            for source, name in captioners_of(facts).items()
        ],
        "reservations": "Only works were used whose source states an open licence for "
        f"each ({', '.join(licenses.index)}); a work without one was rejected. Works "
        f"that were to be taken down are left out; the list has {num_listed} entries.",
    }  # fmt: skip


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
                answer = _shown(told, is_open)
                lines += ["", f"**{field['asked']}** {answer}".replace("** \n", "**\n")]
            if "from_ledger" in field:
                lines += ["", f"By the ledger: {_shown(field['from_ledger'], False)}"]
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
        return "\n\n" + tables.table(list(told[0]), cells)
    return markdown_text(printable(told))
