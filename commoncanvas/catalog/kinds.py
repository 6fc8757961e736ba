"""Sources that somebody typed: whether their kind is known, and what else to write."""

import difflib
from pathlib import Path

from commoncanvas.catalog.entries import KINDS, Entry, parse
from commoncanvas.catalog.sources.iconify import read_pins
from commoncanvas.core.errors import ParameterError

ENDINGS = {".csv": "folder", ".tar": "webdataset"}  # of files that one kind reads


def named(source: str) -> Entry:
    """Read an entry, and see that its kind is known and that its table is no folder.

    Raises:
        ParameterError: it names no kind, or a folder where a table is read, or has an
            option that its kind does not know.
        SourceError: the kind is refused, since it states no licences.
    """
    entry = parse(source)
    if entry.kind in KINDS:
        if entry.kind == "folder" and Path(entry.path).is_dir():
            start = source.removesuffix(entry.path)
            raise ParameterError(
                f"source {source!r} names a folder; expected the table in it; write "
                f"{start}{_table_in(entry.path)}."
            )
        return entry
    sets = ["openclipart", *read_pins()]
    if source in sets:
        return entry
    raise ParameterError(
        f"source {source!r} names no kind that is known; expected KIND:PATH or the "
        f"name of a pinned set, such as twemoji; {_instead(source, entry, sets)}kinds "
        f"are {', '.join(KINDS)}."
    )


def _instead(source: str, entry: Entry, sets: list[str]) -> str:
    """Say what was probably meant, "" if nothing is near."""
    is_bare, ending, meant = entry.kind == source, Path(source).suffix.lower(), ""
    if Path(source).is_dir():
        meant = f"folder:{_table_in(source)}"
    elif is_bare and ending in ENDINGS:
        meant = f"{ENDINGS[ending]}:{source}"
    elif near := difflib.get_close_matches(entry.kind, KINDS, 1):
        meant = f"{near[0]}:{entry.path or 'PATH'}"
    elif near := difflib.get_close_matches(source, sets, 1):
        meant = near[0]
    return f"write {meant}; " if meant else ""


def _table_in(folder: str) -> str:
    """Return the one table of a folder, or what it may be called."""
    tables = sorted(Path(folder).glob("*.csv"))
    return str(tables[0] if len(tables) == 1 else Path(folder, "works.csv"))
