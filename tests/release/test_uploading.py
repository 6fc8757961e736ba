"""What is uploaded is what the manifest lists, by the Hub's own client."""

import httpx
import hub
import pytest
from huggingface_hub import HfApi

from commoncanvas.core.errors import ManifestError, ParameterError
from commoncanvas.core.manifest import write_manifest
from commoncanvas.release import uploading


@pytest.fixture
def server(monkeypatch):
    """A stand-in for the Hub, which the real client is led to."""
    with hub.serve() as found:
        client = HfApi(endpoint=found.address, token="hf_made_up")
        monkeypatch.setattr(uploading, "HfApi", lambda: client)
        yield found


@pytest.fixture
def folder(tmp_path):
    """A released folder, small."""
    found = tmp_path / "model"
    (found / "unet").mkdir(parents=True)
    (found / "README.md").write_text("# A card")
    (found / "unet" / "weights.bin").write_bytes(bytes(range(256)))
    write_manifest(found, "release", "toy", "x", 0, 0, {}, {})
    return found


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_every_file_arrives_in_a_private_repository_of_its_kind(server, folder):
    page = uploading.upload(folder, "me/x", "dataset")
    assert page == f"{server.address}/datasets/me/x"
    assert server.files == contents(folder)
    (asked,) = server.created
    assert asked["type"] == "dataset" and asked["visibility"] == "private"


def test_an_upload_that_was_refused_goes_on_and_sends_nothing_twice(server, folder):
    server.closed = True
    with pytest.raises(ParameterError, match="hf auth login") as told:
        uploading.upload(folder, "me/x", "dataset")
    assert "\n" not in str(told.value) and not server.files
    server.closed = False
    uploading.upload(folder, "me/x", "dataset")
    (folder / "README.md").write_text("# Another card")
    write_manifest(folder, "release", "toy", "x", 0, 0, {}, {})
    uploading.upload(folder, "me/x", "dataset")
    assert server.files == contents(folder)
    assert sorted(server.commits[-1]) == ["README.md", "manifest.json"]


def test_a_folder_that_changed_since_is_not_uploaded(server, folder):
    (folder / "secret.txt").write_text("not released")
    with pytest.raises(ManifestError, match=r"not listed: secret\.txt"):
        uploading.upload(folder, "me/x", "model")
    (folder / "secret.txt").rename(folder / ".secret")  # no manifest lists these
    uploading.upload(folder, "me/x", "model")
    assert not [name for name in server.files if "secret" in name]


def test_a_hub_that_does_not_answer_is_one_line(server, folder, monkeypatch):
    def fail(*_, **__):
        raise httpx.ConnectError("no\nnetwork")

    monkeypatch.setattr(uploading.HfApi(), "upload_folder", fail)
    with pytest.raises(ParameterError, match="no network") as told:
        uploading.upload(folder, "me/x", "model")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("name", ["a/b/c d", "", "../x"])
def test_a_name_that_is_none_is_refused_before_anything_is_sent(server, folder, name):
    with pytest.raises(ParameterError, match="expected owner/name"):
        uploading.upload(folder, name, "model")
    assert not server.created
