"""Files written whole or not at all, hashed, and named as a reader would."""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError, StorageError

LEFTOVER = ".part-"  # the prefix of `write_atomically`'s temporary files
# What a disk says that takes no more; an address or a driver fails otherwise.
_REFUSALS = {
    getattr(errno, name)
    for name in "ENOSPC EDQUOT EFBIG EROFS EACCES EPERM EIO".split()
    + "EEXIST EISDIR ENOTDIR ELOOP ENAMETOOLONG".split()
}
_SETTLED_NS = 2_000_000_000  # the coarsest clock of a file system
# Of this process, by inode, size and times of a file.
_hashes: dict[tuple[int, ...], str] = {}


def regular(path: Path | str) -> Path:
    """Return a path, unless it is a pipe or a device, which may never end.

    Raises:
        OSError: it is.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "a pipe or device, not a file", str(path))
    return path


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dictionary of a JSON object's pairs; ValueError if a name stands twice."""
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("a name stands there twice")
    return found


def sha256_of(path: Path | str) -> str:
    """Hash one file, 64 hexadecimal digits, without holding it in memory.

    A file is hashed once a process, and again if its inode, size or times changed. One
    that changed in the last two seconds is not remembered: a further change within a
    tick of the file system's clock would not show.
    """
    with open(regular(path), "rb") as file:
        facts = os.fstat(file.fileno())
        # The time of the contents can be set back; that of the inode cannot.
        times = facts.st_mtime_ns, facts.st_ctime_ns
        state = facts.st_dev, facts.st_ino, facts.st_size, *times
        if state not in _hashes:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if time.time_ns() - max(times) < _SETTLED_NS:
                return digest
            _hashes[state] = digest
    return _hashes[state]


def hash_all(files: Iterable[Path]) -> list[str]:
    """Hash files as `sha256_of` does, several at a time."""
    return in_threads(sha256_of, files)


def in_threads(function: Callable[[Path], Any], files: Iterable[Path]) -> list[Any]:
    """Return function(file) of each, several at a time; hashing holds no lock."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, files))


def shown(path: Path | str) -> str:
    """Return a path relative to the repository, so that no machine shows in a page.

    An address, such as s3://bucket/run, stays as it is.
    """
    if "://" in str(path):
        return str(path)
    path = Path(path)
    if path.is_absolute() and path.is_relative_to(paths.ROOT):
        path = path.relative_to(paths.ROOT)
    return path.as_posix()


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all in it, following no link."""
    with contextlib.suppress(FileNotFoundError):  # another process may sweep it too
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def write_atomically(path: Path | str, write: Callable[[Path], object]) -> None:
    """Write a file beside its place, then move it there in one step.

    A reader sees the old file or the new one, never a part, even after kill -9.
    `write` is called once, with a temporary path that has the same suffix and that no
    other thread, process or machine takes.

    Raises:
        StorageError: the disk is full, or the folder may not be written to.
    """
    path = Path(path)
    if path.name in ("", ".."):
        raise StorageError(f"{shown(path)} is a folder; expected a file; name one.")
    if path.exists() and not path.is_file() and not path.is_dir():
        raise StorageError(
            f"{shown(path)} is a device or a pipe, which would be replaced; expected a "
            "file; name one."
        )
    end = os.fsdecode(os.fsencode(path.name)[-200:])  # a name has 255 bytes at most
    part = path.with_name(f"{LEFTOVER}{secrets.token_hex(8)}-{end}")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            write(part)
            to_disk(part)
            os.replace(part, path)
            to_disk(path.parent)  # the name
        finally:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                part.unlink()


@contextlib.contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Say in one line that the disk takes no more, whichever library met it.

    Raises:
        StorageError: instead of the library's error; all others come through.
    """
    try:
        yield
    except Exception as error:
        if why := _refusal(error):
            raise StorageError(
                f"{shown(path)} cannot be written ({why}); expected room on the disk "
                "and a folder that may be written to; mend that and run again, what "
                "is finished is kept."
            ) from None
        raise


def _refusal(error: BaseException | None) -> str | None:
    """Return what the disk said, which a library may have wrapped, or None."""
    while error:
        told = re.search(r"os error (\d+)", str(error))  # how Rust's libraries say it
        number = int(told[1]) if told else getattr(error, "errno", None) or 0
        if number in _REFUSALS:
            return os.strerror(number)
        error = error.__cause__ or error.__context__
    return None


def to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, lie on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_readable(path: Path) -> None:
    """Give a file the mode of a new one; safetensors' are for their owner alone."""
    mask = os.umask(0)  # it can only be read by setting it
    os.umask(mask)
    wanted = path.stat().st_mode & 0o777 | 0o666 & ~mask
    if wanted != path.stat().st_mode & 0o777:
        path.chmod(wanted)


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text whole or not at all."""
    write_atomically(path, lambda part: part.write_bytes(text.encode("utf-8")))


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        ManifestError: it is missing, or no JSON.
    """
    try:
        return json.loads(regular(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
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
