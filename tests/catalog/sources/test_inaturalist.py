"""iNaturalist's tables: joins, a declared version, odd lines, ids that stand twice."""

import gzip

import duckdb
import pytest

from commoncanvas.catalog import catalog
from commoncanvas.catalog.columns import LOCATED, STATED
from commoncanvas.catalog.sources import inaturalist
from commoncanvas.core.errors import ParameterError, SourceError

PHOTOS = """photo_uuid photo_id observation_uuid observer_id extension license width
height position""".split()
OBSERVATIONS = """observation_uuid observer_id latitude longitude positional_accuracy
taxon_id quality_grade observed_on anomaly_score""".split()
NAME = 'Ann "the owl" O\'Neil'


def photo(number=1, license="CC-BY", observer=7, observation="o1", extension="jpg"):
    return ["u", number, observation, observer, extension, license, 2048, 1536, 0]


@pytest.fixture
def write(tmp_path):
    """Return a function that writes the four tables with these lines of photos."""

    def write(*photos, with_taxa=True, folder="", observers=()):
        tables = {
            "photos": [PHOTOS, *photos],
            "observers": [["observer_id", "login", "name"], [7, "ann", NAME],
                          [8, "bo", ""], [8, "bo", ""], *observers],
            "observations": [OBSERVATIONS, ["o1", 7, 1, 2, "", 42, "research", "", ""],
                             ["o1", 7, 1, 2, "", 42, "research", "", ""]],
            "taxa": [["taxon_id", "ancestry", "rank_level", "rank", "name", "active"],
                     [42, "1/2", 10, "species", "Strix aluco", "true"]],
        }  # fmt: skip
        for name in tables if with_taxa else ("photos", "observers"):
            lines = ["\t".join(map(str, row)) for row in tables[name]]
            (tmp_path / folder).mkdir(exist_ok=True)
            with gzip.open(tmp_path / folder / f"{name}.csv.gz", "wt") as file:
                file.write("\n".join(lines) + "\n")
        return str(tmp_path / folder)

    return write


def read(folder, **options):
    found = inaturalist.read_inaturalist(duckdb.connect(), folder, **options)
    rows = found.to_arrow_table().to_pylist()
    assert all({*STATED, *LOCATED} <= set(row) for row in rows)
    return sorted(rows, key=lambda row: row["key"])


def test_a_photo_is_joined_with_its_observer_and_its_taxon(write):
    (row,) = read(write(photo()))
    assert row["key"] == "inaturalist/1" and row["author"] == NAME
    assert row["author_url"] == "https://www.inaturalist.org/people/7"
    assert row["pageurl"] == "https://www.inaturalist.org/photos/1"
    assert row["downloadurl"] == inaturalist.BUCKET + "1/large.jpg"
    assert (row["taxon"], row["quality_grade"]) == ("Strix aluco", "research")
    assert row["title"] == row["alt_text"] == row["caption"] == row["captioner"] == ""
    (plain,) = read(write(photo(observer=8), with_taxa=False), size="original")
    assert plain["author"] == "bo" and plain["downloadurl"].endswith("/1/original.jpg")


@pytest.mark.parametrize(
    ("code", "slug", "version", "split"),
    [
        ("CC-BY", "by", "4.0", "c"),
        ("CC-BY-SA", "by-sa", "4.0", "c"),
        ("CC-BY-NC", "by-nc", "4.0", "nc"),
        ("CC-BY-NC-SA", "by-nc-sa", "4.0", "nc"),
        ("CC-BY-ND", "by-nd", "4.0", "nd"),
        ("CC-BY-NC-ND", "by-nc-nd", "4.0", "nd"),
        ("CC0", "cc0", "1.0", "c"),
        ("PD", "no-known-restrictions", "", "rejected"),
        ("", "unread", "", "rejected"),
        ("CC-BY-XX", "unread", "", "rejected"),
    ],
)
def test_the_version_is_declared_by_the_source_and_that_is_recorded(
    write, code, slug, version, split
):
    (row,) = read(write(photo(license=code)))
    (found,) = catalog.assign_splits([row | {"spec": "x"}], [], 0).to_dict("records")
    assert (found["license_slug"], found["license_version"]) == (slug, version)
    assert found["split"] == split
    assert (row["license_note"] == inaturalist.DECLARED) is bool(version)
    assert row["license_text"] in (code, "No known copyright restrictions")


def test_odd_lines_are_rows_with_their_reason(write):
    short, unreadable = photo()[:5], photo("x")
    rows = read(write(photo(), short, unreadable, photo(2, observer=99)))
    assert [row["key"] for row in rows] == [
        "inaturalist/1",
        "inaturalist/2",
        "inaturalist/photos.csv.gz:3",
        "inaturalist/photos.csv.gz:4",
    ]
    reasons = [row["reason"] for row in rows]
    assert reasons[:2] == ["", ""]
    assert reasons[2] == "the line has 5 fields, expected 9"
    assert reasons[3] == "the photo id is no whole number"
    frame = catalog.assign_splits([row | {"spec": "x"} for row in rows], [], seed=0)
    unknown = frame.set_index("key").loc["inaturalist/2"]
    assert "asks for its author" in unknown["reason"]


def test_an_id_that_stands_twice_is_kept_once(write):
    rows = read(write(photo(), photo(observation="o2"), photo(3)))
    frame = catalog.assign_splits([row | {"spec": "x"} for row in rows], [], seed=0)
    assert len(frame) == 3 and (frame["split"] == "c").sum() == 2
    assert frame["reason"].tolist().count("its key is that of another row") == 1


def test_an_observer_who_stands_twice_is_the_first_whole(write):
    (row,) = read(write(photo(observer=9), observers=[[9, "a", "Bea"], [9, "z", ""]]))
    assert row["author"] == "Bea"
    (row,) = read(write(photo(observer=9), observers=[[9, "a", ""], [9, "z", "Zoe"]]))
    assert row["author"] == "a"  # not Zoe, nor z


def test_a_photo_of_no_observer_is_nobody_s(write):
    (row,) = read(write(photo(observer=""), observers=[["", "x", "Somebody"]]))
    assert row["author"] == row["author_url"] == ""


@pytest.mark.parametrize("extension", ["jpg/../../x", "", "jpg?x", "jpg#", "jp g"])
def test_an_extension_that_leads_elsewhere_is_refused(write, extension):
    (row,) = read(write(photo(extension=extension)))
    assert row["reason"] == "the extension is no letters and digits"
    assert row["downloadurl"] == ""


def test_a_folder_with_brackets_is_no_pattern(write):
    write(photo(1), folder="inat1")
    (row,) = read(write(photo(2), folder="inat[1]"))
    assert row["key"] == "inaturalist/2"


def test_what_is_missing_is_named(write, tmp_path):
    with pytest.raises(ParameterError, match="no size 'huge'.*original, large"):
        read(write(photo()), size="huge")
    with pytest.raises(SourceError, match=r"0 files photos\.csv.*fetch it"):
        read(str(tmp_path / "none"))
    (tmp_path / "photos.csv.gz").write_bytes(gzip.compress(b"photo_id\tlicense\n"))
    with pytest.raises(SourceError, match="lacks observation_uuid, observer_id"):
        read(str(tmp_path))
