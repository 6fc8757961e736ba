"""GPIC: 100 million pictures in webdataset tars, with a credit of one line each.

A json object beside each picture holds licence, attribution, the day of retrieval, the
nested subsets nano, lite and full, and a caption that Qwen3-VL-4B wrote in one of four
lengths. There is no title, author or page: all credit stands in `attribution`, whose
first address that is no licence's is taken for the work's page. The data set is gated
on the Hub.

Source: gpic, the data set's card.
"""

import datetime as dt
import functools
import html
import re
from collections.abc import Iterable, Iterator
from typing import Any

from commoncanvas.catalog.sources.folder import as_unicode, stated_columns
from commoncanvas.catalog.sources.webdataset import Pairs, read_webdataset
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.text import html_to_text, is_seen, says_something
from commoncanvas.licenses.attribution import is_deed

CAPTIONER = "qwen3-vl-4b"
SUBSETS = ("nano", "lite", "full")  # each within the next
OWN = ("key", "attribution", "retrieved_at", "split", "caption_type")
_ADDRESS = re.compile(r"https?://[^\s\"'<>\\]+", re.IGNORECASE)
_ENTITY = re.compile(r"&#?\w{1,32};")


def read_gpic(
    tars: Iterable[str], subset: str = "", captioner: str = CAPTIONER
) -> Iterator[dict[str, Any]]:
    """Read tars as `webdataset.read_webdataset` does, by GPIC's own names.

    Args:
        tars: files or addresses.
        subset: of `SUBSETS`; rows of others carry that as their reason. "" takes all.
        captioner: who wrote the captions.

    Yields:
        One row a sample: STATED, LOCATED and caption_type (tag, short, medium or long).
        The key is gpic/KEY by the json's own, so it survives another packing.

    Raises:
        ParameterError: there is no such subset.
    """
    if subset not in ("", *SUBSETS):
        raise ParameterError(
            f"GPIC has no subset {subset!r}; expected one of {', '.join(SUBSETS)}; "
            "correct `split` in the source."
        )
    stated = functools.partial(_stated, subset)
    for row in read_webdataset(tars, "gpic", captioner, stated):
        yield row | {"caption_type": row.get("caption_type", "")}


def _stated(subset: str, pairs: Pairs) -> tuple[dict[str, str], str]:
    columns, reason = stated_columns(pairs)
    own: dict[str, Any] = dict.fromkeys(OWN, "")
    for name, value in pairs:
        if name in own:
            if own[name] not in ("", value):
                reason = reason or f"{name} stands there twice and differs"
            own[name] = "" if value is None else value
    split = own.pop("split")
    for name, value in own.items():
        if not isinstance(value, str) or as_unicode(value) != value:
            reason, own[name] = reason or f"{name} is not text in UTF-8", ""
    if not is_seen(own["key"]):
        reason, own["key"] = reason or "json has no key", ""
    columns["author"], columns["pageurl"] = credit_of(own["attribution"])
    columns["date_seen"], odd = _day(own["retrieved_at"])
    listed = split if isinstance(split, list) else []
    if subset and subset not in listed:
        reason = reason or f"not in the subset {subset}"
    columns |= {"key": own["key"], "caption_type": own["caption_type"]}
    return columns, reason or odd


def credit_of(attribution: str) -> tuple[str, str]:
    """Return the credit as plain text, and its page; "" for neither.

    The page is the first address in it that is no licence's. The whole line is the
    credit: nothing in it is guessed to be a name alone.
    """
    line = _ENTITY.sub(lambda entity: html.unescape(entity[0]), attribution)
    pages = map(_bare, _ADDRESS.findall(line))
    page = next((page for page in pages if not is_deed(page)), "")
    text = html_to_text(attribution)
    return text if says_something(_ADDRESS.sub("", text)) else "", page


def _bare(address: str) -> str:
    """Return an address without the sentence's own signs behind it."""
    address = address.rstrip(".,;:!?]}")
    while address.endswith(")") and address.count(")") > address.count("("):
        address = address[:-1].rstrip(".,;:!?]}")
    return address


def _day(text: str) -> tuple[str, str]:
    """Return the ISO date (UTC) of a moment, and the reason where it is none."""
    try:
        moment = dt.datetime.fromisoformat(text) if text else None
        if moment is not None and moment.tzinfo:
            moment = moment.astimezone(dt.UTC)
        return moment.date().isoformat() if moment else "", ""
    except (ValueError, OverflowError):
        return "", f"retrieved_at is {text[:40]!a}, expected ISO"
