"""Metadata of millions of works, split by licence on disk in one pass.

Each different licence statement is read once, and the rows stream past: memory grows
with the number of statements, not with the number of rows.
"""

import glob
import itertools
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
from commoncanvas.core.errors import SourceError, brief
from commoncanvas.licenses.policies import VERDICT, verdict

SPLITS = ("c", "nc", "nd", "rejected")
BATCH = 20_480  # rows that are judged together, few enough for a processor's cache
ROWS = 122_880  # at least, in a row group on disk


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
_STORED = [name for name in VERDICT if name != "split"]
_WORD = pa.dictionary(pa.int32(), pa.string())  # words that many rows share


class _Splitter:
    """Writes batches of rows to one parquet file a split, and counts them.

    Each statement gets a number when it is first met, and its rows carry the number
    until they are written; `verdicts`, `rows` and `described` have the statements in
    the order of their numbers.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.numbers: dict[Statement, int] = {}
        self.verdicts: list[dict[str, str]] = []
        self.rows: list[int] = []
        self.described: list[int] = []  # rows that have an alt text
        self.parts: list[list[tuple[pa.RecordBatch, np.ndarray]]] = [[] for _ in SPLITS]
        # Keys are all different, so a dictionary of them would be built in vain.
        repeated = [name for name in [*schema.names, *_STORED] if name != "key"]
        for name in _STORED:
            schema = schema.append(pa.field(name, _WORD))
        self.writers = []
        for split in SPLITS:
            path = folder / f"split={split}" / "part-0.parquet"
            path.parent.mkdir()
            # Without Arrow's own schema the words of verdicts are read as plain text.
            # Keys come in any order, so their least and greatest would tell nothing.
            writer = pq.ParquetWriter(
                path,
                schema,
                use_dictionary=repeated,
                compression="lz4",  # as small as the usual one, and faster
                write_statistics=repeated,
                store_schema=False,
            )
            self.writers.append(writer)
        self.pool = ThreadPoolExecutor(1)
        self.writing: Future = self.pool.submit(int)

    def add(self, statements: Sequence[pa.Array], rows: pa.RecordBatch) -> None:
        """Judge one batch, given the columns of its statements and those to write."""
        # One code a statement: each column is a digit, to the base of the number of
        # its different values. So Python looks at every statement once, not every row.
        codes, known = np.zeros(len(rows), np.int64), []
        for column in (column.dictionary_encode("encode") for column in statements):
            known.append(column.dictionary.to_pylist())
            codes = codes * len(known[-1]) + column.indices.to_numpy()
        coded = pa.array(codes).dictionary_encode()
        found = [self._number(code, known) for code in coded.dictionary.to_pylist()]
        indices = coded.indices.to_numpy()  # (rows,), places in `found`
        _count(self.rows, found, indices)
        if "alt_text" in rows.schema.names:
            is_described = pc.not_equal(pc.fill_null(rows["alt_text"], ""), "")
            described = is_described.to_numpy(zero_copy_only=False)
            _count(self.described, found, indices[described])
        numbers = np.array(found, np.int32)[indices]
        splits = [SPLITS.index(self.verdicts[number]["split"]) for number in found]
        of_row = np.array(splits, np.uint8)[indices]
        # Sorted by split once; a copy of each, which does not keep the batch in memory.
        order = np.argsort(of_row, kind="stable")
        ends = np.cumsum(np.bincount(of_row, minlength=len(SPLITS))).tolist()
        for split, (start, end) in enumerate(itertools.pairwise([0, *ends])):
            chosen = order[start:end]
            columns = [column.take(pa.array(chosen)) for column in rows.columns]
            part = pa.record_batch(columns, schema=rows.schema)
            self.parts[split].append((part, numbers[chosen]))
            if sum(len(part) for part, _ in self.parts[split]) >= ROWS:
                self.flush(split)

    def _number(self, code: int, columns: list[list[str | None]]) -> int:
        """Return the number of a statement, judging one that is new."""
        values = []
        for column in reversed(columns):
            code, place = divmod(code, len(column))
            values.append(column[place] or "")
        statement = tuple(reversed(values))
        if statement not in self.numbers:
            self.numbers[statement] = len(self.verdicts)
            self.verdicts.append(verdict(*statement))
            self.rows.append(0)
            self.described.append(0)
        return self.numbers[statement]

    def _words(self, numbers: np.ndarray) -> list[pa.Array]:
        """Return the columns of `_STORED` for rows that carry these numbers."""
        coded = pa.array(numbers).dictionary_encode()
        judged = [self.verdicts[n] for n in coded.dictionary.to_pylist()]
        columns = []
        for name in _STORED:
            # Statements may share a word, and a file's dictionary has each once.
            words = {word: n for n, word in enumerate({v[name]: 0 for v in judged})}
            of_statement = np.array([words[v[name]] for v in judged], np.int32)
            indices = of_statement[coded.indices.to_numpy()]
            columns.append(pa.DictionaryArray.from_arrays(indices, list(words)))
        return columns

    def flush(self, split: int) -> None:
        """Write a split's waiting rows as a row group, while the next are judged."""
        self.writing.result()  # one group is written at a time; its error comes here
        parts, self.parts[split] = self.parts[split], []
        if any(len(rows) for rows, _ in parts):
            rows = pa.Table.from_batches([rows for rows, _ in parts])
            words = self._words(np.concatenate([numbers for _, numbers in parts]))
            for name, column in zip(_STORED, words, strict=True):
                rows = rows.append_column(pa.field(name, _WORD), column)
            self.writing = self.pool.submit(self.writers[split].write_table, rows)

    def close(self) -> None:
        """Write what still waits, and the footers."""
        for split in range(len(SPLITS)):
            self.flush(split)
        self.pool.shutdown()
        self.writing.result()
        for writer in self.writers:
            writer.close()

    def count_by(self, rows: list[int], *names: str) -> dict[Any, int]:
        """Return {value or (value, ...): rows} of one or several fields of VERDICT."""
        counts: Counter[Any] = Counter()
        for judged, number in zip(self.verdicts, rows, strict=True):
            values = tuple(judged[name] for name in names)
            counts[values if len(names) > 1 else values[0]] += number
        return {value: number for value, number in sorted(counts.items()) if number}


def _count(counts: list[int], found: list[int], indices: np.ndarray) -> None:
    """Add to the counts of the statements of a batch their rows in it."""
    added = np.bincount(indices, minlength=len(found)).tolist()
    for number, rows in zip(found, added, strict=True):
        counts[number] += rows


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
    statement = [f"{name} AS said_{name}" for name in _STATEMENT]
    kept = [f'"{name}"' for name in columns]
    rows, width = 0, len(statement)
    try:
        reader = relation.select(", ".join(statement + kept)).to_arrow_reader(BATCH)
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
            f"{brief(error)}; expected a whole source and room "
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
    keys = connection.read_parquet(f"{glob.escape(str(folder))}/*/*.parquet")
    keys = keys.select("key")
    [(rows,)] = keys.count("*").fetchall()
    [(different,)] = keys.distinct().count("*").fetchall()
    return rows - different
