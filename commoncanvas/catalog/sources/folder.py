"""A user's own collection: a folder of pictures with a table.

Every row of the table and every picture gives one row, with a reason where it cannot
be used. Titles come from strangers and stay plain text. `webdataset` reads tars with
the same columns.
"""

import csv
import datetime as dt
import io
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from commoncanvas.catalog.columns import STATED, say_whose
from commoncanvas.core.errors import LicenseError, SourceError
from commoncanvas.core.text import nfc
from commoncanvas.licenses.license import read_license

PICTURES = ("jpg", "jpeg", "png", "webp")
MAX_BYTES = 64 * 2**20  # of a picture with its words; larger ones are not read
MAX_TABLE_BYTES = 10**9  # a table is held in memory
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
    "alt_text": ("alt_text",),
    "caption": ("caption",),
    "captioner": ("captioner",),
    "date_seen": ("date_seen",),
    "uploaded": ("dateuploaded", "uploaded"),  # not handed on: it dates a licence
}


def read_folder(
    folder: Path | str, table: Path | str, source: str = "", captioner: str = ""
) -> list[dict[str, Any]]:
    """Read a folder of pictures whose csv states title, author and licence.

    Args:
        folder: of the pictures, at any depth.
        table: the csv, UTF-8, with commas; the column `file` is a path relative to
            `folder`, the others are those of `NAMES`, in any order and case. A work
            without date_seen was seen on the day (UTC) of its file.
        source: the collection's name; "" takes the folder's.
        captioner: whose captions are of which the table does not say it; see
            `columns.say_whose`.

    Returns:
        The rows of the table in order, then a row for each picture that has none: the
        columns of `STATED`, and path, relative to the folder, "" where it leads to no
        picture. The key is source/path in NFC, or source#row where that fails.

    Raises:
        SourceError: the table is missing or too large, or has no column for the file.
    """
    lines = list(_table_rows(Path(table)))
    folder = Path(folder)
    source = source or nfc(as_unicode(folder.resolve().name))
    rows: list[dict[str, Any]] = []
    listed: Counter[str] = Counter()
    files: dict[str, list[str]] = defaultdict(list)  # by their names in NFC
    for at, _, names in os.walk(folder):
        for path in (Path(at, name).relative_to(folder).as_posix() for name in names):
            files[nfc(path)].append(path)
    for place, (cells, reason) in enumerate(lines, 1):
        columns, unread = stated_columns(cells)
        file = columns.pop("file")
        say_whose(columns, captioner)
        reason, path = reason or unread, ""
        if not reason or file:
            path, lost, day = _picture(folder, file, files)
            reason = reason or lost
            columns["date_seen"] = columns["date_seen"] or day
        listed[path] += 1
        rows.append(make_row(source, f"{source}#{place}", reason, **columns, path=path))
    for row in rows:
        if row["path"] and listed[row["path"]] > 1:
            row["reason"] = row["reason"] or "table names this picture more than once"
        if not row["reason"]:
            row["key"] = f"{source}/{nfc(row['path'])}"
    for path in sorted(path for paths in files.values() for path in paths):
        ending = path.rpartition(".")[2].lower()
        if ending in (*PICTURES, "bmp", "gif", "tif", "tiff") and path not in listed:
            reason, path = "picture has no row in the table", as_unicode(path)
            key = f"{source}/{nfc(path)}"
            rows.append(make_row(source, key, reason, path=path))
    return rows


def make_row(source: str, key: str, reason: str, **others: Any) -> dict[str, Any]:
    """Return a row of all columns of `STATED` and of the others."""
    own = {"source": source, "key": key, "reason": reason}
    return dict.fromkeys(STATED, "") | others | own


def as_unicode(value: str) -> str:
    """Return text that UTF-8 can hold; lone surrogates become escapes."""
    return value.encode("utf-8", "backslashreplace").decode()


def day_of(seconds: float) -> str:
    """Return the ISO date in UTC of a file's time, "" where none is stored."""
    try:
        moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
        return moment.date().isoformat() if seconds > 0 else ""
    except (ValueError, OverflowError, OSError):
        return ""


def _table_rows(table: Path) -> Iterator[tuple[list[tuple[str, str]], str]]:
    """Yield ([(column, cell)], reason) of each row of a csv; empty lines are none."""
    try:
        size = table.stat().st_size
        if not table.is_file():  # a device or a pipe may never end
            raise OSError
        data = table.read_bytes() if size <= MAX_TABLE_BYTES else b""
    except (OSError, ValueError) as error:
        raise SourceError(
            f"table {table.name!a} cannot be read ({type(error).__name__}); expected "
            "a csv file; correct its path."
        ) from None
    if size > MAX_TABLE_BYTES:
        raise SourceError(
            f"table {table.name!a} has {size:,} bytes; expected at most "
            f"{MAX_TABLE_BYTES:,}; split the collection into several folders."
        )
    # Bytes that are not UTF-8 become lone surrogates, so that only their row is lost.
    text = data.decode("utf-8-sig", "surrogateescape")
    lines = _lines(text)
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


def _lines(text: str) -> Iterator[tuple[list[str], str]]:
    """Yield (cells, reason) of each row of a csv; one that is not csv has no cells.

    A quotation mark that is never closed costs the line it stands in, not the rest.
    """
    lines = io.StringIO(text, newline="").readlines()
    start = 0  # of the reader, in lines
    reader = csv.reader(lines, strict=True)
    while True:
        before = start + reader.line_num
        try:
            yield next(reader), ""
        except StopIteration:
            return
        except csv.Error as error:
            yield [], f"row is not csv (line {before + 1}: {error})"
            if start + reader.line_num == len(lines) > before + 1:
                start = before + 1
                reader = csv.reader(lines[start:], strict=True)


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
        # NaN, not equal to itself, is how tables of numbers say that there is nothing.
        text = str("" if value is None or value != value else value).strip()
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
            if twice := [n for n in names if len(set(texts.get(n, ()))) > 1]:
                reason = reason or f"{twice[0]} stands there twice and differs"
    try:
        day = values["date_seen"] or "2000-01-01"
        if dt.date.fromisoformat(day).isoformat() != day:  # as of 2024-W01-1
            raise ValueError
    except ValueError:
        reason = reason or f"date_seen is {values['date_seen'][:40]!a}, expected ISO"
    undated = _undated(values)
    return values, reason or undated


def _undated(values: dict[str, str]) -> str:
    """Take the day of upload out of a row; say if it leaves the licence uncertain."""
    uploaded = values.pop("uploaded")
    if uploaded.isdecimal() and len(uploaded) < 12:  # Unix seconds, as Flickr has them
        uploaded = day_of(int(uploaded))
    if uploaded and values["license_text"]:
        try:
            read_license(values["license_text"], values["license_url"], uploaded[:10])
        except LicenseError as error:
            return str(error)
    return ""


def _picture(
    folder: Path, file: str, files: Mapping[str, Sequence[str]]
) -> tuple[str, str, str]:
    """Find a table's file, by its name as it is or else in NFC with slashes.

    Returns (path in the folder, reason if it leads to no file inside, its day).
    """
    path = Path(os.path.normpath(file))
    try:
        whole = (folder / path).resolve()
        is_inside = whole.is_relative_to(folder.resolve()) and ".." not in path.parts
        if not is_inside or path.is_absolute():
            return "", f"file {file[:80]!a} lies outside the folder", ""
        if not whole.is_file():
            same = files.get(nfc(os.path.normpath(file.replace("\\", "/"))), ())
            if len(same) == 1:
                return _picture(folder, same[0], {})
            found = f"names {len(same)} files" if same else "is missing"
            return "", f"file {file[:80]!a} {found}", ""
        # A Mac opens a file by either form, and lists it by one.
        listed = files.get(nfc(path.as_posix()), ())
        if len(listed) == 1:
            path = Path(listed[0])
        about = (folder / path).stat()
    except (OSError, ValueError, RuntimeError) as error:
        return "", f"file {file[:80]!a} cannot be found ({type(error).__name__})", ""
    reason = f"file is larger than {MAX_BYTES // 2**20} MiB"
    is_large = about.st_size > MAX_BYTES
    return path.as_posix(), reason if is_large else "", day_of(about.st_mtime)
