"""Telephoning: captioning pictures with the captioners that the profile names.

There are three: BLIP-2 as in the paper, the open world's small one, and captions
imported from a file. Stage 02 runs each that the profile lists, in shards, here or on a
cluster. Source: commoncanvas-cvpr, §4.2.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from commoncanvas.captions.blip2 import Blip2Captioner
from commoncanvas.captions.imported import ImportedCaptions
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.keys import code_hash, key_of
from commoncanvas.core.settings import call_named
from commoncanvas.core.shards import run_shards
from commoncanvas.models.captioner import OpenCaptioner

Captioner = OpenCaptioner | Blip2Captioner | ImportedCaptions
CAPTIONERS = {
    "open": OpenCaptioner,
    "blip2": Blip2Captioner,
    "imported": ImportedCaptions,
}
PLACES = ("folder", "model", "file")  # arguments that are paths from the repository
RESERVED = ("human", "alt_text")  # caption sources that come with the pictures
LEADING = "synthetic"  # the caption source that stage 02 and the claims are about


def load_captioner(settings: dict[str, Any]) -> Captioner:
    """Return the captioner of one entry of the profile's `captioners`.

    Args:
        settings: {"captioner": "open" | "blip2" | "imported", and its arguments}.

    Raises:
        ParameterError: the captioner or one of its arguments is unknown or missing.
    """
    return _loaded(json.dumps(settings, sort_keys=True))


@functools.cache
def _loaded(text: str) -> Captioner:
    """Load a captioner once a process."""
    options = json.loads(text)
    name = options.pop("captioner", None)
    for place in options.keys() & set(PLACES):
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


def caption_shard(
    settings: dict[str, Any], rows: Sequence[tuple[str, bytes]]
) -> pa.Table:
    """Caption one shard, loading the captioner once a process."""
    return load_captioner(settings).table(rows)


def telephone(
    source: str,
    settings: dict[str, Any],
    items: list[tuple[str, bytes]],
    pictures_hash: str,
    shard_size: int,
    engine: str = "local",
) -> tuple[str, pa.Table]:
    """Caption every picture, each shard of them exactly once.

    Args:
        source: the caption source's name, as a variant's `caption_source` has it.
        items: (key, picture bytes).
        pictures_hash: of the pictures, for the work's key.
        engine: "local" or "ray"; the captions are the same.

    Returns:
        (key, table): the work's key for `keys.finish`, and key and caption_raw in the
        order of `items`; at least one row a picture, null where there is no caption.

    Raises:
        ParameterError: see `load_captioner`; or the name is taken, there is no picture,
            or none is among imported captions.
    """
    if not items:
        raise ParameterError(
            "there is no picture to caption; expected works of stage 01 in the splits "
            "c and nc; see there why works were rejected, or edit `cc_sources`."
        )
    if source in RESERVED:
        raise ParameterError(
            f"a captioner is called {source!r}, as the captions that come with the "
            "pictures; choose another name in `captioners` of the profile."
        )
    captioner = load_captioner(settings)
    key = key_of(
        pictures=pictures_hash,
        works=[key for key, _ in items],
        captioner=settings,
        model=captioner.identity,
        decoding=captioner.decoding,
        size=shard_size,
        code=code_hash("captions.telephoning"),
    )
    function = functools.partial(caption_shard, settings)
    table = run_shards(key, items, shard_size, function, source, engine)
    if isinstance(captioner, ImportedCaptions):
        captioner.need_some(table)
    return key, table
