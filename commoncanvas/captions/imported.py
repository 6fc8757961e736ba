"""Captions imported from elsewhere, joined to our pictures by key.

For instance re-captions of CommonCatalog by `photoid`. Stage 02 uses them as it uses a
captioner, but no picture is looked at; a picture may have several captions, or none.
"""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from commoncanvas.core.errors import ParameterError
from commoncanvas.core.files import sha256_of, shown

READERS = {".parquet": "read_parquet", ".jsonl": "read_json", ".json": "read_json"}


class ImportedCaptions:
    """Captions of a parquet or jsonl file, by key.

    Args:
        file: the file, or a folder or glob of parquet files.
        key_prefix: what precedes the key column's value in our keys, e.g. "yfcc/".

    Raises:
        ParameterError: no such file, another kind, or a column is missing.
    """

    def __init__(
        self,
        file: Path | str,
        key_column: str = "key",
        caption_column: str = "caption",
        key_prefix: str = "",
    ) -> None:
        name = Path(file) / "*.parquet" if Path(file).is_dir() else Path(file)
        self.files = sorted(glob.glob(str(name)))
        suffix = name.suffix.lower()
        if suffix not in READERS or not self.files:
            raise ParameterError(
                f"no imported captions at {shown(file)!r}; expected a file of "
                f"{', '.join(READERS)}, or a folder or glob of parquet files. Edit "
                "`captioners` in the profile."
            )
        self.reader = READERS[suffix]
        self.columns = {"key": key_column, "caption": caption_column}
        self.key_prefix = key_prefix
        hashes = "+".join(sha256_of(found)[:16] for found in self.files)
        self.identity = f"imported:{hashes}"
        self.decoding = {**self.columns, "key_prefix": key_prefix}
        with duckdb.connect() as database:
            described = database.execute(
                f"DESCRIBE SELECT * FROM {self.reader}(?)", [self.files]
            ).fetchall()
        known = [column[0] for column in described]
        if missing := sorted({key_column, caption_column} - set(known)):
            raise ParameterError(
                f"the imported captions have no column {', '.join(missing)}; there are "
                f"{', '.join(known)}. Set `key_column` and `caption_column`."
            )

    def table(self, rows: Sequence[tuple[str, Any]]) -> pa.Table:
        """Return the captions of rows of (key, anything): key and caption_raw.

        A picture's different captions come in the order of their text; a picture that
        has none gets one row without a caption.
        """
        keys = [key for key, _ in rows]
        wanted = pa.table({"place": range(len(keys)), "key": keys})
        key, caption = (_quoted(self.columns[name]) for name in ("key", "caption"))
        query = f"""
            WITH captions AS (
                SELECT DISTINCT ? || CAST({key} AS VARCHAR) AS key,
                    CAST({caption} AS VARCHAR) AS caption_raw
                FROM {self.reader}(?)
                WHERE {caption} IS NOT NULL
                    AND ? || CAST({key} AS VARCHAR) IN (SELECT key FROM wanted)
            )
            SELECT wanted.key, caption_raw FROM wanted LEFT JOIN captions USING (key)
            ORDER BY place, caption_raw
        """
        values = [self.key_prefix, self.files, self.key_prefix]
        with duckdb.connect() as database:
            database.register("wanted", wanted)
            return database.sql(query, params=values).to_arrow_table()


def _quoted(name: str) -> str:
    """Quote a column's name for SQL."""
    return '"' + name.replace('"', '""') + '"'
