"""Titles, names, addresses and captions from strangers, in what people read."""

import json
import random
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import mistune
import numpy as np
import pandas as pd
import pyarrow as pa

from commoncanvas.analysis import figures, plots
from commoncanvas.captions import review
from commoncanvas.captions.text import tidy
from commoncanvas.licenses import attribution
from commoncanvas.publish.pages import write_page
from tests.hardening.frame import Case, Fault, expect_equal
from tests.hardening.licenses import INVISIBLE
from tests.hardening.pictures import file_of

KIND = "texts"
HOW = "titles, authors, addresses and captions in every text and page made of them"
RANDOM, BATCH = 25_000, 250
PNG = file_of(np.zeros((4, 4, 3), np.uint8))
# What must not reach a terminal or a page: controls, and marks that turn text round.
UNSAFE = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
PAYLOADS = {
    "script": "<script>alert(1)</script>", "image": "<img src=x onerror=alert(1)>",
    "svg": "<svg/onload=alert(1)>",
    "end of script": "</script><script>alert(1)</script>",
    "end of style": "</style><script>alert(1)</script>", "comment": "<!--",
    "CDATA": "]]>",
    "end of title": "</title><script>alert(1)</script>",
    "quote": '" onmouseover="alert(1)',
    "single quote": "' onmouseover='alert(1)",
    "entity": "&lt;script&gt;alert(1)&lt;/script&gt;",
    "number": "&#60;script&#62;", "link": "[a](javascript:alert(1))",
    "bold": "**a** __b__",
    "picture": "![a](https://evil.example/a.png)", "heading": "# a\n\n## b",
    "code": "`a` ```b```",
    "reference": "[a]: https://evil.example", "autolink": "<https://evil.example>",
    "bare address": "https://evil.example/a", "href": "href=http://evil.example",
    "src": "src=http://evil.example/a.js", "table": "| a | b |\n|---|---|\n| c | d |",
    "list": "- a\n- b\n1. c", "quote block": "> a", "rule": "---",
    "html block": "<div>\n\n</div>",
    "mathematics": "$x$ $$y$$", "one dollar": "$5 off", "TeX": r"\frac{1}{0}",
    "backslash": "\\",
    "brace": "{{ 7*7 }}", "percent": "{% raw %}", "format": "{0} %s %n",
    "new lines": "a\n\n\nb",
    "CR": "a\rb", "tab": "a\tb", "separator": "a\u2028b\u2029c", "next line": "a\x85b",
    "NUL": "a\0b", "bell": "a\7b", "escape": "\x1b[31mred\x1b[0m",
    "title escape": "\x1b]0;a\7",
    "C1": "\x9b31m", "backspace": "abc\b\b\bxyz", "delete": "a\x7fb",
    "override": "\u202efdp.exe",
    "isolate": "\u2066a\u2069", "zero width": "a\u200bb", "mark": "\ufeffa",
    "combining": "e" +
    "\u0301" * 200, "emoji": "👩‍👩‍👧‍👦🏳️‍🌈", "Arabic": "قطة حمراء", "Hebrew": "חתול",
    "Chinese": "红色的猫",
    "Thai": "แมวแดง", "long word": "a" * 20_000, "long text": "a cat " * 4000,
    "empty": "",
    "space": "   ", "number only": "12345", "none": "None", "nan": "nan",
    "null": "null",
    "true": "true", "formula": "=cmd|' /C calc'!A0", "plus formula": "+1+1",
    "at": "@SUM(1)",
    "shell": "$(rm -rf .); `id`", "path": "../../etc/passwd",
    "SQL": "'; DROP TABLE a; --",
    "json": '{"a": [1, 2]}', "closing json": '"}]}</script>',
    "iframe": "<iframe src=//evil.example>",
    "meta": '<meta http-equiv=refresh content="0;url=//evil.example">',
    "style": "<style>*{display:"
    "none}</style>", "base": '<base href="//evil.example">',
    "form": "<form action=//evil.example>",
    "object": "<object data=//evil.example>", "less": "3 < 4 & 5 > 2",
    "noncharacter": "a\uffffb",
    "private": "a\ue000b", "tags": "a\U000e0041b", "full width": "＜script＞",
    "smart quotes": "“a” ‘b’",
    "upper": "<ScRiPt>alert(1)</sCrIpT>", "split": "<scr\0ipt>", "half tag": "<script",
    "end": "</p></li>",
    "id": '<a id="main">', "footnote": "[^1]", "strike": "~~a~~",
    "hard break": "a  \nb", "mailto":
    "<a@evil.example>", "percent address": "%3Cscript%3E",
    "surrogate pair": "\U0001f600" * 50,
}  # fmt: skip
FIELDS = ("title", "author", "author_url", "source_url", "source")


class Reader(HTMLParser):
    """Collects a page's visible text, elements, addresses and handlers."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.found: list[str] = []  # what should not be there
        self.scripts, self.inside = 0, ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.inside = tag
        self.scripts += tag == "script"
        for name, value in attrs:
            if name.startswith("on") or name in ("srcdoc", "action", "formaction"):
                self.found.append(f"{name}={value}")
            if name in ("href", "src", "data", "xlink:href"):
                own = re.match(r"https?://|data:image/|#|$", value or "", re.IGNORECASE)
                if not own or (name != "href" and (value or "").startswith("http")):
                    self.found.append(f"{name}={value}")
        if tag in ("iframe", "object", "embed", "base", "frame"):
            self.found.append(tag)

    def handle_data(self, data: str) -> None:
        if self.inside not in ("script", "style"):
            self.texts.append(data)

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""


def shown(text: str) -> str:
    """Return a text as it is compared: letters and digits of every script."""
    text = unicodedata.normalize("NFD", text)  # pages are in NFC
    return "".join(c for c in text if unicodedata.category(c)[0] in "LNS")


def read_page(page: str, scripts: int = 0) -> str:
    """Return a page's visible text; a fault where it holds what could act."""
    reader = Reader(page)
    if reader.found or reader.scripts != scripts:
        raise Fault("wrong outcome", f"{reader.scripts} scripts, {reader.found}")
    return "".join(reader.texts)


LEDGER = {
    "key": "a/b", "title": "plain title", "author": "plain author", "author_url": "",
    "source": "plain source", "source_url": "https://example.org/a",
    "license": "CC BY 4.0", "license_slug": "by",
    "license_url": "https://example.org/by", "changes": "Drawn.",
}  # fmt: skip


def in_ledger(*told: tuple[str, str]) -> None:
    """Write the attribution of works, each with one (field, text); read both forms."""
    rows = [LEDGER | {field: text} for field, text in told]
    written = attribution.attribution_text(pd.DataFrame(rows))
    if unsafe := UNSAFE.search(written):
        raise Fault("wrong outcome", f"{unsafe[0]!a} in ATTRIBUTION.md")
    html = attribution.attribution_page(written)
    for page in (html, str(mistune.html(written))):
        seen = shown(read_page(page))
        for field, text in told:
            is_shown = field in ("title", "author", "source")
            plain = shown(UNSAFE.sub("", text)) if is_shown else "plaintitle"
            if plain not in seen:
                raise Fault("wrong outcome", f"{text!a:.80} is not shown")


def in_review(pair: tuple[str, str]) -> None:
    """Write a page to vote on, and read its data as its script does."""
    field, text = pair
    told = {"key": "a/b", "caption": "a cat", "title": "Captions"} | {field: text}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "review.html")
        review.write_page(path, [(told["key"], PNG, told["caption"])], told["title"])
        page = path.read_text(encoding="utf-8")
    # A script ends at the first </script, whatever JSON says.
    blocks = re.findall(r"<script[^>]*>(.*?)</script", page, re.DOTALL | re.IGNORECASE)
    starts = [block.index("{") for block in blocks if '"rows"' in block]
    decoder = json.JSONDecoder()
    rows = [
        decoder.raw_decode(b[b.index("{") :]) for b in blocks if '"rows"' in b[:9000]
    ]
    held = rows[0][0]["rows"][0] if rows and starts else {}
    if field in ("key", "caption"):
        expect_equal("wrong outcome", held.get(field), text)
    clean = re.sub(r"<script.*?</script", "", page, flags=re.DOTALL | re.IGNORECASE)
    read_page(clean.replace("<script>", ""), clean.count("<script"))


def in_figures(pair: tuple[str, str]) -> None:
    """Show a text in a table, a sheet of pictures and a plot, on one page."""
    field, text = pair
    pixels = np.zeros((1, 4, 4, 3), np.uint8)
    if field == "table":
        body = figures.table(pd.DataFrame({"name": [text]}), text or "caption").data
    elif field == "sheet":
        body = figures.sheet(pixels, [(text, text)], alt="pictures").data
    else:
        body = plots.bars([text, "b"], {"here": [1, 2]}, x_label=text, alt="bars").data
    with tempfile.TemporaryDirectory() as folder:
        page = f"<!doctype html><html><body>{body}</body></html>"
        path = write_page(Path(folder, "page.html"), page)
        seen = read_page(path.read_text(encoding="utf-8"))
    if field == "table" and shown(text)[:50] not in shown(seen):
        raise Fault("wrong outcome", f"{text!a:.80} is not shown")


def in_captions(*told: tuple[str, str]) -> None:
    """Clean captions: the same words in one line each, or a reason."""
    texts = [text for _, text in told]
    keys = [str(n) for n in range(len(texts))]
    found = tidy({"made": pa.table({"key": keys, "caption_raw": texts})})
    expect_equal("lost row", sorted(found["key"]), sorted(keys))
    for key, caption, reason in found[["key", "caption", "reason"]].values:
        expect_equal("wrong outcome", bool(caption) != bool(reason), True)
        words = set(texts[int(key)].split())
        expect_equal("wrong outcome", set(caption.split()) <= words, True)


OUTPUTS: dict[Callable[..., None], tuple[str, ...]] = {
    in_ledger: FIELDS,
    in_review: ("key", "caption", "title"),
    in_figures: ("table", "sheet", "bars"),
    in_captions: ("caption",),
}


def cases() -> Iterator[Case]:
    """Yield each payload in each field of each output."""
    signs = {f"sign {name}": f"a{sign}b" for name, sign in INVISIBLE.items()}
    for output, fields in OUTPUTS.items():
        for field in fields:
            for name, text in (PAYLOADS | signs).items():
                title = f"{output.__name__[3:]}, {field}: {name}"
                act = partial(output, (field, text))
                yield Case(KIND, title, act, None)


def attack(rng: np.random.Generator, num: int) -> None:
    """Put pieces of payloads together and show them."""
    pick = random.Random(int(rng.integers(1 << 60)))
    pieces = [text for text in PAYLOADS.values() if len(text) < 100]
    told: dict[Callable[..., None], list[tuple[str, str]]] = {}
    for _ in range(num):
        parts = []
        for piece in pick.choices(pieces, k=pick.randint(1, 4)):
            a, b = sorted(pick.choices(range(len(piece) + 1), k=2))
            parts.append(pick.choice([piece, piece[a:b]]))
            parts.append(pick.choice(["", " ", "\n", chr(pick.randrange(32, 0xD7FF))]))
        output = pick.choice([in_ledger, in_captions])
        pair = pick.choice(OUTPUTS[output]), "".join(parts)
        told.setdefault(output, []).append(pair)
    for output, pairs in told.items():
        try:
            output(*pairs)  # all at once, which is quicker
        except Fault:
            for pair in pairs:
                try:
                    output(pair)
                except Fault as fault:
                    detail = f"{fault.args[1]}; {pair!a}"
                    raise Fault(fault.args[0], detail) from None
            raise
