"""Both generations of PD12M's columns, and tables that state no licence."""

import duckdb
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shards import CC0
from shards import PD12M as NEW

from commoncanvas.catalog import catalog, entries
from commoncanvas.catalog.columns import LOCATED, STATED
from commoncanvas.catalog.sources import pd12m
from commoncanvas.core.errors import SourceError

PDM = "https://creativecommons.org/publicdomain/mark/1.0/"
OLD = {
    "id": "u2", "url": "https://example.org/u2.jpg", "s3_key": "images/u2.jpg",
    "caption": "A map.", "md5_hash": "1" * 32, "mime_type": "image/jpeg",
    "width": 9, "height": 8, "license_type": PDM,
}  # fmt: skip


def table(path, *rows):
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    pq.write_table(pa.table(columns), path)
    return str(path)


def read(*files, **options):
    found = pd12m.read_pd12m(duckdb.connect(), files, **options)
    rows = found.to_arrow_table().to_pylist()
    assert all({*STATED, *LOCATED} <= set(row) for row in rows)
    return sorted(rows, key=lambda row: row["key"])


def test_both_generations_of_columns_give_the_same_rows(tmp_path):
    new, old = read(table(tmp_path / "n.parquet", NEW), table(tmp_path / "o.pq", OLD))
    assert new["key"] == "pd12m/u1" and new["downloadurl"] == NEW["url"]
    assert (new["caption"], new["captioner"]) == ("A print of a bridge.", "florence-2")
    assert (new["organisation"], new["md5"]) == ("rawpixel", "0" * 32)
    assert old["md5"] == "1" * 32 and old["organisation"] == old["alt_text"] == ""
    assert new["license_url"] == CC0 and old["license_url"] == PDM
    assert len(new["date_seen"]) == 10 and new["path"] == "" and new["start"] == -1


def test_every_row_is_kept_or_rejected_with_its_reason(tmp_path):
    rows = [
        NEW,
        NEW | {"id": None},
        NEW | {"id": "u3", "license": "CC BY 4.0"},
        NEW | {"id": "u4", "license": None},
        NEW | {"id": "u5", "caption": None, "url": None},
    ]
    found = read(table(tmp_path / "a.parquet", *rows), source="megalith-cc0")
    frame = catalog.assign_splits([row | {"spec": "x"} for row in found], [], seed=0)
    frame = frame.set_index("key")
    assert len(frame) == len(rows)
    key = "megalith-cc0/"
    assert frame.loc[[f"{key}u1", f"{key}u5"], "split"].tolist() == ["c", "c"]
    assert frame.loc[f"{key}a.parquet:1", "reason"] == "the row has no id"
    assert "asks for its author" in frame.loc[f"{key}u3", "reason"]
    assert "cannot accept licence" in frame.loc[f"{key}u4", "reason"]
    assert frame.loc[f"{key}u5", "captioner"] == ""


def test_an_address_is_read_as_a_file(tmp_path):
    table(tmp_path / "n.parquet", NEW)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "n.parquet"), "/pd12m/n.parquet")
    (row,) = read("memory://pd12m/n.parquet")
    (same,) = read(str(tmp_path / "n.parquet"))
    assert row | {"date_seen": ""} == same | {"date_seen": ""}


def test_a_table_without_licences_is_refused_by_name(tmp_path):
    megalith = {"url_highres": "https://x.example/1.jpg", "url_source": "p"}
    with pytest.raises(SourceError, match=r"lacks id, url, caption, license; expected"):
        read(table(tmp_path / "m.parquet", megalith))
    with pytest.raises(SourceError, match=r"none\.parquet'? cannot be") as error:
        read(str(tmp_path / "none.parquet"))
    assert "\n" not in str(error.value)
    with pytest.raises(SourceError, match="no parquet file"):
        read()


def test_a_name_with_brackets_is_a_file_and_no_pattern(tmp_path):
    table(tmp_path / "part1.parquet", NEW | {"id": "other", "license": CC0})
    own = table(tmp_path / "part[1].parquet", NEW | {"id": "own", "license": PDM})
    (row,) = entries.read_all(f"pd12m:{own}").to_dict("records")
    assert (row["key"], row["license_url"]) == ("pd12m/own", PDM)
    assert row["date_seen"]


def test_a_captioner_s_name_is_text_and_the_author_s_caption_is_alt_text(tmp_path):
    file = table(tmp_path / "p.parquet", NEW, NEW | {"id": "  "})
    rows = entries.read_all(f"pd12m:captioner=o'brien:{file}")
    assert rows["captioner"].tolist() == ["o'brien"] * 2
    assert set(rows["key"]) == {"pd12m/u1", "pd12m/p.parquet:1"}
    row = read(file, captioner="author")[0]
    assert row["alt_text"] == "A print of a bridge."
    assert row["caption"] == row["captioner"] == ""
    assert read(file, captioner="")[0]["captioner"] == "unnamed"
