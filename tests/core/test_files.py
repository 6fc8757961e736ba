"""Files are written whole or not at all, and hashed once unless they change."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from commoncanvas.core import files
from commoncanvas.core.errors import CommonCanvasError, StorageError
from commoncanvas.core.files import sha256_of, shown, write_atomically, write_text

# Every library that writes for a stage, on a disk that takes 100 kB a file.
FULL = """
import resource, signal, sys
from pathlib import Path
import numpy, pandas, torch
from safetensors.torch import save_file
from commoncanvas.core.files import writing
from commoncanvas.train.snapshots import save_state, write_snapshot

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
folder, numbers = Path(sys.argv[1]), numpy.random.default_rng(0).random(300_000)
tensors, table = {"a": torch.from_numpy(numbers)}, pandas.DataFrame({"a": numbers})
writers = {
    "text": lambda path: path.write_text("x" * 300_000),
    "parquet": lambda path: table.to_parquet(path),
    "npz": lambda path: numpy.savez_compressed(path, a=numbers),
    "safetensors": lambda path: save_file(tensors, path),
    "pt": lambda path: save_state(tensors, path),
}
for name, write in writers.items():
    for kept in (write, lambda path: write_snapshot(folder, 1, {"a": write})):
        try:
            with writing(folder / name):
                kept(folder / name)
        except Exception as error:
            print(type(error).__name__, name, error)
"""


@pytest.fixture
def old(tmp_path):
    """A file whose last change is long past, as far as the hashes are concerned."""
    path = tmp_path / "old"
    path.write_bytes(b"abc")
    return path


@pytest.fixture
def hashed(monkeypatch):
    """The files hashed from here on, of which none counts as changed just now."""
    names, real = [], files.hashlib.file_digest
    monkeypatch.setattr(files, "_SETTLED_NS", 0)
    monkeypatch.setattr(files, "_hashes", {})
    monkeypatch.setattr(
        files.hashlib,
        "file_digest",
        lambda file, kind: (names.append(Path(file.name).name), real(file, kind))[1],
    )
    return names


def test_a_file_is_hashed_once(old, hashed):
    assert sha256_of(old) == sha256_of(str(old))
    os.link(old, old.with_name("link"))  # which changes the inode: hashed again
    assert sha256_of(old) == sha256_of(old.with_name("link"))
    assert hashed == ["old", "old"]


def test_a_file_whose_time_was_set_back_is_hashed_again(old, hashed):
    before, facts = sha256_of(old), old.stat()
    while old.stat().st_ctime_ns == facts.st_ctime_ns:
        old.write_bytes(b"abx")
        os.utime(old, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert sha256_of(old) != before and len(hashed) == 2


def test_a_file_that_changes_within_a_tick_of_the_clock_is_hashed_again(old):
    before = sha256_of(old)
    for data in (b"abx", b"abe", b"abf"):
        old.write_bytes(data)
        assert sha256_of(old) != before


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


def test_two_threads_may_write_the_same_file_at_once(tmp_path):
    path, gate = tmp_path / "x.txt", threading.Barrier(2)

    def write(text):
        write_atomically(path, lambda part: (gate.wait(), part.write_text(text)))

    threads = [threading.Thread(target=write, args=(t,)) for t in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in ("one", "two")
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


@pytest.mark.parametrize(
    "name", ["n" * 251 + ".txt", "ä" * 125 + ".txt", "." + "x" * 99]
)
def test_a_name_of_any_length_can_be_written(tmp_path, name):
    write_text(tmp_path / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_new_file_is_readable_as_the_umask_says(tmp_path):
    (tmp_path / "plain").touch()
    write_text(tmp_path / "new", "text")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT]
)
def test_a_disk_that_takes_no_more_is_one_line(tmp_path, number):
    def fail(part):
        raise OSError(number, os.strerror(number))

    with pytest.raises(StorageError) as caught:
        write_atomically(tmp_path / "x.txt", fail)
    assert isinstance(caught.value, CommonCanvasError) and "\n" not in str(caught.value)
    assert os.strerror(number) in str(caught.value) and "x.txt" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_folder_where_a_file_should_be_is_one_line(tmp_path):
    (tmp_path / "x.txt").mkdir()
    (tmp_path / "y").write_text("a file")
    for path in (tmp_path / "x.txt", tmp_path / "y" / "z.txt"):
        with pytest.raises(StorageError, match="cannot be written"):
            write_text(path, "text")


def test_another_fault_comes_through(tmp_path):
    def fail(part):
        raise ConnectionResetError(errno.ECONNRESET, "reset by peer")

    with pytest.raises(ConnectionResetError):
        write_atomically(tmp_path / "x.txt", fail)


@pytest.mark.slow
def test_a_full_disk_is_one_line_from_every_library(tmp_path):
    command = [sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 10 and all("File too large" in line for line in lines), lines
    assert {line.split()[0] for line in lines} == {"StorageError"}
    assert not list(tmp_path.glob("step-*"))


def test_an_address_is_shown_as_it_is():
    assert shown("s3://bucket/run/x") == "s3://bucket/run/x"


@pytest.mark.parametrize("read", [files.read_json, files.sha256_of, files.regular])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises((CommonCanvasError, OSError), match="a pipe or device"):
        read(tmp_path / "pipe")


@pytest.mark.parametrize("name", [".", "/", ".."])
def test_a_folder_is_no_file_to_write(name):
    with pytest.raises(StorageError, match="is a folder"):
        write_text(name, "x")


def test_a_pipe_is_never_replaced_by_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(StorageError, match="a device or a pipe"):
            write_text(tmp_path / name, "text")
    assert (tmp_path / "pipe").is_fifo() and len(list(tmp_path.iterdir())) == 2
