"""Rows to be downloaded: a key and an address, whatever a table holds there."""

import contextlib
import itertools
from collections.abc import Iterator
from numbers import Integral
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow.dataset import dataset

from commoncanvas.core.errors import ParameterError, SourceError
from commoncanvas.core.text import is_whole

COLUMNS = ["key", "downloadurl"]


def key_and_address(row: Any) -> tuple[str | int | None, str]:
    """Return a row's key, None where it has none, and its address, "" where none.

    A key is a text or a whole number of 64 bits. What else stands for an address is
    written out; that is no address, but says what was found.
    """
    with contextlib.suppress(Exception):  # whatever a caller takes for a row
        key, url = row.get("key"), row.get("downloadurl")
        if isinstance(key, Integral) and not isinstance(key, bool):
            key = int(key) if abs(int(key)) < 2**63 else None
        elif not (key and _is_text(key)):
            key = None
        if url is None or isinstance(url, float):  # NaN, where a table has none
            return key, ""
        return key, url if _is_text(url) else ascii(url)
    return None, ""


def _is_text(value: Any) -> bool:
    """Say whether a value is a text that can be stored."""
    return isinstance(value, str) and is_whole(value)


def read_rows(
    catalog: Path | str, limit: int | None = None
) -> Iterator[dict[str, Any]]:
    """Return `key` and `downloadurl` of the first rows of Parquet, as a stream.

    Args:
        catalog: a file, or a folder of `*.parquet`; what lies deeper is not searched.
        limit: the number of rows; None for all.

    Raises:
        ParameterError: the limit is below 0.
        SourceError: a file is missing or damaged, or has no such columns of texts.
    """
    if limit is not None and limit < 0:
        raise ParameterError(f"limit {limit}: expected 0 or more. Choose another.")
    with _reading(catalog):
        is_folder = Path(catalog).is_dir()
        table = dataset(
            sorted(Path(catalog).glob("*.parquet")) if is_folder else catalog
        )
        missing = [name for name in COLUMNS if name not in table.schema.names]
        found = {name: table.schema.field(name).type for name in COLUMNS if not missing}
        if missing or not all(_holds_texts(*column) for column in found.items()):
            raise ValueError(f"without {missing}" if missing else f"{found}")
    return itertools.islice(_rows(catalog, table), limit)


def _rows(catalog: Path | str, table: Any) -> Iterator[dict[str, Any]]:
    with _reading(catalog):
        for batch in table.to_batches(columns=COLUMNS):
            columns = [_values(column) for column in batch.columns]
            for values in zip(*columns, strict=True):
                yield dict(zip(COLUMNS, values, strict=True))


def _values(column: pa.Array) -> list[Any]:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:  # of some rows, which are refused one by one
        texts = column.cast(pa.binary()).to_pylist()
        return [text and text.decode("utf-8", "surrogateescape") for text in texts]


def _holds_texts(name: str, kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    number = name == "key" and pa.types.is_integer(kind)
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return number or text or pa.types.is_string_view(kind) or pa.types.is_null(kind)


@contextlib.contextmanager
def _reading(catalog: Path | str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, pa.ArrowException) as error:
        raise SourceError(
            f"{catalog}: {error}; expected Parquet with texts in the columns key and "
            "downloadurl. Name such a file."
        ) from None
