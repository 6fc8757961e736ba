"""The real pictures that samples are measured against, and their features.

COCO's own pictures are the reference for COCO's captions, held-out works for all else.
At most `num_reference` are taken, drawn at random once, and a network's features of
them are kept, so that every variant is measured against the same rows and only the
first makes them. A distance of prompts that do not belong to the reference says so in
its name: `fid_inception_to_held_out`.
"""

import functools
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError, brief
from commoncanvas.core.files import sha256_of, shown
from commoncanvas.core.keys import code_hash, finish, key_of
from commoncanvas.core.manifest import read_manifest
from commoncanvas.core.picture_store import hash_of, stored_pictures
from commoncanvas.core.pictures import decode_picture, largest_center_square
from commoncanvas.core.shards import run_shards
from commoncanvas.evaluate.extractors import FeatureExtractor
from commoncanvas.evaluate.prompts import coco_files
from commoncanvas.latents.reader import Latents

OF_WORKS = ("names", "telephoned")  # kinds of prompts that held-out works belong to
PICTURES_PER_SHARD = 1024


@dataclass(frozen=True)
class Reference:
    """Real pictures, drawn at random.

    Attributes:
        name: "held_out", "coco" or "gpic".
        keys: of the pictures, works' or file names, in the order of reading.
        identity: hash of what the pictures' bytes are, for the key of their features.
        read: (keys, size) -> (size, size, 3) uint8 pictures, one by one.
        known: features that need no network, by its name.
        pictures: place of COCO's pictures as the profile names it, "" for works.
    """

    name: str
    keys: Sequence[str]
    identity: str
    read: Callable[[Sequence[str], int], Iterator[np.ndarray]]
    known: Mapping[str, np.ndarray]
    pictures: str = ""

    def suffix(self, kind: str, **settings: Any) -> str:
        """Return what the distances of a prompt set have at the end of their names.

        Args:
            kind, settings: of the set, as the profile's `prompt_sets` has them.
        """
        is_own = kind in OF_WORKS
        if self.pictures:
            is_own = self.pictures == settings.get("pictures")
        return "" if is_own else f"_to_{self.name}"

    def features(
        self, extractors: Sequence[FeatureExtractor], size: int
    ) -> dict[str, np.ndarray]:
        """Return {extractor's name: (m, num_features) float64} of the pictures.

        Args:
            size: edge at which pictures are read, that of the samples [pixels].
        """
        return {e.name: self._features(e, size) for e in extractors}

    def _features(self, extractor: FeatureExtractor, size: int) -> np.ndarray:
        if extractor.name in self.known:
            return self.known[extractor.name]
        key = key_of(
            network=[extractor.name, extractor.protocol],
            pictures=[self.identity, list(self.keys), size],
            code=code_hash("evaluate.references"),
        )
        rows = functools.partial(_rows, extractor, self.read, size)
        words = f"reference pictures, {extractor.name}"
        table = run_shards(key, self.keys, PICTURES_PER_SHARD, rows, words)
        finish(key)  # the next variant finds them
        data = b"".join(table["features"].to_pylist())
        found = np.frombuffer(data, np.float32).reshape(len(self.keys), -1)
        return found.astype(np.float64)


def find_reference(
    prompt_sets: Mapping[str, Mapping[str, Any]],
    held: Latents,
    licenses_folder: Path,
    num: int,
    seed: int,
) -> Reference:
    """Return the reference of the leading prompt set: its own pictures if it names any.

    Args:
        prompt_sets: of the profile.
        held: the held-out works, in the catalogue's random order.
        num: pictures at most.
        seed: of the draw among COCO's pictures.

    Raises:
        ParameterError: pictures are missing, or too few to measure against.
    """
    leading = next(iter(prompt_sets.values()))
    if num < 2:
        raise ParameterError(
            f"num_reference is {num}; expected 2 pictures or more; edit the profile."
        )
    if pictures := leading.get("pictures"):
        if leading["kind"] == "gpic":
            return _gpic(pictures, num)
        return _coco(leading["file"], pictures, num, seed)
    places = np.arange(min(num, len(held)))
    return Reference(
        "held_out",
        _by_file(licenses_folder, held.keys[:num]),
        hash_of(read_manifest(licenses_folder, verify=False)),
        functools.partial(stored_pictures, licenses_folder),
        {"efficientnet": held.features(places)},
    )


def _by_file(licenses_folder: Path, keys: Sequence[str]) -> list[str]:
    """Sort keys as their pictures are stored, so that each file is read once."""
    columns = ["key", "file"]
    stored = pd.read_parquet(licenses_folder / "catalog.parquet", columns=columns)
    stored = stored[stored["key"].isin(keys)]
    return stored.sort_values(["file", "key"])["key"].tolist()


def _coco(file: str, pictures: str, num: int, seed: int) -> Reference:
    """Return pictures of a COCO file, which lie in a folder or a zip."""
    place = paths.ROOT / pictures
    found = _members(place)
    names = coco_files(file, seed)
    if lost := [name for name in names if name not in found]:
        raise ParameterError(
            f"{shown(place)} lacks {len(lost)} of the {len(names)} pictures that "
            f"{file} names, as {lost[0]}; expected all of them in a folder or a zip; "
            "fetch it again, or name another in `pictures` of the profile."
        )
    keys = names[:num]
    identity = key_of(files=[found[name] for name in keys])
    read = functools.partial(_read, place)
    return Reference("coco", keys, identity, read, {}, pictures)


def _gpic(statistics: str, num: int) -> Reference:
    """Return GPIC's test pictures as the DINOv2 features that are handed out of them.

    Source: gpic, reference_stats/test_stats.npz; of its arrays `dino_embeddings` is
    read, (m, 1024). Its mean and covariance are what Frechet distances make of them.
    """
    place = paths.ROOT / statistics
    try:
        with np.load(place, allow_pickle=False) as arrays:
            found = np.asarray(arrays["dino_embeddings"], np.float64)
        if found.ndim != 2 or len(found) < 2:
            raise ValueError(f"dino_embeddings of shape {found.shape}")
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ParameterError(
            f"{shown(place)} has no features of GPIC's pictures ({brief(error)}); "
            "expected test_stats.npz with dino_embeddings; fetch it again, or correct "
            "`pictures` in `prompt_sets` of the profile."
        ) from None
    num = min(num, len(found))
    places = np.arange(num) * len(found) // num  # evenly taken
    keys = [str(i) for i in places]

    def read(keys: Sequence[str], size: int) -> Iterator[np.ndarray]:
        raise ParameterError(
            f"GPIC's pictures are known by {shown(place)} alone, which has features of "
            "dinov2; expected no other network; edit `features` in the profile."
        )

    known = {"dinov2": found[places]}
    return Reference("gpic", keys, sha256_of(place), read, known, statistics)


def _members(place: Path) -> dict[str, tuple[str, list[int]]]:
    """Return {file name: (member, its size and, in a zip, its checksum)}."""
    if place.is_dir():
        files = (path for path in place.rglob("*") if path.is_file())
        return {f.name: (str(f.relative_to(place)), [f.stat().st_size]) for f in files}
    try:
        with zipfile.ZipFile(place) as opened:
            members = [one for one in opened.infolist() if not one.is_dir()]
    except (OSError, zipfile.BadZipFile) as error:
        raise ParameterError(
            f"{shown(place)} cannot be read ({error}); expected a folder or a zip of "
            "pictures; correct `pictures` in `prompt_sets` of the profile."
        ) from None
    return {Path(m.filename).name: (m.filename, [m.file_size, m.CRC]) for m in members}


def _read(place: Path, keys: Sequence[str], size: int) -> Iterator[np.ndarray]:
    """Yield the largest centre squares of pictures of a folder or a zip, by name."""
    found = _members(place)
    root = place if place.is_dir() else zipfile.Path(place)
    for key in keys:
        data = root.joinpath(found[key][0]).read_bytes()
        yield largest_center_square(decode_picture(data), size)


def _rows(
    extractor: FeatureExtractor,
    read: Callable[[Sequence[str], int], Iterator[np.ndarray]],
    size: int,
    keys: list[str],
) -> pa.Table:
    """Return the features of some pictures, as bytes of float32."""
    rows = extractor.features(read(keys, size)).astype(np.float32)
    return pa.table({"features": [row.tobytes() for row in rows]})
