"""Smithsonian Open Access: pictures of museum objects, from lines of JSON.

A record has several pictures or none, each with its own access. Only a picture's own
`usage.access` counts: `metadata_usage` is about the record's words.

Source: smithsonian-open-access, its files edan/UNIT/00.txt ... ff.txt.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from duckdb import DuckDBPyConnection as Connection
from duckdb import DuckDBPyRelation as Relation

from commoncanvas.catalog.columns import NOT_HERE, as_sql
from commoncanvas.catalog.lines import read_objects
from commoncanvas.core.errors import SourceError

CC0 = "https://creativecommons.org/publicdomain/zero/1.0/"
FIELDS = ["id", "title", "author", "page", "url", "access", "credit", "unit", "why"]


def read_smithsonian(connection: Connection, files: Sequence[str]) -> Relation:
    """Read files of JSON lines as a relation.

    Returns:
        One row a picture, or one a record that has none, with the reason: STATED,
        LOCATED (nowhere), then credit_line and unit. date_seen is the day of the file.

    Raises:
        SourceError: there is no file, or it cannot be read.
    """
    if not files:
        raise SourceError("no file of records is named; expected one or more; add it.")
    rows = read_objects(connection, files[0], FIELDS, _pictures)
    for file in files[1:]:
        rows = rows.union(read_objects(connection, file, FIELDS, _pictures))
    stated = {
        "key": "'smithsonian/' || coalesce(nullif(id, ''), place)",
        "source": "'smithsonian'",
        "title": "title",
        "author": "author",
        "pageurl": "page",
        "downloadurl": "url",
        "license_text": "access",
        "license_url": f"CASE WHEN access = 'CC0' THEN '{CC0}' END",
        "date_seen": "day",
        "reason": "coalesce(nullif(fault, ''), why)",
    }
    return rows.select(
        f"{as_sql(stated)}, {NOT_HERE}, coalesce(credit, '') AS credit_line, "
        "coalesce(unit, '') AS unit"
    )


def _pictures(record: dict[str, Any]) -> Iterator[list[str]]:
    """Yield `FIELDS` of each picture of a record, or once with the reason."""
    content = _at(record, "content")
    about, words = _at(content, "descriptiveNonRepeating"), _at(content, "freetext")
    own = _text(record.get("id")) or _text(_at(about).get("record_ID"))
    facts = {
        "title": _text(_at(about, "title").get("content")),
        "author": next(filter(None, _contents(words, "name")), ""),
        "page": _text(about.get("record_link")) or _text(about.get("guid")),
        "credit": next(filter(None, _contents(words, "creditLine")), ""),
        "unit": _text(about.get("unit_code")) or _text(record.get("unitCode")),
    }
    media = _objects(_at(about, "online_media").get("media"))
    pictures = [one for one in media if one.get("type", "Images") == "Images"]
    if not pictures:
        yield _row(facts, id=own, why="the record has no picture")
    for number, one in enumerate(pictures):
        name = _text(one.get("idsId")) or _text(one.get("id")) or str(number)
        url, access = _text(one.get("content")), _text(_at(one, "usage").get("access"))
        why = "" if own else "the record has no id"
        why = why or ("" if url else "the picture has no address")
        key = f"{own}/{name}" if own else ""
        yield _row(facts, id=key, url=url, access=access, why=why)


def _row(facts: dict[str, str], **more: str) -> list[str]:
    return [{**facts, **more}.get(name, "") for name in FIELDS]


def _at(value: Any, *names: str) -> dict[str, Any]:
    """Return the object below some names, an empty one where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _contents(words: dict[str, Any], name: str) -> list[str]:
    return [_text(one.get("content")) for one in _objects(words.get(name))]


def _objects(value: Any) -> list[dict[str, Any]]:
    """Return the objects in a list; none where it is no list."""
    listed = value if isinstance(value, list) else []
    return [one for one in listed if isinstance(one, dict)]


def _text(value: Any) -> str:
    """Return a text that can be stored; "" for what is none."""
    if not isinstance(value, str):
        return ""
    return value.encode("utf-8", "backslashreplace").decode().strip()
