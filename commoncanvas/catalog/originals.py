"""The files of pictures as their sources hold them, read where they lie.

A row names its place (`columns.LOCATED`) instead of holding bytes. Rows are read in the
order of `sort_by_place`, so that each tar and each row group of a parquet file is read
forward, once a shard, and one picture is in memory at a time.
"""

import bz2
import gzip
import hashlib
import lzma
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import IO, Any, cast

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from commoncanvas.core.errors import SourceError, brief
from commoncanvas.core.files import sha256_of
from commoncanvas.core.places import is_address, refusal

Row = Mapping[str, Any]
PICTURE = "jpg"  # CommonCatalog's column
BATCH = 16  # pictures of a parquet file that are read together
BUFFER_BYTES = 2**23  # of a parquet file, ahead; else a row group is read whole


def sort_by_place(frame: pd.DataFrame) -> pd.DataFrame:
    """Return catalogue rows in the order in which their pictures are read.

    That is by file and place in it, then by key; drawings, which have no file, come
    first. It depends on the works alone, not on the order of the profile's sources.
    """
    return frame.sort_values(["path", "start", "key"], kind="stable")


def with_originals(rows: Iterable[Row]) -> Iterator[dict[str, Any]]:
    """Yield for each row what `drawing.draw_row` takes, one at a time, in order.

    That is its svg, its path, its picture (the bytes of a file that lies in a tar or a
    parquet file), or the reason why it cannot be read.

    Raises:
        SourceError: a file of another machine cannot be read, which may pass.
    """
    for (path, kind), group in groupby(rows, _container):
        if kind == "tar":
            yield from _from_tar(path, list(group))
        elif kind == "parquet":
            yield from _from_parquet(path, [int(row["start"]) for row in group])
        else:
            names = ("svg", "path", "picture", "rotation")
            for row in group:
                yield {name: row[name] for name in names if name in row}


def source_sha256(row: Row) -> str:
    """Return the SHA-256 of what a source holds of a work: its SVG or picture file.

    Unlike that of the pixels, it stays the same whatever size they are drawn in. It is
    "" where the file cannot be read.
    """
    (found,) = with_originals([row])
    if isinstance(found.get("svg"), str):
        return hashlib.sha256(found["svg"].encode()).hexdigest()
    if isinstance(found.get("path"), str):
        return sha256_of(found["path"])
    return hashlib.sha256(found["picture"]).hexdigest() if "picture" in found else ""


def identity_of(frame: pd.DataFrame) -> str:
    """Return a hash of what `with_originals` would read of catalogue rows.

    Of a local file it takes size and time of change instead of the bytes; an address
    holds a commit.
    """
    whole = hashlib.sha256()
    known = ("key", "path", "start", "length", "svg", "rotation")
    columns = [name for name in known if name in frame]
    last, facts = "", ""
    for start in range(0, len(frame), 2**16):  # else all become Python's own at once
        part = frame[columns].iloc[start : start + 2**16]
        for row in part.itertuples(index=False, name=None):
            path = row[1]
            if path != last:
                last, facts = path, _state_of(path)
            whole.update(f"{row!r}{facts}\n".encode("utf-8", "backslashreplace"))
    return whole.hexdigest()


def _state_of(path: str) -> str:
    try:
        facts = Path(path).stat()
    except (OSError, ValueError):
        return ""
    return f" {facts.st_size} {facts.st_mtime_ns}" if path else ""


def _container(row: Row) -> tuple[str, str]:
    """Return the file that a row's picture lies in, and its kind, "" for none."""
    if row.get("start", -1) < 0:
        return "", ""
    return row["path"], "tar" if row["length"] >= 0 else "parquet"


def _from_tar(path: str, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    file: IO[bytes] | None = None
    try:
        for row in rows:
            try:
                file = file or _unpacked(path)
                file.seek(row["start"])
                data = file.read(row["length"])
            except Exception as error:
                # What the readers of gzip and xz raise on broken bytes is their own.
                if is_address(path):
                    raise refusal(path, error) from None
                yield {"reason": f"tar cannot be read again ({type(error).__name__})"}
                continue
            is_whole = len(data) == row["length"]
            yield (
                {"picture": data} if is_whole else {"reason": "tar has become shorter"}
            )
    finally:
        if file:
            file.close()


def _unpacked(path: str) -> IO[bytes]:
    """Open a tar as a stream of its unpacked bytes, as tarfile tells packings apart."""
    file = cast(IO[bytes], fsspec.open(path, "rb").open())
    head = file.read(10)
    file.seek(0)
    if head.startswith(b"\x1f\x8b\x08"):
        return cast(IO[bytes], gzip.open(file))
    if head.startswith(b"BZh") and head[4:10] == b"1AY&SY":
        return cast(IO[bytes], bz2.open(file))
    if head.startswith((b"\x5d\x00\x00\x80", b"\xfd7zXZ")):
        return cast(IO[bytes], lzma.open(file))
    return file


def _from_parquet(path: str, places: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield the pictures at ascending row numbers of a parquet file."""
    num_read = 0
    try:
        with fsspec.open(path, "rb") as opened:
            file = pq.ParquetFile(opened, buffer_size=BUFFER_BYTES, pre_buffer=False)
            for data in _pictures(file, places):
                yield {"picture": data if isinstance(data, bytes) else b""}
                num_read += 1
    except Exception as error:
        # What a file system raises, without a network for instance, is its own.
        if "://" in path:
            raise SourceError(
                f"{path} cannot be read ({brief(error)}); "
                "expected a file of the data set; check the network and run again, "
                "what is drawn is kept."
            ) from None
        reason = f"{Path(path).name} cannot be read again ({type(error).__name__})"
        yield from [{"reason": reason}] * (len(places) - num_read)


def _pictures(file: pq.ParquetFile, places: Sequence[int]) -> Iterator[Any]:
    """Yield the cells at ascending row numbers; no row group is held whole."""
    waiting = iter(places)
    place = next(waiting, None)
    start = 0  # of the row group, then of the batch
    for number in range(file.num_row_groups):
        end = start + file.metadata.row_group(number).num_rows
        if place is None:
            return
        if place >= end:
            start = end
            continue
        for batch in file.iter_batches(BATCH, [number], [PICTURE], use_threads=False):
            cells = batch.column(0)
            if pa.types.is_struct(cells.type):
                cells = cells.field("bytes")
            while place is not None and place < start + len(batch):
                yield cells[place - start].as_py()
                place = next(waiting, None)
            start += len(batch)
            if place is None or place >= end:
                break
        start = end
    if place is not None:
        raise EOFError  # the file has become shorter
