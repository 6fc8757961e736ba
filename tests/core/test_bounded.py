"""What one picture does to its process costs that picture alone, and leaves nothing."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from commoncanvas.core import paths
from commoncanvas.core.bounded import Bounded
from commoncanvas.core.errors import PictureError

ENDLESS = ("(a+)+b", "a" * 60)  # holds the interpreter in C for years


@pytest.fixture(scope="module")
def pool():
    with Bounded(1, max_seconds=0.5) as opened:
        yield opened


@pytest.mark.parametrize(
    ("function", "arguments", "reason"),
    [
        (re.match, ENDLESS, r"takes longer than 0\.5 s"),
        (bytes, (3 * 2**30,), "needs more than 2 GB"),
        (signal.raise_signal, (signal.SIGSEGV,), "ends its process .SIGSEGV"),
        (os.abort, (), "ends its process .SIGABRT"),
        (os._exit, (3,), "ends its process .3"),
    ],
)
def test_what_breaks_a_bound_has_a_reason_and_the_next_is_done(
    pool, function, arguments, reason
):
    with pytest.raises(PictureError, match=reason):
        pool.submit(function, *arguments).result()
    assert pool.submit(abs, -1).result() == 1


@pytest.mark.slow
def test_what_only_waits_ends_by_the_clock(pool):
    with pytest.raises(PictureError, match="takes longer"):
        pool.submit(time.sleep, 60).result()


def test_an_error_that_is_none_of_a_picture_comes_through(pool):
    with pytest.raises(ZeroDivisionError):
        pool.submit(divmod, 1, 0).result()


def test_one_bad_item_costs_one_item_and_the_order_stays(pool):
    harmless, deadly = int(signal.SIGCHLD), int(signal.SIGABRT)
    items = [deadly if n % 10 == 7 else harmless for n in range(30)]
    found = [str(x) for x in pool.map(signal.raise_signal, items)]
    crash = "ends its process (SIGABRT)"
    assert found == [crash if item == deadly else "None" for item in items]


def test_a_chunk_of_one_that_fails_is_not_tried_again(pool, monkeypatch):
    tries, submit = [], pool.submit
    monkeypatch.setattr(pool, "submit", lambda *a: tries.append(a) or submit(*a))
    found = list(pool.map(signal.raise_signal, [int(signal.SIGABRT)]))
    assert str(found[0]) == "ends its process (SIGABRT)" and len(tries) == 1


def test_a_stream_is_not_read_far_ahead(pool):
    read = []
    source = (read.append(n) or n for n in range(10_000))
    next(pool.map(abs, source))
    assert len(read) < 100


SCRIPT = """
import os, re
from commoncanvas.core.bounded import Bounded
with Bounded(1) as pool:
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(re.match, "(a+)+b", "a" * 60).result()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux ends children with parents")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_a_script_which_needs_no_guard(tmp_path, number):
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [sys.executable, tmp_path / "script.py"]
    parent = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(paths.ROOT)},
    )
    worker = int(parent.stdout.readline())
    time.sleep(0.2)
    parent.send_signal(number)
    parent.communicate(timeout=20)
    assert parent.returncode in (-number, 1)
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline and is_running(worker):
        time.sleep(0.05)
    assert not is_running(worker)


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
