"""Stored pictures come back by key and file by file, and a lost one is named."""

import numpy as np
import pandas as pd
import pytest

from commoncanvas.core import picture_store as store
from commoncanvas.core.errors import ManifestError
from commoncanvas.core.images import encode_png
from commoncanvas.core.manifest import write_manifest
from tests.support.toys import write_all_pictures

KEYS = ["c", "a", "e", "b", "d"]
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    pngs = [encode_png(p) for p in PIXELS]
    files = write_all_pictures(tmp_path, KEYS, ["c", "nc", "c", "web", "nd"], pngs, 2)
    assert files.tolist() == [0, 0, 1, 1, 2]
    catalog = pd.DataFrame({"key": [*KEYS, "gone"], "file": [*files, -1]})
    catalog.to_parquet(tmp_path / "catalog.parquet")
    return tmp_path


def test_pictures_come_in_the_order_asked(folder):
    found = store.pictures_of(folder, ["d", "c", "d", "b"], 6)
    assert np.array_equal(found, PIXELS[[4, 0, 4, 3]])


def test_files_are_read_one_by_one_and_by_split(folder):
    files = store.picture_files(folder)
    assert [store.read_keys(file) for file in files] == [["c", "a"], ["e", "b"], ["d"]]
    assert store.count_pictures(folder) == 5
    found = [row for file in files for row in store.read_pictures(file, ("c", "nc"))]
    assert found == [(key, encode_png(PIXELS[KEYS.index(key)])) for key in "cae"]


@pytest.mark.parametrize("key", ["gone", "never"])
def test_a_work_without_a_picture_is_named(folder, key):
    with pytest.raises(ManifestError, match=f"1 of 2 works, e.g. '{key}', have no"):
        store.stored_bytes(folder, ["a", key])


def test_files_are_named_by_what_they_hold(folder):
    manifest = write_manifest(folder, "01_licenses", "toy", None, 6, 5, {"x": 1}, {})
    named = store.files_by_hash(folder, manifest)
    assert list(named.values()) == store.picture_files(folder)
    store.write_pictures(folder, 1, [("e", "c", encode_png(PIXELS[2]))])
    manifest = write_manifest(folder, "01_licenses", "toy", None, 6, 5, {"x": 1}, {})
    again = store.files_by_hash(folder, manifest)
    assert [a == b for a, b in zip(named, again, strict=True)] == [True, False, True]
