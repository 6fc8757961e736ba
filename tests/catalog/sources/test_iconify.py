"""What a package states comes through: names, licence, days and drawings."""

import pytest

from commoncanvas.catalog.columns import STATED
from commoncanvas.catalog.sources import iconify
from commoncanvas.core.errors import SourceError

BODY = '<rect width="16" height="16"/>'


@pytest.fixture
def read_toy(monkeypatch):
    """Return a function that reads a made-up Iconify set of the given icon names."""

    def read(names, info=None, **fields):
        icons = {name: {"body": BODY} for name in names}
        icons = {"icons": icons, "lastModified": 86_400, **fields}
        known = {"author": {"name": "A"}, "license": {"spdx": "CC-BY-4.0"}}
        info = known if info is None else info
        monkeypatch.setattr(iconify, "read_pins", lambda: {"toy": None})
        monkeypatch.setattr(iconify, "read_members", lambda *_: [icons, info])
        return iconify.read_set("toy")

    return read


def test_rows_have_the_columns_that_every_adapter_fills(read_toy):
    assert STATED.keys() <= read_toy(["a"])[0].keys()


def test_a_last_word_that_most_of_the_set_shares_is_left_out(read_toy):
    titles = [row["title"] for row in read_toy(["red-car-flat", "tree-flat", "sun"])]
    assert titles == ["red car", "sun", "tree"]


def test_a_last_word_that_few_share_stays(read_toy):
    names = ["red-car", "toy-car", "sun", "tree", "sea", "sky"]
    assert "red car" in [row["title"] for row in read_toy(names)]


def test_a_name_that_is_the_style_alone_keeps_its_title(read_toy):
    assert "flat" in [row["title"] for row in read_toy(["flat", "a-flat", "b-flat"])]


def test_keys_keep_the_whole_name_and_their_order(read_toy):
    keys = [row["key"] for row in read_toy(["b-flat", "a-flat"])]
    assert keys == ["toy/a-flat", "toy/b-flat"]


@pytest.mark.parametrize(
    ("name", "is_tone"),
    [
        ("waving-hand-medium-light-skin-tone", True),
        ("woman-dark-skin-tone-red-hair", True),
        ("hand-light", True),
        ("light-bulb", False),
        ("darkness", False),
    ],
)
def test_skin_tones_are_told_by_name(read_toy, name, is_tone):
    assert read_toy([name, "x"])[name > "x"]["is_skin_tone"] is is_tone


def test_the_day_is_the_one_the_set_was_packed(read_toy):
    assert read_toy(["a"])[0]["date_seen"] == "1970-01-02"


def test_the_view_box_is_the_icon_s_or_else_the_set_s(read_toy):
    row = read_toy(["a"], width=20, height=10)[0]
    assert 'viewBox="0 0 20 10"' in row["svg"]
    assert 'viewBox="0 0 16 16"' in read_toy(["a"])[0]["svg"]


def test_a_set_that_is_not_pinned_is_named_in_one_line():
    with pytest.raises(
        SourceError, match="'nosuchset' is not pinned.*profile"
    ) as error:
        iconify.read_set("nosuchset")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("info", "author", "license_text"),
    [
        ({}, "", ""),
        ({"author": None, "license": {"title": "CC0"}}, "", "CC0"),
        ({"author": {"name": "\ud800"}, "license": {"spdx": None}}, "\\ud800", ""),
    ],
)
def test_what_a_set_does_not_state_is_empty(read_toy, info, author, license_text):
    (row,) = read_toy(["a"], info)
    assert (row["author"], row["license_text"]) == (author, license_text)


def test_a_set_without_its_day_has_none(read_toy):
    assert read_toy(["a"], lastModified=0)[0]["date_seen"] == ""


@pytest.mark.parametrize("icon", [{}, {"body": "\ud800"}, 7, None])
def test_an_icon_without_a_drawing_is_a_row_with_its_reason(read_toy, icon):
    rows = read_toy(["a"], icons={"a": {"body": BODY}, "b": icon})
    assert [bool(row["reason"]) for row in rows] == [False, True]
    assert "no drawing" in rows[1]["reason"] and rows[1]["svg"] == ""


@pytest.mark.parametrize(
    ("info", "fields"),
    [
        ([], {}),
        ({"author": "A"}, {}),
        ({}, {"icons": {}}),
        ({}, {"icons": None}),
        ({}, {"icons": 7}),
        ({}, {"lastModified": "today"}),
    ],
)
def test_a_package_that_is_no_set_is_named_in_one_line(read_toy, info, fields):
    with pytest.raises(SourceError, match="source toy.*expected") as error:
        read_toy(["a"], info, **fields)
    assert "\n" not in str(error.value)
