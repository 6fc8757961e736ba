"""Open Images V7: photographs under CC BY 2.0, with captions that people spoke.

A csv states author, page, title and licence of each; the pictures are had from CVDF's
bucket, which resized them, so that OriginalMD5 is of Flickr's file and not of theirs.
Localized Narratives, for some of them, are captions by people.

Source: open-images, its README; localized-narratives.
"""

from collections.abc import Sequence

from duckdb import DuckDBPyConnection as Connection
from duckdb import DuckDBPyRelation as Relation

from commoncanvas.catalog.columns import HUMAN, NOT_HERE, as_sql
from commoncanvas.catalog.lines import read_csv
from commoncanvas.core import places
from commoncanvas.core.errors import SourceError

BUCKET = "https://s3.amazonaws.com/open-images-dataset/"  # CVDF's
COLUMNS = """ImageID Subset OriginalURL OriginalLandingURL License AuthorProfileURL
Author Title OriginalMD5 Rotation""".split()


def read_openimages(
    connection: Connection, files: Sequence[str], narratives: Sequence[str] = ()
) -> Relation:
    """Read `image_ids_and_rotation.csv` or its like, and narratives if there are any.

    Args:
        files: the csv files.
        narratives: jsonl files of Localized Narratives. Of several of one picture that
            of the first annotator is its caption; stage 02 can import them all.

    Returns:
        One row a line: STATED, LOCATED (nowhere), then original_url, original_md5 (of
        the file there, 32 hexadecimal digits, "" if unreadable) and rotation (0, 90,
        180 or 270 degrees counterclockwise by which CVDF's picture is to be turned, 0
        where nothing is said). date_seen is the day of the csv.

    Raises:
        SourceError: there is no file, a column is missing, or narratives are no JSON.
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
    """Add told, the caption of the first annotator, NULL where there is none."""
    if not files:
        return rows.select("*, NULL AS told")
    places.register(connection, files[0])
    fields = "{image_id: 'VARCHAR', caption: 'VARCHAR', annotator_id: 'BIGINT'}"
    try:
        found = connection.sql(
            f"FROM read_json(?, columns = {fields}, format = 'newline_delimited')",
            params=[list(files)],
        )
    except Exception as error:  # DuckDB's, or of a file system without a network
        raise places.refusal(files[0], error) from None
    first = "arg_min(trim(caption), (annotator_id, caption)) AS told"
    found = found.filter("trim(caption) <> ''").aggregate(f"image_id, {first}")
    rows = rows.set_alias("r").join(
        found.set_alias("n"), "r.ImageID = n.image_id", how="left"
    )
    return rows.select("r.*, told")
