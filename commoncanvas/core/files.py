"""Files written whole or not at all, hashed, and named as a reader would."""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError

LEFTOVER = ".part-"  # the prefix of `write_atomically`'s temporary files


def sha256_of(path: Path | str) -> str:
    """Hash one file, 64 hexadecimal digits, without holding it in memory."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shown(path: Path | str) -> str:
    """Return a path relative to the repository, so that no machine shows in a page."""
    path = Path(path)
    if path.is_absolute() and path.is_relative_to(paths.ROOT):
        path = path.relative_to(paths.ROOT)
    return path.as_posix()


def write_atomically(path: Path | str, write: Callable[[Path], object]) -> None:
    """Write a file beside its place, then move it there in one step.

    A reader sees the old file or the new one, never a part, even after kill -9.
    `write` is called once, with a temporary path that has the same suffix.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f"{LEFTOVER}{os.getpid()}-{path.name}"
    try:
        write(part)
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    write_atomically(path, lambda part: part.write_bytes(text.encode("utf-8")))


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        ManifestError: it is missing, or no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(
            f"{shown(path)} cannot be read as JSON ({error}); expected what a stage or "
            "a command wrote. Write it again."
        ) from None


def write_json(path: Path | str, content: Any) -> None:
    """Write JSON whole or not at all, in the order of its keys, with a last newline.

    Raises:
        ValueError: a number is not finite, which JSON cannot hold.
    """
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")
