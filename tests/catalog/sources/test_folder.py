"""Rows in are rows out, whatever stands in the table, the json or the tar."""

import csv
import gzip
import io
import json
import os
import tarfile
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from commoncanvas.catalog.columns import LOCATED, STATED
from commoncanvas.catalog.originals import with_originals
from commoncanvas.catalog.sources import folder as folders
from commoncanvas.catalog.sources import webdataset
from commoncanvas.catalog.sources.folder import day_of, read_folder
from commoncanvas.core.errors import LicenseError, SourceError
from commoncanvas.core.text import nfc
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
    used = [row["key"] for row in rows if not row["reason"]]
    assert len(set(used)) == len(used)
    for row in rows:
        "".join(row.values()).encode()
        assert row["reason"] or (folder / row["path"]).is_file()
        assert row["reason"] or row["key"] == f"toys/{nfc(row['path'])}"
    return rows


def test_a_row_says_what_the_table_says(pictures):
    table = (
        "FILE, Title ,author,author_url,pageurl,license,license_url,caption,date_seen\n"
        f"in/a.png,{SCRIPT},Ann,https://a.example,https://p.example,CC BY 4.0,,"
        '"One,\ntwo ""three""",2024-02-29\n'
    )
    (row,) = pictures(table, "in/a.png")
    assert row["reason"] == "" and row["path"] == "in/a.png" and row["source"] == "toys"
    assert row["title"] == SCRIPT and row["caption"] == 'One,\ntwo "three"'
    assert row["captioner"] == "unnamed" and row["alt_text"] == ""
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


def test_a_work_without_a_date_was_seen_on_the_day_of_its_file(pictures, tmp_path):
    pictures("file\n", "a.png", "b.png")
    for name in "ab":
        os.utime(tmp_path / "toys" / f"{name}.png", (0, 1_700_000_000))
    a, b = pictures("file,date_seen\na.png,\nb.png,2020-02-29\n")
    assert [a["date_seen"], b["date_seen"]] == ["2023-11-14", "2020-02-29"]


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e18])
def test_a_file_s_time_that_says_nothing_is_no_day(seconds):
    assert day_of(seconds) == ""


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("in/cafe\u0301.jpg", "in/caf\xe9.jpg"),
        ("in/caf\xe9.jpg", "in/cafe\u0301.jpg"),
        ("in\\plain.JPG", "in/plain.JPG"),
        (".\\in\\cafe\u0301.jpg", "in/caf\xe9.jpg"),
        ("a\\b.jpg", "a\\b.jpg"),
    ],
)
def test_a_file_is_found_by_its_name_in_another_form(pictures, file, found):
    (row,) = pictures(f"file\n{file}\n", found)
    assert row["reason"] == "" and row["path"] == found
    assert row["key"] == "toys/" + nfc(found)


def test_a_name_in_another_form_leads_to_no_file_outside(pictures, tmp_path):
    (tmp_path / "out.png").write_bytes(b"picture")
    (tmp_path / "toys").mkdir()
    (tmp_path / "toys" / "cafe\u0301.png").symlink_to("../out.png")
    rows = pictures("file\ncaf\xe9.png\n..\\out.png\n")
    assert "outside" in rows[0]["reason"] and "missing" in rows[1]["reason"]
    assert all(row["path"] == "" for row in rows[:2])


def test_two_files_whose_names_differ_in_their_form_alone_are_told_apart(pictures):
    names = ["caf\xe9e\u0301.png", "cafe\u0301\xe9.png"]
    rows = pictures(f"file\n{names[0]}\n{nfc(names[0])}\n", *names)
    reasons = [row["reason"] for row in rows]
    assert reasons[0] == "" and "names 2 files" in reasons[1]
    assert "no row in the table" in reasons[2] and len(rows) == 3


def test_a_file_that_is_too_large_is_a_row_with_its_reason(pictures, monkeypatch):
    monkeypatch.setattr(folders, "MAX_BYTES", 6)
    (row,) = pictures("file\na.png\n", "a.png")
    assert "larger than" in row["reason"]


def test_a_table_that_is_too_large_is_named_in_one_line(pictures, monkeypatch):
    monkeypatch.setattr(folders, "MAX_TABLE_BYTES", 10)
    with pytest.raises(SourceError, match="'table.csv' has 11 bytes.*split") as error:
        pictures("file\na.png\n")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["", "none/works.csv", "a\0b.csv", "/dev/zero"])
def test_a_table_that_cannot_be_opened_is_named_in_one_line(tmp_path, name):
    with pytest.raises(SourceError, match="cannot be read.*csv file"):
        read_folder((tmp_path / name).parent, tmp_path / name)


def test_a_picture_with_two_rows_is_used_by_neither(pictures):
    rows = pictures("file,license\na.png,CC0\n./a.png,CC BY 4.0\n", "a.png")
    assert ["more than once" in row["reason"] for row in rows] == [True, True]


def test_two_licences_for_one_picture_are_refused_by_the_reader(pictures):
    table = "file,license,license_text\na.png,CC0,CC BY 4.0\nb.png,CC0,CC0\n"
    a, b = pictures(table, "a.png", "b.png")
    with pytest.raises(LicenseError):
        read_license(a["license_text"], a["license_url"])
    assert read_license(b["license_text"], b["license_url"]).slug == "cc0"


def test_two_columns_of_one_name_that_differ_cost_the_row(pictures):
    table = "file,author,Author\na.png,Ada,Ben\nb.png,Ada,Ada\nc.png,,Cem\n"
    a, b, c = pictures(table, "a.png", "b.png", "c.png")
    assert a["reason"] == "author stands there twice and differs"
    assert (b["reason"], b["author"]) == ("", "Ada")
    assert (c["reason"], c["author"]) == ("", "Cem")


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
    assert all(set(row) == {*STATED, *LOCATED} for row in rows)
    assert all(bool(row["reason"]) is (row["start"] == -1) for row in rows)
    return rows


def picture_of(row):
    (found,) = with_originals([row])
    return found["picture"]


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
    assert a["key"] == "webdataset/0.tar/0" and picture_of(a) == b"p"
    assert a["title"] == SCRIPT and a["author"] == "Ann" and a["caption"] == "A dog"
    assert a["pageurl"] == "http://p.example"
    assert a["downloadurl"] == "http://d.example"
    assert read_license(a["license_text"], a["license_url"]).slug == "by"
    assert b["key"] == "webdataset/0.tar/in/1" and b["caption"] == "A cat"
    assert a["alt_text"] == b["alt_text"] == "" and b["captioner"] == "unnamed"
    assert b["license_text"] == "CC0" and b["downloadurl"] == "http://u.example"


@pytest.mark.parametrize(
    ("said", "captioner", "alt_text", "caption", "whose"),
    [
        ({"caption": "A cat"}, "", "", "A cat", "unnamed"),
        ({"caption": "A cat"}, "florence-2", "", "A cat", "florence-2"),
        ({"caption": "A cat", "captioner": "human"}, "blip-2", "", "A cat", "human"),
        ({"caption": "A cat"}, "author", "A cat", "", ""),
        ({"caption": "A cat", "alt_text": "Tom"}, "author", "Tom", "", ""),
        ({"alt_text": "Tom"}, "florence-2", "Tom", "", ""),
        ({"captioner": "human"}, "", "", "", ""),
    ],
)
def test_a_caption_is_its_author_s_only_where_that_is_said(
    tmp_path, said, captioner, alt_text, caption, whose
):
    """A tar's captions, written by machines, used to be read as alt text."""
    sample = [("0.jpg", b"p"), ("0.json", json_bytes(license="CC0", **said))]
    tar = tar_of(tmp_path / "0.tar", sample)
    (row,) = webdataset.read_webdataset([tar], captioner=captioner)
    found = row["alt_text"], row["caption"], row["captioner"]
    assert found == (alt_text, caption, whose)
    (tmp_path / "0.jpg").write_bytes(b"p")
    table = tmp_path / "works.csv"
    with table.open("w") as file:
        cells = {"file": "0.jpg", "license": "CC0", **said}
        writer = csv.DictWriter(file, cells)
        writer.writeheader()
        writer.writerow(cells)
    (row,) = read_folder(tmp_path, table, captioner=captioner)
    assert (row["alt_text"], row["caption"], row["captioner"]) == found


def test_a_picture_that_came_to_flickr_after_its_names_changed_has_no_sure_licence(
    pictures,
):
    table = (
        "file,license,dateuploaded\na.png,Attribution License,1750204800\n"
        "b.png,Attribution License,1750118400\nc.png,4,2025-06-18\n"
    )
    late, early, number = pictures(table, "a.png", "b.png", "c.png")
    assert "one licence and version" in late["reason"]
    assert early["reason"] == number["reason"] == ""


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
    assert ["read further" in row["reason"] for row in rows] == [True, True]


@pytest.mark.parametrize("members", [[], [("README", b"x")]])
def test_a_tar_without_samples_is_a_row_that_says_so(tmp_path, members):
    rows = tar_rows(
        tar_of(tmp_path / "0.tar", members), tar_of(tmp_path / "1.tar", GOOD)
    )
    assert [row["reason"] for row in rows] == [webdataset.EMPTY, ""]
    assert tar_rows() == []


@pytest.mark.parametrize(
    ("members", "keys"),
    [
        (["22.05.jpg", "22.05.json", "22.06.jpg", "22.06.json"], ["22.05", "22.06"]),
        (["mr. brown.JPG", "mr. brown.json", "mr. brown.txt"], ["mr. brown"]),
        (["in.1/a.b.c.png", "in.1/a.b.d.png"], ["in.1/a.b.c", "in.1/a.b.d"]),
        (["1.a.png", "1.a.png"], ["1.a", "1.a"]),
    ],
)
def test_a_name_with_dots_is_refused_by_that_reason(tmp_path, members, keys):
    rows = tar_rows(tar_of(tmp_path / "0.tar", [(name, b"{}") for name in members]))
    assert [row["key"] for row in rows] == [f"webdataset/0.tar/{key}" for key in keys]
    assert {row["reason"] for row in rows} == {webdataset.DOTS}


def test_a_mask_beside_a_picture_is_no_picture_and_a_second_sample_is_one(tmp_path):
    members = [*GOOD, ("0.seg.png", b"q"), ("0.b.png", b"q"), ("0.b.json", b"{}")]
    rows = tar_rows(tar_of(tmp_path / "0.tar", members))
    assert [row["reason"] for row in rows] == ["", webdataset.DOTS]
    assert picture_of(rows[0]) == b"p" and rows[1]["key"] == "webdataset/0.tar/0.b"


def test_names_of_a_sample_compare_nfc(tmp_path):
    members = [("caf\xe9.jpg", b"p"), ("cafe\u0301.json", b'{"license": "CC0"}')]
    (row,) = tar_rows(tar_of(tmp_path / "0.tar", members))
    assert row["reason"] == "" and row["key"] == "webdataset/0.tar/caf\xe9"


@pytest.mark.parametrize(
    ("said", "member", "tar", "day"),
    [
        ({}, 1_700_000_000, 1_600_000_000, "2023-11-14"),
        ({}, 0, 1_600_000_000, "2020-09-13"),
        ({"date_seen": "2001-01-01"}, 1_700_000_000, 0, "2001-01-01"),
        ({"date_seen": None}, 0, 0, ""),
    ],
)
def test_a_sample_without_a_date_has_that_of_its_picture_or_tar(
    tmp_path, said, member, tar, day
):
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        for name, data in (("0.jpg", b"p"), ("0.json", json_bytes(**said))):
            header = tarfile.TarInfo(name)
            header.size, header.mtime = len(data), member
            archive.addfile(header, io.BytesIO(data))
    os.utime(tmp_path / "0.tar", (tar, tar))
    assert tar_rows(tmp_path / "0.tar")[0]["date_seen"] == day


def test_nan_says_nothing(tmp_path):
    members = [("0.jpg", b"p"), ("0.json", b'{"author": NaN, "title": 1.5}')]
    (row,) = tar_rows(tar_of(tmp_path / "0.tar", members))
    assert row["author"] == "" and row["title"] == "1.5"


@pytest.mark.parametrize("num", [3, pytest.param(300, marks=pytest.mark.slow)])
def test_a_sample_is_read_up_to_a_limit(tmp_path, monkeypatch, num):
    monkeypatch.setattr(webdataset, "MAX_BYTES", 2**20)
    members = [("0.jpg", bytes(2**19))] * num + GOOD
    tar = tar_of(tmp_path / "0.tar.gz", members, "w:gz")
    tracemalloc.start()
    (row,) = tar_rows(tar)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert row["reason"] == "sample is larger than 1 MiB" and peak_bytes < 6e7


def test_a_header_that_asks_for_gigabytes_ends_its_tar(tmp_path):
    with tarfile.open(tmp_path / "0.tar.gz", "w:gz", format=tarfile.GNU_FORMAT) as tar:
        header = tarfile.TarInfo("x" * 20_000_000 + ".jpg")
        tar.addfile(header)
    tracemalloc.start()
    (row,) = tar_rows(tmp_path / "0.tar.gz")
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "read further" in row["reason"] and peak_bytes < 6e6


@given(st.lists(JSON | st.binary(max_size=9), max_size=4))
@settings(max_examples=80, deadline=None)
def test_any_json_gives_one_row_a_sample(tmp_path_factory, values):
    members = []
    for i, value in enumerate(values):
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        members += [(f"v{i}.jpg", b"p"), (f"v{i}.json", data)]
    rows = tar_rows(tar_of(tmp_path_factory.mktemp("tar") / "0.tar", [*GOOD, *members]))
    rows = rows[1:]
    assert len(rows) == len(values)
    for row, value in zip(rows, values, strict=True):
        assert row["reason"] or isinstance(value, dict | bytes)
        "".join(text for text in row.values() if isinstance(text, str)).encode()


def test_a_quotation_mark_that_is_never_closed_costs_its_own_line(pictures):
    table = 'file,title\na.png,"open\nb.png,B\nc.png,C\n'
    rows = {row["path"]: row["reason"] for row in pictures(table, "b.png", "c.png")}
    assert rows["b.png"] == rows["c.png"] == ""
    assert "line 2: unexpected end" in " ".join(rows.values())


def test_a_day_is_written_one_way(pictures):
    (row,) = pictures("file,date_seen\na.png,2024-W01-1\n", "a.png")
    assert "date_seen is '2024-W01-1'" in row["reason"]


def test_what_is_left_out_of_a_tar_is_not_unpacked_without_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset, "MAX_UNPACKED", 2**20)
    tar = tar_of(tmp_path / "0.tar.bz2", [("a.bin", bytes(2**24)), *GOOD], "w:bz2")
    (row,) = tar_rows(tar)
    assert row["reason"] == "tar cannot be read further (ReadError)"


def test_a_hidden_picture_of_a_tar_is_a_row(tmp_path):
    members = [("x/.a.jpg", b"p"), ("x/.a.json", b"{}"), *GOOD]
    rows = tar_rows(tar_of(tmp_path / "0.tar", members))
    assert [row["reason"] for row in rows] == [webdataset.HIDDEN, ""]


def test_a_pipe_is_no_tar(tmp_path):
    os.mkfifo(tmp_path / "0.tar")
    (row,) = tar_rows(tmp_path / "0.tar")
    assert row["reason"] == "tar cannot be read further (OSError)"
