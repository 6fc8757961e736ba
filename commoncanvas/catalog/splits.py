"""Metadata of millions of works, split by licence on disk in one pass.

Each different licence statement is read once, and the rows stream past: memory grows
with the number of statements, not with the number of rows.
"""

import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from duckdb import DuckDBPyConnection as Connection
from duckdb import DuckDBPyRelation as Relation

from commoncanvas.catalog.columns import STATED
from commoncanvas.core.errors import SourceError
from commoncanvas.licenses.policies import VERDICT, verdict

SPLITS = ("c", "nc", "nd", "rejected")
ROWS = 61_440  # rows that are judged together, and at least in a row group on disk


@dataclass(frozen=True)
class Counts:
    """What `split_metadata` wrote: numbers of rows.

    splits and alt_text go by split, licenses by (slug, version), reasons by the reason
    of rejection. duplicates: rows whose key an earlier row has; None if not counted.
    """

    rows: int
    splits: dict[str, int]
    alt_text: dict[str, int]
    licenses: dict[tuple[str, str], int]
    reasons: dict[str, int]
    duplicates: int | None = None


def connect(
    memory: str = "2GB", num_threads: int = 2, folder: Path | None = None
) -> Connection:
    """Return a DuckDB connection; beyond `memory` it spills to `folder`, if given."""
    connection = duckdb.connect()
    connection.execute(f"SET memory_limit = '{memory}'; SET threads = {num_threads}")
    connection.execute("SET preserve_insertion_order = false")
    if folder is not None:
        connection.execute("SET temp_directory = ?", [str(folder)])
    return connection


Statement = tuple[str, ...]  # the values of these columns
_STATEMENT = ("license_text", "license_url", "reason")
_STRUCT = pa.struct(dict.fromkeys(VERDICT, pa.string()))


class _Splitter:
    """Writes batches of rows to one parquet file a split, and counts them."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.verdicts: dict[Statement, dict[str, str]] = {}
        self.rows: Counter[Statement] = Counter()
        self.described: Counter[Statement] = Counter()  # rows that have an alt text
        self.parts: dict[str, list[pa.RecordBatch]] = {split: [] for split in SPLITS}
        self.stored = [name for name in VERDICT if name != "split"]
        for name in self.stored:
            schema = schema.append(pa.field(name, pa.string()))
        # Keys are all different, so a dictionary of them would be built in vain.
        repeated = [name for name in schema.names if name != "key"]
        self.writers = {}
        for split in SPLITS:
            path = folder / f"split={split}" / "part-0.parquet"
            path.parent.mkdir()
            writer = pq.ParquetWriter(path, schema, use_dictionary=repeated)
            self.writers[split] = writer
        self.pool = ThreadPoolExecutor(1)
        self.writing: Future = self.pool.submit(int)

    def add(self, statements: Sequence[pa.Array], rows: pa.RecordBatch) -> None:
        """Judge one batch, given the columns of its statements and those to write."""
        # One number a statement: each column is a digit, to the base of the number of
        # its different values. So Python looks at every statement once, not every row.
        codes = np.zeros(len(rows), np.int64)
        for column in (column.dictionary_encode() for column in statements):
            codes = codes * len(column.dictionary) + column.indices.to_numpy()
        # first: the first row of each statement; places: (rows,), its place in `found`.
        _, first, places = np.unique(codes, return_index=True, return_inverse=True)
        found = [tuple(column[int(i)].as_py() for column in statements) for i in first]
        for statement in found:
            if statement not in self.verdicts:
                self.verdicts[statement] = verdict(*statement)
        self.rows += _counted(found, places)
        if "alt_text" in rows.schema.names:
            is_described = pc.not_equal(pc.fill_null(rows["alt_text"], ""), "")
            described = places[is_described.to_numpy(zero_copy_only=False)]
            self.described += _counted(found, described)
        # The verdicts of the few statements, spread over the many rows by `places`.
        judged = pa.array([self.verdicts[statement] for statement in found], _STRUCT)
        splits = np.array(judged.field("split").to_pylist())[places]
        for split, parts in self.parts.items():
            chosen = np.flatnonzero(splits == split)
            judged_places = pa.array(places[chosen])
            part = rows.take(pa.array(chosen))
            for name in self.stored:
                part = part.append_column(name, judged.field(name).take(judged_places))
            parts.append(part)
            if sum(map(len, parts)) >= ROWS:
                self.flush(split)

    def flush(self, split: str) -> None:
        """Write a split's waiting rows as a row group, while the next are judged."""
        self.writing.result()  # one group is written at a time; its error comes here
        parts, self.parts[split] = self.parts[split], []
        if any(map(len, parts)):
            rows = pa.Table.from_batches(parts)
            self.writing = self.pool.submit(self.writers[split].write_table, rows)

    def close(self) -> None:
        """Write what still waits, and the footers."""
        for split in SPLITS:
            self.flush(split)
        self.pool.shutdown()
        self.writing.result()
        for writer in self.writers.values():
            writer.close()

    def count_by(self, rows: Counter[Statement], *names: str) -> dict[Any, int]:
        """Return {value or (value, ...): rows} of one or several fields of VERDICT."""
        counts: Counter[Any] = Counter()
        for statement, number in rows.items():
            values = tuple(self.verdicts[statement][name] for name in names)
            counts[values if len(names) > 1 else values[0]] += number
        return dict(sorted(counts.items()))


def _counted(found: list[Statement], places: np.ndarray) -> Counter[Statement]:
    numbers = np.bincount(places, minlength=len(found)).tolist()
    return Counter(dict(zip(found, numbers, strict=True)))


def split_metadata(
    connection: Connection,
    relation: Relation,
    folder: Path | str,
    columns: Sequence[str] | None = None,
    count_duplicates: bool = False,
) -> Counts:
    """Split works by licence into parquet files on disk, in one pass over them.

    What is written to `folder` is whole or not there: it is written beside and renamed
    last. The same rows give the same rows; their order and the files' borders are not
    promised, so sort by key where order matters.

    Args:
        connection: the relation's own, from `connect`.
        relation: has the columns of STATED, NULL counting as "".
        folder: to write; must not exist.
        columns: of the relation, to write; None for all. alt_text is counted if it is
            one of them.
        count_duplicates: also count the rows with a key that is not new. This reads
            the keys back, and holds each different one in memory or, beyond the
            connection's limit, on disk. An approximate count would be no check.

    Raises:
        SourceError: the folder exists, columns are missing, the source is empty or
            breaks off, or the rows on disk are not the rows read.
    """
    folder = Path(folder)
    columns = list(dict.fromkeys(["key", *(columns or relation.columns)]))
    lacking = [n for n in [*STATED, *columns] if n not in relation.columns]
    if lacking:
        raise SourceError(
            f"metadata without {', '.join(lacking)}; expected the columns of STATED "
            "and those asked for; correct the adapter or `columns`."
        )
    if folder.exists():
        raise SourceError(f"{folder.name} exists; expected a new folder; delete it.")
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        splitter = _split(relation, partial, [n for n in columns if n not in VERDICT])
        splits = dict.fromkeys(SPLITS, 0) | splitter.count_by(splitter.rows, "split")
        if not any(splits.values()):
            raise SourceError("metadata of no rows; expected one or more; check it.")
        _check(partial, splits)
        duplicates = _duplicates(connection, partial) if count_duplicates else None
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    reasons = splitter.count_by(splitter.rows, "reason")
    return Counts(
        rows=sum(splits.values()),
        splits=splits,
        alt_text=splitter.count_by(splitter.described, "split"),
        licenses=splitter.count_by(splitter.rows, "license_slug", "license_version"),
        reasons={reason: number for reason, number in reasons.items() if reason},
        duplicates=duplicates,
    )


def _split(relation: Relation, folder: Path, columns: list[str]) -> _Splitter:
    """Stream the relation through a `_Splitter` and return it, closed."""
    statement = [f"coalesce({name}, '') AS said_{name}" for name in _STATEMENT]
    kept = [f'"{name}"' for name in columns]
    rows, width = 0, len(statement)
    try:
        reader = relation.select(", ".join(statement + kept)).to_arrow_reader(ROWS)
        schema = pa.schema(list(reader.schema)[width:])
        splitter = _Splitter(folder, schema)
        for batch in reader:
            stored = pa.record_batch(batch.columns[width:], schema=schema)
            splitter.add(batch.columns[:width], stored)
            rows += len(batch)
        splitter.close()
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise SourceError(
            f"metadata breaks off after {rows:,} rows: "
            f"{' '.join(str(error).split())[:160]}; expected a whole source and room "
            "on the disk; fetch the one again, or make the other."
        ) from error
    return splitter


def _check(folder: Path, splits: dict[str, int]) -> None:
    """Compare the rows on disk, by the files' footers, with those that were read."""
    found: Counter[str] = Counter()
    for path in folder.rglob("*.parquet"):
        split = path.parent.name.removeprefix("split=")
        found[split] += pq.read_metadata(path).num_rows
    if found != Counter(splits):
        raise SourceError(
            f"{folder.name}: {dict(found)} rows on disk; expected {splits}, as read; "
            "check that the disk is not full, then split again."
        )


def _duplicates(connection: Connection, folder: Path) -> int:
    keys = connection.read_parquet(f"{folder}/*/*.parquet").select("key")
    [(rows,)] = keys.count("*").fetchall()
    [(different,)] = keys.distinct().count("*").fetchall()
    return rows - different
