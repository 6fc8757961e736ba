"""Text of strangers, made safe to show: titles, authors, addresses, captions.

What a reader sees is kept; what steers a terminal, reorders a line or hides is not.
"""

import functools
import html
import re
import unicodedata

# Controls and format characters. Format characters that are seen stay (the Arabic and
# Egyptian ones), joiners stay within a word or an emoji, and so do the tags of a flag.
_HIDDEN = re.compile(
    "(\U0001f3f4[\U000e0030-\U000e0039\U000e0061-\U000e007a]{1,6}\U000e007f)"
    "|[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U000e0fff]"
)
_JOINERS = re.compile(
    "(?<!\\S)[\u200c\u200d]+|[\u200c\u200d]+(?!\\S)|(?<=[\u200c\u200d])[\u200c\u200d]+"
)
_HALF = re.compile("[\ud800-\udfff]")  # of a character, which no file holds
# Fillers are letters for Unicode, and the braille blank is a symbol.
_BLANK = frozenset("\u115f\u1160\u3164\uffa0\u2800\ufffd\U0001d159")
# What people and programs write where there is nothing to write.
_NOTHING = frozenset(
    "none null nan nil nat undefined unknown deleted nullnull notavailable noauthor "
    "noname".split()
)
_PAGE = re.compile(
    r"https?://((?:[^\W_][\w-]*\.)+[\w-]{2,})\.?(?::\d{1,5})?(?:[/?#].*)?",
    re.IGNORECASE,
)
# Comments, scripts and styles with their contents, and tags. Every alternative ends at
# the next `<` or swallows the rest, so the time grows with the text and not faster.
_MARKUP = re.compile(
    r"<!--.*?(?:-->|\Z)|<(script|style)\b[^<>]*>.*?(?:</\1\s*>|\Z)"
    r"|<!doctype\b[^<>]*>|</?((?:[a-z]\w*:)?[a-z][\w-]*)"
    r"(?:(?:[\s/](?:[^<>\"']|\"[^\"<]*\"|'[^'<]*')*)?>|[\s/][^<>]*>)",
    re.IGNORECASE | re.DOTALL,
)
_INLINE = frozenset(
    "a abbr b bdi bdo big cite code del dfn em font i ins kbd mark q s samp small span "
    "strike strong sub sup tt u var".split()
)
_ENTITY = re.compile(
    r"&(?:#[0-9]{1,7}|#x[0-9a-f]{1,6}|[a-z][a-z0-9]{1,31});", re.IGNORECASE
)


def is_whole(text: str) -> bool:
    """Tell whether a text can be written: none of its characters is half a one."""
    return not _HALF.search(text)


def made_whole(text: str) -> str:
    """Return a text that can be written, with U+FFFD for half a character."""
    return _HALF.sub("\ufffd", text)


def printable(text: object) -> str:
    """Return text as one line in NFC that is safe on a terminal and on a page.

    White space becomes single spaces. Controls, and so escape sequences, go, as do
    characters that turn the direction of writing or are not seen; lone surrogates
    become U+FFFD. Markup is not escaped.
    """
    line = " ".join(str(text).split())
    if not line.isprintable():
        line = _HIDDEN.sub(r"\1", made_whole(line))
        line = _JOINERS.sub("", " ".join(line.split()))
    return nfc(line)


def markdown_text(text: object) -> str:
    """Return a stranger's text as Markdown that shows it and does nothing else."""
    line = html.escape(printable(text), quote=False)
    line = re.sub(r"([\\`*_\[\]~$|#])", r"\\\1", line)
    # At the start of a line these begin a list, a rule or a heading.
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", line)


def cut(text: str, most: int = 200) -> str:
    """Return a text of `most` characters, the last an ellipsis if it is cut."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def nfc(text: str) -> str:
    """Return text in NFC, with 30 combining marks in a row at most.

    Python sorts a run of marks in quadratic time, so that one word could take hours.
    Source: UAX #15, Stream-Safe Text Format.
    """
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _run_of_marks().sub(r"\1", text))


@functools.cache
def _run_of_marks() -> re.Pattern[str]:
    marks = "".join(filter(unicodedata.combining, map(chr, range(0x300, 0x1F000))))
    return re.compile(f"([{marks}]{{30}})[{marks}]+")


def is_seen(text: str) -> bool:
    """Tell whether a reader sees anything of a text: a letter, digit, sign or mark."""
    kinds = (unicodedata.category(c)[0] for c in text if c not in _BLANK)
    return any(kind in "LNSP" for kind in kinds)


def says_something(text: str) -> bool:
    """Tell whether a text is seen and names something: not "n/a", "null" or "-"."""
    if not is_seen(text) or text.strip() in ("NA", r"\N"):  # of R, of databases
        return False
    line = unicodedata.normalize("NFKC", printable(text))
    kinds = {c: unicodedata.category(c) for c in set(line)}
    said = "".join(c for c in line if kinds[c][0] not in "PZ" and kinds[c] != "Sm")
    word = said.lower()
    return bool(word) and word not in _NOTHING and (word != "na" or said == line)


def is_page(address: str) -> bool:
    """Tell whether an address leads to a page: http or https, and a host with a dot."""
    found = _PAGE.fullmatch(address)
    is_plain = is_whole(address) and not _HIDDEN.search(address)
    labels = found[1].split(".") if found else []
    is_named = all(map(is_seen, labels)) and any(map(says_something, labels))
    return found is not None and is_plain and is_named


def html_to_text(text: str) -> str:
    """Return what a reader sees of a piece of HTML, as one `printable` line.

    Tags, comments, scripts and styles go, entities become their characters. A sign
    that is no markup stays: "AT&T", "3 < 4".
    """
    if "<" in text:
        text = _MARKUP.sub(_between, text)
    if "&" in text:
        text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    return printable(text)


def _between(markup: re.Match[str]) -> str:
    """Return what stands in a tag's place: nothing within a word, else a space."""
    return "" if (markup[2] or "").lower() in _INLINE else " "
