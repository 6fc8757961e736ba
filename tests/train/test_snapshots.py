"""A long run goes on from a whole state, whatever killed it and whenever."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.train.snapshots import newest_snapshot, write_snapshot

FACTS = {"seed": 17, "model": {"channels": [8, 16]}, "code": "ab12"}
USED = "the one before is used"
ANEW = "training starts anew"
KILLS = 15
LOOP = """
import itertools, random, sys
from commoncanvas.train.snapshots import write_snapshot

folder, step = sys.argv[1], int(sys.argv[2])
for step in itertools.count(step):
    for _ in range(2):  # the second replaces the first
        files = {
            name: lambda path, seed=f"{name} {step}": path.write_bytes(
                random.Random(seed).randbytes(200_000)
            )
            for name in ("model.bin", "optimizer.bin")
        }
        write_snapshot(folder, step, files, {"seed": 17})
        print("written", flush=True)
"""


class Killed(BaseException):
    """What stands for kill -9 within a test's own process."""


def written(folder, step, text="state", facts=FACTS, **options):
    """Write a snapshot of two files that say their step."""
    writers = {
        "model.bin": lambda path: path.write_text(f"{text} of step {step}"),
        "optimizer.bin": lambda path: path.write_text(f"moments of step {step}"),
    }
    return write_snapshot(folder, step, writers, facts, **options)


def write_whole(path):
    path.write_text("whole")


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
    assert newest_snapshot(path.parent, FACTS) == (path, [])
    assert (path / "model.bin").read_text() == "state of step 80"


def test_a_manifest_says_what_is_there_and_no_more(tmp_path):
    text = (written(tmp_path, 80) / "manifest.json").read_text()
    manifest = json.loads(text)
    assert list(manifest) == ["facts", "files", "schema", "step"]
    assert (manifest["schema"], manifest["step"], manifest["facts"]) == (1, 80, FACTS)
    assert {n: f["bytes"] for n, f in manifest["files"].items()} == {
        "model.bin": 16,
        "optimizer.bin": 18,
    }
    assert (written(tmp_path, 80) / "manifest.json").read_text() == text


@pytest.mark.parametrize("make", [False, True])
def test_no_snapshot_means_a_start_anew(tmp_path, make):
    if make:
        (tmp_path / "run").mkdir()
    assert newest_snapshot(tmp_path / "run", FACTS) == (None, [])


def test_facts_are_compared_as_json(tmp_path):
    path = written(tmp_path, 80, facts={"sizes": (8, 16), "b": {"y": 1, "x": 2}})
    assert newest_snapshot(tmp_path, {"b": {"x": 2, "y": 1}, "sizes": [8, 16]}) == (
        path,
        [],
    )


def test_the_manifest_is_last_and_one_rename_promotes(tmp_path, monkeypatch):
    calls = []

    def rename(old, new, real=os.replace):
        calls.append((names(old), new))
        real(old, new)

    def late(path):
        assert names(path.parent) == [] and names(tmp_path)[0].startswith(".part-")
        path.write_text("x")

    monkeypatch.setattr(os, "replace", rename)
    path = write_snapshot(tmp_path, 80, {"model.bin": late}, FACTS)
    assert calls == [(["manifest.json", "model.bin"], path)]
    assert names(tmp_path) == ["step-00000080"]


def test_all_is_on_the_disk_before_and_after_the_rename(tmp_path, monkeypatch):
    synced = []

    def fsync(descriptor):
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        synced.append((os.path.basename(path), (tmp_path / "step-00000080").exists()))

    monkeypatch.setattr(os, "fsync", fsync)
    written(tmp_path, 80)
    files = ["model.bin", "optimizer.bin", "manifest.json", "step-00000080"]
    assert synced == [(name, False) for name in files] + [(tmp_path.name, True)]


def test_the_newest_are_kept(tmp_path):
    for step in (9, 10, 11, 100):
        written(tmp_path, step, keep=2)
    assert names(tmp_path) == ["step-00000011", "step-00000100"]
    written(tmp_path, 101, keep=1)
    assert names(tmp_path) == ["step-00000101"]


def test_what_lies_beside_snapshots_stays(tmp_path):
    (tmp_path / "log.csv").write_text("1")
    (tmp_path / ".part-77-log.csv").write_text("of another writer")
    (tmp_path / "step-best").mkdir()
    written(tmp_path, 80, keep=1)
    assert set(names(tmp_path)) == {
        ".part-77-log.csv",
        "log.csv",
        "step-00000080",
        "step-best",
    }


def test_a_run_that_starts_anew_keeps_its_own_not_a_later_foreign_one(tmp_path):
    for step in (360, 400):
        written(tmp_path, step, facts={"seed": 3})
    for step in (40, 80):
        path = written(tmp_path, step)
        assert newest_snapshot(tmp_path, FACTS)[0] == path
    assert names(tmp_path) == ["step-00000040", "step-00000080"]


def test_a_run_that_goes_back_keeps_what_it_wrote_before_a_damaged_one(tmp_path):
    for step in (60, 70, 120):
        written(tmp_path, step, keep=3)
    (tmp_path / "step-00000120" / "model.bin").write_text("State of step 120")
    written(tmp_path, 80)
    assert names(tmp_path) == ["step-00000070", "step-00000080"]


def truncate(path):
    (path / "model.bin").write_text("state")


def change(path):
    (path / "model.bin").write_text("State of step 80")


def lengthen(path):
    (path / "model.bin").write_text("state of step 80.")


def remove(path):
    (path / "optimizer.bin").unlink()


def without_manifest(path):
    (path / "manifest.json").unlink()


def with_manifest(text):
    return lambda path: (path / "manifest.json").write_text(text)


def as_a_folder(path):
    (path / "manifest.json").unlink()
    (path / "manifest.json").mkdir()


FAULTS = [
    (truncate, "is damaged: model.bin is truncated, 5 of 16 bytes"),
    (change, "is damaged: model.bin was changed, "),
    (lengthen, "is damaged: model.bin was changed, "),
    (remove, "is incomplete: its file optimizer.bin is missing"),
    (without_manifest, "has no manifest.json, so it was never whole"),
    (with_manifest(""), "has a manifest.json that is empty or garbled"),
    (with_manifest('{"schema": 1, "st'), "has a manifest.json that is empty or garb"),
    (with_manifest("\0" * 90), "has a manifest.json that is empty or garbled"),
    (with_manifest("[1]"), "has a manifest.json that is empty or garbled"),
    (with_manifest("{}"), "has a manifest.json that is empty or garbled"),
    (with_manifest('{"schema": 2}'), "is foreign: schema 2, expected 1"),
    (as_a_folder, "cannot be read (Is a directory)"),
]


@pytest.mark.parametrize(("harm", "told"), FAULTS)
def test_a_faulty_one_is_refused_by_name_and_the_one_before_used(two, harm, told):
    harm(two[1])
    path, refused = newest_snapshot(two[0].parent, FACTS)
    assert path == two[0] and len(refused) == 1
    assert refused[0].startswith(f"step-00000080 {told}")
    assert refused[0].endswith(f"; {USED}")


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        (FACTS | {"seed": 3}, "its fact `seed` is 3, expected 17"),
        (FACTS | {"extra": None}, "its fact `extra` is null, expected missing"),
        ({"seed": 17, "code": "ab12"}, "its fact `model` is missing, expected {"),
    ],
)
def test_other_facts_are_foreign_and_said(tmp_path, facts, told):
    path = written(tmp_path, 40)
    written(tmp_path, 80, facts=facts)
    found, (line,) = newest_snapshot(tmp_path, FACTS)
    assert found == path and line.startswith(f"step-00000080 is foreign: {told}")
    assert line.endswith(USED)


def test_where_none_is_good_training_starts_anew(two):
    truncate(two[0])
    change(two[1])
    path, refused = newest_snapshot(two[0].parent, FACTS)
    assert path is None
    assert [line.split()[0] for line in refused] == ["step-00000080", "step-00000040"]
    assert all(line.endswith(f"; {ANEW}") and "\n" not in line for line in refused)


def test_older_ones_are_not_looked_at(two):
    truncate(two[0])
    assert newest_snapshot(two[0].parent, FACTS) == (two[1], [])


def test_a_leftover_of_a_killed_run_is_ignored_and_swept(two):
    folder = two[0].parent
    shutil.copytree(two[1], folder / ".part-x1" / "step-00000120")
    assert newest_snapshot(folder, FACTS) == (two[1], [])
    written(folder, 120)
    assert names(folder) == ["step-00000080", "step-00000120"]


def test_a_step_that_comes_by_again_is_replaced(two):
    assert written(two[0].parent, 80, "new state") == two[1]
    assert (two[1] / "model.bin").read_text() == "new state of step 80"
    assert names(two[0].parent) == ["step-00000040", "step-00000080"]


@pytest.mark.parametrize(("harm", "told"), FAULTS)
def test_a_faulty_one_is_replaced_when_its_step_comes_by(two, harm, told):
    harm(two[1])
    written(two[0].parent, 80)
    assert newest_snapshot(two[0].parent, FACTS) == (two[1], [])
    assert names(two[0].parent) == ["step-00000040", "step-00000080"]


@pytest.mark.parametrize("step", [80, 120])
@pytest.mark.parametrize("error", [OSError(28, "no space left"), KeyboardInterrupt()])
def test_a_writer_that_fails_leaves_the_earlier_ones_and_no_other(two, step, error):
    def fail(path):
        path.write_text("sta")
        raise error

    folder = two[0].parent
    with pytest.raises(type(error)):
        write_snapshot(folder, step, {"a": write_whole, "b": fail}, FACTS)
    assert names(folder) == ["step-00000040", "step-00000080"]
    assert newest_snapshot(folder, FACTS) == (two[1], [])


def test_a_writer_that_writes_nothing_is_an_error(two):
    with pytest.raises(FileNotFoundError):
        write_snapshot(two[0].parent, 80, {"model.bin": lambda path: None}, FACTS)
    assert newest_snapshot(two[0].parent, FACTS) == (two[1], [])


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
            written(two[0].parent, 80)
        except OSError:
            pass
    assert not [name for name in names(two[0].parent) if name.startswith(".part-")]
    path, refused = newest_snapshot(two[0].parent, FACTS)
    assert (path.name, refused) == ("step-00000080", [])


@pytest.mark.parametrize("keep", [0, -1, 1.0, True, "2", None])
def test_keep_below_one_is_refused(tmp_path, keep):
    with pytest.raises(ParameterError, match=r"`keep` .*expected .*1 or more.*Correct"):
        written(tmp_path, 80, keep=keep)
    assert names(tmp_path) == []


@pytest.mark.parametrize("step", [-1, 10**8, 8.0, True])
def test_a_step_that_gives_no_name_is_refused(tmp_path, step):
    with pytest.raises(ParameterError, match="expected 0 to 99999999"):
        written(tmp_path, step)


@pytest.mark.parametrize("name", ["", ".x", "../x", "a/b", "manifest.json"])
def test_a_file_cannot_leave_its_snapshot_or_be_the_manifest(tmp_path, name):
    with pytest.raises(ParameterError, match="plain names but manifest.json"):
        write_snapshot(tmp_path, 80, {name: write_whole}, FACTS)


@pytest.mark.parametrize("bad", [{"a": {1}}, {"a": float("nan")}, {(1,): 2}, None, 5])
def test_facts_that_are_not_json_are_refused(tmp_path, bad):
    with pytest.raises(ParameterError, match=r"not JSON .*expected .*Convert") as told:
        written(tmp_path, 80, facts=bad)
    assert "\n" not in str(told.value) and names(tmp_path) == []
    with pytest.raises(ParameterError, match="not JSON"):
        newest_snapshot(tmp_path, bad)


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


@pytest.mark.parametrize("step", [80, 120])
@pytest.mark.parametrize("keep", [1, 2])
def test_a_kill_between_any_two_changes_loses_nothing(
    tmp_path, monkeypatch, step, keep
):
    for number in range(99):
        folder = tmp_path / str(number)
        written(folder, 40)
        written(folder, 80)
        work = partial(written, folder, step, keep=keep)
        alive = not killed_at(number, monkeypatch, work)
        path, refused = newest_snapshot(folder, FACTS)
        assert path.name in {"step-00000080", f"step-{step:08d}"} and refused == []
        written(folder, 160, keep=2)  # the next run sweeps whatever was left
        assert len(names(folder)) == 2
        if alive:
            break
    assert alive and number > 10


@pytest.mark.parametrize("again", range(9, 15))
def test_a_second_kill_loses_nothing_either(two, monkeypatch, again):
    folder = two[0].parent
    for number in range(99):
        killed_at(again, monkeypatch, lambda: written(folder, 80, "other state"))
        alive = not killed_at(number, monkeypatch, lambda: written(folder, 80))
        path, refused = newest_snapshot(folder, FACTS)
        assert (path.name, refused) == ("step-00000080", [])
        if alive:
            break
    assert alive


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
        path, refused = newest_snapshot(tmp_path / folder, FACTS)
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
        path, refused = newest_snapshot(folder, {"seed": 17})
        step = int(path.name.removeprefix("step-"))
        assert refused == [] and step > before
        for name in ("model.bin", "optimizer.bin"):
            right = random.Random(f"{name} {step}").randbytes(200_000)
            assert (path / name).read_bytes() == right
        before = step
