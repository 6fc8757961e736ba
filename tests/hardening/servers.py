"""Hosts that misbehave, asked for pictures; and the headers that they may send."""

import random
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from typing import Any
from unittest import mock

import httpx
import numpy as np

from commoncanvas.catalog import answers, downloads
from tests.hardening.frame import Case, Fault, handled, refused
from tests.hardening.licenses import INVISIBLE

try:
    from tests.support.servers import KINDS, Misbehaving
except ImportError:
    KINDS = {}

KIND = "servers"
HOW = "local hosts asked as `commoncanvas download` does, and made-up headers"
RANDOM, BATCH = 20_000, 500
DAY_S = 86_400  # a host that asks for longer is taken to ask for a day
SETTLED = ("ok", "gone", "refused", "failed", "duplicate")
QUICK = {"retries": 1, "timeout": 1.0, "backoff": 0.01, "max_bytes": 100_000}
if any(setting.name == "patience" for setting in downloads.SETTINGS):
    QUICK["patience"] = 5


def fetch(*urls: Any) -> dict[str, int]:
    """Fetch addresses into a new folder, twice; every row becomes one thing."""
    rows = [{"key": f"a/{n}", "downloadurl": url} for n, url in enumerate(urls)]
    with tempfile.TemporaryDirectory() as folder:
        counts = downloads.fetch_pictures(rows, folder, **QUICK)
        if counts["rows"] != len(rows) or sum(counts[s] for s in SETTLED) != len(rows):
            raise Fault("lost row", f"{len(rows)} rows, {counts}")
        if downloads.verify(folder):
            raise Fault("half-read file", "a picture is not what was recorded")
        reasons = downloads.failures(folder)["reason"]
        if (reasons.str.strip() == "").any() or reasons.str.contains("\n").any():
            raise Fault("wrong outcome", f"reasons {list(reasons)}")
    return counts


def answer(code: int = 200, **headers: str) -> httpx.Response:
    """Return an answer of a picture's host, its redirect prepared as httpx does."""
    named = [
        (k.replace("_", "-"), v.encode("utf-8", "replace")) for k, v in headers.items()
    ]
    request = httpx.Request("GET", "https://farm1.staticflickr.com/a.jpg")
    return httpx.Response(code, headers=named, request=request)


def verdict(code: int = 200, **headers: str) -> str:
    """Return what the headers of an answer mean: a content type, or a status."""
    try:
        return answers.classify(answer(code, **headers))[0]
    except answers.Outcome as outcome:
        status, reason = outcome.args
        if status not in SETTLED or not reason or "\n" in reason:
            raise Fault("wrong outcome", f"{status} {reason!r}") from None
        return status


def cases() -> Iterator[Case]:
    """Yield all named cases."""
    for name, kind in KINDS.items():
        act = partial(_asked, name)
        right = lambda found, k=kind: found <= set(k.settled)  # noqa: E731
        yield Case(KIND, f"host: {name}", act, right, limit_s=30.0)
    for code in (
        *range(100, 104),
        201,
        202,
        204,
        206,
        226,
        300,
        304,
        *range(400, 452),
        *range(500, 512),
        520,
        999,
    ):
        right = "gone" if code in (404, 410) else "refused"
        right = "failed" if code in (408, 425, 429) or code >= 500 else right
        act = partial(verdict, code, content_type="image/jpeg")
        yield Case(KIND, f"status: {code}", act, right)
    for kind, right in {
        "image/jpeg": "image/jpeg", "IMAGE/PNG": "image/png",
        "image/jpeg; charset=x": "image/jpeg",
        "text/html": "refused", "text/plain": "refused", "application/json": "refused",
        "video/mp4": "refused",
        "application/pdf": "refused", "ximage/png": "refused",
        "image": "image",  # says nothing of what it is: the decoder decides
    }.items():  # fmt: skip
        act = partial(verdict, content_type=kind)
        yield Case(KIND, f"content type: {kind}", act, right)
    for kind in (
        "binary/octet-stream",
        "application/octet-stream",
        "application/x-unknown",
        None,
    ):
        headers = {"content_type": kind} if kind else {}
        act = partial(verdict, **headers)
        right = (
            handled if kind == "application/x-unknown" else (lambda f: f != "refused")
        )
        yield Case(KIND, f"content type: {kind}", act, right)
    agents = ("", "*: ", "commoncanvas: ", "CommonCanvas: ")
    for agent in agents:
        for word in (
            "noai",
            "noimageai",
            "noindex",
            "noimageindex",
            "none",
            "NOAI",
            "all, noai",
        ):
            act = partial(verdict, content_type="image/png", x_robots_tag=agent + word)
            yield Case(KIND, f"opted out: {agent}{word}", act, "refused")
    for tag in (
        "all",
        "nofollow",
        "googlebot: noai",
        "max-snippet: 0",
        "noarchive",
        "",
        "noaix",
        ":",
        ",,",
    ):
        act = partial(verdict, content_type="image/png", x_robots_tag=tag)
        yield Case(KIND, f"not opted out: {tag!r}", act, "image/png")
    for text, right in {
        "0": 0, "5": 5, "120": 120, "86401": DAY_S, "99999999999999": DAY_S, "-1": 0,
        "": 0, "x": 0, "1.5": 1.5,
        "1e9": 0, "5;": 0, "NaN": 0, "inf": 0, " 7 ": 7,
        "Wed, 21 Oct 2015 07:28:00 GMT": 0, "Wed": 0,
        "9" * 5000: DAY_S, "Wed, 99 Oct 2015 07:28:00 GMT": 0,
        "Wed, 21 Oct 99999 07:28:00 GMT": None,
        "Fri, 31 Dec 9999 23:59:59 GMT": DAY_S, "\0": 0, "１２": None, "0x10": 0,
        "1_0": None,
    }.items():  # fmt: skip
        expect = (
            (lambda f: 0 <= f <= DAY_S)
            if right is None
            else (lambda f, r=right: f == r)
        )
        act = partial(answers.retry_after_s, text)
        yield Case(KIND, f"retry after: {text[:30]!a}", act, expect)
    for name, url in {
        "nothing": "", "none": None, "text": "a cat",
        "javascript": "javascript:alert(1)", "data": "data:,x",
        "mail": "mailto:a@example.org", "file": "file:///etc/passwd",
        "ftp": "ftp://127.0.0.1/a", "no host": "http://",
        "port 99999": "http://127.0.0.1:99999/a", "port text": "http://127.0.0.1:x/a",
        "bracket": "http://[/a",
        "zone": "http://[fe80::1%25x]/a", "space": "http://a b/", "NUL": "http://a\0b/",
        "new line": "http://a\n/b",
        "surrogate": "http://\ud800/", "long host": f"http://{'a' * 70}.example/",
        "empty label": "http://a..b/",
        "long address": "http://127.0.0.1:9/" + "a" * 100_000,
        "closed port": "http://127.0.0.1:9/a.jpg",
        "port 0": "http://127.0.0.1:0/a", "user": "http://a:b@127.0.0.1:9/",
        "back slash": "http:\\\\127.0.0.1:9",
        "no such host": "http://nowhere.invalid/a",
        "number host": "http://2130706433:9/", "scheme": "HTTP://127.0.0.1:9/",
        **{f"host with {name}": f"http://a{sign}b.invalid/" for name,
        sign in INVISIBLE.items()},
    }.items():  # fmt: skip
        right = lambda f: f["refused"] + f["failed"] == 1  # noqa: E731
        yield Case(KIND, f"address: {name}", partial(fetch, url), right)
    poison = ["javascript:x", None, "http://[", "http://127.0.0.1:9/a", "", "data:,x"]
    act = lambda: fetch(*poison, *poison)  # noqa: E731
    yield Case(KIND, "address: many bad ones", act, lambda f: f["rows"] == 12)
    for proxy, value in (
        ("ALL_PROXY", "socks5://127.0.0.1:9"), ("ALL_PROXY", "oops"),
        ("HTTP_PROXY", "http://[::1"),
        ("NO_PROXY", "localhost,127.0.0.1,[::1]"), ("NO_PROXY", "fd07:b51a:cc66::/64"),
        ("NO_PROXY", "*"),
        ("HTTP_PROXY", "ftp://127.0.0.1"), ("ALL_PROXY", "http://127.0.0.1:99999"),
        ("NO_PROXY", ",,"),
        ("SSL_CERT_FILE", "/nowhere.pem"), ("ALL_PROXY", "socks4://127.0.0.1:9"),
        ("NO_PROXY", "[fe80::1%x]"),
    ):  # fmt: skip
        act = partial(_with, proxy, value)
        yield Case(
            KIND, f"proxy: {proxy}={value}", act, lambda f: refused(f) or f["rows"] == 1
        )


def _environment(**values: str) -> Any:
    return mock.patch.dict("os.environ", values)


def _with(name: str, value: str) -> dict[str, int]:
    with _environment(**{name: value}):
        return fetch("http://127.0.0.1:9/a.jpg")


def _asked(kind: str) -> set[str]:
    """Ask a host of one kind for two pictures; return what they became."""
    with _environment(NO_PROXY="*"), Misbehaving() as server:
        counts = fetch(server.url(kind, "a.jpg"), server.url(kind, "b.jpg"))
    return {status for status in SETTLED if counts[status]}


def attack(rng: np.random.Generator, num: int) -> None:
    """Send headers of random text, and ask what they mean."""
    pick = random.Random(int(rng.integers(1 << 60)))
    words = [
        "noai",
        "image/",
        "jpeg",
        ":",
        ",",
        ";",
        "*",
        "max-age",
        "0",
        "-1",
        "Wed, 21 Oct 2015 07:28:00 GMT",
    ]
    words += [
        "https://",
        "farm1.staticflickr.com",
        "/photo_unavailable.gif",
        "é",
        "\x80",
        '"',
        "=",
        "%",
        " ",
        "GMT",
    ]
    for _ in range(num):
        text = "".join(pick.choices(words, k=pick.randint(0, 6)))
        if pick.random() < 0.2:
            then = datetime.now(UTC) + timedelta(seconds=pick.uniform(-1e9, 1e9))
            text = format_datetime(then, usegmt=True)
        wait_s = answers.retry_after_s(text)
        if not 0 <= wait_s <= DAY_S:
            raise Fault("wrong outcome", f"waits {wait_s} s for {text!a}")
        names = (
            "content_type",
            "x_robots_tag",
            "location",
            "content_length",
            "retry_after",
        )
        headers = {name: text for name in names if pick.random() < 0.5}
        verdict(
            pick.choice([200, 301, 302, 404, 429, 500, pick.randrange(100, 600)]),
            **headers,
        )
