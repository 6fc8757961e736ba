"""Aspect-ratio buckets: the shapes that pictures train in, and which goes where.

A bucket is [width, height] in pixels. Stage 03 crops every picture to the bucket whose
shape is nearest, and training draws every batch from one. Source: sdxl, §2.3.
"""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from commoncanvas.core.errors import ParameterError
from commoncanvas.core.pictures import (
    decode_picture,
    largest_center_crop,
    largest_center_square,
)

PIXELS_PER_LATENT = 8
Buckets = Sequence[Sequence[int]]  # [width, height] each [pixels]


def check_buckets(buckets: Sequence) -> None:
    """Refuse buckets that no VAE could encode.

    Raises:
        ParameterError: one is no pair of positive multiples of 8, or comes twice.
    """
    for place, bucket in enumerate(buckets):
        sides = bucket if isinstance(bucket, list | tuple) else ()
        fits = [type(s) is int and s > 0 and s % PIXELS_PER_LATENT == 0 for s in sides]
        if len(fits) != 2 or not all(fits) or bucket in buckets[:place]:
            raise ParameterError(
                f"latents.buckets has {bucket!r}; expected [width, height] in pixels, "
                f"multiples of {PIXELS_PER_LATENT}, each pair once; edit the profile."
            )


def bucket_of(data: bytes, buckets: Buckets) -> int:
    """Return the number of the bucket that a stored picture goes to."""
    return nearest_bucket(*decode_picture(data).size, buckets)


def nearest_bucket(width: int, height: int, buckets: Buckets) -> int:
    """Return the number of the bucket whose aspect ratio is nearest, by its logarithm.

    Of ties, the first listed wins; `buckets` has at least one.
    """
    # Ratios of whole numbers, since floating point would break some ties.
    ratios = [Fraction(width * high, height * wide) for wide, high in buckets]
    gaps = [max(ratio, 1 / ratio) for ratio in ratios]
    return gaps.index(min(gaps))


def crop(
    data: bytes, size: int, buckets: Buckets
) -> tuple[int, np.ndarray, np.ndarray]:
    """Decode a stored picture and cut it to its bucket, and to a square.

    Returns:
        (number of the bucket, its (h, w, 3) uint8 crop, the (size, size, 3) square).
    """
    picture = decode_picture(data)
    square = largest_center_square(picture, size)
    if not buckets:
        return 0, square, square
    number = nearest_bucket(*picture.size, buckets)
    return number, largest_center_crop(picture, *buckets[number]), square


def bucket_shape(channels: int, bucket: Sequence[int]) -> tuple[int, int, int]:
    """Return (channels, h/8, w/8) of a bucket's latents."""
    width, height = bucket
    return channels, height // PIXELS_PER_LATENT, width // PIXELS_PER_LATENT
