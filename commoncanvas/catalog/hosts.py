"""Requests that wait for their hosts, so that none starves or presses another.

Where requests are scarce, a host gets a few at once, and more as it answers. A request
that waits, because its host asked for that, or for its next try, holds up no other
host's: rows are read ahead of it, some thousands at most. For a host that asks to wait,
a run waits no longer than `patience`, and a second more for each picture it gave; its
rows then fail, and the next run asks for them.
"""

import asyncio
import collections
import contextlib
import heapq
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import httpx

from commoncanvas.catalog.reservations import Rules
from commoncanvas.core.errors import PictureError

FIRST = 2  # requests at once to a host that has not answered yet, where scarce
STALL_S = 2.0  # a host that answers nothing for so long holds up no other's rows
MAX_WAITING = 5_000  # rows that wait; a few megabytes
MAX_HOSTS = 10_000  # that are remembered


@dataclass(frozen=True)
class Request:
    """A row of the catalogue on its way."""

    key: str | int
    downloadurl: str
    start: httpx.URL  # what is asked first
    url: httpx.URL  # what is asked next: that, or where it led
    attempt: int = 1
    num_redirects: int = 0

    def again(self) -> "Request":
        return replace(self, url=self.start, attempt=self.attempt + 1, num_redirects=0)

    def redirected(self, url: httpx.URL) -> "Request":
        return replace(self, url=url, num_redirects=self.num_redirects + 1)


class Host:
    """What is known of one host, and what waits for it. Times are monotonic [s]."""

    def __init__(self) -> None:
        self.fresh: collections.deque[Request] = collections.deque()
        self.asleep: list[tuple[float, int, Request]] = []  # a heap, by time
        self.active = self.num_answers = 0
        self.moved_at = time.monotonic()  # began, or answered
        self.free_at = self.waited_s = 0.0
        self.rules: Rules | None = None  # its reservations; None: not known
        self.num_looks = 0  # for them
        self.looking = asyncio.Lock()
        self.lock = asyncio.Lock()

    def pause(self, wait_s: float) -> None:
        """Ask nothing for so long; several answers of one moment count once."""
        free_at = time.monotonic() + wait_s
        before = max(self.free_at, time.monotonic())
        if free_at > before:
            self.waited_s += free_at - before
            self.free_at = free_at

    def answer(self) -> None:
        """Note that the host answered."""
        self.num_answers += 1
        self.moved_at = time.monotonic()

    def thank(self) -> None:
        """Note that the host gave a picture."""
        self.waited_s = max(self.waited_s - 1, 0)

    @contextlib.asynccontextmanager
    async def decoding(self) -> AsyncIterator[None]:
        """Decode one picture at a time, so that slow ones leave a process to others."""
        async with self.lock:
            start = time.monotonic()
            try:
                yield
            except PictureError:
                if time.monotonic() - start > STALL_S:
                    self.num_answers = 0
                raise


class Queues:
    """All requests that wait, by host, and the number of those being made."""

    def __init__(self, concurrency: int, per_host: int, patience: float) -> None:
        self.concurrency, self.per_host = concurrency, per_host
        self.patience = patience
        self.hosts: dict[bytes, Host] = {}  # all that are remembered
        self.queued: dict[bytes, Host] = {}  # those that something waits for, in turn
        self.active = self.num_waiting = 0
        self.order = itertools.count()

    def host_of(self, request: Request) -> Host:
        """Return the host, a name with its port, that a request asks."""
        name = request.url.netloc
        if name not in self.hosts:
            if len(self.hosts) >= MAX_HOSTS:  # more than there can be at work
                self.hosts.pop(next(n for n in self.hosts if not self._works(n)))
            self.hosts[name] = Host()
        return self.hosts[name]

    def _works(self, name: bytes) -> bool:
        return name in self.queued or self.hosts[name].active > 0

    def put(self, request: Request, wait_s: float = 0) -> None:
        """Let a request wait for its host, and for its time [s from now]."""
        host = self.queued[request.url.netloc] = self.host_of(request)
        self.num_waiting += 1
        if not (host.active or host.fresh or host.asleep):
            host.moved_at = time.monotonic()
        if wait_s or request.num_redirects:  # what has begun is ended first
            at = time.monotonic() + wait_s
            heapq.heappush(host.asleep, (at, next(self.order), request))
        else:
            host.fresh.append(request)

    def take(self) -> Request | None:
        """Return a request that may be made now, of each host in turn, or None.

        It counts as being made until `finish`.
        """
        now = time.monotonic()
        if self.active >= self.concurrency:
            return None
        for name, host in self.queued.items():
            if self._ready_at(host, now) <= now:
                # The next look begins with another host.
                del self.queued[name]
                if host.asleep and (not host.fresh or host.asleep[0][0] <= now):
                    request = heapq.heappop(host.asleep)[2]
                else:
                    request = host.fresh.popleft()
                if host.fresh or host.asleep:
                    self.queued[name] = host
                host.active += 1
                self.active += 1
                self.num_waiting -= 1
                return request
        return None

    def finish(self, host: Host) -> None:
        """Say that a request that was taken is over."""
        host.active -= 1
        self.active -= 1

    def has_room(self) -> bool:
        """Say whether another row may be read: rows are read no sooner than needed."""
        now = time.monotonic()
        waiting = sum(len(h.fresh) for h in self.queued.values() if self._moves(h, now))
        return (
            self.active + waiting < self.concurrency and self.num_waiting < MAX_WAITING
        )

    def next_change_s(self) -> float:
        """Return the seconds after which `take` or `has_room` may say otherwise."""
        now = time.monotonic()
        times = [self._ready_at(host, now) for host in self.queued.values()]
        later = [at - now for at in times if at > now]
        return min([*later, STALL_S]) if self.active < self.concurrency else STALL_S

    def is_left(self, host: Host) -> bool:
        """Say whether a host asked for more than we wait; its rows are left for now."""
        return host.waited_s > self.patience and host.free_at > time.monotonic()

    def _is_full(self, host: Host) -> bool:
        """Say whether a failing host has as many rows between two tries as may be."""
        return host.active + len(host.asleep) >= self.concurrency

    def _moves(self, host: Host, now: float) -> bool:
        stalled = now - host.moved_at > STALL_S
        return not (stalled or host.free_at > now or self._is_full(host))

    def _ready_at(self, host: Host, now: float) -> float:
        if self.is_left(host):
            return now
        # Half of all requests are kept for hosts that answer.
        scarce = self.active >= self.concurrency // 2
        most = FIRST + host.num_answers if scarce else self.per_host
        if host.active >= min(most, self.per_host):
            return float("inf")
        if host.fresh and not self._is_full(host):
            return host.free_at
        return max(host.asleep[0][0], host.free_at) if host.asleep else float("inf")
