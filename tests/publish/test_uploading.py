"""What is uploaded is what the manifest lists, by the Hub's client or a stand-in."""

import inspect

import httpx
import pytest
from huggingface_hub.errors import HfHubHTTPError

from commoncanvas.core.errors import ManifestError, ParameterError
from commoncanvas.core.manifest import write_manifest
from commoncanvas.publish import uploading

ASKED = httpx.Request("POST", "https://hub.example/api/repos/create")


class Hub:
    """Takes the client's calls as its API does, and may fail."""

    def __init__(self, failing=None):
        self.calls, self.failing = [], failing

    def create_repo(self, repo, **options):
        self.calls.append(("create_repo", repo, options))
        return f"https://hub.example/{repo}"

    def upload_folder(self, **options):
        self.calls.append(("upload_folder", options))
        if self.failing:
            raise self.failing


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "a.txt").write_text("a")
    write_manifest(tmp_path / "model", "release", "toy", "x", 0, 0, {}, {})
    return tmp_path / "model"


def test_a_repository_is_made_and_the_folder_uploaded(folder, monkeypatch):
    hub = Hub()
    monkeypatch.setattr(uploading, "HfApi", lambda: hub)
    assert uploading.upload(folder, "me/x", "dataset") == "https://hub.example/me/x"
    (made, name, options), (sent, given) = hub.calls
    assert (made, name, sent) == ("create_repo", "me/x", "upload_folder")
    assert options == {"repo_type": "dataset", "private": True, "exist_ok": True}
    assert given["folder_path"] == folder and given["repo_type"] == "dataset"


def test_a_folder_that_changed_since_is_not_uploaded(folder, monkeypatch):
    hub = Hub()
    monkeypatch.setattr(uploading, "HfApi", lambda: hub)
    (folder / "secret.txt").write_text("not released")
    with pytest.raises(ManifestError, match=r"not listed: secret\.txt"):
        uploading.upload(folder, "me/x", "model")
    assert not hub.calls


@pytest.mark.parametrize(
    "error",
    [
        httpx.ConnectError("no\nnetwork"),
        HfHubHTTPError("403", response=httpx.Response(403, request=ASKED)),
    ],
)
def test_a_hub_that_refuses_is_one_line_that_says_what_to_do(
    folder, monkeypatch, error
):
    monkeypatch.setattr(uploading, "HfApi", lambda: Hub(error))
    with pytest.raises(ParameterError, match="hf auth login") as told:
        uploading.upload(folder, "me/x", "model")
    assert "\n" not in str(told.value)


def test_the_client_has_the_calls_that_the_stand_in_takes():
    api = uploading.HfApi()
    for call, options in (
        (api.create_repo, {"repo_type": "model", "private": True, "exist_ok": True}),
        (api.upload_folder, {"repo_type", "folder_path", "commit_message"}),
    ):
        assert set(options) <= set(inspect.signature(call).parameters)


def test_a_name_that_is_none_is_refused_by_the_client_before_anything_is_sent(folder):
    with pytest.raises(ParameterError, match="expected owner/name"):
        uploading.upload(folder, "a/b/c d", "model")
