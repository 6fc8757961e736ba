"""The frame of the hardening runs: cases, faults, and the process that tries them.

A kind is a module with `HOW` (a sentence for the page), `cases()` and perhaps
`attack(rng, num)`, which tries `num` random inputs; `RANDOM` of them make a whole run.
An outcome that was refused with a reason is a `Refused`; what is right stands in the
case and never comes from the code that is tried.
"""

import itertools
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from commoncanvas.core.errors import CommonCanvasError

LIMIT_S = 10.0  # of one item; more is a hang
LEFT_S = 3.0  # after which no process of a run may be left
MAX_BYTES = 4 << 30  # of memory, of a run and all its processes
BATCH = 100  # random inputs in one case; a module may have a `BATCH` of its own
EACH_S = 0.02  # allowed for each of them beside the limit of one item
FAULTS = """wrong outcome, lost row, half-read file, differing bytes, traceback, hang,
crash, memory, process left""".replace("\n", " ").split(", ")
FORK = get_context("fork")  # children see what a test has patched


class Fault(Exception):
    """What was found in place of the right outcome: one of `FAULTS`, and details."""

    def __init__(self, what: str, detail: object) -> None:
        assert what in FAULTS, what
        super().__init__(what, " ".join(str(detail).split())[:300])


class Refused(str):
    """The reason for which an input was refused."""


@dataclass(frozen=True)
class Case:
    """One thing to try: `act` returns an outcome, `expect` is it or accepts it.

    What takes long to make is made before the clock runs, and handed to `act`.
    """

    kind: str
    name: str  # "family: what of it"
    act: Callable[..., Any]
    expect: Any
    num: int = 0  # random inputs in it
    limit_s: float = LIMIT_S
    make: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Result:
    """How a case ended; `fault` is (what, detail) or None."""

    kind: str
    name: str
    num: int
    seconds: float
    fault: tuple[str, str] | None


def refused(found: Any) -> bool:
    """Accept a refusal that says why, in one line."""
    return isinstance(found, Refused) and bool(found.strip()) and "\n" not in found


def kept(found: Any) -> bool:
    """Accept whatever was not refused."""
    return not isinstance(found, Refused)


def handled(found: Any) -> bool:
    """Accept an outcome of either sort: it came in time, in one line or whole."""
    return kept(found) or refused(found)


def expect_equal(what: str, found: Any, expected: Any) -> None:
    """Raise a fault where two values differ."""
    if found != expected:
        raise Fault(what, f"found {found!r:.120}, expected {expected!r:.120}")


def try_case(case: Case, *made: Any) -> tuple[str, str] | None:
    """Try one case here; return (what, detail) of its fault, or None."""
    try:
        try:
            found = case.act(*made)
        except CommonCanvasError as error:
            found = Refused(" ".join(str(error).split()))
        right = case.expect
        if not (right(found) if callable(right) else _same(found, right)):
            name = getattr(right, "__name__", repr(right))
            raise Fault("wrong outcome", f"found {found!r:.160}, expected {name:.100}")
    except Fault as fault:
        return fault.args
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of Rust is no Exception
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        return Fault("traceback", f"{type(error).__name__}: {error} ({place})").args
    return None


def _same(found: Any, right: Any) -> bool:
    return type(found) is type(right) and bool(np.all(found == right))


def random_cases(kind: str, module: Any, num: int, seed: int) -> Iterator[Case]:
    """Yield cases of random inputs, each with a generator of its own."""

    def act(place: int, size: int) -> None:
        name = [seed, place, *kind.encode()]
        module.attack(np.random.default_rng(name), size)

    batch = getattr(module, "BATCH", BATCH)
    for place in range(-(-num // batch)):
        size = min(batch, num - place * batch)
        name = f"random: {seed} {place}"
        limit_s = LIMIT_S + EACH_S * size
        yield Case(kind, name, partial(act, place, size), None, size, limit_s)


def slowness() -> float:
    """Return by how much others that run here lengthen an item: 1 to 6.

    Its own limit is in time of the processor, and its pool waits six times as long.
    """
    return float(np.clip(os.getloadavg()[0] / (os.cpu_count() or 1), 1, 6))


def members(session: int) -> dict[int, int]:
    """Return the living processes of a session: {id: bytes of memory}."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found[int(stat.parent.name)] = int(fields[21]) * os.sysconf("SC_PAGESIZE")
    return found


def left_after(find: Callable[[], Any], seconds: float = LEFT_S) -> list[str]:
    """Wait for processes to end; kill those that did not, and return their names."""
    end = time.monotonic() + seconds
    while (found := list(find())) and time.monotonic() < end:
        time.sleep(0.1)
    names = []
    for pid in found:
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0]
            os.kill(pid, signal.SIGKILL)
        except (ProcessLookupError, FileNotFoundError):
            continue
        names.append(words.decode(errors="replace"))
    return sorted(names)


class Lane:
    """One kind's cases, tried in a process that is replaced after a hang or a crash.

    Args:
        make: yields the same cases at each call.
        log: takes what the process prints; a traceback there is a fault.
    """

    def __init__(
        self,
        kind: str,
        make: Callable[[], Iterator[Case]],
        log: Path,
        limit_s: float | None = None,
    ) -> None:
        self.kind, self.make, self.log, self.limit_s = kind, make, log, limit_s
        self.num_done, self.is_done = 0, False
        self.ended_at = -1  # the cases done when it last ended between cases
        self._start()

    def _start(self) -> None:
        self.pipe, theirs = FORK.Pipe(duplex=False)
        told = self.make, self.num_done, self.log, theirs
        self.process = FORK.Process(target=_work, args=told)
        self.process.start()
        theirs.close()
        self.case: tuple[str, int, float] | None = None
        self.since = time.monotonic()

    def look(self, wait_s: float = 0.1) -> Iterator[Result]:
        """Yield what has ended since the last look, and end what takes too long."""
        while not self.is_done and self.pipe.poll(wait_s):
            try:
                message = self.pipe.recv()
            except EOFError:
                code = self.process.join() or self.process.exitcode
                detail = f"the process ended with {code}: {self._last_line()}"
                yield self._replace("crash", detail)
                return
            if message == "all":
                yield from self.close()
            elif self.case is None:
                self.case, self.since = message, time.monotonic()
            else:
                yield self._result(message)
        if self.is_done or self.case is None:
            return
        limit_s = self.limit_s or self.case[2] * slowness()
        used = time.monotonic() - self.since
        size = sum(members(self.process.pid).values())
        if used > limit_s:
            yield self._replace("hang", f"no end after {limit_s:g} s")
        elif size > MAX_BYTES:
            yield self._replace("memory", f"{size / 2**30:.1f} GiB")

    def _result(self, fault: tuple[str, str] | None) -> Result:
        assert self.case
        name, num, _ = self.case
        self.case, self.num_done = None, self.num_done + 1
        return Result(self.kind, name, num, time.monotonic() - self.since, fault)

    def _replace(self, what: str, detail: str) -> Result:
        left_after(lambda: members(self.process.pid), 0)
        self.process.join()
        if self.case is None:  # in making a case, which no restart can skip
            self.is_done = self.ended_at == self.num_done
            self.ended_at = self.num_done
            return Result(self.kind, "between cases", 0, 0.0, Fault(what, detail).args)
        result = self._result(Fault(what, detail).args)
        self._start()
        return result

    def _last_line(self) -> str:
        """Return what the process printed last."""
        text = self.log.read_bytes() if self.log.exists() else b""
        lines = text.decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")

    def close(self) -> Iterator[Result]:
        """End the lane; yield a fault where a process outlives it."""
        self.is_done = True
        left = left_after(lambda: members(self.process.pid))
        self.process.join()
        if left:
            fault = Fault("process left", f"{len(left)} after {LEFT_S:g} s").args
            yield Result(self.kind, "the end: processes", 0, 0.0, fault)


def _work(make: Callable[[], Iterator[Case]], start: int, log: Path, pipe: Any) -> None:
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    for case in itertools.islice(make(), start, None):
        made = [case.make()] if case.make else []
        pipe.send((case.name, case.num, case.limit_s))
        place = os.lseek(file, 0, os.SEEK_END)
        fault = try_case(case, *made)
        if os.lseek(file, 0, os.SEEK_END) > place and fault is None:
            with open(log, "rb") as printed:
                printed.seek(place)
                if b"Traceback (most recent" in printed.read():
                    fault = Fault("traceback", "printed").args
        pipe.send(fault)
    pipe.send("all")
