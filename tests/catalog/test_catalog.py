"""No row is lost, and what is kept depends on licence, seed and key alone."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from commoncanvas.catalog import catalog, drawing
from commoncanvas.catalog.sources import yfcc
from commoncanvas.core.errors import SourceError
from commoncanvas.licenses.license import License

BODY = '<rect width="16" height="16"/>'
SPLITS = {"c", "nc", "nd", "web", "rejected"}
STATEMENTS = {
    "free": ("CC-BY-4.0", "https://creativecommons.org/licenses/by/4.0/"),
    "zero": ("CC0-1.0", ""),
    "closed": ("CC-BY-NC-4.0", ""),
    "fixed": ("CC-BY-ND-4.0", ""),
    "gpl": ("GPL-3.0", ""),
    "font": ("OFL-1.1", ""),
    "odd": ("all mine", ""),
    "web": ("CC-BY-4.0", ""),
}


def rows_of(source, num=8, **fields):
    text, url = STATEMENTS[source]
    return [
        {
            "key": f"{source}/{i:02d}",
            "title": f"name {i}",
            "author": "A",
            "author_url": "",
            "pageurl": f"https://example.org/{i}",
            "reason": "",
            "license_text": text,
            "license_url": url,
            "source": source,
            "is_hidden": i == 1,
            "is_skin_tone": i == 2,
            **fields,
        }
        for i in range(num)
    ]


ROWS = [row for source in STATEMENTS for row in rows_of(source)]


FRAME = catalog.assign_splits(ROWS, ["web"], seed=3)


@pytest.fixture
def frame():
    return FRAME.copy()


def kept_keys(frame, max_per_source):
    chosen = catalog.choose(frame, max_per_source, False, 0.3)
    return set(chosen.loc[chosen["split"] != "rejected", "key"])


def test_every_row_is_judged_once(frame):
    assert sorted(frame["key"]) == sorted(row["key"] for row in ROWS)
    assert set(frame["split"]) == SPLITS


@pytest.mark.parametrize("max_per_source", [0, 1, 3, 100])
def test_rows_in_are_rows_kept_and_rows_rejected(frame, max_per_source):
    chosen = catalog.choose(frame, max_per_source, False, 0.3)
    assert chosen["key"].tolist() == frame["key"].tolist()
    reasons = chosen.loc[chosen["split"] == "rejected", "reason"].value_counts()
    kept = (chosen["split"] != "rejected").sum()
    assert len(frame) == kept + reasons.sum()


def test_a_reason_is_given_to_the_rejected_and_to_nobody_else(frame):
    chosen = catalog.choose(frame, 3, False, 0.3)
    assert ((chosen["reason"] != "") == (chosen["split"] == "rejected")).all()


def test_a_first_reason_is_never_written_over(frame):
    chosen = catalog.choose(frame, 1, False, 0.3)
    before = frame["split"] == "rejected"
    assert (chosen["reason"] == frame["reason"])[before].all()


def test_choosing_changes_neither_the_frame_nor_its_facts(frame):
    before = frame.copy(deep=True)
    chosen = catalog.choose(frame, 2, False, 0.3)
    pd.testing.assert_frame_equal(frame, before)
    facts = ["is_hidden", "is_skin_tone", "license_slug", "order"]
    pd.testing.assert_frame_equal(chosen[facts], before[facts])


@pytest.mark.parametrize(
    ("source", "split"),
    [("free", "c"), ("zero", "c"), ("closed", "nc"), ("fixed", "nd")],
)
def test_the_split_follows_the_licence(frame, source, split):
    assert set(frame.loc[frame["source"] == source, "split"]) == {split}


def test_a_ported_licence_can_be_rebuilt_from_the_catalogue():
    rows = rows_of("free", 1, license_text="CC-BY-SA-3.0-DE", license_url="")
    rows += rows_of("zero", 1)
    frame = catalog.assign_splits(rows, [], 0)
    columns = frame[["license_slug", "license_version", "license_port"]]
    read = [License.from_columns(*row) for row in columns.itertuples(index=False)]
    assert [one.title for one in read] == ["CC BY-SA 3.0 DE", "CC0 1.0"]
    assert [one.title for one in read] == frame["license_title"].tolist()


@pytest.mark.parametrize("text", [s[0] for s in STATEMENTS.values()])
def test_the_web_is_never_among_the_licensed(text):
    rows = rows_of("web", license_text=text)
    assert set(catalog.assign_splits(rows, ["web"], 0)["split"]) == {"web"}


@pytest.mark.parametrize(("source", "word"), [("gpl", "GPL"), ("font", "OFL")])
def test_software_and_font_licences_are_rejected_by_name(frame, source, word):
    found = frame[frame["source"] == source]
    assert set(found["split"]) == {"rejected"}
    assert all(word in reason for reason in found["reason"])


def test_a_licence_that_cannot_be_read_is_rejected_with_its_words(frame):
    found = frame[frame["source"] == "odd"]
    assert set(found["license_slug"]) == {"unread"}
    assert all("all mine" in reason for reason in found["reason"])


def test_hidden_pictures_and_skin_tones_are_named(frame):
    chosen = catalog.choose(frame, 0, False, 0.0).set_index("key")
    assert "withdrawn" in chosen.loc["free/01", "reason"]
    assert "skin-tone" in chosen.loc["free/02", "reason"]


def test_skin_tones_stay_where_they_are_wanted(frame):
    chosen = catalog.choose(frame, 0, True, 0.0).set_index("key")
    assert chosen.loc["free/02", "split"] == "c"


@given(st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=10, deadline=None)
def test_a_larger_scale_keeps_every_work_of_a_smaller_one(a, b):
    small, large = sorted((a, b))
    assert kept_keys(FRAME, small) <= kept_keys(FRAME, large) <= kept_keys(FRAME, 0)


@pytest.mark.parametrize("max_per_source", [1, 4])
def test_no_set_gives_more_than_the_scale_allows(frame, max_per_source):
    chosen = catalog.choose(frame, max_per_source, False, 0.3)
    kept = chosen[chosen["split"] != "rejected"]
    assert set(kept.groupby("source").size()) == {max_per_source}


def test_no_series_gives_more_than_the_scale_allows(frame):
    # Keys of these toys differ in their numbers alone: each set is one series.
    chosen = catalog.choose(frame, 0, False, 0.3, max_per_series=2)
    kept = chosen[chosen["split"] != "rejected"]
    assert set(kept.groupby("source").size()) == {2}
    thinned = chosen["reason"] == "beyond max_per_series of this scale"
    assert len(kept) + thinned.sum() == len(kept_keys(frame, 0))


def test_whether_a_work_is_held_out_does_not_depend_on_the_scale(frame):
    whole = catalog.choose(frame, 0, False, 0.5).set_index("key")["is_holdout"]
    for max_per_source in (1, 3, 5):
        part = catalog.choose(frame, max_per_source, False, 0.5).set_index("key")
        kept = part[part["split"] != "rejected"]
        assert (kept["is_holdout"] == whole[kept.index]).all()


def test_a_larger_holdout_holds_the_smaller_one(frame):
    held = [catalog.choose(frame, 0, True, s)["is_holdout"] for s in (0.1, 0.4, 1.0)]
    assert not (held[0] & ~held[1]).any() and not (held[1] & ~held[2]).any()
    assert 0 < held[0].sum() < held[1].sum() < held[2].sum()


def test_nothing_of_the_web_and_nothing_rejected_is_held_out(frame):
    chosen = catalog.choose(frame, 3, False, 1.0)
    assert set(chosen.loc[chosen["is_holdout"], "split"]) == {"c", "nc", "nd"}


def test_the_random_order_depends_on_seed_and_key_alone(frame):
    part = catalog.assign_splits(rows_of("free")[::-1], [], seed=3).set_index("key")[
        "order"
    ]
    assert (part == frame.set_index("key")["order"][part.index]).all()
    other = catalog.assign_splits(rows_of("free"), [], seed=4).set_index("key")["order"]
    assert (part != other[part.index]).all()


def test_random_shares_are_spread_evenly():
    found = np.array([catalog._random_share(0, f"k{i}") for i in range(2000)])
    assert 0 <= found.min() and found.max() < 1 and abs(found.mean() - 0.5) < 0.03


def png(colour, size=(12, 8)):
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def run_through(names, size=4):
    """Read sources as stage 01 does, and draw what their licences let through."""
    rows = [row for name in names for row in catalog.read_source(name)]
    frame = catalog.choose(catalog.assign_splits(rows, [], 0), 0, False, 0.0)
    kept = frame[frame["split"] != "rejected"]
    return frame, kept, *drawing.draw_rows(kept.to_dict("records"), size)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "red.png").write_bytes(png("red"))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG not one")
    (tmp_path / "unlisted.png").write_bytes(png("blue"))
    lines = [
        "file,title,author,pageurl,license,license_url",
        "red.png,<script>alert(1)</script>,Ada,https://example.org/red,CC BY 2.0,",
        "bomb.png,bomb,Ada,https://example.org/bomb,CC0-1.0,",
        "gone.png,gone,Ada,https://example.org/gone,CC0-1.0,",
    ]
    (tmp_path / "works.csv").write_text("\n".join(lines), encoding="utf-8")
    return f"folder:{tmp_path / 'works.csv'}"


def test_a_folder_of_pictures_goes_the_way_of_the_icons_and_loses_no_file(folder):
    frame, kept, pixels, reasons = run_through([folder])
    assert len(frame) == 4 and set(frame["split"]) == {"c", "rejected"}
    assert ((frame["reason"] != "") == (frame["split"] == "rejected")).all()
    drawn = dict(zip(kept["title"], reasons, strict=True))
    assert drawn.pop("<script>alert(1)</script>") == ""
    assert list(drawn) == ["bomb"] and drawn["bomb"]
    red = pixels[[reason == "" for reason in reasons]]
    assert (red == (255, 0, 0, 255)).all() and red.shape == (1, 4, 4, 4)


def test_tars_of_pictures_and_a_pinned_set_lie_in_one_catalogue(tmp_path):
    said = {
        "title": "sea",
        "unickname": "Ada",
        "pageurl": "https://www.flickr.com/photos/1/2/",
        "licenseurl": "http://creativecommons.org/licenses/by-nc/2.0/",
    }
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        for name, data in (("1.png", png("blue")), ("1.json", json.dumps(said))):
            data = data if isinstance(data, bytes) else data.encode()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    frame, kept, pixels, reasons = run_through([f"webdataset:{tmp_path}/*.tar", "zmdi"])
    assert kept["split"].tolist() == ["nc"] and reasons == [""]
    assert (pixels == (0, 0, 255, 255)).all()
    assert set(frame.loc[frame["source"] == "zmdi", "split"]) == {"rejected"}


def test_commoncatalog_s_pictures_come_from_its_folders(tmp_path):
    row = dict.fromkeys(yfcc.CATALOG_COLUMNS, "")
    row |= {"unickname": "Ada", "pageurl": "https://www.flickr.com/photos/1/2/"}
    row["licenseurl"] = "http://creativecommons.org/licenses/by/2.0/"
    for number, jpg in enumerate([png("blue"), None]):
        part = "least_dim_range=256-512/aspect_ratio_bucket=1-1"
        path = tmp_path / str(number) / part
        path.mkdir(parents=True)
        one = row | {"photoid": number, "jpg": jpg}
        table = pa.table({name: [value] for name, value in one.items()})
        pq.write_table(table, path / "part-0.parquet")
    frame, kept, pixels, reasons = run_through([f"commoncatalog:256-512:{tmp_path}"])
    assert frame["split"].tolist() == ["c", "c"] and len(kept) == 2
    assert (pixels[0] == (0, 0, 255, 255)).all()
    assert reasons == ["", "file is empty"]


def test_a_file_that_vanished_has_a_reason(folder):
    rows = catalog.read_source(folder)
    (path,) = {row["path"] for row in rows if row["key"].endswith("red.png")}
    Path(path).unlink()
    _, reasons = drawing.draw_rows([{"path": path}], 4)
    assert reasons == ["file cannot be read (No such file or directory)"]


@pytest.mark.parametrize("lacked", ["author", "pageurl"])
def test_a_work_that_cannot_be_credited_is_rejected_by_the_field_it_lacks(lacked):
    rows = rows_of("free", 4) + rows_of("zero", 4)
    for row in rows:
        row[lacked] = "  " if row["key"].endswith("00") else row[lacked]
    frame = catalog.assign_splits(rows, [], 0).set_index("key")
    field = {"pageurl": "source_url"}.get(lacked, lacked)
    assert frame.loc["free/00", "reason"] == f"its licence asks for its {field}"
    assert frame.loc["zero/00", "split"] == "c"  # the public domain asks for none
    assert (frame["split"] == "rejected").sum() == 1


def test_what_an_adapter_could_not_read_stays_with_its_reason():
    rows = rows_of("free", 2, reason="file is empty") + rows_of("web", 2)
    frame = catalog.assign_splits(rows, ["web"], 0)
    unread = frame[frame["source"] == "free"]
    assert set(unread["split"]) == {"rejected"}
    assert set(unread["reason"]) == {"file is empty"}


def test_an_unknown_source_is_named():
    with pytest.raises(SourceError, match="'nosuchset' is not pinned"):
        catalog.read_source("nosuchset")
