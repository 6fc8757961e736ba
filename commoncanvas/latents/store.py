"""Writes the index of stage 03, and its tensors into few safetensors files."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from commoncanvas.core.errors import ManifestError
from commoncanvas.core.files import write_atomically, writing
from commoncanvas.core.keys import key_of
from commoncanvas.latents.buckets import Buckets, bucket_shape
from commoncanvas.models.efficientnet import NUM_FEATURES

# Rows of a file, at most; latents of (4, 32, 32) then take 1 GB.
WORKS_PER_FILE = 2**16
FILE_BYTES = 2**30  # of a file, at most, if it has more than one row
_BATCH = 256  # rows unpacked at once
INDEX, TEXTS = "index.parquet", "texts.parquet"
Part: TypeAlias = Path | pa.Table  # a Parquet file, or its table
Columns = dict[str, tuple[tuple[int, ...], Any]]  # name: shape of a row, dtype


def write_index(
    folder: Path | str, pieces: Iterable[tuple[pa.Table, list[str]]]
) -> dict[str, tuple[Path, int]]:
    """Write index.parquet and texts.parquet, a row group a piece.

    Memory holds one piece. A text that several pieces have gets a row in each; the
    first of each piece is the empty caption, and that of the first is row 0.

    Args:
        folder: the stage's data folder.
        pieces: from `make_index`, e.g. one a file of pictures.

    Returns:
        {hash of a piece's works and texts: (texts.parquet, row group)}, the latter as
        `text_file` takes it.
    """
    folder = Path(folder)
    num_texts, found = 0, {}
    index, words = folder / INDEX, folder / TEXTS
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        schema = pa.schema([("text", pa.string())])
        with pq.ParquetWriter(words, schema) as texts_writer:
            writer = None
            for number, (table, texts) in enumerate(pieces):
                name = key_of(works=table["key"].to_pylist(), texts=texts)
                writer = writer or pq.ParquetWriter(index, table.schema)
                writer.write_table(_shifted(table, num_texts))
                texts_writer.write_table(pa.table({"text": texts}, schema))
                found[name] = words, number
                num_texts += len(texts)
            if writer:
                writer.close()
    return found


def _shifted(index: pa.Table, num: int) -> pa.Table:
    """Return an index whose texts come after `num` others."""
    for place, name in enumerate(index.column_names):
        if name.startswith("text_"):
            lists = index[name].combine_chunks()
            rows = pc.add(lists.flatten(), num)
            lists = pa.ListArray.from_arrays(lists.offsets, rows)
            index = index.set_column(place, name, lists)
    return index


def write_latents(
    folder: Path | str,
    tables: Iterable[Part],
    texts: Iterable[Part],
    latent_shape: Sequence[int],
    text_shape: Sequence[int],
    buckets: Buckets = (),
) -> None:
    """Write latents and text states of a stage's pictures beside their index.

    Memory holds one output file at a time, and a byte a picture where there are
    buckets.

    Args:
        folder: of `write_index`; latents written to it before are removed.
        tables: as from `named_files`: the rows of `latent_table`, one a picture in the
            order of the index.
        texts: the same of `text_table`, in the order of texts.parquet.
        latent_shape: (channels, h/8, w/8); of several buckets, the channels count.
        text_shape: (tokens, width).
        buckets: those that `latent_table` was given; the index then gets a column
            bucket, and the tables are read once for each.

    Raises:
        ManifestError: index and tables disagree; no tensor is written or removed.
        StorageError: the disk is full.
    """
    tables, texts = list(tables), list(texts)  # the keys are read first, on their own
    folder = Path(folder)
    _check(tables, "key", [folder / INDEX])
    _check(texts, "text", [folder / TEXTS])
    with writing(folder):
        for old in folder.glob("*.safetensors"):  # a larger world had more of them
            old.unlink()
        if buckets:
            found = (number for (number,) in _rows(tables, ["bucket"]))
            numbers = np.fromiter(found, np.int8, num_rows(tables))
            _add_buckets(folder / INDEX, numbers)
            for number, (width, height) in enumerate(buckets):
                shape = bucket_shape(latent_shape[0], (width, height))
                stem = folder / f"latents-{number}-{width}x{height}"
                _write(stem, tables, _posterior(shape), numbers == number)
        else:
            _write(folder / "latents", tables, _posterior(latent_shape))
        _write(folder / "features", tables, {"features": ((NUM_FEATURES,), np.float32)})
        _write(folder / "texts", texts, {"states": (tuple(text_shape), np.float16)})


def _add_buckets(file: Path, numbers: np.ndarray) -> None:
    """Write an index anew with the (n,) int8 bucket of each work."""
    index = pq.ParquetFile(file)

    def write(part: Path) -> None:
        schema = index.schema_arrow.append(pa.field("bucket", pa.int8()))
        with pq.ParquetWriter(part, schema) as writer:
            start = 0
            for group in range(index.num_row_groups):
                table = index.read_row_group(group)
                own = pa.array(numbers[start : start + len(table)])
                writer.write_table(table.append_column("bucket", own))
                start += len(table)

    write_atomically(file, write)


def _posterior(shape: Sequence[int]) -> Columns:
    return {name: (tuple(shape), np.float16) for name in ("mean", "logvar")}


def _check(tables: Sequence[Part], column: str, wanted: Sequence[Part]) -> None:
    """Refuse tables whose rows are not those of stage's own file, one by one."""
    pairs = itertools.zip_longest(_rows(tables, [column]), _rows(wanted, [column]))
    if not all(a == b for a, b in pairs):
        raise ManifestError(
            f"03_latents: {num_rows(tables)} {column}s are encoded, and the index has "
            f"{num_rows(wanted)}; expected the same in the same order; delete "
            ".checkpoints/ and run again."
        )


def num_rows(parts: Iterable[Part]) -> int:
    """Count the rows of Parquet files or tables, without reading the files."""
    return sum(
        part.num_rows if isinstance(part, pa.Table) else pq.read_metadata(part).num_rows
        for part in parts
    )


def _rows(parts: Iterable[Part], columns: Sequence[str]) -> Iterator[tuple]:
    """Yield the values of some columns, row by row."""
    for part in parts:
        if isinstance(part, pa.Table):
            batches = part.select(columns).to_batches(_BATCH)
        else:
            batches = pq.ParquetFile(part).iter_batches(_BATCH, columns=columns)
        for batch in batches:
            yield from zip(*(batch[c].to_pylist() for c in columns), strict=True)


def _write(
    stem: Path, parts: Sequence[Part], columns: Columns, is_in: np.ndarray | None = None
) -> None:
    """Write columns of raw bytes, file by file; `is_in` is (n,) bool, None for all."""
    rows, total = _rows(parts, list(columns)), num_rows(parts)
    if is_in is not None:
        rows, total = itertools.compress(rows, is_in), int(is_in.sum())
    size = sum(np.prod(shape) * kind().itemsize for shape, kind in columns.values())
    most = max(1, min(WORKS_PER_FILE, int(FILE_BYTES // size)))
    for number, start in enumerate(range(0, total, most)):
        arrays = _unpacked(rows, min(most, total - start), columns)
        save_file(arrays, f"{stem}-{number:05d}.safetensors")
        del arrays  # before the next are made: memory holds one file


def _unpacked(rows: Iterator[tuple], num: int, columns: Columns) -> dict[str, Any]:
    """Return {name: (num, *shape)} of the next rows of raw bytes."""
    arrays = {
        name: np.empty((num, *shape), kind) for name, (shape, kind) in columns.items()
    }
    for place, row in enumerate(itertools.islice(rows, num)):
        for array, data in zip(arrays.values(), row, strict=True):
            array[place] = np.frombuffer(data, array.dtype).reshape(array.shape[1:])
    return arrays
