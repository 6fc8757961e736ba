"""Encodes a shard of pictures or of texts into tables of tensors."""

import numpy as np
import pyarrow as pa
import torch

from commoncanvas.core.images import stored_pixels
from commoncanvas.latents.buckets import crops
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
    texts, max_length, folder=OPEN_TEXT_ENCODER, revision=None, dtype=None
):
    """Return (n, tokens, width) float32 text states of padded captions, on the CPU.

    Args:
        texts: captions, at least one.
        max_length, folder, revision: as for `load_text_encoder`.
        dtype: what the encoder computes in; None is `usual_dtype()`.
    """
    parts = load_text_encoder(folder, max_length, revision, dtype or usual_dtype())
    return text_states(*parts, texts).cpu()


def latent_table(vae_folder, size, rows, revision=None, dtype=None, buckets=()):
    """Encode rows of (key, png) to a table of raw float16 bytes, for `run_shards`.

    Args:
        vae_folder, revision, dtype: as for `load_vae`; no dtype is `usual_dtype()`.
        size: edge of the squares that pictures without buckets are cut to [pixels].
        rows: at least one.
        buckets: see `check_buckets`; each picture is cut to the nearest.

    Returns:
        pyarrow.Table with key, mean, logvar (see `encode_images`), features (of the
        square) and, where there are buckets, the number of each row's.
    """
    vae = load_vae(vae_folder, revision, dtype or usual_dtype())
    keys, pngs = zip(*rows, strict=True)
    found = [()] * len(keys)
    for bucket, places, pixels in crops(pngs, buckets or [(size, size)], BATCH_SIZE):
        pair = encode_images(vae, pixels, [keys[place] for place in places])
        halves = (part.half().numpy() for part in pair)
        for place, mean, logvar in zip(places, *halves, strict=True):
            found[place] = mean.tobytes(), logvar.tobytes(), bucket
    mean, logvar, numbers = zip(*found, strict=True)
    squares = np.stack([stored_pixels(png, size) for png in pngs])
    features = [row.tobytes() for row in image_features(squares).astype("float32")]
    columns = {"key": keys, "mean": mean, "logvar": logvar, "features": features}
    return pa.table(columns | ({"bucket": numbers} if buckets else {}))


def text_table(max_length, texts, folder=OPEN_TEXT_ENCODER, revision=None, dtype=None):
    """Encode texts as `encode_texts` does to a table of raw float16 bytes."""
    states = encode_texts(texts, max_length, folder, revision, dtype).half().numpy()
    return pa.table({"text": list(texts), "states": [s.tobytes() for s in states]})
