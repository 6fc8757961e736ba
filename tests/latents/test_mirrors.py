"""A folder at an address is fetched once, whole, and read as a local one."""

import importlib

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError, ParameterError
from commoncanvas.latents.reader import Mirror

FILES = {"a-0.bin": b"zero", "a-1.bin": b"one", "b.bin": b""}


@pytest.fixture
def remote():
    """A file system in memory with three files, a folder and its address."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for name, data in FILES.items():
        memory.pipe(f"/run/{name}", data)
    memory.pipe("/run/more/a-2.bin", b"not of this folder")
    yield "memory://run"
    memory.store.clear()


@pytest.fixture
def fetched(monkeypatch):
    """The names of what was fetched, as it goes on."""
    names = []
    for kind in (MemoryFileSystem, LocalFileSystem):
        get_file = kind.get_file

        def spy(self, path, part, *args, get_file=get_file, **kwargs):
            names.append(path.rpartition("/")[2])
            return get_file(self, path, part, *args, **kwargs)

        monkeypatch.setattr(kind, "get_file", spy)
    return names


def contents(found):
    return {path.name: path.read_bytes() for path in found}


def test_a_local_folder_is_read_where_it_lies(tmp_path, fetched):
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    for folder in (tmp_path, str(tmp_path)):
        found = Mirror(folder, tmp_path / "cache").paths("a-*.bin")
        assert found == [tmp_path / "a-0.bin", tmp_path / "a-1.bin"]
    assert fetched == [] and not (tmp_path / "cache").exists()


def test_only_the_files_asked_for_are_fetched_and_only_once(remote, tmp_path, fetched):
    mirror = Mirror(remote, tmp_path)
    assert fetched == []
    found = mirror.paths("a-*.bin")
    assert contents(found) == {name: FILES[name] for name in ("a-0.bin", "a-1.bin")}
    assert fetched == ["a-0.bin", "a-1.bin"] and found == sorted(found)
    assert mirror.paths("a-*.bin") == Mirror(remote, tmp_path).paths("a-*.bin") == found
    assert len(fetched) == 2
    assert contents(Mirror(remote, tmp_path).paths("*")) == FILES  # one is empty
    assert fetched[2:] == ["b.bin"]


def test_an_address_of_local_files_is_fetched_as_well(tmp_path, fetched):
    source = tmp_path / "source"
    source.mkdir()
    (source / "a-0.bin").write_bytes(b"zero")
    address = source.as_uri()
    (path,) = Mirror(address, tmp_path / "cache").paths("a-0.bin")
    assert path.is_relative_to(tmp_path / "cache") and path.read_bytes() == b"zero"
    assert Mirror(address + "/", tmp_path / "cache").paths("*") == [path]
    assert fetched == ["a-0.bin"]


def test_files_lie_among_the_checkpoints_unless_told(remote, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / ".checkpoints")
    (path,) = Mirror(remote).paths("b.bin")
    assert path.parent.parent == tmp_path / ".checkpoints" / "mirrors"


def test_a_folder_that_changed_is_fetched_anew(remote, tmp_path):
    before = Mirror(remote, tmp_path).paths("a-*.bin")
    fsspec.filesystem("memory").pipe("/run/a-1.bin", b"two")  # of the same size
    after = Mirror(remote, tmp_path).paths("a-*.bin")
    assert contents(after)["a-1.bin"] == b"two"
    assert contents(before)["a-1.bin"] == b"one"


def test_two_addresses_never_share_a_place(remote, tmp_path):
    fsspec.filesystem("memory").pipe("/other/b.bin", b"")
    folders = {Mirror(a, tmp_path).folder for a in (remote, "memory://other")}
    assert len(folders) == 2


def test_a_file_that_broke_off_is_never_read(remote, tmp_path, monkeypatch):
    get_file = MemoryFileSystem.get_file

    def broken(self, path, part, **kwargs):
        with open(part, "wb") as file:
            file.write(b"ze")
        raise ConnectionError("reset by peer")

    monkeypatch.setattr(MemoryFileSystem, "get_file", broken)
    with pytest.raises(ConnectionError):
        Mirror(remote, tmp_path).paths("a-0.bin")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    monkeypatch.setattr(MemoryFileSystem, "get_file", get_file)
    (path,) = Mirror(remote, tmp_path).paths("a-0.bin")
    assert path.read_bytes() == b"zero"


def test_a_file_cut_short_in_silence_is_never_read(remote, tmp_path, monkeypatch):
    def short(self, path, part, **kwargs):
        with open(part, "wb") as file:
            file.write(b"ze")

    monkeypatch.setattr(MemoryFileSystem, "get_file", short)
    with pytest.raises(ManifestError, match="a-0.bin came with 2 bytes; expected 4"):
        Mirror(remote, tmp_path).paths("a-*.bin")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_killed_fetch_leaves_nothing_that_is_read(remote, tmp_path):
    folder = Mirror(remote, tmp_path).folder
    folder.mkdir(parents=True)
    (folder / ".part-1-a-0.bin").write_bytes(b"ze")
    assert contents(Mirror(remote, tmp_path).paths("*")) == FILES


@pytest.mark.parametrize(
    ("address", "error", "words"),
    [
        ("memory://none", ManifestError, "cannot be listed.*correct the address"),
        ("file:///none/at/all", ManifestError, "cannot be listed.*FileNotFound"),
        ("nothing://run", ParameterError, "cannot be opened.*nothing"),
    ],
)
def test_an_address_that_leads_nowhere_is_one_line(tmp_path, address, error, words):
    with pytest.raises(error, match=words) as caught:
        Mirror(address, tmp_path)
    assert "\n" not in str(caught.value) and address in str(caught.value)


def test_a_missing_driver_is_named(tmp_path, monkeypatch):
    registry = importlib.import_module("fsspec.registry")
    lacking = {"class": "no_such_driver.Files", "err": "Install s3fs to access S3"}
    monkeypatch.setitem(registry.known_implementations, "s3", lacking)
    monkeypatch.delitem(registry._registry, "s3", raising=False)
    with pytest.raises(ParameterError, match="Install s3fs.*driver") as caught:
        Mirror("s3://bucket/run/03_latents", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["remote", "local"])
def test_a_file_that_is_not_there_is_named(remote, tmp_path, where):
    mirror = Mirror(remote if where == "remote" else tmp_path, tmp_path)
    with pytest.raises(ManifestError, match=r"has no c-\*; expected") as caught:
        mirror.paths("c-*")
    assert "\n" not in str(caught.value)
