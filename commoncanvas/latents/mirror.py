"""The files of a stage's folder as local paths, fetched first if they lie elsewhere.

Each is compared with the folder's manifest, so that files of two runs never meet.
"""

import os
import sys
from collections.abc import Mapping
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
from tqdm import tqdm

from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError
from commoncanvas.core.files import shown, write_atomically
from commoncanvas.core.keys import key_of
from commoncanvas.core.manifest import NAME, compare, read_manifest

Listing = Mapping[str, Mapping[str, Any]]  # {name: sha256 and bytes}


def read_listing(folder: Path | str, cache: Path | None = None) -> Listing | None:
    """Return what a folder's manifest lists, or None where it has no manifest.

    Raises:
        ManifestError: the manifest, or the address, cannot be read.
    """
    found = _found(folder, NAME, cache)
    return read_manifest(found[0].parent, verify=False)["files"] if found else None


def local_files(
    folder: Path | str,
    pattern: str,
    cache: Path | None = None,
    listing: Listing | None = None,
) -> list[Path]:
    """Return the files of a name or pattern, one or more, sorted by name, each whole.

    Args:
        folder: a local folder, read in place; or an address that fsspec opens, such as
            s3://bucket/run/x. One of file:// is fetched too, for slow network drives.
        pattern: a name, or one with `*`.
        cache: where fetched files lie; None for `.checkpoints/mirrors`. A file that
            changed at its address is fetched anew, to another place.
        listing: from `read_listing`; the files must be those, by size and hash. Of
            several processes of a training on one machine, the first hashes for all:
            without it, none takes a step.

    Raises:
        ManifestError: the address cannot be listed, or has no driver; there is no such
            file, it was cut short on its way, or it is not the one listed.
    """
    found = _found(folder, pattern, cache)
    wanted = {n: file for n, file in (listing or {}).items() if fnmatch(n, pattern)}
    if not found and not wanted:
        raise ManifestError(
            f"{shown(folder)} has no {pattern}; expected what a finished stage writes; "
            "correct the address, or run the stage."
        )
    if listing is None or os.environ.get("LOCAL_RANK", "0") != "0":
        return found
    try:
        compare(folder, wanted, {file.name: file for file in found})
    except ManifestError:
        if "://" not in str(folder):
            raise
        for file in found:  # what lies in the cache may have been changed there
            file.unlink()
        found = _found(folder, pattern, cache)
        compare(folder, wanted, {file.name: file for file in found})
    return found


def _found(folder: Path | str, pattern: str, cache: Path | None) -> list[Path]:
    if "://" in str(folder):
        place = cache or paths.CHECKPOINTS / "mirrors"
        return _fetched(str(folder).rstrip("/"), pattern, place)
    return sorted(Path(folder).glob(pattern))


def _fetched(address: str, pattern: str, cache: Path) -> list[Path]:
    """Fetch the files that the cache lacks; a place belongs to one state of a file."""
    try:
        system, folder = fsspec.core.url_to_fs(address)
        system.invalidate_cache()  # a cached listing hides what changed since
        entries = system.ls(folder, detail=True)
    except Exception as error:  # every driver has errors of its own, not only OSError
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise ManifestError(
            f"{address} cannot be listed ({why}); expected a folder with files, and an "
            "installed driver, as s3fs for s3://; correct the address or install it."
        ) from error
    wanted = {}
    for entry in entries:
        name = entry["name"].rpartition("/")[2]
        if entry["type"] == "file" and fnmatch(name, pattern):
            # An entry holds the size and date of a file, or whatever its driver knows.
            wanted[cache / key_of(address=address, entry=str(entry)) / name] = entry
    lacking = [place for place in wanted if not place.exists()]
    shows = {"unit": "file", "file": sys.stderr, "disable": not lacking}
    for place in tqdm(lacking, f"fetch {pattern}", **shows):
        write_atomically(place, partial(_fetch, system, wanted[place]))
    return sorted(wanted, key=lambda place: place.name)


def _fetch(system: Any, entry: dict[str, Any], part: Path) -> None:
    system.get_file(entry["name"], str(part))
    size, expected = part.stat().st_size, entry.get("size")
    if expected is not None and size != expected:
        raise ManifestError(
            f"{entry['name']} came with {size} bytes; expected {expected}; it changed "
            "or was cut short: run again."
        )
