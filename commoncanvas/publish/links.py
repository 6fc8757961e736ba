"""Links that pages put under words: deviations, claims, the paper, licences, files.

A link leads elsewhere on the web only where a reader clicks it; a page fetches nothing.
"""

import re
from dataclasses import dataclass, field
from html import escape, unescape

from markupsafe import Markup

from commoncanvas.claims.rules import Paper, load_paper

PAPER = "commoncanvas-cvpr"  # of docs/paper.yaml's sources, the paper itself
# Within these elements words stay as they are.
CLOSED = "a pre svg script style h1 h2 h3 h4 nav summary button math caption".split()
LICENSE = re.compile(r"CC (BY(?:-NC)?(?:-ND|-SA)?) (\d\.\d)|CC0 (1\.0)")
DEVIATION = re.compile(r"\bD(\d{1,2})\b")
CREATIVE_COMMONS = "https://creativecommons.org"


@dataclass(frozen=True)
class Places:
    """Where the words of a page lead.

    scorecard: address before `#claim-<id>`.
    deviations: {"D5": where we differ, as plain text}; they are on `deviations.html`.
    files: {name as the text has it: address}.
    paper: its claims and its address; read from docs/paper.yaml once.
    """

    scorecard: str = ""
    deviations: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    paper: Paper = field(default_factory=load_paper)


def with_links(markup: str, places: Places) -> str:
    """Put links under the words of HTML that name something which has an address."""
    claims, address = places.paper.claims, places.paper.sources[PAPER].url
    inside: list[str] = []
    parts = re.split(r"(<[^>]*>)", markup)
    for place, part in enumerate(parts):
        if part.startswith("<"):
            _enter(inside, part)
            continue
        if not part.strip() or inside:
            continue
        word = unescape(part).strip()
        if word in claims:
            parts[place] = _link(f"{places.scorecard}#claim-{word}", part)
        elif word in places.files:
            parts[place] = _link(places.files[word], part)
        elif deed := deed_of(word):
            parts[place] = _link(deed, part)
        else:
            found = re.sub(r"\bCVPR(?=,)", lambda m: _link(address, m[0]), part)
            parts[place] = DEVIATION.sub(lambda m: _deviation(m[0], places), found)
    return "".join(parts)


def in_prose(text: str, places: Places | None = None) -> Markup:
    """Return a sentence as HTML: `code` set as such, claims linked on this page."""
    code = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return Markup(with_links(code, places or Places()))


def deed_of(title: str) -> str:
    """Return the address of a Creative Commons licence by its title, else ""."""
    found = LICENSE.fullmatch(title)
    if not found:
        return ""
    if found[3]:
        return f"{CREATIVE_COMMONS}/publicdomain/zero/{found[3]}/"
    return f"{CREATIVE_COMMONS}/licenses/{found[1].lower()}/{found[2]}/"


def _enter(inside: list[str], tag: str) -> None:
    """Keep account of the closed elements that a place lies in."""
    found = re.match(r"</?([a-zA-Z0-9]+)", tag)
    if not found or found[1].lower() not in CLOSED or tag.endswith("/>"):
        return
    name = found[1].lower()
    if not tag.startswith("</"):
        inside.append(name)
    elif name in inside:
        while inside.pop() != name:
            pass


def _deviation(name: str, places: Places) -> str:
    if name not in places.deviations:
        return name
    told = escape(places.deviations[name])
    href = f"deviations.html#{name.lower()}"
    return f'<a href="{href}" title="{told}">{name}</a>'


def _link(href: str, words: str) -> str:
    return f'<a href="{escape(href)}">{words}</a>'
