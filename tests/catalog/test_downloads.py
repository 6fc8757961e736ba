"""Pictures are fetched within bounds, once, whole, and never against a stated wish."""

import asyncio
import collections
import contextlib
import email.utils
import hashlib
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest import mock

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from doors import call
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers import bomb, encoded

from commoncanvas.__main__ import door
from commoncanvas.catalog import answers, downloads
from commoncanvas.catalog.answers import opts_out, retry_after_s
from commoncanvas.catalog.downloads import (
    failures,
    fetch_pictures,
    picture_hash,
    picture_path,
    verify,
)
from commoncanvas.catalog.reservations import PATH
from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError, ParameterError
from commoncanvas.core.files import LEFTOVER

QUICK = {"timeout": 0.4, "backoff": 0.01, "max_bytes": 5000, "concurrency": 8}


JPEG, PNG, BOMB = encoded("JPEG"), encoded("PNG"), bomb()


class Handler(BaseHTTPRequestHandler):
    """Behave as the first part of the path says, /BEHAVIOUR/ANYTHING."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        if self.path == PATH:  # before any picture of a host
            server.looks += 1
            code = 200 if server.reservations else 404
            return self.answer(server.reservations, code=code)
        host = self.headers["Host"].partition(":")[0]
        with server.lock:
            server.asked[self.path] += 1
            server.headers.append(self.headers)
            server.times.append((time.monotonic(), self.path))
            for name in (host, "all"):
                server.now[name] += 1
                server.most[name] = max(server.most[name], server.now[name])
        self.closing.wait(server.pause_s)
        with server.lock:  # before the answer, else the client may be quicker
            for name in (host, "all"):
                server.now[name] -= 1
        with contextlib.suppress(ConnectionError):
            getattr(self, self.path.split("/")[1])()

    @property
    def closing(self):
        return self.server.closing

    def log_message(self, *_):
        pass

    def times_asked(self):
        return self.server.asked[self.path]

    def answer(self, data=JPEG, code=200, length=None, **headers):
        self.send_response(code)
        headers = {"Content_Type": "image/jpeg", **headers}
        if length != "none":
            headers["Content_Length"] = len(data) if length is None else length
        for name, value in headers.items():
            for line in value if isinstance(value, list) else [value]:
                self.send_header(name.replace("_", "-"), str(line))
        self.close_connection = length is not None
        self.end_headers()
        self.wfile.write(data)

    def good(self):
        self.answer()

    def png(self):
        self.answer(PNG, Content_Type="image/png; charset=binary")

    def drip(self):
        self.answer(b"", length=len(JPEG))
        for byte in JPEG:
            self.wfile.write(bytes([byte]))
            if self.closing.wait(0.1):
                break

    def drip_headers(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        for number in range(100):
            self.wfile.write(b"X-%d: x\r\n" % number)
            if self.closing.wait(0.1):
                break
        self.close_connection = True

    def silent(self):
        self.closing.wait(3)
        self.close_connection = True

    def hangs_up(self):
        self.close_connection = True

    def half(self):
        self.answer(JPEG[: len(JPEG) // 2], length=len(JPEG))

    def half_once(self):
        self.half() if self.times_asked() == 1 else self.good()

    def cut(self):
        self.answer(JPEG[: len(JPEG) // 2])

    def text(self):
        self.answer(b"hello", Content_Type="text/plain")

    def html(self):
        self.answer(b"<html>sorry</html>", Content_Type="text/html")

    def html_as_jpeg(self):
        self.answer(b"<html>sorry</html>")

    def empty(self):
        self.answer(b"")

    def large(self):
        self.answer(b"", length=10**9)

    def endless(self):
        self.answer(b"", length="none")
        for _ in range(1000):
            self.wfile.write(bytes(50_000))
            self.server.sent += 50_000

    def bomb(self):
        self.answer(BOMB, Content_Type="image/png")

    def code(self):
        self.answer(b"no", code=int(self.path.split("/")[2]))

    def code_noindex(self):
        self.answer(b"no", code=int(self.path.split("/")[2]), X_Robots_Tag="noindex")

    def busy_twice(self):
        self.answer() if self.times_asked() > 2 else self.answer(b"", code=503)

    def later(self):
        first = self.times_asked() == 1
        self.answer(b"", 429, Retry_After=1) if first else self.answer()

    def later_dated(self):
        when = email.utils.formatdate(time.time() + 2, usegmt=True)
        first = self.times_asked() == 1
        self.answer(b"", 429, Retry_After=when) if first else self.answer()

    def to(self, address):
        self.answer(b"", 302, Location=address)

    def moved(self):
        self.to(f"http://localhost:{self.server.server_port}/good/moved.jpg")

    def elsewhere(self):
        self.to(f"http://127.0.0.2:{self.server.server_port}/good/elsewhere.jpg")

    def loop(self):
        self.to(self.path)

    def nowhere(self):
        self.to("ftp://localhost/good.jpg")

    def unavailable(self):
        self.to("https://elsewhere.invalid/images/photo_unavailable.png")

    def tagged(self):
        lines = json.loads(bytes.fromhex(self.path.split("/")[2]))
        self.answer(X_Robots_Tag=lines)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock, self.closing = threading.Lock(), threading.Event()
        self.asked, self.now, self.most = (collections.Counter() for _ in range(3))
        self.headers, self.times, self.pause_s, self.sent = [], [], 0, 0
        self.reservations, self.looks = b"", 0

    def url(self, path, host="127.0.0.1"):
        return f"http://{host}:{self.server_port}/{path}"

    def handle_error(self, request, client_address):
        pass  # clients hang up, which is what most tests are about


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(answers, "REDIRECT_HOSTS", re.compile("localhost"))
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.closing.set()
        server.shutdown()


def row(url, key=None):
    return {"key": key or url, "downloadurl": url}


def fetch_one(server, folder, path, **more):
    """Fetch one picture; return its status, its record and the number of requests."""
    url = server.url(path)
    counts = fetch_pictures([row(url)], folder, **QUICK | more)
    assert counts["rows"] == 1
    return record_of(folder, url), server.asked["/" + path]


def record_of(folder, key):
    with contextlib.closing(sqlite3.connect(folder / downloads.STATE)) as state:
        state.row_factory = sqlite3.Row
        query = "SELECT * FROM pictures WHERE key = ?"
        return dict(state.execute(query, (key,)).fetchone())


def pictures_in(folder):
    return sorted(p for p in (folder / "data").rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("url", "digest"),
    [
        (
            "http://farm8.staticflickr.com/7205/6985418911_df7747990d.jpg",
            "4e2f7a26a1dfbf165a7e30bdabf7e72a",
        ),
        (
            "http://farm7.staticflickr.com/6167/6162540254_5d22abd711.jpg",
            "4ccb23d8746b8d9d76ffd603fc7988",
        ),
    ],
)
def test_a_picture_lies_where_the_public_bucket_has_it(url, digest):
    assert picture_hash(url) == digest
    assert picture_hash(url.replace("http:", "https:")) == digest
    path = f"data/images/{digest[:3]}/{digest[3:6]}/{digest}.jpg"
    assert picture_path(url) == path


@pytest.mark.parametrize(
    ("end", "suffix"),
    [("a.PNG", ".PNG"), ("a.jpg?size=../..", ".jpg"), ("a", ".jpg"), ("a./b", ".jpg")],
)
def test_only_a_plain_suffix_is_taken_from_an_address(end, suffix):
    name = Path(picture_path(f"http://host/{end}")).name
    assert name == picture_hash(f"http://host/{end}") + suffix


def test_a_good_picture_is_kept_as_served_and_recorded(server, tmp_path):
    record, _ = fetch_one(server, tmp_path, "png/a.png")
    (path,) = pictures_in(tmp_path)
    assert path == tmp_path / picture_path(server.url("png/a.png"))
    assert path.read_bytes() == PNG
    today = time.strftime("%Y-%m-%d", time.gmtime())
    expected = {"status": "ok", "reason": "", "num_bytes": len(PNG), "attempts": 1}
    expected |= {"sha256": hashlib.sha256(PNG).hexdigest(), "date": today}
    expected |= {"content_type": "image/png", "final_url": server.url("png/a.png")}
    assert record.items() >= expected.items()


def test_the_user_agent_is_ours_and_names_a_contact(server, tmp_path):
    fetch_one(server, tmp_path / "a", "good/1.jpg")
    fetch_one(server, tmp_path / "b", "good/2.jpg", contact="https://example.org/us")
    agents = [headers["User-Agent"] for headers in server.headers]
    assert re.fullmatch(r"commoncanvas/\d[\w.]*", agents[0])
    assert agents[1] == agents[0] + " (+https://example.org/us)"
    assert {headers["Accept-Encoding"] for headers in server.headers} == {"identity"}


@pytest.mark.parametrize(
    ("path", "status", "reason", "num_requests"),
    [
        ("drip/a.jpg", "failed", "TimeoutError", 2),
        ("drip_headers/a.jpg", "failed", "TimeoutError", 2),
        ("silent/a.jpg", "failed", "TimeoutError", 2),
        ("hangs_up/a.jpg", "failed", "RemoteProtocolError", 2),
        ("half/a.jpg", "failed", "without sending complete", 2),
        ("half_once/a.jpg", "ok", "", 2),
        ("busy_twice/a.jpg", "failed", "status 503", 2),
        ("code/500/a.jpg", "failed", "status 500", 2),
        ("code/408/a.jpg", "failed", "status 408", 2),
        ("code/425/a.jpg", "failed", "status 425", 2),
        ("code/429/a.jpg", "failed", "status 429", 2),
        ("code_noindex/503/a.jpg", "failed", "status 503", 2),
        ("code_noindex/404/a.jpg", "gone", "status 404", 1),
        ("code/410/a.jpg", "gone", "status 410", 1),
        ("unavailable/a.jpg", "gone", "photo_unavailable", 1),
        ("code/401/a.jpg", "refused", "status 401", 1),
        ("code/403/a.jpg", "refused", "status 403", 1),
        ("code/400/a.jpg", "refused", "status 400", 1),
        ("code/206/a.jpg", "refused", "status 206", 1),
        ("code/302/a.jpg", "refused", "status 302", 1),
        ("cut/a.jpg", "refused", "not a readable picture", 1),
        ("text/a.jpg", "refused", "content type text/plain", 1),
        ("html/a.jpg", "refused", "content type text/html", 1),
        ("html_as_jpeg/a.jpg", "refused", "not a readable picture", 1),
        ("empty/a.jpg", "refused", "empty", 1),
        ("large/a.jpg", "refused", "more than 5000 bytes", 1),
        ("endless/a.jpg", "refused", "more than 5000 bytes", 1),
        ("bomb/a.png", "refused", "DecompressionBomb", 1),
        ("moved/a.jpg", "ok", "", 1),
        ("elsewhere/a.jpg", "refused", "redirected to 127.0.0.2", 1),
        ("loop/a.jpg", "refused", "more than 3 redirects", 4),
        ("nowhere/a.jpg", "refused", "no http address", 1),
    ],
)
def test_what_becomes_of_an_answer(
    server, tmp_path, path, status, reason, num_requests
):
    record, asked = fetch_one(server, tmp_path, path, retries=1)
    assert (record["status"], asked) == (status, num_requests)
    assert reason in record["reason"] and bool(reason) == bool(record["reason"])
    assert len(pictures_in(tmp_path)) == (status == "ok")
    assert len(failures(tmp_path)) == (status != "ok")


def test_a_dripping_server_is_left_at_the_deadline(server, tmp_path):
    start = time.monotonic()
    fetch_one(server, tmp_path, "drip/a.jpg", retries=0)
    fetch_one(server, tmp_path, "drip_headers/a.jpg", retries=0)
    assert time.monotonic() - start < 3


def test_an_endless_picture_is_not_read_on(server, tmp_path):
    fetch_one(server, tmp_path, "endless/a.jpg", timeout=20)
    time.sleep(0.1)
    assert server.sent < 20_000_000


def test_a_foreign_redirect_is_not_even_asked(server, tmp_path):
    fetch_one(server, tmp_path, "elsewhere/a.jpg")
    assert set(server.asked) == {"/elsewhere/a.jpg"}


def test_the_final_address_of_a_moved_picture_is_recorded(server, tmp_path):
    record, _ = fetch_one(server, tmp_path, "moved/a.jpg")
    assert record["final_url"] == server.url("good/moved.jpg", "localhost")
    assert record["downloadurl"] == server.url("moved/a.jpg")


@pytest.mark.parametrize("host", ["live.staticflickr.com", "farm8.staticflickr.com"])
def test_flickr_and_the_bucket_may_be_redirected_to(host):
    assert answers.REDIRECT_HOSTS.fullmatch(host)
    assert answers.REDIRECT_HOSTS.fullmatch(downloads.BUCKET.split("/")[2])
    for other in (
        f"{host}.evil.org",
        "staticflickr.com.evil.org",
        "evilstaticflickr.com",
    ):
        assert not answers.REDIRECT_HOSTS.fullmatch(other)


@pytest.mark.parametrize(
    "url",
    ["", None, "farm8/a.jpg", "ftp://host/a.jpg", "http://", "http://a..b/x", "http:/x"]
    + ["http://[::1/x", "http://host:99999/", f"http://{'a' * 70}.org/", "http://\0/"],
)
def test_what_is_no_address_is_refused_without_a_request(tmp_path, url):
    counts = fetch_pictures([row(url, "k")], tmp_path, **QUICK)
    assert counts["refused"] == 1
    assert "is no http address" in failures(tmp_path)["reason"][0]


OPTED_OUT = [
    ["noai"],
    ["NoImageAI"],
    ["noindex, nofollow"],
    ["all", "noimageindex"],
    ["none"],
    ["*: noai"],
    ["commoncanvas: noai"],
    ["otherbot: noai, CommonCanvas: nofollow, noai"],
    ["otherbot: nofollow", "noai"],
    ["unavailable_after: Sat, 25 Jun 2050 15:00:00 GMT, noai"],
    ["max-snippet: 5, noindex"],
]
WELCOME = [
    ["all"],
    ["otherbot: noai"],
    ["otherbot: nofollow, noindex"],
    ["commoncanvas: all, otherbot: noai"],
    ["nofollow, noarchive"],
    ["max-image-preview: none"],
    [""],
]


@pytest.mark.parametrize("lines", OPTED_OUT)
def test_a_picture_that_opts_out_is_not_kept(server, tmp_path, lines):
    path = f"tagged/{json.dumps(lines).encode().hex()}/a.jpg"
    record, _ = fetch_one(server, tmp_path, path)
    assert record["status"] == "refused" and pictures_in(tmp_path) == []
    assert record["reason"].startswith("opted out (X-Robots-Tag: ")


@pytest.mark.parametrize("lines", WELCOME)
def test_what_is_said_to_others_does_not_concern_us(server, tmp_path, lines):
    path = f"tagged/{json.dumps(lines).encode().hex()}/a.jpg"
    assert fetch_one(server, tmp_path, path)[0]["status"] == "ok"


@given(st.text() | st.lists(st.sampled_from("noai : , * bot".split())).map("".join))
def test_any_robots_header_is_read(line):
    assert opts_out(line) in (True, False)
    assert opts_out(line + ",*:noai")


@given(st.text() | st.integers().map(str) | st.datetimes().map(str))
def test_any_retry_header_is_a_bounded_wait(text):
    assert 0 <= retry_after_s(text) <= answers.MAX_PAUSE_S


def test_retry_headers_have_two_forms():
    date = email.utils.formatdate(time.time() + 60, usegmt=True)
    assert retry_after_s("7") == 7 and 58 <= retry_after_s(date) <= 60
    past = email.utils.formatdate(time.time() - 60, usegmt=True)
    assert [retry_after_s(t) for t in ("", "-5", "soon", "nan", past)] == [0] * 5


@pytest.mark.slow
@pytest.mark.parametrize(("path", "least"), [("later/a", 1), ("later_dated/a", 0.9)])
def test_a_host_that_asks_to_wait_is_left_alone_as_a_whole(
    server, tmp_path, path, least
):
    def rows():
        yield row(server.url(path))
        while not server.asked["/" + path]:  # holds the loop only until it is asked
            yield row(server.url("good/first"))
        for number in range(9):
            yield row(server.url(f"good/{number}.jpg"))

    counts = fetch_pictures(rows(), tmp_path, **QUICK | {"concurrency": 1})
    assert counts["ok"] == counts["rows"] - counts["duplicate"] >= 10
    first, *others = [when for when, _ in sorted(server.times)]
    assert min(others) - first >= least


def test_good_answers_end_the_retries(server, tmp_path):
    record, asked = fetch_one(server, tmp_path, "busy_twice/a.jpg", retries=3)
    assert (record["status"], record["attempts"], asked) == ("ok", 3, 3)


def test_waits_between_retries_double(server, tmp_path):
    fetch_one(server, tmp_path, "code/503/a.jpg", retries=3, backoff=0.1)
    times = [when for when, _ in server.times]
    waits = [b - a for a, b in zip(times, times[1:], strict=False)]
    for wait, middle in zip(waits, (0.1, 0.2, 0.4), strict=True):
        assert middle * 0.5 <= wait < middle * 1.5 + 0.1


def test_requests_at_once_are_bounded_in_all_and_per_host(server, tmp_path):
    server.pause_s = 0.1
    hosts = ["127.0.0.1", "127.0.0.1", "127.0.0.1", "localhost"]
    rows = [row(server.url(f"good/{n}.jpg", hosts[n % 4])) for n in range(80)]
    counts = fetch_pictures(rows, tmp_path, concurrency=6, per_host=4)
    assert counts["ok"] == 80
    assert 5 <= server.most["all"] <= 6 and server.most["127.0.0.1"] == 4


def test_redirected_requests_count_for_the_host_they_reach(server, tmp_path):
    server.pause_s = 0.03
    rows = [row(server.url(f"moved/{n}.jpg")) for n in range(20)]
    fetch_pictures(rows, tmp_path, concurrency=8, per_host=2)
    assert server.most["localhost"] <= 2 and server.most["127.0.0.1"] <= 2


def test_rows_are_drawn_one_by_one(server, tmp_path):
    drawn = []

    def rows():
        for number in range(40):
            drawn.append((number, sum(server.asked.values())))
            yield row(server.url(f"good/{number}.jpg"))

    fetch_pictures(rows(), tmp_path, concurrency=3, per_host=3)
    assert all(number - asked <= 3 for number, asked in drawn)


def test_a_stretch_of_settled_rows_holds_up_no_request(server, tmp_path):
    drawn = []

    def rows():
        while not server.asked and len(drawn) < 20_000:
            drawn.append(row(server.url("good/a.jpg")))
            yield drawn[0]

    fetch_pictures(rows(), tmp_path, **QUICK | {"concurrency": 2})
    assert 0 < len(drawn) < 20_000


def test_what_a_killed_run_left_beside_a_picture_is_removed(server, tmp_path):
    path = tmp_path / picture_path(server.url("good/a.jpg"))
    path.parent.mkdir(parents=True)
    (path.parent / f"{LEFTOVER}1-{path.name}").write_bytes(JPEG[:99])
    fetch_one(server, tmp_path, "good/a.jpg")
    assert pictures_in(tmp_path) == [path]


def test_repeated_keys_and_addresses_are_asked_once(server, tmp_path):
    a, b = server.url("good/a.jpg"), server.url("good/b.jpg")
    rows = [row(a, "1"), row(a, "2"), row(b, "1"), row(a, "1"), row(b, "3")]
    rows += [row("", "4"), row("", "5")]
    counts = fetch_pictures(rows, tmp_path, **QUICK)
    expected = {"rows": 7, "ok": 2, "gone": 0, "refused": 2, "failed": 0}
    assert counts == {**expected, "duplicate": 3, "asked": 4}
    assert set(server.asked.values()) == {1}


def test_a_second_run_asks_only_for_what_failed(server, tmp_path):
    names = ["good/a", "code/404/a", "code/403/a", "busy_twice/a"]
    rows = [row(server.url(name)) for name in names]
    first = fetch_pictures(rows, tmp_path, **QUICK, retries=0)
    assert (first["failed"], first["asked"]) == (1, 4)
    second = fetch_pictures(rows, tmp_path, **QUICK, retries=1)
    assert (second["failed"], second["ok"], second["asked"]) == (0, 2, 1)
    assert fetch_pictures(rows, tmp_path, **QUICK)["asked"] == 0
    assert server.asked["/good/a"] == server.asked["/code/404/a"] == 1
    assert record_of(tmp_path, server.url("busy_twice/a"))["attempts"] == 3


def test_failures_are_a_table(server, tmp_path):
    rows = [row(server.url("code/404/a"), "b"), row(server.url("text/a"), "a")]
    fetch_pictures([*rows, row(server.url("good/a"), "c")], tmp_path, **QUICK)
    table = failures(tmp_path)
    assert list(table.columns) == ["key", "status", "reason", "url", "attempts"]
    assert table[["key", "status"]].values.tolist() == [["a", "refused"], ["b", "gone"]]
    assert (table["reason"] != "").all() and table["url"][1] == rows[0]["downloadurl"]


@pytest.mark.parametrize("change", ["vanished", "changed"])
def test_a_damaged_picture_is_noticed_and_fetched_again(server, tmp_path, change):
    rows = [row(server.url(f"good/{n}.jpg"), str(n)) for n in range(3)]
    fetch_pictures(rows, tmp_path, **QUICK)
    assert verify(tmp_path) == []
    path = tmp_path / picture_path(rows[1]["downloadurl"])
    path.unlink() if change == "vanished" else path.write_bytes(JPEG[:-1])
    assert verify(tmp_path) == ["1"]
    counts = fetch_pictures(rows, tmp_path, **QUICK)
    assert (counts["ok"], counts["asked"]) == (3, 1)
    assert path.read_bytes() == JPEG and verify(tmp_path) == []


def test_the_bucket_is_asked_by_hash(server, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "BUCKET", server.url("good/"))
    url = "http://farm8.staticflickr.com/7205/6985418911_df7747990d.jpg"
    rows = [row(url), row("", "without an address")]
    counts = fetch_pictures(rows, tmp_path, "multimedia-commons", **QUICK)
    assert set(server.asked) == {"/good/" + picture_path(url)}
    assert (counts["ok"], counts["refused"]) == (1, 1)


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(server, tmp_path):
    server.pause_s = 0.05
    urls = [server.url(f"good/{number}.jpg") for number in range(60)]
    pq.write_table(pa.table({"key": urls, "downloadurl": urls}), tmp_path / "c.parquet")
    folder = tmp_path / "pictures"
    command = [sys.executable, "-m", "commoncanvas", "download"]
    command += [tmp_path / "c.parquet", folder, "--concurrency", "4"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=paths.ROOT, **quiet) as run:
        limit = time.monotonic() + 60
        while len(server.asked) < 20 and time.monotonic() < limit:
            time.sleep(0.005)
        os.kill(run.pid, signal.SIGKILL)
    assert 20 <= len(server.asked) < 60
    assert {p.read_bytes() for p in pictures_in(folder) if p.name[0] != "."} == {JPEG}
    counts = fetch_pictures(map(row, urls), folder, **QUICK)
    assert counts["ok"] == counts["rows"] == 60 and verify(folder) == []
    # Only what was in flight, at most one picture a worker, is asked for again.
    assert sum(server.asked.values()) - 60 <= 4
    assert len(pictures_in(folder)) == 60  # and nothing half-written beside them


@pytest.mark.slow
def test_an_interrupted_run_stops_at_once_and_can_go_on(server, tmp_path):
    server.pause_s = 0.1
    rows = [row(server.url(f"good/{number}.jpg")) for number in range(400)]
    # A shell starts what runs behind it with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt():
        while not server.asked:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        fetch_pictures(rows, tmp_path, concurrency=4)
    signal.signal(signal.SIGINT, before)
    assert 0 < sum(server.asked.values()) < 400
    counts = fetch_pictures(rows, tmp_path, concurrency=50, per_host=50)
    assert counts["ok"] == 400
    assert sum(server.asked.values()) <= 404


@pytest.mark.slow
def test_a_second_run_in_the_same_folder_is_turned_away(server, tmp_path):
    server.pause_s = 0.2
    rows = [row(server.url(f"good/{number}.jpg")) for number in range(20)]
    with ThreadPoolExecutor(1) as other:
        first = other.submit(fetch_pictures, rows, tmp_path, concurrency=2)
        while not server.asked:
            time.sleep(0.01)
        with pytest.raises(ManifestError, match="no other run"):
            fetch_pictures(rows, tmp_path)
        assert first.result()["ok"] == 20


def test_a_notebook_may_call_it(server, tmp_path):
    async def cell():
        return fetch_pictures([row(server.url("good/a.jpg"))], tmp_path)

    assert asyncio.run(cell())["ok"] == 1


def test_rows_that_break_end_the_run_with_what_is_there(server, tmp_path):
    def rows():
        yield row(server.url("good/a.jpg"))
        raise OSError("catalogue is unreadable")

    with pytest.raises(OSError, match="catalogue is unreadable"):
        fetch_pictures(rows(), tmp_path, **QUICK | {"concurrency": 1})
    assert record_of(tmp_path, server.url("good/a.jpg"))["status"] == "ok"


@pytest.mark.parametrize(
    "wrong",
    [{"concurrency": 0}, {"per_host": 0}, {"timeout": 0}, {"timeout": float("nan")}]
    + [{"max_bytes": 0}, {"retries": -1}, {"origin": "elsewhere"}, {"speed": 3}]
    + [{"contact": "two\nlines"}, {"contact": "é"}],
)
def test_settings_out_of_range_say_what_is_allowed(tmp_path, wrong):
    with pytest.raises(ParameterError) as caught:
        fetch_pictures([], tmp_path, **wrong)
    message = str(caught.value)
    assert next(iter(wrong)) in message and "expected" in message
    assert "\n" not in message


@pytest.mark.parametrize("content", [None, b"not a database, but long enough" * 99])
def test_a_folder_without_a_state_says_so(tmp_path, content):
    folder = tmp_path / "folder"
    if content:
        folder.mkdir()
        (folder / downloads.STATE).write_bytes(content)
    for read in (failures, verify):
        with pytest.raises(ManifestError, match="expected") as caught:
            read(folder)
        assert "\n" not in str(caught.value)


BEHAVIOURS = """good png half half_once cut text html_as_jpeg empty large endless bomb
hangs_up code/404 code/403 code/500 code/204 busy_twice moved elsewhere loop nowhere
unavailable""".split()


@pytest.mark.slow
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    max_examples=15,
)
@given(
    st.lists(st.tuples(st.sampled_from(BEHAVIOURS), st.integers(0, 3)), max_size=12),
    st.integers(1, 5),
    st.integers(0, 2),
)
def test_every_row_is_accounted_for_whatever_the_answers(
    server, behaviours, concurrency, retries
):
    rows = [row(server.url(f"{name}/{n}"), f"{name} {n}") for name, n in behaviours]
    more = QUICK | {"concurrency": concurrency, "retries": retries, "backoff": 0}
    # No example waits for processes that decode; their bounds have tests of their own.
    threads = mock.patch.object(downloads, "Bounded", partial(ThreadPoolExecutor, 2))
    with tempfile.TemporaryDirectory() as folder, threads:
        counts = fetch_pictures(iter(rows), folder, **more)
        assert counts["rows"] == len(rows)
        assert counts["duplicate"] == len(rows) - len(set(behaviours))
        assert sum(counts[name] for name in downloads.SETTLED) == len(rows)
        table = failures(folder)
        assert len(table) == counts["gone"] + counts["refused"] + counts["failed"]
        assert (table["reason"] != "").all() and verify(Path(folder)) == []
        assert len(pictures_in(Path(folder))) == counts["ok"]


def run_command(*words):
    done = CliRunner().invoke(door, ["download", *(str(word) for word in words)])
    return done.exit_code, done


def test_the_command_counts_and_says_whether_to_run_again(server, tmp_path):
    urls = [server.url(name) for name in ("good/a", "code/404/a", "code/500/a")]
    catalog = tmp_path / "catalog.parquet"
    pq.write_table(pa.table({"key": urls, "downloadurl": urls, "x": urls}), catalog)
    words = (catalog, tmp_path / "out", "--retries", "0", "--max-bytes", "5000")
    code, done = run_command(*words)
    assert code == 1
    line = "3 rows, 1 ok, 1 gone, 0 refused, 1 failed, 0 duplicate, 3 asked"
    assert done.stdout.splitlines()[-1].startswith(line)
    assert "ok=1" in done.stderr
    pictures_in(tmp_path / "out")[0].unlink()
    code, done = run_command(*words, "--verify", "--limit", "2")
    assert code == 0
    assert done.stdout.startswith("1 pictures had vanished or changed\n2 rows, 1 ok")


@pytest.mark.parametrize("fault", ["no file", "no columns", "no table", "no range"])
def test_the_command_ends_in_one_line(tmp_path, fault):
    catalog = tmp_path / "catalog.parquet"
    if fault == "no table":
        catalog.write_bytes(b"nothing of the kind")
    elif fault != "no file":
        names = ["key", "other"] if fault == "no columns" else ["key", "downloadurl"]
        pq.write_table(pa.table({name: ["1"] for name in names}), catalog)
    more = ["--concurrency", "0"] if fault == "no range" else []
    printed = call("download", catalog, tmp_path / "out", *more, fails=True)
    assert printed.startswith("downloads stopped: ")
    assert {"no range": "concurrency", "no columns": "downloadurl"}.get(
        fault, "catalog.parquet"
    ) in printed


def test_help_names_every_option():
    printed = call("download", "--help")
    for word in "concurrency per-host timeout max-bytes retries contact limit".split():
        assert f"--{word} " in printed
    assert "--from [flickr|multimedia-commons]" in printed


def test_what_a_host_reserves_is_refused_with_its_reason_and_never_asked_for(
    server, tmp_path
):
    rules = [
        {"location": "/good/private/*", "tdm-reservation": 1, "tdm-policy": "x"},
        {"location": "/", "tdm-reservation": 0},
    ]
    server.reservations = json.dumps(rules).encode()
    names = ["good/a.jpg", "good/private/b.jpg", "good/c.jpg", "good/private/d.jpg"]
    rows = [row(server.url(name)) for name in names]
    counts = fetch_pictures(rows, tmp_path, **QUICK)
    assert (counts["ok"], counts["refused"], server.looks) == (2, 2, 1)
    assert set(server.asked) == {"/good/a.jpg", "/good/c.jpg"}
    reasons = set(failures(tmp_path)["reason"])
    assert reasons == {f"opted out ({PATH}: /good/private/*)"}
    assert fetch_pictures(rows, tmp_path, **QUICK)["asked"] == 0


@pytest.mark.parametrize(
    ("data", "path"),
    [(b"{", "good/a.jpg"), (b"[" * 99_999, "good/b.jpg"), (bytes(2**21), "good/c.jpg")],
)
def test_a_file_of_reservations_that_is_none_is_on_record_as_not_known(
    server, tmp_path, data, path
):
    server.reservations = data
    record, _ = fetch_one(server, tmp_path, path)
    assert record["status"] == "ok"
    assert record["reason"].startswith(f"reservations not known: {PATH} (it ")


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"TDM_Reservation": "1"}, "opted out (tdm-reservation: 1)"),
        ({"tdm_reservation": [" 0", "1 "]}, "opted out (tdm-reservation: 1)"),
        ({"TDM_Reservation": "0"}, ""),
        ({"TDM_Reservation": "yes"}, ""),
        ({"X_Robots_Tag": "noindexed, noml"}, "opted out (X-Robots-Tag"),
        ({"X_Robots_Tag": "otherbot: noml"}, ""),
    ],
)
def test_headers_that_opt_out_are_heeded(headers, reason):
    lines = [
        (name.replace("_", "-"), line)
        for name, value in headers.items()
        for line in (value if isinstance(value, list) else [value])
    ]
    answer = httpx.Response(200, headers=[*lines, ("Content-Type", "image/jpeg")])
    answer.request = httpx.Request("GET", "https://example.org/a.jpg")
    if reason:
        with pytest.raises(answers.Outcome) as caught:
            answers.classify(answer)
        assert reason in caught.value.args[1]
    else:
        assert answers.classify(answer) == ("image/jpeg", None)
