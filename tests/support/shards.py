"""Small made-up files in the exact columns of others' data sets."""

import io
import json
import tarfile

import numpy as np
from PIL import Image

BY = "https://creativecommons.org/licenses/by/2.0/"
CC0 = "https://creativecommons.org/publicdomain/zero/1.0/"
PD12M = {
    "id": "u1", "url": "https://pd12m.s3.us-west-2.amazonaws.com/images/u1.jpeg",
    "caption": " A print of a bridge. ", "width": 640, "height": 480,
    "mime_type": "image/jpeg", "hash": "0" * 32, "license": CC0, "source": "rawpixel",
}  # fmt: skip
OPEN_IMAGES = {
    "ImageID": "000a1249af2bc5f0", "Subset": "train",
    "OriginalURL": "https://farm1.staticflickr.com/1/2_3_o.jpg",
    "OriginalLandingURL": "https://www.flickr.com/photos/ann/2", "License": BY,
    "AuthorProfileURL": "https://www.flickr.com/people/ann/", "Author": "Ann",
    "Title": "A bridge", "OriginalSize": "812", "OriginalMD5": "",
    "Thumbnail300KURL": "", "Rotation": "",
}  # fmt: skip


def gpic_words(**changes):
    """Return one json object with GPIC's columns."""
    return {
        "retrieved_at": "2026-01-31T23:59:59+00:00",
        "license": "CC BY 2.0",
        "license_url": BY,
        "attribution": "Ann (https://www.flickr.com/photos/ann/1/), CC BY 2.0",
        "key": "a1",
        "img_width": 8,
        "img_height": 8,
        "split": ["lite", "full"],
        "caption_type": "short",
        "caption": "A teal square.",
    } | changes


def gpic_shard(path, objects, pictures=None):
    """Write a tar of json objects, each before its picture, as GPIC's are."""
    pictures = [b"picture"] * len(objects) if pictures is None else pictures
    with tarfile.open(path, "w") as archive:
        for number, (one, picture) in enumerate(zip(objects, pictures, strict=True)):
            ending = "png" if number % 2 else "jpg"
            members = [("json", json.dumps(one).encode()), (ending, picture)]
            for suffix, data in members:
                member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return str(path)


def photo(seed, size=(12, 8), form="JPEG"):
    """Return the file of a picture of a few coloured blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (2, 3, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(blocks).resize(size, Image.Resampling.NEAREST).save(buffer, form)
    return buffer.getvalue()
