"""Patterns of reserved paths: the longest counts, and none takes for ever."""

import asyncio
import gzip
import json
import time

import httpx
import pytest

from commoncanvas.catalog import reservations
from commoncanvas.catalog.reservations import MAX_BYTES, Rule, Rules, ask, read_rules

RESERVED = [{"location": "/", "tdm-reservation": 1}]
DATA = json.dumps(RESERVED).encode()


def rules(*pairs):
    listed = [{"location": place, "tdm-reservation": says} for place, says in pairs]
    return read_rules(json.dumps(listed).encode())


@pytest.mark.parametrize(
    ("pairs", "path", "location"),
    [
        ([("/", 1)], "/a.jpg", "/"),
        ([("*", 1)], "/a.jpg", "*"),
        ([("/", 0)], "/a.jpg", ""),
        ([("/photos", 1)], "/photos2/a.jpg", "/photos"),
        ([("/photos/", 1)], "/photo/a.jpg", ""),
        ([("/", 1), ("/open/", 0)], "/open/a.jpg", ""),
        ([("/", 0), ("/closed/", 1)], "/closed/a.jpg", "/closed/"),
        ([("/a", 0), ("/a", 1)], "/a", "/a"),
        ([("/*.jpg$", 1)], "/x/a.jpg", "/*.jpg$"),
        ([("/*.jpg$", 1)], "/x/a.jpg?size=b", ""),
        ([("/a$", 1)], "/a", "/a$"),
        ([("/a$", 1)], "/ab", ""),
        ([("/*b*$", 1)], "/abc", "/*b*$"),
        ([("/aa*aa$", 1)], "/aaa", ""),
        ([("photos/", "1")], "/photos/a", "/photos/"),
        ([("https://a.example/photos/", 1)], "/photos/a", "/photos/"),
        ([], "/a", ""),
        ([("/photos/é", 1)], "/photos/%C3%A9.jpg", "/photos/é"),
        ([("/photos/%c3%a9", 1)], "/photos/é.jpg", "/photos/%c3%a9"),
        ([("/a b/", 1)], "/a%20b/c", "/a b/"),
        ([("/%70hotos/", 1)], "/photos/a", "/%70hotos/"),
        ([("/photos/", 1)], "/%70hotos/a", "/photos/"),
        ([("/%70hotos/", 1), ("/photos/a/", 0)], "/photos/a/b", ""),
        ([("/a%2Ab", 1)], "/axb", ""),
        ([("/a%2Ab", 1)], "/a*b", "/a%2Ab"),
        ([("/a\ud800", 1)], "/a", ""),
        ([("/", True)], "/a", "/"),
        ([("/", "true")], "/a", "/"),
        ([("/", 1), ("/a", False)], "/ab", ""),
        ([("/a*", 0), ("/a$", 1)], "/a", "/a$"),
        ([("/***a", 0), ("/b*", 1)], "/ba", "/b*"),
    ],
)
def test_the_longest_pattern_that_matches_counts(pairs, path, location):
    assert rules(*pairs).reserved_by(path) == location


@pytest.mark.parametrize(
    "data",
    [b"[]", b"[1, null]", b'[{"location": 1, "tdm-reservation": 1}]',
     b'[{"location": "/", "tdm-reservation": 2}]', b'[{"location": "/"}]'],
)  # fmt: skip
def test_a_line_that_is_not_of_its_form_states_nothing(data):
    found = read_rules(data)
    assert found.reserved_by("/a") == found.unknown == ""


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no JSON"), (b"{}", "no list"), (b"\xff", "no JSON"),
        (b"<!doctype html>", "no JSON"), (b"[" * 99_999, "no JSON"),
        (bytes(MAX_BYTES + 1), "more than 1,048,576 bytes"),
        (gzip.compress(bytes(2**26), mtime=0), "more than 1,048,576 bytes"),
        (gzip.compress(DATA, mtime=0)[:-3], "cannot be unpacked"),
        (b"\x1f\x8bno", "cannot be unpacked"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_is_not_known(data, why):
    found = read_rules(data)
    assert why in found.unknown and found.reserved_by("/a") == ""


@pytest.mark.parametrize(
    "data", [DATA.decode().encode(e) for e in ("utf-8-sig", "utf-16", "utf-16-be")]
    + [gzip.compress(DATA, mtime=0)],
)  # fmt: skip
def test_a_file_may_be_packed_and_in_any_unicode(data):
    assert read_rules(data).reserved_by("/a") == "/"


def answers_of(pages):
    """Ask a host of these answers, {path: (code, headers, data)}; None never ends."""

    async def send(request):
        code, headers, data = pages[str(request.url)]
        if data is None:
            await asyncio.sleep(9)
        return httpx.Response(code, headers=headers, stream=httpx.ByteStream(data))

    return asyncio.run(ask(send, httpx.URL("http://a.example/x.jpg?y"), {}, 0.2))


FIRST = f"http://a.example{reservations.PATH}"
FILE = (200, {}, DATA)


def led(to):
    return (301, {"Location": to}, b"")


@pytest.mark.parametrize(
    ("pages", "location", "why"),
    [
        ({FIRST: FILE}, "/", ""),
        ({FIRST: (404, {}, b"")}, "", ""),
        ({FIRST: led("https://a.example/t"), "https://a.example/t": FILE}, "/", ""),
        ({FIRST: led("/a"), "http://a.example/a": led("/b"),
          "http://a.example/b": FILE}, "/", ""),
        ({FIRST: led(FIRST)}, "", "more than 3 redirects"),
        ({FIRST: led("https://b.example/t")}, "", "leads to another host"),
        ({FIRST: led("file:///etc/passwd")}, "", "leads to another host"),
        ({FIRST: (200, {}, DATA + bytes(MAX_BYTES))}, "", "more than 1,048,576 bytes"),
    ],
)  # fmt: skip
def test_redirects_on_the_host_are_followed(pages, location, why):
    found = answers_of(pages)
    assert found.reserved_by("/x.jpg") == location and why in found.unknown
    assert bool(found.unknown) is bool(why)


@pytest.mark.parametrize("page", [(503, {}, b""), (200, {}, None)])
def test_a_host_that_does_not_answer_may_be_asked_again(page):
    assert answers_of({FIRST: page}) is None


@pytest.mark.parametrize(
    "patterns",
    [["/" + "a*" * 1000 + "b$"], ["/" + "*" * 10**6], ["*a" * 50_000],
     [f"*a*a*b{i}" for i in range(1000)], [f"/photos/b{i}" for i in range(25_000)]],
    ids=len,
)  # fmt: skip
def test_no_patterns_make_a_row_slow(patterns):
    found = Rules(Rule(one, True) for one in patterns)
    start = time.process_time()
    for _ in range(5):
        found.reserved_by("/photos/" + "a" * 300 + ".jpg")
    assert time.process_time() - start < 0.1


def test_more_stars_than_are_tried_are_on_record_and_the_rest_counts():
    stars = [Rule(f"*{i}", False) for i in range(reservations.MAX_STARS + 1)]
    found = Rules([*stars, Rule("/a", True)])
    assert found.reserved_by("/a1") == "/a" and "1,000 patterns" in found.unknown
