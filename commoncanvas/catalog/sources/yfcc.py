"""YFCC100M and CommonCatalog: their metadata as relations with the columns of STATED.

Nothing is read until a relation is used, and then it streams: memory does not grow
with the number of rows. Every line or row of the source is one row of the relation; one
that is malformed, or is a video, carries its reason. Rows come in any order.

YFCC has no alt text of its own. We take its description, since 31 % of the works have
one, the paper's share of images with alt text.
Its only date besides the camera's is the upload, which becomes date_seen.
Text that is form-URL-encoded is decoded as `urllib.parse.unquote_plus` does, but where
the escapes are not UTF-8, or a space shows that nothing is encoded, it stays as it is.
HTML in titles, names and descriptions, Flickr's form of them, becomes plain text.

Source: commoncanvas-cvpr, §4.1; yfcc100m; the cards of CommonCatalog.
"""

import atexit
import contextlib
import glob
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from duckdb import DuckDBPyConnection as Connection
from duckdb import DuckDBPyRelation as Relation
from duckdb.func import ARROW

from commoncanvas.catalog.columns import LOCATED, as_sql
from commoncanvas.catalog.sources.released import own_columns, own_names, with_own
from commoncanvas.catalog.streams import read_head, read_lines, read_table
from commoncanvas.core import places
from commoncanvas.core.errors import SourceError, brief
from commoncanvas.core.text import html_to_text

# In the order of the files of 2014. The single file that came later has 25: the line's
# number before the photo's id, the photo's hash after it.
COLUMNS = """photoid uid unickname datetaken dateuploaded capturedevice title
description usertags machinetags longitude latitude accuracy pageurl downloadurl
licensename licenseurl serverid farmid secret secretoriginal ext marker""".split()
# CommonCatalog has those but the marker, and what the scrape and the captioner gave.
_SCRAPED = """blip2_caption width height original_width original_height sha256
jpg""".split()
_UNREAD = "url key exif".split()
_UNUSED = ["caption", "status", "error_message", *_UNREAD]
# Type, least and most of each number; others, inf and NaN among them, are NULL.
_RANGES = {
    "longitude": ("DOUBLE", -180, 180),
    "latitude": ("DOUBLE", -90, 90),
    "accuracy": ("INTEGER", 1, 16),
    "serverid": ("INTEGER", 0, 2**31 - 1),
    "farmid": ("INTEGER", 0, 2**31 - 1),
    "width": ("BIGINT", 1, 2**31 - 1),
    "height": ("BIGINT", 1, 2**31 - 1),
    "original_width": ("BIGINT", 1, 2**31 - 1),
    "original_height": ("BIGINT", 1, 2**31 - 1),
}
Paths = Path | str | Iterable[Path | str]
CATALOG_COLUMNS = [*COLUMNS[:-1], *_SCRAPED, *_UNUSED]
# The six sets, by the last folder of a root.
_SETS = re.compile(r"(?:^|[/-])(cc-by(?:-nc)?(?:-sa|-nd)?)(?:@[0-9a-f]*)?$")
# Columns of parquet that are not text, and what DuckDB may call their types. Any column
# may be text, and a column of nothing but NULL has a type of its own.
_NUMBERS = """photoid dateuploaded longitude latitude accuracy serverid farmid marker
width height original_width original_height""".split()
_TYPES = {
    **{name: r"U?(TINY|SMALL|BIG|HUGE)?(INT|INTEGER)|FLOAT|DOUBLE|DECIMAL.*"
       for name in _NUMBERS},
    "datetaken": "TIMESTAMP(_S|_MS|_NS)?|DATE",
    "jpg": r"BLOB|STRUCT\(.*\bbytes BLOB\b.*\)",
}  # fmt: skip


def read_tsv(connection: Connection, paths: Paths) -> Relation:
    """Read YFCC100M's tab-separated metadata, 23 or 25 columns and no header.

    Quotes are plain characters. Lines end in LF or CRLF; the last may lack its end.
    Files are plain or `.bz2` (of one stream or many), each unpacked in its own thread,
    never to disk.

    Returns:
        One row a line: STATED, then photoid (int64, NULL if unreadable), uid,
        marker ("photo", "video" or ""), datetaken (timestamp, NULL where it says null
        or cannot be true), dateuploaded [Unix s], capturedevice, usertags (list of
        text), machinetags, longitude, latitude [degrees], accuracy (1 ... 16),
        serverid, farmid, secret, secretoriginal, ext. Numbers that cannot be are NULL.
        A malformed line has the key `yfcc100m/FILE:LINE` and empty fields.

    Raises:
        SourceError: a file is missing, empty or no bz2 file. One that turns out damaged
            later makes whoever reads the relation raise duckdb.Error.
    """
    # One scan a file, so that several files are unpacked at once.
    parts = [_tsv_rows(connection, path) for path in _listed(paths)]
    if not parts:
        raise SourceError("no file of metadata is named; expected one; add it.")
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.union(part)
    return _stated(connection, whole)


def _listed(paths: Paths) -> list[Path]:
    many = [paths] if isinstance(paths, str | Path) else paths
    return [Path(path) for path in many]


def _tsv_rows(connection: Connection, path: Path) -> Relation:
    """Return fault, place and the 23 columns of one file, all as text."""
    head = read_head(path)
    if not head:
        raise SourceError(f"metadata {path.name} is empty; expected lines; fetch it.")
    counts = (line.count(b"\t") + 1 for line in head.split(b"\n"))
    width = next((count for count in counts if count in (23, 25)), 23)
    places = [2, *range(4, 26)] if width == 25 else range(1, 24)
    fields = [f"fields[{i}] AS {n}" for i, n in zip(places, COLUMNS, strict=True)]
    name = path.name.replace("'", "''")
    return (
        connection.from_arrow(read_lines(path))
        .select("*, regexp_replace(line, '\r?\n$', '') AS bare")
        .select("*, string_split(bare, chr(9)) AS cells")
        .select(
            f"""*, CASE WHEN NOT is_text THEN 'the line is not UTF-8'
            WHEN contains(bare, chr(0)) THEN 'the line holds a NUL byte'
            WHEN len(cells) <> {width}
            THEN 'the line has ' || len(cells) || ' fields, expected {width}'
            ELSE '' END AS fault"""
        )
        .select("*, CASE WHEN fault = '' THEN cells END AS fields")
        .select(f"fault, '{name}:' || place AS place, {', '.join(fields)}")
    )


def read_sqlite(connection: Connection, path: Path | str) -> Relation:
    """Read YFCC100M's SQLite file: the table yfcc100m_dataset with the 23 columns.

    The file is opened read-only. Bytes that are not UTF-8 become U+FFFD. The relation
    is as `read_tsv` gives it, and errors are those of `streams.read_table`.
    """
    rows = connection.from_arrow(read_table(path, "yfcc100m_dataset", COLUMNS))
    place = "'row ' || place AS place"
    return _stated(connection, rows.select(f"'' AS fault, {place}, * EXCLUDE place"))


def read_parquet(connection: Connection, paths: Paths) -> Relation:
    """Read YFCC100M's 23 columns from parquet, as `read_tsv` does from text.

    A file that is missing, empty or not parquet, or has not these columns with values
    of their kind, is a SourceError.
    """
    files = [str(path) for path in _listed(paths)]
    rows = _open_parquet(connection, files, COLUMNS)
    found = connection.sql(
        "FROM parquet_file_metadata(?)", params=[[*map(glob.escape, files)]]
    )
    for (file,) in found.filter("num_rows = 0").select("file_name").fetchall():
        name = Path(file).name
        raise SourceError(f"metadata {name} is empty; expected rows; fetch it again.")
    cells = f"'' AS fault, filename, file_row_number, {', '.join(COLUMNS)}"
    place = "parse_filename(filename) || ':' || file_row_number"
    return _stated(connection, rows.select(cells), place=place)


def _open_parquet(
    connection: Connection, paths: list[str], columns: list[str]
) -> Relation:
    try:
        rows = connection.read_parquet(
            [*map(glob.escape, paths)], filename=True, file_row_number=True
        )
    except Exception as error:  # DuckDB's, or of a file system without a network
        raise SourceError(
            f"cannot read {Path(paths[0]).name if paths else 'no file'}: "
            f"{brief(error)}; expected parquet; fetch it again."
        ) from None
    lacking = [name for name in columns if name not in rows.columns]
    if lacking:
        raise SourceError(
            f"{Path(paths[0]).name} lacks {', '.join(lacking)}; expected the columns "
            f"{', '.join(columns[:3])}, ...; check what was fetched."
        )
    types = {
        n: str(t).strip('"') for n, t in zip(rows.columns, rows.types, strict=True)
    }
    for name in columns:
        expected = f"VARCHAR|NULL|{_TYPES.get(name, 'VARCHAR')}"
        if not re.fullmatch(expected, types[name]) and name not in _UNREAD:
            kind = {"jpg": "bytes", "datetaken": "a date"}.get(name, "text")
            kind = "numbers" if name in _NUMBERS else kind
            raise SourceError(
                f"{Path(paths[0]).name}: column {name} is {types[name][:80]}, expected "
                f"{kind}; write it so."
            )
    empty = [f"CAST(NULL AS VARCHAR) AS {n}" for n in columns if types[n] == "NULL"]
    return rows.select(f"* REPLACE ({', '.join(empty)})") if empty else rows


def read_commoncatalog(
    connection: Connection,
    root: Path | str,
    ranges: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> Relation:
    """Read CommonCatalog's parquet files from a folder or from the Hugging Face Hub.

    Args:
        root: the folder that holds `0` ... `9`, or an address of it such as
            `hf://datasets/common-canvas/commoncatalog-cc-by@REVISION`, where REVISION
            is a commit hash of 40 digits.
        ranges: of the shorter side [pixels], such as ["256-512"]; None for all.
        columns: which columns to read; None for all but the pictures and their places.

    Returns:
        One row a picture: STATED and the columns of `read_tsv`, then
        blip2_caption, width, height, original_width, original_height [pixels], sha256
        and, if `columns` names them, jpg (the picture file's bytes) and `LOCATED`.
        source tells the six sets apart by the root's last folder, e.g.
        commoncatalog/cc-by. alt_text is the column caption, or the description where
        that is empty; caption is BLIP-2's, or what a data set of `release-data` says,
        with its captioner.

    Raises:
        SourceError: nothing is found, columns are missing, or REVISION is no commit.
    """
    found = _catalog_files(connection, str(root).rstrip("/"), ranges)
    rows = _open_parquet(connection, found, CATALOG_COLUMNS)
    types = dict(zip(rows.columns, rows.types, strict=True))
    jpg = "jpg.bytes" if types["jpg"].id == "struct" else "jpg"
    rows = rows.select(
        f"""CASE WHEN coalesce(status, '') IN ('', 'success') THEN ''
        ELSE 'the scrape failed: ' || coalesce(error_message, '') END AS fault,
        parse_filename(filename) || ':' || file_row_number AS place,
        * EXCLUDE ({", ".join(["jpg", "key", "url", "filename", "file_row_number"])}),
        filename AS path, file_row_number AS start, CAST(-1 AS BIGINT) AS length,
        {", ".join(["'0' AS marker", f"{jpg} AS jpg", *own_columns(rows)])}"""
    )
    alt_text = "coalesce(nullif(caption, ''), description)"
    stated = _stated(connection, rows, "commoncatalog", alt_text)
    if one := _SETS.search(str(root).rstrip("/")):
        stated = stated.select(f"* REPLACE ('commoncatalog/{one[1]}' AS source)")
    stated = with_own(stated)
    if columns is None:
        return stated.select(f"* EXCLUDE ({', '.join(['jpg', *LOCATED])})")
    lacking = [name for name in columns if name not in stated.columns]
    if lacking:
        raise SourceError(
            f"no column {', '.join(lacking)}; expected some of "
            f"{', '.join(stated.columns)}; correct `columns`."
        )
    return stated.select(", ".join(columns))


def _stated(
    connection: Connection,
    rows: Relation,
    source: str = "yfcc100m",
    alt_text: str = "description",
    place: str = "place",
) -> Relation:
    """Return STATED and the rest from fault, place, the 23 columns and the scrape's."""
    _add_html_to_text(connection)
    types = dict(zip(rows.columns, map(str, rows.types), strict=True))
    photoid, marker = (_whole(name, types[name]) for name in ("photoid", "marker"))
    second = "TRY_CAST(dateuploaded AS BIGINT)"
    uploaded = f"CASE WHEN {second} BETWEEN 1 AND 4102444799 THEN {second} END"
    day = "DATE '1970-01-01' + CAST(dateuploaded // 86400 AS INTEGER)"
    taken = "TRY_CAST(datetaken AS TIMESTAMP)"
    tags = "list_filter(string_split(usertags, ','), lambda tag: tag <> '')"
    others = [*_SCRAPED, *LOCATED, *own_names(rows.columns)]
    scraped = [n for n in others if n in rows.columns and n not in _RANGES]
    plain, told = ("secret", "secretoriginal", "ext"), "blip2_caption"
    rows = rows.select(
        f"* REPLACE ({photoid} AS photoid, {uploaded} AS dateuploaded, {taken} AS "
        f"datetaken, CAST({marker} AS VARCHAR) AS marker, {alt_text} AS description)"
    )
    columns = {
        "key": f"'{source}/' || coalesce(CAST(photoid AS VARCHAR), {place})",
        "source": f"'{source}'",
        "title": _plain("title"),
        "author": _plain("unickname"),
        "author_url": "CASE WHEN uid <> '' THEN 'https://www.flickr.com/people/' || uid"
        " || '/' ELSE '' END",
        "pageurl": "pageurl",
        "downloadurl": "downloadurl",
        "license_text": "licensename",
        "license_url": "licenseurl",
        "alt_text": _plain("description"),
        **(
            {"caption": told, "captioner": f"CASE WHEN {told} <> '' THEN 'blip-2' END"}
            if told in rows.columns
            else {}
        ),
        "date_seen": f"CAST({day} AS VARCHAR)",
        "reason": """CASE WHEN fault <> '' THEN fault
        WHEN photoid IS NULL THEN 'the photo id is no whole number'
        WHEN marker = '0' THEN '' WHEN marker = '1' THEN 'a video, not a picture'
        ELSE 'the marker is neither 0 nor 1' END""",
    }
    own = {
        "uid": "uid",
        "marker": "CASE marker WHEN '0' THEN 'photo' WHEN '1' THEN 'video' END",
        "capturedevice": _decoded("capturedevice"),
        "machinetags": _decoded("machinetags"),
        **{name: name for name in plain},
    }
    text = [as_sql(columns), *(f"coalesce({sql}, '') AS {n}" for n, sql in own.items())]
    # The first photograph is of 1826; a day's grace, for time zones.
    datetaken = f"""CASE WHEN datetaken BETWEEN TIMESTAMP '1826-01-01'
    AND CAST({day} AS TIMESTAMP) + INTERVAL 2 DAY THEN datetaken END AS datetaken"""
    numbers = [
        f"CASE WHEN TRY_CAST({name} AS {kind}) BETWEEN {least} AND {most} "
        f"THEN CAST({name} AS {kind}) END AS {name}"
        for name, (kind, least, most) in _RANGES.items()
        if name in rows.columns
    ]
    usertags = f"list_transform({tags}, lambda tag: {_decoded('tag')}) AS usertags"
    cells = [*text, "photoid", datetaken, "dateuploaded", usertags]
    return rows.select(", ".join([*cells, *numbers, *scraped]))


def _decoded(name: str) -> str:
    """Return SQL that decodes a form-URL-encoded text."""
    return f"""CASE WHEN contains({name}, ' ') OR NOT regexp_matches({name}, '[+%]')
    THEN {name} ELSE coalesce(TRY(url_decode(replace({name}, '+', ' '))), {name}) END"""


def _plain(name: str) -> str:
    """Return SQL that decodes a text and, where it holds HTML, makes it plain."""
    text = _decoded(name)
    # The function is Python's, so only the few rows that need it pay for it.
    return f"""CASE WHEN regexp_matches({text}, '<[!/a-zA-Z]|&#?[a-zA-Z0-9]+;')
    THEN html_to_text({text}) ELSE {text} END"""


def _add_html_to_text(connection: Connection) -> None:
    """Let SQL of a connection call `html_to_text`, if it cannot yet."""

    def convert(texts: Any) -> pa.Array:
        return pa.array(map(html_to_text, texts.to_pylist()), pa.string())

    with contextlib.suppress(duckdb.NotImplementedException):  # it has it already
        connection.create_function(
            "html_to_text", convert, ["VARCHAR"], "VARCHAR", type=ARROW
        )
        atexit.register(connection.close)  # else DuckDB reports a leak at the end


def _whole(name: str, kind: str) -> str:
    """Return SQL for a column's whole numbers from 0 on as BIGINT, NULL for others."""
    if kind == "VARCHAR":  # a cast alone would round 4.6 and read 1e5
        is_whole = f"regexp_full_match({name}, '0|[1-9][0-9]{{0,17}}')"
    else:  # a float holds whole numbers up to 2^53
        is_whole = f"{name} = floor({name}) AND {name} BETWEEN 0 AND 9007199254740992"
    return f"CASE WHEN {is_whole} THEN TRY_CAST({name} AS BIGINT) END"


def _catalog_files(
    connection: Connection, root: str, ranges: Sequence[str] | None
) -> list[str]:
    """Return the parquet files of some ranges, sorted, and open the way to them."""
    places.check_commit(root)
    places.register(connection, root)
    globs = [f"*/least_dim_range={name}/*/*.parquet" for name in ranges or ["*"]]
    found: list[str] = []
    for pattern in globs:
        paths = places.find_files(f"{glob.escape(root)}/{pattern}")
        if not paths:
            raise SourceError(
                f"{root!r} has no {pattern}; expected CommonCatalog's folders; check "
                "it."
            )
        found += paths
    return sorted(set(found))
