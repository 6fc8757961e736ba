"""An audit counts every row once, by stage 01's rules, and compares the pictures."""

import time

import mistune
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from doors import call
from shards import PD12M, gpic_shard, gpic_words, photo

from commoncanvas.__main__ import door
from commoncanvas.catalog import audit as auditing
from commoncanvas.core.errors import ParameterError, SourceError
from commoncanvas.publish.audit import as_markdown, as_page, summary
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


def test_the_page_is_whole_and_shows_strangers_words_as_text(shard):
    found = auditing.audit(shard)
    text = as_page(found)
    assert fetches(text) == [] and "<script>alert" not in text
    assert text.count("<svg") >= 3 and "data:image/webp;base64" in text
    printed = as_markdown(found)
    assert "| qwen3-vl-4b | 11 | 91.7 % |" in printed
    assert "12 rows; 6 (50.0 %) may be trained on" in printed


def test_the_verb_prints_and_writes_and_fails_in_one_line(shard, tmp_path):
    page = tmp_path / "audit.html"
    printed = call("audit", shard, "--html", page, "--limit", 5)
    assert printed.startswith(f"# {shard}\n")
    assert page.read_text().startswith("<!doctype html>")
    assert "no licence" in call("audit", "megalith-10m:x", fails=True)
    with pytest.raises(SourceError, match="holds no work"):
        auditing.audit(f"gpic:{tmp_path}/none*.tar")
    with pytest.raises(ParameterError, match="'sizes'"):
        auditing.audit("gpic:sizes=1:x")


WORDS = "<img src=x onerror=alert(1)> [x](javascript:alert(1)) \\\\| y"


def audited(tmp_path, captioner):
    objects = [gpic_words(captioner=one) for one in captioner]
    return auditing.audit(f"gpic:{gpic_shard(tmp_path / '0.tar', objects)}", look=False)


def test_the_tables_on_the_terminal_show_strangers_words_as_text(tmp_path):
    text = as_markdown(audited(tmp_path, [WORDS]))
    page = mistune.create_markdown(plugins=["table"])(text)
    assert "<img" not in page and "href" not in page
    assert "\\| y</td>" in page and page.count("<td>1</td>") >= 5


def test_a_stranger_s_long_texts_stop_nothing(tmp_path):
    found = audited(tmp_path, ["é" * 3_000_000, *(f"{i}" * 400_000 for i in range(8))])
    assert found.whose.total() == 9 and max(map(len, found.whose)) == 200
    assert len(as_page(found)) < 1_000_000 and "é…" in as_markdown(found)


def test_the_table_is_printed_though_no_page_can_be_written(shard, tmp_path):
    (tmp_path / "is a folder").mkdir()
    words = ["audit", shard, "--html", str(tmp_path / "is a folder")]
    done = CliRunner().invoke(door, words)
    assert done.exit_code == 1 and "cannot be written" in done.stderr
    assert "## What the rows may be used for" in done.stdout


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
