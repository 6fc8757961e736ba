"""Encodes a shard of pictures or of texts into tables of tensors."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from commoncanvas.core.images import stored_pixels
from commoncanvas.latents.buckets import Buckets, crops
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
    """Encode rows of (key, png) to a table of raw float16 bytes, for `run_shards`.

    Args:
        vae_folder, revision, dtype: as for `load_vae`; no dtype is `usual_dtype()`.
        size: edge of the squares that pictures without buckets are cut to [pixels].
        rows: at least one.
        buckets: see `check_buckets`; each picture is cut to the nearest.

    Returns:
        A table of key, mean, logvar (see `encode_images`), features (of the
        square) and, where there are buckets, the number of each row's.
    """
    vae = load_vae(vae_folder, revision, dtype or usual_dtype())
    keys, pngs = zip(*rows, strict=True)
    means, logvars, numbers = [b""] * len(keys), [b""] * len(keys), [0] * len(keys)
    for number, places, pixels in crops(pngs, buckets or [(size, size)], BATCH_SIZE):
        # Each (batch, channels, h/8, w/8).
        mean, logvar = encode_images(vae, pixels, [keys[place] for place in places])
        for row, place in enumerate(places):
            means[place] = mean[row].half().numpy().tobytes()
            logvars[place] = logvar[row].half().numpy().tobytes()
            numbers[place] = number
    squares = np.stack([stored_pixels(png, size) for png in pngs])
    features = [row.tobytes() for row in image_features(squares).astype("float32")]
    columns = {"key": keys, "mean": means, "logvar": logvars, "features": features}
    return pa.table(columns | ({"bucket": numbers} if buckets else {}))


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
