"""Fetching the pictures of Flickr rows: bounded, resumable, under a true name.

Each row is settled once, with its reason: whatever a host, an answer or a picture does
costs that row. A record is written after its picture (`state`), rows wait for hosts in
`hosts`, and pictures are decoded in processes of their own, which have a deadline.
`commoncanvas download --help` says the rest.
"""

import asyncio
import collections
import contextlib
import hashlib
import importlib.metadata
import random
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import httpx
from tqdm import tqdm

from commoncanvas.catalog import answers, hosts, reservations
from commoncanvas.catalog.answers import Outcome, checked_url
from commoncanvas.catalog.rows import key_and_address, read_rows
from commoncanvas.catalog.state import (
    STATE,
    Found,
    State,
    failures,
    opened,
    picture_hash,
    picture_path,
    verify,
)
from commoncanvas.core import errors
from commoncanvas.core.bounded import Bounded
from commoncanvas.core.files import LEFTOVER, write_atomically
from commoncanvas.core.pictures import check_picture
from commoncanvas.core.proxies import Routes

__all__ = ["STATE", "failures", "fetch_pictures", "picture_hash", "picture_path"]
__all__ += ["read_rows", "verify"]

SETTLED = ("ok", "gone", "refused", "failed", "duplicate")  # every row becomes one
ORIGINS = ("flickr", "multimedia-commons")
BUCKET = "https://multimedia-commons.s3-us-west-2.amazonaws.com/"
MAX_REDIRECTS = 3
MAX_BACKOFF_S = 120
LOOK_S, MAX_LOOKS = 5.0, 2  # for a host's reservations: deadline and tries
NOT_KNOWN = f"reservations not known: {reservations.PATH}"
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
    patience: float = _setting(60.0, 0.0, "wait for a host that asks for it, seconds")


SETTINGS = fields(Settings)


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
        ParameterError: a setting, or the environment's proxy, cannot be used.
        ManifestError: the folder cannot be read or written, or another run uses it.
        CheckFailed: a row was lost.
    """
    checked = _checked(origin, settings)
    with _Bar(desc="pictures", unit="", file=sys.stderr) as bar:
        run = _Run(rows, Path(folder), origin, checked, bar)
        # A notebook's own thread has a loop already. Ctrl-C waits for this one, but not
        # longer than a second: it may be stuck in the rows, or in a name's look-up.
        loop = asyncio.new_event_loop()
        task = loop.create_task(run.settle_all())
        thread = threading.Thread(target=_finish, args=(loop, task), daemon=True)
        thread.start()
        try:
            thread.join()
        except BaseException:
            with contextlib.suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(task.cancel)
            thread.join(1.2)
            raise
    task.result()
    counts = {name: run.counts[name] for name in ("rows", *SETTLED, "asked")}
    if counts["rows"] != sum(counts[name] for name in SETTLED):
        raise errors.CheckFailed(f"rows were lost: {counts}; expected none. Report it.")
    return counts


def _finish(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[None]") -> None:
    asyncio.set_event_loop(loop)
    with contextlib.suppress(BaseException):  # is the task's, for who waits
        loop.run_until_complete(task)
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()


def _checked(origin: str, values: dict[str, Any]) -> Settings:
    def is_wrong(name: str, value: Any) -> bool:
        if name == "contact":  # it goes into a header
            return not re.fullmatch("[ -~]*", str(value))
        try:  # "Not at least", since NaN is neither below nor above.
            return not value >= least[name]
        except (KeyError, TypeError):
            return True

    least = {setting.name: setting.metadata["least"] for setting in SETTINGS}
    wrong = [name for name, value in values.items() if is_wrong(name, value)]
    if wrong or origin not in ORIGINS:
        raise errors.ParameterError(
            f"{origin=}, {values}: wrong is {wrong or 'origin'}; expected one of"
            f" {ORIGINS} and the ranges of `Settings`. Choose other values."
        )
    return Settings(**values)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Tell what the folder cannot take from what one row does."""
    try:
        yield
    except OSError as error:
        raise errors.ManifestError(
            f"{path}: {error}; expected a folder with space that can be written. Free "
            "some, or name another folder, and run again to go on."
        ) from None


class _Bar(tqdm):
    """A bar that ends, and nothing with it, once nobody reads it any more.

    Else `tqdm` raises in the midst of a record, and keeps the lock that its own thread
    waits for.
    """

    def display(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().display(*args, **kwargs)
        except OSError:
            self.disable = True

    def close(self) -> None:
        with contextlib.suppress(OSError):
            super().close()


class _Run:
    """One call of `fetch_pictures`; `settle_all` opens what it needs."""

    def __init__(
        self, rows: Rows, folder: Path, origin: str, settings: Settings, bar: tqdm
    ) -> None:
        self.rows, self.folder, self.origin = iter(rows), folder, origin
        self.settings, self.bar = settings, bar
        self.decoders: Bounded | None = None
        self.counts: collections.Counter[str] = collections.Counter()
        agent = f"commoncanvas/{importlib.metadata.version('commoncanvas')}"
        agent += f" (+{settings.contact})" if settings.contact else ""
        # The cap and the hash are of the bytes as served, so nothing is to be packed.
        self.headers = {"User-Agent": agent, "Accept-Encoding": "identity"}

    async def settle_all(self) -> None:
        routes = Routes()
        limits = self.settings.concurrency, self.settings.per_host
        self.queues = hosts.Queues(*limits, self.settings.patience)
        self.changed, self.has_more = asyncio.Event(), True
        with _writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with (
            opened(self.folder) as connection,
            ThreadPoolExecutor(1) as self.keeper,
            contextlib.ExitStack() as self.opened,
        ):
            self.state = State(connection)
            async with routes as self.routes:
                try:
                    async with asyncio.TaskGroup() as group:
                        while request := await self.next_request():
                            group.create_task(self.work(request))
                except BaseExceptionGroup as group_of_errors:
                    raise group_of_errors.exceptions[0] from None

    async def next_request(self) -> hosts.Request | None:
        """Wait for a request that may be made; None after the last."""
        while True:
            if request := self.queues.take():
                return request
            if self.has_more and self.queues.has_room():
                self.read_row()
                await asyncio.sleep(0)  # a stretch of settled rows holds up no request
            elif self.has_more or self.queues.active or self.queues.num_waiting:
                self.changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.queues.next_change_s()):
                        await self.changed.wait()
            else:
                return None

    def read_row(self) -> None:
        """Let the next row wait for its host, or settle it at once."""
        if (row := next(self.rows, self)) is self:
            self.has_more = False
            return
        self.counts["rows"] += 1
        key, url = key_and_address(row)
        if key is None:
            reason = f"no key in {ascii(row)}, expected a text"
            self.settle(key, url, Found("refused", reason, attempts=0))
        elif self.state.is_repeated(key, url):
            self.count("duplicate")
        elif (status := self.state.before(key, url)) != "failed":
            self.count(status)
        else:
            self.counts["asked"] += 1
            of_bucket = url and BUCKET + picture_path(url)
            try:
                address = checked_url(url if self.origin == "flickr" else of_bucket)
                self.queues.put(hosts.Request(key, url, address, address))
            except Outcome as outcome:
                self.settle(key, url, Found(*outcome.args))

    def settle(self, key: str | int | None, url: str, found: Found) -> None:
        self.state.record(key, url, found)
        self.count(found.status)

    def count(self, status: str) -> None:
        self.counts[status] += 1
        self.bar.set_postfix(self.counts, refresh=False)
        self.bar.update()

    async def work(self, request: hosts.Request) -> None:
        """Make one request; settle its row, or let it wait for the next."""
        host = self.queues.host_of(request)
        try:
            if found := await self.ask(request, host):
                self.settle(request.key, request.downloadurl, found)
        finally:
            self.queues.finish(host)
            self.changed.set()

    async def ask(self, request: hosts.Request, host: hosts.Host) -> Found | None:
        """Return what became of a row, or None if it is to be asked for again."""
        attempt, status = request.attempt, "failed"
        if self.queues.is_left(host):
            reason = f"{request.url.host} asked to wait; run again later"
            return Found(status, reason, attempts=attempt - 1)
        try:
            async with asyncio.timeout(self.settings.timeout):
                await self.heed(request, host)
                answer = await self.get(request, host)
            host.answer()
            if isinstance(answer, httpx.URL):
                self.queues.put(request.redirected(answer))
                return None
            data, kind = answer
            async with host.decoding():
                if not self.decoders:  # a run may have nothing to decode
                    self.decoders = self.opened.enter_context(Bounded())
                checked = self.decoders.submit(check_picture, data)
                await asyncio.wrap_future(checked)
            path = self.folder / picture_path(request.downloadurl)
            loop = asyncio.get_running_loop()
            digest = await loop.run_in_executor(self.keeper, _keep, data, path)
            host.thank()
            final = str(request.url)
            return Found("ok", _note(host), digest, len(data), kind, final, attempt)
        except Outcome as outcome:
            status, reason = outcome.args
            if status != "failed":
                host.answer()
        except errors.PictureError as error:
            status, reason = "refused", str(error)
        except errors.ManifestError:
            raise  # of the folder, so of all rows
        except Exception as error:  # whatever a stranger's answer brings about
            reason = f"{type(error).__name__} {error}"
        if status == "failed" and attempt <= self.settings.retries:
            # Seeded by the row, so that a second run waits as long as the first.
            jitter = random.Random(f"{request.key} {attempt}").uniform(0.5, 1.5)
            wait_s = self.settings.backoff * 2 ** min(attempt - 1, 20) * jitter
            self.queues.put(request.again(), min(wait_s, MAX_BACKOFF_S))
            return None
        return Found(status, reason[:200], attempts=attempt)

    async def heed(self, request: hosts.Request, host: hosts.Host) -> None:
        """Refuse a row whose host reserves it; its file of reservations is asked once.

        A host that does not answer for that file is asked twice; then what it states is
        not known, which is on record with its pictures.
        """
        async with host.looking:
            if host.rules is None:
                host.num_looks += 1
                send, limit_s = self.routes.handle_async_request, self.settings.timeout
                host.rules = await reservations.ask(
                    send, request.url, self.headers, min(LOOK_S, limit_s / 2)
                )
                if host.rules is None and host.num_looks == MAX_LOOKS:
                    host.rules = reservations.Rules(unknown="it does not answer")
        path = request.url.raw_path.decode("ascii", "replace")
        if host.rules and (location := host.rules.reserved_by(path)):
            raise Outcome("refused", f"opted out ({reservations.PATH}: {location})")

    async def get(
        self, request: hosts.Request, host: hosts.Host
    ) -> tuple[bytes, str] | httpx.URL:
        """Return bytes and content type, or where a redirect leads."""
        asked = httpx.Request("GET", request.url, headers=self.headers)
        answer = await self.routes.handle_async_request(asked)
        async with contextlib.aclosing(answer):
            answer.request = asked
            host.pause(answers.pause_s(answer))
            kind, target = answers.classify(answer)
            if target is None:
                return await self.read(answer), kind
            if request.num_redirects == MAX_REDIRECTS:
                raise Outcome("refused", f"more than {MAX_REDIRECTS} redirects")
            return target

    async def read(self, answer: httpx.Response) -> bytes:
        length = answer.headers.get("content-length", "")
        data, size = bytearray(), int(length) if re.fullmatch("[0-9]+", length) else 0
        chunks, max_bytes = answer.aiter_raw(), self.settings.max_bytes
        while size <= max_bytes and (chunk := await anext(chunks, None)):
            data += chunk
            size = max(size, len(data))
        if size > max_bytes:
            raise Outcome("refused", f"more than {max_bytes} bytes")
        return bytes(data)


def _note(host: hosts.Host) -> str:
    """Say of a picture that it is not known what its host reserves, if that is so."""
    if host.rules is None:
        return f"{NOT_KNOWN} (it does not answer)"
    return f"{NOT_KNOWN} ({host.rules.unknown})" if host.rules.unknown else ""


def _keep(data: bytes, path: Path) -> str:
    with _writing(path):
        for leftover in path.parent.glob(f"{LEFTOVER}*-{path.name}"):
            leftover.unlink()  # of a killed run
        write_atomically(path, lambda part: part.write_bytes(data))
    return hashlib.sha256(data).hexdigest()
