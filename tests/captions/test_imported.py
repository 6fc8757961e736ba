"""Imported captions are joined by key, and none is lost or made up."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commoncanvas.captions.imported import ImportedCaptions
from commoncanvas.core.errors import ParameterError

TOLD = [(7, "a red cat"), (9, "two dogs"), (7, "cat on a mat"), (7, "a red cat")]
ROWS = [("yfcc/9", b""), ("yfcc/7", b""), ("yfcc/8", b""), ("other/7", b"")]
EXPECTED = [
    ("yfcc/9", "two dogs"),
    ("yfcc/7", "a red cat"),
    ("yfcc/7", "cat on a mat"),
    ("yfcc/8", None),
    ("other/7", None),
]


def write(path, ids="photoid", texts="caption"):
    keys, words = zip(*TOLD, strict=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.table({ids: keys, texts: words}), path)
    else:
        lines = [json.dumps({ids: key, texts: text}) for key, text in TOLD]
        path.write_text("\n".join(lines))
    return path


def pairs(table):
    assert table.column_names == ["key", "caption_raw"]
    return list(
        zip(table["key"].to_pylist(), table["caption_raw"].to_pylist(), strict=True)
    )


@pytest.mark.parametrize("name", ["told.parquet", "told.jsonl"])
def test_captions_are_joined_by_key_in_the_order_of_the_pictures(tmp_path, name):
    file = write(tmp_path / name)
    found = ImportedCaptions(file, "photoid", key_prefix="yfcc/")
    assert pairs(found.table(ROWS)) == EXPECTED
    assert found.identity.startswith("imported:")


def test_a_folder_of_parquet_is_one_table(tmp_path):
    write(tmp_path / "a.parquet")
    pq.write_table(
        pa.table({"photoid": [8], "caption": ["a bird"]}), tmp_path / "b.parquet"
    )
    found = ImportedCaptions(tmp_path, "photoid", key_prefix="yfcc/").table(ROWS)
    assert ("yfcc/8", "a bird") in pairs(found) and found.num_rows == 5
    globbed = ImportedCaptions(tmp_path / "*.parquet", "photoid", key_prefix="yfcc/")
    assert globbed.table(ROWS) == found


def test_names_of_columns_may_hold_anything(tmp_path):
    file = write(tmp_path / "told.parquet", 'id "x"', "text; DROP")
    found = ImportedCaptions(file, 'id "x"', "text; DROP", "yfcc/")
    assert pairs(found.table(ROWS)) == EXPECTED


def test_captions_and_prefix_are_data_and_never_code(tmp_path):
    hostile = "'; DROP TABLE wanted; --"
    pq.write_table(
        pa.table({"key": ["1"], "caption": [hostile]}), tmp_path / "told.parquet"
    )
    found = ImportedCaptions(tmp_path / "told.parquet", key_prefix="'x")
    assert pairs(found.table([("'x1", b"")])) == [("'x1", hostile)]


@pytest.mark.parametrize("name", ["none.parquet", "folder", "told.csv"])
def test_what_is_not_there_is_refused_in_one_line(tmp_path, name):
    (tmp_path / "told.csv").write_text("key,caption\n")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ParameterError, match="no imported captions at") as refused:
        ImportedCaptions(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_a_missing_column_is_named_beside_those_there_are(tmp_path):
    file = write(tmp_path / "told.parquet")
    with pytest.raises(ParameterError, match="no column key; there are photoid, capt"):
        ImportedCaptions(file)
