"""Files here and elsewhere are found and opened alike, and refusals are one line."""

import fsspec
import httpx
import pytest
from huggingface_hub.errors import GatedRepoError

from commoncanvas.core import places
from commoncanvas.core.errors import SourceError

COMMIT = "0a" * 20


def test_files_are_found_by_path_pattern_and_address(tmp_path):
    for name in ("b.tar", "a.tar", "[c].tar"):
        (tmp_path / name).write_bytes(b"x" * 3)
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "a.tar"), "/shards/a.tar")
    assert places.find_files(tmp_path / "*.tar") == sorted(
        str(tmp_path / name) for name in ("[c].tar", "a.tar", "b.tar")
    )
    assert places.find_files(tmp_path / "[c].tar") == [str(tmp_path / "[c].tar")]
    assert places.find_files(tmp_path / "none*") == []
    assert places.find_files("memory://shards/*.tar") == ["memory:///shards/a.tar"]
    with places.opened("memory://shards/a.tar") as file:
        assert file.read() == b"xxx"
    assert places.size_of("memory://shards/a.tar") == places.size_of(tmp_path / "a.tar")
    days = [places.day_of_file("memory://shards/a.tar")]
    days.append(places.day_of_file(tmp_path / "a.tar"))
    assert all(len(day) == 10 for day in days)
    assert places.day_of_file("memory://none") == places.day_of_file("none") == ""


def test_the_state_of_a_remote_file_changes_with_it():
    memory = fsspec.filesystem("memory")
    memory.pipe("/state/a", b"one")
    before = places.state_of("memory://state/a")
    assert places.state_of("memory://state/a") == before
    memory.pipe("/state/a", b"three")
    assert places.state_of("memory://state/a") != before
    address = f"hf://datasets/a/b@{COMMIT}/c.parquet"
    assert places.state_of(address) == address


def test_a_gated_set_says_what_to_do():
    request = httpx.Request("GET", "https://example.org")
    answer = httpx.Response(401, request=request)
    gated = GatedRepoError("401 Client Error.\nAccess is restricted.", response=answer)
    found = FileNotFoundError("no such repository")
    found.__cause__ = gated
    address = f"hf://datasets/stanford-vision-lab/gpic@{COMMIT}/train/0.tar"
    for error in (gated, found):
        line = str(places.refusal(address, error))
        assert "is gated" in line and "HF_TOKEN" in line and "\n" not in line


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("memory://nothing/a", "cannot be listed or read.*check it"),
        ("nothing://x/a", "cannot be listed or read"),
        ("hf://datasets/a/b@main/c", "revision 'main'; expected @ and a commit"),
    ],
)
def test_what_cannot_be_read_is_one_line(address, words):
    with pytest.raises(SourceError, match=words) as caught:
        places.find_files(address)
        with places.opened(address):
            pass
    assert "\n" not in str(caught.value)
