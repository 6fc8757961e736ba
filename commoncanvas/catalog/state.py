"""What became of every row of a download, in FOLDER/downloads.sqlite.

Unlike a line of text, a record is whole or not there even after kill -9, and millions
are looked up in flat memory.
"""

import contextlib
import hashlib
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path

import pandas as pd

from commoncanvas.core import errors
from commoncanvas.core.files import sha256_of

STATE = "downloads.sqlite"
# Locked by one run at a time, in which a record is safe once it is written.
SCHEMA = """PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL; CREATE TABLE IF NOT EXISTS pictures (key PRIMARY KEY,
    downloadurl, status, reason, sha256, num_bytes, content_type, final_url, date,
    attempts)"""


def picture_hash(downloadurl: str) -> str:
    """Return YFCC100M's hash of a photo: its address's MD5, bytes not zero-padded.

    Up to 32 hexadecimal digits. Source: yfcc100m, the keys of its bucket.
    """
    address = re.sub("^https:", "http:", downloadurl)  # as the metadata has it
    return "".join(f"{byte:x}" for byte in hashlib.md5(address.encode()).digest())


def picture_path(downloadurl: str) -> str:
    """Return where a picture lies in its folder, which is laid out as the bucket is."""
    digest = picture_hash(downloadurl)
    suffix = re.search(r"\.\w{1,5}(?=$|[?#])", downloadurl, re.ASCII)
    name = digest + (suffix[0] if suffix else ".jpg")
    return f"data/images/{digest[:3]}/{digest[3:6]}/{name}"


@dataclass(frozen=True)
class Found:
    """What became of one row, in the order of the table's columns."""

    status: str
    reason: str
    sha256: str = ""
    num_bytes: int = 0
    content_type: str = ""
    final_url: str = ""
    attempts: int = 1


class State:
    """The records that one run reads and writes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        connection.execute("CREATE TEMP TABLE seen (key UNIQUE, hash UNIQUE)")
        # Rows without a usable key cannot be told apart: each run lists its own.
        connection.execute("DELETE FROM pictures WHERE key IS NULL")

    def is_repeated(self, key: str | int, downloadurl: str) -> bool:
        """Say whether this run had the key or the address before, and note both."""
        seen = (key, picture_hash(downloadurl) if downloadurl else None)
        insert = "INSERT OR IGNORE INTO seen VALUES (?, ?)"
        return self.connection.execute(insert, seen).rowcount == 0

    def before(self, key: str | int, downloadurl: str) -> str:
        """Return the status that earlier runs came to; `failed` if none did."""
        query = "SELECT status, downloadurl FROM pictures WHERE key = ?"
        status, address = self.connection.execute(query, (key,)).fetchone() or ("", "")
        return status if status and address == downloadurl else "failed"

    def record(self, key: str | int | None, downloadurl: str, found: Found) -> None:
        """Write what became of a row; its attempts add to those of earlier runs."""
        *values, attempts = astuple(found)
        values = [_printable(v) if isinstance(v, str) else v for v in values]
        self.connection.execute(
            """INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?, ?,
            date('now'), ? + coalesce((SELECT attempts FROM pictures WHERE key = ?), 0))
            """,
            (key, downloadurl, *values, attempts, key),
        )


def _printable(text: str) -> str:
    """Return what a terminal can show of a text that a stranger wrote."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:2000])


@contextlib.contextmanager
def opened(folder: Path | str) -> Iterator[sqlite3.Connection]:
    """Open a folder's records, for one user at a time.

    Raises:
        ManifestError: they cannot be read or written, or another run uses them.
    """
    connection = None
    try:
        connection = sqlite3.connect(
            Path(folder) / STATE, timeout=1, isolation_level=None
        )
        connection.executescript(SCHEMA)
        yield connection
    except (sqlite3.Error, pd.errors.DatabaseError) as error:
        raise errors.ManifestError(
            f"{folder}/{STATE}: {error}; expected a state that can be written and that "
            "no other run is using. Wait for that run, free space, name another "
            "folder, or move the file away."
        ) from None
    finally:
        if connection:
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def failures(folder: Path | str) -> pd.DataFrame:
    """Return what was not fetched: key, status, reason, url, attempts (requests)."""
    query = """SELECT key, status, reason, downloadurl AS url, attempts FROM pictures
        WHERE status != 'ok' ORDER BY key"""
    with opened(folder) as connection:
        return pd.read_sql_query(query, connection)


def verify(folder: Path | str) -> list[str]:
    """Return the keys whose picture vanished or changed; the next run asks again."""

    def digest(downloadurl: str) -> str:
        path = Path(folder, picture_path(downloadurl))
        return sha256_of(path) if path.is_file() else ""

    update = """UPDATE pictures SET status = 'failed', reason = 'vanished or changed'
        WHERE status = 'ok' AND sha256 != digest(downloadurl) RETURNING key"""
    with opened(folder) as connection:
        connection.create_function("digest", 1, digest)
        return [key for (key,) in connection.execute(update)]
