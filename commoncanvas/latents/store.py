"""Writes the tensors of stage 03 into few safetensors files with an index."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.numpy import save_file

from commoncanvas.core.errors import ManifestError
from commoncanvas.core.files import writing
from commoncanvas.latents.buckets import Buckets, bucket_shape
from commoncanvas.models.efficientnet import NUM_FEATURES

# A file of latents of (4, 32, 32) has 1 GB, and 67 million works have 1,023 files.
WORKS_PER_FILE = 2**16
_BATCH = 256  # rows unpacked at once
Part: TypeAlias = Path | pa.Table  # a Parquet file, or its table
Columns = dict[str, tuple[tuple[int, ...], Any]]  # name: shape of a row, dtype


def write_latents(
    folder: Path | str,
    tables: Iterable[Part],
    texts: Iterable[Part],
    index: pd.DataFrame,
    latent_shape: Sequence[int],
    text_shape: Sequence[int],
    buckets: Buckets = (),
) -> None:
    """Write latents, text states and the index of a stage's pictures.

    Memory holds the index, the texts' words and one output file at a time.

    Args:
        folder: the stage's data folder; latents written to it before are removed.
        tables: as from `shard_files`: the rows of `latent_table`, one a picture in the
            order of `index`.
        texts: the same of `text_table`; the first row is the empty caption.
        index: from `make_index`.
        latent_shape: (channels, h/8, w/8); of several buckets, the channels count.
        text_shape: (tokens, width).
        buckets: those that `latent_table` was given; the index then has a column
            bucket, and the tables are read once for each.

    Raises:
        ManifestError: index and tables disagree; nothing is written or removed.
        StorageError: the disk is full.
    """
    tables, texts = list(tables), list(texts)  # the keys are read first, on their own
    _check_keys(tables, index["key"].tolist())
    folder = Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.safetensors"):  # a larger world had more of them
            old.unlink()
        if buckets:
            numbers = np.array([number for (number,) in _rows(tables, ["bucket"])])
            index = index.assign(bucket=numbers)
            for number, (width, height) in enumerate(buckets):
                shape = bucket_shape(latent_shape[0], (width, height))
                stem = folder / f"latents-{number}-{width}x{height}"
                _write(stem, tables, _posterior(shape), numbers == number)
        else:
            _write(folder / "latents", tables, _posterior(latent_shape))
        _write(folder / "features", tables, {"features": ((NUM_FEATURES,), np.float32)})
        _write(folder / "texts", texts, {"states": (tuple(text_shape), np.float16)})
        words = [text for (text,) in _rows(texts, ["text"])]
        pd.DataFrame({"text": words}).to_parquet(folder / "texts.parquet")
        index.to_parquet(folder / "index.parquet")


def _posterior(shape: Sequence[int]) -> Columns:
    return {name: (tuple(shape), np.float16) for name in ("mean", "logvar")}


def _check_keys(tables: Sequence[Part], keys: Sequence[str]) -> None:
    found = (key for (key,) in _rows(tables, ["key"]))
    if not all(a == b for a, b in itertools.zip_longest(found, keys)):
        raise ManifestError(
            f"03_latents: {num_rows(tables)} latents, {len(keys)} index rows; "
            "expected the same keys in the same order; delete .checkpoints/ and run "
            "again."
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
    for number, start in enumerate(range(0, total, WORKS_PER_FILE)):
        arrays = _unpacked(rows, min(WORKS_PER_FILE, total - start), columns)
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
