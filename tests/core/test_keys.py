"""Work is resumed where it stopped, never redone, and never read half-written."""

import os

import pytest

from commoncanvas.core import keys, paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.files import write_atomically
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


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    file = tmp_path / "x.txt"
    file.write_text("old")

    def fail(part):
        part.write_text("ne")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_atomically(file, fail)
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]
    assert file.read_text() == "old"


def test_a_write_makes_its_folder_and_keeps_the_suffix(tmp_path):
    seen = []
    file = tmp_path / "new" / "x.npz"
    write_atomically(file, lambda part: (seen.append(part), part.write_text("x")))
    assert file.read_text() == "x"
    assert seen[0].suffix == ".npz"
