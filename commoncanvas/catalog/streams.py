"""Lines of text and rows of SQLite as Arrow streams that DuckDB reads as relations.

A relation made from a `Stream` can be read any number of times; each reading opens the
file again. One thread reads ahead, four batches at most, so memory does not grow and
unpacking never waits for the parser.
"""

import contextlib
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from commoncanvas.core.errors import SourceError
from commoncanvas.core.places import opened

BLOCK = 4 << 20  # bytes of text in one batch, about 10,000 lines of metadata
LONGEST = 64 << 20  # bytes of one line


class Stream:
    """What DuckDB's `from_arrow` takes; every reading calls `batches` again."""

    def __init__(
        self,
        schema: Mapping[str, pa.DataType],
        batches: Callable[[], Iterator[pa.RecordBatch]],
    ) -> None:
        self.schema = pa.schema(schema)
        self.batches = batches

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        """Return a new reader's capsule; nothing is opened before its first batch."""
        reader = pa.RecordBatchReader.from_batches(self.schema, self._ahead())
        return reader.__arrow_c_stream__(requested_schema)

    def _ahead(self) -> Iterator[pa.RecordBatch]:
        batches = self.batches()
        with ThreadPoolExecutor(1) as pool:
            waiting = deque(pool.submit(next, batches, None) for _ in range(4))
            while (batch := waiting.popleft().result()) is not None:
                waiting.append(pool.submit(next, batches, None))
                yield batch


def read_lines(path: Path | str, size: int = BLOCK) -> Stream:
    """Return a stream of a text file's lines, plain, `.gz` or `.bz2` of many parts.

    Nothing is unpacked to disk; a batch holds `size` bytes of text. The file may lie at
    an address.

    Returns:
        place (int64, the line's number from 1), is_text (whether it is UTF-8; if not,
        it has U+FFFD in it) and line (its end included; one is added to a last line
        that lacks it).
    """
    schema = {"place": pa.int64(), "is_text": pa.bool_(), "line": pa.string()}
    return Stream(schema, lambda: line_batches(path, size))


def read_head(path: Path | str, size: int = 1 << 20) -> bytes:
    """Return the first bytes of a file, unpacked; SourceError if it cannot be read."""
    try:
        with _unpacked(path) as stream:
            return stream.read(size)
    except (OSError, ValueError) as error:
        raise SourceError(
            f"metadata {Path(path).name}: cannot be read ({type(error).__name__}); "
            "expected a text file, plain, .gz or .bz2; fetch it again."
        ) from None


@contextlib.contextmanager
def _unpacked(path: Path | str) -> Iterator[Any]:
    with opened(path) as file:
        packing = {".gz": "gzip", ".bz2": "bz2"}.get(Path(path).suffix)
        with pa.input_stream(file, compression=packing) as stream:
            yield stream


def line_batches(path: Path | str, size: int = BLOCK) -> Iterator[pa.RecordBatch]:
    """Yield batches of the columns of `read_lines`."""
    rest, first = b"", 1
    with _unpacked(path) as stream:
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
                    f"metadata {Path(path).name}: line {first} has no end in "
                    f"{LONGEST >> 20} MiB; expected lines of text; check the file."
                )
    if rest:
        yield _line_batch(rest + b"\n", first)


def _line_batch(data: bytes, first: int) -> pa.RecordBatch:
    # The text is Arrow's buffer of characters as it stands; only its line ends are new.
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n")) + 1
    offsets = pa.py_buffer(np.concatenate([[0], ends]).astype(np.int32))
    lines = pa.StringArray.from_buffers(len(ends), offsets, pa.py_buffer(data))
    lines, is_text = _checked(lines)
    place = pa.array(np.arange(first, first + len(ends)))
    return pa.record_batch([place, is_text, lines], ["place", "is_text", "line"])


def _checked(array: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Return a text array, its faulty bytes replaced, and which values had none."""
    try:
        array.validate(full=True)
        return array, pa.array(np.ones(len(array), bool))
    except pa.ArrowInvalid:
        raw = array.cast(pa.binary()).to_pylist()
    texts: list[str | None] = []
    same = []
    for value in raw:
        text = None if value is None else value.decode("utf-8", "replace")
        texts.append(text)
        same.append(text is None or text.encode() == value)
    return pa.array(texts, pa.string()), pa.array(same)


def read_table(
    path: Path | str, table: str, columns: Sequence[str], size: int = 20_000
) -> Stream:
    """Return a stream of an SQLite table, every value as text.

    The file is opened read-only, and must not change while it is read. Bytes that are
    not UTF-8 become U+FFFD. The column place, the row's id, comes first; a batch holds
    `size` rows.

    Raises:
        SourceError: the file is missing, is no SQLite file, or lacks table, columns or
            rows.
    """
    names = ["place", *columns]
    cells = ["rowid", *(f'"{table}"."{name}"' for name in columns)]
    query = f"SELECT {', '.join(f'CAST({cell} AS TEXT)' for cell in cells)}"
    query += f' FROM "{table}"'
    address = f"file:{quote(str(Path(path).absolute()))}?mode=ro&immutable=1"

    def batches(limit: str = "") -> Iterator[pa.RecordBatch]:
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
        if not list(batches(" LIMIT 1")):
            raise sqlite3.Error("there are no rows")
    except sqlite3.Error as error:
        raise SourceError(
            f"metadata {Path(path).name}: {error}; expected an SQLite file with table "
            f"{table} and columns {', '.join(columns[:3])}, ...; fetch it again."
        ) from None
    return Stream({name: pa.string() for name in names}, batches)
