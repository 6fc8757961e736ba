"""Small pictures that tests decode, cut and store."""

import io

import numpy as np
from PIL import Image

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), "uint8"))
# A left half of red and a right half of blue, so that every turn shows.
HALVES = Image.new("RGB", (16, 8), "red")
HALVES.paste("blue", (8, 0, 16, 8))


def file_of(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()
