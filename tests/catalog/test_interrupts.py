"""Ctrl-C ends a download in two seconds, wherever it stands, and leaves no process."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from servers import KINDS, Kind, Misbehaving, slow_to_decode

from commoncanvas.core import paths

SLOW = slow_to_decode()


async def slow(c):
    await c.answer(data=SLOW)


def group_of(leader):
    """Return the processes of a group that are no zombies."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == leader and fields[0] != "Z":
            found.append(stat.parent.name)
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["slow", "drips"])
def test_a_signal_ends_a_download_in_two_seconds(tmp_path, kind, number):
    kinds = KINDS | {"slow": Kind(slow, ("refused",))}
    with Misbehaving(kinds) as server:
        urls = [server.url("good", "1.jpg"), server.url("good", "2.jpg")]
        urls += [server.url(kind, f"{number}.jpg") for number in range(9)]
        table = pa.table({"key": urls, "downloadurl": urls})
        pq.write_table(table, tmp_path / "c.parquet")
        command = [sys.executable, "-m", "commoncanvas", "download"]
        command += [tmp_path / "c.parquet", tmp_path / "out", "--patience", "9999"]
        with subprocess.Popen(
            command,
            cwd=paths.ROOT,
            env={**os.environ, "NO_PROXY": "*"},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            # A shell starts what runs behind it with Ctrl-C ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        ) as run:
            limit = time.monotonic() + 60
            while not server.num_asked(kind) and time.monotonic() < limit:
                time.sleep(0.05)
            time.sleep(2)  # until the decoders are at work
            start = time.monotonic()
            os.killpg(run.pid, number)  # as a terminal does
            _, printed = run.communicate(timeout=30)
            assert time.monotonic() - start < 2
        assert run.returncode == 130
        assert "Traceback" not in printed
        line = "interrupted; run the same command again to go on."
        assert printed.endswith("\n") and printed.splitlines()[-1] == line
        while group_of(run.pid) and time.monotonic() - start < 3:
            time.sleep(0.05)
        assert group_of(run.pid) == []


LOST = """
import socket, time
socket.getaddrinfo = lambda *of, **more: time.sleep(15)
from commoncanvas.__main__ import main
main()
"""


@pytest.mark.slow
def test_a_name_that_is_being_looked_up_does_not_hold_up_the_end(tmp_path):
    table = pa.table({"key": ["a"], "downloadurl": ["http://example.org/a.jpg"]})
    pq.write_table(table, tmp_path / "c.parquet")
    command = [sys.executable, "-c", LOST, "download"]
    command += [tmp_path / "c.parquet", tmp_path / "out"]
    with subprocess.Popen(
        command,
        cwd=paths.ROOT,
        env={**os.environ, "NO_PROXY": "*"},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as run:
        assert "pictures" in run.stderr.read(10)
        time.sleep(1)
        start = time.monotonic()
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=30)
        assert time.monotonic() - start < 2 and run.returncode == 130


@pytest.mark.slow
@pytest.mark.parametrize("num_read", [0, 30])
def test_a_download_goes_on_when_nobody_reads_its_progress(tmp_path, num_read):
    async def later(c):
        await asyncio.sleep(0.05)
        await c.answer()

    with Misbehaving({"later": Kind(later, ("ok",))}) as server:
        urls = [server.url("later", f"{number}.jpg") for number in range(100)]
        table = pa.table({"key": urls, "downloadurl": urls})
        pq.write_table(table, tmp_path / "c.parquet")
        command = [sys.executable, "-m", "commoncanvas", "download"]
        command += [tmp_path / "c.parquet", tmp_path / "out", "--concurrency", "2"]
        with subprocess.Popen(
            command,
            cwd=paths.ROOT,
            env={**os.environ, "NO_PROXY": "*"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        ) as run:
            run.stderr.read(num_read)
            run.stderr.close()
            try:
                counts = run.stdout.read()
                assert run.wait(30) == 0 and counts.startswith(b"100 rows, 100 ok")
            finally:
                run.kill()
