"""A local server with kinds of misbehaviour, each a function below.

`with Misbehaving() as server:` listens; `server.url("drips", "a.jpg")` is an address at
which it misbehaves in that kind, and `KINDS["drips"].settled` what may become of a row.
"""

import asyncio
import collections
import contextlib
import email.utils
import io
import re
import struct
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image

from commoncanvas.catalog.reservations import PATH


def encoded(kind, size=8, **options):
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), "teal").save(buffer, kind, **options)
    return buffer.getvalue()


def bomb():
    """A PNG of 120 bytes that says it has 400 million pixels."""

    def chunk(name, data):
        check = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + check

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    packed = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99)))
    return b"\x89PNG\r\n\x1a\n" + packed + chunk(b"IEND", b"")


def slow_to_decode(num_scans=400, size=4000):
    """A progressive JPEG whose last scan is repeated, each over every block."""
    data = encoded("JPEG", size, progressive=True)
    last = data[[m.start() for m in re.finditer(b"\xff\xda", data)][-1] : -2]
    return data[:-2] + last * num_scans + data[-2:]


JPEG, PNG, BOMB = encoded("JPEG"), encoded("PNG"), bomb()


@dataclass(frozen=True)
class Kind:
    """What a server does with a connection, and what may become of the row."""

    do: Callable
    settled: tuple[str, ...]
    scheme: str = "http"
    apart: bool = False  # under a port of its own
    raw: bool = False  # before a request is read


KINDS: dict[str, Kind] = {}


def kind(*settled, **more):
    def enter(function):
        KINDS[function.__name__] = Kind(function, settled, **more)
        return function

    return enter


@dataclass
class Connection:
    """One connection; `path` is what it asks for, `times` how often that was."""

    server: "Misbehaving"
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    path: str = ""
    port: int = 0
    times: int = 0
    host: str = field(default="127.0.0.1")

    async def send(self, data, pause_s=0.0):
        self.writer.write(data)
        await self.writer.drain()
        await asyncio.sleep(pause_s)

    async def answer(self, *lines, data=JPEG, code="200 OK", length=True, kind=True):
        head = [f"HTTP/1.1 {code}".encode()]
        head += [b"Content-Type: image/jpeg"] if kind else []
        head += [b"Content-Length: %d" % len(data)] if length else []
        head += [line if isinstance(line, bytes) else line.encode() for line in lines]
        await self.send(b"\r\n".join(head) + b"\r\n\r\n" + data)

    async def typed(self, text, data=JPEG):
        await self.answer(f"Content-Type: {text}", data=data, kind=False)

    async def to(self, location, code=302):
        line = b"Location: " + (
            location if isinstance(location, bytes) else location.encode()
        )
        await self.answer(line, data=b"", code=f"{code} Found", kind=False)

    def here(self, path):
        return f"http://{self.host}:{self.port}/{path}"

    def reset(self):
        linger = struct.pack("ii", 1, 0)  # closing then sends RST
        self.writer.get_extra_info("socket").setsockopt(1, 13, linger)
        self.writer.close()


class Misbehaving:
    """Listens on 127.0.0.1 while its `with` is open; one port, and some apart."""

    def __init__(self, kinds=KINDS):
        self.kinds = kinds
        self.asked, self.heads = collections.Counter(), []
        self.times = collections.defaultdict(list)  # of each path, monotonic [s]
        self.ports: dict[str, int] = {}

    def url(self, kind, name="a.jpg"):
        port = self.ports.get(kind, self.ports[""])
        scheme = self.kinds[kind].scheme if kind in self.kinds else "http"
        return f"{scheme}://127.0.0.1:{port}/{kind}/{name}"

    def num_asked(self, kind):
        asked = list(self.asked.items())  # at once: the server's thread adds to it
        return sum(n for path, n in asked if path.startswith(f"/{kind}/"))

    def __enter__(self):
        self.loop, started = asyncio.new_event_loop(), threading.Event()
        self.thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self.thread.start()
        assert started.wait(10)
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.closing.set)
        self.thread.join(10)

    def _run(self, started):
        async def serve():
            self.closing = asyncio.Event()
            apart = [n for n, k in self.kinds.items() if k.apart or k.raw]
            for name in ["", *apart]:
                listener = await asyncio.start_server(
                    lambda r, w, name=name: self._meet(name, r, w),
                    "127.0.0.1",
                    limit=2**20,
                    backlog=500,
                )
                self.ports[name] = listener.sockets[0].getsockname()[1]
            started.set()
            await self.closing.wait()

        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(lambda *_: None)  # clients hang up
        self.loop.run_until_complete(serve())
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        gathered = asyncio.gather(*tasks, return_exceptions=True)
        self.loop.run_until_complete(gathered)
        self.loop.close()

    async def _meet(self, name, reader, writer):
        connection = Connection(self, reader, writer)
        connection.port = writer.get_extra_info("sockname")[1]
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if name and self.kinds[name].raw:
                self._count(f"/{name}/")
                await self.kinds[name].do(connection)
            else:
                while not writer.is_closing():
                    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                    if f" {PATH} " in head:  # asked before any picture
                        await connection.answer(data=b"", code="404 No")
                        continue
                    self.heads.append(head)
                    connection.path = head.split(" ")[1]
                    connection.times = self._count(connection.path)
                    wanted = connection.path.split("/")[1]
                    await self.kinds[wanted].do(connection)
        writer.close()

    def _count(self, path):
        self.asked[path] += 1
        self.times[path].append(time.monotonic())
        return self.asked[path]


# Good pictures, some of them oddly described.


@kind("ok")
async def good(c):
    await c.answer()


@kind("ok")
async def good_chunked(c):
    data = b"%x\r\n" % len(JPEG) + JPEG + b"\r\n0\r\n\r\n"
    await c.answer("Transfer-Encoding: chunked", data=data, length=False)


@kind("ok")
async def good_until_closed(c):
    await c.answer(length=False)
    c.writer.close()


@kind("ok")
async def type_missing(c):
    await c.answer(kind=False)


@kind("ok")
async def type_empty(c):
    await c.typed("")


@kind("ok")
async def type_octet_stream(c):
    await c.typed("application/octet-stream")


@kind("ok")
async def type_binary(c):
    await c.typed("binary/octet-stream; charset=binary")


@kind("ok")
async def type_download(c):
    await c.typed("application/x-download")


@kind("ok")
async def type_force_download(c):
    await c.typed("Application/Force-Download")


@kind("ok")
async def type_anything(c):
    await c.typed("*/*")


@kind("ok")
async def type_jpg(c):
    await c.typed("image/jpg, image/jpg")


@kind("ok")
async def type_without_slash(c):
    await c.typed("jpeg")


@kind("ok")
async def good_with_refresh(c):
    await c.answer("Refresh: 0; url=javascript:alert(1)")


@kind("ok")
async def good_with_cookies(c):
    await c.answer(*[f"Set-Cookie: id{n}=1; Path=/; Max-Age=9999" for n in range(50)])


@kind("ok")
async def good_with_retry_after(c):
    await c.answer("Retry-After: 3600")


# Other things under a picture's address.


@kind("refused")
async def type_html(c):
    await c.typed("text/html; charset=utf-8", b"<html>sorry</html>")


@kind("refused")
async def type_text(c):
    await c.typed("text/plain")


@kind("refused")
async def type_json(c):
    await c.typed("application/json", b"{}")


@kind("refused")
async def type_video(c):
    await c.typed("video/mp4", bytes(99))


@kind("refused")
async def html_as_octets(c):
    await c.typed("application/octet-stream", b"<html>sorry</html>")


@kind("refused")
async def html_as_jpeg(c):
    await c.typed("image/jpeg", b"<html>sorry</html>")


@kind("refused")
async def nothing(c):
    await c.answer(data=b"")


@kind("refused")
async def cut_picture(c):
    await c.answer(data=JPEG[: len(JPEG) // 2])


@kind("refused")
async def bomb_of_pixels(c):
    await c.answer(data=BOMB)


@kind("refused")
async def packed_unasked(c):
    await c.answer("Content-Encoding: gzip", data=zlib.compress(JPEG, wbits=31))


@kind("refused")
async def robots_noai(c):
    await c.answer("X-Robots-Tag: otherbot: nofollow", "X-Robots-Tag: noai")


@kind("ok")
async def robots_nonsense(c):
    await c.answer("X-Robots-Tag: :::,,,: ;;; \xe9: *")


# Statuses.


@kind("gone")
async def status_404(c):
    await c.answer(data=b"no", code="404 No")


@kind("refused")
async def status_403(c):
    await c.answer(data=b"no", code="403 No")


@kind("refused")
async def status_304(c):
    await c.answer(data=b"", code="304 Same", length=False)


@kind("refused")
async def status_206(c):
    await c.answer("Content-Range: bytes 9-5/-3", code="206 Part")


@kind("failed")
async def status_503(c):
    await c.answer(data=b"no", code="503 No")


@kind("failed")
async def status_999(c):
    await c.answer(data=b"no", code="999 No")


@kind("failed")
async def status_000(c):
    await c.answer(code="000 What")


@kind("failed")
async def status_word(c):
    await c.answer(code="OK 200")


@kind("failed")
async def no_headers_at_all(c):  # as HTTP/0.9 has it
    await c.send(JPEG)
    c.writer.close()


@kind("refused", "failed")
async def version_9(c):
    await c.send(b"HTTP/9.9 200 OK\r\nContent-Length: 0\r\n\r\n")
    c.writer.close()


@kind("failed")
async def switches_protocols(c):
    await c.send(b"HTTP/1.1 101 Switch\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
    c.writer.close()


@kind("failed")
async def continues_for_ever(c):
    while True:
        await c.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 50, 0.001)


# Redirects.


@kind("ok")
async def moved(c):
    await c.to(c.here("good/" + c.path.rpartition("/")[2]))


@kind("ok")
async def moved_relatively(c):
    await c.to("../good/b.jpg#part", code=308)


@kind("ok")
async def moved_without_scheme(c):
    await c.to(f"//127.0.0.1:{c.port}/good/c.jpg", code=303)


@kind("ok")
async def moved_with_credentials(c):
    await c.to(f"http://user:secret@127.0.0.1:{c.port}/good/d.jpg")


@kind("ok")
async def moved_with_cookies(c):
    line = f"Location: {c.here('good/e.jpg')}"
    await c.answer(line, "Set-Cookie: id=1; Path=/", data=b"", code="307 Found")


@kind("refused")
async def moved_in_circles(c):
    await c.to(c.path)


@kind("refused")
async def moved_nowhere(c):
    await c.to("")


@kind("refused")
async def moved_without_location(c):
    await c.answer(data=b"", code="302 Found")


@kind("refused")
async def moved_to_script(c):
    await c.to("javascript:alert(1)")


@kind("refused")
async def moved_to_data(c):
    await c.to("data:image/png;base64,iVBORw0KGgo=")


@kind("refused")
async def moved_to_mail(c):
    await c.to("mailto:someone@example.org")


@kind("refused")
async def moved_to_ftp(c):
    await c.to("ftp://127.0.0.1/a.jpg")


@kind("refused")
async def moved_to_file(c):
    await c.to("file:///etc/hostname")


@kind("refused")
async def moved_to_blob(c):
    await c.to("blob:http://127.0.0.1/550e8400")


@kind("refused", "failed")
async def moved_to_control_signs(c):
    await c.to(b"http://127.0.0.1/\x01\x7f\x1b[31m")


@kind("refused", "gone")
async def moved_to_raw_bytes(c):
    await c.to(b"http://127.0.0.1\xff\xfe/\xe9.jpg")


@kind("refused")
async def moved_to_no_port(c):
    await c.to("http://127.0.0.1:99999/a.jpg")


@kind("refused")
async def moved_to_port_0(c):
    await c.to("http://127.0.0.1:0/a.jpg")


@kind("refused")
async def moved_to_word_as_port(c):
    await c.to("http://127.0.0.1:http/a.jpg")


@kind("refused")
async def moved_to_no_name(c):
    await c.to(f"http://xn--{'a' * 70}..org/a.jpg")


@kind("refused")
async def moved_to_half_an_ipv6(c):
    await c.to("http://[::1/a.jpg")


@kind("refused")
async def moved_to_private_network(c):
    await c.to("http://169.254.169.254/latest/meta-data/")


@kind("refused")
async def moved_far(c):
    await c.to("http://127.0.0.1/" + "a" * 70_000)


@kind("refused")
async def moved_to_stranger(c):
    await c.to("http://live.staticflickr.com@example.org/a.jpg")


# Lengths and chunks.


@kind("failed")
async def length_negative(c):
    await c.answer("Content-Length: -5", length=False)


@kind("failed")
async def length_word(c):
    await c.answer("Content-Length: many", length=False)


@kind("failed")
async def length_other_digits(c):
    await c.answer("Content-Length: ٣٤٥", length=False)


@kind("failed", "refused")
async def length_of_5000_digits(c):
    await c.answer("Content-Length: " + "9" * 5000, length=False)


@kind("failed")
async def length_twice(c):
    await c.answer("Content-Length: 5", "Content-Length: 7", length=False)


@kind("refused")
async def length_too_large(c):
    await c.answer(f"Content-Length: {10**9}", length=False)


@kind("failed")
async def length_longer(c):
    await c.answer(f"Content-Length: {len(JPEG) + 99}", length=False)
    c.writer.close()


@kind("refused")
async def length_shorter(c):
    await c.answer("Content-Length: 5", length=False)
    c.writer.close()


@kind("failed")
async def chunks_of_nonsense(c):
    await c.answer("Transfer-Encoding: chunked", data=b"zz\r\n" * 99, length=False)
    c.writer.close()


@kind("failed")
async def chunks_of_less_than_nothing(c):
    await c.answer("Transfer-Encoding: chunked", data=b"-5\r\nabc\r\n", length=False)
    c.writer.close()


@kind("failed", "refused")
async def chunk_of_all_memory(c):
    data = b"f" * 15 + b"\r\n" + JPEG
    await c.answer("Transfer-Encoding: chunked", data=data, length=False)
    c.writer.close()


@kind("refused", "failed")
async def never_ends(c):
    await c.answer(data=b"", length=False)
    while True:
        await c.send(bytes(50_000))


# Headers.


@kind("failed")
async def headers_never_end(c):
    await c.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await c.send(b"X-Header: nothing\r\n" * 500)


@kind("failed")
async def headers_drip(c):
    await c.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await c.send(b"X: 1\r\n", 0.1)


@kind("failed")
async def header_of_a_megabyte(c):
    await c.answer("X-Header: " + "a" * 10**6)


@kind("failed", "ok")
async def headers_by_the_thousand(c):
    await c.answer(*[f"X-Header-{n}: 1" for n in range(5000)])


@kind("failed")
async def header_without_colon(c):
    await c.answer("this is no header")


@kind("failed")
async def header_with_nul(c):
    await c.answer("X-Header: \0")


@kind("ok", "failed")
async def header_folded(c):
    await c.answer("X-Header: one\r\n two")


# Connections.


@kind("failed")
async def drips(c):
    await c.answer(f"Content-Length: {len(JPEG)}", data=b"", length=False)
    for byte in JPEG:
        await c.send(bytes([byte]), 0.1)


@kind("failed")
async def silent(c):
    await asyncio.sleep(60)


@kind("failed")
async def hangs_up(c):
    c.writer.close()


@kind("failed")
async def half_closed(c):
    c.writer.write_eof()
    await asyncio.sleep(60)


@kind("failed")
async def reset_at_once(c):
    c.reset()


@kind("failed")
async def reset_in_headers(c):
    await c.send(b"HTTP/1.1 200 OK\r\nContent-Ty", 0.02)
    c.reset()


@kind("failed")
async def reset_in_body(c):
    line = f"Content-Length: {len(JPEG)}"
    await c.answer(line, data=JPEG[:99], length=False)
    await asyncio.sleep(0.02)
    c.reset()


@kind("ok")
async def answers_twice(c):
    await c.answer()
    await c.answer(data=b"second", code="500 No")
    c.writer.close()


@kind("failed", raw=True)
async def reset_unread(c):
    c.reset()


@kind("failed", raw=True, scheme="https")
async def tls_of_plain_text(c):
    await c.answer(data=b"no", code="400 No")


@kind("failed", raw=True, scheme="https")
async def tls_silent(c):
    await asyncio.sleep(60)


@kind("failed", raw=True, scheme="https")
async def tls_alert(c):
    await c.reader.read(100)
    await c.send(b"\x15\x03\x03\x00\x02\x02\x28")
    c.writer.close()


@kind("failed", raw=True, scheme="https")
async def tls_of_zeros(c):
    await c.reader.read(100)
    await c.send(bytes(5000))


# Hosts that ask to wait, each apart: the whole host is left alone.


@kind("failed", "ok", apart=True)
async def wait_once(c):
    if c.times > 1:
        await c.answer()
    else:
        await c.answer("Retry-After: 1", data=b"", code="429 Wait")


@kind("failed", apart=True)
async def wait_an_hour(c):
    await c.answer("Retry-After: 3600", data=b"", code="429 Wait")


@kind("failed", apart=True)
async def wait_for_ever(c):
    await c.answer("Retry-After: " + "9" * 5000, data=b"", code="503 Wait")


@kind("failed", apart=True)
async def wait_until_a_date(c):
    when = email.utils.formatdate(time.time() + 9999, usegmt=True)
    await c.answer(f"Retry-After: {when}", data=b"", code="429 Wait")


@kind("failed", apart=True)
async def wait_less_than_nothing(c):
    await c.answer("Retry-After: -9", data=b"", code="429 Wait")


@kind("failed", apart=True)
async def wait_for_nonsense(c):
    line = "Retry-After: ٣٦٠٠, 99:99:99 GMT"
    await c.answer(line, data=b"", code="429 Wait")


@kind("gone", "failed", apart=True)
async def wait_and_gone(c):
    await c.answer("Retry-After: 3600", data=b"", code="410 Gone")
