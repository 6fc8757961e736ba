"""Telephoning: pictures to words, by whichever captioner the profile names.

Three captioners behind one method, `table(rows of (key, picture)) -> key, caption_raw`:
BLIP-2 as in the paper, the open world's small one, and captions imported from a file.
Stage 02 calls each that the profile lists, in shards, here or on a cluster.
Source: commoncanvas-cvpr, §4.2.
"""

import functools
import inspect
import json

from commoncanvas.captions.blip2 import Blip2Captioner
from commoncanvas.captions.imported import ImportedCaptions
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.keys import code_hash, key_of
from commoncanvas.core.shards import run_shards
from commoncanvas.models.captioner import OpenCaptioner

CAPTIONERS = {
    "open": OpenCaptioner,
    "blip2": Blip2Captioner,
    "imported": ImportedCaptions,
}
PLACES = {"folder", "model", "file"}  # arguments that are paths from the repository
RESERVED = ("human", "alt_text")  # caption sources that come with the pictures
LEADING = "synthetic"  # the caption source that stage 02 studies, and the claims


def load_captioner(settings):
    """Return the captioner of one entry of the profile's `captioners`.

    Args:
        settings: {"captioner": "open" | "blip2" | "imported", and its arguments}.

    Raises:
        ParameterError: the captioner or one of its arguments is unknown or missing.
    """
    return _loaded(json.dumps(settings, sort_keys=True))


@functools.cache
def _loaded(text):
    options = json.loads(text)
    name = options.pop("captioner", None)
    if name not in CAPTIONERS:
        raise ParameterError(
            f"captioner is {name!r}; expected one of {', '.join(CAPTIONERS)}. Edit "
            "`captioners` in the profile."
        )
    known = inspect.signature(CAPTIONERS[name]).parameters
    needed = {key for key, p in known.items() if p.default is inspect.Parameter.empty}
    unknown, missing = options.keys() - known.keys(), needed - options.keys()
    if unknown or missing:
        raise ParameterError(
            f"the captioner {name!r} got unknown {sorted(unknown)} and lacks "
            f"{sorted(missing)}; it takes {', '.join(known)}. Edit `captioners` in the "
            "profile."
        )
    for place in PLACES & options.keys():
        path = paths.ROOT / options[place]
        # What is not here may be a Hub id.
        if place != "model" or path.exists():
            options[place] = str(path)
    return CAPTIONERS[name](**options)


def leading(captioners):
    """Return the name of the captioner that stage 02 studies.

    Args:
        captioners: {caption source: settings} of the profile.

    Raises:
        ParameterError: none has that name.
    """
    if LEADING not in captioners:
        raise ParameterError(
            f"there are the captioners {', '.join(captioners)}; expected one called "
            f"{LEADING!r}, which the claims are about; rename one in `captioners`."
        )
    return LEADING


def caption_shard(settings, rows):
    """Caption one shard, loading the captioner once a process."""
    return load_captioner(settings).table(rows)


def telephone(source, settings, items, pictures_hash, shard_size, engine="local"):
    """Caption every picture in shards that are never done twice.

    Args:
        source: the caption source's name, as a variant's `caption_source` says it.
        settings: see `load_captioner`.
        items: list of (key, picture bytes).
        pictures_hash: of the pictures, for the work's key.
        shard_size: pictures a shard.
        engine: "local" or "ray"; the captions are the same.

    Returns:
        (key, table): the work's key for `checkpoints.finish`, and a pyarrow.Table of
        key and caption_raw in the order of `items`; at least one row a picture, null
        where there is no caption.

    Raises:
        ParameterError: see `load_captioner`; or the name is taken.
    """
    if source in RESERVED:
        raise ParameterError(
            f"a captioner is called {source!r}, which is what comes with the pictures; "
            "choose another name in `captioners` of the profile."
        )
    captioner = load_captioner(settings)
    key = key_of(
        pictures=pictures_hash,
        captioner=settings,
        model=captioner.identity,
        decoding=captioner.decoding,
        size=shard_size,
        code=code_hash("captions.telephoning"),
    )
    function = functools.partial(caption_shard, settings)
    return key, run_shards(key, items, shard_size, function, source, engine)
