"""Uploading a released folder to the Hub, by the Hub's own client.

`upload_folder` of huggingface_hub hashes, sends and commits in parts, and goes on where
it was stopped when it is called again. Who may write where is the client's business: it
reads the token that `hf auth login` kept, and none is asked for here.
"""

from pathlib import Path

import httpx
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
)

from commoncanvas.core.errors import ParameterError, brief
from commoncanvas.core.files import shown
from commoncanvas.core.manifest import read_manifest


def upload(folder: Path, repo: str, kind: str) -> str:
    """Upload a released folder as it is, and return its page on the Hub.

    What its manifest lists is compared with it first, so that nothing else is sent.

    Args:
        repo: "owner/name"; made, and private, if it is not there.
        kind: "model" or "dataset".

    Raises:
        ManifestError: the folder is not what its manifest says.
        ParameterError: no such name, no permission, or the Hub does not answer.
    """
    read_manifest(folder)
    api = HfApi()
    try:
        page = api.create_repo(repo, repo_type=kind, private=True, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            repo_type=kind,
            folder_path=folder,
            commit_message=f"Release {folder.name}",
            ignore_patterns=[".*", "**/.*"],
        )
    except (
        HFValidationError,
        HfHubHTTPError,
        LocalTokenNotFoundError,
        httpx.HTTPError,
    ) as error:
        raise ParameterError(
            f"{shown(folder)} was not uploaded to {repo!r}: "
            f"{brief(error)}; expected owner/name, a token that "
            "may write there (`hf auth login`) and the Hub; then run it again, which "
            "goes on."
        ) from None
    return str(page)
