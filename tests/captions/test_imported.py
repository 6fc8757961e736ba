"""Imported captions are joined by key, and none is lost or made up."""

import json
import tempfile
from decimal import Decimal
from pathlib import Path
from unicodedata import normalize

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commoncanvas.captions.imported import ImportedCaptions
from commoncanvas.core.errors import ParameterError, SourceError

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


def write_lines(path, keys, captions):
    told = zip(keys, captions, strict=True)
    lines = [json.dumps({"key": key, "caption": caption}) for key, caption in told]
    path.write_text("\n".join(lines))
    return path


def found(file, keys, **words):
    return pairs(ImportedCaptions(file, **words).table([(key, b"") for key in keys]))


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


LIKE_OTHER_TYPES = [
    "007",
    "1e3",
    "true",
    "NaN",
    "null",
    " 2020-01-01 ",
    "[a, b]",
    "{}",
    "",
]
TEXT = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(
    LIKE_OTHER_TYPES
)


@settings(max_examples=40, deadline=None)
@given(st.dictionaries(TEXT, TEXT, min_size=1), st.sampled_from(["jsonl", "parquet"]))
def test_texts_are_read_as_they_were_written(told, kind):
    told = {normalize("NFC", key): caption for key, caption in told.items()}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"told.{kind}"
        if kind == "jsonl":
            write_lines(file, told, told.values())
        else:
            names = {"key": list(told), "caption": list(told.values())}
            pq.write_table(pa.table(names), file)
        assert found(file, told) == list(told.items())


@pytest.mark.parametrize("name", ["told.jsonl", "told.json", "told.parquet"])
def test_a_list_is_several_captions_of_one_picture(tmp_path, name):
    captions = [["a red barn", "a barn, in a field", None], ["two dogs"], [], None]
    file = tmp_path / name
    if name == "told.parquet":
        pq.write_table(pa.table({"key": list("abcd"), "caption": captions}), file)
    else:
        write_lines(file, "abcd", captions)
    assert found(file, "abcd") == [
        ("a", "a barn, in a field"), ("a", "a red barn"), ("b", "two dogs"),
        ("c", None), ("d", None),
    ]  # fmt: skip


@pytest.mark.parametrize("caption", [{"short": "a barn"}, [{"a": "b"}], [["a barn"]]])
@pytest.mark.parametrize("name", ["told.jsonl", "told.parquet"])
def test_an_object_is_refused_in_one_line(tmp_path, name, caption):
    file = tmp_path / name
    if name == "told.parquet":
        pq.write_table(pa.table({"key": ["a"], "caption": [caption]}), file)
    else:
        write_lines(file, "a", [caption])
    with pytest.raises(ParameterError, match="expected text or a list of texts") as no:
        found(file, "a")
    assert "\n" not in str(no.value)


def test_a_whole_float_is_its_integer(tmp_path):
    ids = [6985418911.0, 4833760452.0, 2.5, float("nan")]
    write_lines(tmp_path / "told.jsonl", [*ids, None], "abcde")
    pq.write_table(
        pa.table({"key": [*ids, None], "caption": list("abcde")}),
        tmp_path / "told.parquet",
    )
    for name in ("told.jsonl", "told.parquet"):
        keys = ["x/6985418911", "x/4833760452", "x/2.5", "x/nan"]
        captions = found(tmp_path / name, keys, key_prefix="x/")
        assert [caption for _, caption in captions] == ["a", "b", "c", None]


@pytest.mark.parametrize("key", [Decimal("7.00"), 7, 7.0, "7", b"7"])
def test_a_key_is_read_by_its_type(tmp_path, key):
    pq.write_table(
        pa.table({"key": [key], "caption": [b"caf\xc3\xa9"]}), tmp_path / "a.parquet"
    )
    assert found(tmp_path, ["7"]) == [("7", "caf\xe9")]


def test_a_whole_number_of_any_length_is_exact(tmp_path):
    keys = [2**64, 10**30 + 1, -(2**63) - 1]
    write_lines(tmp_path / "a.jsonl", keys, "abc")
    numbers = pa.array([Decimal(key) for key in keys], pa.decimal128(38, 0))
    pq.write_table(
        pa.table({"key": numbers, "caption": [*"abc"]}), tmp_path / "a.parquet"
    )
    for name in ("a.jsonl", "a.parquet"):
        captions = found(tmp_path / name, [str(key) for key in keys])
        assert [caption for _, caption in captions] == ["a", "b", "c"]


@pytest.mark.parametrize(("key", "kind"), [(2.0**53, "double"), (2.0**24, "float")])
def test_a_float_that_cannot_hold_its_key_is_refused(tmp_path, key, kind):
    keys = pa.array([key], kind)
    pq.write_table(pa.table({"key": keys, "caption": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(ParameterError, match="cannot hold it exactly"):
        found(tmp_path, ["7"])


def test_what_comes_late_in_a_file_counts(tmp_path):
    keys, num = [*range(25_000), "extra-1"], 24_000
    write_lines(tmp_path / "a.jsonl", keys, [f"caption {key}" for key in keys])
    assert found(tmp_path / "a.jsonl", ["extra-1", "24"]) == [
        ("extra-1", "caption extra-1"), ("24", "caption 24"),
    ]  # fmt: skip
    captions = [None] * num + ["a bridge"]
    write_lines(tmp_path / "b.jsonl", range(num + 1), captions)
    assert found(tmp_path / "b.jsonl", [str(num), "0"]) == [
        (str(num), "a bridge"), ("0", None),
    ]  # fmt: skip
    lines = ['{"key": 1}'] * num + ['{"key": 2, "caption": "a bridge"}']
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    assert found(tmp_path / "c.jsonl", ["2"]) == [("2", "a bridge")]


def test_files_of_a_folder_keep_their_own_types(tmp_path):
    told = {"a": (["1.0"], ["text"]), "b": ([1.0], ["float"]), "c": ([2], [["l", "m"]])}
    for name, (key, caption) in told.items():
        table = pa.table({"key": key, "caption": caption})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    assert found(tmp_path, ["1.0", "1", "2"]) == [
        ("1.0", "text"), ("1", "float"), ("2", "l"), ("2", "m"),
    ]  # fmt: skip


def test_a_name_with_the_signs_of_a_pattern_is_that_file(tmp_path):
    write_lines(tmp_path / "told[1].jsonl", "a", ["mine"])
    write_lines(tmp_path / "told1.jsonl", "a", ["another"])
    assert found(tmp_path / "told[1].jsonl", "a") == [("a", "mine")]


@pytest.mark.parametrize("here", ["caf\xe9", "cafe\u0301"])
def test_keys_are_compared_however_their_accents_are_composed(tmp_path, here):
    for there in ("caf\xe9", "cafe\u0301"):
        write_lines(tmp_path / "told.jsonl", [there], ["coffee"])
        assert found(tmp_path / "told.jsonl", [here]) == [(here, "coffee")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"key": 1, "caption": "a"}\n{"key": 2, "cap\x1b[31m'),
        ("a.jsonl", b'{"key": 1, "caption": "\\ud800"}\n'),
        ("a.jsonl", b'{"key": {"a": 1}, "caption": "a"}\n'),
        ("a.parquet", b"PAR1 no parquet"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        ParameterError, match=r"cannot be used: .*correct the file"
    ) as no:
        found(tmp_path / name, ["1"])
    assert str(no.value).isprintable()


def test_a_file_that_names_none_of_the_pictures_is_refused(tmp_path):
    captions = ImportedCaptions(
        write_lines(tmp_path / "a.jsonl", [1], ["a"]), key_prefix="x/"
    )
    captions.need_some([captions.table([(key, b"")]) for key in ("y/1", "x/1")])
    captions.need_some([captions.table([])])
    with pytest.raises(
        ParameterError, match="a key there is 'x/1', here 'y/1'; set `key"
    ):
        captions.need_some([captions.table([("y/1", b""), ("y/2", b"")])])


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
@pytest.mark.parametrize("name", ["caption=blip2", "key=1", "place=3"])
def test_a_folder_s_name_says_nothing_about_the_file(tmp_path, name, suffix):
    (tmp_path / name).mkdir()
    file = tmp_path / name / f"told.{suffix}"
    frame = pd.DataFrame({"key": ["1", "2"], "caption": ["a pear", "a cat"]})
    frame["name"] = frame["place"] = "of another"
    if suffix == "parquet":
        frame.to_parquet(file)
    else:
        frame.to_json(file, orient="records", lines=True)
    assert found(file, ["1", "2"]) == [("1", "a pear"), ("2", "a cat")]


def test_the_catalogue_s_own_captions_are_taken_of_one_captioner(tmp_path):
    file = tmp_path / "catalog.parquet"
    columns = {
        "key": ["a/1", "a/2", "b/1", "c/1"],
        "caption": ["a pear", "", "a dog", "a cat"],
        "captioner": ["florence-2", "", "human", "florence-2"],
        "alt_text": ["", "Tom", "", ""],
    }
    pq.write_table(pa.table(columns), file)
    keys = columns["key"]
    written = found(file, keys, written_by="florence-2")
    assert written == list(zip(keys, ["a pear", None, None, "a cat"], strict=True))
    assert found(file, ["b/1"], written_by="human") == [("b/1", "a dog")]
    assert found(file, ["b/1"], written_by="o'no") == [("b/1", None)]
    lines = tmp_path / "told.jsonl"
    pd.DataFrame(columns).to_json(lines, orient="records", lines=True)
    assert found(lines, keys, written_by="florence-2") == written
    names = ({}, {"written_by": "human"})
    told = [ImportedCaptions(file, **name).decoding for name in names]
    assert told[0] != told[1]
    with pytest.raises(ParameterError, match="no column captioner"):
        found(write_lines(tmp_path / "b.jsonl", [1], ["a"]), ["1"], written_by="x")


def test_captions_at_an_address_are_read_as_those_of_a_file(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.put(str(write(tmp_path / "told.parquet")), "/told/data/0.parquet")
    for address in ("memory://told/data", "memory://told/data/*.parquet"):
        captions = ImportedCaptions(address, "photoid", key_prefix="yfcc/")
        assert pairs(captions.table(ROWS)) == EXPECTED
    before = ImportedCaptions("memory://told/data", "photoid").identity
    memory.put(str(write(tmp_path / "told.parquet")), "/told/data/1.parquet")
    assert ImportedCaptions("memory://told/data", "photoid").identity != before
    with pytest.raises(SourceError, match="commit hash of 40 digits"):
        ImportedCaptions("hf://datasets/someone/recaptions/data")
