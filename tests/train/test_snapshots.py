"""A long run goes on from a whole state, whatever killed it and whenever."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commoncanvas.core import paths
from commoncanvas.train.snapshots import (
    SnapshotWriter,
    newest_snapshot,
    write_snapshot,
)

KILLS = 15
LOOP = """
import itertools, random, sys
from pathlib import Path
from commoncanvas.train.snapshots import write_snapshot

folder, step = Path(sys.argv[1]), int(sys.argv[2])
for step in itertools.count(step):
    for _ in range(2):  # the same step may come by again
        files = {
            name: lambda path, seed=f"{name} {step}": path.write_bytes(
                random.Random(seed).randbytes(200_000)
            )
            for name in ("model.bin", "optimizer.bin")
        }
        write_snapshot(folder, step, files)
        print("written", flush=True)
"""


class Killed(BaseException):
    """What stands for kill -9 within a test's own process."""


def written(folder, step):
    """Write a snapshot of two files that say their step."""
    writers = {
        "model.bin": lambda path: path.write_text(f"state of step {step}"),
        "optimizer.bin": lambda path: path.write_text(f"moments of step {step}"),
    }
    return write_snapshot(folder, step, writers)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch):
    """Do not wait for the disk; no test here can cut the power."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def two(tmp_path):
    """Return the paths of two snapshots, older and newer."""
    return written(tmp_path, 40), written(tmp_path, 80)


def test_what_was_written_is_found(tmp_path):
    path = written(tmp_path / "new" / "run", 80)
    assert path == tmp_path / "new" / "run" / "step-00000080"
    assert newest_snapshot(path.parent) == (path, [])
    assert (path / "model.bin").read_text() == "state of step 80"
    assert list(json.loads((path / "hashes.json").read_text())) == [
        "model.bin",
        "optimizer.bin",
    ]


@pytest.mark.parametrize("make", [False, True])
def test_no_snapshot_means_a_start_anew(tmp_path, make):
    if make:
        (tmp_path / "run").mkdir()
    assert newest_snapshot(tmp_path / "run") == (None, [])


def test_all_is_on_the_disk_before_the_one_rename_and_the_name_after(
    tmp_path, monkeypatch
):
    synced, renamed = [], []

    def fsync(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        synced.append((os.path.basename(path), (tmp_path / "step-00000080").exists()))

    def rename(old, new, real=os.replace):
        renamed.append((names(old), new))
        real(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    path = written(tmp_path, 80)
    files = ["model.bin", "optimizer.bin", "hashes.json", "new"]
    assert synced == [(name, False) for name in files] + [(tmp_path.name, True)]
    assert renamed == [(sorted(files[:3]), path)]
    assert names(tmp_path) == ["step-00000080"]


def test_the_two_newest_are_kept_and_what_lies_beside_them(tmp_path):
    beside = {".part-77-log.csv", "log.csv", "step-best"}
    for name in beside:
        (tmp_path / name).write_text("of another writer")
    for step in (9, 10, 11, 100):
        written(tmp_path, step)
    assert set(names(tmp_path)) == beside | {"step-00000011", "step-00000100"}


def test_a_run_that_goes_back_keeps_what_it_wrote_before_a_damaged_one(tmp_path):
    for step in (60, 70):
        written(tmp_path, step)
    shutil.copytree(tmp_path / "step-00000070", tmp_path / "step-00000120")
    (tmp_path / "step-00000120" / "model.bin").write_text("State of step 120")
    assert newest_snapshot(tmp_path)[0].name == "step-00000070"
    written(tmp_path, 80)
    assert names(tmp_path) == ["step-00000070", "step-00000080"]


CHANGED = "was changed or cut short"
GONE = "cannot be read (No such file or directory)"
FAULTS = [
    ("model.bin", "state", CHANGED),
    ("model.bin", "State of step 80", CHANGED),
    ("model.bin", "state of step 80.", CHANGED),
    ("optimizer.bin", None, GONE),
    ("hashes.json", None, GONE),
    ("hashes.json", "", "is empty or garbled"),
    ("hashes.json", '{"model.bin": "ab', "is empty or garbled"),
    ("hashes.json", "\0" * 90, "is empty or garbled"),
    ("hashes.json", "[1]", "is empty or garbled"),
    ("hashes.json", "{}", CHANGED),
    ("hashes.json", dict, "cannot be read (Is a directory)"),
]


def harm(path, name="model.bin", text="state"):
    """Damage one file of a snapshot: other text, no file (None) or a folder (dict)."""
    (path / name).unlink()
    if text is dict:
        (path / name).mkdir()
    elif text is not None:
        (path / name).write_text(text)


@pytest.mark.parametrize(("name", "text", "fault"), FAULTS)
def test_a_damaged_one_is_refused_the_one_before_used_and_the_step_replaced(
    two, name, text, fault
):
    harm(two[1], name, text)
    path, refused = newest_snapshot(two[0].parent)
    assert path == two[0]
    line = f"step-00000080 is damaged: {name} {fault}; the one before is used"
    assert refused == [line]
    assert written(two[0].parent, 80) == two[1]
    assert newest_snapshot(two[0].parent) == (two[1], [])
    assert names(two[0].parent) == ["step-00000040", "step-00000080"]


def test_where_none_is_good_training_starts_anew(two):
    harm(two[0])
    harm(two[1])
    path, refused = newest_snapshot(two[0].parent)
    assert path is None
    assert [line.split()[0] for line in refused] == ["step-00000080", "step-00000040"]
    assert all(line.endswith("; training starts anew") for line in refused)
    assert not any("\n" in line for line in refused)


def test_older_ones_are_not_looked_at(two):
    harm(two[0])
    assert newest_snapshot(two[0].parent) == (two[1], [])


def test_a_leftover_of_a_killed_run_is_ignored_and_swept(two):
    folder = two[0].parent
    shutil.copytree(two[1], folder / ".part-x1" / "step-00000120")
    assert newest_snapshot(folder) == (two[1], [])
    written(folder, 120)
    assert names(folder) == ["step-00000080", "step-00000120"]


@pytest.mark.parametrize("step", [80, 120])
@pytest.mark.parametrize("error", [OSError(28, "no space left"), KeyboardInterrupt()])
def test_a_writer_that_fails_leaves_the_earlier_ones_and_no_other(two, step, error):
    def fail(path):
        path.write_text("sta")
        raise error

    folder = two[0].parent
    with pytest.raises(type(error)):
        write_snapshot(
            folder, step, {"a": lambda path: path.write_text("x"), "b": fail}
        )
    with pytest.raises(FileNotFoundError):  # one that writes nothing is an error too
        write_snapshot(folder, step, {"a": lambda path: None})
    assert names(folder) == ["step-00000040", "step-00000080"]
    assert newest_snapshot(folder) == (two[1], [])


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("number", range(5))
def test_a_disk_that_fails_takes_nothing_readable(two, monkeypatch, call, number):
    waiting, real = iter(range(number)), getattr(os, call)

    def fail(*arguments):
        if next(waiting, None) is None:
            raise OSError(28, "no space left on device")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        try:
            written(two[0].parent, 120)
        except OSError:
            pass
    assert not [name for name in names(two[0].parent) if name.startswith(".part-")]
    path, refused = newest_snapshot(two[0].parent)
    assert path.name in {"step-00000080", "step-00000120"} and refused == []


def killed_at(number, monkeypatch, work):
    """Run `work` until its n-th change of the disk, then let nothing more happen."""
    left = [number]

    def mortal(real):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        for module, name in [(tempfile, "mkdtemp"), (os, "fsync"), (os, "replace")]:
            patch.setattr(module, name, mortal(getattr(module, name)))
        for name in ("mkdir", "unlink", "rmdir"):
            patch.setattr(os, name, mortal(getattr(os, name)))
        try:
            work()
        except Killed:
            return True
    return False


@pytest.mark.parametrize("is_damaged", [False, True])
@pytest.mark.parametrize("step", [80, 120])
@pytest.mark.parametrize("again", [0, 9, 11, 13])
def test_kills_between_any_two_changes_lose_nothing(
    tmp_path, monkeypatch, step, is_damaged, again
):
    """Two kills, one after another; where `again` is 0, the first does nothing."""
    for number in range(99):
        folder = tmp_path / str(number)
        written(folder, 40)
        written(folder, 80)
        if is_damaged:
            harm(folder / "step-00000080")
        killed_at(again, monkeypatch, lambda folder=folder: written(folder, step))
        alive = not killed_at(
            number, monkeypatch, lambda folder=folder: written(folder, step)
        )
        path, refused = newest_snapshot(folder)
        whole = {"step-00000040"} if is_damaged else {"step-00000080"}
        assert path.name in whole | {f"step-{step:08d}"}
        assert is_damaged or refused == []
        assert (path / "model.bin").read_text() == f"state of step {int(path.name[5:])}"
        written(folder, 160)  # the next run sweeps whatever was left
        assert len(names(folder)) == 2
        if alive:
            break
    assert alive and number > 10


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_changed_byte_is_noticed(tmp_path, data):
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        older, newer = written(tmp_path / folder, 40), written(tmp_path / folder, 80)
        name = data.draw(st.sampled_from(["model.bin", "optimizer.bin"]))
        whole = (newer / name).read_bytes()
        place = data.draw(st.integers(0, len(whole) - 1))
        byte = data.draw(st.integers(1, 255)) ^ whole[place]
        end = data.draw(st.sampled_from([whole[place + 1 :], b""]))
        (newer / name).write_bytes(whole[:place] + bytes([byte]) + end)
        path, refused = newest_snapshot(tmp_path / folder)
        assert path == older and name in refused[0]


def test_kill_9_at_random_moments_never_shows_a_half_state(tmp_path):
    moments, folder, before = random.Random(17), tmp_path / "run", 0
    for _ in range(KILLS):
        command = [sys.executable, "-c", LOOP, str(folder), str(before + 1)]
        child = subprocess.Popen(command, cwd=paths.ROOT, stdout=subprocess.PIPE)
        assert child.stdout.readline() == b"written\n"  # however slow the disk is
        time.sleep(moments.uniform(0.0, 0.1))
        child.kill()
        child.communicate()
        path, refused = newest_snapshot(folder)
        step = int(path.name.removeprefix("step-"))
        assert refused == [] and step > before
        for name in ("model.bin", "optimizer.bin"):
            right = random.Random(f"{name} {step}").randbytes(200_000)
            assert (path / name).read_bytes() == right
        before = step


@pytest.mark.parametrize("is_parallel", [False, True])
def test_a_writer_keeps_snapshots_in_order_and_each_whole(tmp_path, is_parallel):
    writer = SnapshotWriter(is_parallel)
    for step in (10, 20, 30):
        text = f"state of step {step}"
        files = {"model.bin": lambda path, text=text: path.write_text(text)}
        writer.write(tmp_path, step, files)
    writer.wait()
    assert names(tmp_path) == ["step-00000020", "step-00000030"]
    assert newest_snapshot(tmp_path)[0].name == "step-00000030"


def test_a_writer_beside_the_training_holds_nothing_up(tmp_path):
    writer, may_go_on = SnapshotWriter(is_parallel=True), threading.Event()

    def write(path):
        assert may_go_on.wait(60)
        path.write_text("state")

    writer.write(tmp_path, 10, {"model.bin": write})  # it returns while that waits
    assert not list(tmp_path.glob("step-*"))
    may_go_on.set()
    writer.wait()
    assert names(tmp_path) == ["step-00000010"]


def test_what_fails_beside_the_training_is_raised_at_the_next_snapshot(tmp_path):
    writer = SnapshotWriter(is_parallel=True)
    writer.write(tmp_path, 10, {"model.bin": lambda path: 1 / 0})
    with pytest.raises(ZeroDivisionError):
        writer.write(tmp_path, 20, {"model.bin": lambda path: path.write_text("x")})
    writer.wait()  # it is raised once
    assert newest_snapshot(tmp_path)[0] is None
