"""Captions imported from elsewhere, joined to our pictures by key.

For instance re-captions of CommonCatalog by `photoid`. Stage 02 uses them as it uses a
captioner, but no picture is looked at; a picture may have several captions, or none.
"""

import glob
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from unicodedata import normalize

import duckdb
import pyarrow as pa

from commoncanvas.core import places
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.files import sha256_of, shown
from commoncanvas.core.text import nfc, printable

# Some writers of parquet do not mark text as text. A folder called caption=x would
# take the place of the files' own column.
_OWN = "hive_partitioning = false"
READERS = {".parquet": f"read_parquet(?, binary_as_string = true, {_OWN})"}
READERS |= dict.fromkeys(
    [".jsonl", ".json"], f"read_json(?, maximum_depth = 1, {_OWN})"
)
EXACT = {"FLOAT": 2**24}  # whole numbers below are exact; in other types, 2**53


class ImportedCaptions:
    """Captions of a parquet or jsonl file, by key, perhaps of the catalogue itself.

    A caption is text, or a list of several texts. A whole number is the same key
    whether the file holds it as integer, float or text.

    Args:
        file: the file, or a folder or glob of parquet files, or an address of either,
            such as hf://datasets/someone/recaptions@COMMIT/data/*.parquet. The
            `catalog.parquet` of stage 01 holds the captions that came with the works.
        key_prefix: what precedes the key column's value in our keys, e.g. "yfcc/".
        written_by: takes only rows whose column captioner says so, e.g. "blip-2".

    Raises:
        ParameterError: no such file, another kind, or a column is missing.
    """

    def __init__(
        self,
        file: Path | str,
        key_column: str = "key",
        caption_column: str = "caption",
        key_prefix: str = "",
        written_by: str = "",
    ) -> None:
        is_remote, name = places.is_address(file), str(file)
        if Path(file).is_dir() or (is_remote and not Path(name).suffix):
            name = f"{name.rstrip('/')}/*.parquet"
        self.files = places.find_files(name)
        suffix = Path(name).suffix.lower()
        if suffix not in READERS or not self.files:
            raise ParameterError(
                f"no imported captions at {shown(file)!r}; expected a file of "
                f"{', '.join(READERS)}, or a folder or glob of parquet files. Edit "
                "`captioners` in the profile."
            )
        self.columns = {"key": key_column, "caption": caption_column}
        self.key_prefix = key_prefix
        self.written_by = written_by
        if is_remote:
            states = [places.state_of(found) for found in self.files]
            hashes = hashlib.sha256("\n".join(states).encode()).hexdigest()[:32]
        else:
            hashes = "+".join(sha256_of(found)[:16] for found in self.files)
        self.identity = f"imported:{hashes}"
        self.decoding = {**self.columns, "key_prefix": key_prefix}
        self.decoding |= {"written_by": written_by} if written_by else {}
        # DuckDB turns all files that it reads at once into the types of the first, so
        # each kind of file is read for itself.
        self.tables: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for found in self.files:
            # DuckDB takes a name for a pattern, too.
            self.tables[self._sql_of(suffix, found)].append(glob.escape(found))

    def table(self, rows: Sequence[tuple[str, Any]]) -> pa.Table:
        """Return the captions of rows of (key, anything): key and caption_raw.

        A picture's different captions come in the order of their text; a picture that
        has none gets one row without a caption. Keys are compared in NFC.

        Raises:
            ParameterError: a file cannot be read, a caption is an object, or a key is
                a float that is too large to be exact.
        """
        keys = [key for key, _ in rows]
        # However accents are composed, there or here.
        names = [
            (place, name)
            for place, key in enumerate(keys)
            for name in {key, nfc(key), normalize("NFD", nfc(key))}
        ]
        told = " UNION ALL ".join(
            f"SELECT place, unnest(texts) AS caption_raw FROM (SELECT {key} AS own, "
            f"{texts} AS texts FROM {reader}) JOIN names ON ? || own = name"
            for reader, key, texts in self.tables
        )
        query = f"""
            SELECT key, caption_raw FROM wanted LEFT JOIN (
                SELECT DISTINCT * FROM ({told}) WHERE caption_raw IS NOT NULL
            ) USING (place) ORDER BY place, caption_raw
        """
        values = [v for files in self.tables.values() for v in (files, self.key_prefix)]
        with self._connected() as database:
            database.register("wanted", _columns(("place", "key"), enumerate(keys)))
            database.register("names", _columns(("place", "name"), names))
            return self._run(database, query, values)

    def need_some(self, tables: Iterable[pa.Table]) -> None:
        """Refuse the tables of all pictures if none of them has a caption.

        Raises:
            ParameterError: there is none; it shows a key of either side.
        """
        ours = ""
        for table in tables:
            if table["caption_raw"].null_count < len(table):
                return
            ours = table["key"][0].as_py() if len(table) else ours
        if not ours:
            return
        (reader, key, _), own = next(iter(self.tables.items()))
        with self._connected() as database:
            query = f"SELECT {key} AS key FROM {reader} WHERE key IS NOT NULL LIMIT 1"
            keys = self._run(database, query, [own])["key"]
        theirs = f"{self.key_prefix}{keys[0]}" if len(keys) else "nothing"
        raise ParameterError(
            "none of the pictures is among the imported captions of "
            f"{shown(self.files[0])}: a key there is {printable(theirs)!r}, here "
            f"{ours!r}; set `key_column` and `key_prefix`."
        )

    def _sql_of(self, suffix: str, file: str) -> tuple[str, str, str]:
        """Return SQL that reads one file, its keys as text, its captions as lists.

        Raises:
            ParameterError: it cannot be read, or a column is missing.
        """
        reader, wanted = READERS[suffix], set(self.columns.values())
        wanted |= {"captioner"} if self.written_by else set()
        whole = reader.replace(")", ", sample_size = -1)")  # a column may come late
        for source in [reader, *([whole] if "json" in reader else [])]:
            with self._connected() as database:
                query = f"DESCRIBE FROM {source}"
                found = self._run(database, query, [glob.escape(file)])
            listed = (found[name].to_pylist() for name in found.column_names[:2])
            types = dict(zip(*listed, strict=True))
            if not (missing := sorted(wanted - types.keys())):
                break
        else:
            raise ParameterError(
                f"the imported captions have no column {', '.join(missing)}; there are "
                f"{', '.join(types)}. Set `key_column` and `caption_column`."
            )
        if "json" in reader:
            fields = ", ".join(f"{_quoted(name)}: 'JSON'" for name in sorted(wanted))
            reader = f"read_json(?, columns = {{{fields}}}, {_OWN})"
        key, caption = self.columns["key"], self.columns["caption"]
        texts = _texts(_quoted(caption), types[caption])
        if self.written_by:
            said = "captioner ->> '$'" if "json" in reader else "captioner::VARCHAR"
            writer = self.written_by.replace("'", "''")
            texts = f"CASE WHEN {said} = '{writer}' THEN {texts} END"
        return reader, _key_text(_quoted(key), types[key]), texts

    def _connected(self) -> duckdb.DuckDBPyConnection:
        """Return a connection that can read the files."""
        database = duckdb.connect()
        places.register(database, self.files[0])
        return database

    def _run(self, database: Any, query: str, values: list[Any]) -> pa.Table:
        """Run a query; what DuckDB cannot read is one line."""
        try:
            return database.sql(query, params=values).to_arrow_table()
        except Exception as error:
            if places.is_address(self.files[0]):  # what a network raises is its own
                raise places.refusal(self.files[0], error) from None
            if not isinstance(error, duckdb.Error):
                raise
            found = printable(str(error).split(": ", 1)[-1].splitlines()[0])
            raise ParameterError(
                f"the imported captions of {shown(self.files[0])} cannot be used: "
                f"{found}; correct the file, or `captioners` in the profile."
            ) from None


def _key_text(column: str, kind: str) -> str:
    """Return SQL for a key as text; a whole float is its integer."""
    whole = r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|DECIMAL\(\d+,0\)"
    if kind == "VARCHAR" or re.fullmatch(whole, kind):
        return f"CAST({column} AS VARCHAR)"
    one = column if kind == "JSON" else f"to_json({column})"
    return f"""CASE json_type({one})
        WHEN 'OBJECT' THEN error('a key is an object; expected text or a number')
        WHEN 'ARRAY' THEN error('a key is a list; expected text or a number')
        WHEN 'DOUBLE' THEN CASE
            -- So JSON's whole numbers are called that need more than 64 bits.
            WHEN regexp_full_match({one} ->> '$', '-?[0-9]+') THEN {one} ->> '$'
            WHEN NOT isfinite(CAST({one} AS DOUBLE)) THEN NULL
            WHEN abs(CAST({one} AS DOUBLE)) >= {EXACT.get(kind, 2**53)} THEN error(
                'the key ' || ({one} ->> '$') || ' is a float, which cannot hold it '
                || 'exactly; expected integers or text')
            WHEN CAST({one} AS DOUBLE) % 1 = 0
                THEN CAST(CAST({one} AS DOUBLE)::BIGINT AS VARCHAR)
            ELSE {one} ->> '$' END
        ELSE {one} ->> '$' END"""


def _texts(column: str, kind: str) -> str:
    """Return SQL for a list of captions."""
    if kind == "VARCHAR":
        return f"[{column}]"
    if kind == "VARCHAR[]":
        return column
    text = """CASE WHEN json_type({0}) IN ('OBJECT', 'ARRAY')
        THEN error('a caption is ' || left({0}::VARCHAR, 80)
            || '; expected text or a list of texts')
        ELSE {0} ->> '$' END"""
    one = column if kind == "JSON" else f"to_json({column})"
    return f"""CASE json_type({one})
        WHEN 'ARRAY' THEN list_transform(
            CAST({one} AS JSON[]), lambda one: {text.format("one")})
        ELSE [{text.format(one)}] END"""


def _columns(names: tuple[str, str], rows: Iterable[tuple[int, str]]) -> pa.Table:
    """Return rows of a place and a text as a table."""
    schema = pa.schema([(names[0], pa.int64()), (names[1], pa.string())])
    return pa.Table.from_pylist(
        [dict(zip(names, r, strict=True)) for r in rows], schema
    )


def _quoted(name: str) -> str:
    """Quote a column's name for SQL."""
    return '"' + name.replace('"', '""') + '"'
