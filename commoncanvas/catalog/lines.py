"""Records of text tables: tab-separated or csv with a header, or JSON objects.

Each line of a file is one record, or one record with its fault: nothing is lost, and
memory does not grow. A csv's quoted cells may hold line ends.
Files may be packed (.gz, .bz2) and may lie at addresses.
"""

import csv
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from duckdb import DuckDBPyConnection as Connection
from duckdb import DuckDBPyRelation as Relation

from commoncanvas.catalog.columns import sql_text
from commoncanvas.catalog.streams import Stream, line_batches, read_head, read_lines
from commoncanvas.core.errors import SourceError
from commoncanvas.core.places import day_of_file

FOLLOWING = 20  # lines that a quoted cell may go on for
Cells = Sequence[str | None]


def read_tsv(connection: Connection, path: str, columns: Sequence[str]) -> Relation:
    """Read columns of a tab-separated file in which quotes are plain characters.

    Returns:
        One row a line behind the header: place (FILE:LINE), day (of the file, ISO),
        fault ("" or why the line cannot be read) and the columns, all text, NULL where
        there is a fault.

    Raises:
        SourceError: the file is missing, or lacks a column.
    """
    head = _header(path).split("\t")
    _need(path, head, columns)
    fields = [f"fields[{head.index(name) + 1}] AS {name}" for name in columns]
    name, day = sql_text(Path(path).name), sql_text(day_of_file(path))
    return (
        connection.from_arrow(read_lines(path))
        .filter("place > 1")
        .select("*, string_split(regexp_replace(line, '\r?\n$', ''), chr(9)) AS cells")
        .select(
            f"""*, CASE WHEN NOT is_text THEN 'the line is not UTF-8'
            WHEN len(cells) <> {len(head)}
            THEN 'the line has ' || len(cells) || ' fields, expected {len(head)}'
            ELSE '' END AS fault"""
        )
        .select("*, CASE WHEN fault = '' THEN cells END AS fields")
        .select(f"{name} || ':' || place AS place, {day} AS day, fault, "
                f"{', '.join(fields)}")
    )  # fmt: skip


def read_csv(connection: Connection, path: str, columns: Sequence[str]) -> Relation:
    """Read columns of a csv file with commas and quotes, as `read_tsv` does.

    A quoted cell may hold line ends; a quotation mark that is never closed costs the
    line it stands in, not the rest.
    """
    try:
        head = next(csv.reader([_header(path)]), [])
    except csv.Error as error:
        raise SourceError(
            f"{Path(path).name}: the header is not csv ({error}); expected the columns "
            f"{', '.join(columns[:4])}, ...; check what was fetched."
        ) from None
    _need(path, head, columns)
    wanted = [head.index(name) for name in columns]

    def records() -> Iterator[tuple[int, str, Cells]]:
        for place, cells, fault in _csv_lines(path):
            if not fault and len(cells) != len(head):
                fault = f"the line has {len(cells)} fields, expected {len(head)}"
            yield place, fault, [None if fault else cells[i] for i in wanted]

    return _relation(connection, path, columns, records, skip=1)


def read_objects(
    connection: Connection,
    path: str,
    columns: Sequence[str],
    read: Callable[[dict[str, Any]], Iterator[Cells]],
) -> Relation:
    """Read what `read` makes of the JSON object in each line: one or more records."""

    def records() -> Iterator[tuple[int, str, Cells]]:
        for place, is_text, line in _lines(path):
            fault = "" if is_text else "the line is not UTF-8"
            try:
                found = json.loads(line) if is_text else None
                if is_text and not isinstance(found, dict):
                    fault = f"the line is a {type(found).__name__}, expected an object"
            except (ValueError, RecursionError) as error:
                fault = f"the line is no JSON ({type(error).__name__})"
            if fault or found is None:
                yield place, fault, [None] * len(columns)
                continue
            for cells in read(found):
                yield place, "", cells

    return _relation(connection, path, columns, records)


def _relation(
    connection: Connection,
    path: str,
    columns: Sequence[str],
    records: Callable[[], Iterator[tuple[int, str, Cells]]],
    skip: int = 0,
    size: int = 20_000,
) -> Relation:
    names = ["place", "day", "fault", *columns]
    file, day = Path(path).name, day_of_file(path)

    def batches() -> Iterator[pa.RecordBatch]:
        found = itertools.islice(records(), skip, None)
        while rows := list(itertools.islice(found, size)):
            values = [(f"{file}:{n}", day, why, *cells) for n, why, cells in rows]
            arrays = [pa.array(v, pa.string()) for v in zip(*values, strict=True)]
            yield pa.record_batch(arrays, names)

    return connection.from_arrow(Stream({n: pa.string() for n in names}, batches))


def _lines(path: str) -> Iterator[tuple[int, bool, str]]:
    for batch in line_batches(path):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _csv_lines(path: str) -> Iterator[tuple[int, list[str], str]]:
    """Yield (line's number, cells, fault) of each record, the header's too."""
    lines = _lines(path)
    waiting: list[tuple[int, bool, str]] = []  # read ahead of the record
    while True:
        if not waiting:
            if (line := next(lines, None)) is None:
                return
            waiting.append(line)
        for num in itertools.count(1):
            if len(waiting) < num and (line := next(lines, None)) is not None:
                waiting.append(line)
            used = waiting[:num]
            try:
                record = next(csv.reader([line for _, _, line in used], strict=True))
            except csv.Error as error:
                if "unexpected end" in str(error) and len(used) == num <= FOLLOWING:
                    continue
                fault, record, used = f"the line is not csv ({error})", [], used[:1]
            else:
                whole = all(is_text for _, is_text, _ in used)
                fault = "" if whole else "the line is not UTF-8"
            place = used[0][0]
            del waiting[: len(used)]
            if record or fault:
                yield place, record, fault
            break


def _header(path: str) -> str:
    head = read_head(path).split(b"\n", 1)[0].decode("utf-8-sig", "replace")
    return head.rstrip("\r")


def _need(path: str, head: Sequence[str], columns: Sequence[str]) -> None:
    if lacking := [name for name in columns if name not in head]:
        raise SourceError(
            f"{Path(path).name} lacks {', '.join(lacking)}; expected a header with the "
            f"columns {', '.join(columns[:4])}, ...; check what was fetched."
        )
