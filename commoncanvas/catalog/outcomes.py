"""Outcomes of a download, printed: how many rows became what."""

from pathlib import Path
from typing import Any

from commoncanvas.catalog.downloads import fetch_pictures, read_rows, verify


def report(
    catalog: Path, folder: Path, limit: int | None, is_verified: bool, **settings: Any
) -> int:
    """Fetch the pictures of a catalogue, print what became of its rows, count failures.

    Args:
        limit: rows to look at; None for all.
        is_verified: whether to hash the pictures in the folder first.
        settings: of `fetch_pictures`.
    """
    if is_verified:
        print(f"{len(verify(folder))} pictures had vanished or changed")
    counts = fetch_pictures(read_rows(catalog, limit), folder, **settings)
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    return counts["failed"]
