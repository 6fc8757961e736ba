"""Data sets that `commoncanvas release-data` wrote: CommonCatalog's columns and ours.

CommonCatalog's own columns leave no room for a work that is not Flickr's, nor for who
wrote a caption. What a catalogue said stands in columns beside them, so that reading
such a data set gives the catalogue's rows back.
"""

from duckdb import DuckDBPyRelation as Relation

# Column of `columns.STATED` -> column of the data set that holds it, as plain text.
OWN = {
    "key": "key",
    "source": "source",
    "title": "work_title",
    "author": "author",
    "author_url": "author_url",
    "license_text": "license_text",
    "license_url": "license_url",
    "alt_text": "alt_text",
    "date_seen": "date_seen",
    "captioner": "captioner",
}
_PREFIX = "own_"


def is_released(rows: Relation) -> bool:
    """Tell whether rows of CommonCatalog's columns have ours too."""
    return set(OWN.values()) <= set(rows.columns)


def own_columns(rows: Relation) -> list[str]:
    """Return SQL for our columns under names that `with_own` knows, if there are any.

    What is no text becomes text, since a file from elsewhere may hold anything.
    """
    if not is_released(rows):
        return []
    return [
        f"coalesce(CAST({column} AS VARCHAR), '') AS {_PREFIX}{name}"
        for name, column in OWN.items()
    ]


def own_names(columns: list[str]) -> list[str]:
    """Return those of the columns that `own_columns` made."""
    return [name for name in columns if name.startswith(_PREFIX)]


def with_own(stated: Relation) -> Relation:
    """Let rows say what their catalogue said, where they hold it."""
    own = {name.removeprefix(_PREFIX): name for name in own_names(stated.columns)}
    if not own:
        return stated
    known = [f"{column} AS {name}" for name, column in own.items()]
    replaced = [one for one in known if one.split(" AS ")[1] in stated.columns]
    added = [one for one in known if one not in replaced]
    rest = f"* EXCLUDE ({', '.join(own.values())}) REPLACE ({', '.join(replaced)})"
    return stated.select(", ".join([rest, *added]))
