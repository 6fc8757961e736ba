"""Telephoning: captioning pictures with the captioners that the profile names.

BLIP-2 as in the paper, the open world's small one and one by retrieval, any other of
transformers, one behind an OpenAI-compatible endpoint, and captions from a file. Stage
02 runs each that the profile lists, file by file, here or on a cluster.
Source: commoncanvas-cvpr, §4.2.
"""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from commoncanvas.captions.blip2 import Blip2Captioner
from commoncanvas.captions.endpoint import EndpointCaptioner
from commoncanvas.captions.image_text import ImageTextCaptioner
from commoncanvas.captions.imported import ImportedCaptions
from commoncanvas.captions.text import tidy
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError, brief
from commoncanvas.core.keys import code_hash, key_of
from commoncanvas.core.picture_store import read_pictures, read_splits
from commoncanvas.core.places import is_address
from commoncanvas.core.settings import call_named
from commoncanvas.core.shards import named_files, run_shards
from commoncanvas.core.works import LICENSED
from commoncanvas.models.captioner import OpenCaptioner
from commoncanvas.models.retrieval import RetrievalCaptioner

Captioner = (
    OpenCaptioner
    | RetrievalCaptioner
    | ImageTextCaptioner
    | EndpointCaptioner
    | ImportedCaptions
)
CAPTIONERS = {
    "open": OpenCaptioner,
    "retrieval": RetrievalCaptioner,
    "blip2": Blip2Captioner,
    "transformers": ImageTextCaptioner,
    "endpoint": EndpointCaptioner,
    "imported": ImportedCaptions,
}
PLACES = ("folder", "model", "file")  # arguments that are paths from the repository
RESERVED = ("human", "alt_text")  # caption sources that come with the pictures
SCHEMA = pa.schema([("key", pa.string()), ("caption_raw", pa.string())])
FILES_AT_ONCE = 256  # of pictures, for which imported captions are read through
SAMPLE_SHARD = 256  # pictures of a sample that are captioned between two saves
LEADING = "synthetic"  # the caption source that stage 02 and the claims are about


def load_captioner(settings: dict[str, Any]) -> Captioner:
    """Return the captioner of one entry of the profile's `captioners`.

    Args:
        settings: {"captioner": a name of `CAPTIONERS`, and its arguments}.

    Raises:
        ParameterError: the captioner or one of its arguments is unknown or missing.
    """
    try:
        text = json.dumps(settings, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ParameterError(
            f"a captioner has a setting that JSON cannot hold ({brief(error)}); "
            "expected text, finite numbers, true, false, lists, and names with values; "
            "edit `captioners` in the profile."
        ) from None
    return _loaded(text)


@functools.cache
def _loaded(text: str) -> Captioner:
    """Load a captioner once a process."""
    options = json.loads(text)
    name = options.pop("captioner", None)
    places = () if name == "endpoint" else PLACES  # there, the server knows the names
    for place in options.keys() & set(places):
        if not isinstance(options[place], str) or is_address(options[place]):
            continue
        path = paths.ROOT / options[place]
        # What is not here may be a Hub id.
        if place != "model" or path.exists():
            options[place] = str(path)
    return call_named(CAPTIONERS, "captioners", name, options)


def leading(captioners: Mapping[str, Any]) -> str:
    """Return the name of the captioner that stage 02 studies.

    Raises:
        ParameterError: none has that name.
    """
    if LEADING not in captioners:
        raise ParameterError(
            f"there are the captioners {', '.join(captioners)}; expected one called "
            f"{LEADING!r}, which the claims are about; rename one in `captioners`."
        )
    return LEADING


def caption_rows(
    settings: dict[str, Any], rows: Sequence[tuple[str, bytes]]
) -> pa.Table:
    """Caption rows of (key, picture bytes), loading the captioner once a process."""
    return load_captioner(settings).table(rows) if rows else SCHEMA.empty_table()


def caption_file(settings: dict[str, Any], file: Path) -> pa.Table:
    """Caption the licensed pictures of a file of stage 01, as `caption_rows`."""
    return caption_rows(settings, read_pictures(file, LICENSED))


class _Lookup:
    """Finds imported captions of many files of pictures at one reading of theirs."""

    def __init__(self, captioner: ImportedCaptions, files: list[Path]) -> None:
        self.captioner = captioner
        self.place = {file: place for place, file in enumerate(files)}
        self.found: dict[Path, pa.Table] = {}

    def __call__(self, file: Path) -> pa.Table:
        if file not in self.found:
            first = self.place[file]
            group = list(self.place)[first : first + FILES_AT_ONCE]
            owner = {
                key: number
                for number, one in enumerate(group)
                for key, split in read_splits(one)
                if split in LICENSED
            }
            table = self.captioner.table([(key, None) for key in owner]).cast(SCHEMA)
            numbers = np.array([owner[key] for key in table["key"].to_pylist()])
            ends = np.searchsorted(numbers, np.arange(len(group) + 1))
            self.found = {
                one: table.slice(start, end - start)
                for one, start, end in zip(group, ends[:-1], ends[1:], strict=True)
            }
        return self.found[file]


def telephone(
    source: str,
    settings: dict[str, Any],
    pictures: Mapping[str, Path],
    world: str,
    engine: str = "local",
) -> tuple[str, list[Path]]:
    """Caption every licensed picture, each file of them exactly once.

    Args:
        source: the caption source's name, as a variant's `caption_source` has it.
        pictures: {hash: file}, from `files_by_hash`. A file whose hash changed, as when
            a work of it is taken down, is captioned again, and no other.
        world: the scale, of whose files the latest are kept.
        engine: "local" or "ray"; the captions are the same.

    Returns:
        (key, files): the work's key for `keys.finish`, and a file for each of pictures,
        as `text.tidy` takes them; at least one row a licensed picture in their order,
        null where there is no caption.

    Raises:
        ParameterError: see `load_captioner`; or the name is taken, there is no picture,
            or none is among imported captions.
    """
    if source in RESERVED:
        raise ParameterError(
            f"a captioner is called {source!r}, as the captions that come with the "
            "pictures; choose another name in `captioners` of the profile."
        )
    captioner = load_captioner(settings)
    key = key_of(world=world, **_facts_of(settings, captioner))
    function: Callable[[Path], pa.Table] = functools.partial(caption_file, settings)
    if isinstance(captioner, ImportedCaptions):  # no model: read here, at once
        function, engine = _Lookup(captioner, list(pictures.values())), "local"
    if isinstance(captioner, EndpointCaptioner):  # its server has the workers
        engine = "local"
    files = named_files(key, pictures, function, source, engine)
    if not any(pq.read_metadata(file).num_rows for file in files):
        raise ParameterError(
            "there is no picture to caption; expected works of stage 01 in the splits "
            "c and nc; see there why works were rejected, or edit `cc_sources`."
        )
    if isinstance(captioner, ImportedCaptions):
        captioner.need_some(map(pq.read_table, files))
    return key, files


def caption_sample(
    settings: dict[str, Any], rows: Sequence[tuple[str, bytes]], engine: str = "local"
) -> tuple[str, pd.Series]:
    """Caption a few pictures, as `telephone`, of which no captions are kept.

    Args:
        rows: of (key, picture bytes), at least one; memory holds them all.

    Returns:
        (key, captions): for `keys.finish`, and the first caption of each, cleaned, ""
        where there is none.
    """
    captioner = load_captioner(settings)
    key = key_of(
        pictures=[hashlib.sha256(data).hexdigest() for _, data in rows],
        works=[key for key, _ in rows],
        **_facts_of(settings, captioner),
    )
    if isinstance(captioner, EndpointCaptioner):
        engine = "local"
    function = functools.partial(caption_rows, settings)
    table = run_shards(key, rows, SAMPLE_SHARD, function, "sample", engine)
    return key, tidy({"sample": table}).drop_duplicates("key")["caption"]


def _facts_of(settings: dict[str, Any], captioner: Captioner) -> dict[str, Any]:
    """Return what captions depend on, beside the pictures, for their key."""
    without = getattr(captioner, "incidental", ())
    return {
        "captioner": {k: v for k, v in settings.items() if k not in without},
        "model": captioner.identity,
        "decoding": captioner.decoding,
        "code": code_hash("captions.telephoning"),
    }
