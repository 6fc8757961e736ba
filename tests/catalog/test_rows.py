"""Rows are settled whatever stands in them; a table is one line where it is none."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commoncanvas.catalog.downloads import SETTLED, failures, fetch_pictures, read_rows
from commoncanvas.catalog.rows import key_and_address
from commoncanvas.core.errors import ParameterError, SourceError

NOWHERE = "ftp://nowhere/a.jpg"  # refused without a request


@pytest.mark.parametrize(
    "row",
    [{}, {"downloadurl": NOWHERE}, None, 5, "text", [], ("key", NOWHERE)]
    + [{"key": key, "downloadurl": NOWHERE} for key in (None, float("nan"), "", b"k")]
    + [{"key": key, "downloadurl": NOWHERE} for key in ([], {}, True, 2**70, "\udce9")]
    + [{"key": pd.NA, "downloadurl": NOWHERE}, {"key": 1.5, "downloadurl": NOWHERE}],
)
def test_a_row_without_a_usable_key_is_refused_and_listed(tmp_path, row):
    for _ in range(2):  # and listed once, not once a run
        counts = fetch_pictures([row, {"key": "1", "downloadurl": NOWHERE}], tmp_path)
        assert counts["rows"] == counts["refused"] == 2
    table = failures(tmp_path)
    assert len(table) == 2 and table["reason"][0].startswith("no key in ")


@pytest.mark.parametrize(
    "url",
    [None, float("nan"), "", b"http://127.0.0.1/a.jpg", 5, [], {}, True, pd.NA, pd.NaT]
    + ["http://127.0.0.1/\udce9.jpg", "\udc80", "a\0b", "javascript:x", "//host/a.jpg"],
)
def test_a_row_without_a_usable_address_is_refused_under_its_key(tmp_path, url):
    counts = fetch_pictures([{"key": "1", "downloadurl": url}, {"key": "2"}], tmp_path)
    assert counts["rows"] == counts["refused"] == 2
    table = failures(tmp_path)
    assert list(table["key"]) == ["1", "2"]
    assert table["reason"].str.contains("is no http address").all()


def test_whole_numbers_are_keys():
    assert key_and_address({"key": np.int64(5), "downloadurl": "u"}) == (5, "u")
    assert key_and_address(pd.Series({"key": 5, "downloadurl": "u"})) == (5, "u")


def written(folder, **columns):
    path = folder / "c.parquet"
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    "columns",
    [
        {"key": ["1"], "downloadurl": [5]},
        {"key": ["1"], "downloadurl": [["a"]]},
        {"key": ["1"], "downloadurl": [b"a"]},
        {"key": [1.5], "downloadurl": ["a"]},
        {"key": [{"a": 1}], "downloadurl": ["a"]},
        {"key": ["1"], "url": ["a"]},
        {"downloadurl": ["a"]},
        {"key": [True], "downloadurl": ["a"]},
    ],
)
def test_columns_of_something_else_are_named(tmp_path, columns):
    path = written(tmp_path, **columns)
    with pytest.raises(SourceError, match=r"c\.parquet.*expected Parquet with texts"):
        list(read_rows(path))


@pytest.mark.parametrize("damage", ["missing", "empty", "text", "cut", "flipped"])
def test_a_damaged_table_is_named(tmp_path, damage):
    keys = [str(number) for number in range(1000)]
    path = written(tmp_path, key=keys, downloadurl=keys)
    data = bytearray(path.read_bytes())
    if damage == "missing":
        path.unlink()
    elif damage == "flipped":
        data[10:2000] = bytes(1990)
        path.write_bytes(data)
    else:
        path.write_bytes({"empty": b"", "text": b"key\n1", "cut": data[:500]}[damage])
    with pytest.raises(SourceError, match=r"c\.parquet"):
        list(read_rows(path))


def test_tables_hold_texts_in_several_ways(tmp_path):
    texts = pa.array(["1", None, "3"])
    for kind in (
        pa.string(),
        pa.large_string(),
        pa.dictionary(pa.int32(), pa.string()),
    ):
        path = written(tmp_path, key=[1, 2, 3], downloadurl=texts.cast(kind))
        assert [row["downloadurl"] for row in read_rows(path)] == ["1", None, "3"]
    path = written(tmp_path, key=texts, downloadurl=pa.nulls(3))
    assert [row["key"] for row in read_rows(path, 2)] == ["1", None]
    assert list(read_rows(path, 0)) == []
    with pytest.raises(ParameterError, match="limit -1"):
        read_rows(path, -1)


def test_a_text_that_is_no_utf8_costs_its_row(tmp_path):
    texts = pa.array([b"1", b"caf\xe9", b"3"]).view(pa.string())
    path = written(tmp_path, key=texts, downloadurl=[NOWHERE, NOWHERE + "2", ""])
    counts = fetch_pictures(read_rows(path), tmp_path / "out")
    assert counts["rows"] == sum(counts[name] for name in SETTLED) == 3


def test_a_folder_is_its_own_tables_and_no_walk(tmp_path):
    (tmp_path / "deep").mkdir()
    written(tmp_path / "deep", key=["9"], downloadurl=["9"])
    with pytest.raises(SourceError, match="without"):
        read_rows(tmp_path)
    for name in ("b", "a"):
        path = written(tmp_path, key=[name], downloadurl=[name])
        path.rename(tmp_path / f"{name}.parquet")
    assert [row["key"] for row in read_rows(tmp_path)] == ["a", "b"]
