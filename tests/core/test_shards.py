"""A shard is done once, whoever does it, and the order of doing shows nowhere."""

import random
import shutil

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commoncanvas.core import paths, shards
from commoncanvas.core.errors import EngineError, ParameterError
from commoncanvas.core.keys import finish, key_of, work_folder
from commoncanvas.core.shards import named_files, run_shards

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
    (folder / ".part-9-shard-00000000-00000001.parquet").write_bytes(b"PAR1")
    assert run_shards(KEY, [1], 1, Doubler(), "double").num_rows == 1


def test_a_shard_of_missing_values_joins_the_others():
    table = run_shards(
        KEY, [1, 2], 1, lambda n: pa.table({"x": ["a" if n == [2] else None]}), "nulls"
    )
    assert table["x"].to_pylist() == [None, "a"]


def test_a_shard_may_lose_rows():
    table = run_shards(KEY, range(4), 2, lambda n: pa.table({"x": n[:1]}), "halve")
    assert table["x"].to_pylist() == [0, 2]


def test_finished_work_is_found_and_not_repeated():
    first = Doubler()
    table = run_shards(KEY, range(4), 2, first, "double")
    finish(KEY)
    assert run_shards(KEY, range(4), 2, None, "double") == table


@pytest.mark.parametrize(("items", "shard_size"), [([], 2), ([1], 0)])
def test_nothing_to_do_is_refused(items, shard_size):
    with pytest.raises(ParameterError, match="at least 1"):
        run_shards(KEY, items, shard_size, Doubler(), "double")


def test_the_progress_bar_counts_items_on_stderr(capsys):
    run_shards(KEY, range(4), 2, Doubler(), "double")
    assert "4/4" in capsys.readouterr().err


def test_an_unknown_engine_is_refused_with_the_known_ones():
    with pytest.raises(ParameterError, match="'spark'; expected one of local, ray"):
        run_shards(KEY, [1], 1, Doubler(), "double", engine="spark")


def damage(path, seed):
    """Flip a bit, cut, empty, garble or replace a file by something else."""
    rng, data = random.Random(seed), bytearray(path.read_bytes())
    kind = seed % 6
    if kind == 0:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        del data[rng.randrange(len(data)) :]
    elif kind == 2:
        data.clear()
    elif kind == 3:
        data += b"x"
    path.unlink()
    if kind == 4:
        path.mkdir()
    elif kind == 5:
        path.symlink_to("nowhere")
    else:
        path.write_bytes(data)


@pytest.mark.parametrize("is_finished", [False, True])
@pytest.mark.parametrize("seed", range(30))
def test_what_was_damaged_is_named_and_done_again(seed, is_finished, capsys):
    whole = run_shards(KEY, range(6), 2, Doubler(), "double")
    if is_finished:
        finish(KEY)
    files = sorted(work_folder(KEY).iterdir())
    assert len(files) == 6  # three shards and three records
    file = random.Random(seed).choice(files)
    before = file.read_bytes()
    damage(file, seed)
    again = Doubler()
    assert run_shards(KEY, range(6), 2, again, "double").equals(whole)
    assert file.read_bytes() == before
    told = capsys.readouterr().err
    if file.suffix == ".parquet" and seed % 6 != 5:  # a dangling link is no file
        name = file.stem.removeprefix("shard-")
        assert f"shard {name} of 'double' is not what was written" in told
        assert again.calls == [list(range(*map(int, name.split("-"))))]


def test_a_shard_of_another_place_is_not_taken_for_its_own():
    whole = run_shards(KEY, range(6), 2, Doubler(), "double")
    folder = work_folder(KEY)
    first, *_, last = sorted(folder.glob("*.parquet"))
    shutil.copy(first, last)
    assert run_shards(KEY, range(6), 2, Doubler(), "double").equals(whole)


def test_a_shard_whose_record_was_not_written_is_done_again():
    run_shards(KEY, range(4), 2, Doubler(), "double")
    sorted(work_folder(KEY).glob("*.json"))[1].unlink()
    again = Doubler()
    run_shards(KEY, range(4), 2, again, "double")
    assert again.calls == [[2, 3]]


def twice(path):
    numbers = [int(word) for word in path.read_text().split()]
    return pa.table({"twice": [2 * number for number in numbers]})


def test_of_named_files_only_the_changed_one_is_done_again(tmp_path):
    inputs = {}
    for name in "abc":
        inputs[name] = tmp_path / name
        inputs[name].write_text(f"{ord(name)}")
    before = named_files(KEY, inputs, twice, "double")
    facts = {file.name: file.stat().st_mtime_ns for file in before}
    (tmp_path / "b").write_text("")
    inputs = {"a": tmp_path / "a", "B": tmp_path / "b", "c": tmp_path / "c"}
    done = []
    after = named_files(KEY, inputs, lambda p: done.append(p) or twice(p), "double")
    assert done == [tmp_path / "b"]
    assert [file.name for file in after] == [f"shard-{name}.parquet" for name in "aBc"]
    assert all(f.stat().st_mtime_ns == facts.get(f.name) for f in after[::2])
    assert not before[1].exists() and not before[1].with_suffix(".json").exists()


def test_an_interrupted_run_keeps_what_another_world_needs_until_it_is_done():
    named_files(KEY, {"a": [1], "b": [2]}, Doubler(), "double")
    with pytest.raises(RuntimeError):
        named_files(KEY, {"b": [2], "c": [3]}, Doubler(fails_at=3), "double")
    assert (work_folder(KEY) / "shard-a.parquet").exists()


def test_an_engine_is_not_started_when_all_is_done(monkeypatch):
    named_files(KEY, {"a": [1]}, Doubler(), "double")
    monkeypatch.setitem(shards.ENGINES, "ray", None)
    assert named_files(KEY, {"a": [1]}, Doubler(), "double", "ray")


def test_no_name_is_nothing_to_do():
    with pytest.raises(ParameterError, match="got nothing to do"):
        named_files(KEY, {}, Doubler(), "double")


def test_a_cluster_that_does_not_start_is_one_line(monkeypatch):
    ray = pytest.importorskip("ray")

    tries = []

    def time_out(**options):
        tries.append(options)
        raise Exception("The current node timed out\nduring startup.")

    monkeypatch.setattr(ray, "init", time_out)
    with pytest.raises(EngineError, match="Ray did not start .*kept.*engine: local"):
        list(shards.do_on_ray(len, iter([(0, ["a"])])))
    assert len(tries) == 3
