"""GPIC's own columns: the credit of one line, whose captions, subsets, odd rows."""

import pytest
from shards import gpic_shard
from shards import gpic_words as words

from commoncanvas.catalog import catalog
from commoncanvas.catalog.columns import LOCATED, STATED
from commoncanvas.catalog.originals import with_originals
from commoncanvas.catalog.sources import gpic
from commoncanvas.core.errors import ParameterError
from commoncanvas.licenses import attribution

DEED, BOB = "https://creativecommons.org/licenses/by/4.0/", "By Bob, CC BY 4.0"
SCRIPT = "<script>alert(1)</script>"


def read(tmp_path, *objects, subset=""):
    rows = list(gpic.read_gpic([gpic_shard(tmp_path / "train.tar", objects)], subset))
    assert len(rows) == len(objects)
    assert all(set(row) == {*STATED, *LOCATED, "caption_type"} for row in rows)
    return rows


def test_the_credit_is_one_line_and_the_captions_are_the_captioner_s(tmp_path):
    """CC BY rows used to be rejected, and captions to count as the author's words."""
    (row,) = read(tmp_path, words())
    assert row["key"] == "gpic/a1" and row["source"] == "gpic"
    assert row["author"] == "Ann (https://www.flickr.com/photos/ann/1/), CC BY 2.0"
    assert row["pageurl"] == "https://www.flickr.com/photos/ann/1/"
    assert row["date_seen"] == "2026-01-31" and row["alt_text"] == ""
    assert (row["caption"], row["captioner"]) == ("A teal square.", "qwen3-vl-4b")
    assert row["caption_type"] == "short" and row["reason"] == ""
    (found,) = with_originals([row])
    assert found == {"picture": b"picture"}


def test_a_key_survives_another_packing(tmp_path):
    first = read(tmp_path, words(key="a"), words(key="b"))
    (tmp_path / "again").mkdir()
    second = read(tmp_path / "again", words(key="b"), words(key="a"))
    assert {row["key"] for row in first} == {row["key"] for row in second}


@pytest.mark.parametrize(
    ("line", "author", "page"),
    [
        ("Ann https://a.example/1.", "Ann https://a.example/1.", "https://a.example/1"),
        ("https://a.example/1", "", "https://a.example/1"),
        ("Ann, CC BY 2.0", "Ann, CC BY 2.0", ""),
        (
            'By <a href="https://a.example/x_(y)">Bo &amp; Co</a>',
            "By Bo & Co",
            "https://a.example/x_(y)",
        ),
        ("Ann (https://a.example/x)", "Ann (https://a.example/x)",
         "https://a.example/x"),
        ("", "", ""),
        (f"{BOB} ({DEED}), via Flickr https://www.flickr.com/photos/bob/1",
         f"{BOB} ({DEED}), via Flickr https://www.flickr.com/photos/bob/1",
         "https://www.flickr.com/photos/bob/1"),
        (f"{BOB} ({DEED})", f"{BOB} ({DEED})", ""),
        (DEED, "", ""),
        ("Ann https://a.example/?a=1&amp;b=2", "Ann https://a.example/?a=1&b=2",
         "https://a.example/?a=1&b=2"),
        ("Ann https://a.example/?a=1&copy=2", "Ann https://a.example/?a=1&copy=2",
         "https://a.example/?a=1&copy=2"),
    ],
)  # fmt: skip
def test_a_credit_gives_its_first_address_and_all_its_words(line, author, page):
    assert gpic.credit_of(line) == (author, page)


@pytest.mark.parametrize(
    ("changes", "split", "reason"),
    [
        ({}, "c", ""),
        ({"license": "CC0 1.0", "license_url": "", "attribution": ""}, "c", ""),
        ({"license": "CC BY-NC 2.0", "license_url": ""}, "nc", ""),
        ({"license": "CC BY-ND 2.0", "license_url": ""}, "nd", ""),
        ({"attribution": ""}, "rejected", "asks for its author, source_url"),
        ({"attribution": "Ann"}, "rejected", "asks for its source_url"),
        ({"license": "CC BY", "license_url": None}, "rejected", "one licence and ver"),
        ({"license": None, "license_url": None}, "rejected", "cannot accept licence"),
        ({"retrieved_at": "yesterday"}, "rejected", "retrieved_at is 'yesterday'"),
        ({"key": ""}, "rejected", "json has no key"),
        ({"key": " \u200b"}, "rejected", "json has no key"),
        ({"attribution": f"{BOB} ({DEED})"}, "rejected", "asks for its source_url"),
        ({"key": 7}, "rejected", "key is not text"),
        ({"attribution": ["Ann"]}, "rejected", "attribution is not text"),
        ({"caption": ["a", "b"]}, "rejected", "caption is not text"),
    ],
)
def test_every_row_is_kept_or_rejected_with_the_right_reason(
    tmp_path, changes, split, reason
):
    rows = read(tmp_path, words(**changes), words(key="b2"))
    frame = catalog.assign_splits(
        [row | {"spec": "gpic:x"} for row in rows], [], seed=0
    )
    assert len(frame) == 2 and (frame["split"] == "c").sum() >= 1
    (row,) = frame[frame["key"] != "gpic/b2"].to_dict("records")
    assert row["split"] == split and reason in row["reason"]
    assert bool(row["reason"]) is (split == "rejected")


def test_a_subset_leaves_the_others_out_by_name(tmp_path):
    rows = read(
        tmp_path, words(), words(key="b", split=["nano", "lite", "full"]),
        words(key="c", split=None), subset="nano",
    )  # fmt: skip
    assert [row["reason"] for row in rows] == [
        "not in the subset nano",
        "",
        "not in the subset nano",
    ]
    with pytest.raises(ParameterError, match="no subset 'huge'.*nano, lite, full"):
        next(gpic.read_gpic([], "huge"))


def test_what_strangers_wrote_is_shown_as_text(tmp_path):
    rows = read(tmp_path, words(attribution=f"{SCRIPT}*Ann* https://a.example/1"))
    frame = catalog.assign_splits([row | {"spec": "x"} for row in rows], [], seed=0)
    frame = frame.assign(sha256="0", title="[x](javascript:1)")
    page = attribution.attribution_page(
        attribution.attribution_text(attribution.ledger(frame, "Drawn."))
    )
    assert "<script" not in page and 'href="javascript' not in page
    assert "*Ann*" in page and 'href="https://a.example/1"' in page
