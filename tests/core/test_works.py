"""The catalogue is counted, sampled and read in pieces as if it were read whole."""

import numpy as np
import pandas as pd
import pytest

from commoncanvas.core import works
from commoncanvas.core.errors import ManifestError
from commoncanvas.core.picture_store import write_pictures

NUM, FILES = 40, 4


@pytest.fixture
def folder(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"key": [f"toy/{i:02d}" for i in range(NUM)]})
    frame["title"] = [f"title {i}" for i in range(NUM)]
    frame["split"] = rng.choice(["c", "nc", "nd", "web"], NUM)
    frame["file"] = rng.integers(0, FILES, NUM)
    for number, rows in frame.sample(frac=1, random_state=1).groupby("file"):
        told = [(row.key, row.split, b"picture") for row in rows.itertuples()]
        write_pictures(tmp_path, number, told)
    gone = frame[:5].assign(key=[f"gone/{i}" for i in range(5)], split="rejected")
    listed = pd.concat([frame, gone.assign(file=-1)])
    listed.to_parquet(tmp_path / "catalog.parquet")
    monkeypatch.setattr(works, "_BATCH", 7)  # a file's rows come in several batches
    return tmp_path, frame


def test_works_come_with_their_file_in_its_order(folder):
    path, frame = folder
    pieces = list(works.works_by_file(path, ["title", "split"]))
    assert [file.stem for file, _ in pieces] == [f"{i:05d}" for i in range(FILES)]
    for file, rows in pieces:
        assert rows["key"].tolist() == works.read_keys(file)
    every = pd.concat([rows for _, rows in pieces]).sort_values("key")
    wanted = frame[["key", "file", "title", "split"]]
    assert every.astype(object).values.tolist() == wanted.values.tolist()


@pytest.mark.parametrize("key", ["more", None])
def test_a_file_of_other_works_is_named(folder, key):
    path, frame = folder
    told = [(k, "c", b"") for k in frame["key"][frame["file"] == 2][1:]]
    write_pictures(path, 2, told + ([(key, "c", b"")] if key else []))
    with pytest.raises(ManifestError, match="00002.parquet of the pictures has"):
        list(works.works_by_file(path, ["title"]))


def test_counts_are_those_of_the_whole_table(folder):
    path, frame = folder
    found = works.count_works(path, ["split", "file"])
    wanted = frame.groupby(["split", "file"]).size()
    kept = found[found["split"] != "rejected"].set_index(["split", "file"])["size"]
    assert kept.to_dict() == wanted.to_dict()
    assert found["size"].sum() == NUM + 5


def test_a_sample_is_random_and_loses_only_what_is_taken_down(folder):
    path, frame = folder
    licensed = set(frame["key"][frame["split"].isin(works.LICENSED)])
    whole = works.sample_works(path, NUM, 3)["key"].tolist()
    assert set(whole) == licensed and whole != sorted(whole)
    assert works.sample_works(path, 5, 3)["key"].tolist() == whole[:5]
    assert works.sample_works(path, NUM, 4)["key"].tolist() != whole
    rest = pd.read_parquet(path / "catalog.parquet").query("key != @whole[2]")
    rest.to_parquet(path / "catalog.parquet")
    again = works.sample_works(path, NUM, 3)["key"].tolist()
    assert again == whole[:2] + whole[3:]


def test_a_folder_with_brackets_is_no_pattern(tmp_path):
    for name, split in (("run1", "nc"), ("run[1]", "c")):
        (tmp_path / name).mkdir()
        rows = pd.DataFrame({"split": [split]})
        rows.to_parquet(tmp_path / name / "catalog.parquet")
    found = works.count_works(tmp_path / "run[1]", ["split"])
    assert found["split"].tolist() == ["c"]
