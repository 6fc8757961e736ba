"""CommonCatalog in small: its six sets, 35 columns and folders, of real photographs.

Sets `cc-by` and `cc-by-sa` hold crops under the photographs' own licences. Debian has
no photograph under NC or ND: what those four sets state is made up, and their authors'
names say so. The special rows, which stage 01 has to judge one by one, are crops of a
photograph under CC0. All of it stays on this machine.
"""

import datetime as dt
import hashlib
import io
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.rehearsal.photographs import NUM_CROPS, Photograph

MADE_UP = "(licence made up)"
# Flickr's names, and the addresses of its licences.
SETS = {
    "cc-by": "Attribution License",
    "cc-by-sa": "Attribution-ShareAlike License",
    "cc-by-nc": "Attribution-NonCommercial License",
    "cc-by-nc-sa": "Attribution-NonCommercial-ShareAlike License",
    "cc-by-nd": "Attribution-NoDerivs License",
    "cc-by-nc-nd": "Attribution-NonCommercial-NoDerivs License",
}
URL = "http://creativecommons.org/licenses/{}/{}/"
# The crops of a photograph under CC BY: 15 in its own set, 8 whose licence is made up,
# the last two for COCO. Those under CC BY-SA: 20 and 5.
MADE_UP_SETS = ["cc-by-nc"] * 3 + ["cc-by-nc-sa"] * 2 + ["cc-by-nd"] * 2
MADE_UP_SETS += ["cc-by-nc-nd"]
PLACES = {"by": [*["cc-by"] * 15, *MADE_UP_SETS], "by-sa": ["cc-by-sa"] * 20}
SHAPES = {"1-1": 1, "5-3": 5 / 3, "7-4": 7 / 4, "13-18": 13 / 18, "18-13": 18 / 13}

TEXT = """blip2_caption caption licensename licenseurl uid unickname capturedevice title
usertags machinetags pageurl downloadurl secret secretoriginal ext url key status
error_message exif sha256 description""".split()
WHOLE = """width height original_width original_height photoid dateuploaded accuracy
serverid farmid""".split()
TYPES = {
    "jpg": pa.binary(), **dict.fromkeys(TEXT, pa.string()),
    **dict.fromkeys(WHOLE, pa.int64()), "longitude": pa.float64(),
    "latitude": pa.float64(), "datetaken": pa.timestamp("us"),
}  # fmt: skip
assert len(TYPES) == 35
# The Hub's newer files keep a picture as a struct. Both are read; here a set has one.
STRUCT = TYPES | {"jpg": pa.struct([("bytes", pa.binary()), ("path", pa.string())])}
Row = dict[str, Any]
Crop = tuple[Photograph, int]


def encode(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    """Return a picture's file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 88} if kind == "JPEG" else {}), **options)
    return buffer.getvalue()


def crops(photographs: Sequence[Photograph], every: int) -> dict[str, list[Crop]]:
    """Return every so many of the crops of each set, of "coco" and of "special"."""
    found = defaultdict(list)
    for photograph in photographs:
        slug = photograph.license.slug
        for place in range(NUM_CROPS):
            sets = PLACES.get(slug, [])
            name = sets[place] if place < len(sets) else "coco"
            found["special" if slug == "cc0" else name].append((photograph, place))
    kept = {name: found[name][::every] for name in (*SETS, "coco")}
    return kept | {"special": found["special"]}


def cut(number: int, name: str, crop: Crop, rng: np.random.Generator) -> Row:
    """Return the row of a crop, of some size, in a set."""
    photograph, place = crop
    image = photograph.crop(place, int(rng.choice([256, 288, 320, 384, 448, 500])))
    title = f"{photograph.title} {place}" if place else photograph.title
    # About a third have a description, as in YFCC100M.
    return row_of(number, name, photograph, image, title, rng.random() < 0.32)


def row_of(
    number: int,
    name: str,
    photograph: Photograph,
    image: Image.Image,
    title: str,
    is_described: bool,
) -> Row:
    """Return the row of one picture of a set, its photoid by its number."""
    is_own = name == f"cc-{photograph.license.slug}"
    author = photograph.author + ("" if is_own else f" {MADE_UP}")
    # Flickr's plain names mean version 2.0, so later ones are named in full.
    license_name = photograph.license.title if is_own else SETS[name]
    version = photograph.license.version if is_own else "2.0"
    photoid, secret = 3_000_000_000 + number, f"{number:010x}"
    uid = f"{int(hashlib.sha256(author.encode()).hexdigest()[:7], 16)}@N01"
    url = f"http://farm1.staticflickr.com/1000/{photoid}_{secret}.jpg"
    told = f'Look: {photograph.caption}, <a href="http://example.org/?a=1&b=2">here</a>'
    data = encode(image)
    return {
        "jpg": data, "blip2_caption": f"a photo of {photograph.caption}",
        "caption": "", "description": quote_plus(told) if is_described else "",
        "licensename": license_name,
        "licenseurl": URL.format(name.removeprefix("cc-"), version),
        "width": image.width, "height": image.height,
        "original_width": 3 * image.width, "original_height": 3 * image.height,
        "photoid": photoid, "uid": uid, "unickname": quote_plus(author),
        "datetaken": dt.datetime(2010, 5, 1) + dt.timedelta(hours=number),
        "dateuploaded": 1_272_715_200 + 3600 * number,
        "capturedevice": quote_plus("Canon EOS 400D"), "title": quote_plus(title),
        "usertags": "nature,black+and+white", "machinetags": "",
        "longitude": -122.5, "latitude": 47.25, "accuracy": 12,
        "pageurl": f"http://www.flickr.com/photos/{uid}/{photoid}/",
        "downloadurl": url, "url": url, "serverid": 1000, "farmid": 1,
        "secret": secret, "secretoriginal": secret[::-1], "ext": "jpg",
        "key": f"{number:09d}", "status": "success", "error_message": None,
        "exif": "{}", "sha256": hashlib.sha256(data).hexdigest(),
    }  # fmt: skip


def _rotated() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


Change = Callable[[Image.Image], bytes]
# Name: what its file is instead, or the columns that differ.
SPECIALS: dict[str, Change | Row] = {
    "truncated": lambda image: encode(image)[:2000],
    "no picture": lambda image: b"<html>404</html>",
    "empty": lambda image: b"",
    "null": {"jpg": None, "sha256": None},
    "CMYK": lambda image: encode(image.convert("CMYK")),
    "turned by EXIF": lambda image: encode(image, exif=_rotated()),
    "grey": lambda image: encode(image.convert("L")),
    "one pixel high": lambda image: encode(image.crop((0, 0, image.width, 1))),
    "81 million pixels": lambda image: encode(Image.new("RGB", (9000, 9000))),
    "animated": lambda image: encode(
        image, "GIF", save_all=True, append_images=[image.rotate(90)]
    ),
    "PNG": lambda image: encode(image, "PNG"),
    "white": lambda image: encode(Image.new("RGB", image.size, "white")),
    "all rights reserved": {"licensename": "All rights reserved", "licenseurl": ""},
    "cc0": {
        "licensename": "Public Domain Dedication (CC0)",
        "licenseurl": "https://creativecommons.org/publicdomain/zero/1.0/",
    },
    "pdm": {
        "licensename": "Public Domain Mark",
        "licenseurl": "https://creativecommons.org/publicdomain/mark/1.0/",
    },
    "no known restrictions": {
        "licensename": "No known copyright restrictions",
        "licenseurl": "http://flickr.com/commons/usage/",
    },
    "name and address differ": {"licenseurl": URL.format("by-nc", "2.0")},
    "no licence": {"licensename": None, "licenseurl": None},
    "no author": {"unickname": ""},
    "no page": {"pageurl": ""},
    "no words": dict.fromkeys(["title", "description", "caption", "usertags"]),
    "failed": {
        "status": "failed_to_download",
        "error_message": "HTTP Error 410: Gone",
        "jpg": None,
    },
    "markup": {"title": '<b>"Bold" & [link](javascript:x)</b> \u2603 100% + 1'},
    "no synthetic caption": {"blip2_caption": None},
}
# The reason that stage 01 gives for each special row that it refuses.
REFUSED = {
    "truncated": "not a readable picture", "no picture": "not a readable picture",
    "empty": "file is empty", "null": "file is empty",
    "81 million pixels": "more than 64 million pixels", "animated": "animated",
    "all rights reserved": "reserved", "no known restrictions": "no known",
    "name and address differ": "", "no licence": "", "no author": "its author",
    "no page": "", "failed": "HTTP Error 410: Gone",
}  # fmt: skip


def special_rows(
    crops: Sequence[Crop], first: int, rng: np.random.Generator
) -> Iterator[Row]:
    """Yield the special rows; the keys of `SPECIALS` are in their column machinetags.

    Args:
        crops: of a photograph under CC0, one a row.
        first: the number of the first row.
    """
    for place, (name, change) in enumerate(SPECIALS.items()):
        row = cut(first + place, "cc-by", crops[place], rng)
        row["machinetags"] = f"special:is={quote_plus(name)}"
        if callable(change):
            data = change(Image.open(io.BytesIO(row["jpg"])))
            change = {"jpg": data, "sha256": hashlib.sha256(data).hexdigest()}
        yield row | change


def copies(rows: Sequence[Row], first: int) -> Iterator[Row]:
    """Yield a copy of the first row, and the second one mirrored."""
    mirrored = Image.open(io.BytesIO(rows[1]["jpg"]))
    mirrored = mirrored.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for place, data in enumerate([rows[0]["jpg"], encode(mirrored)]):
        photoid = 3_000_000_000 + first + place
        yield rows[place] | {
            "jpg": data, "photoid": photoid, "title": f"Copy {place + 1}",
            "sha256": hashlib.sha256(data).hexdigest(),
            "pageurl": f"http://www.flickr.com/photos/copyist/{photoid}/",
        }  # fmt: skip


def write_set(folder: Path, rows: Sequence[Row], is_struct: bool) -> None:
    """Write the rows of one set as its folders hold them: by part, size and shape."""
    by_file = defaultdict(list)
    for number, row in enumerate(rows):
        ratio = row["width"] / row["height"]
        shape = min(SHAPES, key=lambda name: abs(np.log(SHAPES[name] / ratio)))
        by_file[number % 2, shape].append(row)
    for (part, shape), some in by_file.items():
        file = folder / str(part) / "least_dim_range=256-512"
        file = file / f"aspect_ratio_bucket={shape}" / f"part-{part:05d}.zstd.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        if is_struct:
            some = [row | {"jpg": {"bytes": row["jpg"], "path": None}} for row in some]
        schema = pa.schema(STRUCT if is_struct else TYPES)
        table = pa.Table.from_pylist(some, schema)
        pq.write_table(table, file, compression="zstd")


def write(folder: Path, photographs: Sequence[Photograph], every: int) -> int:
    """Write all six sets, every so many of their rows; return the number of rows."""
    rng, number, by_set = np.random.default_rng(17), 0, crops(photographs, every)
    for name in SETS:
        rows = []
        for crop in by_set[name]:
            rows.append(cut(number, name, crop, rng))
            number += 1
        if name == "cc-by":
            rows += special_rows(by_set["special"], number, rng)
            rows += copies(rows, number + len(SPECIALS))
            number += len(SPECIALS) + 2
        write_set(folder / name, rows, is_struct=name == "cc-by-sa")
    return number
