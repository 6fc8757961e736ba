"""Lines of text and rows of SQLite as Arrow streams that DuckDB reads as relations.

A relation made from a `Stream` can be read any number of times: each time, the file is
opened anew and read from its beginning. One thread reads ahead, four batches at most,
so that memory is flat and unpacking never waits for the parser.
"""

import sqlite3
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from commoncanvas.core.errors import SourceError

BLOCK = 4 << 20  # bytes of text in one batch, about 10,000 lines of metadata
LONGEST = 64 << 20  # bytes of one line


class Stream:
    """What DuckDB's `from_arrow` takes; starts anew for every reading.

    Args:
        schema: column name -> Arrow type.
        batches: function that returns a fresh iterator of record batches.
    """

    def __init__(self, schema, batches):
        self.schema = pa.schema(schema)
        self.batches = batches

    def __arrow_c_stream__(self, requested_schema=None):
        """Return a new reader's capsule; nothing is opened before its first batch."""
        reader = pa.RecordBatchReader.from_batches(self.schema, self._ahead())
        return reader.__arrow_c_stream__(requested_schema)

    def _ahead(self):
        batches = self.batches()
        with ThreadPoolExecutor(1) as pool:
            waiting = deque(pool.submit(next, batches, None) for _ in range(4))
            while (batch := waiting.popleft().result()) is not None:
                waiting.append(pool.submit(next, batches, None))
                yield batch


def read_lines(path, size=BLOCK):
    """Return a stream of a text file's lines, plain or `.bz2` of one stream or many.

    Args:
        path: the file; nothing is unpacked to disk.
        size: bytes of text in one batch.

    Returns:
        Stream of place (int64, the line's number from 1), is_text (whether it is UTF-8;
        if not, it has U+FFFD in it) and line (text, its end included; one is added to
        a last line that lacks it).
    """
    schema = {"place": pa.int64(), "is_text": pa.bool_(), "line": pa.string()}
    return Stream(schema, lambda: _line_batches(Path(path), size))


def read_head(path, size=1 << 20):
    """Return the first bytes of a file, unpacked.

    Raises:
        SourceError: it is missing, or is no bz2 file though its name says so.
    """
    try:
        with pa.input_stream(str(path)) as stream:
            return stream.read(size)
    except (OSError, ValueError) as error:
        raise SourceError(
            f"metadata {Path(path).name}: cannot be read ({type(error).__name__}); "
            "expected a text file, plain or .bz2; fetch it again."
        ) from None


def _line_batches(path, size):
    rest, first = b"", 1
    with pa.input_stream(str(path)) as stream:
        while block := stream.read(size):
            end = block.rfind(b"\n") + 1
            if end:
                batch = _line_batch(rest + block[:end], first)
                first += len(batch)
                yield batch
                rest = b""
            rest += block[end:]
            if len(rest) > LONGEST:
                raise SourceError(
                    f"metadata {path.name}: line {first} has no end in "
                    f"{LONGEST >> 20} MiB; expected lines of text; check the file."
                )
    if rest:
        yield _line_batch(rest + b"\n", first)


def _line_batch(data, first):
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    offsets = pa.py_buffer(np.concatenate([[0], ends]).astype(np.int32))
    lines = pa.StringArray.from_buffers(len(ends), offsets, pa.py_buffer(data))
    lines, is_text = _checked(lines)
    place = pa.array(np.arange(first, first + len(ends)))
    return pa.record_batch([place, is_text, lines], ["place", "is_text", "line"])


def _checked(array):
    """Return a text array, its faulty bytes replaced, and which values had none."""
    try:
        array.validate(full=True)
        return array, pa.array(np.ones(len(array), bool))
    except pa.ArrowInvalid:
        raw = array.cast(pa.binary()).to_pylist()
    text = [
        None if value is None else value.decode("utf-8", "replace") for value in raw
    ]
    pairs = zip(text, raw, strict=True)
    same = [new is None or new.encode() == old for new, old in pairs]
    return pa.array(text, pa.string()), pa.array(same)


def read_table(path, table, columns, size=20_000):
    """Return a stream of an SQLite table, every value as text.

    The file is opened read-only, and must not change while it is read. Bytes that are
    not UTF-8 become U+FFFD.

    Args:
        path: the file.
        table: the table's name.
        columns: names of the columns.
        size: rows in one batch.

    Returns:
        Stream of place (the row's id) and the columns.

    Raises:
        SourceError: the file is missing, is no SQLite file, or lacks table or columns.
    """
    names = ["place", *columns]
    cells = ["rowid", *(f'"{table}"."{name}"' for name in columns)]
    query = f"SELECT {', '.join(f'CAST({cell} AS TEXT)' for cell in cells)}"
    query += f' FROM "{table}"'
    address = f"file:{quote(str(Path(path).absolute()))}?mode=ro&immutable=1"

    def batches(limit=""):
        # Made in the thread that reads ahead, closed wherever the reader is dropped.
        file = sqlite3.connect(address, uri=True, check_same_thread=False)
        try:
            file.text_factory = bytes
            cursor = file.execute(query + limit)
            while rows := cursor.fetchmany(size):
                binary = [pa.array(v, pa.binary()) for v in zip(*rows, strict=True)]
                text = [_checked(values.view(pa.string()))[0] for values in binary]
                yield pa.record_batch(text, names)
        finally:
            file.close()

    try:
        list(batches(" LIMIT 1"))
    except sqlite3.Error as error:
        raise SourceError(
            f"metadata {Path(path).name}: {error}; expected an SQLite file with table "
            f"{table} and columns {', '.join(columns[:3])}, ...; fetch it again."
        ) from None
    return Stream({name: pa.string() for name in names}, batches)
