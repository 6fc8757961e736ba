"""Records: works of the catalogue as rows of the data set that we release.

A record has CommonCatalog's 35 columns, in its conventions (words are form-URL-encoded,
the synthetic caption is called blip2_caption whoever wrote it), and then ours, which
are plain: the whole credit, the split, who wrote each caption, and of what it is a
copy. Source: commoncatalog, its cards.
"""

import hashlib
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote_plus

import pandas as pd
import pyarrow as pa
from PIL import Image

from commoncanvas.catalog.sources.released import OWN
from commoncanvas.core.text import is_page, is_seen, printable

# Edges of the shorter side, and width by height, as its folders have them.
RANGES = [(0, 256), (256, 512), (512, 768), (768, 1024), (1024, 2048), (2048, 4096)]
SHAPES = {"1-1": 1, "5-3": 5 / 3, "7-4": 7 / 4, "13-18": 13 / 18, "18-13": 18 / 13}
_TEXT = """blip2_caption caption licensename licenseurl uid unickname capturedevice
title usertags machinetags pageurl downloadurl secret secretoriginal ext url key status
error_message exif sha256 description""".split()
_WHOLE = """width height original_width original_height photoid dateuploaded accuracy
serverid farmid""".split()
_OURS = """split license_slug license_version license_port license_title license_deed
changes credit pixels_sha256 source_sha256 exact_group near_group""".split()
_CAPTION = ["caption_source", "captioner", "caption"]
TYPES = {
    "jpg": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    **dict.fromkeys(_TEXT, pa.string()),
    **dict.fromkeys(_WHOLE, pa.int64()),
    "longitude": pa.float64(),
    "latitude": pa.float64(),
    "datetaken": pa.timestamp("us"),
    **dict.fromkeys([name for name in OWN.values() if name != "key"], pa.string()),
    **dict.fromkeys(_OURS, pa.string()),
    "is_holdout": pa.bool_(),
    "captions": pa.list_(pa.struct([(name, pa.string()) for name in _CAPTION])),
}
# Columns of the catalogue that a record is made from, beside key.
NEEDED = """source title author author_url pageurl downloadurl license_text license_url
alt_text date_seen split is_holdout license_slug license_version license_port
license_title license_deed sha256 source_sha256 changes exact_group
near_group""".split()
Caption = dict[str, str]  # with `_CAPTION`


def _schema() -> pa.Schema:
    """Return the schema, which tells `datasets` that jpg is a picture."""
    kinds = {pa.string(): "string", pa.int64(): "int64", pa.float64(): "float64"}
    kinds |= {pa.bool_(): "bool", pa.timestamp("us"): "timestamp[us]"}
    features: dict[str, Any] = {
        name: {"dtype": kinds[kind], "_type": "Value"}
        for name, kind in TYPES.items()
        if kind in kinds
    }
    text = {"dtype": "string", "_type": "Value"}
    features |= {"jpg": {"_type": "Image"}, "captions": [dict.fromkeys(_CAPTION, text)]}
    ordered = {name: features[name] for name in TYPES}
    told = json.dumps({"info": {"features": ordered}})
    return pa.schema(TYPES, metadata={"huggingface": told})


SCHEMA = _schema()


def set_name(slug: str) -> str:
    """Return the folder of a licence, e.g. cc-by-sa, cc0 or pdm."""
    return f"cc-{slug}" if slug.startswith("by") else slug


def place_of(slug: str, width: int, height: int, shard: int) -> str:
    """Return CommonCatalog's folder of a picture of some licence and size [pixels]."""
    side = min(width, height)
    low, high = next(
        ((a, str(b)) for a, b in RANGES if side < b), (RANGES[-1][1], "inf")
    )
    ratio = math.log(width / height)
    shape = min(SHAPES, key=lambda name: abs(math.log(SHAPES[name]) - ratio))
    size = f"least_dim_range={low}-{high}/aspect_ratio_bucket={shape}"
    return f"{set_name(slug)}/{shard % 10}/{size}"


def credit_line(work: Mapping[str, Any]) -> str:
    """Return title, author, licence, page and changes of a work as one line.

    Source: CC BY 4.0, section 3(a)(1); CC BY 2.0, section 4(b).

    Args:
        work: with title, author, license_title, license_deed, pageurl and changes.
    """
    told = {name: printable(text) for name, text in work.items() if name in NEEDED}
    title = f"“{told['title']}”" if is_seen(told["title"]) else "An untitled work"
    author = f" by {told['author']}" if is_seen(told["author"]) else ""
    page = f", {told['pageurl']}" if is_page(told["pageurl"]) else ""
    license_ = f"{told['license_title']} ({told['license_deed']})"
    return f"{title}{author}{page}, {license_}. {told['changes']}".strip()


def make_records(
    works: pd.DataFrame,
    pictures: Sequence[bytes],
    captions: Mapping[str, list[Caption]],
    leading: str,
) -> pd.DataFrame:
    """Return the records of works, in their order, with the columns of `SCHEMA`.

    Args:
        works: (n,) rows of key and `NEEDED`.
        pictures: (n,) their stored files.
        captions: {key: all captions of a work}.
        leading: the caption source that becomes blip2_caption.
    """
    frame = works.fillna({name: "" for name in NEEDED if name != "is_holdout"})
    sizes = [Image.open(io.BytesIO(data)).size for data in pictures]
    told = [captions.get(key, []) for key in frame["key"]]
    firsts = [next((c for c in all_ if c["caption_source"] == leading), None)
              for all_ in told]  # fmt: skip
    days = pd.to_datetime(frame["date_seen"], format="%Y-%m-%d", errors="coerce")
    seconds = (days - pd.Timestamp(0)) // pd.Timedelta("1s")
    people = frame["author_url"].str.extract(r"flickr\.com/people/([^/]+)")[0]
    made = {
        "jpg": [{"bytes": data, "path": None} for data in pictures],
        "blip2_caption": [first["caption"] if first else None for first in firsts],
        "captioner": [first["captioner"] if first else "" for first in firsts],
        "captions": told,
        "caption": "",  # CommonCatalog's is the author's; ours is in captions
        "licensename": frame["license_text"],
        "licenseurl": frame["license_url"],
        "width": [width for width, _ in sizes],
        "height": [height for _, height in sizes],
        "photoid": frame["key"].map(_number_of),
        "uid": people.fillna(""),
        "unickname": frame["author"].map(quote_plus),
        "dateuploaded": seconds.astype("Int64"),
        "title": frame["title"].map(quote_plus),
        "description": frame["alt_text"].map(quote_plus),
        "ext": ["png" if data[:4] == b"\x89PNG" else "jpg" for data in pictures],
        "url": frame["downloadurl"],
        "status": "success",
        "exif": "{}",
        "sha256": [hashlib.sha256(data).hexdigest() for data in pictures],
        "pixels_sha256": frame["sha256"],
        "work_title": frame["title"],
        "credit": list(map(credit_line, frame.to_dict("records"))),
    }
    # What our catalogue does not hold stays empty, as CommonCatalog leaves it.
    empty = {
        name: "" if kind == pa.string() and name != "error_message" else None
        for name, kind in TYPES.items()
        if name not in made and name not in frame
    }
    return frame.assign(**empty, **made)[list(TYPES)]


def _number_of(key: str) -> int:
    """Return the photo id of a Flickr key, else a number that stands for the key."""
    if found := re.fullmatch(r"(commoncatalog|yfcc100m)\S*/(\d{1,15})", key):
        return int(found[2])
    return int(hashlib.sha256(key.encode()).hexdigest()[:13], 16)  # below 2^53
