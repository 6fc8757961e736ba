"""What the AI Act's summary of training content asks, and what a person answered.

A choice is yes or no, a date a day or a month; what is not decided stays empty, and
nothing is inferred. An answer that cannot be, or that another contradicts, is refused.
Source: AI Act, Article 53(1)(d); the Commission's template of 24 July 2025.
"""

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commoncanvas.core.errors import ParameterError
from commoncanvas.core.settings import load_yaml
from commoncanvas.core.text import is_page, is_seen, is_whole, printable


@dataclass(frozen=True)
class Item:
    """One field of the template.

    by: "ledger", or "person", who says a yes or no to a "choice" and a day or a month
    to a "date"; after: the choice that it is asked after, if that is yes; optional: may
    stay empty, as the template says of other information alone.
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
        Item("page", "Page of the model"),
        Item("dependencies", "Model dependencies", "ledger"),
        Item("placed_on_market", "Date of placement on the Union market", "date"),
    ],
    "1.3 Modalities, overall training data size and other characteristics": [
        Item("modalities", "Modalities, size and types of content", "ledger"),
        Item("dates_seen", "Dates that are recorded of the works", "ledger"),
        Item("latest_date", "Latest date of data acquisition or collection", "date"),
        Item("is_continuous", "Is it trained on new data after that date?", "choice"),
        Item("languages", "Linguistic characteristics of the training data"),
        Item("characteristics", "Other relevant characteristics", "ledger"),
    ],
    "2.1 Publicly available data sets": [
        Item("public_sets", "Were publicly available data sets used?", "choice"),
        Item("large_sets", "Sets with 3 % or more of the works", "ledger"),
        Item("other_sets", "Other sets", "ledger"),
        Item("part_sets", "Sets that the parts beside the UNet learnt from", "ledger"),
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
DATES = {"%Y-%m-%d": "2026-11-28", "%m/%Y": "11/2026"}  # forms of a date -> examples
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
        ParameterError: the file is no YAML, has an unknown name, an answer is not of
            its kind, or follows from a choice that is no.
    """
    if file is None:
        return {}
    known = {item.key: item for item in items()}
    answers = {}
    for key, told in _load(file).items():
        if key not in known:
            raise ParameterError(
                f"{file.name} answers {key!r}, which nobody asked; expected some of "
                f"{', '.join(known)}; correct the name."
            )
        if told is not None and is_seen(text := _text(file.name, key, told)):
            answers[key] = _checked(file.name, known[key], text)
    for item in items():
        if item.key in answers and answers.get(item.after) == "no":
            raise ParameterError(
                f"{file.name}: {item.key} is filled, and {item.after} is no; expected "
                f"yes, or an empty {item.key}; correct one of them."
            )
    return answers


def _load(file: Path) -> dict[str, Any]:
    try:
        return load_yaml(file)
    except ParameterError:
        # 2026-02-30 is a day for YAML, which fails at it and does not say where.
        text = file.read_text("utf-8", "replace") if file.is_file() else ""
        for key, told in re.findall(r"^(\w+): *(\d{4}-\d\d?-\d\d?) *$", text, re.M):
            if any(item.key == key and item.by == "date" for item in items()):
                _check_date(file.name, key, told)
        raise


def _text(name: str, key: str, told: Any) -> str:
    is_long = isinstance(told, int) and told.bit_length() > 64  # str() may refuse it
    if not isinstance(told, SCALARS) or is_long:
        raise ParameterError(
            f"{name}: {key} is a {type(told).__name__}; expected text; write "
            "it in a line, or in several behind a bar."
        )
    return str(told).strip()


def _checked(name: str, item: Item, text: str) -> str:
    """Return an answer of its item's kind, or refuse it."""
    if not is_whole(text):
        raise ParameterError(
            f"{name}: {item.key} has half a character; expected whole ones; "
            "write it again."
        )
    if item.key == "page" and not is_page(text):
        raise ParameterError(
            f"{name}: page is {printable(text)[:80]!r}; expected an address "
            "that begins with https:// or http://; correct it, or leave it empty."
        )
    if item.by == "date":
        _check_date(name, item.key, text)
    if item.by == "choice":
        if text not in CHOICES:
            raise ParameterError(
                f"{name}: {item.key} is {text[:40]!r}; expected yes or no; "
                "correct it, or leave it empty."
            )
        return CHOICES[text]
    return text


def _check_date(name: str, key: str, text: str) -> None:
    for form in DATES:
        try:
            dt.datetime.strptime(text, form)
            return
        except ValueError:
            continue
    raise ParameterError(
        f"{name}: {key} is {printable(text)[:40]!r}; expected a day or a month such as "
        f"{' or '.join(DATES.values())}; correct it, or leave it empty."
    )


def questionnaire(answers: Mapping[str, str]) -> str:
    """Return the file that a person fills, with what is answered already."""
    lines = [
        f"# {TITLE}: what only a person can say. Leave empty what is not decided.",
        "# Choices are yes or no; a date is a day or a month, such as "
        f"{' or '.join(DATES.values())}.",
        "# A text may go on behind | in lines of two spaces.",
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
            value = _as_yaml(told) if item.by in ("person", "ledger") else told
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
