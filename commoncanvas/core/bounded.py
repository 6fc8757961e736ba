"""Work on strangers' pictures, bounded in time and memory, in processes of their own.

A picture may be made to take minutes, gigabytes or the whole process of what draws it.
Here it costs its own row, with the reason.
"""

import multiprocessing
import multiprocessing.context
import os
import resource
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

from pebble import ProcessExpired, ProcessPool

from commoncanvas.core.determinism import die_with_parent
from commoncanvas.core.errors import EngineError, PictureError

MAX_SECONDS = 8  # of the processor's time, a picture; by the clock, six times that
MAX_MEMORY = 2 * 2**30  # bytes beyond what an idle worker holds


class Bounded:
    """Processes that each work on one picture at a time; to be opened by `with`.

    Leaving the `with` ends them at once, whatever they are doing; so does the end of
    the process that started them.
    """

    def __init__(self, num_workers: int = 2, max_seconds: float = MAX_SECONDS) -> None:
        self.num_workers, self.max_seconds = num_workers, max_seconds

    def __enter__(self) -> Self:
        self.pool = ProcessPool(
            self.num_workers, initializer=_confine, context=_Context()
        )
        # Started here: Linux ends a child with the thread that started it.
        assert self.pool.active
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.pool.stop()
        self.pool.join()

    def submit(self, function: Callable[..., Any], *args: Any) -> "Future[Any]":
        """Return the future of function(*args), for `asyncio.wrap_future` too.

        Args:
            function: of a module that is imported quickly; what it takes and returns
                is pickled.

        Its result raises what the function raises, or a `PictureError` that says which
        bound was broken.
        """
        outer: Future[Any] = Future()

        def settle(inner: Future[Any]) -> None:
            if inner.cancelled() or not outer.set_running_or_notify_cancel():
                outer.cancel()
            elif (error := inner.exception()) is not None:
                outer.set_exception(self._reason(error))
            else:
                outer.set_result(inner.result())

        limit = (self.max_seconds, function, *args)
        inner = self.pool.schedule(_timed, limit, timeout=6 * self.max_seconds)
        inner.add_done_callback(settle)
        return outer

    def map(
        self, function: Callable[[Any], Any], items: Iterable[Any], chunk_size: int = 8
    ) -> Iterator[Any]:
        """Yield function(item), or the `PictureError` it ended in, in order.

        Items are sent by the chunk; each of one that breaks a bound is tried alone. Few
        chunks are ahead of what is yielded, so that memory stays flat.
        """
        source, ahead = iter(items), deque[tuple[list[Any], "Future[Any]"]]()
        short = self.max_seconds / 8  # so that a bad item costs little more than alone
        while True:
            while len(ahead) < 4 * self.num_workers:
                if not (chunk := list(islice(source, chunk_size))):
                    break
                seconds = short if len(chunk) > 1 else self.max_seconds
                ahead.append((chunk, self.submit(_each, seconds, function, chunk)))
            if not ahead:
                return
            chunk, future = ahead.popleft()
            try:
                yield from future.result()
            except PictureError as error:
                if len(chunk) == 1:
                    yield error
                    continue
                alone = [self.submit(function, item) for item in chunk]
                yield from map(_value, alone)

    def _reason(self, error: BaseException) -> BaseException:
        is_late = getattr(error, "exitcode", 0) == -signal.SIGPROF
        if is_late or isinstance(error, TimeoutError):
            return PictureError(f"takes longer than {self.max_seconds:g} s")
        if isinstance(error, ProcessExpired):
            name = signal.Signals(-error.exitcode).name if error.exitcode < 0 else ""
            return PictureError(f"ends its process ({name or error.exitcode})")
        if isinstance(error, BrokenProcessPool):
            return EngineError(
                f"processes that read pictures ended ({error}); expected them to live "
                "until one breaks a bound; free some memory and run this again."
            )
        if isinstance(error, MemoryError):
            return PictureError(f"needs more than {MAX_MEMORY // 10**9} GB")
        return error


def _value(future: "Future[Any]") -> Any:
    try:
        return future.result()
    except PictureError as error:
        return error


def _timed(max_seconds: float, function: Callable[..., Any], *args: Any) -> Any:
    """Return function(*args), or let the system end this process in its midst.

    What counts is the time of the processor, so that a picture is not refused because
    other programs are running.
    """
    signal.setitimer(signal.ITIMER_PROF, max_seconds)
    try:
        return function(*args)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _each(
    max_seconds: float, function: Callable[[Any], Any], items: Iterable[Any]
) -> list[Any]:
    """Return function(item), or its `PictureError`, of each; none may take long."""
    found: list[Any] = []
    for item in items:
        try:
            found.append(_timed(max_seconds, function, item))
        except PictureError as error:
            found.append(error)
    return found


def _confine() -> None:
    """Bound a worker before its first picture."""
    die_with_parent(signal.SIGKILL)
    # At once, not when the interpreter is next asked, which code in C may never do.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # What libraries say of broken pictures is said by the reason.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    import commoncanvas.core.pictures
    import commoncanvas.core.svg  # noqa: F401  what they map is no picture's

    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MAX_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, resource.RLIM_INFINITY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Worker(multiprocessing.context.SpawnProcess):
    """A process that does not run the caller's script again, guarded or not."""

    def start(self) -> None:
        main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
        # Ctrl-C is for who started it; a child inherits what is blocked.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            sys.modules["__main__"] = main


class _Context(multiprocessing.context.SpawnContext):
    Process = _Worker
