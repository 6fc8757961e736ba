"""Patterns of reserved paths: the longest counts, and none takes for ever."""

import json
import time

import pytest

from commoncanvas.catalog.reservations import Rule, read_rules, reserved_by


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
    ],
)
def test_the_longest_pattern_that_matches_counts(pairs, path, location):
    assert reserved_by(rules(*pairs), path) == location


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"[1, null]", b'[{"location": 1, "tdm-reservation": 1}]', b"\xff",
     b'[{"location": "/", "tdm-reservation": 2}]', b'[{"location": "/"}]'],
)  # fmt: skip
def test_what_is_not_of_its_form_states_nothing(data):
    assert read_rules(data) == ()


def test_a_pattern_of_a_thousand_stars_is_quick():
    start = time.monotonic()
    slow = Rule("/" + "a*" * 1000 + "b$", True)
    assert reserved_by((slow,), "/" + "a" * 3000) == ""
    assert time.monotonic() - start < 0.5
