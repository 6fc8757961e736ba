"""Where the files of a source lie: on this machine, on the Hub, or in a bucket.

An address of the Hub names a commit, which cannot change. What has no driver, no
network or no permission is one line that says so.
"""

import contextlib
import datetime as dt
import glob
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import fsspec
from duckdb import DuckDBPyConnection as Connection

from commoncanvas.core.errors import SourceError
from commoncanvas.core.files import regular


def is_address(path: Path | str) -> bool:
    """Tell an address, such as hf://datasets/..., from a path on this machine."""
    return "://" in str(path)


def find_files(pattern: Path | str) -> list[str]:
    """Return the files of a path, a pattern with `*`, or an address of either, sorted.

    Raises:
        SourceError: an address cannot be listed, or one of the Hub names no commit.
    """
    text = str(pattern)
    if not is_address(text):
        return [text] if Path(text).is_file() else sorted(glob.glob(text))
    check_commit(text)
    try:
        files, path = fsspec.core.url_to_fs(text)
        found = files.glob(path) if glob.has_magic(path) else [path]
        return sorted(files.unstrip_protocol(one) for one in found)
    except Exception as error:
        # What a file system raises, without a network for instance, is its own.
        raise refusal(text, error) from None


def check_commit(address: str) -> None:
    """Raise SourceError if an address of the Hub does not name a commit."""
    revision = address.partition("@")[2].partition("/")[0]
    if address.startswith("hf://") and not re.fullmatch("[0-9a-f]{40}", revision):
        raise SourceError(
            f"{address}: revision {revision or 'none'!r}; expected @ and a commit hash "
            "of 40 digits, which cannot change; copy it from the page of the data set."
        )


def register(connection: Connection, address: Path | str) -> None:
    """Let a connection of DuckDB read an address; a path needs nothing."""
    if is_address(address):
        protocol = str(address).partition("://")[0]
        if not connection.filesystem_is_registered(protocol):
            try:
                connection.register_filesystem(fsspec.core.url_to_fs(str(address))[0])
            except Exception as error:
                raise refusal(str(address), error) from None


@contextlib.contextmanager
def opened(path: Path | str) -> Iterator[IO[bytes]]:
    """Open a file, or an address of which the first byte can be had.

    Raises:
        SourceError: the address cannot be read.
    """
    if not is_address(path):
        with regular(path).open("rb") as file:
            yield file
        return
    try:
        remote: Any = fsspec.open(str(path), "rb").open()
        remote.read(1)
        remote.seek(0)
    except Exception as error:
        raise refusal(str(path), error) from None
    with remote:
        yield remote


def size_of(path: Path | str) -> int:
    """Return the size of a file or of what lies at an address [bytes]."""
    if not is_address(path):
        return regular(path).stat().st_size
    with opened(path) as file:
        return int(getattr(file, "size", 0) or 0)


def day_of_file(path: Path | str) -> str:
    """Return the ISO date (UTC) on which a file was last changed, "" if unknown.

    On the Hub that is the day of the file's last commit.
    """
    moment: Any = None
    with contextlib.suppress(Exception):  # each file system's own
        if is_address(path):
            files, place = fsspec.core.url_to_fs(str(path))
            moment = files.modified(place)
        elif Path(path).is_file():
            moment = dt.datetime.fromtimestamp(Path(path).stat().st_mtime, dt.UTC)
        if moment is not None and moment.timestamp() > 0:
            return moment.astimezone(dt.UTC).date().isoformat()
    return ""


def state_of(path: Path | str) -> str:
    """Return what tells one state of a file from another, without reading it whole.

    On the Hub that is the address, which names a commit; elsewhere what the file system
    says of it. Of a file on this machine use `files.sha256_of`.

    Raises:
        SourceError: there is no such file.
    """
    text = str(path)
    if text.startswith("hf://"):
        check_commit(text)
        return text
    try:
        files, place = fsspec.core.url_to_fs(text)
        return f"{text} {files.checksum(place)}"
    except Exception as error:
        raise refusal(text, error) from None


def refusal(address: str, error: BaseException) -> SourceError:
    """Say in one line why an address cannot be read."""
    causes = [error, error.__cause__, error.__context__]
    told = " ".join(f"{type(one).__name__} {one}" for one in causes if one is not None)
    if address.startswith("hf://") and re.search(r"Gated|\b40[13]\b", told):
        return SourceError(
            f"{address!r} is gated; expected a token of somebody who accepted its "
            "terms: accept them on the page of the data set, then set HF_TOKEN or run "
            "`hf auth login`."
        )
    return SourceError(
        f"{address!r} cannot be listed or read ({error!r:.160}); expected files, or an "
        "address of the Hub or of a bucket; check it, its driver and the network."
    )
