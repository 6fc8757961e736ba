"""Fetching the pictures of Flickr rows: bounded, resumable, under a true name.

What became of every row stands in FOLDER/downloads.sqlite, written after the picture:
unlike a line of text, a record is whole or not there even after kill -9, and millions
are looked up in flat memory. `commoncanvas download --help` says the rest.
"""

import asyncio
import collections
import contextlib
import hashlib
import importlib.metadata
import itertools
import random
import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
from pyarrow.dataset import dataset
from tqdm import tqdm

from commoncanvas.catalog import answers
from commoncanvas.catalog.answers import Outcome, checked_url
from commoncanvas.core import errors
from commoncanvas.core.files import LEFTOVER, write_atomically

STATE = "downloads.sqlite"
# Locked by one run at a time, in which a record is safe once it is written.
SCHEMA = """PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL; CREATE TABLE IF NOT EXISTS pictures (key PRIMARY KEY,
    downloadurl, status, reason, sha256, num_bytes, content_type, final_url, date,
    attempts)"""
SETTLED = ("ok", "gone", "refused", "failed", "duplicate")  # every row becomes one
ORIGINS = ("flickr", "multimedia-commons")
BUCKET = "https://multimedia-commons.s3-us-west-2.amazonaws.com/"
MAX_REDIRECTS = 3
Rows = Iterable[Mapping[str, Any]]


def _setting(default: Any, least: Any, meaning: str) -> Any:
    return field(default=default, metadata={"least": least, "help": meaning})


@dataclass(frozen=True)
class Settings:
    """Keywords of `fetch_pictures` and options of the command."""

    contact: str = _setting("", "", "address or mail that the user agent names")
    concurrency: int = _setting(32, 1, "requests at once in all")
    per_host: int = _setting(8, 1, "requests at once to one host")
    timeout: float = _setting(30.0, 0.001, "deadline of a request as a whole, seconds")
    max_bytes: int = _setting(20_000_000, 1, "a larger picture is refused, bytes")
    retries: int = _setting(3, 0, "further requests where a failure may pass")
    backoff: float = _setting(1.0, 0.0, "wait before the first retry, then doubled, s")


SETTINGS = fields(Settings)


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


def fetch_pictures(
    rows: Rows, folder: Path | str, origin: str = "flickr", **settings: Any
) -> dict[str, int]:
    """Fetch the pictures that are not settled yet, and say what became of every row.

    `ok`, `gone` and `refused` rows of an earlier run are never asked for again, from
    whatever origin; `failed` rows are.

    Args:
        rows: with `key` and `downloadurl`, read as a stream.
        folder: of the pictures and the state; made if need be.
        origin: `flickr` asks the download address, `multimedia-commons` the bucket.
        **settings: of `Settings`.

    Returns:
        Counts: `rows` = `ok` + `gone` + `refused` + `failed` + `duplicate` (of a key or
        an address in this call), and `asked` of them.

    Raises:
        ParameterError: a setting is unknown or out of its range.
        ManifestError: the folder's state cannot be read, or another run uses it.
        CheckFailed: a row was lost.
    """
    run = _Run(rows, Path(folder), origin, _checked(origin, settings))
    with ThreadPoolExecutor(1) as thread:  # a notebook's own thread has a loop already
        try:
            thread.submit(asyncio.run, run.settle_all()).result()
        finally:
            run.stop()
    counts = {name: run.counts[name] for name in ("rows", *SETTLED, "asked")}
    if counts["rows"] != sum(counts[name] for name in SETTLED):
        raise errors.CheckFailed(f"rows were lost: {counts}; expected none. Report it.")
    return counts


def _checked(origin: str, values: dict[str, Any]) -> Settings:
    least = {setting.name: setting.metadata["least"] for setting in SETTINGS}
    # "Not at least", since NaN is neither below nor above.
    wrong = [n for n in values if n not in least or not values[n] >= least[n]]
    if not re.fullmatch("[ -~]*", values.get("contact", "")):  # it goes into a header
        wrong.append("contact")
    if wrong or origin not in ORIGINS:
        raise errors.ParameterError(
            f"{origin=}, {values}: wrong is {wrong or 'origin'}; expected one of"
            f" {ORIGINS} and the ranges of `Settings`. Choose other values."
        )
    return Settings(**values)


def failures(folder: Path | str) -> pd.DataFrame:
    """Return what was not fetched: key, status, reason, url, attempts (requests)."""
    query = """SELECT key, status, reason, downloadurl AS url, attempts FROM pictures
        WHERE status != 'ok' ORDER BY key"""
    with _opened(folder) as state:
        return pd.read_sql_query(query, state)


def verify(folder: Path | str) -> list[str]:
    """Return the keys whose picture vanished or changed; the next run asks again."""

    def digest(downloadurl: str) -> str:
        path = Path(folder, picture_path(downloadurl))
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""

    update = """UPDATE pictures SET status = 'failed', reason = 'vanished or changed'
        WHERE status = 'ok' AND sha256 != digest(downloadurl) RETURNING key"""
    with _opened(folder) as state:
        state.create_function("digest", 1, digest)
        return [key for (key,) in state.execute(update)]


@dataclass(frozen=True)
class _Found:
    """What became of one row, in the order of the table's columns."""

    status: str
    reason: str
    sha256: str = ""
    num_bytes: int = 0
    content_type: str = ""
    final_url: str = ""
    attempts: int = 1


class _Run:
    """One call of `fetch_pictures`; `settle_all` opens what it needs."""

    def __init__(self, rows: Rows, folder: Path, origin: str, settings: Settings):
        from commoncanvas.core.pictures import decode_picture  # not for `--help`

        self.rows, self.folder, self.origin = iter(rows), folder, origin
        self.settings, self.decode = settings, decode_picture
        self.stop: Callable[[], object] = lambda: None
        self.counts: collections.Counter[str] = collections.Counter()
        self.free_at: dict[str, float] = collections.defaultdict(float)  # monotonic [s]
        self.gates: dict[str, asyncio.Semaphore] = collections.defaultdict(
            lambda: asyncio.Semaphore(settings.per_host)
        )

    async def settle_all(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        self.stop = lambda: loop.is_closed() or loop.call_soon_threadsafe(task.cancel)
        agent = f"commoncanvas/{importlib.metadata.version('commoncanvas')}"
        agent += f" (+{self.settings.contact})" if self.settings.contact else ""
        # The cap and the hash are of the bytes as served, so nothing is to be packed.
        headers = {"User-Agent": agent, "Accept-Encoding": "identity"}
        self.folder.mkdir(parents=True, exist_ok=True)
        with (
            _opened(self.folder) as self.state,
            tqdm(desc="pictures", unit="", file=sys.stderr) as self.bar,
            # One picture is decoded at a time: a large one takes half a GB.
            ThreadPoolExecutor(1) as self.keeper,
        ):
            self.state.execute("CREATE TEMP TABLE seen (key UNIQUE, hash UNIQUE)")
            # No timeout of httpx's: they hold between bytes, `get`'s for the request.
            async with httpx.AsyncClient(headers=headers, timeout=None) as self.client:
                workers = [self.work() for _ in range(self.settings.concurrency)]
                await asyncio.gather(*workers)

    async def work(self) -> None:
        while (row := next(self.rows, None)) is not None:  # one stream for all workers
            self.counts["rows"] += 1
            self.counts[await self.settle(row["key"], row["downloadurl"] or "")] += 1
            self.bar.set_postfix(self.counts, refresh=False)
            self.bar.update()
            await asyncio.sleep(0)  # a stretch of settled rows holds up no request

    async def settle(self, key: str, url: str) -> str:
        seen = (key, picture_hash(url) if url else None)
        insert = "INSERT OR IGNORE INTO seen VALUES (?, ?)"
        if self.state.execute(insert, seen).rowcount == 0:
            return "duplicate"
        query = "SELECT status, attempts, downloadurl FROM pictures WHERE key = ?"
        before = self.state.execute(query, (key,)).fetchone()
        status, attempts, address = before or ("failed", 0, "")
        if status == "failed" or address != url:
            self.counts["asked"] += 1
            found = await self.ask(key, url)
            status, attempts = found.status, attempts + found.attempts
            insert = """INSERT OR REPLACE INTO pictures
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, date('now'), ?)"""
            values = (key, url, *astuple(found)[:-1], attempts)
            self.state.execute(insert, values)
        return status

    async def ask(self, key: str, url: str) -> _Found:
        """Ask for one picture, again where a failure may pass, and keep it."""
        of_bucket = url and BUCKET + picture_path(url)
        address = url if self.origin == "flickr" else of_bucket
        for attempt in itertools.count(1):
            try:
                data, kind, final = await self.get(checked_url(address))
                path = self.folder / picture_path(url)
                loop = asyncio.get_running_loop()
                digest = await loop.run_in_executor(self.keeper, self.keep, data, path)
                return _Found("ok", "", digest, len(data), kind, final, attempt)
            except Outcome as outcome:
                status, reason = outcome.args
            except errors.PictureError as error:
                status, reason = "refused", str(error)
            except (TimeoutError, httpx.TransportError) as error:
                status, reason = "failed", f"{type(error).__name__} {error}"
            if status != "failed" or attempt > self.settings.retries:
                break
            # Seeded by the row, so that a second run waits as long as the first.
            jitter = random.Random(f"{key} {attempt}").uniform(0.5, 1.5)
            wait_s = self.settings.backoff * 2 ** (attempt - 1) * jitter
            await asyncio.sleep(min(wait_s, answers.MAX_PAUSE_S))
        return _Found(status, reason[:200], attempts=attempt)

    async def get(self, url: httpx.URL) -> tuple[bytes, str, str]:
        """Return bytes, content type and final URL, following allowed redirects."""
        for _ in range(1 + MAX_REDIRECTS):
            host, stream = url.host, self.client.stream("GET", url)
            async with self.gates[host]:
                while (wait_s := self.free_at[host] - time.monotonic()) > 0:
                    await asyncio.sleep(wait_s)
                async with asyncio.timeout(self.settings.timeout), stream as answer:
                    pause_s = answers.retry_after_s(answer.headers.get("retry-after"))
                    free_at = time.monotonic() + pause_s
                    self.free_at[host] = max(self.free_at[host], free_at)
                    kind = answers.classify(answer)
                    if answer.next_request is None:
                        return await self.read(answer), kind, str(url)
            url = checked_url(str(answer.next_request.url))
        raise Outcome("refused", f"more than {MAX_REDIRECTS} redirects")

    async def read(self, answer: httpx.Response) -> bytes:
        data, size = bytearray(), int(answer.headers.get("content-length", 0))
        chunks, max_bytes = answer.aiter_raw(), self.settings.max_bytes
        while size <= max_bytes and (chunk := await anext(chunks, None)):
            data += chunk
            size = max(size, len(data))
        if size > max_bytes:
            raise Outcome("refused", f"more than {max_bytes} bytes")
        return bytes(data)

    def keep(self, data: bytes, path: Path) -> str:
        self.decode(data)
        for leftover in path.parent.glob(f"{LEFTOVER}*-{path.name}"):
            leftover.unlink()  # of a killed run
        write_atomically(path, lambda part: part.write_bytes(data))
        return hashlib.sha256(data).hexdigest()


def _opened(folder: Path | str) -> contextlib.closing[sqlite3.Connection]:
    """Open a folder's state for one user at a time, to be closed by a `with`."""
    try:
        state = sqlite3.connect(Path(folder) / STATE, timeout=1, isolation_level=None)
        state.executescript(SCHEMA)
        return contextlib.closing(state)
    except sqlite3.Error as error:
        raise errors.ManifestError(
            f"{folder}/{STATE}: {error}; expected a state that no other run is using. "
            "Wait for that run, name another folder, or move the file away."
        ) from None


def read_rows(
    catalog: Path | str, limit: int | None = None
) -> Iterator[dict[str, str]]:
    """Return `key` and `downloadurl` of a Parquet file's first rows, as a stream."""
    batches = dataset(catalog).to_batches(columns=["key", "downloadurl"])
    return itertools.islice((r for batch in batches for r in batch.to_pylist()), limit)
