"""Work is resumed where it stopped, never redone, and never read half-written."""

import errno
import os
from pathlib import Path

import pytest

from commoncanvas.core import keys, paths
from commoncanvas.core.errors import ParameterError, StorageError
from commoncanvas.core.keys import code_hash, finish, key_of, work_folder

KEY = "0123456789abcdef"


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(paths, "FINISHED", tmp_path / "finished")


def test_finishing_removes_the_folder_and_may_be_repeated():
    work_folder(KEY)
    finish(KEY)
    finish(KEY)
    assert not (paths.CHECKPOINTS / KEY).exists()


def test_finishing_what_was_never_begun_does_nothing():
    finish(KEY)
    assert not (paths.FINISHED / KEY).exists()


def test_the_oldest_finished_work_goes(monkeypatch):
    monkeypatch.setattr(keys, "NUM_FINISHED", 2)
    for number, key in enumerate(("one", "two", "three")):
        work_folder(key)
        finish(key)
        os.utime(paths.FINISHED / key, (number, number))
    work_folder("four")
    finish("four")
    assert {f.name for f in paths.FINISHED.iterdir()} == {"three", "four"}


def test_a_key_depends_on_names_and_values_but_not_on_order():
    assert key_of(a=1, b=[2]) == key_of(b=[2], a=1)
    assert len({key_of(a=1), key_of(a=2), key_of(b=1), key_of(a="1")}) == 4


@pytest.mark.parametrize("bad", [{1, 2}, float("nan"), object()])
def test_a_key_of_something_that_is_not_json_is_refused(bad):
    with pytest.raises(ParameterError, match="not JSON"):
        key_of(part=bad)


@pytest.mark.parametrize("bad", ["", "..", "a/b", "../x"])
def test_a_key_cannot_leave_its_folder(bad):
    with pytest.raises(ParameterError, match="plain name"):
        work_folder(bad)


def test_the_code_hash_follows_imports(tmp_path, monkeypatch):
    package = tmp_path / "commoncanvas" / "core"
    package.mkdir(parents=True)
    (package / "top.py").write_text("from commoncanvas.core.low import x\n")
    (package / "low.py").write_text("x = 1\n")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    before = code_hash("core.top")
    (package / "low.py").write_text("x = 2\n")
    assert code_hash("commoncanvas.core.top") != before


def test_an_unknown_module_is_refused_with_the_known_ones():
    with pytest.raises(ParameterError, match="core.keys"):
        code_hash("nonsense")


def test_the_code_hash_covers_the_tables_that_a_module_names(tmp_path, monkeypatch):
    package = tmp_path / "commoncanvas" / "core"
    package.mkdir(parents=True)
    (package / "top.py").write_text('TABLE = "table.yaml"\n')
    for name in ("table.yaml", "other.yaml"):
        (package / name).write_text("a: 1\n")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    before = code_hash("core.top")
    (package / "other.yaml").write_text("a: 2\n")
    assert code_hash("core.top") == before
    (package / "table.yaml").write_text("a: 2\n")
    assert code_hash("core.top") != before


def across(monkeypatch):
    """Let a rename between the two folders fail as between two file systems."""

    def replace(old, new, real=os.replace):
        places = {paths.FINISHED in path.parents for path in (Path(old), Path(new))}
        if len(places) == 2:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(old, new)

    monkeypatch.setattr(os, "replace", replace)


def test_work_is_finished_on_another_file_system_too(monkeypatch):
    (work_folder(KEY) / "a").write_text("a")
    across(monkeypatch)
    finish(KEY)
    assert [path.name for path in paths.FINISHED.iterdir()] == [KEY]
    assert (work_folder(KEY) / "a").read_text() == "a"
    assert not (paths.CHECKPOINTS / KEY).exists()


def test_what_a_kill_left_between_two_file_systems_is_tidied(monkeypatch):
    for folder in (paths.CHECKPOINTS / KEY, paths.FINISHED / KEY):
        folder.mkdir(parents=True)
        (folder / "a").write_text("a")
    (paths.FINISHED / ".part-1").mkdir()
    (paths.FINISHED / "notes.txt").write_text("a reader's")
    finish(KEY)
    names = sorted(path.name for path in paths.FINISHED.iterdir())
    assert names == [KEY, "notes.txt"] and not (paths.CHECKPOINTS / KEY).exists()


def test_checkpoints_may_be_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    paths.CHECKPOINTS.symlink_to(tmp_path / "elsewhere")
    (work_folder(KEY) / "a").write_text("a")
    finish(KEY)
    assert (work_folder(KEY) / "a").read_text() == "a"


def test_a_folder_that_cannot_be_made_is_one_line():
    paths.CHECKPOINTS.write_text("a file")
    with pytest.raises(StorageError, match="cannot be written") as caught:
        work_folder(KEY)
    assert "\n" not in str(caught.value)
