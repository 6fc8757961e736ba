"""PD12M and its kin (PD3M, megalith-cc0): tables of works in the public domain.

Two generations of columns are about: today's id, url, caption, width, height,
mime_type, hash, license and source, and the older md5_hash and license_type. Neither
holds title, author or page, which these tools do not ask for. Captions are by
Florence-2.

Source: pd12m, the data set's card and its history.
"""

import glob
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from duckdb import DuckDBPyConnection as Connection
from duckdb import DuckDBPyRelation as Relation

from commoncanvas.catalog.columns import AUTHOR, NOT_HERE, UNNAMED, as_sql, sql_text
from commoncanvas.core import places
from commoncanvas.core.errors import SourceError

CAPTIONER = "florence-2"
# Today's names of columns -> what older files call them.
NAMES = {"license": ("license", "license_type"), "md5": ("hash", "md5_hash")}
NEEDED = ("id", "url", "caption")


def read_pd12m(
    connection: Connection,
    files: Sequence[str],
    source: str = "pd12m",
    captioner: str = CAPTIONER,
) -> Relation:
    """Read parquet files as a relation; nothing is read before it is used.

    Args:
        files: of one generation of columns, or of both.
        source: the collection's name.
        captioner: who wrote the captions; `AUTHOR` makes them alt text.

    Returns:
        One row a row: STATED, LOCATED (nowhere: pictures are fetched by downloadurl),
        then organisation (where the work comes from), md5 (of the picture file, 32
        hexadecimal digits), mime_type, width and height [pixels, text]. date_seen is
        the day of the file.

    Raises:
        SourceError: there is no file, or columns are missing.
    """
    if not files:
        raise SourceError("no parquet file is named; expected one or more; add them.")
    places.register(connection, files[0])
    alike: dict[tuple[str, ...], list[str]] = {}  # files by their SQL
    for file in files:
        alike.setdefault(_cells(connection, file), []).append(file)
    told = "SELECT file_name FROM parquet_file_metadata(?)"  # DuckDB's name of a file
    names = [
        connection.sql(told, params=[glob.escape(f)]).fetchall()[0][0] for f in files
    ]
    columns = {"file": names, "day": [places.day_of_file(f) for f in files]}
    days = connection.from_arrow(pa.table(columns)).set_alias("d")
    parts = []
    for cells, some in alike.items():
        rows = connection.read_parquet(
            list(map(glob.escape, some)), file_row_number=True, filename=True
        )
        place = "parse_filename(filename) || ':' || file_row_number AS place"
        parts.append(rows.select(f"filename, {place}, {', '.join(cells)}"))
    rows = parts[0]
    for part in parts[1:]:
        rows = rows.union(part)
    rows = rows.set_alias("r").join(days, "r.filename = d.file", "left")
    is_author, words = captioner == AUTHOR, "trim(caption)"
    writer = sql_text(captioner or UNNAMED)
    stated = {
        "key": f"{sql_text(source + '/')} || coalesce(nullif(trim(id), ''), place)",
        "source": sql_text(source),
        "downloadurl": "url",
        "license_text": "CASE WHEN license NOT LIKE 'http%' THEN license END",
        "license_url": "CASE WHEN license LIKE 'http%' THEN license END",
        "alt_text": words if is_author else "NULL",
        "caption": "NULL" if is_author else words,
        "captioner": "NULL"
        if is_author
        else f"CASE WHEN {words} <> '' THEN {writer} END",
        "date_seen": "day",
        "reason": "CASE WHEN coalesce(trim(id), '') = '' THEN 'the row has no id' END",
    }
    own = ("organisation", "md5", "mime_type", "width", "height")
    others = ", ".join(f"coalesce({name}, '') AS {name}" for name in own)
    return rows.select(f"{as_sql(stated)}, {NOT_HERE}, {others}")


def _cells(connection: Connection, file: str) -> tuple[str, ...]:
    """Return SQL for a file's columns under today's names, as text."""
    try:
        there = set(connection.read_parquet(glob.escape(file)).columns)
    except Exception as error:  # DuckDB's, or of a file system without a network
        raise places.refusal(file, error) from None
    found = {now: [n for n in names if n in there] for now, names in NAMES.items()}
    lacking = [name for name in NEEDED if name not in there]
    lacking += [] if found["license"] else ["license"]
    if lacking:
        raise SourceError(
            f"{Path(file).name} lacks {', '.join(lacking)}; expected PD12M's columns, "
            "the licence of every picture among them; check what was fetched."
        )
    values = {name: name for name in NEEDED}
    values |= {now: (names[0] if names else "NULL") for now, names in found.items()}
    plain = {"organisation": "source"} | {
        n: n for n in ("mime_type", "width", "height")
    }
    values |= {now: n if n in there else "NULL" for now, n in plain.items()}
    return tuple(f"CAST({sql} AS VARCHAR) AS {name}" for name, sql in values.items())
