"""Smithsonian's records: several pictures, access of each, records without any."""

import json

import duckdb
import pytest

from commoncanvas.catalog import catalog
from commoncanvas.catalog.columns import LOCATED, STATED
from commoncanvas.catalog.sources import smithsonian
from commoncanvas.core.errors import SourceError


def medium(name="NMAH-1", access="CC0", **changes):
    url = f"https://ids.si.edu/ids/deliveryService?id={name}"
    one = {"type": "Images", "idsId": name, "content": url, "usage": {"access": access}}
    return one | changes


def record(*media, own="edanmdm-nmah_1", **changes):
    content = {
        "descriptiveNonRepeating": {
            "record_link": "https://americanhistory.si.edu/collections/nmah_1",
            "unit_code": "NMAH",
            "title": {"label": "Title", "content": "A <i>steam</i> engine"},
            "metadata_usage": {"access": "CC0"},
            "online_media": {"mediaCount": len(media), "media": list(media)},
        },
        "freetext": {
            "name": [{"label": "Maker", "content": "Ann"}, {"content": "Bo"}],
            "creditLine": [{"label": "Credit Line", "content": "Gift of Bo"}],
        },
    }
    return {"id": own, "unitCode": "NMAH", "content": content} | changes


def read(tmp_path, *lines):
    path = tmp_path / "00.txt"
    texts = [one if isinstance(one, str) else json.dumps(one) for one in lines]
    path.write_text("\n".join(texts) + "\n", "utf-8", "surrogateescape")
    found = smithsonian.read_smithsonian(duckdb.connect(), [str(path)])
    rows = found.to_arrow_table().to_pylist()
    assert all({*STATED, *LOCATED} <= set(row) for row in rows)
    return sorted(rows, key=lambda row: row["key"])


def test_each_picture_of_a_record_is_a_row_with_its_own_access(tmp_path):
    media = [medium(), medium("NMAH-2", "Usage conditions apply")]
    media += [medium("v", type="Audio"), medium("NMAH-3", "CC0", content=None)]
    rows = read(tmp_path, record(*media))
    assert [row["key"].rpartition("/")[2] for row in rows] == [
        "NMAH-1",
        "NMAH-2",
        "NMAH-3",
    ]
    first = rows[0]
    assert first["key"] == "smithsonian/edanmdm-nmah_1/NMAH-1"
    assert (first["title"], first["author"]) == ("A <i>steam</i> engine", "Ann")
    assert first["credit_line"] == "Gift of Bo" and first["unit"] == "NMAH"
    assert first["pageurl"].startswith("https://americanhistory.si.edu/")
    frame = catalog.assign_splits([row | {"spec": "x"} for row in rows], [], seed=0)
    assert frame["split"].tolist() == ["c", "rejected", "rejected"]
    assert "'Usage conditions apply'" in frame["reason"][1]
    assert frame["reason"][2] == "the picture has no address"


def test_access_to_the_words_opens_no_picture(tmp_path):
    (row,) = read(tmp_path, record(medium(access=None)))
    (found,) = catalog.assign_splits([row | {"spec": "x"}], [], 0).to_dict("records")
    assert found["split"] == "rejected" and "cannot accept licence" in found["reason"]


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ("{", "the line is no JSON"),
        ("[1]", "the line is a list, expected an object"),
        ("null", "the line is a NoneType, expected an object"),
        ('{"id": "\udcff"}', "the line is not UTF-8"),
        ("{}", "the record has no picture"),
        (record(), "the record has no picture"),
        (record(medium(), own=""), "the record has no id"),
        ({"id": 7, "content": {"freetext": [1]}}, "the record has no picture"),
    ],
)
def test_a_line_without_a_usable_picture_is_a_row_with_its_reason(
    tmp_path, odd, reason
):
    rows = read(tmp_path, record(medium()), odd)
    assert len(rows) == 2
    (bad,) = [row for row in rows if row["reason"]]
    assert reason in bad["reason"] and bad["key"]


def test_no_file_is_one_line():
    with pytest.raises(SourceError, match="no file of records"):
        smithsonian.read_smithsonian(duckdb.connect(), [])
