"""No row is lost between a source and its splits, and half a folder is no folder."""

import bz2
from collections import Counter

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commoncanvas.catalog import splits
from commoncanvas.catalog.columns import STATED
from commoncanvas.catalog.sources import yfcc
from commoncanvas.core.errors import LicenseError, SourceError
from commoncanvas.licenses.license import FLICKR_NAMES, read_license
from commoncanvas.licenses.policies import split_of

CONNECTION = splits.connect()
PAIRS = {
    "c": ("Attribution License", "http://creativecommons.org/licenses/by/2.0/"),
    "nc": ("CC-BY-NC-4.0", ""),
    "nd": ("", "https://creativecommons.org/licenses/by-nd/2.0/"),
    "rejected": ("all mine", ""),
}


def table_of(rows):
    """Return an Arrow table of (license_text, license_url) or (…, fields) rows."""
    whole = []
    for i, (text, url, *fields) in enumerate(rows):
        row = dict.fromkeys(STATED, "") | {"key": f"toy/{i}", "extra": i}
        row |= {"license_text": text, "license_url": url}
        whole.append(row | (fields[0] if fields else {}))
    types = [(name, pa.string()) for name in STATED] + [("extra", pa.int64())]
    return pa.Table.from_pylist(whole, pa.schema(types))


def split(table, folder, **options):
    relation = CONNECTION.from_arrow(table)
    return splits.split_metadata(CONNECTION, relation, folder, **options)


def rows_in(folder, names="*"):
    return CONNECTION.sql(
        f"SELECT {names} FROM read_parquet('{folder}/*/*.parquet', "
        "hive_partitioning = true) ORDER BY key"
    ).fetchall()


@pytest.mark.parametrize("name", list(PAIRS))
def test_a_row_lands_where_its_licence_says(tmp_path, name):
    counts = split(table_of([PAIRS[name]] * 3), tmp_path / "out")
    assert counts.rows == counts.splits[name] == 3
    assert sum(counts.splits.values()) == 3
    files = (tmp_path / "out" / f"split={name}").glob("*.parquet")
    assert sum(pq.read_metadata(path).num_rows for path in files) == 3


def test_what_is_written_is_the_row_and_its_verdict(tmp_path):
    split(table_of([PAIRS["c"]]), tmp_path / "out")
    (row,) = (
        CONNECTION.read_parquet(f"{tmp_path}/out/*/*.parquet", hive_partitioning=True)
        .to_arrow_table()
        .to_pylist()
    )
    assert row["license_slug"] == "by" and row["license_version"] == "2.0"
    assert row["license_port"] == ""
    assert row["license_title"] == "CC BY 2.0" and row["split"] == "c"
    assert row["license_deed"] == "https://creativecommons.org/licenses/by/2.0/"
    assert row["key"] == "toy/0" and row["extra"] == 0 and row["reason"] == ""


def test_columns_that_were_not_asked_for_stay_out(tmp_path):
    split(table_of([PAIRS["c"]]), tmp_path / "out", columns=["extra"])
    path = tmp_path / "out" / "split=c" / "part-0.parquet"
    names = [name for name in splits.VERDICT if name != "split"]
    assert pq.read_schema(path).names == ["key", "extra", *names]


def test_a_licence_that_cannot_be_read_is_rejected_with_its_words(tmp_path):
    counts = split(table_of([PAIRS["rejected"]]), tmp_path / "out")
    ((key, reason),) = rows_in(tmp_path / "out", "key, reason")
    assert "all mine" in reason and counts.reasons == {reason: 1}
    assert counts.licenses == {("unread", ""): 1}


def test_the_adapter_s_reason_rejects_and_stands(tmp_path):
    row = (*PAIRS["c"], {"reason": "a video, not a picture"})
    counts = split(table_of([row, PAIRS["c"]]), tmp_path / "out")
    assert counts.splits == {"c": 1, "nc": 0, "nd": 0, "rejected": 1}
    assert counts.reasons == {"a video, not a picture": 1}
    assert counts.licenses == {("by", "2.0"): 2}


def test_nothing_stated_and_null_are_the_same(tmp_path):
    counts = split(table_of([("", ""), (None, None)]), tmp_path / "out")
    assert counts.splits["rejected"] == 2 and len(counts.reasons) == 1


def test_alt_texts_are_counted_by_split(tmp_path):
    said = {"alt_text": "words"}
    rows = [(*PAIRS["c"], said), PAIRS["c"], (*PAIRS["nd"], said)]
    counts = split(table_of(rows), tmp_path / "out")
    assert counts.alt_text["c"] == 1 and counts.alt_text["nd"] == 1
    assert sum(counts.alt_text.values()) == 2


@pytest.mark.parametrize(("keys", "expected"), [("abc", 0), ("aba", 1), ("aaa", 2)])
def test_keys_that_are_not_new_are_counted(tmp_path, keys, expected):
    rows = [(*PAIRS["c"], {"key": key}) for key in keys]
    counts = split(table_of(rows), tmp_path / "out", count_duplicates=True)
    assert counts.duplicates == expected and counts.rows == 3


def test_no_rows_are_no_split(tmp_path):
    with pytest.raises(SourceError, match="no rows; expected"):
        split(table_of([]), tmp_path / "out", count_duplicates=True)
    assert list(tmp_path.iterdir()) == []


TEXTS = st.one_of(
    st.sampled_from(
        ["CC0-1.0", "CC BY-NC-ND 3.0", "MIT", "public domain", *FLICKR_NAMES]
    ),
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.none(),
)
URLS = st.one_of(
    st.sampled_from([url for _, url in PAIRS.values()]), st.text(max_size=12), st.none()
)


@given(st.lists(st.tuples(TEXTS, URLS), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_whatever_is_stated_rows_in_are_rows_out(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("split") / "out"
    counts = split(table_of(pairs), folder)
    expected = Counter()
    for text, url in pairs:
        try:
            expected[split_of(read_license(text or "", url or ""))[0]] += 1
        except LicenseError:
            expected["rejected"] += 1
    assert Counter(counts.splits) == expected and counts.rows == len(pairs)
    rows = rows_in(folder, "key, split, reason")
    assert sorted(key for key, _, _ in rows) == sorted(
        f"toy/{i}" for i in range(len(pairs))
    )
    assert all(bool(reason) is (name == "rejected") for _, name, reason in rows)


def test_many_batches_lose_nothing_and_mix_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(splits, "BATCH", 2048)
    monkeypatch.setattr(splits, "ROWS", 3000)
    names = list(PAIRS)
    rows = [PAIRS[names[i * 7 % 4]] for i in range(20_001)]
    counts = split(table_of(rows), tmp_path / "out")
    assert counts.splits == dict(Counter(names[i * 7 % 4] for i in range(20_001)))
    found = rows_in(tmp_path / "out", "key, split, extra")
    assert sorted(extra for _, _, extra in found) == list(range(20_001))
    assert all(name == names[extra * 7 % 4] for _, name, extra in found)


def test_each_statement_is_read_once(tmp_path, monkeypatch):
    calls = []
    real = splits.verdict
    monkeypatch.setattr(splits, "BATCH", 2048)
    monkeypatch.setattr(splits, "verdict", lambda *s: calls.append(s) or real(*s))
    split(table_of([PAIRS["c"], PAIRS["nd"]] * 5000), tmp_path / "out")
    assert len(calls) == 2


def test_words_that_statements_share_are_read_as_plain_text(tmp_path):
    """Two statements say by, two reasons reject: a file's dictionary has each once."""
    video = {"reason": "a video, not a picture"}
    other = ("CC-BY-4.0", "")
    rows = [PAIRS["c"], other, PAIRS["c"], PAIRS["rejected"], (*PAIRS["c"], video)]
    split(table_of(rows), tmp_path / "out")
    found = rows_in(tmp_path / "out", "license_slug, license_version, reason <> ''")
    assert found[:3] == [("by", "2.0", False), ("by", "4.0", False), found[0]]
    assert found[3][0] == "unread" and found[4] == ("by", "2.0", True)
    for path in (tmp_path / "out").glob("*/*.parquet"):
        assert pq.read_schema(path).field("license_slug").type == pa.string()


def test_a_folder_that_exists_is_left_alone(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(SourceError, match="out exists.*delete it"):
        split(table_of([PAIRS["c"]]), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_missing_columns_are_named(tmp_path):
    table = table_of([PAIRS["c"]]).drop_columns(["reason"])
    with pytest.raises(SourceError, match="without reason") as error:
        split(table, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_source_that_breaks_off_leaves_no_folder(tmp_path):
    path = tmp_path / "a.tsv.bz2"
    text = "".join(f"{i * 7919 % 100_003}" for i in range(300_000)).encode()
    lines = b"".join(text[i : i + 60] + b"\n" for i in range(0, len(text), 60))
    packed = bz2.compress(lines, 1)
    path.write_bytes(packed[: len(packed) - 200])
    with pytest.raises(SourceError) as error:
        relation = yfcc.read_tsv(CONNECTION, path)
        splits.split_metadata(CONNECTION, relation, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tsv.bz2"]


def test_rows_missing_on_disk_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(splits._Splitter, "flush", lambda self, split: None)
    with pytest.raises(SourceError, match="rows on disk; expected"):
        split(table_of([PAIRS["c"]]), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_an_earlier_run_left_half_written_is_not_taken(tmp_path):
    partial = tmp_path / "out.partial" / "split=c"
    partial.mkdir(parents=True)
    (partial / "old.parquet").write_bytes(b"half")
    assert split(table_of([PAIRS["c"]]), tmp_path / "out").rows == 1
    assert len(rows_in(tmp_path / "out")) == 1


def test_the_same_rows_give_the_same_rows(tmp_path):
    rows = [PAIRS[name] for name in PAIRS] * 500
    for name in ("a", "b"):
        split(table_of(rows), tmp_path / name)
    assert rows_in(tmp_path / "a") == rows_in(tmp_path / "b")


def test_a_connection_spills_where_it_is_told(tmp_path):
    connection = splits.connect("1GB", 1, tmp_path)
    [(place, threads)] = connection.sql(
        "SELECT current_setting('temp_directory'), current_setting('threads')"
    ).fetchall()
    assert place == str(tmp_path) and threads == 1
    assert isinstance(connection, duckdb.DuckDBPyConnection)
