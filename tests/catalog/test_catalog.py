"""No row is lost, and what is kept depends on licence, seed and key alone."""

import csv
import hashlib
import io
import json
import re
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

from commoncanvas.catalog import catalog, drawing, originals
from commoncanvas.catalog.sources import yfcc
from commoncanvas.core.errors import ParameterError, SourceError
from commoncanvas.licenses import attribution
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
            "date_seen": "2020-02-29",
            "source": source,
            "spec": source,
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


def test_every_licensed_work_of_a_referee_is_held_out_and_no_other_for_it(frame):
    plain = catalog.choose(frame, 5, False, 0.3)
    chosen = catalog.choose(frame, 5, False, 0.3, referee_sources=["zero"])
    is_referee = (chosen["spec"] == "zero") & (chosen["split"] != "rejected")
    assert is_referee.sum() == 5 and chosen.loc[is_referee, "is_holdout"].all()
    others = chosen["spec"] != "zero"
    assert (chosen["is_holdout"] == plain["is_holdout"])[others].all()
    assert (chosen["split"] == plain["split"]).all()


@pytest.mark.parametrize("name", ["web", "gpl", "none"])
def test_a_referee_must_have_licensed_works(frame, name):
    with pytest.raises(ParameterError, match=f"referee_sources has `{name}`, which"):
        catalog.choose(frame, 0, False, 0.3, referee_sources=["free", name])


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
    row["dateuploaded"] = "1316432672"
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


def test_a_work_without_a_date_is_rejected_and_stops_no_other():
    rows = rows_of("free", 2) + rows_of("zero", 2) + rows_of("gpl", 1)
    for row in rows[::2]:
        row["date_seen"] = ""
    frame = catalog.assign_splits(rows, [], 0).set_index("key")
    for key in ("free/00", "zero/00"):  # a proof is owed in the public domain, too
        assert frame.loc[key, "reason"] == "its licence asks for its date_seen"
    assert frame.loc[["free/01", "zero/01"], "split"].tolist() == ["c", "c"]
    assert "GPL" in frame.loc["gpl/00", "reason"]


def test_the_same_key_twice_rejects_all_but_the_first_that_can_be_used():
    rows = rows_of("free", 3) + rows_of("free", 2) + rows_of("free", 1)
    rows += [rows_of("zero", 1)[0] | {"key": "free/00#2"}]
    rows[0]["reason"] = "file is empty"
    frame = catalog.assign_splits(rows, [], 0)
    assert len(frame) == len(rows) and frame["key"].is_unique
    assert frame["key"].is_monotonic_increasing
    reasons = frame.set_index("key")["reason"]
    again = "its key is that of another row"
    assert reasons["free/00"] == reasons["free/00#2"] == reasons["free/02"] == ""
    assert (reasons == again).sum() == 2 and (reasons == "file is empty").sum() == 1
    assert frame["split"].tolist().count("rejected") == 3


def test_a_key_of_the_web_twice_is_rejected_too():
    frame = catalog.assign_splits(rows_of("web", 1) * 2, ["web"], 0)
    assert frame["split"].tolist() == ["web", "rejected"]


def test_many_rows_of_one_key_take_no_time():
    frame = catalog.assign_splits(rows_of("free", 1) * 3000, [], 0)
    assert frame["key"].is_unique and (frame["split"] == "c").sum() == 1


def test_no_rows_at_all_are_one_line():
    with pytest.raises(SourceError, match="no works; expected.*cc_sources") as error:
        catalog.assign_splits(catalog.read_sources([], []), [], 0)
    assert "\n" not in str(error.value)


def test_a_profile_of_which_nothing_is_left_says_why():
    frame = catalog.assign_splits(rows_of("gpl", 3), [], 0)
    with pytest.raises(SourceError, match="all 3 works.*GPL") as error:
        catalog.expect_works(frame[:0], frame)
    assert "\n" not in str(error.value)
    catalog.expect_works(frame, frame[:0])


@pytest.mark.parametrize("name", ["twemoji", "toys"])
def test_the_web_is_known_by_its_specification_and_not_by_its_name(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    (folder / "a.png").write_bytes(png("red"))
    line = "a.png,Ada,https://example.org/a,All rights reserved"
    (folder / "t.csv").write_text(f"file,author,pageurl,license\n{line}\n")
    spec = f"folder:{folder / 't.csv'}"
    rows = catalog.read_sources([spec])
    assert rows[0]["spec"] == spec and rows[0]["source"] == name
    for web, split in (([spec], "web"), ([name], "rejected")):
        assert catalog.assign_splits(rows, web, 0)["split"].tolist() == [split]


def test_a_limit_holds_for_each_source_and_not_for_those_of_one_name():
    rows = rows_of("free", 4) + rows_of("zero", 4)
    rows = [row | {"source": "toys"} for row in rows]
    frame = catalog.choose(catalog.assign_splits(rows, [], 0), 2, True, 0.0)
    kept = frame[frame["split"] == "c"]
    assert kept.groupby("spec").size().to_dict() == {"free": 2, "zero": 2}


@pytest.mark.parametrize(
    ("groups", "found"),
    [
        ([["zmdi", "zmdi"], []], "'zmdi' more than once"),
        ([["zmdi"], ["zmdi"]], "'zmdi' more than once"),
        ([[{"folder": "a.csv"}]], "{'folder': 'a.csv'}; expected text"),
        ([[], [7]], "list 7; expected text"),
    ],
)
def test_a_list_that_cannot_be_meant_is_one_line(groups, found):
    with pytest.raises(ParameterError, match=re.escape(found)) as error:
        catalog.read_sources(*groups)
    assert "\n" not in str(error.value)


def empty_folder(path):
    (path / "t.csv").write_text("file,license\n")
    return f"folder:{path}/t.csv"


def empty_tar(path):
    tarfile.open(path / "0.tar", "w").close()
    return f"webdataset:{path}/*.tar"


def empty_commoncatalog(path):
    path = path / "0/least_dim_range=256-512/aspect_ratio_bucket=1-1"
    path.mkdir(parents=True)
    table = pa.table({name: pa.array([], "string") for name in yfcc.CATALOG_COLUMNS})
    pq.write_table(table, path / "part-0.parquet")
    return f"commoncatalog:256-512:{path.parents[2]}"


@pytest.mark.parametrize("others", [[], ["zmdi"]])
@pytest.mark.parametrize(
    "make",
    [
        empty_folder,
        empty_tar,
        empty_commoncatalog,
        lambda path: f"folder:{path}",
        lambda path: f"folder:{path}/none.csv",
        lambda path: "webdataset:",
        lambda path: f"webdataset:{path}/*.tar",
        lambda path: f"commoncatalog:256-512:{path}",
        lambda path: "commoncatalog:256-512",
        lambda path: "commoncatalog:256-512:nothing://at-all",
        lambda path: "no:such source",
    ],
)
def test_a_source_that_gives_nothing_is_one_line_also_beside_others(
    tmp_path, make, others
):
    with pytest.raises(SourceError, match="expected") as error:
        catalog.read_sources([*others, make(tmp_path)], [])
    assert "\n" not in str(error.value)


def test_an_empty_tar_beside_others_is_a_row(tmp_path):
    source = empty_tar(tmp_path)
    (tmp_path / "1.tar").write_bytes(b"no tar")
    reasons = [row["reason"] for row in catalog.read_source(source)]
    assert len(reasons) == 2 and all(reasons)


def test_reasons_beyond_the_commonest_are_counted_together():
    reasons = pd.DataFrame({"reason": ["a"] * 3 + ["b"] * 2 + ["c", "d"]})
    counts = catalog.count_reasons(reasons, 2)
    assert counts == {"a": 3, "b": 2, "other reasons": 2}
    assert "other reasons" not in catalog.count_reasons(reasons)


def test_a_frame_of_sources_holds_the_rows_of_each(folder):
    frame = catalog.read_frame([folder], ["zmdi"])
    rows = catalog.read_sources([folder], ["zmdi"])
    assert frame["key"].tolist() == [row["key"] for row in rows]
    judged = [catalog.assign_splits(given, [], 0) for given in (frame, rows)]
    pd.testing.assert_frame_equal(*judged)
    assert judged[0].loc[judged[0]["spec"] == "zmdi", "start"].eq(-1).all()


@pytest.mark.parametrize("kind", ["svg", "picture", "path"])
def test_the_source_s_hash_is_that_of_its_own_bytes(tmp_path, kind):
    data = "<svg>é</svg>".encode()
    (tmp_path / "a").write_bytes(data)
    values = {"svg": data.decode(), "picture": data, "path": str(tmp_path / "a")}
    others = dict.fromkeys(values, float("nan"))
    row = others | {kind: values[kind]}
    assert originals.source_sha256(row) == hashlib.sha256(data).hexdigest()


NAMES = st.sampled_from(["a.png", "é.png", "e\u0301.png", "b.c.png", "in\\a.png", "x"])
LICENSES = st.sampled_from(["CC0", "CC BY 4.0", "CC BY-NC 2.0", "mine", "", "\0", "😀"])
CELLS = st.sampled_from(["", "Ada", "\u200b", "https://example.org/a", "2020-01-01"])
WORKS = st.lists(st.tuples(NAMES, LICENSES, CELLS, CELLS, CELLS), max_size=6)


@pytest.mark.slow
@given(WORKS, st.lists(WORKS, max_size=3), st.lists(NAMES, max_size=4))
@settings(max_examples=60, deadline=None)
def test_whatever_people_state_rows_in_are_rows_kept_or_rejected(
    tmp_path_factory, table, tars, files
):
    names = ["file", "license", "author", "pageurl", "date_seen"]
    folder = tmp_path_factory.mktemp("w")
    for file in files:
        (folder / file).write_bytes(png("red"))
    with (folder / "t.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([names, *table])
    for number, works in enumerate(tars):
        path = folder / f"{number % 2}" / "0.tar"  # two may be called alike
        path.parent.mkdir(exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for name, *said in works:
                stated = json.dumps(dict(zip(names[1:], said, strict=True)))
                stem = name.rpartition(".")[0]
                parts = (name, png("blue")), (f"{stem}.json", stated.encode())
                for part, data in parts:
                    member = tarfile.TarInfo(part)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    sources = [f"folder:{folder}/t.csv", f"webdataset:{folder}/*/*.tar"]
    rows = []
    for source in sources:
        try:
            rows += catalog.read_sources([source])
        except SourceError as error:
            assert "\n" not in str(error)
    if not rows:
        return
    frame = catalog.choose(catalog.assign_splits(rows, [], 0), 2, True, 0.5)
    kept = frame["split"] != "rejected"
    assert len(frame) == len(rows) and frame["key"].is_unique
    assert ((frame["reason"] == "") == kept).all()
    assert frame.loc[kept, "split"].isin(["c", "nc", "nd"]).all()
    owed = attribution.missing_credits(
        attribution.ledger(frame[kept].assign(sha256="0"), "Drawn.")
    )
    assert owed.empty
    assert len([row for row in rows if "path" in row]) >= len(table)


def test_an_unknown_source_is_named():
    with pytest.raises(SourceError, match="'nosuchset' is not pinned"):
        catalog.read_source("nosuchset")
