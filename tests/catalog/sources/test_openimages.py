"""Open Images' csv and Localized Narratives: credits, human captions, rotation, MD5."""

import base64
import csv
import hashlib
import json

import duckdb
import pytest

from commoncanvas.catalog import catalog
from commoncanvas.catalog.columns import LOCATED, STATED
from commoncanvas.catalog.sources import openimages
from commoncanvas.core.errors import SourceError

HEAD = """ImageID Subset OriginalURL OriginalLandingURL License AuthorProfileURL Author
Title OriginalSize OriginalMD5 Thumbnail300KURL Rotation""".split()
DIGEST = hashlib.md5(b"original")


def line(**changes):
    row = dict.fromkeys(HEAD, "") | {
        "ImageID": "000a1249af2bc5f0",
        "Subset": "train",
        "OriginalURL": "https://farm1.staticflickr.com/1/2_3_o.jpg",
        "OriginalLandingURL": "https://www.flickr.com/photos/ann/2",
        "License": "https://creativecommons.org/licenses/by/2.0/",
        "AuthorProfileURL": "https://www.flickr.com/people/ann/",
        "Author": "Ann, of <b>X</b>",
        "Title": 'A "bridge",\nat night',
        "OriginalSize": "812",
        "OriginalMD5": base64.b64encode(DIGEST.digest()).decode(),
        "Rotation": "90.0",
    }
    return row | changes


def write(path, *rows, raw=""):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, HEAD)
        writer.writeheader()
        writer.writerows(rows)
        file.write(raw)
    return str(path)


def narratives(path, *told):
    lines = [
        {"dataset_id": "open_images", "image_id": image, "annotator_id": who,
         "caption": caption, "timed_caption": [{"utterance": "a", "start_time": 0.0}],
         "traces": [[{"x": 0.1}]], "voice_recording": "x.ogg"}
        for image, who, caption in told
    ]  # fmt: skip
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return str(path)


def read(files, told=()):
    found = openimages.read_openimages(duckdb.connect(), files, told)
    rows = found.to_arrow_table().to_pylist()
    assert all({*STATED, *LOCATED} <= set(row) for row in rows)
    return sorted(rows, key=lambda row: row["key"])


def test_a_line_has_its_credit_and_a_person_s_caption(tmp_path):
    told = narratives(
        tmp_path / "n.jsonl",
        ("000a1249af2bc5f0", 9, "Later."),
        ("000a1249af2bc5f0", 3, " In this picture there is a bridge. "),
        ("ffffffffffffffff", 1, "Of no picture here."),
    )
    files = [write(tmp_path / "a.csv", line(), line(ImageID="0" * 16))]
    other, row = read(files, [told])
    assert row["key"] == "openimages/000a1249af2bc5f0"
    assert row["title"] == 'A "bridge",\nat night' and row["author"] == line()["Author"]
    assert row["caption"] == "In this picture there is a bridge."
    assert row["captioner"] == "human" and row["alt_text"] == ""
    assert (other["caption"], other["captioner"]) == ("", "")
    assert row["downloadurl"] == f"{openimages.BUCKET}train/000a1249af2bc5f0.jpg"
    assert row["original_md5"] == DIGEST.hexdigest() and row["rotation"] == 90
    (found,) = catalog.assign_splits([row | {"spec": "x"}], [], 0).to_dict("records")
    assert (found["split"], found["license_version"]) == ("c", "2.0")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ImageID": "xyz"}, "the image id is not 16 hexadecimal digits"),
        ({"Subset": "dev"}, "the subset is none of Open Images'"),
        ({"Rotation": "45"}, "the rotation is not 0, 90, 180 or 270"),
        ({"Rotation": "up"}, "the rotation is not 0, 90, 180 or 270"),
        ({"Rotation": "", "OriginalMD5": "?"}, ""),
        ({"Author": ""}, "its licence asks for its author"),
        ({"OriginalLandingURL": ""}, "its licence asks for its source_url"),
        ({"License": "https://creativecommons.org/licenses/by/"}, "one licence and v"),
    ],
)
def test_every_line_is_kept_or_rejected_with_the_right_reason(
    tmp_path, changes, reason
):
    rows = read([write(tmp_path / "a.csv", line(**changes))])
    (row,) = catalog.assign_splits([rows[0] | {"spec": "x"}], [], 0).to_dict("records")
    assert (reason in row["reason"]) and bool(row["reason"]) is bool(reason)


def test_lines_that_are_no_csv_cost_themselves_alone(tmp_path):
    raw = 'only,two\n"never closed,x\n'
    good = [line(ImageID=f"{i:016x}") for i in range(3)]
    path = tmp_path / "a.csv"
    write(path, *good, raw=raw)
    text = path.read_text().replace("812", "81\udcff", 1)
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    rows = read([str(path)])
    reasons = [row["reason"] for row in rows]
    assert len(rows) == 5 and reasons.count("") == 2
    assert "the line is not UTF-8" in reasons
    assert "the line has 2 fields, expected 12" in reasons
    assert any("the line is not csv" in reason for reason in reasons)


def test_a_line_that_is_no_narrative_costs_itself_and_names_its_file(tmp_path):
    image = "000a1249af2bc5f0"
    good = narratives(tmp_path / "n2.jsonl", (image, 3, "Fine."))
    bad = tmp_path / "n1.jsonl"
    surrogate = json.dumps({"image_id": image, "annotator_id": 1, "caption": "\ud800"})
    lines = ["{", '{"image_id": 7, "annotator_id": 1, "caption": "x"}', surrogate]
    bad.write_bytes("\n".join([*lines, ""]).encode() + b"\xff\n")
    rows = read([write(tmp_path / "a.csv", line())], [str(bad), good])
    told = {row["key"].partition("/")[2]: row for row in rows}
    assert told.pop(image)["caption"] == "Fine."
    assert list(told) == [f"n1.jsonl:{place}" for place in (1, 2, 3, 4)]
    reasons = [row["reason"] for row in told.values()]
    assert reasons[0].startswith("narrative: the line is no JSON")
    assert "narrative: it lacks image_id" in reasons[1] == reasons[2]
    assert reasons[3] == "narrative: the line is not UTF-8"


def test_a_name_with_brackets_is_a_file_and_no_pattern(tmp_path):
    image = "000a1249af2bc5f0"
    narratives(tmp_path / "n1.jsonl", (image, 1, "Another's."))
    own = narratives(tmp_path / "n[1].jsonl", (image, 3, "Own."))
    (row,) = read([write(tmp_path / "a.csv", line())], [own])
    assert row["caption"] == "Own."


def test_a_header_that_is_too_long_is_one_line(tmp_path):
    (tmp_path / "a.csv").write_text("ImageID," + "x" * 140_000 + "\n")
    with pytest.raises(SourceError, match=r"^a\.csv: the header is not csv .field"):
        read([str(tmp_path / "a.csv")])


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(SourceError, match="no csv file"):
        read([])
    (tmp_path / "a.csv").write_text("ImageID,Subset\n")
    with pytest.raises(SourceError, match="lacks OriginalURL, OriginalLandingURL"):
        read([str(tmp_path / "a.csv")])
