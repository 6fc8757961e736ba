"""Work is resumed where it stopped, never redone, and never read half-written."""

import os

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commoncanvas import checkpoints, paths
from commoncanvas.checkpoints import (
    code_hash,
    finish,
    key_of,
    run_shards,
    shard_files,
    work_folder,
    write_atomically,
)
from commoncanvas.errors import ParameterError

KEY = "0123456789abcdef"


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(paths, "FINISHED", tmp_path / "finished")


class Doubler:
    """Double numbers, remember each call, and fail at a chosen item."""

    def __init__(self, fails_at=None):
        self.calls = []
        self.fails_at = fails_at

    def __call__(self, items):
        if self.fails_at in items:
            raise RuntimeError("killed")
        self.calls.append(items)
        return pa.table({"item": items, "twice": [2 * item for item in items]})


def test_rows_come_in_the_order_of_the_items():
    table = run_shards(KEY, [5, 3, 9, 1, 7], 2, Doubler(), "double")
    assert table["item"].to_pylist() == [5, 3, 9, 1, 7]
    assert table["twice"].to_pylist() == [10, 6, 18, 2, 14]


def test_a_finished_shard_is_never_redone():
    run_shards(KEY, range(6), 2, Doubler(), "double")
    second = Doubler()
    run_shards(KEY, range(6), 2, second, "double")
    assert second.calls == []


def test_interrupted_work_goes_on_and_equals_uninterrupted_work():
    with pytest.raises(RuntimeError):
        run_shards(KEY, range(7), 2, Doubler(fails_at=5), "double")
    resumed = Doubler()
    table = run_shards(KEY, range(7), 2, resumed, "double")
    assert resumed.calls == [[4, 5], [6]]
    assert table.equals(run_shards("other", range(7), 2, Doubler(), "double"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.integers(0, 99), min_size=1, max_size=9), st.integers(1, 10))
def test_the_size_of_shards_does_not_change_the_rows(items, shard_size):
    key = key_of(items=items, shard_size=shard_size)
    table = run_shards(key, items, shard_size, Doubler(), "double")
    assert table["item"].to_pylist() == items


def test_other_cuts_under_the_same_key_start_again():
    run_shards(KEY, range(6), 2, Doubler(), "double")
    table = run_shards(KEY, range(6), 4, Doubler(), "double")
    assert table["item"].to_pylist() == list(range(6))


def test_a_half_written_shard_is_not_read():
    folder = work_folder(KEY)
    (folder / ".part-9-shard-00000.parquet").write_bytes(b"PAR1")
    assert run_shards(KEY, [1], 1, Doubler(), "double").num_rows == 1


def test_a_shard_of_missing_values_joins_the_others():
    table = run_shards(
        KEY, [1, 2], 1, lambda n: pa.table({"x": ["a" if n == [2] else None]}), "nulls"
    )
    assert table["x"].to_pylist() == [None, "a"]


def test_a_shard_may_lose_rows():
    table = run_shards(KEY, range(4), 2, lambda n: pa.table({"x": n[:1]}), "halve")
    assert table["x"].to_pylist() == [0, 2]


def test_finishing_removes_the_folder_and_may_be_repeated():
    shard_files(KEY, [1], 1, Doubler(), "double")
    finish(KEY)
    finish(KEY)
    assert not (paths.CHECKPOINTS / KEY).exists()


def test_finished_work_is_found_and_not_repeated():
    first = Doubler()
    table = run_shards(KEY, range(4), 2, first, "double")
    finish(KEY)
    assert run_shards(KEY, range(4), 2, None, "double") == table


def test_finishing_what_was_never_begun_does_nothing():
    finish(KEY)
    assert not (paths.FINISHED / KEY).exists()


def test_the_oldest_finished_work_goes(monkeypatch):
    monkeypatch.setattr(checkpoints, "NUM_FINISHED", 2)
    for number, key in enumerate(("one", "two", "three")):
        shard_files(key, [1], 1, Doubler(), "double")
        finish(key)
        os.utime(paths.FINISHED / key, (number, number))
    shard_files("four", [1], 1, Doubler(), "double")
    finish("four")
    assert {f.name for f in paths.FINISHED.iterdir()} == {"three", "four"}


@pytest.mark.parametrize(("items", "shard_size"), [([], 2), ([1], 0)])
def test_nothing_to_do_is_refused(items, shard_size):
    with pytest.raises(ParameterError, match="at least 1"):
        run_shards(KEY, items, shard_size, Doubler(), "double")


def test_the_progress_bar_counts_items_on_stderr(capsys):
    run_shards(KEY, range(4), 2, Doubler(), "double")
    assert "4/4" in capsys.readouterr().err


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
    package = tmp_path / "commoncanvas"
    package.mkdir()
    (package / "top.py").write_text("from commoncanvas.low import x\n")
    (package / "low.py").write_text("x = 1\n")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    before = code_hash("top")
    (package / "low.py").write_text("x = 2\n")
    assert code_hash("commoncanvas.top") != before


def test_an_unknown_module_is_refused_with_the_known_ones():
    with pytest.raises(ParameterError, match="checkpoints"):
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
