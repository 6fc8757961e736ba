"""Pictures drawn shard by shard, and stored in numbered files.

A shard holds the works that stand together in `originals.sort_by_place`, whether or not
they can be drawn, and becomes the file of its number. So a work that is taken down
changes its own file, and its neighbours keep theirs.
"""

import contextlib
import functools
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, overload

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from commoncanvas.catalog.columns import LOCATED
from commoncanvas.catalog.drawing import BLOCKS, Picture, draw_picture
from commoncanvas.catalog.originals import identity_of, sort_by_place, with_originals
from commoncanvas.core.bounded import Bounded
from commoncanvas.core.errors import PictureError
from commoncanvas.core.keys import code_hash, key_of
from commoncanvas.core.picture_store import write_pictures
from commoncanvas.core.shards import shard_files

FACTS = ["sha256", "source_sha256", "changes"]  # of a picture, in the catalogue
NOTHING = Picture(b"", "", "", bytes(3 * BLOCKS**2), "")
_open = contextlib.ExitStack()  # of this process: the drawing processes


class _Rows(Sequence[dict[str, Any]]):
    """A frame's rows, made as they are asked for."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame

    def __len__(self) -> int:
        return len(self.frame)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            rows = self.frame.iloc[place].to_dict("records")
            for row in rows:  # a worker's folder is another
                if row["path"] and "://" not in row["path"]:
                    row["path"] = str(Path(row["path"]).absolute())
            return rows
        return self[place : place + 1][0]


def draw_shards(
    kept: pd.DataFrame,
    size: int,
    keep_shape: bool,
    shard_size: int,
    engine: str = "local",
    num_workers: int = 2,
) -> tuple[str, list[Path]]:
    """Draw catalogue rows, those that are not drawn yet, each as `draw_picture` does.

    Args:
        kept: the rows to draw, of any order; at least one.
        size, keep_shape: as for `draw_picture`.
        shard_size: works a file of pictures.
        engine: see `shards.shard_files`; with "ray", every worker must see the sources.
        num_workers: processes that draw, a worker.

    Returns:
        The key of the work, for `keys.finish`, and the shards' files, which hold key,
        picture, FACTS, thumbnail and reason, "" where there is a picture.
    """
    columns = [n for n in ["key", *LOCATED, "svg", "rotation"] if n in kept]
    planned = sort_by_place(kept[columns])
    key = key_of(
        works=identity_of(planned),
        size=size,
        keep_shape=keep_shape,
        shard=shard_size,
        code=code_hash("catalog.storing"),
    )
    draw = functools.partial(_draw_shard, size, keep_shape, num_workers)
    try:
        rows = _Rows(planned)
        return key, shard_files(key, rows, shard_size, draw, "pictures", engine)
    finally:
        _open.close()
        _pool.cache_clear()


def _draw_shard(
    size: int, keep_shape: bool, num_workers: int, rows: list[dict[str, Any]]
) -> pa.Table:
    draw = functools.partial(draw_picture, size=size, keep_shape=keep_shape)
    drawn = list(_pool(num_workers).map(draw, with_originals(rows)))
    reasons = [str(one) if isinstance(one, PictureError) else "" for one in drawn]
    found = [NOTHING if why else p for p, why in zip(drawn, reasons, strict=True)]
    columns = dict(
        zip(Picture._fields, map(list, zip(*found, strict=True)), strict=True)
    )
    return pa.table({"key": [row["key"] for row in rows], **columns, "reason": reasons})


@functools.cache
def _pool(num_workers: int) -> Bounded:
    """Start drawing processes once for all shards: that takes seconds."""
    return _open.enter_context(Bounded(num_workers))


def add_facts(
    frame: pd.DataFrame, files: Sequence[Path], shard_size: int
) -> pd.DataFrame:
    """Return the catalogue with the facts of its drawn pictures, and their files.

    Rows that could not be drawn are rejected with the reason. New columns are FACTS, ""
    where there is no picture, and file, the number of its shard, or -1.
    """
    drawn = frame.loc[frame["split"] != "rejected", ["key", "path", "start"]]
    places = sort_by_place(drawn).index
    parts = [pq.ParquetFile(f).read([*FACTS, "reason"]) for f in files]
    facts = pa.concat_tables(parts).to_pandas().set_index(places)
    facts["file"] = np.arange(len(facts), dtype=np.int32) // shard_size
    failed = facts["reason"] != ""
    facts.loc[failed, "file"] = -1
    frame = frame.assign(**dict.fromkeys(FACTS, ""), file=np.int32(-1))
    for name in [*FACTS, "file"]:
        frame.loc[places, name] = facts[name]
    lost = failed.index[failed]
    frame.loc[lost, "reason"] = facts.loc[lost, "reason"]
    frame.loc[lost, "split"] = "rejected"
    return frame


def read_thumbnails(frame: pd.DataFrame, files: Sequence[Path]) -> np.ndarray:
    """Return (n, 24, 24, 3) uint8 thumbnails of the drawn works, in a temporary file.

    The order is that of the frame's rows. They lie beside the shards: 1,728 bytes each,
    of which memory holds what is being read.
    """
    shape = (max(1, len(frame)), BLOCKS, BLOCKS, 3)
    with TemporaryFile(dir=files[0].parent) as file:
        found = np.memmap(file, np.uint8, "w+", shape=shape)[: len(frame)]
    place_of = pd.Series(np.arange(len(frame)), frame["key"].to_numpy())
    for path in files:
        table = pq.ParquetFile(path).read(["key", "thumbnail"])
        places = place_of.reindex(table["key"].to_pandas()).to_numpy()
        is_in = ~np.isnan(places)
        data = b"".join(table["thumbnail"].to_pylist())
        views = np.frombuffer(data, np.uint8).reshape(-1, *shape[1:])
        found[places[is_in].astype(int)] = views[is_in]
    return found


def store_pictures(folder: Path, frame: pd.DataFrame, files: Sequence[Path]) -> None:
    """Write the pictures of the frame's works into the files of stage 01's folder.

    A shard of which no work is left becomes no file.
    """
    for number, works in frame.groupby("file"):
        table = pq.ParquetFile(files[int(number)]).read(["key", "picture"])
        split_of = dict(zip(works["key"], works["split"], strict=True))
        pairs = zip(*(column.to_pylist() for column in table), strict=True)
        rows = [(key, split_of[key], data) for key, data in pairs if key in split_of]
        write_pictures(folder, int(number), rows)
