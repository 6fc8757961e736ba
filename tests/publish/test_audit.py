"""An audit counts every row once, by stage 01's rules, and compares the pictures."""

import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from doors import call
from shards import PD12M, gpic_shard, gpic_words, photo

from commoncanvas.catalog import audit as auditing
from commoncanvas.core.errors import ParameterError, SourceError
from commoncanvas.publish.audit import as_page, report, summary
from commoncanvas.publish.fetches import fetches

SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def shard(tmp_path):
    """Write twelve made-up samples of GPIC, some of them odd; return their source."""
    changes = [
        {},
        {"license": "CC BY-NC 2.0", "license_url": None},
        {"license": "CC BY-ND 2.0", "license_url": None},
        {"license": "CC0 1.0", "license_url": None, "attribution": ""},
        {"license": "CC BY", "license_url": None},
        {"license": "", "license_url": None},
        {"attribution": "Ann"},
        {"attribution": ""},
        {"retrieved_at": "yesterday"},
        {"caption": ""},
        {"attribution": f"Ann {SCRIPT} &lt;i&gt; https://a.example/1"},
        {"key": "k0"},  # as the first
    ]
    objects = [gpic_words(**{"key": f"k{i}"} | c) for i, c in enumerate(changes)]
    pictures = [photo(i, (48, 40)) for i in range(len(objects))]
    pictures[1] = photo(0, (48, 40))  # an exact copy of the first
    pictures[3] = b"no picture"
    return f"gpic:{gpic_shard(tmp_path / '0.tar', objects, pictures)}"


def test_every_row_is_counted_once_in_each_table(shard):
    found = auditing.audit(shard)
    assert found.rows == 12 and found.repeated == 1
    assert found.splits == {"c": 5, "nc": 1, "nd": 1, "rejected": 5}
    for counter in (found.licenses, found.versions, found.credits, found.whose):
        assert counter.total() == 12
    assert sum(found.reasons.values()) == 5
    assert found.versions == {
        auditing.STATED: 10,
        auditing.LACKING: 1,
        auditing.UNREAD: 1,
    }
    assert found.credits == {
        auditing.SUFFICIENT: 6,
        auditing.NOT_ASKED: 1,
        auditing.NOT_JUDGED: 3,
        "lacks page": 1,
        "lacks author, page": 1,
    }
    assert found.whose == {"qwen3-vl-4b": 11, auditing.NOBODY: 1}
    copies = found.copies
    assert (copies.num_compared, copies.exact) == (6, 1) and copies.near >= 1
    assert copies.unreadable.total() == 1
    assert [one.license for one in found.shown][:2] == ["CC BY 2.0", "CC BY-NC 2.0"]


def test_the_first_rows_alone_and_without_pictures(shard):
    found = auditing.audit(shard, limit=4, look=False)
    assert found.rows == 4 and found.copies.num_compared == 0
    assert "No picture was compared" in summary(found)


def test_a_table_of_addresses_is_audited_without_pictures(tmp_path):
    rows = [PD12M, PD12M | {"id": "u2", "license": "CC BY 4.0"}]
    columns = {name: [row[name] for row in rows] for name in PD12M}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    found = auditing.audit(f"pd12m:{tmp_path}/a.parquet")
    assert found.splits == {"c": 1, "rejected": 1}
    assert found.credits["lacks author, page"] == 1
    assert found.whose == {"florence-2": 2}


def test_the_page_is_whole_and_shows_strangers_words_as_text(shard, tmp_path):
    text = as_page(auditing.audit(shard))
    assert fetches(text) == [] and "<script>alert" not in text
    assert text.count("<svg") >= 3 and "data:image/webp;base64" in text
    printed = report(shard, tmp_path / "a.html", None, True)
    assert (tmp_path / "a.html").read_text().startswith("<!doctype html>")
    assert "| qwen3-vl-4b | 11 | 91.7 % |" in printed
    assert "12 rows; 6 (50.0 %) may be trained on" in printed


def test_the_verb_prints_and_writes_and_fails_in_one_line(shard, tmp_path):
    page = tmp_path / "audit.html"
    printed = call("audit", shard, "--html", page, "--limit", 5)
    assert printed.startswith(f"# {shard}\n") and page.is_file()
    assert "no licence" in call("audit", "megalith-10m:x", fails=True)
    with pytest.raises(SourceError, match="holds no work"):
        auditing.audit(f"gpic:{tmp_path}/none*.tar")
    with pytest.raises(ParameterError, match="'sizes'"):
        auditing.audit("gpic:sizes=1:x")


@pytest.mark.slow
def test_ten_thousand_rows_take_less_than_a_minute(tmp_path):
    objects = [gpic_words(key=f"k{i}") for i in range(10_000)]
    pictures = [photo(i % 2000, (96, 120)) for i in range(10_000)]
    source = f"gpic:{gpic_shard(tmp_path / '0.tar', objects, pictures)}"
    start = time.monotonic()
    found = auditing.audit(source)
    as_page(found)
    assert time.monotonic() - start < 60
    assert found.rows == found.splits["c"] == 10_000 and found.copies.exact == 8000
