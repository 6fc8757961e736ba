"""Folders behind an address: every file is fetched once, whole, and read from here.

Memory can only be mapped from local files, so what lies on s3:// or another store of
fsspec is copied first. A folder that changed at its address has another place in the
cache, so old and new files are never read together.
"""

import fnmatch
import sys
from pathlib import Path

import fsspec
from tqdm import tqdm

from commoncanvas import paths
from commoncanvas.checkpoints import key_of, write_atomically
from commoncanvas.errors import ManifestError, ParameterError
from commoncanvas.manifest import shown


class Mirror:
    """The files of one folder as local paths.

    Args:
        folder: a local folder, or an address that fsspec opens, s3://bucket/run/x. One
            of file:// is fetched as well, for folders on a slow network drive.
        cache: where fetched files lie; None for `.checkpoints/mirrors`. A place in it
            belongs to one address and to sizes and dates of all files there.

    Raises:
        ParameterError: fsspec does not know the protocol, or lacks its driver.
        ManifestError: the address cannot be listed.
    """

    def __init__(self, folder, cache=None):
        self._is_remote = "://" in str(folder)
        if not self._is_remote:
            self.folder, self.name = Path(folder), shown(folder)
            return
        self.name = str(folder)
        self._files, entries = _listed(self.name)
        self._entries = {entry["name"].rpartition("/")[2]: entry for entry in entries}
        key = key_of(address=self.name.rstrip("/"), files=sorted(map(str, entries)))
        self.folder = Path(cache or paths.CHECKPOINTS / "mirrors") / key

    def paths(self, pattern):
        """Return the local paths of the files of that name, fetched where they lack.

        Args:
            pattern: a name, or one with `*`.

        Returns:
            One path or more, sorted by name; each is whole.

        Raises:
            ManifestError: there is no such file, or it was cut short on its way.
        """
        if self._is_remote:
            names = fnmatch.filter(self._entries, pattern)
        else:
            names = [path.name for path in self.folder.glob(pattern)]
        if not names:
            raise ManifestError(
                f"{self.name} has no {pattern}; expected what a finished stage writes; "
                "correct the address, or run the stage."
            )
        found = [self.folder / name for name in sorted(names)]
        lacking = [path for path in found if not path.exists()]
        bar = {"unit": "file", "file": sys.stderr, "disable": not lacking}
        for path in tqdm(lacking, desc=f"fetch {pattern}", **bar):
            write_atomically(path, lambda part, name=path.name: self._fetch(name, part))
        return found

    def _fetch(self, name, part):
        entry = self._entries[name]
        self._files.get_file(entry["name"], str(part))
        size, expected = part.stat().st_size, entry.get("size")
        if expected is not None and size != expected:
            raise ManifestError(
                f"{self.name}/{name} came with {size} bytes; expected {expected}; it "
                "changed or was cut short: run again."
            )


def _listed(address):
    """Return the file system of an address, and what it tells of every file there."""
    try:
        files, folder = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise ParameterError(
            f"{address} cannot be opened ({_line(error)}); expected a folder or an "
            "address whose driver is installed, as s3fs for s3://; install it or "
            "correct the address."
        ) from error
    try:
        files.invalidate_cache()  # a listing kept from before hides what changed
        entries = files.ls(folder, detail=True)
    except Exception as error:  # every driver has errors of its own, not only OSError
        raise ManifestError(
            f"{address} cannot be listed ({type(error).__name__}: {_line(error)}); "
            "expected a folder with files; correct the address or the access to it."
        ) from error
    return files, [entry for entry in entries if entry["type"] == "file"]


def _line(error):
    return " ".join(str(error).split())
