"""Aspect-ratio buckets: the shapes that pictures train in, and which goes where.

A bucket is [width, height] in pixels. Stage 03 crops every picture to the bucket whose
shape is nearest, and training draws every batch from one. Source: sdxl, §2.3.
"""

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction

import numpy as np
from PIL import Image

from commoncanvas.core.errors import ParameterError
from commoncanvas.core.images import stored_pixels

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


def bucket_of(png: bytes, buckets: Buckets) -> int:
    """Return the number of the bucket that a stored picture goes to."""
    return nearest_bucket(*Image.open(io.BytesIO(png)).size, buckets)


def nearest_bucket(width: int, height: int, buckets: Buckets) -> int:
    """Return the number of the bucket whose aspect ratio is nearest, by its logarithm.

    Of ties, the first listed wins; `buckets` has at least one.
    """
    # Ratios of whole numbers, since floating point would break some ties.
    ratios = [Fraction(width * high, height * wide) for wide, high in buckets]
    gaps = [max(ratio, 1 / ratio) for ratio in ratios]
    return gaps.index(min(gaps))


def crops(
    pngs: Sequence[bytes], buckets: Buckets, batch_size: int
) -> Iterator[tuple[int, list[int], np.ndarray]]:
    """Cut stored pictures to their buckets, at most a batch of one bucket at a time.

    Yields:
        (number of the bucket, places of the pictures, their (batch, h, w, 3) uint8
        pixels); every picture comes once.
    """
    numbers = [bucket_of(png, buckets) for png in pngs]
    for number, bucket in enumerate(buckets):
        inside = [place for place, found in enumerate(numbers) if found == number]
        for start in range(0, len(inside), batch_size):
            places = inside[start : start + batch_size]
            pixels = np.stack([stored_pixels(pngs[p], *bucket) for p in places])
            yield number, places, pixels


def bucket_shape(channels: int, bucket: Sequence[int]) -> tuple[int, int, int]:
    """Return (channels, h/8, w/8) of a bucket's latents."""
    width, height = bucket
    return channels, height // PIXELS_PER_LATENT, width // PIXELS_PER_LATENT
