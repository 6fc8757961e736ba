"""A manifest adds up, names every file, and notices every change."""

import json
import os
import random
import shutil
import tempfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError, StorageError
from commoncanvas.core.files import sha256_of, shown
from commoncanvas.core.manifest import (
    listed,
    new_folder,
    read_manifest,
    stage_name,
    write_manifest,
)

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
    assert write(folder, facts={"shape": [8, 8]}) == read_manifest(folder)


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
    read_manifest(folder, verify=False)
    with pytest.raises(ManifestError, match="changed: b.txt"):
        read_manifest(folder)


def test_verifying_notices_a_missing_and_a_new_file(folder):
    write(folder)
    (folder / "b.txt").rename(folder / "c.txt")
    with pytest.raises(ManifestError, match="missing: b.txt; not listed: c.txt"):
        read_manifest(folder)


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


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
NAMES = st.text(min_size=1, max_size=60).filter(
    lambda name: not {"/", "\0"} & {*name} and not name.startswith((".", "manifest"))
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.text(), JSON, max_size=3), NAMES, st.binary(max_size=20))
def test_reading_undoes_writing_whatever_the_facts_and_names(facts, name, data):
    with tempfile.TemporaryDirectory() as place:
        try:
            with open(os.path.join(place, name), "wb") as file:
                file.write(data)
            wrote = write_manifest(place, "toy", None, None, 1, 1, {}, facts)
        except (ManifestError, UnicodeEncodeError) as refused:
            assert "\n" not in str(refused)
        else:
            assert read_manifest(place) == wrote and wrote["facts"] == facts


def test_a_name_that_is_no_text_is_refused(folder):
    with open(os.fsencode(folder) + b"/caf\xe9.txt", "wb"):
        pass
    with pytest.raises(ManifestError, match="file's name that is not JSON"):
        write(folder)


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "fact", [DEEP, "NaN", "-Infinity", '{"a": 1, "a": 2}', '"\\ud800"', "1" * 5000]
)
def test_facts_that_no_stage_wrote_are_refused_in_one_line(folder, fact):
    write(folder, facts={"fact": "here"})
    file = folder / "manifest.json"
    file.write_text(file.read_text().replace('"here"', fact))
    with pytest.raises(ManifestError, match="cannot be read") as caught:
        read_manifest(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(20))
def test_a_bit_that_flipped_anywhere_is_noticed(folder, seed):
    wrote, rng = write(folder, facts={"rate": 0.5}), random.Random(seed)
    (folder / "c.bin").write_bytes(rng.randbytes(3000))
    wrote = write(folder, facts={"rate": 0.5})
    file = folder / rng.choice(["b.txt", "c.bin"])
    data = bytearray(file.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    before = file.read_bytes()
    file.write_bytes(data)
    with pytest.raises(ManifestError, match=f"changed: {file.name}"):
        read_manifest(folder)
    with pytest.raises(ManifestError, match=f"changed: {file.name}"):
        listed(folder, file.name)
    file.write_bytes(before)
    assert read_manifest(folder) == wrote
    assert listed(folder, file.name) == file


def test_one_file_that_is_not_listed_is_refused(folder):
    write(folder)
    (folder / "new.txt").write_text("new")
    with pytest.raises(ManifestError, match="not listed: new.txt"):
        listed(folder, "new.txt")
    with pytest.raises(ManifestError, match="none.txt"):
        listed(folder, "none.txt")


def test_what_jupyter_leaves_in_a_folder_is_no_fault(folder):
    wrote = write(folder)
    (folder / ".ipynb_checkpoints").mkdir()
    for name in (".ipynb_checkpoints/b-checkpoint.txt", "deep/.DS_Store"):
        (folder / name).write_text("x")
    assert read_manifest(folder) == wrote


def test_a_repeat_is_a_stage_of_its_own():
    folder = paths.stage_dir("mini", "05_evaluate", "cc_human-18")
    assert stage_name(folder) == "05_repeat@mini-cc_human-18"


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path


def test_a_new_folder_is_empty_and_what_is_named_after_it_is_gone(root):
    folder = new_folder("mini", "04_train", "cc")
    names = ["cc.csv", "cc.json", "cc_human.csv", "cc.d/kept.txt", "cc/a/b.txt"]
    for name in [*names, "cc/manifest.json"]:
        (folder.parent / name).parent.mkdir(exist_ok=True)
        (folder.parent / name).write_text("old")
    assert new_folder("mini", "04_train", "cc") == folder
    found = {p.relative_to(folder.parent).as_posix() for p in folder.parent.rglob("*")}
    assert found == {"cc", "cc.d", "cc.d/kept.txt", "cc_human.csv"}


@pytest.mark.parametrize("is_hard", [False, True])
def test_a_new_folder_writes_through_no_link(root, is_hard):
    cache = root / "cache"
    cache.mkdir()
    (cache / "a1").write_text("cached")
    folder = new_folder("mini", "01_licenses")
    link = os.link if is_hard else os.symlink
    link(cache / "a1", folder / "a.txt")
    (new_folder("mini", "01_licenses") / "a.txt").write_text("of another run")
    assert (cache / "a1").read_text() == "cached"
    (folder / "a.txt").unlink()
    folder.rmdir()
    folder.symlink_to(cache)
    (new_folder("mini", "01_licenses") / "a1").write_text("of another run")
    assert (cache / "a1").read_text() == "cached" and not folder.is_symlink()


def test_a_folder_that_cannot_be_emptied_is_one_line(root):
    (root / "data").write_text("a file")
    with pytest.raises(StorageError, match="data/mini/01_licenses cannot be written"):
        new_folder("mini", "01_licenses")


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o027])
def test_a_stage_s_files_are_read_by_whom_the_umask_lets(tmp_path, mask):
    """Safetensors writes for its owner alone."""
    (tmp_path / "unet").mkdir()
    for name in ("unet/a.safetensors", "b.csv"):
        (tmp_path / name).write_bytes(b"x")
        (tmp_path / name).chmod(0o600)
    before = os.umask(mask)
    try:
        write_manifest(tmp_path, "04_train", "toy", "cc", 1, 1, {}, {})
    finally:
        os.umask(before)
    modes = {f.stat().st_mode & 0o777 for f in tmp_path.rglob("*") if f.is_file()}
    assert modes == {0o666 & ~mask}


def test_a_model_whose_ancestor_has_changed_is_refused_in_one_line(
    tmp_path, monkeypatch
):
    """The ancestor may be of another scale, where DVC sees no change."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    first, second = (tmp_path / f"data/{scale}/04_train/cc" for scale in ("a", "b"))
    for folder in (first, second):
        folder.mkdir(parents=True)
    write_manifest(first, "04_train", "a", "cc", 1, 1, {}, {})
    ancestor = {"folder": "data/a/04_train/cc", "facts": {}}
    ancestor["manifest"] = sha256_of(first / "manifest.json")
    facts = {"ancestor": ancestor}
    write_manifest(second, "04_train", "b", "cc", 1, 1, {}, facts)
    assert read_manifest(second)["facts"] == facts
    write_manifest(first, "04_train", "a", "cc", 2, 2, {}, {})
    with pytest.raises(ManifestError, match="a/04_train/cc, which has changed") as told:
        read_manifest(second, verify=False)
    message = str(told.value)
    assert "\n" not in message and "--single-item 04_train@b-cc" in message
    shutil.rmtree(first)  # what is gone can say nothing
    assert read_manifest(second)["facts"] == facts
