"""The pictures that stage 01 stored: numbered Parquet files of JPEGs and PNGs.

`pictures/00000.parquet` and those after it have the columns key, split and picture, the
bytes of a file; the catalogue's column `file` holds the number of each work's, -1 where
it was rejected. Later stages work file by file, so that memory holds one of them, and a
work that is taken down changes its own file alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from commoncanvas.core.errors import ManifestError
from commoncanvas.core.files import writing
from commoncanvas.core.images import stored_pixels
from commoncanvas.core.keys import key_of

FOLDER = "pictures"
SCHEMA = pa.schema(
    [("key", pa.string()), ("split", pa.string()), ("picture", pa.binary())]
)


def picture_file(licenses_folder: Path, number: int) -> Path:
    """Return the path of a numbered file of stage 01's data folder."""
    return licenses_folder / FOLDER / f"{number:05d}.parquet"


def captions_file(captions_folder: Path, pictures: Path) -> Path:
    """Return the path of stage 02's captions of the works of a file of pictures."""
    return captions_folder / "captions" / pictures.name


def write_pictures(
    licenses_folder: Path, number: int, rows: Sequence[tuple[str, str, bytes]]
) -> None:
    """Write a numbered file of rows of (key, split, picture)."""
    columns = zip(*rows, strict=True) if rows else ([], [], [])
    file = picture_file(licenses_folder, number)
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(list(map(list, columns)), schema=SCHEMA), file)


def files_by_hash(
    licenses_folder: Path, licenses: Mapping[str, Any]
) -> dict[str, Path]:
    """Return {hash of a file's contents: file} of all, in the order of their numbers.

    The hashes are those of stage 01's manifest, `licenses`.
    """
    files = licenses["files"]
    return {
        files[f"{FOLDER}/{file.name}"]["sha256"][:32]: file
        for file in picture_files(licenses_folder)
    }


def hash_of(licenses: Mapping[str, Any]) -> str:
    """Return a hash of all stored pictures, from the manifest of stage 01."""
    files = {
        n: f["sha256"] for n, f in licenses["files"].items() if n.startswith(FOLDER)
    }
    return key_of(pictures=files)


def picture_files(licenses_folder: Path) -> list[Path]:
    """Return all files in the order of their numbers."""
    return sorted((licenses_folder / FOLDER).glob("*.parquet"))


def count_pictures(licenses_folder: Path) -> int:
    """Count the stored pictures, from the files' ends alone."""
    files = picture_files(licenses_folder)
    return sum(pq.read_metadata(file).num_rows for file in files)


def read_keys(file: Path) -> list[str]:
    """Return the keys of a file's works."""
    return [key for key, _ in read_splits(file)]


def read_splits(file: Path) -> list[tuple[str, str]]:
    """Return (key, split) of a file's works."""
    table = pq.ParquetFile(file).read(["key", "split"])
    return list(zip(*(column.to_pylist() for column in table), strict=True))


def read_pictures(
    file: Path, splits: Iterable[str] | None = None
) -> list[tuple[str, bytes]]:
    """Return (key, picture) of a file's works, or of those in some splits."""
    table = pq.ParquetFile(file).read()
    rows = zip(*(table[name].to_pylist() for name in SCHEMA.names), strict=True)
    return [(key, data) for key, split, data in rows if not splits or split in splits]


def stored_bytes(licenses_folder: Path, keys: Iterable[str]) -> list[bytes]:
    """Return the stored files of catalogue keys, in their order.

    Each file of pictures that holds one of them is read once.

    Raises:
        ManifestError: a key has no stored picture.
    """
    keys = list(keys)
    number_of = pd.read_parquet(
        licenses_folder / "catalog.parquet",
        columns=["key", "file"],
        filters=[("key", "in", sorted(set(keys))), ("file", ">=", 0)],
    )
    found: dict[str, bytes] = {}
    for number, group in number_of.groupby("file"):
        wanted = [("key", "in", list(group["key"]))]
        file = picture_file(licenses_folder, int(str(number)))
        table = pq.read_table(file, columns=["key", "picture"], filters=wanted)
        found |= dict(zip(*(column.to_pylist() for column in table), strict=True))
    if lost := [key for key in keys if key not in found]:
        raise ManifestError(
            f"{len(lost)} of {len(keys)} works, e.g. {lost[0]!r}, have no picture in "
            "01_licenses; expected one each; run 01_licenses and what follows it again."
        )
    return [found[key] for key in keys]


def stored_pictures(
    licenses_folder: Path, keys: Iterable[str], size: int
) -> Iterator[np.ndarray]:
    """Yield (size, size, 3) uint8 pictures of catalogue keys, one at a time."""
    for data in stored_bytes(licenses_folder, keys):
        yield stored_pixels(data, size)


def pictures_of(licenses_folder: Path, keys: Iterable[str], size: int) -> np.ndarray:
    """Return (n, size, size, 3) uint8 pictures of catalogue keys."""
    return np.stack(list(stored_pictures(licenses_folder, keys, size)))
