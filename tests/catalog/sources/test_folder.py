"""Rows in are rows out, whatever stands in the table, the json or the tar."""

import csv
import gzip
import io
import json
import tarfile
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from commoncanvas.catalog.columns import STATED
from commoncanvas.catalog.sources import webdataset
from commoncanvas.catalog.sources.folder import read_folder
from commoncanvas.core.errors import LicenseError, SourceError
from commoncanvas.licenses.license import read_license

SCRIPT = "<script>alert(1)</script>"
TEXTS = st.text(max_size=8) | st.sampled_from(
    ["a.png", '"', "\t", "\r\n", "\0", SCRIPT]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["title", "License", "url", "x"]), inner)
    ),
    max_leaves=8,
)


@pytest.fixture
def pictures(tmp_path):
    """Return a function that writes files and a table, and reads the folder."""

    def read(table, *files):
        for name in files:
            path = tmp_path / "toys" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"picture")
        path = tmp_path / "table.csv"
        path.write_bytes(table if isinstance(table, bytes) else table.encode())
        return read_checked(tmp_path / "toys", path)

    return read


def read_checked(folder, table):
    folder.mkdir(exist_ok=True)
    rows = read_folder(folder, table)
    assert all(set(row) == {*STATED, "path"} for row in rows)
    assert len({row["key"] for row in rows}) == len(rows)
    for row in rows:
        "".join(row.values()).encode()
        assert row["reason"] or (folder / row["path"]).is_file()
        assert row["reason"] or row["key"] == f"toys/{row['path']}"
    return rows


def test_a_row_says_what_the_table_says(pictures):
    table = (
        "FILE, Title ,author,author_url,pageurl,license,license_url,caption,date_seen\n"
        f"in/a.png,{SCRIPT},Ann,https://a.example,https://p.example,CC BY 4.0,,"
        '"One,\ntwo ""three""",2024-02-29\n'
    )
    (row,) = pictures(table, "in/a.png")
    assert row["reason"] == "" and row["path"] == "in/a.png" and row["source"] == "toys"
    assert row["title"] == SCRIPT and row["alt_text"] == 'One,\ntwo "three"'
    assert row["author"] == "Ann" and row["author_url"] == "https://a.example"
    assert row["license_text"] == "CC BY 4.0" and row["date_seen"] == "2024-02-29"


def test_an_absolute_path_is_refused_even_inside_the_folder(pictures, tmp_path):
    rows = pictures(f"file\n{tmp_path / 'toys' / 'a.png'}\n", "a.png")
    assert "outside" in rows[0]["reason"] and rows[0]["path"] == ""
    assert "no row in the table" in rows[1]["reason"]


def test_a_byte_order_mark_is_no_part_of_a_column(pictures):
    (row,) = pictures(b"\xef\xbb\xbffile,title\na.png,B\n", "a.png")
    assert row["title"] == "B" and row["reason"] == ""


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("b.png,B", "missing"),
        (",B", "missing"),
        ("../out.png,B", "outside"),
        ("../toys/a.png,B", "outside"),
        ("/etc/hostname,B", "outside"),
        ("link.png,B", "outside"),
        ("in,B", "missing"),
        ("a.png", "1 cells, expected 2"),
        ("a.png,B,C", "3 cells, expected 2"),
        ('a.png,"B', "not csv"),
        ("a\0.png,B", "cannot be found"),
        (f"{'a' * 300},B", "cannot be found"),
        (f"a.png,{'B' * 200_000}", "not csv"),
    ],
)
def test_a_line_that_cannot_be_used_is_a_row_with_its_reason(
    pictures, tmp_path, line, reason
):
    (tmp_path / "out.png").write_bytes(b"picture")
    (tmp_path / "toys" / "in").mkdir(parents=True)
    (tmp_path / "toys" / "link.png").symlink_to("../out.png")
    rows = pictures(f"file,title\n{line}\n")
    assert reason in rows[0]["reason"] and "\n" not in rows[0]["reason"]
    assert rows[0]["path"] == "" and rows[0]["key"] == "toys#1"


def test_a_wrong_encoding_costs_its_own_row_alone(pictures):
    table = "file,title\na.png,Müller\nb.png,B\n".encode("latin-1")
    a, b = pictures(table, "a.png", "b.png")
    assert "UTF-8" in a["reason"] and a["path"] == "a.png"
    assert b["reason"] == "" and b["title"] == "B"


@pytest.mark.parametrize("day", ["2024-02-30", "4501", "yesterday"])
def test_an_impossible_date_is_named(pictures, day):
    (row,) = pictures(f"file,date_seen\na.png,{day}\n", "a.png")
    assert day in row["reason"]


def test_a_picture_without_a_row_is_a_row(pictures):
    rows = pictures("file\na.png\n", "a.png", "in/b.JPG", "notes.txt")
    assert [row["path"] for row in rows] == ["a.png", "in/b.JPG"]
    assert "no row in the table" in rows[1]["reason"]


def test_a_picture_with_two_rows_is_used_by_neither(pictures):
    rows = pictures("file,license\na.png,CC0\n./a.png,CC BY 4.0\n", "a.png")
    assert ["more than once" in row["reason"] for row in rows] == [True, True]


def test_two_licences_for_one_picture_are_refused_by_the_reader(pictures):
    table = "file,license,license_text\na.png,CC0,CC BY 4.0\nb.png,CC0,CC0\n"
    a, b = pictures(table, "a.png", "b.png")
    with pytest.raises(LicenseError):
        read_license(a["license_text"], a["license_url"])
    assert read_license(b["license_text"], b["license_url"]).slug == "cc0"


@pytest.mark.parametrize(
    "table", [b"", b"title\nA\n", b"file;title\na.png;A\n", "file\n".encode("utf-16")]
)
def test_a_table_without_files_is_named_in_one_line(pictures, tmp_path, table):
    with pytest.raises(SourceError, match="'table.csv'.*expected.*`file`") as error:
        pictures(table)
    assert "\n" not in str(error.value)
    with pytest.raises(SourceError, match="'none.csv' cannot be read"):
        read_folder(tmp_path, tmp_path / "none.csv")


@given(st.lists(st.lists(TEXTS, min_size=1, max_size=4), max_size=5), st.data())
@settings(max_examples=80, deadline=None)
def test_any_cells_give_one_row_a_line(tmp_path_factory, lines, data):
    folder = tmp_path_factory.mktemp("f") / "toys"
    header = data.draw(st.permutations(["file", "title", "license", "caption"]))
    buffer = io.StringIO(newline="")
    csv.writer(buffer).writerows([header, *lines])
    (folder.parent / "t.csv").write_bytes(buffer.getvalue().encode("utf-8", "replace"))
    assert len(read_checked(folder, folder.parent / "t.csv")) == len(lines)


@given(st.binary(max_size=60))
@example(b'"\n"a\n\xff\0,"')
@settings(max_examples=80, deadline=None)
def test_any_bytes_below_the_header_crash_nothing(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("f") / "toys"
    (folder.parent / "t.csv").write_bytes(b"file,title\n" + data)
    read_checked(folder, folder.parent / "t.csv")


def tar_of(path, members, mode="w"):
    """Write a tar of (name, bytes) pairs and return its path."""
    with tarfile.open(path, mode) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def json_bytes(**fields):
    return json.dumps(fields).encode()


def tar_rows(*tars):
    rows = list(webdataset.read_webdataset(tars))
    assert all(set(row) == {*STATED, "picture"} for row in rows)
    assert len({row["key"] for row in rows}) == len(rows)
    assert all(bool(row["reason"]) is (row["picture"] == b"") for row in rows)
    return rows


GOOD = [("0.jpg", b"p"), ("0.json", b'{"license": "CC0"}')]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_a_sample_says_what_its_json_says(tmp_path, mode):
    catalog = json_bytes(
        title=SCRIPT, unickname="Ann", licensename="Attribution License", photoid=7,
        licenseurl="http://creativecommons.org/licenses/by/2.0/", exif={"a": [1]},
        pageurl="http://p.example", downloadurl="http://d.example", caption=None,
    )  # fmt: skip
    download = json_bytes(url="http://u.example", caption="A cat", License="CC0")
    members = [("./0.jpg", b"p"), ("./0.json", catalog), ("./0.txt", b"A dog\n")]
    members += [("in/1.json", download), ("in/1.webp", b"q"), ("in/1.txt", b"other")]
    a, b = tar_rows(tar_of(tmp_path / "0.tar", members, mode))
    assert a["key"] == "webdataset/0.tar/0" and a["picture"] == b"p"
    assert a["title"] == SCRIPT and a["author"] == "Ann" and a["alt_text"] == "A dog"
    assert a["pageurl"] == "http://p.example"
    assert a["downloadurl"] == "http://d.example"
    assert read_license(a["license_text"], a["license_url"]).slug == "by"
    assert b["key"] == "webdataset/0.tar/in/1" and b["alt_text"] == "A cat"
    assert b["license_text"] == "CC0" and b["downloadurl"] == "http://u.example"


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("1.jpg", b"p")], "no json"),
        ([("1.jpg", b"p"), ("1.txt", b"CC0")], "no json"),
        ([("1.json", b"{}")], "0 pictures"),
        ([("1.cls", b"3")], "0 pictures"),
        ([("1.jpg", b"p"), ("1.png", b"p"), ("1.json", b"{}")], "2 pictures"),
        ([("1.jpg", b"p"), ("1.jpg", b"p"), ("1.json", b"{}")], "2 pictures"),
        ([("1.jpg", b"p"), ("1.json", b"{}"), ("1.json", b"{}")], "two files"),
        ([("1.jpg", b"p"), ("1.json", b"[]")], "list, expected an object"),
        ([("1.jpg", b"p"), ("1.json", b'{"title": "\xe9"}')], "json cannot be read"),
        ([("1.jpg", b"p"), ("1.json", b"[" * 99_999)], "json cannot be read"),
        ([("1.jpg", b"p"), ("1.json", b'{"title": ["a"]}')], "title is not text"),
        ([("1.jpg", b"p"), ("1.json", b'{"title": "\\ud800"}')], "title is not text"),
        ([("1.jpg", b"p" * 4097), ("1.json", b"{}")], "larger"),
    ],
)
def test_a_sample_that_cannot_be_used_is_a_row_with_its_reason(
    tmp_path, monkeypatch, members, reason
):
    monkeypatch.setattr(webdataset, "MAX_BYTES", 4096 if "larger" in reason else 10**6)
    last = [("2.jpg", b"p"), ("2.json", b"{}")]
    rows = tar_rows(tar_of(tmp_path / "0.tar", [*GOOD, *members, *last]))
    assert [row["key"][-1] for row in rows] == ["0", "1", "2"]
    assert reason in rows[1]["reason"]
    assert rows[0]["reason"] == rows[2]["reason"] == ""


def test_a_licence_that_stands_twice_in_a_json_is_refused_by_the_reader(tmp_path):
    members = [
        ("0.jpg", b"p"),
        ("0.json", b'{"license": "CC BY 4.0", "license": "CC0"}'),
    ]
    (row,) = tar_rows(tar_of(tmp_path / "0.tar", members))
    with pytest.raises(LicenseError):
        read_license(row["license_text"], row["license_url"])


def test_a_sample_torn_apart_is_two_rows_that_say_so(tmp_path):
    members = [GOOD[0], ("1.jpg", b"p"), ("1.json", b"{}"), GOOD[1]]
    rows = tar_rows(tar_of(tmp_path / "0.tar", members))
    assert [bool(row["reason"]) for row in rows] == [True, False, True]
    rows = tar_rows(tar_of(tmp_path / "0.tar", [*GOOD, *members[1:3], *GOOD]))
    assert ["more than once" in row["reason"] for row in rows] == [False, False, True]


def test_memory_does_not_grow_with_the_tar(tmp_path):
    tar = tar_of(tmp_path / "0.tar", [(f"{i}.jpg", b"p") for i in range(4000)])
    tracemalloc.start()
    assert sum(1 for _ in webdataset.read_webdataset([tar])) == 4000
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2e6  # 4,000 headers kept would be 4 MB


def test_links_and_folders_are_not_followed(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for name, kind in (("a.b", tarfile.DIRTYPE), ("0.jpg", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "../secret"
            archive.addfile(member)
    (row,) = tar_rows(tmp_path / "0.tar")
    assert "link" in row["reason"] and row["key"] == "webdataset/0.tar/0"


def whole_tar(tmp_path):
    members = [(f"{i}.{end}", data) for i in range(3) for (_, data), end in
               zip(GOOD, ("jpg", "json"), strict=True)]  # fmt: skip
    return tar_of(tmp_path / "whole.tar", members).read_bytes()


@pytest.mark.parametrize("length", [0, 100, 512, 513, 1024, 1536, 2048, 2600, 3072])
def test_a_tar_that_breaks_off_says_so_behind_what_it_held(tmp_path, length):
    (tmp_path / "0.tar").write_bytes(whole_tar(tmp_path)[:length])
    *rows, last = tar_rows(tmp_path / "0.tar")
    assert last["key"] == "webdataset/0.tar" and "read further" in last["reason"]
    assert sum(not row["reason"] for row in rows) == length // 2048
    assert len(rows) == -(-max(0, length - 511) // 2048)


@pytest.mark.parametrize("place", [0, 148, 2048 + 148])
def test_a_broken_header_is_not_taken_for_the_end(tmp_path, place):
    data = bytearray(whole_tar(tmp_path))
    data[place : place + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "0.tar").write_bytes(data)
    assert "read further" in tar_rows(tmp_path / "0.tar")[-1]["reason"]


@pytest.mark.parametrize(
    "data", [b"no tar", gzip.compress(b"no tar", mtime=0), b"\x1f\x8bxx"]
)
def test_what_is_no_tar_or_missing_is_a_row(tmp_path, data):
    (tmp_path / "0.tar").write_bytes(data)
    rows = tar_rows(tmp_path / "0.tar", tmp_path / "none.tar")
    assert [row["key"] for row in rows] == ["webdataset/0.tar", "webdataset/none.tar"]
    assert tar_rows() == tar_rows(tar_of(tmp_path / "1.tar", [("README", b"x")])) == []


def test_two_tars_of_one_name_are_refused(tmp_path):
    with pytest.raises(SourceError, match="2 tars are called '0.tar'.*rename"):
        tar_rows(tmp_path / "0.tar", tmp_path / "in" / "0.tar")


@given(st.lists(JSON | st.binary(max_size=9), max_size=4))
@settings(max_examples=80, deadline=None)
def test_any_json_gives_one_row_a_sample(tmp_path_factory, values):
    members = []
    for i, value in enumerate(values):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        members += [(f"{i}.jpg", b"p"), (f"{i}.json", data)]
    rows = tar_rows(tar_of(tmp_path_factory.mktemp("tar") / "0.tar", members))
    assert len(rows) == len(values)
    for row, value in zip(rows, values, strict=True):
        assert row["reason"] or isinstance(value, dict | bytes)
        "".join(text for text in row.values() if isinstance(text, str)).encode()
