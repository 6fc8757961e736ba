"""A user's own collection: a folder of pictures with a table.

Every row of the table and every picture gives one row, with a reason where it cannot
be used. Titles come from strangers and stay plain text. `webdataset` reads tars with
the same columns.
"""

import csv
import datetime as dt
import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from commoncanvas.catalog.columns import STATED
from commoncanvas.core.errors import SourceError

PICTURES = ("jpg", "jpeg", "png", "webp")
# What a column is called in a user's own table, in YFCC100M and CommonCatalog, by
# img2dataset, in image folders of the Hub. The first that is not empty counts.
NAMES = {
    "file": ("file", "path", "filename", "file_name"),
    "title": ("title",),
    "author": ("author", "unickname"),
    "author_url": ("author_url",),
    "pageurl": ("pageurl", "page_url"),
    "downloadurl": ("downloadurl", "download_url", "url"),
    "license_text": ("license_text", "license", "licence", "licensename"),
    "license_url": ("license_url", "licence_url", "licenseurl"),
    "alt_text": ("alt_text", "caption"),
    "date_seen": ("date_seen",),
}


def read_folder(
    folder: Path | str, table: Path | str, source: str = ""
) -> list[dict[str, Any]]:
    """Read a folder of pictures whose csv states title, author and licence.

    Args:
        folder: of the pictures, at any depth.
        table: the csv, UTF-8, with commas; the column `file` is a path relative to
            `folder`, the others are those of `NAMES`, in any order and case.
        source: the collection's name; "" takes the folder's.

    Returns:
        The rows of the table in order, then a row for each picture that has none: the
        columns of `STATED`, and path, relative to the folder, "" where it leads to no
        picture. The key is source/path, or source#row where that fails.

    Raises:
        SourceError: the table is missing, or has no column for the file.
    """
    folder = Path(folder)
    source = source or folder.resolve().name
    rows: list[dict[str, Any]] = []
    listed: Counter[str] = Counter()
    for place, (cells, reason) in enumerate(_table_rows(Path(table)), 1):
        columns, unread = stated_columns(cells)
        file = columns.pop("file")
        reason, path = reason or unread, ""
        if not reason or file:
            path, lost = _picture(folder, file)
            reason = reason or lost
        listed[path] += 1
        rows.append(make_row(source, f"{source}#{place}", reason, **columns, path=path))
    for row in rows:
        if row["path"] and listed[row["path"]] > 1:
            row["reason"] = row["reason"] or "table names this picture more than once"
        if not row["reason"]:
            row["key"] = f"{source}/{row['path']}"
    found = [Path(at, name) for at, _, names in os.walk(folder) for name in names]
    for path in sorted(file.relative_to(folder).as_posix() for file in found):
        ending = path.rpartition(".")[2].lower()
        if ending in (*PICTURES, "bmp", "gif", "tif", "tiff") and path not in listed:
            reason, path = "picture has no row in the table", as_unicode(path)
            rows.append(make_row(source, f"{source}/{path}", reason, path=path))
    return rows


def make_row(source: str, key: str, reason: str, **others: Any) -> dict[str, Any]:
    """Return a row of all columns of `STATED` and of the others."""
    own = {"source": source, "key": key, "reason": reason}
    return dict.fromkeys(STATED, "") | others | own


def as_unicode(value: str) -> str:
    """Return text that UTF-8 can hold; lone surrogates become escapes."""
    return value.encode("utf-8", "backslashreplace").decode()


def _table_rows(table: Path) -> Iterator[tuple[list[tuple[str, str]], str]]:
    """Yield ([(column, cell)], reason) of each row of a csv; empty lines are none."""
    try:
        data = table.read_bytes()
    except OSError as error:
        raise SourceError(
            f"table {table.name!a} cannot be read ({type(error).__name__}); expected "
            "a csv file; correct its path."
        ) from None
    # Bytes that are not UTF-8 become lone surrogates, so that only their row is lost.
    text = data.decode("utf-8-sig", "surrogateescape")
    lines = _lines(csv.reader(io.StringIO(text, newline=""), strict=True))
    header = [name.strip().lower() for name in next(lines, ([], ""))[0]]
    if not set(NAMES["file"]) & set(header):
        raise SourceError(
            f"table {table.name!a} has the columns {', '.join(header)[:99]!a}; expected"
            " UTF-8, commas between and a column `file`; save it so."
        )
    for cells, reason in lines:
        if cells and len(cells) != len(header):
            reason = f"row has {len(cells)} cells, expected {len(header)}"
        if cells or reason:
            yield list(zip(header, cells, strict=False)), reason


def _lines(reader: Iterator[list[str]]) -> Iterator[tuple[list[str], str]]:
    """Yield (cells, reason) until a csv ends; a row that is not csv has no cells."""
    while True:
        try:
            yield next(reader), ""
        except StopIteration:
            return
        except csv.Error as error:
            yield [], f"row is not csv ({error})"


def stated_columns(pairs: Iterable[tuple[str, Any]]) -> tuple[dict[str, str], str]:
    """Pick {column of `NAMES`: text}, and a reason if a value is no text or no date.

    Licences that differ are all kept, so that the reader of licences refuses them.
    """
    texts: dict[str, list[str]] = {}  # name -> its values that are not empty
    reason = ""
    known = {name for names in NAMES.values() for name in names}
    for name, value in pairs:
        name = name.strip().lower()
        if name not in known:
            continue
        text = str("" if value is None else value).strip()
        if isinstance(value, bool | list | tuple) or as_unicode(text) != text:
            reason = reason or f"{name} is not text in UTF-8"
        if text:
            texts.setdefault(name, []).append(as_unicode(text))
    values = {}
    for column, names in NAMES.items():
        found = [text for name in names for text in texts.get(name, ())]
        if column.startswith("license"):
            values[column] = " | ".join(dict.fromkeys(found))  # each once
        else:
            values[column] = found[0] if found else ""
    try:
        dt.date.fromisoformat(values["date_seen"] or "2000-01-01")
    except ValueError:
        reason = reason or f"date_seen is {values['date_seen'][:40]!a}, expected ISO"
    return values, reason


def _picture(folder: Path, file: str) -> tuple[str, str]:
    """Return (path in the folder, reason if it leads to no file inside)."""
    path = Path(os.path.normpath(file))
    try:
        whole = (folder / path).resolve()
        is_inside = whole.is_relative_to(folder.resolve()) and ".." not in path.parts
        if not is_inside or path.is_absolute():
            return "", f"file {file[:80]!a} lies outside the folder"
        if not whole.is_file():
            return "", f"file {file[:80]!a} is missing"
    except (OSError, ValueError, RuntimeError) as error:
        return "", f"file {file[:80]!a} cannot be found ({type(error).__name__})"
    return path.as_posix(), ""
