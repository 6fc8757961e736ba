"""What a source states of a work: the columns that every adapter of stage 01 fills.

Small sources come as lists of dictionaries, large ones as DuckDB relations; the names
are the same, all are text, and what a source does not say is "". An adapter may add
columns of its own behind these; svg, a drawing's text, is one. To them stage 01 adds
spec, the entry of the profile that a row came from, and source_sha256, of the bytes
that the source holds. No row holds a picture: `LOCATED` says where it lies.
"""

from collections.abc import Mapping
from typing import Any

STATED = {
    "key": "source and the work's id in it, e.g. yfcc100m/6162540254; unique",
    "source": "the collection, e.g. twemoji, openclipart, yfcc100m",
    "title": "as its author wrote it, decoded",
    "author": "name to credit, decoded",
    "author_url": "page of the author",
    "pageurl": "page of the work: the ledger's source URL",
    "downloadurl": "where its bytes were or can be had",
    "license_text": "the licence's name as stated",
    "license_url": "the licence's address as stated",
    "alt_text": "what its author wrote about it, the alt text of the paper",
    "caption": "a text that came with the work and is not its author's own",
    "captioner": "who wrote it: human, or the captioner's name, e.g. qwen3-vl-4b; "
    "'' without caption",
    "date_seen": "ISO date on which the source was packed or the page last seen",
    "reason": "why the adapter could not read the work, else ''",
}

LOCATED = {
    "path": "the picture's file, or the tar or parquet file it lies in; '' for an svg",
    "start": "of the picture in its tar, unpacked [bytes], or its row; -1 for a file",
    "length": "of the picture in its tar [bytes]; -1 elsewhere",
}
NOWHERE: dict[str, Any] = {"path": "", "start": -1, "length": -1}
NOT_HERE = (
    "'' AS path, CAST(-1 AS BIGINT) AS start, CAST(-1 AS BIGINT) AS length"  # SQL
)

AUTHOR = "author"  # instead of a captioner: the caption is the author's, so alt text
HUMAN = "human"  # a captioner who is a person
UNNAMED = "unnamed"  # the captioner where nobody says whose words a caption is


def say_whose(row: dict[str, Any], captioner: str = "") -> None:
    """Enter in a row whose words its caption is.

    Args:
        row: with alt_text, caption and captioner, as a source states them.
        captioner: of captions of which the row itself does not say it; `AUTHOR` makes
            them alt text, "" leaves them to `UNNAMED`, who is never the author.
    """
    row["captioner"] = row["captioner"] or captioner or UNNAMED
    if row["caption"] and row["captioner"] == AUTHOR:
        row["alt_text"], row["caption"] = row["alt_text"] or row["caption"], ""
    if not row["caption"]:
        row["captioner"] = ""


def sql_text(text: str) -> str:
    """Return SQL for a text."""
    return "'" + text.replace("'", "''") + "'"


def as_sql(values: Mapping[str, str]) -> str:
    """Return SQL that selects the columns of `STATED`: {column: SQL of a text}."""
    return ", ".join(f"coalesce({values.get(n, 'NULL')}, '') AS {n}" for n in STATED)
