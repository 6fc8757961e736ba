"""Files written whole or not at all, hashed, and named as a reader would."""

import hashlib
import os
from pathlib import Path

from commoncanvas.core import paths

LEFTOVER = ".part-"  # the prefix of `write_atomically`'s temporary files


def sha256_of(path):
    """Hash one file without holding it in memory.

    Args:
        path: file to read.

    Returns:
        64 hexadecimal digits.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def shown(path):
    """Return a path relative to the repository, so that no machine shows in a page."""
    path = Path(path)
    if path.is_absolute() and path.is_relative_to(paths.ROOT):
        path = path.relative_to(paths.ROOT)
    return path.as_posix()


def write_atomically(path, write):
    """Write a file beside its place, then move it there in one step.

    A reader sees the old file or the new one, never a part, even after kill -9.

    Args:
        path: where the file goes; its folder is made if need be.
        write: called once with a temporary path that has the same suffix.
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
