"""Every line and row of YFCC100M and CommonCatalog is a row, or a row and a reason."""

import bz2
import datetime as dt
import importlib
import sqlite3
from urllib.parse import quote_plus, unquote_plus

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from commoncanvas.catalog import streams
from commoncanvas.catalog.columns import STATED
from commoncanvas.catalog.sources import yfcc
from commoncanvas.core import paths
from commoncanvas.core.errors import SourceError

WORK = {
    "photoid": "42",
    "uid": "7@N00",
    "unickname": "A+%26+B",
    "datetaken": "2011-09-10 21:13:32.0",
    "dateuploaded": "1316432672",
    "capturedevice": "Nokia+N950",
    "title": "caf%C3%A9",
    "description": "one%0Atwo%2C+three",
    "usertags": "black+and+white,b%26w,a%2Cb",
    "machinetags": "",
    "longitude": "-122.5",
    "latitude": "47.25",
    "accuracy": "15",
    "pageurl": "http://www.flickr.com/photos/7@N00/42/",
    "downloadurl": "http://farm1.staticflickr.com/8/42_0f.jpg",
    "licensename": "Attribution License",
    "licenseurl": "http://creativecommons.org/licenses/by/2.0/",
    "serverid": "8",
    "farmid": "1",
    "secret": "0f",
    "secretoriginal": "0a",
    "ext": "jpg",
    "marker": "0",
}
SAMPLES = paths.ROOT.parent / "shared" / "data"


def line(num_columns=23, **fields):
    cells = list((WORK | fields).values())
    if num_columns == 25:
        cells = ["6639", cells[0], "4ccb23", *cells[1:]]
    return "\t".join(cells).encode() + b"\n"


def rows_of(relation):
    names = relation.columns
    return [dict(zip(names, row, strict=True)) for row in relation.fetchall()]


def read(path, data):
    path.write_bytes(data)
    return rows_of(yfcc.read_tsv(duckdb.connect(), path))


@pytest.fixture
def tsv(tmp_path):
    return tmp_path / "part.tsv"


@pytest.mark.parametrize("num_columns", [23, 25])
def test_a_line_of_either_form_gives_the_same_row(tsv, num_columns):
    (row,) = read(tsv, line(num_columns))
    assert set(STATED) <= set(row)
    assert row["key"] == "yfcc100m/42" and row["source"] == "yfcc100m"
    assert row["title"] == "café" and row["author"] == "A & B"
    assert row["author_url"] == "https://www.flickr.com/people/7@N00/"
    assert row["alt_text"] == "one\ntwo, three"
    assert row["usertags"] == ["black and white", "b&w", "a,b"]
    assert (row["longitude"], row["latitude"]) == (-122.5, 47.25)
    assert row["license_text"] == WORK["licensename"]
    assert row["license_url"] == WORK["licenseurl"]
    assert row["datetaken"] == dt.datetime(2011, 9, 10, 21, 13, 32)
    assert row["date_seen"] == "2011-09-19" and row["dateuploaded"] == 1316432672
    assert row["marker"] == "photo" and row["photoid"] == 42 and row["reason"] == ""


@pytest.mark.parametrize("num_columns", [23, 25])
def test_real_rows_are_read_without_a_reason(num_columns):
    path = SAMPLES / f"yfcc100m_{num_columns}col_sample.tsv"
    if not path.exists():
        pytest.skip("the sample of real rows is not on this machine")
    rows = rows_of(yfcc.read_tsv(duckdb.connect(), path))
    assert len(rows) == len(path.read_bytes().splitlines())
    assert {row["reason"] for row in rows} == {""}
    assert all(row["pageurl"].endswith(f"/{row['photoid']}/") for row in rows)
    assert all(row["license_url"].endswith("/2.0/") for row in rows)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        (
            'Recipe here: <a href="http://a.example/b" rel="nofollow">a.example/b</a>\n'
            "<b>Red</b> barn &quot;at dusk&quot; &lt; 3",
            'Recipe here: a.example/b Red barn "at dusk" < 3',
        ),
        ("AT&T tower, 3 < 4", "AT&T tower, 3 < 4"),
        ("Tom &amp; Anna&#39;s\nbarn", "Tom & Anna's barn"),
        ("one\ntwo & three", "one\ntwo & three"),
        ("a<br/>b<!-- c -->", "a b"),
    ],
)
def test_html_becomes_plain_text(tsv, html, text):
    said = quote_plus(html)
    (row,) = read(tsv, line(title=said, unickname=said, description=said))
    assert [row["title"], row["author"], row["alt_text"]] == [text] * 3


def test_rows_without_html_and_columns_unasked_for_cost_no_call(tsv, monkeypatch):
    calls = []
    real = yfcc.html_to_text
    monkeypatch.setattr(
        yfcc, "html_to_text", lambda text: calls.append(text) or real(text)
    )
    data = [line(photoid=str(i), title="a+%26+b") for i in range(50)]
    tsv.write_bytes(b"".join([*data, line(title="a%26lt%3Bb")]))
    connection = duckdb.connect()
    yfcc.read_tsv(connection, tsv).select("key, license_text").fetchall()
    assert calls == []
    titles = yfcc.read_tsv(connection, tsv).select("title").fetchall()
    assert set(calls) == {"a&lt;b"} and ("a<b",) in titles


@pytest.mark.parametrize("name", ["longitude", "latitude", "accuracy", "serverid"])
@pytest.mark.parametrize("value", ["999999999999", "-999", "inf", "nan", "x", ""])
def test_numbers_that_cannot_be_are_left_out(tsv, name, value):
    (row,) = read(tsv, line(**{name: value}))
    assert row[name] is None and row["reason"] == ""


@pytest.mark.parametrize(
    ("taken", "uploaded"),
    [("null", "1316432672"), ("4501-01-01 00:00:00.0", "1383473251"), ("x", "null")],
)
def test_dates_that_cannot_be_true_are_left_out(tsv, taken, uploaded):
    (row,) = read(tsv, line(datetaken=taken, dateuploaded=uploaded))
    assert row["datetaken"] is None and row["reason"] == ""
    assert bool(row["date_seen"]) is uploaded.isdigit()


@pytest.mark.slow
@given(st.text("%+24aCcfFz\u00e9-"))
@settings(max_examples=100, deadline=None)
def test_text_is_decoded_as_the_standard_library_decodes_it(tmp_path_factory, text):
    (row,) = read(tmp_path_factory.mktemp("t") / "a.tsv", line(title=text))
    try:
        assert row["title"] == unquote_plus(text, errors="strict")
    except UnicodeDecodeError:
        assert row["title"] == text


@given(st.text(st.characters(codec="utf-8", exclude_characters="<&"), max_size=20))
@settings(max_examples=30, deadline=None)
def test_what_was_encoded_comes_back(tmp_path_factory, text):
    fields = {"title": quote_plus(text), "usertags": quote_plus(text)}
    (row,) = read(tmp_path_factory.mktemp("t") / "a.tsv", line(**fields))
    assert row["title"] == text
    assert row["usertags"] == ([text] if text else [])


@pytest.mark.parametrize("text", ["%FF", "a+%C3", "%E4%F6+x"])
def test_escapes_that_are_not_utf_8_are_kept_as_written(tsv, text):
    assert read(tsv, line(title=text))[0]["title"] == text


@pytest.mark.parametrize("text", ["100%", "%zz", "%4", "%u0041"])
def test_a_percent_sign_that_escapes_nothing_stays(tsv, text):
    assert read(tsv, line(title=text))[0]["title"] == text


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        (line(title="a\tb"), "24 fields, expected 23"),
        (b"\n", "1 fields"),
        (line(title="a\0b"), "NUL"),
        (line().replace(b"Nokia", b"\xff\xfe"), "UTF-8"),
        (line(photoid="4x"), "photo id"),
        (line(photoid="4.6"), "photo id"),
        (line(photoid="1e5"), "photo id"),
        (line(photoid=""), "photo id"),
        (line(photoid="9", marker="2"), "marker"),
        (line(photoid="9", marker="1"), "a video, not a picture"),
    ],
)
def test_a_bad_line_is_a_row_with_its_reason(tsv, bad, word):
    rows = read(tsv, line() + bad + line(photoid="43"))
    assert len(rows) == 3
    (row,) = [row for row in rows if row["reason"]]
    assert word in row["reason"]
    assert len({row["key"] for row in rows}) == 3


def test_quotes_are_plain_and_line_ends_may_be_of_windows(tsv):
    rows = read(tsv, line(title='"a').replace(b"\n", b"\r\n") + line()[:-1])
    assert [row["reason"] for row in rows] == ["", ""]
    assert {row["title"] for row in rows} == {'"a', "café"}


def test_a_malformed_line_is_named_by_file_and_number(tsv):
    rows = read(tsv, line() + b"odd\n")
    assert "yfcc100m/part.tsv:2" in {row["key"] for row in rows}


@pytest.mark.slow
@given(st.lists(st.binary(max_size=40)), st.booleans())
@settings(max_examples=60, deadline=None)
def test_whatever_the_bytes_every_line_is_a_row(tmp_path_factory, lines, is_ended):
    data = b"\n".join([line()[:-1], *lines]) + b"\n" * is_ended
    expected = len(data.split(b"\n")) - data.endswith(b"\n")
    rows = read(tmp_path_factory.mktemp("t") / "a.tsv", data)
    assert len(rows) == expected
    assert all(row["key"] and row["reason"] is not None for row in rows)


@pytest.mark.parametrize("num_streams", [1, 3])
def test_packed_files_of_one_or_many_streams_give_every_line(tmp_path, num_streams):
    path = tmp_path / "a.tsv.bz2"
    data = b"".join(line(photoid=str(i)) for i in range(3000))
    size = len(data) // num_streams + 1
    parts = [data[i : i + size] for i in range(0, len(data), size)]
    path.write_bytes(b"".join(map(bz2.compress, parts)))
    relation = yfcc.read_tsv(duckdb.connect(), path)
    for _ in range(2):  # a relation can be read again
        ids = relation.select("photoid").fetchall()
        assert sorted(ids) == [(i,) for i in range(3000)]


@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_lines_do_not_depend_on_where_blocks_are_cut(tmp_path, size):
    path = tmp_path / "a.txt"
    data = b"one\n\ntwo two\n" + b"x" * 300 + b"\nlast"
    path.write_bytes(data)
    rows = duckdb.connect().from_arrow(streams.read_lines(path, size)).fetchall()
    assert sorted(rows) == [
        (i + 1, True, text.decode() + "\n") for i, text in enumerate(data.split(b"\n"))
    ]


def test_a_line_without_end_is_refused_before_it_fills_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "LONGEST", 100)
    path = tmp_path / "a.tsv"
    path.write_bytes(b"x" * 1000)
    with pytest.raises(duckdb.Error, match="line 1 has no end"):
        duckdb.connect().from_arrow(streams.read_lines(path, 50)).fetchall()


def test_a_reading_may_stop_early(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(line() * 50_000)
    relation = yfcc.read_tsv(duckdb.connect(), path).select("key")
    assert relation.limit(1).fetchall() == [("yfcc100m/42",)]
    assert relation.count("*").fetchall() == [(50_000,)]


def test_several_files_of_both_forms_are_read_together(tmp_path):
    paths = [tmp_path / "a.tsv", tmp_path / "b.tsv.bz2"]
    paths[0].write_bytes(line(23))
    paths[1].write_bytes(bz2.compress(line(25, photoid="43")))
    rows = rows_of(yfcc.read_tsv(duckdb.connect(), paths))
    assert {row["photoid"] for row in rows} == {42, 43}
    assert {row["reason"] for row in rows} == {""}


def test_a_cut_packed_file_is_an_error_and_not_fewer_rows(tmp_path):
    path = tmp_path / "a.tsv.bz2"
    text = "".join(f"{i * 7919 % 100_003}" for i in range(200_000))
    packed = bz2.compress(line(title=text) * 3)
    path.write_bytes(packed[: len(packed) - 100])
    with pytest.raises((duckdb.Error, SourceError)):
        yfcc.read_tsv(duckdb.connect(), path).fetchall()


@pytest.mark.parametrize("name", ["missing.tsv", "text.bz2"])
def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path, name):
    (tmp_path / "text.bz2").write_bytes(line())
    with pytest.raises(SourceError, match=f"{name}.*fetch it again") as error:
        yfcc.read_tsv(duckdb.connect(), tmp_path / name).fetchall()
    assert "\n" not in str(error.value)


def write_sqlite(path, rows, columns=yfcc.COLUMNS, table="yfcc100m_dataset"):
    whole = ("photoid", "accuracy", "serverid", "farmid", "marker")
    types = ["integer" if name in whole else "text" for name in columns]
    fields = ", ".join(f"{n} {t}" for n, t in zip(columns, types, strict=True))
    file = sqlite3.connect(path)
    file.execute(f"CREATE TABLE {table} ({fields})")
    marks = ", ".join("?" * len(columns))
    values = [[row[name] for name in columns] for row in rows]
    file.executemany(f"INSERT INTO {table} VALUES ({marks})", values)
    file.commit()
    file.close()
    return path


def test_sqlite_gives_what_the_lines_give(tmp_path, tsv):
    works = [WORK | {"photoid": str(i), "marker": str(i % 2)} for i in range(9)]
    path = write_sqlite(tmp_path / "yfcc 100%.sql", works)
    found = rows_of(yfcc.read_sqlite(duckdb.connect(), path).order("key"))
    lines = b"".join(line(**work) for work in works)
    assert found == sorted(read(tsv, lines), key=lambda row: row["key"])


def test_bytes_in_sqlite_that_are_not_utf_8_are_replaced(tmp_path):
    path = write_sqlite(tmp_path / "a.sql", [WORK | {"title": b"a\xffb"}])
    (row,) = rows_of(yfcc.read_sqlite(duckdb.connect(), path))
    assert row["title"] == "a\ufffdb"


def test_a_table_that_is_not_yfcc_s_is_named_in_one_line(tmp_path):
    write_sqlite(tmp_path / "a.sql", [WORK], table="other")
    write_sqlite(tmp_path / "b.sql", [WORK], columns=yfcc.COLUMNS[:-1])
    (tmp_path / "c.sql").write_bytes(b"no database at all" * 100)
    for name in ("a.sql", "b.sql", "c.sql", "missing.sql"):
        with pytest.raises(SourceError, match=f"{name}.*23|{name}.*photoid") as error:
            yfcc.read_sqlite(duckdb.connect(), tmp_path / name)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "missing.sql").exists()


CATALOG = {
    **{name: value for name, value in WORK.items() if name != "marker"},
    **{"photoid": 42, "dateuploaded": 1316432672, "accuracy": 15, "serverid": 8},
    **{"farmid": 1, "longitude": -122.5, "latitude": 47.25},
    **{"datetaken": dt.datetime(2011, 9, 10, 21, 13, 32), "description": "old+text"},
    **{"jpg": {"bytes": b"\xff\xd8", "path": None}, "blip2_caption": "a pipe"},
    **{"caption": "", "width": 300, "height": 400, "original_width": 600},
    **{"original_height": 800, "url": "u", "key": "000001", "status": "success"},
    **{"error_message": "", "exif": "{}", "sha256": "ab"},
}


def catalog_table(**fields):
    row = CATALOG | fields
    return pa.table({name: [row[name]] for name in yfcc.CATALOG_COLUMNS})


@pytest.fixture
def catalog(tmp_path):
    for i, side in enumerate(["256-512", "512-768", "512-768"]):
        folder = (
            tmp_path / str(i) / f"least_dim_range={side}" / "aspect_ratio_bucket=1-1"
        )
        folder.mkdir(parents=True)
        jpg = CATALOG["jpg"] if i else b"\xff\xd8"
        table = catalog_table(photoid=i, caption="said by+all" if i == 2 else "")
        if not i:
            table = catalog_table(photoid=i, jpg=jpg)
        pq.write_table(table, folder / "part-0.parquet")
    return tmp_path


def test_the_catalogue_s_files_have_the_thirty_five_columns():
    assert len(set(yfcc.CATALOG_COLUMNS)) == 35
    assert set(yfcc.CATALOG_COLUMNS) == set(CATALOG)


def test_the_catalogue_is_read_without_its_pictures(catalog):
    rows = rows_of(
        yfcc.read_commoncatalog(duckdb.connect(), catalog, ["512-768"]).order("key")
    )
    assert [row["key"] for row in rows] == ["commoncatalog/1", "commoncatalog/2"]
    assert [row["alt_text"] for row in rows] == ["old text", "said by+all"]
    assert rows[0]["blip2_caption"] == "a pipe" and rows[0]["width"] == 300
    assert rows[0]["marker"] == "photo" and rows[0]["reason"] == ""
    assert set(STATED) <= set(rows[0]) and "jpg" not in rows[0]


def test_names_with_brackets_are_files_and_no_patterns(catalog, tmp_path):
    at = "0/least_dim_range=256-512/x"
    for name, photoid in (("cc1", 7), ("cc[1]", 8)):
        (tmp_path / name / at).mkdir(parents=True)
        pq.write_table(
            catalog_table(photoid=photoid), tmp_path / name / at / "p.parquet"
        )
    own = tmp_path / "cc[1]"
    (row,) = rows_of(yfcc.read_commoncatalog(duckdb.connect(), own))
    assert row["key"] == "commoncatalog/8"
    for name, photoid in (("p1.parquet", 7), ("p[1].parquet", 8)):
        table = catalog_table(photoid=photoid).append_column("marker", [["0"]])
        pq.write_table(table, own / name)
    (row,) = rows_of(yfcc.read_parquet(duckdb.connect(), own / "p[1].parquet"))
    assert row["key"] == "yfcc100m/8"


@pytest.mark.parametrize("side", ["256-512", "512-768"])
def test_pictures_come_when_asked_for_as_structs_or_bytes(catalog, side):
    columns = ["key", "jpg"]
    rows = yfcc.read_commoncatalog(duckdb.connect(), catalog, [side], columns)
    assert rows.columns == columns
    assert {row[1] for row in rows.fetchall()} == {b"\xff\xd8"}


def test_blip_2_s_captions_are_its_own_and_the_author_s_words_stay_alt_text(catalog):
    (path,) = (catalog / "0").rglob("*.parquet")
    told = {"blip2_caption": "a red car", "caption": "", "description": "My+car"}
    pq.write_table(catalog_table(**told), path)
    (row,) = rows_of(yfcc.read_commoncatalog(duckdb.connect(), catalog, ["256-512"]))
    assert (row["caption"], row["captioner"]) == ("a red car", "blip-2")
    assert row["alt_text"] == "My car" and row["blip2_caption"] == "a red car"
    pq.write_table(catalog_table(blip2_caption=None), path)
    (row,) = rows_of(yfcc.read_commoncatalog(duckdb.connect(), catalog, ["256-512"]))
    assert (row["caption"], row["captioner"]) == ("", "")


def test_a_scrape_that_failed_is_a_row_with_its_reason(catalog):
    (path,) = (catalog / "0").rglob("*.parquet")
    pq.write_table(catalog_table(status="failed", error_message="404"), path)
    rows = rows_of(yfcc.read_commoncatalog(duckdb.connect(), catalog, ["256-512"]))
    assert [row["reason"] for row in rows] == ["the scrape failed: 404"]


def test_a_remote_file_system_is_read_through_the_same_code(catalog):
    memory = fsspec.filesystem("memory")
    memory.put(str(catalog), "/catalog", recursive=True)
    rows = yfcc.read_commoncatalog(duckdb.connect(), "memory://catalog", ["512-768"])
    memory_rows = rows.order("key").fetchall()
    local = yfcc.read_commoncatalog(duckdb.connect(), catalog, ["512-768"])
    assert memory_rows == local.order("key").fetchall()


def test_the_hub_s_addresses_are_read_by_the_file_system_of_that_name(
    catalog, monkeypatch
):
    class Hub(MemoryFileSystem):
        """A stand-in that answers to the Hub's addresses."""

        protocol = "hf"

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(path.replace("hf://", "memory://"))

        def unstrip_protocol(self, name):
            return "hf:/" + self._strip_protocol(name)

    registry = importlib.import_module("fsspec.registry")
    monkeypatch.setitem(registry._registry, "hf", Hub)
    root = f"datasets/common-canvas/commoncatalog-cc-by@{'0a' * 20}"
    Hub().put(str(catalog), f"/{root}", recursive=True)
    rows = rows_of(
        yfcc.read_commoncatalog(duckdb.connect(), f"hf://{root}", ["512-768"])
    )
    local = rows_of(yfcc.read_commoncatalog(duckdb.connect(), catalog, ["512-768"]))
    named = [row | {"source": "commoncatalog/cc-by"} for row in local]
    assert sorted(map(str, rows)) == sorted(map(str, named))


@pytest.mark.parametrize("revision", ["", "@main", "@" + "a" * 39, "@" + "g" * 40])
def test_an_address_on_the_hub_must_name_a_commit(revision):
    root = f"hf://datasets/common-canvas/commoncatalog-cc-by{revision}"
    with pytest.raises(SourceError, match="commit hash of 40 digits") as error:
        yfcc.read_commoncatalog(duckdb.connect(), root)
    assert "\n" not in str(error.value)


def test_what_the_catalogue_lacks_is_named(catalog, tmp_path):
    connection = duckdb.connect()
    with pytest.raises(SourceError, match="least_dim_range=4096"):
        yfcc.read_commoncatalog(connection, catalog, ["4096+"])
    with pytest.raises(SourceError, match="no column nothing"):
        yfcc.read_commoncatalog(connection, catalog, columns=["key", "nothing"])
    (path,) = (catalog / "0").rglob("*.parquet")
    pq.write_table(catalog_table().drop_columns(["sha256"]), path)
    with pytest.raises(SourceError, match="lacks sha256"):
        yfcc.read_commoncatalog(connection, catalog, ["256-512"])


def test_parquet_of_yfcc_s_columns_gives_what_the_lines_give(tmp_path, tsv):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({name: [value] for name, value in WORK.items()}), path)
    rows = rows_of(yfcc.read_parquet(duckdb.connect(), path))
    assert rows == read(tsv, line())


def parquet_of(path, **columns):
    table = {name: [value] for name, value in WORK.items()} | columns
    pq.write_table(pa.table(table), path)
    return path


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"title": pa.array([7])}, "column title is BIGINT, expected text"),
        ({"title": pa.array([["a"]])}, r"column title is VARCHAR\[\], expected text"),
        ({"licenseurl": pa.array([b"x"])}, "column licenseurl is BLOB, expected text"),
        ({"photoid": pa.array([{"a": 1}])}, "column photoid is STRUCT.*numbers"),
        (
            {"latitude": pa.array([True])},
            "column latitude is BOOLEAN, expected numbers",
        ),
        ({"datetaken": pa.array([1.5])}, "column datetaken is DOUBLE, expected a date"),
        ({"uid": pa.array([dt.date(2020, 1, 1)])}, "column uid is DATE, expected text"),
    ],
)
def test_a_column_of_another_kind_is_named_in_one_line(tmp_path, column, message):
    path = parquet_of(tmp_path / "a.parquet", **column)
    with pytest.raises(SourceError, match=f"a.parquet: {message}") as error:
        yfcc.read_parquet(duckdb.connect(), path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (pa.array([42], "int32"), 42),
        (pa.array([42], "uint64"), 42),
        (pa.array([6985418911.0]), 6985418911),
        (pa.array([4.6]), None),
        (pa.array([float("nan")]), None),
        (pa.array([-3]), None),
        (pa.array([2**63], "uint64"), None),
        (pa.nulls(1), None),
    ],
)
def test_a_photo_s_id_of_any_number_type_is_a_whole_number(tmp_path, value, found):
    path = parquet_of(tmp_path / "a.parquet", photoid=value, marker=pa.array([0.0]))
    (row,) = rows_of(yfcc.read_parquet(duckdb.connect(), path))
    assert row["photoid"] == found and bool(row["reason"]) is (found is None)


def test_columns_of_nothing_are_empty(tmp_path):
    names = [name for name in yfcc.COLUMNS if name not in ("photoid", "marker")]
    nothing = {name: pa.nulls(1) for name in names}
    path = parquet_of(tmp_path / "a.parquet", **nothing)
    (row,) = rows_of(yfcc.read_parquet(duckdb.connect(), path))
    assert row["reason"] == "" and row["title"] == row["license_url"] == ""
    assert row["latitude"] is None and row["datetaken"] is None


def test_an_empty_file_is_named_also_beside_others(tmp_path):
    connection = duckdb.connect()
    full, empty = tmp_path / "full", tmp_path / "empty"
    full.write_bytes(line())
    empty.write_bytes(b"")
    packed = tmp_path / "empty.bz2"
    packed.write_bytes(bz2.compress(b""))
    for path in (empty, packed):
        with pytest.raises(SourceError, match="empty"):
            yfcc.read_tsv(connection, [full, path])
    parquet_of(full)
    pq.write_table(pa.table({n: pa.array([], "string") for n in WORK}), empty)
    with pytest.raises(SourceError, match="metadata empty is empty") as error:
        yfcc.read_parquet(connection, [full, empty])
    assert "\n" not in str(error.value)
    with pytest.raises(SourceError, match="c.sql.*no rows"):
        yfcc.read_sqlite(connection, write_sqlite(tmp_path / "c.sql", []))


def test_each_range_of_sizes_must_be_there(catalog):
    with pytest.raises(SourceError, match="no .*least_dim_range=4096"):
        yfcc.read_commoncatalog(duckdb.connect(), catalog, ["256-512", "4096+"])
    twice = yfcc.read_commoncatalog(duckdb.connect(), catalog, ["256-512", "256-512"])
    assert len(twice.fetchall()) == 1


@pytest.mark.parametrize("value", [-1, 0, 10**12])
def test_a_picture_s_size_that_cannot_be_is_left_out(catalog, value):
    (path,) = (catalog / "0").rglob("*.parquet")
    pq.write_table(catalog_table(width=value, original_height=value), path)
    (row,) = rows_of(yfcc.read_commoncatalog(duckdb.connect(), catalog, ["256-512"]))
    assert row["width"] is row["original_height"] is None and row["height"] == 400


def test_commoncatalog_s_columns_of_another_kind_are_named(catalog):
    (path,) = (catalog / "0").rglob("*.parquet")
    for name, value in (("jpg", 7), ("caption", 7), ("width", [1])):
        pq.write_table(catalog_table(**{name: value}), path)
        with pytest.raises(SourceError, match=f"column {name} is"):
            yfcc.read_commoncatalog(duckdb.connect(), catalog, ["256-512"])
