"""An audit counts every row once, by stage 01's rules, and compares the pictures."""

import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from doors import call
from shards import PD12M, gpic_shard, gpic_words, photo

from commoncanvas.__main__ import door
from commoncanvas.catalog import audit as auditing
from commoncanvas.catalog.entries import batches
from commoncanvas.catalog.kinds import named
from commoncanvas.core.errors import ParameterError, SourceError
from commoncanvas.publish.audit import as_page, as_text, summary
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
    assert found.rows == 12
    assert found.splits == {"c": 3, "nc": 1, "nd": 1, "rejected": 7}
    for counter in (found.licenses, found.versions, found.credits, found.whose):
        assert counter.total() == 12
    assert sum(found.reasons.values()) == 7
    assert found.reasons[auditing.REPEATED] == 1
    assert found.keys[auditing.REPEATED] == ["gpic/k0"]
    assert found.versions == {
        auditing.STATED: 10,
        auditing.LACKING: 1,
        auditing.UNREAD: 1,
    }
    assert found.credits == {
        auditing.SUFFICIENT: 5,
        auditing.NOT_ASKED: 1,
        auditing.NOT_JUDGED: 4,
        "lacks page": 1,
        "lacks author, page": 1,
    }
    assert found.whose == {"qwen3-vl-4b": 11, auditing.NOBODY: 1}
    copies = found.copies
    assert (copies.num_looked, copies.num_opened, copies.exact) == (6, 5, 1)
    assert copies.exact_keys == [("gpic/k1", "gpic/k0")]
    assert [one.license for one in found.shown][:2] == ["CC BY 2.0", "CC BY-NC 2.0"]


def test_the_first_rows_alone_and_without_pictures(shard):
    found = auditing.audit(shard, limit=4, look=False)
    assert found.rows == 4 and found.copies.num_looked == 0
    assert "No picture was looked at, as none was asked for" in summary(found)
    assert 'href="#works"' not in as_page(found)


def test_a_table_of_addresses_is_audited_without_pictures(tmp_path):
    rows = [PD12M, PD12M | {"id": "u2", "license": "CC BY 4.0"}]
    columns = {name: [row[name] for row in rows] for name in PD12M}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    found = auditing.audit(f"pd12m:{tmp_path}/a.parquet", look=False)
    assert found.splits == {"c": 1, "rejected": 1}
    assert found.credits["lacks author, page"] == 1
    assert found.whose == {"florence-2": 2}
    assert found.keys == {"its licence asks for its author, page": ["pd12m/u2"]}
    # With pictures, which lie nowhere, and in a folder that lacks them.
    for options in ("", f"pictures={tmp_path}:"):
        found = auditing.audit(f"pd12m:{options}{tmp_path}/a.parquet")
        assert found.splits == {"rejected": 2} and found.allowed == 1
        assert found.credits["lacks author, page"] == 1
        assert "2 rows; 0 (0.0 %) may be trained on" in summary(found)
        assert "allow 1, 1 of them without a picture" in summary(found)
    assert "Pictures looked at: 1; 0 could be opened." in summary(found)


def test_the_page_is_whole_and_shows_strangers_words_as_text(shard):
    found = auditing.audit(shard)
    text = as_page(found)
    assert fetches(text) == [] and "<script>alert" not in text
    assert "data:image/webp;base64" in text and 'href="#works"' in text
    assert "<h1>4 of 12 rows may be trained on</h1>" in text
    assert f"{shard.removeprefix('gpic:')[-5:]}</p>" in text and "gpic:<wbr>" in text
    printed = as_text(found)
    assert "11   91.7 %  qwen3-vl-4b" in printed
    assert "12 rows; 4 (33.3 %) may be trained on" in printed


def test_each_reason_names_rows_in_plain_words_here_and_there(shard):
    found = auditing.audit(shard)
    for text in (as_text(found), as_page(found)):
        assert "its licence asks for its page" in text and "gpic/k6" in text
        assert "source_url" not in text and "\\" not in as_text(found)
        assert "gpic/k1 of gpic/k0" in text and "gpic/k3" in text


def test_more_rows_than_are_named_end_in_an_ellipsis(tmp_path):
    objects = [gpic_words(key=f"<b>{n}", attribution="") for n in range(4)]
    found = auditing.audit(f"gpic:{gpic_shard(tmp_path / '0.tar', objects)}")
    assert "gpic/<b>0, gpic/<b>1, gpic/<b>2, …]" in as_text(found)
    assert "gpic/&lt;b&gt;2, …" in as_page(found) and "<b>" not in as_page(found)


def test_a_key_that_repeats_in_another_batch_is_rejected(monkeypatch, tmp_path):
    objects = [gpic_words(key=f"k{n % 50}") for n in range(120)]
    source = f"gpic:{gpic_shard(tmp_path / '0.tar', objects)}"
    monkeypatch.setattr(
        auditing, "batches", lambda name, **words: batches(name, 7, **words)
    )
    found = auditing.audit(source, look=False)
    assert found.reasons == {auditing.REPEATED: 70} and found.splits["c"] == 50


def test_a_work_that_its_set_withdrew_is_rejected_as_stage_01_does_it():
    hidden = int(next(batches("twemoji", 200))["is_hidden"].sum())
    found = auditing.audit("twemoji", limit=200, look=False)
    assert hidden and found.reasons == {"withdrawn by its set": hidden}
    assert found.splits["c"] == 200 - hidden


@pytest.fixture
def own(tmp_path):
    """Write a folder of one's own, whose licences leave their version out."""
    page = "https://www.flickr.com/photos/ann/1"
    lines = ["file,author,pageurl,license,alt_text,caption,captioner"]
    for name, license in (("a", "Attribution License"), ("b", "CC0"), ("c", "4.0")):
        (tmp_path / f"{name}.jpg").write_bytes(photo(ord(name), (48, 40)))
        lines.append(f"{name}.jpg,Ann,{page},{license},,,")
    (tmp_path / "d.jpg").write_bytes(b"no picture")
    lines.append(f"d.jpg,Ann,{page},CC BY 4.0,words,others,human")
    (tmp_path / "works.csv").write_text("\n".join(lines))
    return tmp_path


def test_a_version_that_nobody_stated_is_named_as_it_is_read(own):
    found = auditing.audit(f"folder:{own}/works.csv")
    assert found.versions == {
        auditing.READ_AS.format("CC BY 2.0"): 1,
        auditing.READ_AS.format("CC0 1.0"): 1,
        auditing.UNREAD: 1,
        auditing.STATED: 1,
    }
    assert "not stated, read as CC BY 2.0" in as_text(found)


def test_the_captions_table_says_why_it_adds_up_to_more(own):
    found = auditing.audit(f"folder:{own}/works.csv", look=False)
    said = "counted twice: 1."
    assert said in as_text(found) and said in as_page(found)


def test_a_source_of_no_kind_is_told_what_to_write(own):
    table = f"{own}/works.csv"
    meant = f"write folder:{table}"
    for source in (table, f"foldr:{table}", str(own), f"folder:{own}"):
        told = call("audit", source, fails=True)
        assert meant in told, told
        assert "package-lock" not in told and "profile" not in told
    assert "kinds are folder, webdataset, gpic, " in told_of(table)
    assert "write twemoji;" in told_of("twemojy")
    assert "write" not in told_of("qqqq")


def told_of(source):
    with pytest.raises(ParameterError) as error:
        named(source)
    return str(error.value)


def test_the_verb_prints_and_writes_and_fails_in_one_line(shard, tmp_path):
    page = tmp_path / "audit.html"
    printed = call("audit", shard, "--html", page, "--limit", 5)
    assert printed.startswith(f"{shard}\n")
    assert page.read_text().startswith("<!doctype html>")
    assert "no licence" in call("audit", "megalith-10m:x", fails=True)
    with pytest.raises(SourceError, match="holds no work"):
        auditing.audit(f"gpic:{tmp_path}/none*.tar")
    with pytest.raises(ParameterError, match="'sizes'"):
        auditing.audit("gpic:sizes=1:x")


def audited(tmp_path, captioner):
    objects = [gpic_words(captioner=one) for one in captioner]
    return auditing.audit(f"gpic:{gpic_shard(tmp_path / '0.tar', objects)}", look=False)


def test_strangers_words_steer_no_terminal(tmp_path):
    text = as_text(audited(tmp_path, ["\x1b[2J\x07\u202ea_b\r\nc"]))
    assert "%  [2Ja_b c\n" in f"{text}\n"
    assert text.replace("\n", "").isprintable()


def test_a_stranger_s_long_texts_stop_nothing(tmp_path):
    found = audited(tmp_path, ["é" * 3_000_000, *(f"{i}" * 400_000 for i in range(8))])
    assert found.whose.total() == 9 and max(map(len, found.whose)) == 200
    assert len(as_page(found)) < 1_000_000 and "é…" in as_text(found)


def test_the_table_is_printed_though_no_page_can_be_written(shard, tmp_path):
    (tmp_path / "is a folder").mkdir()
    words = ["audit", shard, "--html", str(tmp_path / "is a folder")]
    done = CliRunner().invoke(door, words)
    assert done.exit_code == 1 and "cannot be written" in done.stderr
    assert "What the rows may be used for" in done.stdout


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
