"""Files at an address are fetched once, whole, and read as local ones."""

import importlib

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError
from commoncanvas.latents.mirror import local_files

FILES = {"a-0.bin": b"zero", "a-1.bin": b"one", "b.bin": b""}


@pytest.fixture
def remote():
    """The address of a folder in memory with three files and a folder."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for name, data in {**FILES, "more/a-2.bin": b"of another folder"}.items():
        memory.pipe(f"/run/{name}", data)
    yield "memory://run"
    memory.store.clear()


def contents(found):
    return {path.name: path.read_bytes() for path in found}


def no_file_in(folder):
    return not [path for path in folder.rglob("*") if path.is_file()]


def test_a_local_folder_is_read_where_it_lies(tmp_path):
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    for folder in (tmp_path, str(tmp_path)):
        found = local_files(folder, "a-*.bin", tmp_path / "cache")
        assert found == [tmp_path / "a-0.bin", tmp_path / "a-1.bin"]
    assert not (tmp_path / "cache").exists()


def test_only_the_files_asked_for_are_fetched_and_only_once(
    remote, tmp_path, monkeypatch
):
    fetched, get_file = [], MemoryFileSystem.get_file

    def spy(self, path, part, **options):
        fetched.append(path.rpartition("/")[2])
        return get_file(self, path, part, **options)

    monkeypatch.setattr(MemoryFileSystem, "get_file", spy)
    found = local_files(remote, "a-*.bin", tmp_path)
    assert contents(found) == {name: FILES[name] for name in ("a-0.bin", "a-1.bin")}
    assert [path.name for path in found] == fetched == ["a-0.bin", "a-1.bin"]
    assert local_files(remote + "/", "a-*.bin", tmp_path) == found
    assert contents(local_files(remote, "*", tmp_path)) == FILES  # one is empty
    assert fetched[2:] == ["b.bin"]


def test_an_address_of_local_files_is_fetched_among_the_checkpoints(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / ".checkpoints")
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a-0.bin").write_bytes(b"zero")
    (path,) = local_files((tmp_path / "source").as_uri(), "a-0.bin")
    assert path.is_relative_to(tmp_path / ".checkpoints" / "mirrors")
    assert path.read_bytes() == b"zero"


def test_what_changed_is_fetched_anew_to_another_place(remote, tmp_path):
    before = local_files(remote, "a-*.bin", tmp_path)
    fsspec.filesystem("memory").pipe("/run/a-1.bin", b"two")  # of the same size
    after = local_files(remote, "a-*.bin", tmp_path)
    assert contents(after)["a-1.bin"] == b"two"
    assert contents(before)["a-1.bin"] == b"one"  # a run that maps it goes on
    fsspec.filesystem("memory").pipe("/other/a-1.bin", b"two")
    assert local_files("memory://other", "a-1.bin", tmp_path) != after[1:]


@pytest.mark.parametrize("is_silent", [False, True])
def test_a_file_that_broke_off_is_never_read(remote, tmp_path, monkeypatch, is_silent):
    def broken(self, path, part, **options):
        with open(part, "wb") as file:
            file.write(b"ze")
        if not is_silent:
            raise ConnectionError("reset by peer")

    with monkeypatch.context() as patch:
        patch.setattr(MemoryFileSystem, "get_file", broken)
        with pytest.raises((ConnectionError, ManifestError)) as caught:
            local_files(remote, "a-0.bin", tmp_path)
    if is_silent:
        assert "a-0.bin came with 2 bytes; expected 4" in str(caught.value)
    assert no_file_in(tmp_path)
    (path,) = local_files(remote, "a-0.bin", tmp_path)
    path.rename(path.with_name(".part-1-a-0.bin"))  # as a killed fetch leaves it
    assert contents(local_files(remote, "*", tmp_path)) == FILES


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("memory://none", "cannot be listed.*correct the address"),
        ("file:///none/at/all", "cannot be listed.*FileNotFound"),
        ("nothing://run", "cannot be listed.*nothing"),
        ("s3://bucket/run/03", "Install s3fs.*driver"),
        ("memory://run", r"has no c-\*; expected"),
        ("none/at/all", r"has no c-\*; expected"),
    ],
)
def test_what_is_not_there_is_one_line(remote, tmp_path, monkeypatch, address, words):
    registry = importlib.import_module("fsspec.registry")
    lacking = {"class": "no_such_driver.Files", "err": "Install s3fs to access S3"}
    monkeypatch.setitem(registry.known_implementations, "s3", lacking)
    monkeypatch.delitem(registry._registry, "s3", raising=False)
    with pytest.raises(ManifestError, match=words) as caught:
        local_files(address, "c-*", tmp_path)
    assert "\n" not in str(caught.value) and address in str(caught.value)
