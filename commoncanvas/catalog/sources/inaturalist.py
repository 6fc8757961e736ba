"""iNaturalist Open Data: the photographs of observations, with author and taxon.

The tables are tab-separated without quoting. Their licences bear no version; the site's
own code fixes 4.0 (and CC0 1.0), and each row records that this was declared for all.
Its PD means "no known copyright restrictions", which is a statement and no licence.
A photograph of several observations has several rows: stage 01 keeps the first.

Source: inaturalist-open-data, its README and exporter; iNaturalist's licence module.
"""

import glob

from duckdb import DuckDBPyConnection as Connection
from duckdb import DuckDBPyRelation as Relation

from commoncanvas.catalog.columns import NOT_HERE, as_sql
from commoncanvas.catalog.lines import read_tsv
from commoncanvas.core import places
from commoncanvas.core.errors import ParameterError, SourceError

SIZES = ("original", "large", "medium", "small")  # 2048, 1024, 500, 240 px at most
BUCKET = "https://inaturalist-open-data.s3.amazonaws.com/photos/"
DECLARED = "version by iNaturalist's own statement for all its photographs"
PHOTOS = "photo_id observation_uuid observer_id extension license width height".split()


def read_inaturalist(connection: Connection, folder: str, size: str = "") -> Relation:
    """Read the tables of a folder or address: photos and observers, perhaps taxa.

    Args:
        connection: joins in it spill to disk beyond its limit of memory.
        folder: holds photos.csv and observers.csv, and for the taxa observations.csv
            and taxa.csv, each perhaps packed (.gz).
        size: of the pictures that downloadurl leads to, of `SIZES`; "" is large.

    Returns:
        One row a line of photos: STATED, LOCATED (nowhere), then license_note (who says
        the version), taxon (the name of what was observed, "" if unknown),
        quality_grade, width and height [pixels, text]. date_seen is the file's day.

    Raises:
        ParameterError: there is no such size.
        SourceError: a table or a column is missing.
    """
    size = size or "large"
    if size not in SIZES:
        raise ParameterError(
            f"iNaturalist has no size {size!r}; expected one of {', '.join(SIZES)}; "
            "correct `size` in the source."
        )
    photos = read_tsv(connection, _table(folder, "photos"), PHOTOS)
    names = read_tsv(connection, _table(folder, "observers"), _OBSERVERS)
    names = _first(names.filter("observer_id <> ''"), "observer_id", "login", "name")
    rows = photos.set_alias("p").join(
        names.set_alias("o"), "p.observer_id = o.observer_id", how="left"
    )
    rows = rows.select("p.*, coalesce(nullif(name, ''), login) AS author")
    rows = _with_taxa(connection, folder, rows)
    is_user = "regexp_full_match(observer_id, '[0-9]{1,18}')"
    is_ending = "coalesce(regexp_full_match(extension, '[A-Za-z0-9]{1,5}'), false)"
    slug = "lower(replace(license, 'CC-', ''))"
    is_cc = "regexp_full_match(license, 'CC-BY(-NC)?(-SA|-ND)?')"
    is_id = "regexp_full_match(coalesce(photo_id, ''), '[0-9]{1,18}')"
    stated = {
        "key": f"'inaturalist/' || CASE WHEN {is_id} THEN photo_id ELSE place END",
        "source": "'inaturalist'",
        "author": "author",
        "author_url": f"CASE WHEN {is_user} THEN "
        "'https://www.inaturalist.org/people/' || observer_id END",
        "pageurl": f"CASE WHEN {is_id} THEN 'https://www.inaturalist.org/photos/' || "
        "photo_id END",
        "downloadurl": f"CASE WHEN {is_id} AND {is_ending} THEN "
        f"'{BUCKET}' || photo_id || '/{size}.' || extension END",
        "license_text": "CASE license WHEN 'PD' THEN 'No known copyright restrictions' "
        "ELSE license END",
        "license_url": f"CASE WHEN {is_cc} THEN 'https://creativecommons.org/licenses/'"
        f" || {slug} || '/4.0/' WHEN license = 'CC0' THEN "
        "'https://creativecommons.org/publicdomain/zero/1.0/' END",
        "date_seen": "day",
        "reason": f"CASE WHEN fault <> '' THEN fault WHEN NOT {is_id} "
        "THEN 'the photo id is no whole number' "
        f"WHEN NOT {is_ending} THEN 'the extension is no letters and digits' END",
    }
    declared = (
        f"CASE WHEN {is_cc} OR license = 'CC0' THEN '{_DECLARED}' ELSE '' END "
        "AS license_note"
    )
    own = ("taxon", "quality_grade", "width", "height")
    others = ", ".join(f"coalesce({name}, '') AS {name}" for name in own)
    return rows.select(f"{as_sql(stated)}, {NOT_HERE}, {declared}, {others}")


_OBSERVERS = ("observer_id", "login", "name")
_DECLARED = DECLARED.replace("'", "''")


def _with_taxa(connection: Connection, folder: str, rows: Relation) -> Relation:
    """Add taxon and quality_grade, NULL where the folder has no tables of them."""
    lies = {
        name: places.find_files(f"{glob.escape(folder)}/{name}.csv*") for name in _TAXA
    }
    if not all(lies.values()):
        return rows.select("*, NULL AS taxon, NULL AS quality_grade")
    seen, taxa = (read_tsv(connection, lies[n][0], c) for n, c in _TAXA.items())
    seen = _first(seen, "observation_uuid", "taxon_id", "quality_grade")
    taxa = _first(taxa, "taxon_id", "name")
    rows = rows.set_alias("p").join(
        seen.set_alias("s"), "p.observation_uuid = s.observation_uuid", how="left"
    )
    rows = rows.select("p.*, s.taxon_id AS taxon_id, quality_grade")
    rows = rows.set_alias("p").join(
        taxa.set_alias("t"), "p.taxon_id = t.taxon_id", how="left"
    )
    return rows.select("p.*, t.name AS taxon")


def _first(rows: Relation, key: str, *columns: str) -> Relation:
    """Keep of each id its first line, so that one that stands twice adds no photograph.

    A line that can be read has a text in each column, so all are of one line.
    """
    line = "CAST(split_part(place, ':', -1) AS BIGINT)"
    first = ", ".join(f"arg_min({name}, {line}) AS {name}" for name in columns)
    return rows.filter("fault = ''").aggregate(f"{key}, {first}")


_TAXA = {
    "observations": ("observation_uuid", "taxon_id", "quality_grade"),
    "taxa": ("taxon_id", "name"),
}


def _table(folder: str, name: str) -> str:
    found = places.find_files(f"{glob.escape(folder)}/{name}.csv*")
    if len(found) != 1:
        raise SourceError(
            f"{folder!r} holds {len(found)} files {name}.csv; expected one, plain or "
            "packed (.gz), from s3://inaturalist-open-data; fetch it."
        )
    return found[0]
