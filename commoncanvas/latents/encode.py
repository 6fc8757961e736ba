"""Encodes a file of pictures, or a piece of the texts, into a table of tensors."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from commoncanvas.core.ahead import ahead
from commoncanvas.core.picture_store import read_pictures
from commoncanvas.latents.buckets import Buckets, crop
from commoncanvas.models.efficientnet import image_features
from commoncanvas.models.encoders import (
    BATCH_SIZE,
    encode_images,
    load_text_encoder,
    load_vae,
    text_states,
    usual_dtype,
)
from commoncanvas.models.weights import OPEN_TEXT_ENCODER


@torch.no_grad()
def encode_texts(
    texts: Sequence[str],
    max_length: int,
    folder: Path | str = OPEN_TEXT_ENCODER,
    revision: str | None = None,
    dtype: str | None = None,
) -> torch.Tensor:
    """Return (n, tokens, width) float32 text states of padded captions, on the CPU.

    `texts` has at least one; the rest is as for `load_text_encoder`, with None for
    `usual_dtype()`.
    """
    tokenizer, text_encoder = load_text_encoder(
        folder, max_length, revision, dtype or usual_dtype()
    )
    return text_states(tokenizer, text_encoder, texts).cpu()


def latent_table(
    vae_folder: Path | str,
    size: int,
    rows: Sequence[tuple[str, bytes]],
    revision: str | None = None,
    dtype: str | None = None,
    buckets: Buckets = (),
) -> pa.Table:
    """Encode rows of (key, picture bytes) to a table of raw float16 bytes.

    Each picture is decoded once, by threads, while earlier ones are encoded.

    Args:
        vae_folder, revision, dtype: as for `load_vae`; no dtype is `usual_dtype()`.
        size: edge of the squares that pictures without buckets are cut to [pixels].
        buckets: see `check_buckets`; each picture is cut to the nearest.

    Returns:
        A table of key, mean, logvar (see `encode_images`), features (of the
        square) and, where there are buckets, the number of each row's.
    """
    vae = load_vae(vae_folder, revision, dtype or usual_dtype())
    keys, pictures = [key for key, _ in rows], [data for _, data in rows]
    means, logvars, features = ([b""] * len(keys) for _ in range(3))
    numbers = [0] * len(keys)
    cut = partial(crop, size=size, buckets=buckets)
    for number, places, pixels, squares in _batches(ahead(cut, pictures)):
        # Each (batch, channels, h/8, w/8).
        mean, logvar = encode_images(vae, pixels, [keys[place] for place in places])
        pooled = image_features(squares).astype(np.float32)
        for row, place in enumerate(places):
            means[place] = mean[row].half().numpy().tobytes()
            logvars[place] = logvar[row].half().numpy().tobytes()
            features[place] = pooled[row].tobytes()
            numbers[place] = number
    columns = {"key": keys, "mean": means, "logvar": logvars, "features": features}
    return pa.table(columns | ({"bucket": numbers} if buckets else {}))


Batch = tuple[int, list[int], np.ndarray, list[np.ndarray]]


def _batches(pictures: Iterable[tuple[int, np.ndarray, np.ndarray]]) -> Iterator[Batch]:
    """Gather pictures of one bucket to batches, of which only the last are smaller.

    Yields (bucket, the pictures' places, (batch, h, w, 3) crops, squares); every
    picture comes once.
    """
    held: dict[int, list[tuple[int, np.ndarray, np.ndarray]]] = defaultdict(list)
    for place, (number, pixels, square) in enumerate(pictures):
        held[number].append((place, pixels, square))
        if len(held[number]) == BATCH_SIZE:
            yield _stacked(number, held.pop(number))
    for number, rows in sorted(held.items()):
        yield _stacked(number, rows)


def _stacked(number: int, rows: list[tuple[int, np.ndarray, np.ndarray]]) -> Batch:
    places, crops, squares = map(list, zip(*rows, strict=True))
    return number, places, np.stack(crops), squares


def latent_file(
    vae_folder: Path | str, size: int, file: Path, **options: Any
) -> pa.Table:
    """Encode all pictures of a file of stage 01 as `latent_table` does."""
    return latent_table(vae_folder, size, read_pictures(file), **options)


def text_table(
    max_length: int,
    texts: Sequence[str],
    folder: Path | str = OPEN_TEXT_ENCODER,
    revision: str | None = None,
    dtype: str | None = None,
) -> pa.Table:
    """Encode texts as `encode_texts` does to a table of raw float16 bytes."""
    states = encode_texts(texts, max_length, folder, revision, dtype).half().numpy()
    return pa.table({"text": list(texts), "states": [s.tobytes() for s in states]})


def text_file(max_length: int, piece: tuple[Path, int], **options: Any) -> pa.Table:
    """Encode a piece of texts.parquet, (file, row group), as `text_table` does."""
    file, number = piece
    texts = pq.ParquetFile(file).read_row_group(number, ["text"])["text"].to_pylist()
    return text_table(max_length, texts, **options)
