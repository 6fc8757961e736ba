"""A manifest adds up, names every file, and notices every change."""

import json

import numpy as np
import pytest

from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError
from commoncanvas.core.files import sha256_of, shown
from commoncanvas.core.manifest import read_manifest, stage_name, write_manifest

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "b.txt").write_text("two")
    (tmp_path / "deep" / "a.txt").write_text("")
    return tmp_path


def write(folder, counts=(3, 2, {"too small": 1}), facts=None):
    facts = facts or {}
    return write_manifest(folder, "03_latents", "mini", None, *counts, facts)


def test_every_file_is_listed_sorted_with_hash_and_size(folder):
    files = write(folder)["files"]
    assert list(files) == ["b.txt", "deep/a.txt"]
    assert files["deep/a.txt"] == {"sha256": EMPTY_SHA256, "bytes": 0}


def test_reading_returns_what_was_written(folder):
    assert write(folder, facts={"shape": [8, 8]}) == read_manifest(folder, verify=True)


def test_writing_twice_gives_the_same_bytes(folder):
    write(folder, facts={"b": 1, "a": "é"})
    first = (folder / "manifest.json").read_bytes()
    write(folder, facts={"a": "é", "b": 1})
    assert (folder / "manifest.json").read_bytes() == first
    assert first.endswith(b"}\n")


@pytest.mark.parametrize("counts", [(3, 2, {}), (1, 2, {"x": 1}), (2, 1, {"x": 2})])
def test_rows_that_do_not_add_up_are_refused(folder, counts):
    with pytest.raises(ManifestError, match="must be equal"):
        write(folder, counts)
    assert not (folder / "manifest.json").exists()


@pytest.mark.parametrize("bad", [-1, 1.5, True, "3", None])
def test_a_count_that_is_not_a_whole_number_is_refused(folder, bad):
    with pytest.raises(ManifestError, match="whole number"):
        write(folder, (bad, bad, {}))


def test_numpy_numbers_are_written_as_numbers(folder):
    counts = (np.int64(2), np.int64(2), {})
    facts = write(folder, counts, {"mean": np.float32(0.5)})["facts"]
    assert facts == {"mean": 0.5}


@pytest.mark.parametrize("fact", [float("nan"), {1, 2}, object()])
def test_a_fact_that_is_not_json_is_refused(folder, fact):
    with pytest.raises(ManifestError, match="not JSON"):
        write(folder, facts={"fact": fact})


def test_a_missing_manifest_names_the_stage_to_run():
    folder = paths.stage_dir("nowhere", "04_train", "cc_nc")
    with pytest.raises(ManifestError, match="dvc repro 04_train@nowhere-cc_nc"):
        read_manifest(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"schema": 2}', '{"schema": 1}'])
def test_a_manifest_that_is_not_one_is_refused_in_one_line(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(ManifestError) as caught:
        read_manifest(folder)
    assert "\n" not in str(caught.value)


def test_verifying_notices_a_changed_file(folder):
    write(folder)
    (folder / "b.txt").write_text("owt")
    read_manifest(folder)
    with pytest.raises(ManifestError, match="changed: b.txt"):
        read_manifest(folder, verify=True)


def test_verifying_notices_a_missing_and_a_new_file(folder):
    write(folder)
    (folder / "b.txt").rename(folder / "c.txt")
    with pytest.raises(ManifestError, match="missing: b.txt; not listed: c.txt"):
        read_manifest(folder, verify=True)


def test_the_corpse_of_a_killed_write_is_swept_away(folder):
    (folder / ".part-77-b.txt").write_text("t")
    assert list(write(folder)["files"]) == ["b.txt", "deep/a.txt"]
    assert not (folder / ".part-77-b.txt").exists()


def test_a_folder_that_is_missing_is_refused(tmp_path):
    with pytest.raises(ManifestError, match="no folder"):
        write(tmp_path / "absent")


def test_paths_are_shown_from_the_root():
    folder = paths.stage_dir("mini", "01_licenses")
    assert shown(folder) == "data/mini/01_licenses"
    assert stage_name(folder) == "01_licenses@mini"


def test_the_hash_is_the_published_one(folder):
    assert sha256_of(folder / "deep" / "a.txt") == EMPTY_SHA256


def test_the_file_is_sorted_and_indented_by_one(folder):
    write(folder)
    text = (folder / "manifest.json").read_text()
    same = json.dumps(json.loads(text), sort_keys=True, indent=1, ensure_ascii=False)
    assert text == same + "\n"


def test_a_manifest_whose_rows_do_not_add_up_is_not_read(folder):
    write(folder)
    file = folder / "manifest.json"
    file.write_text(file.read_text().replace('"in": 3', '"in": 4'))
    with pytest.raises(ManifestError, match="4 rows in.*must be equal"):
        read_manifest(folder)


def test_what_a_manifest_lacks_is_named(folder):
    (folder / "manifest.json").write_text('{"schema": 2}')
    with pytest.raises(ManifestError, match="schema: .*stage: Field required"):
        read_manifest(folder)
