"""Open Images V7: photographs under CC BY 2.0, with captions that people spoke.

A csv states author, page, title and licence of each; the pictures are had from CVDF's
bucket, which resized them, so that OriginalMD5 is of Flickr's file and not of theirs.
Localized Narratives, for some of them, are captions by people.

Source: open-images, its README; localized-narratives.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from duckdb import DuckDBPyConnection as Connection
from duckdb import DuckDBPyRelation as Relation

from commoncanvas.catalog.columns import HUMAN, NOT_HERE, as_sql
from commoncanvas.catalog.lines import Cells, read_csv, read_objects
from commoncanvas.catalog.sources.folder import as_unicode
from commoncanvas.core.errors import SourceError

BUCKET = "https://s3.amazonaws.com/open-images-dataset/"  # CVDF's
COLUMNS = """ImageID Subset OriginalURL OriginalLandingURL License AuthorProfileURL
Author Title OriginalMD5 Rotation""".split()
NARRATIVE = ("image_id", "annotator_id", "caption")


def read_openimages(
    connection: Connection, files: Sequence[str], narratives: Sequence[str] = ()
) -> Relation:
    """Read `image_ids_and_rotation.csv` or its like, and narratives if there are any.

    Args:
        files: the csv files.
        narratives: jsonl files of Localized Narratives. Of several of one picture that
            of the first annotator is its caption; stage 02 can import them all. A
            line that is none is a row with its reason, and costs no picture.

    Returns:
        One row a line: STATED, LOCATED (nowhere), then original_url, original_md5 (of
        the file there, 32 hexadecimal digits, "" if unreadable) and rotation (0, 90,
        180 or 270 degrees counterclockwise by which CVDF's picture is to be turned, 0
        where nothing is said). date_seen is the day of the csv.

    Raises:
        SourceError: there is no file, or a column is missing.
    """
    if not files:
        raise SourceError("no csv file is named; expected one or more; add them.")
    rows = read_csv(connection, files[0], COLUMNS)
    for file in files[1:]:
        rows = rows.union(read_csv(connection, file, COLUMNS))
    rows = _with_narratives(connection, rows, narratives)
    is_id = "regexp_full_match(coalesce(ImageID, ''), '[0-9a-f]{16}')"
    is_set = "Subset IN ('train', 'validation', 'test')"
    turn = "TRY_CAST(coalesce(nullif(Rotation, ''), '0') AS DOUBLE)"
    is_turn = f"coalesce({turn} IN (0, 90, 180, 270), false)"
    stated = {
        "key": f"'openimages/' || CASE WHEN {is_id} THEN ImageID ELSE place END",
        "source": "'openimages'",
        "title": "Title",
        "author": "Author",
        "author_url": "AuthorProfileURL",
        "pageurl": "OriginalLandingURL",
        "downloadurl": f"'{BUCKET}' || Subset || '/' || ImageID || '.jpg'",
        "license_url": "License",
        "caption": "told",
        "captioner": f"CASE WHEN told <> '' THEN '{HUMAN}' END",
        "date_seen": "day",
        "reason": f"""CASE WHEN fault <> '' THEN fault
        WHEN NOT {is_id} THEN 'the image id is not 16 hexadecimal digits'
        WHEN NOT coalesce({is_set}, false) THEN 'the subset is none of Open Images'''
        WHEN NOT {is_turn} THEN 'the rotation is not 0, 90, 180 or 270' END""",
    }
    return rows.select(
        f"{as_sql(stated)}, {NOT_HERE}, coalesce(OriginalURL, '') AS original_url, "
        "coalesce(lower(hex(TRY(from_base64(OriginalMD5)))), '') AS original_md5, "
        f"CASE WHEN {is_turn} THEN CAST({turn} AS SMALLINT) ELSE 0 END AS rotation"
    )


def _with_narratives(
    connection: Connection, rows: Relation, files: Sequence[str]
) -> Relation:
    """Add told, the caption of the first annotator, NULL where there is none.

    A line that is no narrative becomes a row with its place and its fault.
    """
    if not files:
        return rows.select("*, NULL AS told")
    told = read_objects(connection, files[0], NARRATIVE, _narrative)
    for file in files[1:]:
        told = told.union(read_objects(connection, file, NARRATIVE, _narrative))
    fault = "coalesce(nullif(fault, ''), CASE WHEN image_id IS NULL THEN 'it lacks "
    fault += "image_id, annotator_id or caption as Localized Narratives have them' END)"
    told = told.select(
        f"*, {fault} AS lost, "
        f"CASE WHEN {fault} IS NULL THEN image_id ELSE place END AS id"
    )
    first = "arg_min(trim(caption), (CAST(annotator_id AS BIGINT), caption)) FILTER "
    told = told.aggregate(
        f"id, {first} (trim(caption) <> '') AS told, "
        "min('narrative: ' || lost) AS lost, min(day) AS told_day"
    )
    rows = rows.set_alias("r").join(
        told.set_alias("n"), "r.ImageID = n.id AND n.lost IS NULL", how="outer"
    )
    named = ", ".join(COLUMNS)
    return rows.filter("place IS NOT NULL OR lost IS NOT NULL").select(
        "coalesce(place, id) AS place, coalesce(day, told_day) AS day, "
        f"coalesce(fault, lost) AS fault, {named}, told"
    )


def _narrative(record: dict[str, Any]) -> Iterator[Cells]:
    """Yield `NARRATIVE` of a line, nothing in it where one is not of its kind."""
    image, who, caption = (record.get(name) for name in NARRATIVE)
    texts = [
        one
        for one in (image, caption)
        if isinstance(one, str) and one == as_unicode(one)
    ]
    is_number = type(who) is int and -(2**63) <= who < 2**63
    if len(texts) == 2 and is_number:
        yield [texts[0], str(who), texts[1]]
    else:
        yield [None] * len(NARRATIVE)
