"""Entries of a profile's lists of sources: their kind, their options, where they lie.

An entry is KIND:PATH, or KIND:OPTION=VALUE:PATH with one option or several, such as
`gpic:split=nano:shards/*.tar`. Everything that reads sources comes through here: stage
01, which holds them whole, and the audit, which holds one batch.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from duckdb import DuckDBPyConnection as Connection
from duckdb import DuckDBPyRelation as Relation

from commoncanvas.catalog import splits
from commoncanvas.catalog.columns import LOCATED, NOWHERE, STATED
from commoncanvas.catalog.sources import (
    folder,
    gpic,
    iconify,
    inaturalist,
    openclipart,
    openimages,
    pd12m,
    smithsonian,
    webdataset,
    yfcc,
)
from commoncanvas.catalog.state import picture_path
from commoncanvas.core import places
from commoncanvas.core.errors import ParameterError, SourceError, brief

Row = dict[str, Any]
Found = Relation | Iterable[Row]
BATCH = 20_480  # rows of a batch
# An option, whose value may be an address: its colon has slashes behind it.
_OPTION = re.compile(r"([a-z]+)=((?:[^:]|:(?=//))*):(?!//)")
NOT_FETCHED = "its picture is not here; fetch it, then name the folder: pictures=FOLDER"
# Sets that say of no picture what its licence is.
_NO_LICENCE = (
    "expected the licence of every picture; choose a set that states it, such as gpic, "
    "pd12m or openimages."
)
REFUSED = {
    "megalith-10m": "Megalith-10M names a page of each picture and no licence",
    "megalith": "Megalith-10M names a page of each picture and no licence",
    "monet": "MONET licenses the whole set and says of its pictures that individual "
    "rights remain",
}


@dataclass(frozen=True)
class Entry:
    """What an entry of a profile says."""

    name: str  # as the profile has it
    kind: str
    path: str
    options: dict[str, str]


@dataclass(frozen=True)
class _Kind:
    """How a kind is read, and which options it knows beside `pictures`."""

    read: Callable[[Entry, Connection], Found]
    options: tuple[str, ...] = ()
    is_remote: bool = False  # its pictures are fetched by their addresses


def parse(name: str) -> Entry:
    """Read an entry.

    Raises:
        ParameterError: an option is unknown, or stands there twice.
        SourceError: the kind is refused, since it states no licences.
    """
    kind, _, rest = name.partition(":")
    if kind.lower() in REFUSED:
        raise SourceError(f"source {name!r}: {REFUSED[kind.lower()]}; {_NO_LICENCE}")
    options: dict[str, str] = {}
    known = KINDS.get(kind, _Kind(_icons))
    while kind in KINDS and (found := _OPTION.match(rest)):
        option, value = found.groups()
        allowed = (*known.options, *(["pictures"] if known.is_remote else []))
        if option not in allowed or option in options:
            raise ParameterError(
                f"source {name!r} has the option {option!r}; expected "
                f"{', '.join(allowed) or 'none'}, each once; correct the profile."
            )
        options[option], rest = value, rest[found.end() :]
    return Entry(name, kind, rest, options)


def read_all(name: str) -> pd.DataFrame:
    """Read an entry whole: a row a work, as `batches` gives them.

    Raises:
        SourceError: it holds no work, or cannot be read.
    """
    entry, connection = parse(name), splits.connect()
    found = open_entry(entry, connection)
    if isinstance(found, Relation):
        with _whole(entry):
            frame = found.to_arrow_table().to_pandas()
        frame = _finished(entry, frame)
    else:
        frame = _finished(entry, pd.DataFrame(list(found)))
    if frame.empty or frame["reason"].eq(webdataset.EMPTY).all():
        raise nothing_in(name)
    return frame


def batches(
    name: str, size: int = BATCH, need_pictures: bool = True
) -> Iterator[pd.DataFrame]:
    """Yield an entry's rows in batches: STATED, spec and, but of drawings, LOCATED.

    Args:
        need_pictures: whether a row is rejected whose picture would have to be fetched.

    Raises:
        SourceError: it cannot be read.
    """
    entry, connection = parse(name), splits.connect()
    found = open_entry(entry, connection)
    if isinstance(found, Relation):
        with _whole(entry):
            for batch in found.to_arrow_reader(size):
                yield _finished(entry, batch.to_pandas(), need_pictures)
        return
    rows = iter(found)
    while some := list(itertools.islice(rows, size)):
        yield _finished(entry, pd.DataFrame(some), need_pictures)


class _whole:
    """Says in one line that a source breaks off: what DuckDB or a network raises."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, SourceError):
            raise SourceError(
                f"{self.entry.path} breaks off: {brief(error)}; "
                "expected whole files of one form; check the network, or fetch them "
                "again."
            ) from None


def _finished(
    entry: Entry, frame: pd.DataFrame, need_pictures: bool = True
) -> pd.DataFrame:
    """Add spec and, of pictures that are fetched apart, where they were put."""
    if frame.empty:
        return frame
    if entry.kind in KINDS and KINDS[entry.kind].is_remote:
        if pictures := entry.options.get("pictures"):
            fetched = [picture_path(url) if url else "" for url in frame["downloadurl"]]
            lies = [str(Path(pictures, path)) if path else "" for path in fetched]
            frame["path"] = lies
        elif need_pictures:
            frame.loc[frame["reason"] == "", "reason"] = NOT_FETCHED
    return frame.assign(spec=entry.name)


def nothing_in(name: str) -> SourceError:
    """Return the error of a source that holds no work."""
    return SourceError(
        f"source {name!r} holds no work; expected one or more; correct its path, or "
        "take it out of the profile."
    )


def open_entry(entry: Entry | str, connection: Connection) -> Found:
    """Open an entry: a relation of its rows, of a table, or the rows themselves.

    A relation is what `splits.split_metadata` takes.
    """
    entry = parse(entry) if isinstance(entry, str) else entry
    kind = KINDS.get(entry.kind)
    return kind.read(entry, connection) if kind else _icons(entry, connection)


def _icons(entry: Entry, connection: Connection) -> list[Row]:
    if entry.name == "openclipart":
        return openclipart.read()
    return iconify.read_set(entry.name)


def _folder(entry: Entry, connection: Connection) -> list[Row]:
    at = Path(entry.path).parent
    rows = folder.read_folder(at, entry.path, **entry.options)
    for row in rows:
        row |= NOWHERE | {"path": str(at / row["path"])}
    return rows


def _webdataset(entry: Entry, connection: Connection) -> Iterable[Row]:
    tars = places.find_files(entry.path)
    captioner = entry.options.get("captioner", "")
    return webdataset.read_webdataset(tars, captioner=captioner)


def _gpic(entry: Entry, connection: Connection) -> Iterable[Row]:
    subset = entry.options.get("split", "")
    captioner = entry.options.get("captioner", gpic.CAPTIONER)
    return gpic.read_gpic(places.find_files(entry.path), subset, captioner)


def _pd12m(entry: Entry, connection: Connection) -> Relation:
    captioner = entry.options.get("captioner", pd12m.CAPTIONER)
    files = places.find_files(entry.path)
    return pd12m.read_pd12m(connection, files, entry.kind, captioner)


def _inaturalist(entry: Entry, connection: Connection) -> Relation:
    size = entry.options.get("size", "")
    return inaturalist.read_inaturalist(connection, entry.path.rstrip("/"), size)


def _openimages(entry: Entry, connection: Connection) -> Relation:
    told = entry.options.get("narratives", "")
    narratives = places.find_files(told) if told else []
    if told and not narratives:
        raise nothing_in(told)
    files = places.find_files(entry.path)
    return openimages.read_openimages(connection, files, narratives)


def _smithsonian(entry: Entry, connection: Connection) -> Relation:
    return smithsonian.read_smithsonian(connection, places.find_files(entry.path))


def _commoncatalog(entry: Entry, connection: Connection) -> Relation:
    ranges, _, root = entry.path.partition(":")
    wanted = None if ranges in ("", "*") else ranges.split(",")
    return yfcc.read_commoncatalog(connection, root, wanted, [*STATED, *LOCATED])


KINDS = {
    "folder": _Kind(_folder, ("captioner",)),
    "webdataset": _Kind(_webdataset, ("captioner",)),
    "gpic": _Kind(_gpic, ("split", "captioner")),
    "commoncatalog": _Kind(_commoncatalog),
    **dict.fromkeys(
        ("pd12m", "pd3m", "megalith-cc0"),
        _Kind(_pd12m, ("captioner",), is_remote=True),
    ),
    "inaturalist": _Kind(_inaturalist, ("size",), is_remote=True),
    "openimages": _Kind(_openimages, ("narratives",), is_remote=True),
    "smithsonian": _Kind(_smithsonian, is_remote=True),
}
