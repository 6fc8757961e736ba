"""Entries of a profile: kinds, options, refusals, and pictures that lie apart."""

import csv
import json
import re

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from shards import PD12M, gpic_shard, gpic_words, photo

from commoncanvas.catalog import catalog, drawing, entries
from commoncanvas.catalog.originals import with_originals
from commoncanvas.catalog.state import picture_path
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError, SourceError

COMMIT = "0a" * 20


def test_an_entry_is_its_kind_its_options_and_its_place():
    entry = entries.parse(f"gpic:split=nano:hf://datasets/a/b@{COMMIT}/train/*.tar")
    assert entry.kind == "gpic" and entry.options == {"split": "nano"}
    assert entry.path == f"hf://datasets/a/b@{COMMIT}/train/*.tar"
    entry = entries.parse("openimages:narratives=s3://n/*.jsonl:pictures=p:a=b.csv")
    assert entry.options == {"narratives": "s3://n/*.jsonl", "pictures": "p"}
    assert entry.path == "a=b.csv"
    assert entries.parse("commoncatalog:256-512:x").path == "256-512:x"
    assert entries.parse("twemoji").options == {}


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("gpic:split=nano:split=lite:x", ParameterError, "'split'.*each once"),
        ("gpic:sizes=3:x", ParameterError, "'sizes'; expected split, captioner"),
        ("smithsonian:captioner=x:y", ParameterError, "expected pictures, each once"),
        ("megalith-10m:x.parquet", SourceError, "no licence; expected.*gpic"),
        ("monet:x", SourceError, "individual rights remain; expected the licence"),
        ("pd12m:none.parquet", SourceError, "no parquet file"),
        ("gpic:none.tar", SourceError, "holds no work"),
        ("openimages:narratives=none.jsonl:a.csv", SourceError, "holds no work"),
    ],
)
def test_what_an_entry_cannot_be_is_one_line(name, error, words):
    with pytest.raises(error, match=words) as caught:
        entries.read_all(name)
    assert "\n" not in str(caught.value)


def test_the_lines_of_a_profile_that_the_guide_shows_are_entries():
    text = (paths.DOCS / "HOWTO.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(cc_sources:\n.*?)```", text, re.DOTALL)
    shown = [entries.parse(name) for name in yaml.safe_load(block)["cc_sources"]]
    kinds = {"gpic", "pd12m", "inaturalist", "openimages", "smithsonian"}
    assert {entry.kind for entry in shown} == kinds
    assert all(entry.options for entry in shown)
    assert all(f"`{kind}`" in text for kind in entries.KINDS if kind in kinds)


def test_a_tar_is_read_and_drawn_from_an_address_as_from_a_file(tmp_path):
    objects = [gpic_words(key=key) for key in "ab"]
    path = gpic_shard(tmp_path / "0.tar", objects, [photo(1), photo(2)])
    fsspec.filesystem("memory").put(path, "/gpic/0.tar")
    here = catalog.read_source(f"gpic:{tmp_path}/*.tar")
    there = catalog.read_source("gpic:memory://gpic/*.tar")
    read = [[one["picture"] for one in with_originals(rows)] for rows in (here, there)]
    assert read[0] == read[1] == [photo(1), photo(2)]
    keys = ("key", "caption", "captioner", "pageurl", "start", "length")
    assert [[r[k] for k in keys] for r in here] == [[r[k] for k in keys] for r in there]


def test_pictures_that_lie_apart_are_found_where_the_download_put_them(tmp_path):
    table = {name: [value, value] for name, value in PD12M.items()}
    table |= {"id": ["u1", "u2"], "url": [PD12M["url"], "https://a.example/2.jpg"]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    rows = catalog.read_source(f"pd12m:{tmp_path}/a.parquet")
    assert {row["reason"] for row in rows} == {entries.NOT_FETCHED}
    place = tmp_path / "pictures" / picture_path(PD12M["url"])
    place.parent.mkdir(parents=True)
    place.write_bytes(photo(1))
    rows = catalog.read_source(f"pd12m:pictures={tmp_path}/pictures:{tmp_path}/*.parq*")
    frame = catalog.assign_splits(rows, [], seed=0)
    assert frame["split"].tolist() == ["c", "c"]
    _, reasons = drawing.draw_rows(list(with_originals(frame.to_dict("records"))), 4)
    assert reasons == ["", "file cannot be read (No such file or directory)"]


def test_batches_hold_what_is_read_at_once(tmp_path):
    path = gpic_shard(tmp_path / "0.tar", [gpic_words(key=str(i)) for i in range(5)])
    whole = entries.read_all(f"gpic:{path}")
    parts = list(entries.batches(f"gpic:{path}", 2))
    assert [len(part) for part in parts] == [2, 2, 1]
    found = [row for part in parts for row in part.to_dict("records")]
    assert found == whole.to_dict("records")


def test_captions_go_from_the_tar_to_the_catalogue_and_are_no_alt_text(tmp_path):
    """The share of works with alt text counts only the authors' own words."""
    path = gpic_shard(tmp_path / "0.tar", [gpic_words(key=key) for key in "ab"])
    (tmp_path / "1.jpg").write_bytes(photo(3))
    with (tmp_path / "works.csv").open("w") as file:
        own = {"file": "1.jpg", "license": "CC0", "alt_text": "Tom", "caption": "A cat"}
        writer = csv.DictWriter(file, own)
        writer.writeheader()
        writer.writerow(own)
    sources = [f"gpic:{path}", f"folder:captioner=human:{tmp_path}/works.csv"]
    frame = catalog.assign_splits(catalog.read_frame(sources), [], seed=0)
    assert (frame["alt_text"] != "").sum() == 1
    assert sorted(frame["captioner"]) == ["human", "qwen3-vl-4b", "qwen3-vl-4b"]
    frame.to_parquet(tmp_path / "catalog.parquet")
    read = pq.read_table(tmp_path / "catalog.parquet").to_pylist()
    assert json.dumps([row["caption"] for row in read]).count("A teal square.") == 2
