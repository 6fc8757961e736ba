"""The environment's proxies are used, or named in one line."""

import asyncio
import contextlib
import threading

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from doors import call
from servers import JPEG

from commoncanvas.catalog.downloads import failures, fetch_pictures
from commoncanvas.core import proxies
from commoncanvas.core.errors import ParameterError

ROW = {"key": "1", "downloadurl": "http://pictures.invalid/a.jpg"}
QUICK = {"timeout": 10, "retries": 0}
# It says that it closes, or the next request might still take this connection.
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
ANSWER = HEAD % len(JPEG) + JPEG


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in "HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY".split():
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@contextlib.contextmanager
def proxy():
    """A proxy over HTTP or SOCKS5 that answers every request itself."""
    loop, started, asked = asyncio.new_event_loop(), threading.Event(), []

    async def meet(reader, writer):
        first = await reader.readexactly(1)
        if first == b"\x05":  # SOCKS5: methods, then the address; granted
            await reader.readexactly((await reader.readexactly(1))[0])
            writer.write(b"\x05\x00")
            asked.append((await reader.readexactly(4))[3])
            await reader.readexactly((await reader.readexactly(1))[0] + 2)
            writer.write(b"\x05\x00\x00\x01" + bytes(6))
        asked.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(ANSWER)
        await writer.drain()
        writer.close()

    async def serve():
        listener = await asyncio.start_server(meet, "127.0.0.1")
        started.port = listener.sockets[0].getsockname()[1]
        started.set()

    asyncio.run_coroutine_threadsafe(serve(), loop)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    started.wait()
    yield started.port, asked
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h", ""])
@pytest.mark.parametrize("variable", ["ALL_PROXY", "http_proxy"])
def test_a_proxy_of_the_environment_is_used(tmp_path, monkeypatch, scheme, variable):
    with proxy() as (port, asked):
        start = f"{scheme}://" if scheme else ""
        monkeypatch.setenv(variable, f"{start}127.0.0.1:{port}")
        monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1,[::1],fd07:b51a:cc66::/64")
        counts = fetch_pictures([ROW], tmp_path, **QUICK)
    assert counts["ok"] == 1 and "pictures.invalid" in asked[-1]


@pytest.mark.parametrize(
    ("entries", "url", "direct"),
    [
        ("localhost,127.0.0.1,[::1]", "http://[::1]:8080/a", True),
        ("::1", "http://[::1]/a", True),
        ("fd07:b51a:cc66::/64", "http://[fd07:b51a:cc66::5]/a", True),
        ("[fd07:b51a:cc66::]/64", "http://[fd07:b51a:cc66::5]/a", True),
        ("fd07:b51a:cc66::/64", "http://[fd08::5]/a", False),
        ("10.0.0.0/8", "http://10.2.3.4/a", True),
        ("10.0.0.1/8", "http://11.2.3.4/a", False),
        ("10.0.0.0/8", "http://example.org/a", False),
        ("example.org", "https://example.org/a", True),
        ("example.org", "https://www.Example.org/a", True),
        (".example.org", "https://www.example.org/a", True),
        ("*.example.org", "https://www.example.org/a", True),
        ("example.org", "https://badexample.org/a", False),
        ("example.org:8080", "http://example.org:8080/a", True),
        ("example.org:8080", "http://example.org/a", False),
        ("example.org:443", "https://example.org/a", True),
        ("[::1]:8080", "http://[::1]:8080/a", True),
        ("http://example.org", "http://example.org/a", True),
        (" example.com , example.org", "http://example.org/a", True),
        ("*", "http://example.org/a", True),
        ("", "http://example.org/a", False),
        (",,:,[,]:99999,::::,%$", "http://example.org/a", False),
    ],
)
def test_exceptions_are_read_as_everyone_writes_them(monkeypatch, entries, url, direct):
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", entries)
    routes, url = proxies.Routes(), httpx.URL(url)
    proxied = routes.proxies and not any(
        proxies._is_excepted(url, *e) for e in routes.exceptions
    )
    assert bool(proxied) != direct


@pytest.mark.parametrize(
    "address",
    [
        "ftp://127.0.0.1:1",
        "http://",
        "http://127.0.0.1:99999",
        "http://[::1",
        "socks4://a:1",
    ]
    + ["http://user:secret@127.0.0.1:port", "http://a..b:1", "http://127.0.0.1:0"],
)
@pytest.mark.parametrize("variable", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"])
def test_a_proxy_that_is_none_is_named_in_one_line(
    tmp_path, monkeypatch, address, variable
):
    monkeypatch.setenv(variable, address)
    table = pa.table({name: [ROW[name]] for name in ROW})
    pq.write_table(table, tmp_path / "c.parquet")
    line = call("download", tmp_path / "c.parquet", tmp_path / "out", fails=True)
    assert line.startswith(f"downloads stopped: {variable}") and "expected" in line
    assert "secret" not in line


def test_certificates_that_are_missing_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(ParameterError, match="SSL_CERT_FILE"):
        fetch_pictures([ROW], tmp_path)


def test_a_proxy_that_is_not_there_is_named_in_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert fetch_pictures([ROW], tmp_path, **QUICK)["failed"] == 1
    assert "through ALL_PROXY" in failures(tmp_path)["reason"][0]
