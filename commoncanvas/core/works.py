"""The works of stage 01's catalogue, counted, sampled, or read file by file.

The catalogue may have tens of millions of rows, of which none of this holds more than a
part: DuckDB streams them, and sorts on disk what memory does not hold.
"""

import contextlib
import glob
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
from duckdb import DuckDBPyConnection

from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError
from commoncanvas.core.picture_store import picture_file, read_keys

LICENSED = ("c", "nc")  # the splits that are captioned
MEMORY = "2GB"  # beyond this, DuckDB sorts on disk
_BATCH = 2**14  # rows read at once


def without_progress(connection: DuckDBPyConnection) -> DuckDBPyConnection:
    """Keep DuckDB from printing its own progress; a notebook's kernel shows none."""
    with contextlib.suppress(duckdb.InvalidInputException):  # there it cannot be set
        connection.execute("SET enable_progress_bar = false")
    return connection


def _query(
    licenses_folder: Path, rest: str, values: Iterable = ()
) -> pa.RecordBatchReader:
    """Stream the result of a query whose FROM is the catalogue."""
    connection = without_progress(duckdb.connect(config={"memory_limit": MEMORY}))
    connection.execute("SET temp_directory = ?", [str(paths.CHECKPOINTS / "duckdb")])
    query = rest.replace("FROM catalog", "FROM read_parquet(?)", 1)
    file = glob.escape(str(licenses_folder / "catalog.parquet"))
    return connection.sql(query, params=[file, *values]).to_arrow_reader(_BATCH)


def count_works(licenses_folder: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Count works, rejected ones too, by the values of columns; by these, and size."""
    names = ", ".join(columns)
    query = f"SELECT {names}, count(*) AS size FROM catalog GROUP BY ALL ORDER BY ALL"
    return _query(licenses_folder, query).read_pandas()


def sample_works(licenses_folder: Path, num: int, seed: int) -> pd.DataFrame:
    """Draw licensed works at random, in random order, without replacement.

    A work's place depends on seed and key alone, so that one that is taken down leaves
    all others where they were.

    Returns:
        The catalogue's rows of `num` works, or of all if there are fewer.
    """
    query = """
        SELECT * FROM catalog WHERE split IN ('c', 'nc')
        ORDER BY md5(concat(?, ' ', key)) LIMIT ?
    """
    return _query(licenses_folder, query, [str(seed), num]).read_pandas()


def works_by_file(
    licenses_folder: Path, columns: Sequence[str]
) -> Iterator[tuple[Path, pd.DataFrame]]:
    """Yield each file of pictures with the rows of its works, in the file's order.

    Args:
        columns: of the catalogue; the key comes first by itself.

    Raises:
        ManifestError: the catalogue lists other works than a file holds.
    """
    names = ", ".join(f'"{name}"' for name in ("file", "key", *columns))
    query = f"SELECT {names} FROM catalog WHERE file >= 0 ORDER BY file, key"
    for number, rows in _groups(_query(licenses_folder, query)):
        file = picture_file(licenses_folder, number)
        keys = read_keys(file)
        if sorted(keys) != sorted(rows["key"]):
            raise ManifestError(
                f"{file.name} of the pictures has {len(keys)} works, and the catalogue "
                f"lists {len(rows)} of it; expected the same; run 01_licenses again."
            )
        yield file, rows.set_index("key").loc[keys].reset_index()


def _groups(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, pd.DataFrame]]:
    """Yield (number, rows) of each file from batches that are sorted by file."""
    held: list[pd.DataFrame] = []
    for batch in batches:
        for number, rows in batch.to_pandas().groupby("file"):
            if held and held[0]["file"].iloc[0] != number:
                yield int(held[0]["file"].iloc[0]), pd.concat(held)
                held = []
            held.append(rows)
    if held:
        yield int(held[0]["file"].iloc[0]), pd.concat(held)
